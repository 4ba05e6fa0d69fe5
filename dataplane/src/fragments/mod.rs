//! Datagrams that come in fragments: what their first fragment said, and what waits for it.
//!
//! Only the first fragment has ports. What became of it is kept under what all fragments of a datagram share ([`Key`]), so
//! that the others share its fate ([`Datagrams`]); those that come before it wait ([`Waiting`]). Which bytes of a datagram
//! came is kept exactly ([`Coverage`]), since no two fragments may claim the same byte (RFC 5722; RFC 1858 and 3128 tell why
//! that holds for IPv4 as well).
//!
//! Nothing is put together here: fragments go on as they came, and the receiver has the last word about them. One that
//! comes twice goes on twice.
//!
//! Invariants: all memory is set aside at the start; a fragment costs the same however many there are; who forges fragments
//! pushes out forged ones and others whose flow nobody has answered, never those of flows that both sides take part in; and who
//! has such a flow, [`MOST_OF_PAIR`] of these at most.

mod coverage;
mod datagrams;
mod waiting;

use std::net::IpAddr;
use std::ops::Range;

use ringway_shared::address::address_of_words;
use ringway_shared::service::ForwardingMode;
use ringway_shared::{BackendId, DropReason, Family, FiveTuple, InterfaceId, ServicePortId};

use crate::flow::Direction;
use crate::wire::{Fragment, Packet, ethernet, ipv4, ipv6};

pub use coverage::{Added, Coverage};
pub use datagrams::{DONE_LIFE, DatagramId, Datagrams, LIFE, MOST_DATAGRAMS, MOST_OF_PAIR, Next, STALE};
pub use waiting::{MOMENT, MOST_OF_ONE, MOST_PIECES, MOST_WAITING, WAIT, Waiting, Why};

/// A bit beside the protocol that no flow's tuple has: the directory knows datagrams and flows by the same hash.
const NO_FLOW: u64 = 0x200;
/// The bit by which a tuple tells its family.
const V6: u64 = 0x100;

/// What the fragments of a datagram share: addresses and identification, and over IPv4 the protocol (RFC 791). Over IPv6 that
/// may differ between fragments (RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(FiveTuple);

impl Key {
    /// The key between two addresses, as a tuple has them.
    pub fn new(source: [u64; 2], destination: [u64; 2], family: Family, protocol: u8, identification: u32) -> Self {
        let rest = match family {
            Family::V4 => u64::from(protocol),
            Family::V6 => V6,
        };
        Key(FiveTuple { source, destination, ports: u64::from(identification) << 32 | NO_FLOW | rest })
    }

    /// What all datagrams between its two addresses share, as the hasher of tuples takes it.
    pub fn pair(&self) -> FiveTuple {
        FiveTuple { ports: NO_FLOW | self.0.ports & V6, ..self.0 }
    }

    /// The key of a packet that is a fragment.
    pub fn of(packet: &Packet, fragment: Fragment) -> Self {
        let FiveTuple { source, destination, ports } = packet.tuple;
        Key::new(source, destination, packet.family(), ports as u8, fragment.identification)
    }

    /// The key of a fragment that could not be parsed, if its IP headers tell as much.
    pub fn of_broken(frame: &[u8]) -> Option<Self> {
        let link = ethernet::Header::parse(frame)?;
        match link.ether_type {
            ethernet::IPV4 => {
                let [source, destination] = ipv4::addresses(frame, ethernet::HEADER)?;
                let (protocol, identification) = ipv4::identification(frame, ethernet::HEADER)?;
                Some(Key::new(source, destination, Family::V4, protocol, identification))
            }
            ethernet::IPV6 => {
                let [source, destination] = ipv6::addresses(frame, ethernet::HEADER)?;
                let headers = frame.get(ethernet::HEADER..)?;
                let identification = ipv6::identification(headers)?;
                Some(Key::new(source, destination, Family::V6, 0, identification))
            }
            _ => None,
        }
    }

    /// Who sends the datagram. Its words are no tuple's, and their family is not told by the bit that tells that of a tuple.
    pub fn source(&self) -> IpAddr {
        let source = self.0.source;
        let is_ipv4 = source[0] == 0 && source[1] >> 32 == 0xffff;
        address_of_words(source, if is_ipv4 { Family::V4 } else { Family::V6 })
    }

    /// As the hasher of tuples takes it.
    pub fn words(&self) -> &FiveTuple {
        &self.0
    }
}

/// Which bytes of its datagram a fragment has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The bytes, counted from the end of the headers that every fragment has.
    pub bytes: Range<u16>,
    /// Whether more follow.
    pub more: bool,
}

impl Piece {
    /// What the fragment `packet`, parsed from `frame`, has; nothing when no datagram can have such a fragment.
    pub fn of(frame: &[u8], packet: &Packet, fragment: Fragment) -> Option<Self> {
        let (l3, end) = (usize::from(packet.l3), usize::from(packet.end));
        // In a first fragment headers may follow that belong to its data.
        let start = match packet.family() {
            Family::V4 => usize::from(packet.l4),
            Family::V6 if fragment.offset != 0 => usize::from(packet.l4),
            Family::V6 => l3 + ipv6::fragment_data(frame.get(l3..end)?)?,
        };
        let length = end.checked_sub(start)?;
        // Of the IPv6 header, and of the fragment header, the whole datagram's length has nothing.
        let headers = match packet.family() {
            Family::V4 => start.checked_sub(l3)?,
            Family::V6 => start.checked_sub(l3 + ipv6::HEADER + ipv6::FRAGMENT_HEADER)?,
        };
        let first = usize::from(fragment.offset);
        let whole = headers + first + length <= usize::from(u16::MAX);
        let fits = length > 0 && (!fragment.more || length.is_multiple_of(8));
        let last = u16::try_from(first + length).ok().filter(|_| whole && fits)?;
        Some(Piece { bytes: fragment.offset..last, more: fragment.more })
    }
}

/// Where the fragments of a datagram go that a flow sends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    /// Addresses after the rewrite; the ports of the first fragment are among them.
    pub to: FiveTuple,
    /// The ports that the first fragment came with, as the tuple has them.
    pub ports: u32,
    /// From which side they come.
    pub direction: Direction,
    /// The interface that the first fragment came by.
    pub arrived: InterfaceId,
    /// What chooses between several paths.
    pub hash: u64,
    /// Whose packets they are.
    pub service_port: Option<ServicePortId>,
    /// To or from which backend.
    pub backend: Option<BackendId>,
    /// How they get there.
    pub forwarding: ForwardingMode,
}

/// What becomes of the fragments of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go on as the first did.
    Forward(Follow),
    /// The kernel gets them.
    Pass,
    /// They are dropped, as the first was, or because of what one of them is.
    Drop(DropReason),
}

impl Fate {
    /// Whether they go on, and the first one came by this interface.
    pub fn came_by(&self, interface: InterfaceId) -> bool {
        matches!(self, Fate::Forward(follow) if follow.arrived == interface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_datagram_has_the_hash_of_a_flow() {
        for family in [Family::V4, Family::V6] {
            for protocol in 0..=255 {
                let key = Key::new([0, 1], [0, 2], family, protocol, 53);
                for tuple in [*key.words(), key.pair()] {
                    let of_flow = u64::from(u8::MAX) | V6 | u64::from(u32::MAX) << 32;
                    assert_ne!(tuple.ports & !of_flow, 0, "{family:?} {protocol}");
                    // Whose addresses it has is asked as of a flow's.
                    assert_eq!(tuple.family(), family);
                }
            }
        }
    }
}
