//! What a port leaves behind.

use crate::af_xdp::Umem;
use crate::af_xdp::umem::Holder;

/// What is left of a closed port: its chunks.
#[derive(Debug)]
#[must_use = "the chunks that the kernel held are lost until they are reclaimed"]
pub struct Closed {
    holder: Holder,
    umem: u32,
}

impl Closed {
    pub(super) fn new(holder: Holder, umem: u32) -> Self {
        Closed { holder, umem }
    }

    /// Frees the port's chunks; how many. At once after copy mode; after zero-copy wait a second, until the driver has
    /// let go of them.
    pub fn reclaim(self, umem: &mut Umem) -> u32 {
        debug_assert_eq!(umem.id(), self.umem, "the UMEM of another worker");
        if umem.id() == self.umem { umem.reclaim(self.holder) } else { 0 }
    }
}
