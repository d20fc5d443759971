//! Which errors the faults of a run explain. Every other one is a violation.

use std::collections::BTreeMap;

use lightning_io::sim::{Damage, Fault};
use lightning_io::{IoError, IoErrorKind};
use lightning_shards::Error;

/// Says why an error is not explained by what struck; `None` when it is.
pub(crate) fn explains(
    fired: &BTreeMap<Fault, u64>,
    damage: &[Damage],
    error: &Error,
) -> Option<String> {
    if error.to_string().contains("panicked") {
        return Some("a task panicked".to_owned());
    }
    let any = |faults: &[Fault]| faults.iter().any(|fault| fired.contains_key(fault));
    let explained = match error {
        Error::Busy { .. } => true,
        Error::NoSpace { .. } => any(&[Fault::NoSpace]),
        Error::Io(error) => explains_io(&any, error),
        Error::Corruption(_) => {
            !damage.is_empty() || any(&[Fault::StaleRead, Fault::MisdirectedRead, Fault::ShortRead])
        }
        // What poisoned the shard was one of these.
        Error::Poisoned { .. } | Error::MaybeCommitted { .. } | Error::Closed => {
            any(&WRITE_FAULTS) || any(&READ_FAULTS) || !damage.is_empty()
        }
        _ => false,
    };
    (!explained).then(|| "no fault that struck explains it".to_owned())
}

const WRITE_FAULTS: [Fault; 6] = [
    Fault::WriteError,
    Fault::StickyWriteError,
    Fault::DurableWriteError,
    Fault::SyncError,
    Fault::NoSpace,
    Fault::ShortWrite,
];

const READ_FAULTS: [Fault; 5] = [
    Fault::ReadError,
    Fault::StickyReadError,
    Fault::ShortRead,
    Fault::StaleRead,
    Fault::MisdirectedRead,
];

fn explains_io(any: &impl Fn(&[Fault]) -> bool, error: &IoError) -> bool {
    match error.kind() {
        IoErrorKind::NoSpace => any(&[Fault::NoSpace]),
        IoErrorKind::ShortRead { .. } => {
            any(&[Fault::ShortRead, Fault::MisdirectedRead, Fault::StaleRead])
        }
        IoErrorKind::ShortWrite { .. } => any(&[Fault::ShortWrite]),
        IoErrorKind::Device { .. } => any(&WRITE_FAULTS) || any(&READ_FAULTS),
        _ => false,
    }
}
