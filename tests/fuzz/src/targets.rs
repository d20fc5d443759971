//! The targets, by name.

mod database;
mod decoders;
mod operations;
mod reseal;
mod text;
mod visit;

use lightning_shards::fuzz::DECODERS;

use crate::target::Target;

/// Targets that are no decoders of stored bytes.
const OTHERS: [&str; 6] = ["csv", "tsv", "jsonl", "escape", "database", "operations"];

const COUNT: usize = DECODERS.len() + OTHERS.len();

/// The names of all targets.
pub const NAMES: [&str; COUNT] = names();

const fn names() -> [&'static str; COUNT] {
    let mut names = [""; COUNT];
    let mut at = 0;
    while at < COUNT {
        names[at] = if at < DECODERS.len() {
            DECODERS[at].name
        } else {
            OTHERS[at - DECODERS.len()]
        };
        at += 1;
    }
    names
}

/// A target's share of the time beside the others': the engine as a whole takes a thousand times
/// what a decoder takes.
pub(crate) fn share(name: &str) -> u32 {
    match name {
        "database" | "operations" => 6,
        _ => 1,
    }
}

/// Makes the target of a name.
pub fn target(name: &str) -> Option<Box<dyn Target>> {
    if let Some(decoder) = DECODERS.iter().find(|decoder| decoder.name == name) {
        return Some(Box::new(decoders::DecoderTarget::new(*decoder)));
    }
    Some(match name {
        "csv" => Box::new(text::TableTarget::csv()),
        "tsv" => Box::new(text::TableTarget::tsv()),
        "jsonl" => Box::new(text::TableTarget::jsonl()),
        "escape" => Box::new(text::EscapeTarget),
        "database" => Box::new(database::DatabaseTarget::new()),
        "operations" => Box::new(operations::OperationsTarget),
        _ => return None,
    })
}
