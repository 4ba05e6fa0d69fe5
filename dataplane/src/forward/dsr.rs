//! Direct server return: a packet goes on as it came, one router hop older, and for an endpoint behind routers inside another
//! IP packet (RFC 2003, RFC 2473).
//!
//! The outer header is what Linux's `ipip` and `ip6tnl` devices take apart. It copies DSCP and ECN (RFC 6040, normal mode).
//! Routers may fragment it if they may fragment what is inside, which is IPv4 without DF. Who sends anything else that is too
//! large for the way is told so, before it leaves or when a router on the way says it (see `tunnel_error`).

use std::net::IpAddr;

use ringway_shared::Family;
use ringway_shared::address::address_words;

use super::{TTL, class};
use crate::af_xdp::{Frame, Umem};
use crate::wire::ipv4::flag;
use crate::wire::quote::{IPV4_INSIDE, IPV6_INSIDE};
use crate::wire::transport::{complete_partial, read_u16, write};
use crate::wire::{Packet, ethernet, ipv4, ipv6};

/// What sets identifications apart of the fragments of one packet from those of the packets after it.
const PLACES_APART: u16 = 0x9e37;
/// The offset of the EtherType.
const ETHER_TYPE: usize = 12;
/// The offset of the three bytes with the IPv6 flow label, of which it has the lower 20 bits.
const FLOW_LABEL: usize = 1;

/// Both ends of a tunnel: a node's own address, and the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Where packets enter it.
    pub source: IpAddr,
    /// Where they leave it.
    pub destination: IpAddr,
    /// What tells flows apart: routers on the way that spread flows by the IPv6 flow label keep each on one path.
    pub hash: u64,
}

/// Bytes of an outer header to `destination`.
#[inline]
pub fn overhead(destination: IpAddr) -> u32 {
    match Family::of(destination) {
        Family::V4 => ipv4::HEADER as u32,
        Family::V6 => ipv6::HEADER as u32,
    }
}

/// Makes the packet one router hop older, and completes a partial checksum; all else stays as it is.
pub fn hop(frame: &mut [u8], packet: &Packet) {
    complete_partial(frame, packet);
    super::nat::hop(frame, packet);
}

