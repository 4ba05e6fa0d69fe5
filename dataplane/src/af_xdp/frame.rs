//! A frame: one owned chunk of a UMEM.

/// One owned chunk with a packet in it, in the form of a descriptor.
///
/// It ends in a ring or in [`Umem::free`](super::Umem::free); dropping one anywhere else loses a
/// chunk and is a bug that debug builds stop at.
#[must_use = "a frame ends in a ring or in Umem::free"]
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where the packet starts, from the start of the UMEM.
    pub(super) address: u64,
    /// The packet's length.
    pub(super) length: u32,
    /// The UMEM it belongs to; another one refuses it.
    pub(super) umem: u32,
}

impl Frame {
    /// The packet's length in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a frame is no collection")]
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Where the packet starts, from the start of the UMEM; for traces and tests.
    #[inline]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Turns the frame into what a ring holds. The chunk is the ring's from here on.
    #[inline]
    pub(crate) fn into_descriptor(self) -> (u64, u32) {
        let descriptor = (self.address, self.length);
        std::mem::forget(self);
        descriptor
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        debug_assert!(
            std::thread::panicking(),
            "the frame at {:#x} was dropped; send it or give it to Umem::free",
            self.address
        );
    }
}
