//! Packets from the peer to the gateway on link 0, built by etherparse.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Ethernet2Header, PacketBuilder, PacketBuilderStep};

pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A UDP packet.
pub(crate) fn udp(source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (parse(source), parse(destination));
    let step = ip(source.ip(), destination.ip()).udp(source.port(), destination.port());
    let mut packet = Vec::new();
    step.write(&mut packet, payload).unwrap();
    packet
}

/// A TCP SYN.
pub(crate) fn syn(source: &str, destination: &str) -> Vec<u8> {
    let (source, destination) = (parse(source), parse(destination));
    let step = ip(source.ip(), destination.ip()).tcp(source.port(), destination.port(), 1, 1000).syn();
    let mut packet = Vec::new();
    step.write(&mut packet, &[]).unwrap();
    packet
}

/// An echo request, IPv4 or IPv6.
pub(crate) fn echo(source: &str, destination: &str) -> Vec<u8> {
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let mut packet = Vec::new();
    match destination {
        IpAddr::V4(_) => ip(source, destination).icmpv4_echo_request(7, 1).write(&mut packet, b"echo").unwrap(),
        IpAddr::V6(_) => ip(source, destination).icmpv6_echo_request(7, 1).write(&mut packet, b"echo").unwrap(),
    }
    packet
}

/// A packet of the gateway to the peer with all of another one but its Ethernet header inside.
pub(crate) fn inside(is_ipv6: bool, packet: &[u8]) -> Vec<u8> {
    let [source, destination] = if is_ipv6 { ["fd77:0::1", "fd77:0::2"] } else { ["10.77.0.1", "10.77.0.2"] };
    let number = if packet[12] == 8 { 4 } else { 41 };
    let mut outer = Vec::new();
    let step = ip(source.parse().unwrap(), destination.parse().unwrap());
    step.write(&mut outer, etherparse::IpNumber(number), &packet[14..]).unwrap();
    outer
}

/// An ICMP error of the peer, from its own address to the source of the frame that it quotes all of.
pub(crate) fn error(icmp_type: u8, quoted: &[u8]) -> Vec<u8> {
    let is_ipv4 = quoted[12] == 8;
    let quoted = &quoted[14..];
    let mut packet = Vec::new();
    if is_ipv4 {
        let source: [u8; 4] = quoted[12..16].try_into().unwrap();
        let step = ip("10.77.0.2".parse().unwrap(), source.into()).icmpv4_raw(icmp_type, 1, [0; 4]);
        step.write(&mut packet, quoted).unwrap();
    } else {
        let source: [u8; 16] = quoted[8..24].try_into().unwrap();
        let step = ip("fd77:0::2".parse().unwrap(), source.into()).icmpv6_raw(icmp_type, 1, [0; 4]);
        step.write(&mut packet, quoted).unwrap();
    }
    packet
}

/// A copy with bytes replaced.
pub(crate) fn with(packet: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet
}

/// A copy with bytes put in between; lengths in headers are the caller's business.
pub(crate) fn insert(packet: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    [&packet[..at], bytes, &packet[at..]].concat()
}

/// The same packet on its way back: MAC addresses, IPv4 or IPv6 addresses and UDP ports exchanged. The sum stays right,
/// but a sum that the sender left partial is taken out, which IPv4 allows.
pub(crate) fn turned(packet: &[u8]) -> Vec<u8> {
    let mut turned = packet.to_vec();
    let mut exchange = |a: usize, b: usize, length: usize| {
        for index in 0..length {
            turned.swap(a + index, b + index);
        }
    };
    exchange(0, 6, 6);
    let l4 = match packet[12..14] {
        [0x08, 0x00] => {
            exchange(26, 30, 4);
            34
        }
        _ => {
            exchange(22, 38, 16);
            54
        }
    };
    exchange(l4, l4 + 2, 2);
    if l4 == 34 {
        turned[l4 + 6..l4 + 8].fill(0);
    }
    turned
}

fn parse(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(source: IpAddr, destination: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet: PacketBuilderStep<Ethernet2Header> = PacketBuilder::ethernet2(PEER_MAC, GATEWAY_MAC);
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet.ipv4(source.octets(), destination.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet.ipv6(source.octets(), destination.octets(), 64),
        _ => panic!("{source} and {destination} are not of one family"),
    }
}
