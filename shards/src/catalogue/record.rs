//! The records of the catalogue.
//!
//! # On-disk layout
//! ```text
//! record: offset  bytes  field
//!              0      1  record version: 1
//!              1      1  state: 1 live, 2 dropping
//!              2      2  zeros
//!              4      4  keyspace id
//!              8      .  options, none for a keyspace that is being dropped: see `options`
//!
//! number given last:
//!              0      4  keyspace id
//! ```

use crate::block::get_u32;
use crate::catalogue::KeyspaceOptions;
use crate::{Error, KeyspaceId, Result};

const VERSION: usize = 0;
const STATE: usize = VERSION + 1;
const ZEROS: usize = STATE + 1;
const ID: usize = ZEROS + 2;
const OPTIONS: usize = ID + 4;

/// The version of the layout above.
const RECORD_VERSION: u8 = 1;

const _: () = assert!(OPTIONS == 8);

/// A keyspace that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyspaceRecord {
    /// Its number, which no other keyspace of the database ever has.
    pub id: KeyspaceId,
    /// How it is set up.
    pub options: KeyspaceOptions,
}

/// Whether a keyspace is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Live,
    /// Its name is gone; what is left of its keys is being deleted.
    Dropping,
}

/// What the catalogue says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) state: State,
    pub(crate) record: KeyspaceRecord,
}

impl Stored {
    /// What replaces the record of a keyspace that is dropped.
    pub(crate) fn dropping(id: KeyspaceId) -> Self {
        let options = KeyspaceOptions::default();
        Self {
            state: State::Dropping,
            record: KeyspaceRecord { id, options },
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            State::Live => 1,
            State::Dropping => 2,
        };
        let mut bytes = vec![RECORD_VERSION, state, 0, 0];
        bytes.extend_from_slice(&self.record.id.0.to_le_bytes());
        self.record.options.encode(&mut bytes);
        bytes
    }

    /// Reads the record of the keyspace `name`.
    ///
    /// # Errors
    /// [`Error::KeyspaceUnreadable`] when another version wrote it, or nothing that this project
    /// ever wrote: pages and the log's records have checksums, so it is not damage.
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        decode(bytes).map_err(|reason| Error::KeyspaceUnreadable {
            name: name.to_owned(),
            reason,
        })
    }
}

fn decode(bytes: &[u8]) -> Result<Stored, String> {
    match bytes.first() {
        Some(&RECORD_VERSION) => {}
        Some(version) => {
            return Err(format!(
                "its record has version {version}; this build reads version {RECORD_VERSION}"
            ));
        }
        None => return Err("its record is empty".to_owned()),
    }
    if bytes.len() < OPTIONS {
        return Err(format!("its record has {} bytes", bytes.len()));
    }
    let state = match bytes[STATE] {
        1 => State::Live,
        2 => State::Dropping,
        state => return Err(format!("its record has the unknown state {state}")),
    };
    let id = KeyspaceId(get_u32(bytes, ID));
    if bytes[ZEROS..ID] != [0; 2] || !id.is_created() {
        return Err(format!("its record has the id {id}, or no zeros before it"));
    }
    let options = KeyspaceOptions::decode(&bytes[OPTIONS..])?;
    let record = KeyspaceRecord { id, options };
    Ok(Stored { state, record })
}

/// The stored form of the number that was given last.
pub(crate) fn encode_last_id(id: KeyspaceId) -> Vec<u8> {
    id.0.to_le_bytes().to_vec()
}

/// Reads the number that was given last; `None` for bytes that are none.
pub(crate) fn decode_last_id(bytes: &[u8]) -> Option<KeyspaceId> {
    let bytes = bytes.try_into().ok()?;
    Some(KeyspaceId(u32::from_le_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(id: u32) -> Stored {
        Stored {
            state: State::Live,
            record: KeyspaceRecord {
                id: KeyspaceId(id),
                options: KeyspaceOptions::new(),
            },
        }
    }

    fn reason(bytes: &[u8]) -> String {
        match Stored::decode("users", bytes) {
            Err(Error::KeyspaceUnreadable { name, reason }) if name == "users" => reason,
            other => panic!("{other:?} for {bytes:?}"),
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for stored in [live(2), live(u32::MAX - 1), Stored::dropping(KeyspaceId(7))] {
            assert_eq!(Stored::decode("users", &stored.encode()), Ok(stored));
        }
        let id = KeyspaceId(70_000);
        assert_eq!(decode_last_id(&encode_last_id(id)), Some(id));
        assert_eq!(decode_last_id(b"\x01\0\0"), None);
        assert_eq!(decode_last_id(b""), None);
    }

    #[test]
    fn the_bytes_are_the_documented_ones() {
        assert_eq!(live(0x0102_0304).encode(), [1, 1, 0, 0, 4, 3, 2, 1]);
        assert_eq!(
            Stored::dropping(KeyspaceId(2)).encode(),
            [1, 2, 0, 0, 2, 0, 0, 0]
        );
        assert_eq!(encode_last_id(KeyspaceId(3)), [3, 0, 0, 0]);
    }

    #[test]
    fn a_record_of_another_kind_is_refused_and_says_why() {
        let whole = live(2).encode();
        assert!(reason(&[]).contains("empty"));
        assert!(reason(&[2, 9, 9]).contains("version 2"));
        for len in 1..whole.len() {
            assert!(reason(&whole[..len]).contains("bytes"), "cut at {len}");
        }
        for (at, value) in [(1, 3), (2, 1), (3, 1), (4, 0), (4, 1)] {
            let mut changed = whole.clone();
            changed[at] = value;
            reason(&changed);
        }
        assert!(reason(&[&whole[..], &[99, 0]].concat()).contains("option 99"));
        assert!(reason(&[&whole[..], &[99]].concat()).contains("cut off"));
        assert!(reason(&[&whole[..], &[99, 3, 1, 2]].concat()).contains("cut off"));
    }
}
