//! The catalogue: which keyspaces there are, and how each is set up.
//!
//! Its entries lie beside everybody's, under [`crate::KeyspaceId::SYSTEM`], and are read and
//! written in the ordinary way: a name's record is on the shard of its key, a change of it is one
//! compare-and-swap, and what was acknowledged survives a crash. `client::keyspaces` is what uses
//! it.
//!
//! # Invariants
//! * A number is given to one keyspace in the life of a database: the number is taken, durably,
//!   before a record can name it.
//! * A name has at most one record. From the moment when that says `dropping` the name is gone; the
//!   record itself goes when every key of the keyspace has.

mod name;
mod options;
mod record;

pub use name::{DEFAULT_KEYSPACE_NAME, KEYSPACE_NAME_BYTES_MAX};
pub use options::KeyspaceOptions;
pub use record::KeyspaceRecord;

pub(crate) use name::{NEXT_ID_KEY, check_name, check_operator_name, name_of, record_key, records};
pub(crate) use record::{State, Stored, decode_last_id, encode_last_id};
