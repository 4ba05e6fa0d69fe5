//! What a load consists of: flows, sizes, and the frames they make.

mod sizes;
mod stamp;

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ringway_dataplane::wire::checksum;
use ringway_shared::{FiveTuple, MacAddress, Protocol};

use crate::failure::Failure;
pub use sizes::{LONGEST, MOST_SIZES, SizeList, Sizes};
pub use stamp::{MAGIC, STAMP, Stamp, now};

/// Flows that share a client address.
const PORTS_A_CLIENT: u32 = 16_384;
/// The first client port.
const FIRST_PORT: u16 = 16_384;
/// The most flows of a mix: clients in 10.0.0.0/8 would just be enough for them.
pub const MOST_FLOWS: u32 = 16_777_216;

const ETHERNET: usize = 14;
/// The first segment of a TCP flow.
pub const SYN: u8 = 0x02;
/// Every other: data, and what the other side sent is acknowledged.
pub const PSH_ACK: u8 = 0x18;

/// Protocol and address family of a mix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UDP over IPv4, without checksums.
    #[default]
    Udp4,
    /// TCP over IPv4.
    Tcp4,
    /// UDP over IPv6.
    Udp6,
    /// TCP over IPv6.
    Tcp6,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 4] = [Kind::Udp4, Kind::Tcp4, Kind::Udp6, Kind::Tcp6];

    /// The kind of a protocol between addresses of a family.
    pub fn of(is_tcp: bool, is_v6: bool) -> Self {
        match (is_tcp, is_v6) {
            (false, false) => Kind::Udp4,
            (true, false) => Kind::Tcp4,
            (false, true) => Kind::Udp6,
            (true, true) => Kind::Tcp6,
        }
    }

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Udp4 => "udp4",
            Kind::Tcp4 => "tcp4",
            Kind::Udp6 => "udp6",
            Kind::Tcp6 => "tcp6",
        }
    }

    /// Whether it is TCP.
    pub fn is_tcp(self) -> bool {
        matches!(self, Kind::Tcp4 | Kind::Tcp6)
    }

    /// Whether it is over IPv6.
    pub fn is_v6(self) -> bool {
        matches!(self, Kind::Udp6 | Kind::Tcp6)
    }

    /// The protocol.
    pub fn protocol(self) -> Protocol {
        if self.is_tcp() { Protocol::Tcp } else { Protocol::Udp }
    }

    /// Where the TCP or UDP header starts.
    pub fn l4(self) -> usize {
        ETHERNET + if self.is_v6() { 40 } else { 20 }
    }

    /// Where the payload starts: the length of all headers.
    pub fn payload(self) -> usize {
        self.l4() + if self.is_tcp() { 20 } else { 8 }
    }

    /// The shortest frame, in bytes without check sequence: what Ethernet asks for, or the headers.
    pub fn shortest(self) -> usize {
        self.payload().max(60)
    }

    /// The shortest frame that has room for a stamp.
    pub fn shortest_stamped(self) -> usize {
        self.payload() + STAMP
    }
}

impl Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Kind::ALL.into_iter().find(|kind| kind.label() == text).ok_or_else(|| {
            format!("{text:?} is no kind of traffic; allowed are {}", Kind::ALL.map(Kind::label).join(", "))
        })
    }
}

/// A mix of flows to one frontend: flow `n` has its own client address and port. Every frame picks a flow and a size at
/// random.
///
/// The first frame of a TCP flow is a SYN, all others are data; none waits for an answer, so this is a load for
/// whatever forwards, not a conversation with a server.
#[derive(Clone, Debug)]
pub struct Mix {
    /// What the frames are.
    pub kind: Kind,
    /// How many flows.
    pub flows: u32,
    /// Ethernet frame lengths in bytes without check sequence.
    pub sizes: Sizes,
    /// Where frames go.
    pub destination_mac: MacAddress,
    /// Where frames come from.
    pub source_mac: MacAddress,
    /// The first client address; flows count up from it.
    pub first_client: IpAddr,
    /// The frontend.
    pub destination: SocketAddr,
}

impl Mix {
    /// Checks what could not be sent.
    pub fn check(&self) -> Result<(), Failure> {
        let family = |is_v6| if is_v6 { "an IPv6" } else { "an IPv4" };
        for (what, address) in [("client", self.first_client), ("frontend", self.destination.ip())] {
            if address.is_ipv6() != self.kind.is_v6() {
                let wanted = family(self.kind.is_v6());
                return Err(Failure(format!("the {what} {address}: {} takes {wanted} address", self.kind)));
            }
        }
        if self.flows == 0 || self.flows > MOST_FLOWS {
            return Err(Failure(format!("{} flows: allowed are 1 to {MOST_FLOWS}", self.flows)));
        }
        let shortest = self.kind.shortest();
        match self.sizes.as_slice().iter().find(|size| **size < shortest) {
            Some(size) => Err(Failure(format!(
                "frames of {size} bytes: the shortest of {} have {shortest}; allowed are {shortest} to {LONGEST}",
                self.kind
            ))),
            None => Ok(()),
        }
    }