/// Puts the packet, whose frame ends with it, inside `tunnel`. False, and nothing is changed, when the frame has no room before
/// the packet, or both together are longer than IP allows.
pub fn encapsulate(umem: &mut Umem, frame: &mut Frame, packet: &Packet, tunnel: &Tunnel) -> bool {
    let inner = match packet.family() {
        Family::V4 => IPV4_INSIDE,
        Family::V6 => IPV6_INSIDE,
    };
    let class = class(umem.packet(frame), packet);
    let inner_field = |at: usize| read_u16(umem.packet(frame), usize::from(packet.l3) + at);
    let whole = packet.family() == Family::V6 || inner_field(ipv4::FLAGS) & flag::DONT_FRAGMENT != 0;
    // What is never fragmented needs none (RFC 6864). Else the sender's own, other senders' others, and of its fragments each
    // another one.
    let place = packet.fragment.map_or(0, |fragment| (fragment.offset / 8).wrapping_mul(PLACES_APART));
    let identification = if whole { 0 } else { inner_field(ipv4::IDENTIFICATION) ^ tunnel.hash as u16 ^ place };
    let length = packet.ip_length();
    let more = overhead(tunnel.destination);
    if u32::from(length) + more > u32::from(u16::MAX) || !umem.grow_head(frame, more as usize) {
        return false;
    }
    let bytes = umem.packet_mut(frame);
    let (source, destination) = (address_words(tunnel.source), address_words(tunnel.destination));
    match Family::of(tunnel.destination) {
        Family::V4 => {
            let header = ipv4::NewHeader {
                source: source[1] as u32,
                destination: destination[1] as u32,
                protocol: inner,
                tos: class,
                identification,
                dont_fragment: whole,
                ttl: TTL,
                payload: length,
            };
            write(bytes, ETHER_TYPE, ethernet::IPV4.to_be_bytes());
            write(bytes, ethernet::HEADER, header.bytes());
        }
        Family::V6 => {
            let header = ipv6::NewHeader {
                source,
                destination,
                next_header: inner,
                traffic_class: class,
                hop_limit: TTL,
                payload: length,
            };
            let mut header = header.bytes();
            let [_, first, second, third] = (tunnel.hash as u32 & 0xf_ffff).to_be_bytes();
            write(&mut header, FLOW_LABEL, [first | class << 4, second, third]);
            write(bytes, ETHER_TYPE, ethernet::IPV6.to_be_bytes());
            write(bytes, ethernet::HEADER, header);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::UmemLayout;
    use etherparse::PacketBuilder;

    fn frame(v6: bool) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut bytes = Vec::new();
        if v6 {
            let header = etherparse::Ipv6Header {
                traffic_class: 0xb9,
                flow_label: 7.try_into().unwrap(),
                payload_length: 0,
                next_header: etherparse::IpNumber::UDP,
                hop_limit: 9,
                source: [1; 16],
                destination: [3; 16],
            };
            let ip = etherparse::IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default());
            link.ip(ip).udp(5, 6).write(&mut bytes, &[8; 30]).unwrap();
        } else {
            let mut header =
                etherparse::Ipv4Header::new(0, 9, etherparse::IpNumber::UDP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
            header.dscp = 46.try_into().unwrap();
            header.ecn = 1.try_into().unwrap();
            let ip = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
            link.ip(ip).udp(5, 6).write(&mut bytes, &[8; 30]).unwrap();
        }
        bytes
    }

    /// All four: what etherparse reads is the outer header that was wanted, and the inner packet byte for byte.
    #[test]
    fn each_family_goes_inside_each() {
        for inner_v6 in [false, true] {
            for (source, destination) in [("192.0.2.1", "192.0.2.9"), ("2001:db8::1", "2001:db8::9")] {
                let bytes = frame(inner_v6);
                let packet = Packet::parse(&bytes).unwrap();
                let mut umem = Umem::new(UmemLayout::of_frames(4)).unwrap();
                let mut frame = umem.allocate().unwrap();
                assert!(umem.fill(&mut frame, &bytes));
                let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
                let tunnel = Tunnel { source, destination, hash: 0xab_cdef };
                assert!(encapsulate(&mut umem, &mut frame, &packet, &tunnel));
                let outer = umem.packet(&frame).to_vec();
                assert_eq!(outer.len(), bytes.len() + overhead(destination) as usize);
                let protocol = if inner_v6 { 41 } else { 4 };
                let slice = etherparse::LaxSlicedPacket::from_ethernet(&outer).unwrap();
                let at = ethernet::HEADER + overhead(destination) as usize;
                match slice.net.unwrap() {
                    etherparse::LaxNetSlice::Ipv4(ip) => {
                        let header = ip.header().to_header();
                        assert_eq!(
                            (IpAddr::from(header.source), IpAddr::from(header.destination)),
                            (source, destination)
                        );
                        assert_eq!(
                            (header.protocol.0, header.time_to_live, header.dont_fragment),
                            (protocol, 64, true)
                        );
                        assert_eq!((header.dscp.value(), header.ecn.value()), (46, 1));
                        assert_eq!(header.calc_header_checksum(), header.header_checksum);
                        assert_eq!(usize::from(header.total_len), bytes.len() - 14 + 20);
                    }
                    etherparse::LaxNetSlice::Ipv6(ip) => {
                        let header = ip.header().to_header();
                        assert_eq!(
                            (IpAddr::from(header.source), IpAddr::from(header.destination)),
                            (source, destination)
                        );
                        assert_eq!(
                            (header.next_header.0, header.hop_limit, header.traffic_class),
                            (protocol, 64, 0xb9)
                        );
                        assert_eq!(header.flow_label.value(), 0xb_cdef);
                        assert_eq!(usize::from(header.payload_length), bytes.len() - 14);
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(&outer[at..], &bytes[14..], "the packet inside");
                umem.free(frame);
            }
        }
    }
}
