//! What is done to a packet once its fate is known: one rewrite a file.
//!
//! [`nat`], for most packets by `usual`, and [`dsr`] send a packet on, [`mss`] and [`fragment`] see to it that it fits, and `quote`
//! and `tunnel_error` send an error about one on. The
//! others answer a packet, and build the answer in its place: they take the frame's bytes *with the room behind them*
//! ([`ANSWER_ROOM`] is always enough; with less, ICMP errors quote less), and give back how long the frame is now. Nothing
//! means that this packet must not be answered, and then the bytes are as they were. The MAC addresses are left to the caller,
//! who knows the way back.

pub mod dsr;
pub mod echo;
pub mod fragment;
pub mod icmp_error;
pub mod mss;
pub mod nat;
pub(crate) mod quote;
pub mod reject;
#[cfg(test)]
mod tests;
pub(crate) mod tunnel_error;
pub(crate) mod usual;

use std::ops::Range;

use ringway_shared::{Family, FiveTuple};

use crate::wire::transport::{ChecksumState, checksum_state, read_u16, write};
use crate::wire::{Kind, Packet, checksum, ethernet, icmp, ipv4, ipv6};

/// The longest frame that an answer needs: an ICMPv6 error.
pub const ANSWER_ROOM: usize = ethernet::HEADER + icmp_error::LIMIT_V6;

/// TTL and hop limit of generated packets.
const TTL: u8 = 64;

/// Whether anything may be generated in answer to `packet`, as far as its headers tell: never to an ICMP error, a RST, a
/// later fragment, to or from addresses that are not one host's, or to a source route. The answers ask this themselves.
pub fn may_answer(packet: &Packet) -> bool {
    let family = packet.family();
    let silent = match packet.kind {
        Kind::Tcp { flags, .. } => flags.rst(),
        Kind::Icmp { icmp_type, code, .. } => icmp::silences(icmp_type, code, family),
        Kind::LaterFragment { .. } => true,
        Kind::Udp | Kind::Sctp | Kind::Other(_) => false,
    };
    let [high, low] = packet.tuple.destination;
    let to_many = match family {
        Family::V4 => (low as u32) >> 28 == 0xe || low as u32 == u32::MAX,
        Family::V6 => high >> 56 == 0xff,
    };
    !silent && !to_many && packet.objection.is_none() && !packet.destination_mac.is_group()
}

/// How good the L4 checksum of a packet is that may be answered. One whose checksum is wrong may not: who knows who sent it.
fn answerable(frame: &[u8], packet: &Packet) -> Option<ChecksumState> {
    may_answer(packet).then(|| checksum_state(frame, packet)).filter(|state| *state != ChecksumState::Wrong)
}

/// The IP header of an answer.
struct Answer {
    source: [u64; 2],
    destination: [u64; 2],
    family: Family,
    protocol: u8,
    /// TOS or traffic class.
    class: u8,
    /// IPv4 alone has it. Nothing sets DF, and then it is 0, as in Linux.
    identification: Option<u16>,
    /// Bytes of L4.
    payload: u16,
}

impl Answer {
    /// Writes the header at `l3`, when it fits.
    fn write(&self, frame: &mut [u8], l3: usize) {
        match self.family {
            Family::V4 => {
                let header = ipv4::NewHeader {
                    source: self.source[1] as u32,
                    destination: self.destination[1] as u32,
                    protocol: self.protocol,
                    tos: self.class,
                    identification: self.identification.unwrap_or(0),
                    dont_fragment: self.identification.is_none(),
                    ttl: TTL,
                    payload: self.payload,
                };
                write(frame, l3, header.bytes());
            }
            Family::V6 => {
                let header = ipv6::NewHeader {
                    source: self.source,
                    destination: self.destination,
                    next_header: self.protocol,
                    traffic_class: self.class,
                    hop_limit: TTL,
                    payload: self.payload,
                };
                write(frame, l3, header.bytes());
            }
        }
    }
}

/// Bytes of an answer's IP header.
pub(crate) fn ip_header(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::HEADER,
        Family::V6 => ipv6::HEADER,
    }
}

/// Writes the checksum of the ICMP `message`, which goes between the addresses of `tuple` and has 0 in its place.
fn finish_icmp(frame: &mut [u8], message: Range<usize>, tuple: FiveTuple) {
    let (at, length) = (message.start + icmp::CHECKSUM, message.len() as u16);
    let pseudo = match tuple.family() {
        // Only ICMPv6 has a pseudo-header.
        Family::V4 => 0,
        Family::V6 => checksum::pseudo_header(&tuple, icmp::V6, length),
    };
    let sum = u64::from(pseudo) + u64::from(checksum::sum(frame.get(message).unwrap_or_default()));
    write(frame, at, (!checksum::fold(sum)).to_be_bytes());
}

/// TOS or traffic class of a packet.
fn class(frame: &[u8], packet: &Packet) -> u8 {
    let word = read_u16(frame, usize::from(packet.l3));
    match packet.family() {
        Family::V4 => word as u8,
        Family::V6 => (word >> 4) as u8,
    }
}
