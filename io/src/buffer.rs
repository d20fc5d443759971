//! Memory that a device can read and write directly.
//!
//! # Invariants
//! * A buffer starts at a multiple of [`BLOCK_BYTES`] and its length is a multiple of it.
//! * Its bytes are always initialised: a fresh buffer is zero.

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

/// The unit of alignment for files, offsets and buffers, and of what is written at once.
///
/// 4096 is the largest logical block size of the devices in use and the page size of the kernel,
/// so what is aligned to it is aligned for every device.
pub const BLOCK_BYTES: usize = 4096;

/// An owned, aligned buffer for direct I/O.
#[derive(Debug)]
pub struct IoBuf(Storage);

#[derive(Debug)]
enum Storage {
    Heap(AlignedBytes),
    /// Memory of the executor, registered with the kernel as far as it reaches.
    #[cfg(feature = "glommio")]
    Dma(::glommio::io::DmaBuffer),
    /// What a read brought. glommio cannot hand it out for writing (it panics), so the first
    /// mutable access copies it to the heap.
    #[cfg(feature = "glommio")]
    DmaRead(::glommio::io::DmaBuffer),
}

impl IoBuf {
    /// Allocates a zeroed buffer of at least `len` bytes, rounded up to whole blocks.
    pub fn zeroed(len: usize) -> Self {
        Self(Storage::Heap(AlignedBytes::zeroed(
            len.max(1).next_multiple_of(BLOCK_BYTES),
        )))
    }

    /// Allocates a buffer that holds `bytes`, padded with zeros to whole blocks.
    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut buf = Self::zeroed(bytes.len());
        buf[..bytes.len()].copy_from_slice(bytes);
        buf
    }

    /// Shortens the buffer to `len` bytes; the rest stays allocated.
    ///
    /// # Panics
    /// When `len` is not a whole number of blocks.
    pub fn truncate(&mut self, len: usize) {
        assert!(
            len > 0 && len.is_multiple_of(BLOCK_BYTES),
            "a buffer holds whole blocks"
        );
        match &mut self.0 {
            Storage::Heap(bytes) => bytes.len = bytes.len.min(len),
            #[cfg(feature = "glommio")]
            Storage::Dma(buffer) | Storage::DmaRead(buffer) => {
                buffer.trim_to_size(len.min(buffer.len()));
            }
        }
    }
}

#[cfg(feature = "glommio")]
impl IoBuf {
    /// Takes a buffer of the executor and zeroes it.
    ///
    /// The executor's own allocator is trusted with alignment only after a look.
    pub(crate) fn from_dma(mut buffer: ::glommio::io::DmaBuffer) -> Self {
        if !is_whole(buffer.as_bytes()) {
            return Self::zeroed(buffer.len());
        }
        buffer.as_bytes_mut().fill(0);
        Self(Storage::Dma(buffer))
    }

    /// Takes what a read brought, without a copy where its memory is aligned and whole.
    pub(crate) fn from_read(read: ::glommio::io::ReadResult) -> Self {
        if is_whole(&read) {
            Self(Storage::DmaRead(read.into()))
        } else {
            Self::from_slice(&read)
        }
    }

    /// The executor's buffer inside, if it is one.
    pub(crate) fn into_dma(self) -> Result<::glommio::io::DmaBuffer, Self> {
        match self.0 {
            Storage::Dma(buffer) | Storage::DmaRead(buffer) => Ok(buffer),
            heap @ Storage::Heap(_) => Err(Self(heap)),
        }
    }
}

/// Whether memory is aligned and of whole blocks, as the invariants of [`IoBuf`] ask.
#[cfg(feature = "glommio")]
fn is_whole(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.len().is_multiple_of(BLOCK_BYTES)
        && bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES)
}

impl Deref for IoBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Storage::Heap(bytes) => bytes.as_slice(),
            #[cfg(feature = "glommio")]
            Storage::Dma(buffer) | Storage::DmaRead(buffer) => buffer.as_bytes(),
        }
    }
}

impl DerefMut for IoBuf {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        #[cfg(feature = "glommio")]
        if let Storage::DmaRead(buffer) = &self.0 {
            *self = Self::from_slice(buffer.as_bytes());
        }
        match &mut self.0 {
            Storage::Heap(bytes) => bytes.as_mut_slice(),
            #[cfg(feature = "glommio")]
            Storage::Dma(buffer) | Storage::DmaRead(buffer) => buffer.as_bytes_mut(),
        }
    }
}

/// A heap allocation aligned to [`BLOCK_BYTES`].
struct AlignedBytes {
    start: NonNull<u8>,
    /// Bytes in use; never more than `allocated`.
    len: usize,
    allocated: usize,
}

impl AlignedBytes {
    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, BLOCK_BYTES).expect("a buffer is far smaller than isize::MAX")
    }

    fn zeroed(len: usize) -> Self {
        debug_assert!(len > 0 && len.is_multiple_of(BLOCK_BYTES));
        let layout = Self::layout(len);
        // SAFETY: `len` is not zero, so the layout has a size.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        Self {
            start,
            len,
            allocated: len,
        }
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` points to at least `len` bytes, initialised in `zeroed` and owned by
        // `self`.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` excludes every other access.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: `start` came from `alloc_zeroed` with this very layout.
        unsafe { alloc::dealloc(self.start.as_ptr(), Self::layout(self.allocated)) }
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

// SAFETY: the bytes are owned exclusively and have no tie to a thread.
unsafe impl Send for AlignedBytes {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBytes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_buffer_is_aligned_whole_and_zero() {
        for len in [0, 1, 4095, 4096, 4097, 1 << 20] {
            let buf = IoBuf::zeroed(len);
            assert_eq!(buf.as_ptr().addr() % BLOCK_BYTES, 0);
            assert_eq!(buf.len(), len.max(1).next_multiple_of(BLOCK_BYTES));
            assert!(buf.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_truncated_buffer_keeps_its_first_bytes() {
        let mut buf = IoBuf::from_slice(&[7; 3 * BLOCK_BYTES]);
        buf.truncate(BLOCK_BYTES);
        assert_eq!(&buf[..], &[7; BLOCK_BYTES]);
    }

    #[test]
    fn a_copied_slice_is_padded_with_zeros() {
        let buf = IoBuf::from_slice(b"abc");
        assert_eq!(&buf[..3], b"abc");
        assert!(buf[3..].iter().all(|&byte| byte == 0));
    }
}
