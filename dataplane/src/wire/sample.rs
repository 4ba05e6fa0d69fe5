//! Packets for tests: random valid ones, built by etherparse, and a judge of checksums that shares no code with ours.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel, Ipv6FragmentHeader,
    Ipv6Header, Ipv6RawExtHeader, Ipv6RoutingExtensions, NetSlice, PacketBuilder, SlicedPacket, TcpHeader,
    TransportSlice,
};
use proptest::prelude::*;
use ringway_shared::{FiveTuple, Protocol};

/// The L4 of a [`Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L4 {
    Tcp(u8),
    Udp,
    Sctp,
    Echo,
}

/// A packet to build.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) l4: L4,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) class: u8,
    pub(crate) identification: u16,
    pub(crate) dont_fragment: bool,
    /// IPv4: words of options. IPv6: bits that choose extension headers.
    pub(crate) extras: u8,
    pub(crate) payload: Vec<u8>,
    /// Bytes behind the IP packet.
    pub(crate) padding: usize,
}

impl Sample {
    /// A plain packet.
    pub(crate) fn new(l4: L4, source: &str, destination: &str, payload: &[u8]) -> Self {
        Sample {
            l4,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 64,
            class: 0,
            identification: 7,
            dont_fragment: true,
            extras: 0,
            payload: payload.to_vec(),
            padding: 0,
        }
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        let (ip, end) = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let options: Vec<u8> =
                    std::iter::repeat_n([1, 1, 1, 0], usize::from(self.extras % 11)).flatten().collect();
                let header = Ipv4Header {
                    dscp: (self.class >> 2).try_into().unwrap(),
                    ecn: (self.class & 3).try_into().unwrap(),
                    identification: self.identification,
                    dont_fragment: self.dont_fragment,
                    time_to_live: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    options: Ipv4Options::try_from(options.as_slice()).unwrap(),
                    ..Ipv4Header::default()
                };
                (IpHeaders::Ipv4(header, Default::default()), 1)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.class,
                    flow_label: Ipv6FlowLabel::try_new(u32::from(self.identification)).unwrap(),
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                (IpHeaders::Ipv6(header, self.extensions()), 58)
            }
            _ => panic!("mixed families"),
        };
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ip(ip);
        let (from, to) = (self.source.port(), self.destination.port());
        let mut frame = Vec::new();
        match self.l4 {
            L4::Tcp(flags) => {
                let mut header = TcpHeader::new(from, to, 0x0102_0304, 4096);
                header.acknowledgment_number = 0x0a0b_0c0d;
                header.set_options_raw(&[2, 4, 5, 180]).unwrap();
                [header.fin, header.syn, header.rst, header.psh] = [1, 2, 4, 8].map(|bit| flags & bit != 0);
                header.ack = flags & 16 != 0;
                builder.tcp_header(header).write(&mut frame, &self.payload).unwrap();
            }
            L4::Udp => builder.udp(from, to).write(&mut frame, &self.payload).unwrap(),
            L4::Sctp => {
                let mut message = [from.to_be_bytes(), to.to_be_bytes()].concat();
                message.extend([9, 8, 7, 6, 0, 0, 0, 0]);
                message.extend(&self.payload);
                let crc = slow_crc32c(&message);
                message[8..12].copy_from_slice(&crc.to_le_bytes());
                builder.write(&mut frame, IpNumber(132), &message).unwrap();
            }
            L4::Echo if end == 1 => builder.icmpv4_echo_request(from, to).write(&mut frame, &self.payload).unwrap(),
            L4::Echo => builder.icmpv6_echo_request(from, to).write(&mut frame, &self.payload).unwrap(),
        }
        frame.extend(std::iter::repeat_n(0xee, self.padding));
        frame
    }

    fn extensions(&self) -> Ipv6Extensions {
        let options = |payload: &[u8]| Ipv6RawExtHeader::new_raw(IpNumber(0), payload).unwrap();
        let has = |bit: u8| self.extras & bit != 0;
        Ipv6Extensions {
            hop_by_hop_options: has(1).then(|| options(&[1, 4, 0, 0, 0, 0])),
            destination_options: has(2).then(|| options(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            // Type 4 with no segment left.
            routing: has(4).then(|| Ipv6RoutingExtensions {
                routing: options(&[4, 0, 0, 0, 0, 0]),
                final_destination_options: has(8).then(|| options(&[1, 4, 0, 0, 0, 0])),
            }),
            fragment: has(16).then(|| Ipv6FragmentHeader::new(IpNumber(0), IpFragOffset::ZERO, false, 99)),
            auth: None,
        }
    }

    /// The tuple that the parser should see.
    pub(crate) fn tuple(&self) -> FiveTuple {
        let v6 = self.source.is_ipv6();
        let protocol = match self.l4 {
            L4::Tcp(_) => 6,
            L4::Udp => 17,
            L4::Sctp => 132,
            L4::Echo => 1 + 57 * u64::from(v6),
        };
        let mut tuple = FiveTuple::new(Protocol::Tcp, self.source, self.destination);
        tuple.ports = (tuple.ports & !0xff) | protocol;
        if self.l4 == L4::Echo {
            tuple.ports &= 0xffff_ffff;
        }
        tuple
    }
}

/// Two ends of one family, none of which is impossible.
fn ends(v6: bool) -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let end = (1u8..=126, any::<[u8; 15]>(), any::<u16>()).prop_map(move |(first, rest, port)| {
        let mut address = [if v6 { 0x20 } else { first }; 16];
        address[1..].copy_from_slice(&rest);
        let [a, b, c, d, ..] = address;
        SocketAddr::new(if v6 { address.into() } else { [a, b, c, d].into() }, port)
    });
    (end.clone(), end).prop_filter("land", |(source, destination)| source != destination)
}

