//! A bounded ring from one producer to one consumer.
//!
//! # Algorithm
//! `tail` counts the messages ever pushed and `head` those ever popped; both only grow (wrapping),
//! and a count modulo the capacity, a power of two, is a slot. Only the producer writes `tail` and
//! only the consumer writes `head`, each in a cache line of its own. Each side keeps the last value
//! that it saw of the other's index and reads the shared one again only when that value says that
//! the ring is full, or empty: a batch costs one miss, not one a message.
//!
//! # Invariants
//! * `tail - head` is between zero and the capacity.
//! * The slots from `head` up to `tail` are initialised and belong to the consumer; all others are
//!   not and belong to the producer.
//! * A slot changes owner by a release store of an index and an acquire load of it: the producer
//!   writes a slot before it publishes `tail`, the consumer reads it before it publishes `head`.
//! * There is one [`Producer`] and one [`Consumer`] of a ring. Neither can be cloned nor shared
//!   between threads, so no two pushes and no two pops overlap.

use std::cell::Cell;
use std::fmt;
use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// What both ends share.
struct Ring<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
}

impl<T> Ring<T> {
    #[inline]
    fn slot(&self, count: usize) -> &UnsafeCell<MaybeUninit<T>> {
        // The capacity is a power of two, so the mask picks the remainder.
        &self.slots[count & (self.slots.len() - 1)]
    }

    /// Takes the message out of the slot of `count`.
    ///
    /// # Safety
    /// `count` lies between `head` and `tail`, the caller is the only consumer, and it moves `head`
    /// past `count` before anybody calls this again.
    #[inline]
    unsafe fn take(&self, count: usize) -> T {
        let message = self.slot(count).with(|slot| {
            // SAFETY: the slot belongs to the consumer, who is the caller: nobody writes it.
            unsafe { slot.read() }
        });
        // SAFETY: slots between `head` and `tail` are initialised, and this one is left for good.
        unsafe { message.assume_init() }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            let count = head;
            head = head.wrapping_add(1);
            // SAFETY: both ends are gone, so this is the only consumer; `count` is below `tail`,
            // and each is taken once.
            drop(unsafe { self.take(count) });
        }
    }
}

// SAFETY: the ring hands each message from one thread to one other, which `T: Send` allows; the
// slots are never accessed by two threads at once, by the invariants above.
unsafe impl<T: Send> Sync for Ring<T> {}

/// Makes a ring of at least `slots` slots, rounded up to a power of two.
pub(super) fn ring<T>(slots: usize) -> (Producer<T>, Consumer<T>) {
    ring_at(slots, 0)
}

/// The same with counts that begin at `start`: anywhere is as good, and a test begins just below
/// the point where they wrap around.
pub(super) fn ring_at<T>(slots: usize, start: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = slots.max(1).next_power_of_two();
    let ring = Arc::new(Ring {
        slots: (0..capacity)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
        head: CachePadded::new(AtomicUsize::new(start)),
        tail: CachePadded::new(AtomicUsize::new(start)),
    });
    let producer = Producer {
        ring: Arc::clone(&ring),
        head_seen: Cell::new(start),
    };
    let consumer = Consumer {
        ring,
        tail_seen: Cell::new(start),
    };
    (producer, consumer)
}

/// The writing end.
pub(super) struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// The last `head` that this end read; the real one is not behind it.
    head_seen: Cell<usize>,
}

impl<T> Producer<T> {
    /// Appends a message, or hands it back when the ring is full.
    #[inline]
    pub(super) fn push(&self, message: T) -> Result<(), T> {
        let ring = &*self.ring;
        let capacity = ring.slots.len();
        let tail = ring.tail.load(Ordering::Relaxed);
        if tail.wrapping_sub(self.head_seen.get()) == capacity {
            self.head_seen.set(ring.head.load(Ordering::Acquire));
            if tail.wrapping_sub(self.head_seen.get()) == capacity {
                return Err(message);
            }
        }
        ring.slot(tail).with_mut(|slot| {
            // SAFETY: the slot of `tail` belongs to the producer until `tail` moves, its last
            // message was taken before `head` moved past it (acquired above), and this is the only
            // producer.
            unsafe { slot.write(MaybeUninit::new(message)) }
        });
        ring.tail.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} slots)", self.ring.slots.len())
    }
}

