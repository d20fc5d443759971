//! Bytes as a list of decisions, so that a mutation of bytes is one of decisions.

/// Reads decisions off an input; an input that has ended decides for 0.
#[derive(Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// A number below `bound`, or 0; takes as many bytes as the bound has.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound <= 1 {
            return 0;
        }
        let (mut number, mut reach) = (0, 1_usize);
        while reach < bound {
            number = number << 8 | usize::from(self.byte());
            reach = reach.saturating_mul(256);
        }
        number % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}
