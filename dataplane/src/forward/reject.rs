//! Answers to packets that are refused: TCP RST, or ICMP port unreachable.

use ringway_shared::{DropReason, Family};

use crate::wire::{Kind, Packet, icmp};

/// Whether anything may be generated in answer to `packet`: never to an ICMP error, a RST, a later fragment, or to and
/// from addresses that are not one host's.
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
    // A source route would have to be reversed; land and impossible sources lead nowhere.
    let real = !matches!(packet.objection, Some(DropReason::ImpossibleSource | DropReason::Land));
    !silent && !to_many && real && !packet.destination_mac.is_group()
}
