//! The decoders of stored bytes, one target each.

use lightning_io::sim::Rng;
use lightning_shards::fuzz::{Decoder, Verdict as Found};

use crate::target::{Target, Verdict};

/// The heap that a decoder may take, beside a share of its input: what a message about it needs.
const HEAP_BYTES: usize = 64 << 10;

/// A decoded structure may be so many times as large as its bytes: a check keeps it two times, and
/// lists its parts.
const HEAP_FACTOR: usize = 24;

/// Bytes of an accepted input that are changed.
const PLACES: usize = 3;

/// One decoder.
#[derive(Debug)]
pub(crate) struct DecoderTarget {
    decoder: Decoder,
    changed: Vec<u8>,
}

impl DecoderTarget {
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self {
            decoder,
            changed: Vec::new(),
        }
    }

    /// A changed byte under a checksum is refused. The checksums are CRCs, which find every change
    /// within 32 bits, so a few places are enough; which, is drawn from the input, so that a saved
    /// one fails again.
    fn check_change(&mut self, input: &[u8], covered_bytes: usize) -> Result<(), String> {
        if covered_bytes == 0 {
            return Ok(());
        }
        let mut rng = Rng::new(crc32fast::hash(input).into());
        for _ in 0..PLACES {
            let at = rng.index(covered_bytes);
            self.changed.clear();
            self.changed.extend_from_slice(input);
            self.changed[at] ^= 1 << rng.below(8);
            if let Found::Accepted { .. } = (self.decoder.check)(&self.changed) {
                return Err(format!("a changed byte {at} goes unnoticed"));
            }
        }
        Ok(())
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
            Found::Refused(why) => Ok(Verdict::Refused(why)),
            Found::Accepted { covered_bytes } => {
                self.check_change(input, covered_bytes)?;
                Ok(Verdict::Accepted("accepted".to_owned()))
            }
        }
    }

    fn heap_bytes_max(&self, input_bytes: usize) -> usize {
        HEAP_BYTES + HEAP_FACTOR * (input_bytes + self.decoder.inflated_bytes_max)
    }

    fn is_fixed_length(&self) -> bool {
        true
    }
}
