//! What the database owes its callers in a life in which something went wrong.

use std::time::Duration;

use lightning_io::sim::{Strike, World};
use lightning_io::{BLOCK_BYTES, IoOp, to_u64};
use lightning_shards::Error;

use super::program::{Life, SHARDS};
use super::trouble::{Case, Trouble};

/// How long the news of a failure may be on its way to another shard: a message takes 0.1 ms at
/// most, and a full queue is tried again each millisecond.
const NEWS: Duration = Duration::from_millis(10);

/// On a full disk everything can be read all the while, and things can be deleted; returns how many
/// could not.
pub(super) async fn check_full(life: &mut Life) -> Result<u64, String> {
    let reads = ["get", "get_many", "scan", "stats"];
    let failed = life.errors.iter().find(|(step, _)| reads.contains(step));
    if let Some((step, error)) = failed {
        return Err(format!("{step} on a full disk: {error}"));
    }
    let deleted = life.delete_one_of_each().await;
    Ok(to_u64(
        deleted.iter().filter(|outcome| outcome.is_err()).count(),
    ))
}

/// What is durable can be read, whatever happened to later writes.
pub(super) async fn check_poisoned_reads(life: &mut Life) -> Result<(), String> {
    let unreadable = life.read_all().await;
    let lost = unreadable.iter().find(|key| !life.doubtful.contains(key));
    match lost {
        Some(key) => {
            let last = life.errors.last().map(|(_, error)| error.to_string());
            Err(format!("key {key} of a poisoned database: {last:?}"))
        }
        None => Ok(()),
    }
}

/// Whether strikes have to poison the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poisoning {
    Always,
    /// A page that could not be written often enough does, a record of another kind may.
    Perhaps,
    Never,
}

impl Poisoning {
    /// What strikes of a case come to.
    pub(super) fn of(strikes: &[Strike], case: &Case) -> Self {
        if strikes.iter().any(|strike| is_fatal(strike, case)) {
            return Self::Always;
        }
        // The superblock's content is open then, so that neither tree can be given up.
        let superblock = |strike: &Strike| is_of(strike, "superblock") && strike.op == IoOp::Write;
        let lasting = matches!(case.trouble, Trouble::Call { lasting: true, .. });
        if strikes.iter().any(superblock) || lasting && !case.is_no_space() && !strikes.is_empty() {
            Self::Perhaps
        } else {
            Self::Never
        }
    }
}

/// Whether a call makes something durable, and nothing else.
pub(super) fn is_sync(op: IoOp) -> bool {
    matches!(op, IoOp::Sync | IoOp::SyncDir)
}

fn is_of(strike: &Strike, name: &str) -> bool {
    let file = strike.path.file_name();
    file.is_some_and(|file| file.to_string_lossy().starts_with(name))
}

/// Whether a strike hit what is never tried again: a sync, or a write of the log. A full disk is
/// allowed to refuse the zeros of a new file: nothing was promised about it, and it is given up.
fn is_fatal(strike: &Strike, case: &Case) -> bool {
    let fills = |(offset, len)| offset == 0 && len > BLOCK_BYTES;
    let refused = case.is_no_space() && strike.range.is_some_and(fills);
    is_sync(strike.op) || strike.op == IoOp::Write && is_of(strike, "wal-") && !refused
}

/// After a failed sync or write of the log nothing is acknowledged any more.
pub(super) fn check_acknowledged(
    life: &Life,
    strikes: &[Strike],
    case: &Case,
) -> Result<(), String> {
    let mut fatal = strikes.iter().filter(|strike| is_fatal(strike, case));
    let Some(strike) = fatal.next() else {
        return Ok(());
    };
    let path = strike.path.to_string_lossy();
    let struck = (0..SHARDS).find(|shard| path.contains(&format!("shard-{shard:03}")));
    for written in life.writes.iter().filter(|written| written.outcome.is_ok()) {
        let late = match struck {
            Some(shard) if written.shards.contains(&shard) => written.at > strike.at,
            _ => written.at > strike.at + NEWS,
        };
        if late {
            let (at, shards) = (written.at, &written.shards);
            return Err(format!(
                "a write to shards {shards:?} at {at:?} was acknowledged after {strike:?}"
            ));
        }
    }
    Ok(())
}

/// Every error is of a kind that says what happened, and there are none without a cause.
pub(super) fn check_errors(life: &Life, world: &World, case: &Case) -> Result<(), String> {
    for (step, error) in &life.errors {
        let fits = match error {
            Error::Io(_) | Error::Poisoned { .. } | Error::MaybeCommitted { .. } => true,
            Error::NoSpace { .. } => case.is_no_space(),
            // A file that is too short and a read that is look alike.
            Error::Corruption(_) => case.is_short_read(),
            _ => false,
        };
        if !fits || world.faults_fired().is_empty() {
            return Err(format!("{step}: unexpected error: {error}"));
        }
    }
    Ok(())
}
