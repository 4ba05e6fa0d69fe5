//! Answers to packets that are refused: a TCP RST, or ICMP port unreachable for the rest, both from the address that was
//! asked for.

use ringway_shared::Family;

use crate::wire::tcp::{self, Flags};
use crate::wire::transport::{ChecksumState, complete, write};
use crate::wire::{Kind, Packet, ipv6};

use super::icmp_error::{self, Error};
use super::{Answer, answerable, ip_header};

pub use super::may_answer;

/// Turns the packet into its rejection.
pub fn reject(frame: &mut [u8], packet: &Packet) -> Option<usize> {
    match packet.kind {
        Kind::Tcp { .. } => tcp_reset(frame, packet),
        _ => port_unreachable(frame, packet),
    }
}

/// Turns the packet into "port unreachable" from its destination.
pub fn port_unreachable(frame: &mut [u8], packet: &Packet) -> Option<usize> {
    icmp_error::build(frame, packet, packet.tuple.destination, Error::PortUnreachable)
}

/// Turns the packet into "protocol unreachable" from its destination; over IPv6 that is "unrecognized next header".
pub fn protocol_unreachable(frame: &mut [u8], packet: &Packet) -> Option<usize> {
    let at = match packet.family() {
        Family::V4 => 0,
        Family::V6 => ipv6::protocol_offset(packet.ip_headers(frame)?)?,
    };
    icmp_error::build(frame, packet, packet.tuple.destination, Error::ProtocolUnreachable { at })
}

/// Turns a TCP segment into the RST that RFC 9293 3.10.7.1 answers it with. Of a fragment neither the checksum nor the
/// length can be known, so it gets none.
pub fn tcp_reset(frame: &mut [u8], packet: &Packet) -> Option<usize> {
    let Kind::Tcp { flags, .. } = packet.kind else { return None };
    answerable(frame, packet).filter(|state| *state != ChecksumState::Unknown)?;
    let numbers = tcp::numbers(frame, packet)?;
    let (sequence, acknowledgment, answer_flags) = if flags.ack() {
        (numbers.acknowledgment, 0, Flags::RST)
    } else {
        (0, numbers.sequence.wrapping_add(numbers.length), Flags::RST | Flags::ACK)
    };

    let tuple = packet.tuple.reversed();
    let l3 = usize::from(packet.l3);
    let l4 = l3 + ip_header(packet.family());
    // Never longer than what it answers: that has the same headers at least.
    let end = l4 + tcp::HEADER;
    if frame.len() < end {
        return None;
    }
    let answer = Answer {
        source: tuple.source,
        destination: tuple.destination,
        family: packet.family(),
        protocol: tuple.ports as u8,
        class: 0,
        identification: None,
        payload: tcp::HEADER as u16,
    };
    answer.write(frame, l3);
    let segment = frame.get_mut(l4..end)?;
    write(segment, 0, ((tuple.ports >> 32) as u32).to_be_bytes());
    write(segment, 4, sequence.to_be_bytes());
    write(segment, 8, acknowledgment.to_be_bytes());
    // Data offset, flags, window 0, and the checksum's place and urgent pointer.
    write(segment, 12, [5 << 4, answer_flags, 0, 0, 0, 0, 0, 0]);
    complete(segment, tcp::CHECKSUM, tcp::HEADER, &tuple);
    Some(end)
}
