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

/// The workers' clock, read once a batch.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that starts now. Workers that hand packets to each other share one.
    pub fn start() -> Self {
        Clock(std::time::Instant::now())
    }

    /// The time.
    #[inline]
    pub fn tick(&self) -> Time {
        Time(self.0.elapsed().as_nanos() as u64)
    }
}
