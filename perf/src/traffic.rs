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

/// Flows that share a client address.
const PORTS_A_CLIENT: u32 = 16_384;
/// The first client port.
const FIRST_PORT: u16 = 16_384;

impl Mix {
    /// Writes the frame of flow `flow`, with `stamp` at the end of its payload when there is room.
    pub fn write(&self, flow: u32, stamp: u64, frame: &mut [u8]) -> usize {
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
        let at = payload.len().saturating_sub(8);
        if let Some(place) = payload.get_mut(at..at + 8) {
            place.copy_from_slice(&stamp.to_be_bytes());
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
            let length = mix.write(flow, 7, &mut frame);
            let packet = ringway_dataplane::wire::Packet::parse(&frame[..length]).unwrap();
            assert_eq!(packet.tuple.destination_port(), 53);
            assert!(seen.insert(packet.tuple));
        }
    }
}
