//! The loop that takes requests, from callers and peers alike: the shard's only entry point.

use std::rc::Rc;

use lightning_io::{Env, Port, TaskClass, catch_panic, to_u64};

use super::Shard;
use super::write::Deferred;
use crate::message::{Reply, Request};
use crate::stats::ShardStats;
use crate::verify::VerifyReport;
use crate::{Error, Result};

/// Requests that are taken in one turn before other tasks of the shard get theirs: at about 100 ns
/// each, some 10 us.
const REQUESTS_PER_TURN: usize = 64;

impl<E: Env> Shard<E> {
    /// Serves requests until one of them closes the shard.
    ///
    /// A panic while a request is handled poisons the shard: every later request is refused, and
    /// closing still works.
    pub async fn serve<P: Port<Request>>(self, port: P) {
        let port = Rc::new(port);
        self.start_watches(&port);
        let mut requests = Vec::with_capacity(REQUESTS_PER_TURN);
        loop {
            port.recv(&mut requests, REQUESTS_PER_TURN).await;
            self.0.clock.refresh(self.0.env.wall_clock_us());
            for request in requests.drain(..) {
                if let Request::Close { reply } = request {
                    let outcome = self.close().await;
                    drop(reply.send(outcome));
                    return;
                }
                if let Err(panic) = catch_panic(async { self.handle(request) }).await {
                    self.fail(&panic.to_string());
                }
            }
        }
    }

    fn handle(&self, request: Request) {
        match request {
            Request::Get { key, reply } => self.get(key, reply),
            Request::GetMany { keys, reply } => self.get_many(keys, reply),
            Request::Write {
                ops,
                durability,
                reply,
            } => {
                self.write(Deferred {
                    ops,
                    durability,
                    reply,
                });
            }
            Request::OpenScan {
                range,
                lease,
                reply,
            } => self.open_scan(range, lease, reply),
            Request::NextPage {
                scan,
                at,
                rows_max,
                reply,
            } => {
                self.next_page(scan, at, rows_max, reply);
            }
            Request::Flush { reply } => {
                let shard = self.clone();
                self.spawn_counted(async move { drop(reply.send(shard.flush_all().await)) });
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
            while shard.0.wal.wait_for_room().await {
                shard.resume_deferred();
            }
        };
        let shard = self.clone();
        let port = Rc::clone(port);
        let poison = async move {
            let Some(cause) = shard.0.wal.wait_for_poison().await else {
                return;
            };
            shard.refuse(&Error::Poisoned {
                shard: shard.id(),
                cause: cause.clone(),
            });
            for peer in (0..port.peers()).filter(|&peer| peer != shard.id().index()) {
                let news = Request::PeerFailed {
                    shard: shard.id(),
                    cause: cause.clone(),
                };
                if port.send(peer, news).is_err() {
                    tracing::warn!(shard = %shard.id(), peer, "a peer could not be told");
                }
            }
        };
        // They end with the log; nobody joins them.
        drop(env.spawn(TaskClass::Foreground, room));
        drop(env.spawn(TaskClass::Foreground, poison));
    }

    /// Takes no more writes, and says so to those that wait.
    fn refuse(&self, error: &Error) {
        self.0
            .refused
            .borrow_mut()
            .get_or_insert_with(|| error.clone());
        self.resume_deferred();
    }

    /// Finishes what is under way, flushes, and ends the log.
    async fn close(&self) -> Result<()> {
        let inner = &self.0;
        inner.closing.set(true);
        self.resume_deferred();
        inner.scans.borrow_mut().clear();
        while inner.tasks.get() > 0 {
            inner.tasks_ended.next().await;
        }
        let flushed = self.flush_all().await;
        let closed = inner.wal.close().await;
        if let Err(error) = &flushed {
            tracing::warn!(shard = %self.id(), %error, "closed without a flush");
        }
        closed
    }

    async fn verify(&self) -> Result<VerifyReport> {
        let inner = &self.0;
        self.flush_all().await?;
        let view = inner.tree.view();
        let tree = inner.tree.verify(&view, &mut |_| ()).await?;
        let mut report = VerifyReport {
            entries: tree.entries,
            damages: tree.damages,
        };
        report.damages.extend(inner.wal.verify().await?);
        report.damages.extend(inner.superblock.verify().await?);
        Ok(report)
    }

    /// Figures about the shard.
    pub fn stats(&self) -> ShardStats {
        self.drop_abandoned_scans();
        let inner = &self.0;
        let (wal, tree) = (inner.wal.stats(), inner.tree.stats());
        let sealed = inner
            .sealed
            .borrow()
            .as_ref()
            .map_or(0, |sealed| sealed.table.borrow().bytes());
        let memtables = inner.active.borrow().borrow().bytes() + sealed;
        let counters = &inner.counters;
        ShardStats {
            shard: self.id(),
            entries: tree.entries,
            gets: counters.gets.get(),
            gets_from_disk: counters.gets_from_disk.get(),
            puts: counters.puts.get(),
            deletes: counters.deletes.get(),
            scans: counters.scans.get(),
            scans_open: to_u64(inner.scans.borrow().len()),
            writes_deferred: counters.deferred.get(),
            memtable_bytes: to_u64(memtables),
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
