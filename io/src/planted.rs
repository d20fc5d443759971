//! Planted bugs: mistakes that can be switched on, to prove that the tests notice them.
//!
//! A site is one condition in the engine, `planted!("name")`, which means one of three things:
//!
//! * in an ordinary build it is the constant `false`, and nothing of it is left in the program;
//! * built with `--cfg planted="name"` it is `true`: a program with that one bug;
//! * built with `--cfg planted="any"` it is what the thread chose with [`choose`], so that one
//!   program tries all of them.
//!
//! [`BUGS`] names every one. The lints know the same names, so a misspelt site is a warning; a test
//! compares the list, the lints and the sites.

use std::cell::Cell;

/// A mistake that somebody could really make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bug {
    /// How sites, lints and commands call it.
    pub name: &'static str,
    /// What the engine does wrong with it.
    pub mistake: &'static str,
}

macro_rules! bugs {
    ($($name:literal: $mistake:literal,)*) => {
        /// Every planted bug.
        pub const BUGS: &[Bug] = &[$(Bug { name: $name, mistake: $mistake },)*];

        /// The one bug that this program was built with, if it was.
        pub const BUILT_IN: Option<&str> = {
            let mut name = None;
            $(if cfg!(planted = $name) { name = Some($name); })*
            name
        };
    };
}

bugs! {
    // The log.
    "ack_before_write": "a durable write is acknowledged before its record is written",
    "answers_lag_a_record": "the waiters of a record are told with the next one",
    "cut_record_replayed": "of a record that was cut, the commits that can be read are replayed",
    "ignore_record_checksum": "a record's payload checksum is not compared",
    "ignore_wal_write_error": "a log write that failed counts as done",
    "lose_room_wake": "writes that wait for room are not woken when there is room",
    "lose_segment_dir_sync": "the name of a new segment is not synced",
    "one_segment_header": "only one copy of a segment's header is written",
    "relaxed_never_due": "relaxed writes wait for a durable one to take them along",
    "release_segment_early": "a segment is released that holds the record behind the checkpoint",
    "replay_stale_tail": "records of an earlier use of a segment are replayed behind the last",
    "reuse_segment_number": "two uses of files get the same segment number",
    "rot_is_torn_tail": "a record damaged below a durable mark is taken for the end of the log",
    "skip_replay_sync": "what was replayed is not synced before it is trusted",
    "torn_tail_is_rot": "a torn record counts as proof that it was durable itself",
    "write_after_poison": "the log goes on behind a write that failed",

    // The superblock and the checkpoint.
    "checkpoint_read_late": "the checkpoint covers records that the flushed memtable does not hold",
    "discard_failed_flush": "a sealed memtable is dropped when its flush failed",
    "lose_flush_wake": "those who wait for a flush are not woken",
    "one_superblock_copy": "only one copy of the superblock is written",
    "retry_failed_sync": "a sync of the tree's file that failed is made again, and the second believed",
    "skip_parent_sync": "the name of the database's directory is not synced",
    "superblock_in_place": "each superblock is written over the one before",
    "superblock_not_durable": "the superblock's file is not opened for durable writes",
    "truncate_before_superblock": "the log is freed before the superblock is durable",

    // The tree.
    "drop_tombstone": "a flush drops a tombstone and leaves the older version in the tree",
    "free_before_publish": "units of the current tree are free while the next one is written",
    "free_pinned_units": "old units are reused although a view can reach them",
    "ignore_blob_checksum": "a large value's checksum is not compared",
    "ignore_page_checksum": "a page's checksum is not compared",
    "ignore_page_identity": "a sound page is accepted whatever owner, unit and version it has",
    "ignore_page_version": "a page is accepted that is not the version that its parent means",
    "leak_value_units": "the units of large values that are replaced are never free again",
    "separator_off_by_one": "a split sends the last key of the left page to the right one",
    "skip_tree_sync": "the superblock points to a tree that was not synced",
    "space_map_unreserved": "after opening, the units of the space map count as free",
    "take_short_gap": "the allocator hands out a run whose last unit is taken",

    // Runs and merges.
    "filter_forgets_key": "the filter of a run misses some of its keys",
    "leak_run_filter": "the filter of a run that was merged is never free again",
    "merge_drops_tombstone": "a merge of runs into one ends deletions that older entries still need",
    "merge_frees_moved_value": "a merge frees the large values that its target takes over",
    "merge_restarts": "each step of a merge begins with the first entries of its inputs again",
    "merged_to_too_far": "the next entry that a merge has to take counts as taken",
    "run_misses_largest": "a run is not asked for the largest of its keys",
    "runs_freed_early": "what a merge is done with is free before the version without it is published",
    "runs_oldest_first": "of the versions that runs have of a key, a get finds the oldest",
    "scan_skips_unread_run": "a scan that begins before the first key of a run passes it over",

    // Versions, reads and scans.
    "clock_restarts_low": "timestamps begin anew after a restart",
    "count_holds_nothing": "a count is answered before what it counted is durable",
    "memtable_keeps_one_version": "a new version replaces the one that a scan's snapshot needs",
    "exists_counts_deleted": "a key in memory exists although its newest version is a deletion",
    "multi_get_holds_last": "a multi-get waits for the durability of its last value alone",
    "reverse_starts_low": "a walk in reverse passes over the entry that it should begin with",
    "scan_ignores_snapshot": "a scan shows versions newer than its snapshot",
    "scan_refreshes_view": "each page of a scan is read from the newest tree",
    "scan_skips_sealed": "a view leaves out the memtable that is being flushed",
    "show_before_durable": "a read shows what a crash could take back",

    // Updates.
    "swap_takes_any_value": "any value is as good as the expected one",
    "update_holds_nothing": "a relaxed update is answered before what it was made of is durable",
    "update_skips_memory": "what was written while an update's value was read is not looked at",
    "update_trusts_old_tree": "what an update read counts although another tree was published",

    // Keyspaces.
    "delete_one_piece": "a deletion of a range ends after its first piece",
    "drop_not_resumed": "a drop that a crash cut short is not finished by the next opening",
    "expired_uncovers_older": "a flush leaves out what has expired, and what is older comes back",
    "expired_value_shown": "a read of memory shows a value whose time is over",
    "ttl_from_read": "a time to live counts from the read, and never ends",
    "handle_outlives_drop": "handles on a keyspace that was dropped are not refused",
    "keyspace_id_reused": "a new keyspace may get the number of another",
    "merge_loses_operand": "a merge reads and writes in two steps, and others in between are lost",
    "recreate_keeps_keys": "a keyspace whose drop was cut short comes back when its name is used",

    // A full disk.
    "puts_take_the_reserve": "puts are taken as well once the reserve has been given up",
    "reserve_kept": "the reserve is not given up in a shortage",
    "reserve_not_refilled": "the reserve is not made again when there is space",

    // The side of the callers.
    "scan_takes_last_time": "a scan's snapshot is one shard's time, not the latest of all",
    "split_by_part_of_key": "batches are split by a part of the key, gets are routed by all of it",
}

