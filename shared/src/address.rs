//! Addresses, ports and tuples, as the packet path and the control side both see them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// A transport protocol that Services can have. The discriminant is the IANA protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
    /// RFC 9260.
    Sctp = 132,
}

impl Protocol {
    /// The protocol with this IANA number, when a Service can have it.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }

    /// The IANA number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// True for broadcast and multicast.
    pub fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a MAC address; write six hexadecimal bytes as 02:00:00:00:00:01");
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(MacAddress(bytes)) }
    }
}

/// The lookup key of a Service's port: VIP, protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// The VIP (or the node's address for a NodePort).
    pub address: IpAddr,
    /// The protocol of the service port.
    pub protocol: Protocol,
    /// The port number, in host byte order.
    pub port: u16,
}

/// Three words, where the derived one feeds the hasher byte by byte: every new flow pays for it.
impl Hash for Frontend {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = address_words(self.address);
        state.write_u64(high);
        state.write_u64(low);
        state.write_u32(u32::from(self.port) << 8 | u32::from(self.protocol.number()));
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol, SocketAddr::new(self.address, self.port))
    }
}

/// One direction of a flow: source, destination and protocol, packed into five words so that comparing and hashing it
/// costs a handful of instructions. IPv4 addresses are held in their IPv4-mapped form and told apart by the family in the
/// last word, so a real IPv6 packet from `::ffff:a.b.c.d` never matches an IPv4 flow.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FiveTuple {
    /// Source address, most significant half first.
    pub source: [u64; 2],
    /// Destination address, most significant half first.
    pub destination: [u64; 2],
    /// Source port (bits 48–63), destination port (32–47), 1 for IPv6 (8), protocol number (0–7).
    pub ports: u64,
}

const V4_MAPPED: u64 = 0xffff << 32;

/// The two words of an address: IPv4 in its IPv4-mapped form.
#[inline]
pub fn address_words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(v4) => [0, V4_MAPPED | u64::from(v4.to_bits())],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [(bits >> 64) as u64, bits as u64]
        }
    }
}

/// The address of two words, the inverse of [`address_words`].
#[inline]
pub fn address_of_words(words: [u64; 2], family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(words[1] as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits((u128::from(words[0]) << 64) | u128::from(words[1]))),
    }
}

impl FiveTuple {
    /// The tuple of a packet from `source` to `destination`; both addresses are of one family.
    #[inline]
    pub fn new(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Self {
        Self::from_parts(protocol, source.ip(), source.port(), destination.ip(), destination.port())
    }

    /// The tuple from its five parts; both addresses are of one family.
    #[inline]
    pub fn from_parts(protocol: Protocol, source: IpAddr, source_port: u16, destination: IpAddr, port: u16) -> Self {
        debug_assert_eq!(source.is_ipv4(), destination.is_ipv4());
        FiveTuple {
            source: address_words(source),
            destination: address_words(destination),
            ports: u64::from(source_port) << 48
                | u64::from(port) << 32
                | u64::from(source.is_ipv6()) << 8
                | u64::from(protocol.number()),
        }
    }

    /// The address family.
    #[inline]
    pub fn family(&self) -> Family {
        if self.ports & 0x100 == 0 { Family::V4 } else { Family::V6 }
    }

    /// The protocol.
    #[inline]
    pub fn protocol(&self) -> Protocol {
        // Only the constructors write the low byte, from a Protocol.
        Protocol::from_number(self.ports as u8).unwrap_or(Protocol::Tcp)
    }

    /// The source address.
    #[inline]
    pub fn source_address(&self) -> IpAddr {
        address_of_words(self.source, self.family())
    }

    /// The destination address.
    #[inline]
    pub fn destination_address(&self) -> IpAddr {
        address_of_words(self.destination, self.family())
    }

    /// The source port, host byte order.
    #[inline]
    pub fn source_port(&self) -> u16 {
        (self.ports >> 48) as u16
    }

    /// The destination port, host byte order.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        (self.ports >> 32) as u16
    }

    /// Destination address, protocol and port: the key of the frontend this packet asks for.
    #[inline]
    pub fn frontend(&self) -> Frontend {
        Frontend { address: self.destination_address(), protocol: self.protocol(), port: self.destination_port() }
    }

    /// Source and destination exchanged.
    #[inline]
    pub fn reversed(&self) -> Self {
        FiveTuple {
            source: self.destination,
            destination: self.source,
            ports: u64::from(self.destination_port()) << 48
                | u64::from(self.source_port()) << 32
                | (self.ports & 0xffff_ffff),
        }
    }

    /// A well-mixed 64-bit hash under `seed`: folded 64×64→128-bit multiplications, as wyhash and foldhash use them.
    #[inline]
    pub fn hash(&self, seed: u64) -> u64 {
        let a = fold(self.source[0] ^ 0x9e37_79b9_7f4a_7c15 ^ seed, self.source[1] ^ 0xa076_1d64_78bd_642f);
        let b = fold(self.destination[0] ^ 0xe703_7ed1_a0b4_28db, self.destination[1] ^ 0x8ebc_6af0_9c88_c6e3 ^ seed);
        fold(a ^ self.ports ^ 0x5899_65cc_7537_4cc3, b ^ 0x1d8e_4e27_c47d_124f ^ seed.rotate_left(32))
    }

    /// The hash that picks the Maglev slot: its seed is fixed, so every node and every restart agrees.
    #[inline]
    pub fn maglev_hash(&self) -> u64 {
        self.hash(MAGLEV_SEED)
    }
}

/// The seed of [`FiveTuple::maglev_hash`]. Changing it moves every connection of every user: never change it.
pub const MAGLEV_SEED: u64 = 0x52_69_6e_67_77_61_79_31; // "Ringway1"

#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

impl fmt::Debug for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = SocketAddr::new(self.source_address(), self.source_port());
        let destination = SocketAddr::new(self.destination_address(), self.destination_port());
        write!(f, "{}:{source}->{destination}", self.protocol())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuple_keeps_its_parts_and_reverses() {
        for text in [["10.0.0.1:1234", "172.30.0.41:80"], ["[2001:db8::1]:65535", "[fd00::a]:1"]] {
            let [source, destination] = text.map(|text| text.parse::<SocketAddr>().unwrap());
            let tuple = FiveTuple::new(Protocol::Udp, source, destination);
            assert_eq!(SocketAddr::new(tuple.source_address(), tuple.source_port()), source);
            assert_eq!(SocketAddr::new(tuple.destination_address(), tuple.destination_port()), destination);
            assert_eq!(tuple.reversed(), FiveTuple::new(Protocol::Udp, destination, source));
            assert_eq!(tuple.reversed().reversed(), tuple);
            assert_eq!(tuple.to_string(), format!("udp:{}->{}", text[0], text[1]));
        }
    }

    #[test]
    fn an_ipv4_mapped_ipv6_source_is_another_tuple() {
        let v4 = FiveTuple::new(Protocol::Tcp, "1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap());
        let v6 = FiveTuple::new(
            Protocol::Tcp,
            "[::ffff:1.2.3.4]:5".parse().unwrap(),
            "[::ffff:6.7.8.9]:10".parse().unwrap(),
        );
        assert_ne!(v4, v6);
    }

    #[test]
    fn mac_addresses_parse_and_print() {
        let mac: MacAddress = "02:00:00:00:00:fE".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:00:00:00:fe");
        for wrong in
            ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "2:0:0:0:0:1", "02:00:00:00:00:0g", "+2:00:00:00:00:01"]
        {
            assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
        }
    }
}