/// Any valid packet.
pub(crate) fn samples() -> impl Strategy<Value = Sample> {
    let l4 = prop_oneof![(0u8..32).prop_map(L4::Tcp), Just(L4::Udp), Just(L4::Sctp), Just(L4::Echo)];
    let header = (any::<u8>(), any::<u16>(), any::<bool>(), any::<u8>());
    (l4, any::<bool>().prop_flat_map(ends), 2u8.., header, proptest::collection::vec(any::<u8>(), 0..1500), 0usize..20)
        .prop_filter("an echo request has no ports to tell land", |(l4, (source, destination), ..)| {
            *l4 != L4::Echo || source.ip() != destination.ip()
        })
        .prop_map(
            |(l4, (source, destination), ttl, (class, identification, dont_fragment, extras), payload, padding)| {
                Sample { l4, source, destination, ttl, class, identification, dont_fragment, extras, payload, padding }
            },
        )
}

/// Other ends of the same family as `tuple`, as a tuple of the same protocol.
pub(crate) fn other_ends(tuple: FiveTuple) -> impl Strategy<Value = FiveTuple> {
    ends(!tuple.source_address().is_ipv4()).prop_map(move |(source, destination)| {
        let mut to = FiveTuple::new(Protocol::Tcp, source, destination);
        to.ports = (to.ports & !0xff) | (tuple.ports & 0xff);
        to
    })
}

/// CRC32c bit by bit.
fn slow_crc32c(bytes: &[u8]) -> u32 {
    let mut register = !0u32;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = (register >> 1) ^ (0x82f6_3b78 & (register & 1).wrapping_neg());
        }
    }
    !register
}

/// What etherparse says of every checksum in `frame`: an error names the one that is wrong.
pub(crate) fn judge(frame: &[u8]) -> Result<(), String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let wrong = |what: &str, is: u32, right: u32| {
        if is == right { Ok(()) } else { Err(format!("{what} is {is:#x}, right is {right:#x}")) }
    };
    let (ends, payload) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            wrong("IPv4 header checksum", header.header_checksum.into(), header.calc_header_checksum().into())?;
            (Ends::V4(header.source, header.destination), ip.payload())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            (Ends::V6(header.source, header.destination), ip.payload())
        }
        _ => return Err("no IP".into()),
    };
    let (is, right) = match (&sliced.transport, ends) {
        (Some(TransportSlice::Tcp(tcp)), Ends::V4(source, destination)) => {
            (tcp.checksum(), tcp.to_header().calc_checksum_ipv4_raw(source, destination, tcp.payload()).unwrap())
        }
        (Some(TransportSlice::Tcp(tcp)), Ends::V6(source, destination)) => {
            (tcp.checksum(), tcp.to_header().calc_checksum_ipv6_raw(source, destination, tcp.payload()).unwrap())
        }
        (Some(TransportSlice::Udp(udp)), Ends::V4(source, destination)) => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv4_raw(source, destination, udp.payload()).unwrap())
        }
        (Some(TransportSlice::Udp(udp)), Ends::V6(source, destination)) => {
            (udp.checksum(), udp.to_header().calc_checksum_ipv6_raw(source, destination, udp.payload()).unwrap())
        }
        (Some(TransportSlice::Icmpv4(icmp)), _) => (icmp.checksum(), icmp.icmp_type().calc_checksum(icmp.payload())),
        (Some(TransportSlice::Icmpv6(icmp)), Ends::V6(source, destination)) => {
            (icmp.checksum(), icmp.icmp_type().calc_checksum(source, destination, icmp.payload()).unwrap())
        }
        _ if payload.ip_number == IpNumber(132) => {
            let mut message = payload.payload.to_vec();
            let is = u32::from_le_bytes(message[8..12].try_into().unwrap());
            message[8..12].fill(0);
            return wrong("SCTP CRC", is, slow_crc32c(&message));
        }
        other => return Err(format!("no L4: {other:?}")),
    };
    wrong("L4 checksum", is.into(), right.into())
}

#[derive(Clone, Copy, Debug)]
enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}
