//! The time as the packet path sees it: an input, read once a batch.

/// Nanoseconds since some fixed moment, usually the start of the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Milliseconds, modulo 2^32 (49 days): what records keep.
    #[inline]
    pub const fn millis(self) -> u32 {
        (self.0 / 1_000_000) as u32
    }
}
