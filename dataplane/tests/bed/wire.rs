//! Packets of tests, in all the shapes that the wire has seen, and their frames.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, TcpHeader, UdpHeader};
use ringway_shared::{Family, FiveTuple, InterfaceId, MacAddress, Protocol};

use super::network::{neighbor_mac, own_mac};
use super::sums;

/// What follows the IP headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp {
        flags: String,
        sequence: u32,
        acknowledgment: u32,
        window: u16,
    },
    Udp,
    Sctp,
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// Any other protocol: the payload is all of it.
    Other(u8),
}

/// The L4 checksum that a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    Right,
    /// The pseudo-header's sum only, as checksum offload leaves it; 0 for SCTP.
    Partial,
    /// UDP without a checksum.
    Absent,
    /// Off by a constant.
    Wrong,
}

/// What is done to a frame that would otherwise be whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Bytes written over, at an offset of the frame.
    Poke(usize, Vec<u8>),
    /// The frame ends here.
    Cut(usize),
    /// The IPv4 header checksum is made right again.
    Mend,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    pub destination_mac: MacAddress,
    pub source_mac: MacAddress,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4 identification, or that of the IPv6 fragment header.
    pub id: u32,
    pub dont_fragment: bool,
    pub flow_label: u32,
    /// IPv4 options.
    pub options: Vec<u8>,
    /// IPv6 extension headers: number, and the bytes behind the next header's number.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Offset in bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    pub transport: Transport,
    /// The verification tag of SCTP.
    pub tag: u32,
    pub tcp_options: Vec<u8>,
    pub payload: Vec<u8>,
    pub sum: Sum,
    /// Bytes behind the IP packet.
    pub padding: usize,
    pub damage: Vec<Damage>,
}

impl Wire {
    /// A packet between two ends as it arrives on `interface`.
    pub fn new(interface: InterfaceId, transport: Transport, source: SocketAddr, destination: SocketAddr) -> Self {
        Wire {
            destination_mac: own_mac(interface),
            source_mac: neighbor_mac(interface, source.ip()),
            source,
            destination,
            ttl: 64,
            tos: 0,
            id: 0,
            dont_fragment: false,
            flow_label: 0,
            options: Vec::new(),
            extensions: Vec::new(),
            fragment: None,
            transport,
            tag: 0x5c7b_1107,
            tcp_options: Vec::new(),
            payload: Vec::new(),
            sum: Sum::Right,
            padding: 0,
            damage: Vec::new(),
        }
    }

    /// The family.
    pub fn family(&self) -> Family {
        Family::of(self.source.ip())
    }

    /// The L4 protocol's number.
    pub fn number(&self) -> u8 {
        match self.transport {
            Transport::Tcp { .. } => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
            Transport::Icmp { .. } if self.family() == Family::V4 => 1,
            Transport::Icmp { .. } => 58,
            Transport::Other(number) => number,
        }
    }

