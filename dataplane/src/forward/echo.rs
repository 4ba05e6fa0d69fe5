//! The answer to a ping.

use ringway_shared::Family;

use crate::wire::icmp::Class;
use crate::wire::transport::{ChecksumState, read_u16, write};
use crate::wire::{Kind, Packet};

use super::{Answer, answerable, class, finish_icmp, ip_header};

/// Turns an echo request into its reply, from the address that was asked for. IP options and extension headers are not
/// sent back. A fragment is not answered.
pub fn reply(frame: &mut [u8], packet: &Packet) -> Option<usize> {
    if !matches!(packet.kind, Kind::Icmp { class: Class::EchoRequest, .. }) || packet.fragment.is_some() {
        return None;
    }
    answerable(frame, packet).filter(|state| *state == ChecksumState::Right)?;
    let family = packet.family();
    let (l3, message) = (usize::from(packet.l3), usize::from(packet.l4)..usize::from(packet.end));
    let l4 = l3 + ip_header(family);
    let end = l4 + message.len();
    let answer = Answer {
        source: packet.tuple.destination,
        destination: packet.tuple.source,
        family,
        protocol: packet.tuple.ports as u8,
        class: class(frame, packet),
        identification: Some(read_u16(frame, l3 + 4)),
        payload: message.len() as u16,
    };
    frame.copy_within(message, l4);
    answer.write(frame, l3);
    // The sum is made anew: adjusting one cannot tell the two zeros apart, and a reply may be all zeros.
    let reply_type = match family {
        Family::V4 => 0,
        Family::V6 => 129,
    };
    write(frame, l4, [reply_type, 0, 0, 0]);
    finish_icmp(frame, l4..end, packet.tuple.reversed());
    Some(end)
}
