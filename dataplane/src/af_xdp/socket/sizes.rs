//! How large a port's rings are.

/// The numbers of entries of a port's rings, which are powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Free chunks for the kernel.
    pub fill: u32,
    /// Chunks of sent packets, from the kernel.
    pub completion: u32,
    /// Received packets.
    pub receive: u32,
    /// Packets to send.
    pub transmit: u32,
    /// No ring of ours: how many chunks the driver's own receive ring can hold, in zero-copy mode.
    pub driver: u32,
}

impl RingSizes {
    /// 2048 each: at two million packets a second a millisecond of waiting loses nothing.
    pub const DEFAULT: RingSizes = RingSizes { fill: 2048, completion: 2048, receive: 2048, transmit: 2048, driver: 0 };

    /// The most entries of a ring that are made for a NIC.
    const MOST: u32 = 8192;

    /// For zero-copy on a NIC whose receive ring has so many descriptors. The driver takes as many chunks when the socket is
    /// bound, so the fill ring has them all. From then on it takes one for each packet that it delivers, of which the receive
    /// ring holds no more than the fill ring: the fill ring is not empty before packets are lost for want of a reader.
    pub fn for_nic(descriptors: u32) -> Self {
        let fill = descriptors.clamp(Self::DEFAULT.fill, Self::MOST).next_power_of_two();
        RingSizes { fill, driver: descriptors.min(Self::MOST), ..Self::DEFAULT }
    }

    /// The fewest entries of a ring: two batches.
    const FEWEST: u32 = 128;

    /// Rings of half the size, for where memory is short; `None` when these are the smallest. What the driver's own ring takes
    /// stays the same.
    pub fn halved(&self) -> Option<Self> {
        let half = |entries: u32| (entries / 2).max(Self::FEWEST);
        let halved = RingSizes {
            fill: half(self.fill),
            completion: half(self.completion),
            receive: half(self.receive),
            transmit: half(self.transmit),
            driver: self.driver,
        };
        (halved.frames() < self.frames()).then_some(halved)
    }

    /// How many chunks all of them can hold at once: what a port needs of its UMEM so that nobody starves.
    pub fn frames(&self) -> u32 {
        self.fill + self.completion + self.receive + self.transmit + self.driver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fill_ring_holds_what_the_driver_takes_at_once() {
        let sizes = |descriptors| {
            let sizes = RingSizes::for_nic(descriptors);
            (sizes.fill, sizes.receive, sizes.frames())
        };
        assert_eq!(sizes(0), (2048, 2048, 8192));
        assert_eq!(sizes(256), (2048, 2048, 8448));
        assert_eq!(sizes(2048), (2048, 2048, 10240));
        assert_eq!(sizes(2049), (4096, 2048, 12289));
        assert_eq!(sizes(4078), (4096, 2048, 14318));
        assert_eq!(sizes(8192), (8192, 2048, 22528));
        assert_eq!(sizes(1 << 20), (8192, 2048, 22528));
    }

    #[test]
    fn rings_are_halved_down_to_two_batches() {
        let sizes = std::iter::successors(Some(RingSizes::for_nic(4078)), RingSizes::halved);
        let sizes: Vec<_> = sizes.map(|sizes| (sizes.fill, sizes.receive, sizes.driver)).collect();
        let most = [(4096, 2048, 4078), (2048, 1024, 4078), (1024, 512, 4078), (512, 256, 4078)];
        assert_eq!(sizes, [&most[..], &[(256, 128, 4078), (128, 128, 4078)]].concat());
    }
}
