//! Seeds that found something.
//!
//! A change of what a seed draws makes another run of it, and these are such by now: they still must
//! not violate, but no longer do what found the bug.

use lightning_sim::faults::FaultSet;
use lightning_sim::{Options, run};

/// A seed, and what it found.
const FOUND: [(&str, u64, &str); 9] = [
    (
        "room_of_a_segment_on_its_way",
        0,
        "the next group was offered the place of the record that waited for a new segment",
    ),
    (
        "superblock_taken_twice",
        1,
        "a check held the superblock when a flush wanted it, which panicked",
    ),
    (
        "free_segments_counted_as_live",
        8,
        "after opening, a check read records where another file had been in between",
    ),
    (
        "endless_join",
        6,
        "the tree joined a rest with its left neighbour and cut it off again, without end",
    ),
    (
        "directory_never_made_durable",
        81,
        "a process killed in its creation left a directory whose name no later one synced",
    ),
    (
        "identity_ready_but_not_durable",
        22,
        "a ready identity that was read from a killed process's pending write was lost later",
    ),
    (
        "half_a_segment_header",
        233,
        "a crash between the two copies of a segment's header left one damaged for good",
    ),
    (
        "recreated_over_data",
        923,
        "a database vanished with its directory, and the next opening made an empty one",
    ),
    (
        "scan_shows_a_deletion_early",
        2_777,
        "a scan left a key out before the deletion of it was durable",
    ),
];

/// The same with all faults.
const FOUND_WITH_FAULTS: [(&str, u64, &str); 3] = [
    (
        "identity_lost_under_its_shards",
        663,
        "shards were made below an identity whose name was not durable: nothing opened any more",
    ),
    (
        "created_over_commits",
        1_109,
        "with one copy of the identity damaged and one misread, the shards were created anew",
    ),
    (
        "bad_place_in_the_way_of_opening",
        1_780,
        "a tree with three places that took no writes failed every recovery",
    ),
];

#[test]
fn what_was_found_stays_fixed() {
    let faulty = Options {
        faults: FaultSet::all(),
        ..Options::default()
    };
    let calm = FOUND.iter().map(|found| (found, Options::default()));
    let hostile = FOUND_WITH_FAULTS
        .iter()
        .map(|found| (found, faulty.clone()));
    for ((name, seed, what), options) in calm.chain(hostile) {
        let violation = run(*seed, &options).violation;
        assert_eq!(violation, None, "{name}: {what}");
    }
}