/// Whether this program has all of them built in, for [`choose`] to choose from.
pub const CAN_CHOOSE: bool = cfg!(planted = "any");

thread_local! {
    static CHOSEN: Cell<Option<&'static str>> = const { Cell::new(None) };
    static REACHED: Cell<u64> = const { Cell::new(0) };
}

/// Switches one bug on for this thread, and every other one off.
///
/// # Panics
/// When there is no such bug, or when it is not built in.
pub fn choose(name: Option<&'static str>) {
    let known = |name| CAN_CHOOSE && BUGS.iter().any(|bug| bug.name == name);
    assert!(name.is_none_or(known), "there is no bug {name:?}");
    CHOSEN.set(name);
    REACHED.set(0);
}

/// How often this thread came to a site of its bug since it chose it.
pub fn reached() -> u64 {
    REACHED.get()
}

/// What a site asks in a program that can choose.
#[doc(hidden)]
pub fn is_chosen(name: &str) -> bool {
    let chosen = CHOSEN.get() == Some(name);
    REACHED.set(REACHED.get() + u64::from(chosen));
    chosen
}

/// Whether this bug is switched on; see [`planted`](mod@crate::planted).
#[cfg(not(planted = "any"))]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        cfg!(planted = $name)
    };
}

/// Whether this bug is switched on; see [`planted`](mod@crate::planted).
#[cfg(planted = "any")]
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_chosen($name)
    };
}