/// The reading end.
pub(super) struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// The last `tail` that this end read; the real one is not behind it.
    tail_seen: Cell<usize>,
}

impl<T> Consumer<T> {
    /// Takes the oldest message.
    #[inline]
    pub(super) fn pop(&self) -> Option<T> {
        let ring = &*self.ring;
        let head = ring.head.load(Ordering::Relaxed);
        if head == self.tail_seen.get() && self.is_empty() {
            return None;
        }
        // SAFETY: `head` is below a `tail` that was acquired, this is the only consumer, and
        // `head` moves on right here.
        let message = unsafe { ring.take(head) };
        ring.head.store(head.wrapping_add(1), Ordering::Release);
        Some(message)
    }

    /// Whether nothing is there now; what is pushed later may be seen later.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let tail = self.ring.tail.load(Ordering::Acquire);
        self.tail_seen.set(tail);
        self.ring.head.load(Ordering::Relaxed) == tail
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({} slots)", self.ring.slots.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::rc::Rc;

    use super::*;

    /// A small generator, so that a failing model run can be repeated.
    struct Random(u64);

    impl Random {
        fn next(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }

    #[test]
    fn a_ring_behaves_like_a_bounded_queue() {
        for seed in 1..200 {
            let mut random = Random(seed);
            let slots = crate::to_usize(1 + random.next(9));
            let (producer, consumer) = ring::<Rc<u64>>(slots);
            let capacity = slots.next_power_of_two();
            let mut model = VecDeque::new();
            let witness = Rc::new(0);
            for step in 0..500 {
                if random.next(2) == 0 {
                    let message = Rc::new(step);
                    let pushed = producer.push(Rc::clone(&message));
                    if model.len() < capacity {
                        assert_eq!(pushed, Ok(()));
                        model.push_back(message);
                    } else {
                        assert_eq!(pushed, Err(message));
                    }
                } else {
                    assert_eq!(consumer.is_empty(), model.is_empty());
                    assert_eq!(consumer.pop(), model.pop_front());
                }
            }
            drop(model);
            while consumer.pop().is_some() {}
            // What is left when both ends go is dropped with them, once.
            let left = crate::to_usize(random.next(crate::to_u64(capacity) + 1));
            for _ in 0..left {
                producer.push(Rc::clone(&witness)).unwrap();
            }
            assert_eq!(Rc::strong_count(&witness), 1 + left);
            drop(producer);
            assert_eq!(Rc::strong_count(&witness), 1 + left);
            drop(consumer);
            assert_eq!(Rc::strong_count(&witness), 1);
        }
    }

    #[test]
    fn counts_may_wrap_around() {
        let (producer, consumer) = ring_at::<u32>(4, usize::MAX - 2);
        for round in 0..6 {
            for message in 0..4 {
                assert_eq!(producer.push(round * 10 + message), Ok(()));
            }
            assert_eq!(producer.push(99), Err(99));
            for message in 0..4 {
                assert_eq!(consumer.pop(), Some(round * 10 + message));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn two_threads_see_every_message_once_and_in_order() {
        // With few slots every message is a switch between the threads, which a busy machine
        // makes slow.
        for (slots, messages) in [(1, 2_000), (2, 2_000), (64, 100_000)] {
            let (producer, consumer) = ring::<Box<u64>>(slots);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for number in 0..messages {
                        let mut message = Box::new(number);
                        while let Err(back) = producer.push(message) {
                            message = back;
                            std::thread::yield_now();
                        }
                    }
                });
                for number in 0..messages {
                    let message = loop {
                        match consumer.pop() {
                            Some(message) => break message,
                            None => std::thread::yield_now(),
                        }
                    };
                    assert_eq!(*message, number);
                }
            });
        }
    }
}
