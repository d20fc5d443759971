//! Taking writes: into the log and the active memtable in one turn, or onto the queue of those that
//! wait for room.

use std::cell::RefCell;
use std::rc::Rc;

use lightning_io::Env;

use super::space::MEMTABLES_MAX;
use super::update::{Decided, Update};
use super::{Sealed, Shard, SharedMemtable, count};
use crate::entry::{Entry, EntryFlags};
use crate::memtable::Memtable;
use crate::message::{Durability, Reply};
use crate::wal::{Offer, Ops, Settle};
use crate::{Error, KeyspaceId, Lsn, Result, Timestamp};

/// Writes that may wait for room at a shard; one more is refused as busy. Each is a caller that
/// waits for its answer, so this is far above what group commit can use.
const DEFERRED_MAX: usize = 16 << 10;

/// A write that waits for room.
pub(super) struct Deferred {
    /// None while an update has not decided yet.
    pub(super) ops: Ops,
    pub(super) durability: Durability,
    pub(super) caller: Caller,
}

/// Whose write it is.
pub(super) enum Caller {
    /// One who knew what to write.
    Batch(Reply<Timestamp>),
    /// One who lets the current value decide.
    Update(Box<Update>),
    /// The shard itself, which deletes a piece of a range.
    Deletion(Reply<Timestamp>),
}

impl Deferred {
    /// The write that an update is before it has decided.
    pub(super) fn of_update(update: Box<Update>, durability: Durability) -> Self {
        Self {
            ops: Ops::default(),
            durability,
            caller: Caller::Update(update),
        }
    }

    /// Whether what it writes is not decided yet.
    fn is_open(&self) -> bool {
        matches!(&self.caller, Caller::Update(update) if update.is_open())
    }

    /// Tells the caller why nothing is written.
    fn refuse(self, error: Error) {
        match self.caller {
            // A caller that stopped waiting needs no answer.
            Caller::Batch(reply) | Caller::Deletion(reply) => drop(reply.send(Err(error))),
            Caller::Update(update) => update.answer(Err(error)),
        }
    }
}

/// Who is told when a record is durable.
pub(super) enum Waiter {
    /// A durable write.
    Write {
        /// Its caller.
        reply: Reply<Timestamp>,
        /// Its timestamp.
        timestamp: Timestamp,
    },
    /// An answer that shows what the record holds.
    Held(Box<dyn FnOnce(Result<()>)>),
}

impl Settle for Waiter {
    fn settle(self, outcome: Result<()>) {
        match self {
            // A caller that stopped waiting needs no answer.
            Self::Write { reply, timestamp } => drop(reply.send(outcome.map(|()| timestamp))),
            Self::Held(answer) => answer(outcome),
        }
    }
}

/// Whether a write can be taken now.
enum Taken {
    Now,
    Later(Deferred),
}

impl<E: Env> Shard<E> {
    /// Takes a write, puts it off, or answers why not.
    pub(super) fn write(&self, write: Deferred) {
        let waiting = self.0.deferred.borrow().len();
        if waiting >= DEFERRED_MAX {
            let what = "too many writes wait for room";
            write.refuse(Error::Busy {
                shard: self.id(),
                what,
            });
            return;
        }
        if waiting > 0 {
            // Behind those that came before it.
            self.defer(write);
            return;
        }
        if let Taken::Later(write) = self.try_write(write) {
            self.defer(write);
        }
    }

    /// Takes the writes that waited, as far as there is room now.
    pub(super) fn resume_deferred(&self) {
        loop {
            let Some(write) = self.0.deferred.borrow_mut().pop_front() else {
                return;
            };
            if let Taken::Later(write) = self.try_write(write) {
                self.0.deferred.borrow_mut().push_front(write);
                return;
            }
        }
    }

    fn defer(&self, write: Deferred) {
        count(&self.0.counters.deferred, 1);
        self.0.deferred.borrow_mut().push_back(write);
    }

    fn try_write(&self, write: Deferred) -> Taken {
        match self.admit(&write) {
            Ok(true) => {}
            Ok(false) => return Taken::Later(write),
            Err(error) => {
                write.refuse(error);
                return Taken::Now;
            }
        }
        let was_open = write.is_open();
        let write = match self.decide(write) {
            Decided::Write(write) => write,
            Decided::Later(write) => return Taken::Later(write),
            Decided::Gone => return Taken::Now,
        };
        if was_open {
            // What an update does is known only now.
            match self.check_space(&write.ops) {
                Ok(true) => {}
                Ok(false) => return Taken::Later(write),
                Err(error) => {
                    write.refuse(error);
                    return Taken::Now;
                }
            }
        }
        let timestamp = self.0.clock.tick();
        let relaxed = write.durability == Durability::Relaxed;
        match self.0.wal.offer(&write.ops, timestamp, relaxed) {
            Ok(Offer::Taken(lsn)) => self.finish(write, timestamp, lsn),
            Ok(Offer::Wait) => return Taken::Later(write),
            Err(error) => write.refuse(error),
        }
        Taken::Now
    }