    /// The tuple, for protocols with ports.
    pub fn tuple(&self) -> Option<FiveTuple> {
        Some(FiveTuple::new(Protocol::from_number(self.number())?, self.source, self.destination))
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac.0);
        frame.extend(self.source_mac.0);
        frame.extend(if self.family() == Family::V4 { [8, 0] } else { [0x86, 0xdd] });
        frame.extend(self.ip());
        frame.extend(vec![0xee; self.padding]);
        for damage in &self.damage {
            match damage {
                Damage::Poke(at, bytes) => frame[*at..at + bytes.len()].copy_from_slice(bytes),
                Damage::Cut(length) => frame.truncate(*length),
                Damage::Mend => mend(&mut frame),
            }
        }
        frame
    }

    /// The frame of the packet inside another one, as DSR sends it. Of a later fragment `destination` ends with `/PORT:PORT`,
    /// those of its flow.
    pub fn within(&self, source: &str, destination: &str) -> Vec<u8> {
        let (destination, ports) = destination.split_once('/').unwrap_or((destination, ""));
        let ends = [source, destination].map(|end| SocketAddr::new(end.parse().unwrap(), 0));
        let number = if self.family() == Family::V4 { 4 } else { 41 };
        let mut outer = Wire::new(InterfaceId(0), Transport::Other(number), ends[0], ends[1]);
        (outer.destination_mac, outer.source_mac) = (self.destination_mac, self.source_mac);
        (outer.tos, outer.payload) = (self.tos, self.ip());
        let mut sockets = [self.source, self.destination];
        for (socket, port) in sockets.iter_mut().zip(ports.split(':').filter(|port| !port.is_empty())) {
            socket.set_port(port.parse().unwrap());
        }
        let mut tuple = FiveTuple::new(Protocol::Tcp, sockets[0], sockets[1]);
        tuple.ports = tuple.ports & !0xff | u64::from(self.number());
        let hash = tuple.maglev_hash();
        if outer.family() == Family::V6 {
            outer.flow_label = hash as u32 & 0xf_ffff;
        } else if self.dont_fragment || self.family() == Family::V6 {
            outer.dont_fragment = true;
        } else {
            let place = self.fragment.map_or(0, |(offset, _)| (offset / 8).wrapping_mul(0x9e37));
            outer.id = u32::from(hash as u16 ^ self.id as u16 ^ place);
        }
        outer.build()
    }

    /// The IP packet.
    pub fn ip(&self) -> Vec<u8> {
        let segment = self.segment();
        let mut packet = Vec::new();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header =
                    Ipv4Header::new(0, self.ttl, IpNumber(self.number()), source.octets(), destination.octets())
                        .unwrap();
                header.options = Ipv4Options::try_from(self.options.as_slice()).unwrap();
                header.total_len = (header.header_len() + segment.len()) as u16;
                header.dscp = IpDscp::try_new(self.tos >> 2).unwrap();
                header.ecn = IpEcn::try_new(self.tos & 3).unwrap();
                header.identification = self.id as u16;
                header.dont_fragment = self.dont_fragment;
                if let Some((offset, more)) = self.fragment {
                    header.fragment_offset = IpFragOffset::try_new(offset / 8).unwrap();
                    header.more_fragments = more;
                }
                header.header_checksum = header.calc_header_checksum();
                header.write_raw(&mut packet).unwrap();
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut chain = self.extensions.clone();
                if let Some((offset, more)) = self.fragment {
                    let [a, b] = (offset | u16::from(more)).to_be_bytes();
                    let mut bytes = vec![0, a, b];
                    bytes.extend(self.id.to_be_bytes());
                    chain.push((44, bytes));
                }
                let numbers: Vec<u8> = chain.iter().map(|(number, _)| *number).chain([self.number()]).collect();
                let length = chain.iter().map(|(_, bytes)| bytes.len() + 1).sum::<usize>() + segment.len();
                packet.extend((6 << 28 | u32::from(self.tos) << 20 | self.flow_label).to_be_bytes());
                packet.extend((length as u16).to_be_bytes());
                packet.extend([numbers[0], self.ttl]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                for ((_, bytes), next) in chain.iter().zip(&numbers[1..]) {
                    packet.push(*next);
                    packet.extend(bytes);
                }
            }
            _ => panic!("two families in {self:?}"),
        }
        packet.extend(segment);
        packet
    }

    /// L4 header and payload.
    fn segment(&self) -> Vec<u8> {
        let later = self.fragment.is_some_and(|(offset, _)| offset > 0);
        if later {
            return self.payload.clone();
        }
        let (source, destination) = (self.source.port(), self.destination.port());
        let mut segment = Vec::new();
        match &self.transport {
            Transport::Tcp { flags, sequence, acknowledgment, window } => {
                let mut header = TcpHeader::new(source, destination, *sequence, *window);
                header.acknowledgment_number = *acknowledgment;
                header.set_options_raw(&self.tcp_options).unwrap();
                for flag in flags.chars() {
                    match flag {
                        'S' => header.syn = true,
                        'A' => header.ack = true,
                        'F' => header.fin = true,
                        'R' => header.rst = true,
                        'P' => header.psh = true,
                        '-' => {}
                        other => panic!("no TCP flag {other}"),
                    }
                }
                let right = match (self.source.ip(), self.destination.ip()) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        header.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        header.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
                    }
                    _ => unreachable!(),
                };
                header.checksum = self.field(right.unwrap(), header.header_len());
                segment.extend(header.to_bytes());
            }
            Transport::Udp => {
                let length = 8 + self.payload.len();
                let mut header = UdpHeader {
                    source_port: source,
                    destination_port: destination,
                    length: length as u16,
                    checksum: 0,
                };
                let right = match (self.source.ip(), self.destination.ip()) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        header.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        header.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
                    }
                    _ => unreachable!(),
                };
                header.checksum = self.field(right.unwrap(), 8);
                segment.extend(header.to_bytes());
            }
            Transport::Sctp => {
                segment.extend([source.to_be_bytes(), destination.to_be_bytes()].concat());
                segment.extend([self.tag.to_be_bytes(), [0; 4]].concat());
                let crc = match self.sum {
                    Sum::Partial => 0,
                    Sum::Wrong => sums::crc32c(&[&segment[..], &self.payload].concat()) ^ 0x0bad_0bad,
                    _ => sums::crc32c(&[&segment[..], &self.payload].concat()),
                };
                segment[8..12].copy_from_slice(&crc.to_le_bytes());
            }
            Transport::Icmp { kind, code, rest } => {
                segment.extend([*kind, *code, 0, 0]);
                segment.extend(rest);
                let pseudo = if self.family() == Family::V4 { 0 } else { self.pseudo_header(8) };
                let right = !sums::add(pseudo, sums::sum(&[&segment, &self.payload]));
                segment[2..4].copy_from_slice(&self.field(right, 8).to_be_bytes());
            }
            Transport::Other(_) => {}
        }
        segment.extend(&self.payload);
        segment
    }

    /// The sum of the pseudo-header with an L4 header of `header` bytes.
    fn pseudo_header(&self, header: usize) -> u16 {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        let (source, destination) = (octets(self.source.ip()), octets(self.destination.ip()));
        let length = (header + self.payload.len()) as u16;
        sums::sum(&[&source, &destination, &[0, self.number()], &length.to_be_bytes()])
    }

    /// What stands in the checksum field.
    fn field(&self, right: u16, header: usize) -> u16 {
        match self.sum {
            Sum::Right => right,
            Sum::Partial => self.pseudo_header(header),
            Sum::Absent => 0,
            Sum::Wrong => sums::add(right, 0x0bad),
        }
    }
}

/// Makes the IPv4 header checksum right.
pub fn mend(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 15) * 4;
    frame[24..26].fill(0);
    let sum = !sums::sum(&[&frame[14..end]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
