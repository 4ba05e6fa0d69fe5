//! ICMP and ICMPv6 errors about a packet, each with a quote of it as its sender sent it.

use std::net::IpAddr;

use ringway_shared::address::address_words;
use ringway_shared::{Family, FiveTuple};

use crate::wire::transport::{ChecksumState, complete_partial, write};
use crate::wire::{Packet, icmp, ipv4};

use super::{Answer, answerable, finish_icmp, ip_header, read_u16};

/// How long an ICMP error may be, as an IP packet (RFC 1812 4.3.2.3).
pub const LIMIT_V4: usize = 576;
/// How long an ICMPv6 error may be (RFC 4443 2.4 c).
pub const LIMIT_V6: usize = 1280;

/// Errors carry the precedence of network control, as Linux sends them.
pub(super) const CLASS: u8 = 0xc0;

/// What the sender is told.
#[derive(Clone, Copy)]
pub(super) enum Error {
    PortUnreachable,
    /// Nobody here speaks the protocol, whose number stands so many bytes into the packet.
    ProtocolUnreachable {
        at: u32,
    },
    TimeExceeded,
    /// Its host is out of reach.
    HostUnreachable,
    TooBig {
        mtu: u16,
    },
}

impl Error {
    /// Type, code, and the four bytes after the checksum.
    pub(super) fn header(self, family: Family) -> (u8, u8, u32) {
        match (self, family) {
            (Error::PortUnreachable, Family::V4) => (3, 3, 0),
            (Error::PortUnreachable, Family::V6) => (1, 4, 0),
            (Error::ProtocolUnreachable { .. }, Family::V4) => (3, 2, 0),
            // Unrecognized next header.
            (Error::ProtocolUnreachable { at }, Family::V6) => (4, 1, at),
            (Error::TimeExceeded, Family::V4) => (11, 0, 0),
            (Error::TimeExceeded, Family::V6) => (3, 0, 0),
            // In both, the MTU ends where the header ends.
            (Error::HostUnreachable, Family::V4) => (3, 1, 0),
            (Error::HostUnreachable, Family::V6) => (1, 3, 0),
            (Error::TooBig { mtu }, Family::V4) => (3, 4, u32::from(mtu)),
            (Error::TooBig { mtu }, Family::V6) => (2, 0, u32::from(mtu)),
        }
    }
}

/// Turns the packet into "time exceeded" from `source`, an address of this node of the packet's family. For a packet
/// whose TTL or hop limit is 1; one that came with 0 is not answered.
pub fn time_exceeded(frame: &mut [u8], packet: &Packet, source: IpAddr) -> Option<usize> {
    if packet.ttl == 0 {
        return None;
    }
    build(frame, packet, of_family(source, packet)?, Error::TimeExceeded)
}

/// Turns the packet into "fragmentation needed" or "packet too big" from `source`, an address of this node of the
/// packet's family; `mtu` is the largest IP packet that would have passed.
pub fn too_big(frame: &mut [u8], packet: &Packet, source: IpAddr, mtu: u16) -> Option<usize> {
    build(frame, packet, of_family(source, packet)?, Error::TooBig { mtu })
}

/// How long an error may be, as an IP packet.
pub(super) fn limit(family: Family) -> usize {
    match family {
        Family::V4 => LIMIT_V4,
        Family::V6 => LIMIT_V6,
    }
}

fn of_family(source: IpAddr, packet: &Packet) -> Option<[u64; 2]> {
    (Family::of(source) == packet.family()).then(|| address_words(source))
}

/// Replaces the packet at the start of `frame` by an error about it.
pub(super) fn build(frame: &mut [u8], packet: &Packet, source: [u64; 2], error: Error) -> Option<usize> {
    let state = answerable(frame, packet)?;
    let family = packet.family();
    let (l3, length) = (usize::from(packet.l3), usize::from(packet.ip_length()));
    let limit = limit(family);
    let l4 = l3 + ip_header(family);
    let quote = l4 + icmp::HEADER;
    // No further than the limit, and no further than the room.
    let stop = (quote + length).min(l3 + limit).min(frame.len());
    // An error that does not quote the ports (RFC 792: eight bytes) tells nobody anything.
    let least = usize::from(packet.l4.saturating_sub(packet.l3)) + 8;
    let quoted = stop.checked_sub(quote).filter(|quoted| *quoted >= least.min(length))?;

    if state == ChecksumState::Partial {
        complete_partial(frame, packet);
    }
    let identification = read_u16(frame, l3 + ipv4::IDENTIFICATION);
    frame.copy_within(l3..l3 + quoted, quote);
    let answer = Answer {
        source,
        destination: packet.tuple.source,
        family,
        protocol: match family {
            Family::V4 => icmp::V4,
            Family::V6 => icmp::V6,
        },
        class: CLASS,
        // May be fragmented, so it needs a number: the one of the packet in question is as good as any.
        identification: Some(identification),
        payload: (stop - l4) as u16,
    };
    answer.write(frame, l3);
    let (icmp_type, code, rest) = error.header(family);
    write(frame, l4, [icmp_type, code, 0, 0]);
    write(frame, l4 + 4, rest.to_be_bytes());
    finish_icmp(frame, l4..stop, FiveTuple { source, destination: packet.tuple.source, ports: packet.tuple.ports });
    Some(stop)
}
