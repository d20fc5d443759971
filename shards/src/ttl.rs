//! How long an entry lives.
//!
//! # On-disk layout
//! The value of an entry with [`crate::EntryFlags::EXPIRING`] begins with its time to live in
//! microseconds, 8 bytes; the caller's value follows, or what refers to it. The entry ends at the
//! time of its commit plus that.
//!
//! # Which clock
//! The shard's, on which its timestamps are: it never goes back while the database is open,
//! whatever the machine's clock does. One that is set back while the database is closed gives what
//! had expired, and was not flushed since, the rest of its life again.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::{Error, Result, Timestamp};

/// A time to live: at least a microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(NonZeroU64);

impl Ttl {
    /// Bytes in front of a value that expires.
    pub const BYTES: usize = 8;

    /// The longest: all the time that a timestamp can tell, about 142 years.
    const MICROS_MAX: u64 = Timestamp::MICROS_MAX;

    /// Takes a time.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is shorter than a microsecond or longer than about 142 years.
    pub fn new(time: Duration) -> Result<Self> {
        let micros = u64::try_from(time.as_micros())
            .ok()
            .and_then(Self::from_micros);
        micros.ok_or_else(|| Error::Invalid {
            what: "time to live",
            reason: format!(
                "{time:?}; it has from 1 to {} microseconds",
                Self::MICROS_MAX
            ),
        })
    }

    /// The time.
    pub fn time(self) -> Duration {
        Duration::from_micros(self.0.get())
    }

    fn from_micros(micros: u64) -> Option<Self> {
        let micros = NonZeroU64::new(micros)?;
        (micros.get() <= Self::MICROS_MAX).then_some(Self(micros))
    }

    /// The stored form.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0.get().to_le_bytes()
    }

    /// Reads the stored form in front of a value; `None` when there is none.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        Self::from_micros(u64::from_le_bytes(*value.first_chunk()?))
    }

    /// When an entry ends that was committed at a time.
    pub(crate) fn end(self, committed: Timestamp) -> Timestamp {
        let end = committed.micros().saturating_add(self.0.get());
        Timestamp::from_micros(end.min(Timestamp::MICROS_MAX))
    }

    /// What is left of it at a time; none when it is over.
    pub(crate) fn rest(self, committed: Timestamp, now: Timestamp) -> Option<Self> {
        let end = self.end(committed).micros();
        Self::from_micros(end.saturating_sub(now.micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_time_to_live_is_at_least_a_microsecond_and_has_an_end() {
        for time in [
            Duration::ZERO,
            Duration::from_nanos(999),
            Duration::MAX,
            Duration::from_micros(Ttl::MICROS_MAX + 1),
        ] {
            let refused = Ttl::new(time);
            let what = "time to live";
            assert!(matches!(refused, Err(Error::Invalid { what: found, .. }) if found == what));
        }
        for micros in [1, 1_000_000, Ttl::MICROS_MAX] {
            let ttl = Ttl::new(Duration::from_micros(micros)).unwrap();
            assert_eq!(ttl.time(), Duration::from_micros(micros));
            assert_eq!(
                Ttl::of(&[&ttl.to_bytes()[..], b"value"].concat()),
                Some(ttl)
            );
        }
        assert_eq!(Ttl::of(&[0; 8]), None);
        assert_eq!(Ttl::of(&[0xff; 8]), None);
        assert_eq!(Ttl::of(&[1; 7]), None);
    }

    #[test]
    fn it_ends_that_long_after_the_commit() {
        let ttl = Ttl::new(Duration::from_micros(10)).unwrap();
        let committed = at(100).next().next();
        assert_eq!(ttl.end(committed), at(110));
        assert_eq!(
            ttl.rest(committed, at(104)).unwrap().time(),
            Duration::from_micros(6)
        );
        assert_eq!(ttl.rest(committed, at(110)), None);
        assert_eq!(ttl.rest(committed, at(200)), None);
        let long = Ttl::new(Duration::from_micros(Ttl::MICROS_MAX)).unwrap();
        assert_eq!(long.end(committed), at(Timestamp::MICROS_MAX));
    }
}
