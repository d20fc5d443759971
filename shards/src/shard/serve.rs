//! The loop that takes requests, from callers and peers alike: the shard's only entry point.

use std::rc::Rc;

use lightning_io::{Env, Port, TaskClass, to_u64};

use super::Shard;
use super::update::Update;
use super::write::{Caller, Deferred};
use crate::message::{Reply, Request};
use crate::stats::ShardStats;
use crate::verify::VerifyReport;
use crate::{Error, Result};

/// Requests that are taken in one turn before other tasks of the shard get theirs: at about 100 ns
/// each, some 10 us.
const REQUESTS_PER_TURN: usize = 64;

/// How often the watch that tells of a failure is begun again should it panic itself: each attempt
/// goes on where the last one ended.
const WATCH_ATTEMPTS: u32 = 3;

impl<E: Env> Shard<E> {
    /// Serves requests until one of them closes the shard.
    ///
    /// A panic anywhere in the shard poisons it: every later write is refused, reads go on as far
    /// as they can, and closing still works.
    pub async fn serve<P: Port<Request>>(self, port: P) {
        let port = Rc::new(port);
        self.contain(async { self.start_watches(&port) }).await;
        let mut requests = Vec::with_capacity(REQUESTS_PER_TURN);
        loop {
            port.recv(&mut requests, REQUESTS_PER_TURN).await;
            let now = async { self.0.clock.refresh(self.0.env.wall_clock_us()) };
            self.contain(now).await;
            for request in requests.drain(..) {
                if let Request::Close { reply } = request {
                    let outcome = self.close_contained().await;
                    drop(reply.send(outcome));
                    return;
                }
                self.contain(async { self.handle(request) }).await;
            }
        }
    }

    /// Closes the shard; after a panic on the way, as far as it goes.
    async fn close_contained(&self) -> Result<()> {
        if let Some(outcome) = self.contain(self.close()).await {
            return outcome;
        }
        self.contain(self.0.wal.close()).await;
        self.check_poison()
    }

    fn handle(&self, request: Request) {
        match request {
            Request::Get { key, want, reply } => self.get(key, want, reply),
            Request::GetMany { keys, reply } => self.get_many(keys, reply),
            Request::Write {
                ops,
                durability,
                reply,
            } => {
                self.write(Deferred {
                    ops,
                    durability,
                    caller: Caller::Batch(reply),
                });
            }
            Request::Update {
                key,
                ttl,
                decide,
                durability,
                reply,
            } => {
                let update = Box::new(Update::new((key, ttl), decide, reply));
                self.write(Deferred::of_update(update, durability));
            }
            Request::OpenScan { spec, lease, reply } => self.open_scan(spec, lease, reply),
            Request::NextPage {
                scan,
                at,
                rows_max,
                reply,
            } => {
                self.next_page(scan, at, rows_max, reply);
            }
            Request::CountRows { scan, at, reply } => self.count_rows(scan, at, reply),
            Request::Estimate { range, reply } => self.estimate(range, reply),
            Request::DropKeyspace { keyspace, reply } => {
                self.0.dropped.borrow_mut().insert(keyspace);
                drop(reply.send(Ok(())));
            }
            Request::DeletePiece {
                range,
                owner,
                reply,
            } => self.delete_piece(range, owner, reply),
            Request::Flush { reply } => {
                let shard = self.clone();
                self.spawn_counted(async move { drop(reply.send(shard.flush_all().await)) });
            }
            Request::Compact { reply } => {
                let shard = self.clone();
                self.spawn_counted(async move { drop(reply.send(shard.compact().await)) });
            }
            Request::Verify { reply } => {
                let shard = self.clone();
                self.spawn_counted(async move { drop(reply.send(shard.verify().await)) });
            }
            Request::Stats { reply } => drop(reply.send(Ok(self.stats()))),
            Request::PeerFailed { shard, cause } => {
                self.refuse(&Error::Poisoned { shard, cause });
            }
            Request::Close { reply } => drop::<Reply<()>>(reply),
        }
    }

