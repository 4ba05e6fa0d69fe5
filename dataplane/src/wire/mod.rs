//! What a frame says: one parse with one check of every length, and offsets that later steps may rely on.
//!
//! [`Packet::parse`] reads a frame once. A packet it accepts has whole headers up to and including L4, an IPv4 header
//! checksum that is right, and lengths that lie within the frame; the L4 checksum is the receiver's business. What it
//! refuses is either not ours to judge ([`Refusal::Foreign`]: ARP, VLAN tags, LLDP, …) or broken ([`Invalid`]), with
//! whatever could still be read, since a broken packet for somebody else passes untouched.

pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
#[cfg(test)]
mod noise;
pub(crate) mod quote;
#[cfg(test)]
pub(crate) mod sample;
pub mod sctp;
pub mod spread;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod udp;
mod usual;
pub mod vlan;

use std::net::IpAddr;

use ringway_shared::address::address_of_words;
use ringway_shared::{DropReason, Family, FiveTuple, Frontend, MacAddress, Protocol};

/// What follows the IP headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment.
    Tcp {
        /// Its control bits.
        flags: tcp::Flags,
        /// Whether it carries data.
        payload: bool,
    },
    /// A UDP datagram.
    Udp,
    /// An SCTP packet.
    Sctp,
    /// ICMP over IPv4 or ICMPv6 over IPv6.
    Icmp {
        /// What it asks of us.
        class: icmp::Class,
        /// Its type.
        icmp_type: u8,
        /// Its code.
        code: u8,
    },
    /// Any other protocol, by its number.
    Other(u8),
    /// A fragment but the first: it has no L4 header, whatever the protocol.
    LaterFragment {
        /// The protocol number (IPv6: the next header of the fragment header).
        protocol: u8,
    },
}

/// The place of a fragment in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where the fragment starts, in bytes.
    pub offset: u16,
    /// Whether more fragments follow it.
    pub more: bool,
    /// What its siblings share; 16 bits in IPv4.
    pub identification: u32,
}

/// A packet whose headers are whole, as it was when it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Addresses, ports and protocol. Ports are 0 where there are none, and then the low byte of `ports` is the real
    /// protocol number, so that no flow's tuple equals it; read the protocol from `kind`.
    pub tuple: FiveTuple,
    /// What follows the IP headers.
    pub kind: Kind,
    /// Its place when it is a fragment. An IPv6 fragment header on a whole packet (RFC 6946) makes none.
    pub fragment: Option<Fragment>,
    /// Why the packet must be dropped if it is ours: an impossible source, land, or a source route.
    pub objection: Option<DropReason>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Where the frame goes.
    pub destination_mac: MacAddress,
    /// Where the frame comes from.
    pub source_mac: MacAddress,
    /// The offset of the IP header.
    pub l3: u16,
    /// The offset of what follows the IP headers.
    pub l4: u16,
    /// The end of the IP packet. The frame may be longer (Ethernet padding) and is to be trimmed to it.
    pub end: u16,
}

/// Why there is no [`Packet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not IP in an untagged Ethernet II frame, or too short to show its addresses: passes.
    Foreign,
    /// Broken: dropped with the reason if it is for us, else it passes.
    Invalid(Invalid),
}

/// What could be read of a broken packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// What is wrong.
    pub reason: DropReason,
    /// Where the frame goes.
    pub destination_mac: MacAddress,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The whole tuple, when protocol and ports can be read.
    pub tuple: Option<FiveTuple>,
}

impl Invalid {
    /// The frontend it asks for, when protocol and port can be read.
    pub fn frontend(&self) -> Option<Frontend> {
        self.tuple.map(|tuple| tuple.frontend())
    }
}

/// What the IP headers say. Offsets are proven to lie within the frame.
struct IpHeader {
    source: [u64; 2],
    destination: [u64; 2],
    family: Family,
    /// The number of the L4 protocol.
    protocol: u8,
    ttl: u8,
    l4: usize,
    end: usize,
    fragment: Option<Fragment>,
    source_routed: bool,
}

/// The refusal of a packet that is broken before its L4 header, or about where that is.
#[cold]
#[inline(never)]
fn broken(frame: &[u8], reason: DropReason) -> Refusal {
    invalid(frame, reason, None)
}

