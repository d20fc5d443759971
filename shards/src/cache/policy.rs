//! Which frame to give up when memory is needed.

use crate::tree::PageRef;

/// An eviction policy over numbered frames. It never sees a page, only that one came, was used or
/// went.
pub(crate) trait Policy: Default {
    /// A page was put into `frame`. Its name lets a policy recognise what it gave up before.
    fn inserted(&mut self, frame: usize, page: PageRef);

    /// The page in `frame` was asked for.
    fn hit(&mut self, frame: usize);

    /// `frame` is empty again.
    fn removed(&mut self, frame: usize);

    /// The frame to give up next, among those that may be; `None` when none may.
    fn victim(&mut self, may_evict: impl FnMut(usize) -> bool) -> Option<usize>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Empty,
    Cold,
    Hot,
}

/// CLOCK: a hit sets one mark, the hand clears it and takes the first frame without.
///
/// A page begins cold, so that one scan over many pages does not push out what is used twice.
/// Source: Corbató, "A Paging Experiment with the Multics System", 1968.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    marks: Vec<Mark>,
    hand: usize,
}

impl Policy for Clock {
    fn inserted(&mut self, frame: usize, _page: PageRef) {
        if frame >= self.marks.len() {
            self.marks.resize(frame + 1, Mark::Empty);
        }
        self.marks[frame] = Mark::Cold;
    }

    #[inline]
    fn hit(&mut self, frame: usize) {
        self.marks[frame] = Mark::Hot;
    }

    fn removed(&mut self, frame: usize) {
        self.marks[frame] = Mark::Empty;
    }

    fn victim(&mut self, mut may_evict: impl FnMut(usize) -> bool) -> Option<usize> {
        // The first turn may do no more than cool every frame; the second then finds one, if any
        // may be evicted at all.
        for _ in 0..2 * self.marks.len() {
            let frame = self.hand;
            self.hand = (frame + 1) % self.marks.len();
            match self.marks[frame] {
                Mark::Hot => self.marks[frame] = Mark::Cold,
                Mark::Cold if may_evict(frame) => return Some(frame),
                Mark::Cold | Mark::Empty => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_hit_survives_one_turn_of_the_hand() {
        let mut clock = Clock::default();
        (0..3).for_each(|frame| clock.inserted(frame, PageRef::NONE));
        clock.hit(0);
        assert_eq!(clock.victim(|_| true), Some(1));
        clock.removed(1);
        assert_eq!(clock.victim(|_| true), Some(2));
        clock.removed(2);
        assert_eq!(clock.victim(|_| true), Some(0));
        clock.removed(0);
        assert_eq!(clock.victim(|_| true), None);
    }

    #[test]
    fn a_pinned_frame_is_passed_over() {
        let mut clock = Clock::default();
        (0..3).for_each(|frame| clock.inserted(frame, PageRef::NONE));
        assert_eq!(clock.victim(|frame| frame == 2), Some(2));
        assert_eq!(clock.victim(|_| false), None);
    }
}
