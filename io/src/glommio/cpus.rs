//! Which CPU each shard runs on, and where its helpers run.

use ::glommio::{CpuSet, Placement, PoolPlacement};

/// The CPUs that this process may use, in ascending order; empty when the kernel does not say.
pub(super) fn usable() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// Where one shard's threads go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    /// The CPU that the executor is pinned to; `None` leaves it to the scheduler.
    pub(super) cpu: Option<usize>,
    /// The CPUs that its blocking pool may use; empty leaves it to the scheduler.
    pub(super) pool: Vec<usize>,
}

/// Seats `shards` shards on the usable CPUs.
///
/// With a CPU for each, each is pinned to its own; with fewer, none is, for two pinned executors on
/// one CPU would block each other while a third CPU idles. The blocking pool of a pinned shard goes
/// to the CPUs without a shard, or else to those of the other shards: anywhere but its own.
pub(super) fn seat(shards: usize, usable: &[usize]) -> Vec<Seat> {
    if usable.len() < shards {
        let unpinned = Seat {
            cpu: None,
            pool: Vec::new(),
        };
        return vec![unpinned; shards];
    }
    let (pinned, spare) = usable.split_at(shards);
    let others = |own: usize| pinned.iter().copied().filter(|&cpu| cpu != own).collect();
    pinned
        .iter()
        .map(|&own| Seat {
            cpu: Some(own),
            pool: if spare.is_empty() {
                others(own)
            } else {
                spare.to_vec()
            },
        })
        .collect()
}

impl Seat {
    pub(super) fn placement(&self) -> Placement {
        self.cpu.map_or(Placement::Unbound, Placement::Fixed)
    }

    /// One blocking thread; it serves opens, renames and the like, never a page.
    pub(super) fn pool_placement(&self) -> PoolPlacement {
        let online = CpuSet::online().map(|set| set.filter(|cpu| self.pool.contains(&cpu.cpu)));
        match online {
            Ok(set) if !set.is_empty() => PoolPlacement::Fenced(1, set),
            _ => PoolPlacement::Unbound(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_cpus_of_their_own_and_pools_get_others() {
        let seats = seat(2, &[3, 5, 6, 7]);
        assert_eq!(seats[0].cpu, Some(3));
        assert_eq!(seats[1].cpu, Some(5));
        assert_eq!(seats[1].pool, [6, 7]);
        let tight = seat(2, &[3, 5]);
        assert_eq!(tight[0].pool, [5]);
        assert_eq!(tight[1].pool, [3]);
        let alone = seat(1, &[4]);
        assert_eq!((alone[0].cpu, alone[0].pool.len()), (Some(4), 0));
    }

    #[test]
    fn too_few_cpus_leave_the_placement_to_the_scheduler() {
        for seat in seat(3, &[0, 1]) {
            assert_eq!(seat.cpu, None);
            assert!(seat.pool.is_empty());
        }
    }
}
