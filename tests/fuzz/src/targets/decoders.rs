//! The decoders of stored bytes, one target each.

use lightning_io::sim::Rng;
use lightning_shards::fuzz::{Decoder, Verdict as Found};

use crate::target::{Target, Verdict};

/// The heap that a decoder may take, beside a share of its input: what a message about it needs.
const HEAP_BYTES: usize = 64 << 10;

/// A decoded structure may be so many times as large as its bytes: a check keeps it two times, and
/// lists its parts.
const HEAP_FACTOR: usize = 24;

/// One decoder.
#[derive(Debug)]
pub(crate) struct DecoderTarget {
    decoder: Decoder,
    /// Where the next accepted input is changed.
    turn: u64,
    changed: Vec<u8>,
}

impl DecoderTarget {
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            turn: 0,
            changed: Vec::new(),
        }
    }

    /// A changed byte under a checksum is refused. The checksums are CRCs, which find every change
    /// within 32 bits, so one byte a time is enough; which, goes round.
    fn check_change(&mut self, input: &[u8], covered_bytes: usize) -> Result<(), String> {
        if covered_bytes == 0 {
            return Ok(());
        }
        let mut rng = Rng::new(self.turn);
        self.turn += 1;
        let at = rng.index(covered_bytes);
        self.changed.clear();
        self.changed.extend_from_slice(input);
        self.changed[at] ^= 1 << rng.below(8);
        match (self.decoder.check)(&self.changed) {
            Found::Refused => Ok(()),
            Found::Accepted { .. } => Err(format!("a changed byte {at} goes unnoticed")),
        }
    }
}

impl Target for DecoderTarget {
    fn make(&mut self, rng: &mut Rng) -> Vec<u8> {
        (self.decoder.make)(&mut |bound| rng.below(bound))
    }

    fn repair(&mut self, input: &mut Vec<u8>) {
        (self.decoder.repair)(input);
    }

    fn run(&mut self, input: &[u8]) -> Result<Verdict, String> {
        match (self.decoder.check)(input) {
            Found::Refused => Ok(Verdict::Refused),
            Found::Accepted { covered_bytes } => {
                self.check_change(input, covered_bytes)?;
                Ok(Verdict::Accepted)
            }
        }
    }

    fn heap_bytes_max(&self, input_bytes: usize) -> usize {
        HEAP_BYTES + HEAP_FACTOR * input_bytes
    }

    fn is_fixed_length(&self) -> bool {
        true
    }
}