/// The refusal of a broken packet whose L4 header is at `l4`, as far as the frame and the packet reach. A packet that
/// claims to be longer than the frame still shows its ports. The arguments are numbers, and what else is needed is read
/// once more, so that the usual way keeps nothing in memory for the sake of this one.
#[cold]
#[inline(never)]
fn broken_l4(frame: &[u8], reason: DropReason, protocol: u8, l4: usize, end: usize) -> Refusal {
    let payload = frame.get(l4..end.min(frame.len())).unwrap_or(&[]);
    invalid(frame, reason, ports(payload).map(|ports| (protocol, ports)))
}

/// What is wrong with a first fragment whose L4 header is: that it ends inside it (RFC 1858), or what is wrong anyway.
#[cold]
fn of_first_fragment(payload: &[u8], reason: DropReason) -> DropReason {
    let cut = match reason {
        DropReason::TruncatedTcp | DropReason::TruncatedUdp | DropReason::TruncatedSctp | DropReason::TruncatedIcmp => {
            true
        }
        DropReason::InvalidTcpHeader => tcp::has_whole_offset(payload),
        _ => false,
    };
    if cut { DropReason::TinyFragment } else { reason }
}

fn invalid(frame: &[u8], reason: DropReason, ports: Option<(u8, u32)>) -> Refusal {
    let Some(link) = ethernet::Header::parse(frame) else { return Refusal::Foreign };
    let (family, addresses) = match link.ether_type {
        ethernet::IPV4 => (Family::V4, ipv4::addresses(frame, ethernet::HEADER)),
        _ => (Family::V6, ipv6::addresses(frame, ethernet::HEADER)),
    };
    let Some([source, destination]) = addresses else { return Refusal::Foreign };
    let ports = ports.filter(|(protocol, _)| Protocol::from_number(*protocol).is_some());
    Refusal::Invalid(Invalid {
        reason,
        destination_mac: link.destination,
        source: address_of_words(source, family),
        destination: address_of_words(destination, family),
        tuple: ports.map(|(protocol, ports)| tuple(source, destination, family, protocol, ports)),
    })
}

/// A tuple; `ports` holds the source port in its high half and the destination port in its low half.
#[inline]
fn tuple(source: [u64; 2], destination: [u64; 2], family: Family, protocol: u8, ports: u32) -> FiveTuple {
    let ports = u64::from(ports) << 32 | u64::from(family == Family::V6) << 8 | u64::from(protocol);
    FiveTuple { source, destination, ports }
}

impl Packet {
    /// Reads `frame`, an Ethernet frame without its check sequence.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Packet, Refusal> {
        match Self::parse_usual_v4(frame) {
            Some(packet) => Ok(packet),
            None => Self::parse_any(frame),
        }
    }

    /// Reads `frame` if it is a usual one over IPv4 (see `usual`).
    #[inline(always)]
    pub(crate) fn parse_usual_v4(frame: &[u8]) -> Option<Packet> {
        usual::parse_v4(frame)
    }

    /// Reads `frame` if it is a usual one over IPv6.
    #[inline(always)]
    pub(crate) fn parse_usual_v6(frame: &[u8]) -> Option<Packet> {
        usual::parse_v6(frame)
    }

    /// Reads any frame, usual or not.
    pub(crate) fn parse_any(frame: &[u8]) -> Result<Packet, Refusal> {
        let link = frame.first_chunk::<{ ethernet::HEADER }>().ok_or(Refusal::Foreign)?;
        match ethernet::ether_type(link) {
            ethernet::IPV4 => ipv4::parse(frame, link),
            ethernet::IPV6 => ipv6::parse(frame, link),
            _ => Err(Refusal::Foreign),
        }
    }

    /// Reads what follows the IP headers. Inlined into the parser of each family, so that `ip` lives in registers: as a
    /// result handed back and forth it made parsing half as slow again.
    #[inline(always)]
    fn finish(frame: &[u8], link: &[u8; ethernet::HEADER], ip: IpHeader) -> Result<Packet, Refusal> {
        if ip.end > usize::from(u16::MAX) {
            return Err(broken_l4(frame, DropReason::TooBig, ip.protocol, ip.l4, ip.end));
        }
        let payload = frame.get(ip.l4..ip.end).unwrap_or(&[]);
        let kind = match ip.transport(payload) {
            Ok(kind) => kind,
            Err(reason) => {
                let reason = if ip.fragment.is_some() { of_first_fragment(payload, reason) } else { reason };
                return Err(broken_l4(frame, reason, ip.protocol, ip.l4, ip.end));
            }
        };
        let ports = match kind {
            Kind::Tcp { .. } | Kind::Udp | Kind::Sctp => ports(payload).unwrap_or(0),
            Kind::Icmp { .. } | Kind::Other(_) | Kind::LaterFragment { .. } => 0,
        };
        let tuple = tuple(ip.source, ip.destination, ip.family, ip.protocol, ports);
        let [destination_mac, source_mac] = ethernet::macs(link);
        Ok(Packet {
            tuple,
            kind,
            fragment: ip.fragment,
            objection: objection(&tuple, kind, ip.source_routed),
            ttl: ip.ttl,
            destination_mac,
            source_mac,
            l3: ethernet::HEADER as u16,
            l4: ip.l4 as u16,
            end: ip.end as u16,
        })
    }

    /// The address family.
    #[inline]
    pub fn family(&self) -> Family {
        self.tuple.family()
    }

    /// The length of the IP packet, to compare with an MTU.
    #[inline]
    pub fn ip_length(&self) -> u16 {
        self.end.wrapping_sub(self.l3)
    }

    /// The IP header with its options or extension headers, out of the frame that was parsed.
    pub(crate) fn ip_headers<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(usize::from(self.l3)..usize::from(self.l4))
    }

    /// L4 header and payload, out of the frame that was parsed.
    #[inline]
    pub fn transport<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        frame.get(usize::from(self.l4)..usize::from(self.end))
    }

    /// L4 header and payload, to be changed.
    #[inline]
    pub fn transport_mut<'f>(&self, frame: &'f mut [u8]) -> Option<&'f mut [u8]> {
        frame.get_mut(usize::from(self.l4)..usize::from(self.end))
    }
}

