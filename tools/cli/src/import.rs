//! Import of tables: rows are parsed on one thread, and written in batches of which several are
//! under way at once, so that their commits share syncs.

mod chunk;
mod command;
mod csv;
mod error;
mod format;
mod jsonl;
mod progress;
mod row;
mod source;
mod writer;

pub(crate) use command::{import_all, rate, run};
pub(crate) use error::ImportError;
pub(crate) use format::Format;
pub(crate) use progress::Progress;
pub(crate) use row::Step;
pub(crate) use source::Source;