    /// Starts the tasks that react to the log: to new room, and to its failure.
    fn start_watches<P: Port<Request>>(&self, port: &Rc<P>) {
        let env = &self.0.env;
        let shard = self.clone();
        let room = async move {
            let watch = async {
                while shard.0.wal.wait_for_room().await && !planted!("lose_room_wake") {
                    if let Some(error) = shard.0.wal.take_shortage() {
                        shard.note_no_space(&error);
                    }
                    shard.resume_deferred();
                }
            };
            shard.contain(watch).await;
        };
        let (shard, port) = (self.clone(), Rc::clone(port));
        let poison = async move {
            for _ in 0..WATCH_ATTEMPTS {
                if shard.contain(shard.watch_poison(&*port)).await.is_some() {
                    return;
                }
            }
        };
        // They end with the log; nobody joins them.
        drop(env.spawn(TaskClass::Foreground, room));
        drop(env.spawn(TaskClass::Foreground, poison));
    }

    /// Finishes what is under way, flushes, and ends the log.
    async fn close(&self) -> Result<()> {
        let inner = &self.0;
        inner.closing.set(true);
        inner.space.end();
        self.resume_deferred();
        inner.scans.borrow_mut().clear();
        while inner.tasks.get() > 0 {
            inner.tasks_ended.next().await;
        }
        let flushed = self.flush_all().await;
        self.give_up_flush().await;
        self.stop_merging().await;
        let closed = inner.wal.close().await;
        if let Err(error) = &flushed {
            tracing::warn!(shard = %self.id(), %error, "closed without a flush");
        }
        closed
    }

    /// Reads and checks everything that is on disk.
    async fn verify(&self) -> Result<VerifyReport> {
        let inner = &self.0;
        // What cannot be flushed is no reason not to check what is there.
        let unflushed = self.flush_all().await.err();
        self.check_poison()?;
        let view = inner.tree.view();
        let tree = inner.tree.verify(&view, &mut |_| ()).await?;
        let mut report = VerifyReport {
            entries: tree.entries,
            damages: tree.damages,
        };
        report.damages.extend(inner.wal.verify().await?);
        report.damages.extend(inner.superblock.verify().await?);
        if let Some(Error::Corruption(damage)) = unflushed
            && report
                .damages
                .iter()
                .all(|known| known.place != damage.place)
        {
            report.damages.push(*damage);
        }
        Ok(report)
    }

    /// Figures about the shard.
    pub fn stats(&self) -> ShardStats {
        self.drop_abandoned_scans();
        let inner = &self.0;
        let (wal, tree) = (inner.wal.stats(), inner.tree.stats());
        let memtables = inner.active.borrow().borrow().bytes() + self.sealed_bytes();
        let counters = &inner.counters;
        ShardStats {
            shard: self.id(),
            entries: tree.entries,
            runs: tree.runs,
            runs_bytes: tree.runs_bytes,
            debt_bytes: tree.debt_bytes,
            merge_blocked: inner.merges.error.borrow().is_some(),
            merge_steps: counters.merge_steps.get(),
            merge_bytes_written: counters.merge_bytes.get(),
            flush_bytes_written: counters.flush_bytes.get(),
            write_pauses: counters.pauses.get(),
            gets: counters.gets.get(),
            gets_from_disk: counters.gets_from_disk.get(),
            puts: counters.puts.get(),
            deletes: counters.deletes.get(),
            scans: counters.scans.get(),
            scans_open: to_u64(inner.scans.borrow().len()),
            writes_deferred: counters.deferred.get(),
            memtable_bytes: to_u64(memtables),
            memtable_budget_bytes: to_u64(2 * inner.config.memtable_bytes()),
            space_short: inner.space.shortage().is_some(),
            shortages: counters.shortages.get(),
            reserve_deletes: counters.reserve_deletes.get(),
            flush_blocked: inner.flush_error.borrow().is_some(),
            flushes: counters.flushes.get(),
            wal_commits: wal.commits,
            wal_records: wal.records,
            wal_bytes_written: wal.bytes_written,
            wal_bytes: wal.bytes_on_disk,
            wal_segments: wal.segments,
            tree_bytes: tree.file_bytes,
            tree_live_bytes: tree.live_bytes,
            pages: tree.pages,
            tree_height: u64::from(tree.height),
            cache_hits: tree.cache.hits,
            cache_misses: tree.cache.misses,
            cache_bytes: to_u64(tree.cache.bytes),
            replayed_records: counters.replayed_records.get(),
        }
    }
}