    /// Whether writes are not held back for the merges and the active memtable has room, sealing it
    /// if it is full and can be.
    fn admit(&self, write: &Deferred) -> Result<bool> {
        self.check_writable()?;
        self.check_targets(write)?;
        // An update has decided nothing yet, and is looked at again when it has.
        if !self.check_space(&write.ops)? {
            return Ok(false);
        }
        debug_assert!(
            write.is_open() || !write.ops.is_empty(),
            "the client drops empty batches"
        );
        if self.0.throttle.is_pausing() {
            return Ok(false);
        }
        if !self.is_full() {
            return Ok(true);
        }
        if self.0.sealed.borrow().is_none() {
            self.seal();
            return Ok(true);
        }
        match &*self.0.flush_error.borrow() {
            Some(error) if error.is_no_space() && self.has_room_for_deletions() => {
                debug_assert!(
                    write.ops.only_delete(),
                    "puts wait or are refused in a shortage"
                );
                Ok(true)
            }
            Some(error) => Err(error.clone()),
            None => Ok(false),
        }
    }

    /// Whether a write concerns nothing that was dropped, now that it could be taken.
    fn check_targets(&self, write: &Deferred) -> Result<()> {
        if self.0.dropped.borrow().is_empty() {
            return Ok(());
        }
        match &write.caller {
            Caller::Batch(_) => write.ops.ops().try_for_each(|op| {
                let op = op.expect("operations were encoded by this build");
                let keyspace =
                    KeyspaceId::of(op.key).expect("a stored key begins with its keyspace");
                self.check_in_use(keyspace)
            }),
            Caller::Update(update) => self.check_in_use(update.keyspace()),
            Caller::Deletion(_) => Ok(()),
        }
    }

    /// Whether the memtables have used up their budget.
    ///
    /// While a flush cannot go on, the two of them count together: a recovery may have left more
    /// than its budget in the sealed one, and the log must not grow each time that it does.
    fn is_full(&self) -> bool {
        let active = self.0.active.borrow();
        let active = active.borrow();
        let stuck = self.0.flush_error.borrow().is_some();
        active.is_full()
            || stuck && active.bytes() + self.sealed_bytes() >= 2 * self.0.config.memtable_bytes()
    }

    /// Whether there is memory for deletions that no flush can move.
    fn has_room_for_deletions(&self) -> bool {
        let bytes = self.0.active.borrow().borrow().bytes() + self.sealed_bytes();
        bytes < MEMTABLES_MAX * self.0.config.memtable_bytes()
    }

    /// Bytes of the memtable that is being flushed.
    pub(super) fn sealed_bytes(&self) -> usize {
        let sealed = self.0.sealed.borrow();
        sealed
            .as_ref()
            .map_or(0, |sealed| sealed.table.borrow().bytes())
    }

    /// Makes a commit that the log took visible, and answers it or has it answered.
    fn finish(&self, write: Deferred, timestamp: Timestamp, lsn: Lsn) {
        let relaxed = write.durability == Durability::Relaxed;
        let flags = if relaxed {
            EntryFlags::RELAXED
        } else {
            EntryFlags::VALUE
        };
        let (puts, deletes) = apply(&self.0.active.borrow(), &write.ops, timestamp, flags);
        count(&self.0.counters.puts, puts);
        count(&self.0.counters.deletes, deletes);
        self.charge(write.ops.bytes());
        if self.0.space.is_on_reserve() {
            count(&self.0.counters.reserve_deletes, deletes);
        }
        match write.caller {
            // A caller that stopped waiting needs no answer.
            Caller::Batch(reply) if relaxed || planted!("ack_before_write") => {
                drop(reply.send(Ok(timestamp)));
            }
            Caller::Batch(reply) | Caller::Deletion(reply) => {
                let waiter = Waiter::Write { reply, timestamp };
                self.0.wal.when_durable(lsn, waiter);
            }
            Caller::Update(update) => {
                self.finish_update(update, timestamp, lsn, write.durability);
            }
        }
    }

    /// Makes the active memtable the sealed one and starts its flush.
    pub(super) fn seal(&self) {
        let fresh = Rc::new(RefCell::new(Memtable::new(self.0.config.memtable_bytes())));
        let table = self.0.active.replace(Rc::clone(&fresh));
        let (checkpoint, checkpoint_hash) = self.0.wal.checkpoint_candidate();
        self.drop_abandoned_scans();
        // A view that is not bound to a snapshot yet has to see what comes next as well.
        for scan in self.0.scans.borrow_mut().values_mut() {
            scan.note_new_memtable(&fresh);
        }
        let sealed = Sealed {
            table,
            checkpoint,
            checkpoint_hash,
        };
        let before = self.0.sealed.replace(Some(sealed));
        assert!(before.is_none(), "one memtable is flushed at a time");
        self.start_flush();
    }
}

/// Puts the operations of a commit into a memtable; returns how many puts and deletions they were.
pub(super) fn apply(
    table: &SharedMemtable,
    ops: &Ops,
    timestamp: Timestamp,
    flags: EntryFlags,
) -> (usize, usize) {
    let mut table = table.borrow_mut();
    let mut deletes = 0;
    for op in ops.ops() {
        let op = op.expect("operations were encoded by this build");
        let flags = op.flags.with(flags);
        table.insert(Entry {
            key: op.key,
            timestamp,
            flags,
            value: op.value,
        });
        deletes += usize::from(op.flags.contains(EntryFlags::TOMBSTONE));
    }
    (ops.len() - deletes, deletes)
}
