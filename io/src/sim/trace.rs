//! What a run did, as one number: equal for equal seeds, and the last events as text on request.

use std::collections::VecDeque;
use std::fmt;

/// The kinds of event, told apart in the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// An I/O operation was carried out.
    Io = 1,
    /// An I/O operation was asked for.
    Submit,
    /// The future of an I/O operation was dropped before its end.
    Cancel,
    /// A message was sent.
    Send,
    /// Messages were received.
    Receive,
    /// A task was started.
    Spawn,
    /// A task was chosen to run.
    Pick,
    /// A task ended.
    End,
}

/// The rolling hash, and the last events when recording is on.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    /// How many events to keep as text; zero costs nothing.
    keep: usize,
    last: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(keep: usize) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            keep,
            last: VecDeque::new(),
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds one event: its kind, the virtual time and what tells it from others.
    #[inline]
    pub(super) fn mark(&mut self, mark: Mark, now: u64, words: &[u64]) {
        let mut hash = mix(self.hash, mark as u64);
        hash = mix(hash, now);
        for &word in words {
            hash = mix(hash, word);
        }
        self.hash = hash;
    }

    /// Keeps a line of text, built only when somebody wants it.
    #[inline]
    pub(super) fn note(&mut self, now: u64, text: impl FnOnce() -> String) {
        if self.keep == 0 {
            return;
        }
        if self.last.len() == self.keep {
            self.last.pop_front();
        }
        self.last.push_back(format!(
            "{:>12}.{:03} us  {}",
            now / 1000,
            now % 1000,
            text()
        ));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Folds a word into a hash: multiply by the 64-bit golden ratio, made odd, and fold high to low.
#[inline]
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

/// Hashes a name, so that events can carry it as one word.
pub(super) fn hash_name(name: &str) -> u64 {
    name.bytes()
        .fold(0, |hash, byte| mix(hash, u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_part_and_on_the_order() {
        let hash_of = |events: &[(Mark, u64, u64)]| {
            let mut trace = Trace::new(0);
            for &(mark, now, word) in events {
                trace.mark(mark, now, &[word]);
            }
            trace.hash()
        };
        let base = hash_of(&[(Mark::Io, 1, 2), (Mark::Send, 3, 4)]);
        assert_ne!(base, hash_of(&[(Mark::Send, 3, 4), (Mark::Io, 1, 2)]));
        assert_ne!(base, hash_of(&[(Mark::Io, 2, 2), (Mark::Send, 3, 4)]));
        assert_ne!(base, hash_of(&[(Mark::Io, 1, 3), (Mark::Send, 3, 4)]));
        assert_eq!(base, hash_of(&[(Mark::Io, 1, 2), (Mark::Send, 3, 4)]));
    }

    #[test]
    fn only_the_last_events_are_kept_as_text() {
        let mut trace = Trace::new(2);
        for event in 0..5 {
            trace.note(event * 1000, || format!("event {event}"));
        }
        let text = trace.to_string();
        assert!(text.contains("event 3") && text.contains("event 4"));
        assert!(!text.contains("event 2"));
    }
}
