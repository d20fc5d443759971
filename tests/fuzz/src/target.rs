//! What is fuzzed.

use lightning_io::sim::Rng;

/// What a target made of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It did not come past the first checks, for this reason.
    Refused(String),
    /// It did, and this came of it.
    Accepted(String),
}

/// The most letters of an outcome.
const OUTCOME_LETTERS_MAX: usize = 64;

impl Verdict {
    /// A short name for what became of an input, the same for all inputs that fare alike: the
    /// message without its numbers, paths and quotations.
    pub fn outcome(&self) -> String {
        let (Self::Refused(message) | Self::Accepted(message)) = self;
        let mut outcome = String::new();
        for word in message
            .split('"')
            .step_by(2)
            .flat_map(str::split_whitespace)
        {
            let word = word.trim_matches(|letter: char| letter.is_ascii_punctuation());
            let word = word.replace('\'', "").to_ascii_lowercase();
            let is_plain = word.bytes().all(|byte| byte.is_ascii_lowercase());
            // Eight letters that could be digits are a checksum.
            let is_number = word.len() == 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            if word.is_empty() || !is_plain || is_number {
                continue;
            }
            if outcome.len() + word.len() >= OUTCOME_LETTERS_MAX {
                break;
            }
            if !outcome.is_empty() {
                outcome.push('_');
            }
            outcome += &word;
        }
        outcome
    }
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

    /// Whether an input fares the same as long as formats and messages stay: then a saved one has to
    /// fare as its name says.
    fn has_lasting_outcomes(&self) -> bool {
        true
    }

    /// Whether inputs have one length, which mutations mostly keep.
    fn is_fixed_length(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_a_message_without_what_differs_from_input_to_input() {
        let message = "/db/shard-000/tree, offset 4096: a page's checksum abcdefab in \"x y\" is 7";
        let outcome = Verdict::Refused(message.to_owned()).outcome();
        assert_eq!(outcome, "offset_a_pages_checksum_in_is");
        let long = "word ".repeat(40);
        assert!(Verdict::Accepted(long).outcome().len() <= OUTCOME_LETTERS_MAX);
    }
}