    /// One of the sizes.
    #[inline]
    pub fn pick_size(&self, random: &mut Random) -> usize {
        sizes::pick(&self.sizes, random)
    }

    /// The TCP flags of a flow's first frame, or of another.
    pub fn flags(is_first: bool) -> u8 {
        if is_first { SYN } else { PSH_ACK }
    }

    /// The five-tuple of a flow, as the client sends it.
    pub fn tuple(&self, flow: u32) -> FiveTuple {
        let steps = flow / PORTS_A_CLIENT;
        let address = match self.first_client {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(steps))),
            // Only the last 32 bits count up: more flows than that there are none.
            IpAddr::V6(first) => {
                let bits = first.to_bits();
                let last = (bits as u32).wrapping_add(steps);
                IpAddr::V6(Ipv6Addr::from_bits(bits >> 32 << 32 | u128::from(last)))
            }
        };
        let port = FIRST_PORT + (flow % PORTS_A_CLIENT) as u16;
        FiveTuple::new(self.kind.protocol(), SocketAddr::new(address, port), self.destination)
    }

    /// Writes a frame of `size` bytes of flow `flow`; its length. `flags` are those of TCP. The stamp is left out where
    /// there is no room for it. Payload behind its place stays as it was: `frame` must be zero there, as it is when only
    /// this mix ever wrote into it.
    pub fn write(&self, flow: u32, size: usize, flags: u8, stamp: Stamp, frame: &mut [u8]) -> usize {
        let (l4, payload) = (self.kind.l4(), self.kind.payload());
        let size = size.max(self.kind.shortest()).min(frame.len());
        let Some(frame) = frame.get_mut(..size).filter(|frame| frame.len() >= payload) else { return 0 };
        let tuple = self.tuple(flow);
        let (ethernet, rest) = frame.split_at_mut(ETHERNET);
        ethernet[..6].copy_from_slice(&self.destination_mac.0);
        ethernet[6..12].copy_from_slice(&self.source_mac.0);
        let (ip, transport) = rest.split_at_mut(l4 - ETHERNET);
        let (length, l4_length) = ((size - ETHERNET) as u16, (size - l4) as u16);
        match (tuple.source_address(), tuple.destination_address()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet[12..].copy_from_slice(&[0x08, 0x00]);
                let protocol = self.kind.protocol().number();
                ip.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
                ip[2..4].copy_from_slice(&length.to_be_bytes());
                ip[12..16].copy_from_slice(&source.octets());
                ip[16..20].copy_from_slice(&destination.octets());
                let sum = checksum::checksum(ip);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (source, destination) => {
                ethernet[12..].copy_from_slice(&[0x86, 0xdd]);
                ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
                ip[4..6].copy_from_slice(&l4_length.to_be_bytes());
                ip[6..8].copy_from_slice(&[self.kind.protocol().number(), 64]);
                ip[8..24].copy_from_slice(&octets(source));
                ip[24..40].copy_from_slice(&octets(destination));
            }
        }
        let (header, data) = transport.split_at_mut(payload - l4);
        header[..2].copy_from_slice(&tuple.source_port().to_be_bytes());
        header[2..4].copy_from_slice(&tuple.destination_port().to_be_bytes());
        let mut sum = u64::from(checksum::pseudo_header(&tuple, self.kind.protocol().number(), l4_length));
        if let Some(place) = data.first_chunk_mut::<STAMP>() {
            *place = stamp.bytes();
            sum += u64::from(checksum::sum(place));
        } else {
            // Part of an earlier stamp.
            data.fill(0);
        }
        if self.kind.is_tcp() {
            header[4..].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
            let value = !checksum::fold(sum + u64::from(checksum::sum(header)));
            header[16..18].copy_from_slice(&value.to_be_bytes());
        } else {
            header[4..6].copy_from_slice(&l4_length.to_be_bytes());
            header[6..8].copy_from_slice(&[0, 0]);
            // Over IPv4 it is optional. A checksum of 0 would say that there is none.
            if self.kind.is_v6() {
                let value = match !checksum::fold(sum + u64::from(checksum::sum(header))) {
                    0 => 0xffff,
                    value => value,
                };
                header[6..8].copy_from_slice(&value.to_be_bytes());
            }
        }
        size
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
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
mod tests;
