//! What a port counts.

/// What a port counts besides what the worker does. All but `kicks` stay 0 while nothing is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// System calls that woke the kernel for transmit or receive.
    pub kicks: u64,
    /// Transmit kicks after which the kernel wanted another (EAGAIN).
    pub kicks_again: u64,
    /// Transmit kicks that found the peer down or its queue full (EBUSY).
    pub kicks_busy: u64,
    /// Transmit kicks that found the interface down (ENETDOWN).
    pub kicks_down: u64,
    /// Kicks that failed otherwise.
    pub kicks_failed: u64,
    /// Descriptors from the kernel that lay outside the UMEM.
    pub invalid: u64,
    /// Packets that offloads had merged and that were cut again (generic mode).
    pub large_cut: u64,
    /// Packets larger than a frame that were lost, because they cannot be cut or no frame was free.
    pub large_lost: u64,
}

impl PortCounters {
    /// Kicks that failed because something is wrong; EAGAIN is not.
    pub fn kick_errors(&self) -> u64 {
        self.kicks_busy + self.kicks_down + self.kicks_failed
    }
}
