//! What a load consists of: flows, sizes, and the frames they make.

use std::net::Ipv4Addr;

use ringway_shared::MacAddress;

/// A mix of UDP flows over IPv4: flow `n` has its own client address and port.
#[derive(Clone, Debug)]
pub struct Mix {
    /// How many flows.
    pub flows: u32,
    /// Ethernet frame length in bytes without check sequence, at least 60.
    pub size: usize,
    /// Where frames go.
    pub destination_mac: MacAddress,
    /// Where frames come from.
    pub source_mac: MacAddress,
    /// The first client address; flows count up from it.
    pub first_client: Ipv4Addr,
    /// The frontend.
    pub destination: (Ipv4Addr, u16),
}

/// What a frame carries for the recorder: the last 16 bytes of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the frame in its load.
    pub sequence: u64,
    /// When it was written: [`now`].
    pub nanos: u64,
}

impl Stamp {
    /// The stamp of a received frame, when it has the length for one.
    #[inline]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (sequence, nanos) = frame.get(42..)?.last_chunk::<16>()?.split_at(8);
        let word = |bytes: &[u8]| bytes.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes));
        Some(Stamp { sequence: word(sequence)?, nanos: word(nanos)? })
    }
}

/// The monotonic clock, which all processes of a machine share, in nanoseconds.
#[inline]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Flows that share a client address.
const PORTS_A_CLIENT: u32 = 16_384;
/// The first client port.
const FIRST_PORT: u16 = 16_384;

impl Mix {
    /// Writes the frame of flow `flow`, with `stamp` at the end of its payload, which every frame has room for.
    pub fn write(&self, flow: u32, stamp: Stamp, frame: &mut [u8]) -> usize {
        let size = self.size.clamp(60, frame.len());
        let Some(frame) = frame.get_mut(..size) else { return 0 };
        let client = Ipv4Addr::from_bits(self.first_client.to_bits() + flow / PORTS_A_CLIENT);
        let port = FIRST_PORT + (flow % PORTS_A_CLIENT) as u16;
        let (ethernet, ip) = frame.split_at_mut(14);
        ethernet[..6].copy_from_slice(&self.destination_mac.0);
        ethernet[6..12].copy_from_slice(&self.source_mac.0);
        ethernet[12..].copy_from_slice(&[8, 0]);
        let length = (size - 14) as u16;
        let (header, udp) = ip.split_at_mut(20);
        header.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&client.octets());
        header[16..20].copy_from_slice(&self.destination.0.octets());
        let sum = !ringway_dataplane::wire::checksum::sum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        udp[..2].copy_from_slice(&port.to_be_bytes());
        udp[2..4].copy_from_slice(&self.destination.1.to_be_bytes());
        udp[4..6].copy_from_slice(&(length - 20).to_be_bytes());
        // No checksum: it is optional over IPv4, and the stamp would change it.
        udp[6..8].copy_from_slice(&[0, 0]);
        let payload = &mut udp[8..];
        if let Some(place) = payload.last_chunk_mut::<16>() {
            let (sequence, nanos) = place.split_at_mut(8);
            sequence.copy_from_slice(&stamp.sequence.to_be_bytes());
            nanos.copy_from_slice(&stamp.nanos.to_be_bytes());
        }
        size
    }
}

/// A small generator of evenly distributed numbers: the same sequence every time.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u32) -> u32 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32;
        ((u64::from(high) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_can_be_read_and_flows_differ() {
        let mix = Mix {
            flows: 40_000,
            size: 60,
            destination_mac: MacAddress([2; 6]),
            source_mac: MacAddress([4; 6]),
            first_client: Ipv4Addr::new(198, 18, 0, 1),
            destination: (Ipv4Addr::new(192, 0, 2, 1), 53),
        };
        let mut frame = [0; 128];
        let mut seen = std::collections::HashSet::new();
        for flow in 0..mix.flows {
            let stamp = Stamp { sequence: u64::from(flow), nanos: 7 };
            let length = mix.write(flow, stamp, &mut frame);
            let packet = ringway_dataplane::wire::Packet::parse(&frame[..length]).unwrap();
            assert_eq!(packet.tuple.destination_port(), 53);
            assert_eq!(Stamp::read(&frame[..length]), Some(stamp));
            assert!(seen.insert(packet.tuple));
        }
    }
}
