//! What is fuzzed.

use lightning_io::sim::Rng;

/// What a target made of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did not come past the first checks.
    Refused,
    /// It did.
    Accepted,
}

/// Anything that takes bytes.
pub trait Target {
    /// Makes an input that reaches deep.
    fn make(&mut self, rng: &mut Rng) -> Vec<u8>;

    /// Puts right what a mutation broke on the surface, such as a checksum.
    fn repair(&mut self, _input: &mut Vec<u8>) {}

    /// Takes an input.
    ///
    /// # Errors
    /// The promise that was broken.
    fn run(&mut self, input: &[u8]) -> Result<Verdict, String>;

    /// The most memory that an input of this length may make it hold at a time.
    fn heap_bytes_max(&self, input_bytes: usize) -> usize;

    /// Whether inputs have one length, which mutations mostly keep.
    fn is_fixed_length(&self) -> bool {
        false
    }
}