impl IpHeader {
    /// Judges the L4 header.
    #[inline(always)]
    fn transport(&self, payload: &[u8]) -> Result<Kind, DropReason> {
        if self.fragment.is_some_and(|fragment| fragment.offset != 0) {
            return Ok(Kind::LaterFragment { protocol: self.protocol });
        }
        match (self.protocol, self.family) {
            (6, _) => tcp::parse(payload),
            (17, _) => udp::parse(payload, self.fragment.is_some()),
            (132, _) => sctp::parse(payload),
            (icmp::V4, Family::V4) | (icmp::V6, Family::V6) => icmp::parse(payload, self.family),
            (other, _) => Ok(Kind::Other(other)),
        }
    }
}

/// The ports at the start of an L4 header, as one big-endian word.
#[inline]
fn ports(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|ports| u32::from_be_bytes(*ports))
}

/// What makes a packet that can be read one that must not be served.
#[inline]
fn objection(tuple: &FiveTuple, kind: Kind, source_routed: bool) -> Option<DropReason> {
    let by_tuple = match (objection_to(tuple), kind) {
        // The ports of a later fragment are not known.
        (Some(DropReason::Land), Kind::LaterFragment { .. }) => None,
        (Some(DropReason::ImpossibleSource), Kind::Icmp { class, .. }) if may_be_of_a_router(tuple, class) => None,
        (objection, _) => objection,
    };
    by_tuple.or(source_routed.then_some(DropReason::SourceRouted))
}

/// Whether this is an error that a router may have sent from its address on the link. It is to take another one (RFC 4443 2.2), and
/// not all do; what it tells is needed all the same.
#[cold]
pub(crate) fn may_be_of_a_router(tuple: &FiveTuple, class: icmp::Class) -> bool {
    class == icmp::Class::Error && tuple.family() == Family::V6 && ipv6::is_link_local(tuple.source)
}

/// What in its addresses and ports makes a packet one that must not be served: an impossible source, or land.
#[inline]
pub fn objection_to(tuple: &FiveTuple) -> Option<DropReason> {
    let impossible = match tuple.family() {
        Family::V4 => ipv4::is_impossible_source(tuple.source[1] as u32),
        Family::V6 => ipv6::is_impossible_source(tuple.source),
    };
    if impossible {
        return Some(DropReason::ImpossibleSource);
    }
    let same = tuple.source == tuple.destination && tuple.source_port() == tuple.destination_port();
    same.then_some(DropReason::Land)
}
