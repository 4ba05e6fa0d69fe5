//! Headers of one packet, byte by byte.

use std::net::{IpAddr, SocketAddr};

use ringway_dataplane::wire::checksum;
use ringway_shared::{FiveTuple, Protocol};

use super::SEQUENCE;

pub(super) const ICMP_V4: u8 = 1;
pub(super) const ICMP_V6: u8 = 58;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers in a chain that is too long.
pub(super) const CHAIN: usize = 9;
/// The MTU that forged errors tell of.
const MTU: u16 = 1_400;

/// Between whom a packet goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
}

impl Ip {
    pub(super) fn is_v6(&self) -> bool {
        self.source.is_ipv6()
    }

    pub(super) fn header(&self) -> usize {
        if self.is_v6() { 40 } else { 20 }
    }

    pub(super) fn ether_type(&self) -> [u8; 2] {
        if self.is_v6() { [0x86, 0xdd] } else { [0x08, 0x00] }
    }

    /// The IP header of a packet of `length` bytes behind it, and of IPv4 the word with offset and flags.
    fn header_of(&self, protocol: u8, length: usize, fragment: u16) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0, 0, 0, 0x40, 0, 0, 0, 64, protocol, 0, 0];
                header[2..4].copy_from_slice(&(20 + length as u16).to_be_bytes());
                header[6..8].copy_from_slice(&fragment.to_be_bytes());
                header.extend(source.octets().into_iter().chain(destination.octets()));
                let sum = checksum::checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (source, destination) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
                header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
                for address in [source, destination] {
                    header.extend(match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                        IpAddr::V6(address) => address.octets(),
                    });
                }
                header
            }
        }
    }

    /// A whole packet.
    pub(super) fn packet(&self, protocol: u8, l4: &[u8]) -> Vec<u8> {
        [&self.header_of(protocol, l4.len(), 0)[..], l4].concat()
    }

    /// A fragment; `place`: of its first byte.
    pub(super) fn fragment(&self, protocol: u8, place: u16, more: bool, piece: &[u8]) -> Vec<u8> {
        if !self.is_v6() {
            return [&self.header_of(protocol, piece.len(), (place / 8) | (u16::from(more) << 13))[..], piece].concat();
        }
        let [high, low] = (place | u16::from(more)).to_be_bytes();
        let header = [protocol, 0, high, low, 0x40, 0, 0, 0];
        [&self.header_of(FRAGMENT, 8 + piece.len(), 0)[..], &header, piece].concat()
    }

    /// A datagram behind a chain of extension headers.
    pub(super) fn chain(&self, datagram: &[u8]) -> Vec<u8> {
        let mut packet = self.header_of(DESTINATION_OPTIONS, CHAIN * 8 + datagram.len(), 0);
        for number in 0..CHAIN {
            let next = if number + 1 < CHAIN { DESTINATION_OPTIONS } else { Protocol::Udp.number() };
            packet.extend([next, 0, 1, 4, 0, 0, 0, 0]);
        }
        packet.extend(datagram);
        packet
    }

    pub(super) fn ping(&self) -> Vec<u8> {
        let icmp_type = if self.is_v6() { 128 } else { 8 };
        self.icmp(vec![icmp_type, 0, 0, 0, 0x12, 0x34, 0x40, 0])
    }

    /// Too big: what `sent` is said to have sent to `about`, up to eight bytes of L4.
    pub(super) fn error(&self, protocol: Protocol, sent: SocketAddr, about: SocketAddr) -> Vec<u8> {
        let quoted = Ip { source: sent.ip(), destination: about.ip() };
        let [high, low] = MTU.to_be_bytes();
        let (icmp_type, code) = if self.is_v6() { (2, 0) } else { (3, 4) };
        let mut message = vec![icmp_type, code, 0, 0, 0, 0, high, low];
        message.extend(quoted.header_of(protocol.number(), 1_480, 0));
        message.extend(sent.port().to_be_bytes().into_iter().chain(about.port().to_be_bytes()));
        if protocol == Protocol::Tcp {
            message.extend(SEQUENCE);
        } else {
            message.extend([1_480_u16.to_be_bytes(), [0x40, 0]].concat());
        }
        self.icmp(message)
    }

    fn icmp(&self, mut message: Vec<u8>) -> Vec<u8> {
        if self.is_v6() {
            self.sum_up(ICMP_V6, &mut message, 2);
            return self.packet(ICMP_V6, &message);
        }
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.packet(ICMP_V4, &message)
    }

    /// Writes the checksum with pseudo-header.
    pub(super) fn sum_up(&self, protocol: u8, l4: &mut [u8], at: usize) {
        let tuple = FiveTuple::from_parts(Protocol::Udp, self.source, 0, self.destination, 0);
        let pseudo = checksum::pseudo_header(&tuple, protocol, l4.len() as u16);
        let sum = !checksum::fold(u64::from(pseudo) + u64::from(checksum::sum(l4)));
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
