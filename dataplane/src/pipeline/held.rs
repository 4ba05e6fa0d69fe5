//! Packets that wait for a neighbour's MAC address.
//!
//! Whoever forges sources can have packets wait for as many neighbours as the link has addresses: for clients there, each for
//! itself. Routers and endpoints are few, and many clients share them. So what waits for its client itself has one half of the
//! room, and all else the other; what one of them leaves is anybody's. When there is no room, the neighbour that most wait for
//! gives one up: the oldest of the client that has most there, of IPv6 of its /64 network. And where so many wait for one
//! neighbour as may, a client with fewer takes a place of one with more.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use ringway_shared::address::address_words;
use ringway_shared::network::Heading;
use ringway_shared::{InterfaceId, ServicePortId};

use super::departure::Intent;
use crate::af_xdp::Frame;
use crate::batch::BATCH;
use crate::clock::Time;

/// How many packets may wait for one neighbour.
const PER_NEIGHBOR: usize = 16;
/// How many packets may wait in all.
const CAPACITY: usize = 256;
/// How long a packet waits, in nanoseconds.
const WAIT: u64 = 1_000_000_000;

/// A packet that lacks nothing but MAC addresses.
#[derive(Debug)]
pub(super) struct HeldPacket {
    pub(super) frame: Frame,
    pub(super) tag: u64,
    pub(super) service_port: Option<ServicePortId>,
    pub(super) intent: Intent,
    /// Where it goes: resolved again when the network changed.
    pub(super) heading: Heading,
    /// Whom it waits for.
    pub(super) interface: InterfaceId,
    pub(super) next_hop: IpAddr,
    pub(super) since: Time,
}

impl HeldPacket {
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        now.0.saturating_sub(self.since.0) >= WAIT
    }
}

/// Where a packet waits.
#[derive(Clone, Copy)]
struct Place {
    /// Of its neighbour. Others may have the same.
    key: u32,
    slot: u8,
    /// How many wait for the same neighbour since before.
    ahead: u8,
    /// Of its client's network. Others may have the same.
    client: u32,
    /// Whether it waits for its client itself.
    is_for_client: bool,
}

/// The packets that wait.
pub(super) struct Held {
    /// Oldest first. Apart from the packets, so that little has to be looked at and moved.
    order: ArrayVec<Place, CAPACITY>,
    slots: Box<[Option<HeldPacket>]>,
    free: ArrayVec<u8, CAPACITY>,
    /// Given up within this batch.
    given_up: ArrayVec<HeldPacket, BATCH>,
    network_generation: u32,
}

impl Default for Held {
    fn default() -> Self {
        Held {
            order: ArrayVec::new(),
            slots: (0..CAPACITY).map(|_| None).collect(),
            free: (0..=u8::MAX).collect(),
            given_up: ArrayVec::new(),
            network_generation: 0,
        }
    }
}

fn mix(word: u64) -> u32 {
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// A number that a neighbour has, and few others.
fn key_of(interface: InterfaceId, next_hop: IpAddr) -> u32 {
    let [high, low] = address_words(next_hop);
    mix(high ^ low.rotate_left(29) ^ u64::from(interface.0))
}

/// A number that a client has, and few others: of IPv6, that its network has.
pub(super) fn key_of_client(client: IpAddr) -> u32 {
    let [high, low] = address_words(client);
    mix(if client.is_ipv4() { low } else { high })
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn packet(&self, place: &Place) -> Option<&HeldPacket> {
        self.slots.get(usize::from(place.slot))?.as_ref()
    }

    /// Whether the packet there waits for this neighbour.
    fn is_for(&self, place: &Place, key: u32, neighbor: (InterfaceId, IpAddr)) -> bool {
        place.key == key && self.packet(place).is_some_and(|held| (held.interface, held.next_hop) == neighbor)
    }

    /// How many wait for this neighbour.
    pub(super) fn waiting_for(&self, interface: InterfaceId, next_hop: IpAddr) -> usize {
        let key = key_of(interface, next_hop);
        self.order.iter().filter(|place| self.is_for(place, key, (interface, next_hop))).count()
    }

    /// Adds a packet that the client with this number sent, or that goes to it, and of whose neighbour so many wait already; gives it
    /// back when those are too many.
    pub(super) fn push(
        &mut self,
        packet: HeldPacket,
        (client, is_for_client): (u32, bool),
        ahead: usize,
    ) -> Result<(), HeldPacket> {
        let neighbor = (packet.interface, packet.next_hop);
        let key = key_of(packet.interface, packet.next_hop);
        if self.given_up.is_full() {
            return Err(packet);
        }
        let gives_way = if ahead >= PER_NEIGHBOR {
            match self.has_more(key, neighbor, client) {
                None => return Err(packet),
                greedy => greedy,
            }
        } else if self.order.is_full() {
            self.least_needed(is_for_client)
        } else {
            None
        };
        let mut ahead = ahead as u8;
        if let Some(given_up) = gives_way.and_then(|at| self.remove(at)) {
            ahead = ahead.saturating_sub(u8::from((given_up.interface, given_up.next_hop) == neighbor));
            self.given_up.push(given_up);
        }
        let Some(slot) = self.free.pop() else { return Err(packet) };
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = Some(packet);
            self.order.push(Place { key, slot, ahead, client, is_for_client });
        }
        Ok(())
    }

    /// Which packet makes room for one that waits for its client itself, or for somebody else.
    fn least_needed(&self, is_for_client: bool) -> Option<usize> {
        let for_clients = self.order.iter().filter(|place| place.is_for_client).count() + usize::from(is_for_client);
        let kind = for_clients > CAPACITY / 2;
        let of_kind = || self.order.iter().filter(|place| place.is_for_client == kind);
        let most = of_kind().map(|place| place.ahead).max()?;
        let last = of_kind().find(|place| place.ahead == most)?;
        let HeldPacket { interface, next_hop, .. } = *self.packet(last)?;
        self.greediest(last.key, (interface, next_hop)).map(|(at, _)| at)
    }

    /// Of the client that has most waiting for this neighbour the oldest packet, and how many those are.
    fn greediest(&self, key: u32, neighbor: (InterfaceId, IpAddr)) -> Option<(usize, usize)> {
        let waiting: ArrayVec<(usize, u32), PER_NEIGHBOR> = (0..)
            .zip(&self.order)
            .filter(|(_, place)| self.is_for(place, key, neighbor))
            .map(|(at, place)| (at, place.client))
            .take(PER_NEIGHBOR)
            .collect();
        let of = |client: u32| waiting.iter().filter(|(_, other)| *other == client).count();
        waiting.iter().map(|(at, client)| (*at, of(*client))).rev().max_by_key(|(_, count)| *count)
    }

    /// The packet whose place a client takes where the room for this neighbour is full: of one that has more there than this one will
    /// have then.
    fn has_more(&self, key: u32, neighbor: (InterfaceId, IpAddr), client: u32) -> Option<usize> {
        let own = self.order.iter().filter(|place| place.client == client && self.is_for(place, key, neighbor)).count();
        self.greediest(key, neighbor).filter(|(_, most)| *most > own + 1).map(|(at, _)| at)
    }

    fn remove(&mut self, at: usize) -> Option<HeldPacket> {
        let Place { key, slot, .. } = self.order.pop_at(at)?;
        let packet = self.slots.get_mut(usize::from(slot))?.take()?;
        self.free.push(slot);
        let neighbor = (packet.interface, packet.next_hop);
        for later in at..self.order.len() {
            if self.order.get(later).is_some_and(|place| self.is_for(place, key, neighbor))
                && let Some(place) = self.order.get_mut(later)
            {
                place.ahead = place.ahead.saturating_sub(1);
            }
        }
        Some(packet)
    }

    /// Those that were given up.
    pub(super) fn take_given_up(&mut self) -> impl Iterator<Item = HeldPacket> {
        self.given_up.drain(..)
    }

    /// Whether anything may have changed for the packets that wait.
    pub(super) fn is_due(&self, network_generation: u32, now: Time) -> bool {
        // The oldest stands first.
        self.order
            .first()
            .and_then(|oldest| self.packet(oldest))
            .is_some_and(|oldest| self.network_generation != network_generation || oldest.is_overdue(now))
    }

    /// Takes out the packets for which `keep` is false, at most `room`, oldest first.
    pub(super) fn take(
        &mut self,
        network_generation: u32,
        room: usize,
        keep: impl Fn(&HeldPacket) -> bool,
        mut each: impl FnMut(HeldPacket),
    ) {
        let mut taken = 0;
        let mut at = 0;
        while taken < room {
            match self.order.get(at).map(|place| self.packet(place).is_some_and(&keep)) {
                None => {
                    // Everything was looked at: nothing more until the network changes again.
                    self.network_generation = network_generation;
                    return;
                }
                Some(true) => at += 1,
                Some(false) => {
                    if let Some(held) = self.remove(at) {
                        each(held);
                    }
                    taken += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::{Umem, UmemLayout};

    /// Has a packet wait for this neighbour that goes to or comes from this client; what makes room for it ends.
    fn push(held: &mut Held, umem: &mut Umem, next_hop: [u8; 4], client: [u8; 4]) {
        let (interface, next_hop, client) = (InterfaceId(0), IpAddr::from(next_hop), IpAddr::from(client));
        let packet = HeldPacket {
            frame: umem.allocate().unwrap(),
            tag: 0,
            service_port: None,
            intent: Intent::Forward,
            heading: Heading::to(next_hop),
            interface,
            next_hop,
            since: Time(0),
        };
        let client = (key_of_client(client), client == next_hop);
        let refused = held.push(packet, client, held.waiting_for(interface, next_hop)).err();
        let ended: Vec<_> = held.take_given_up().chain(refused).collect();
        ended.into_iter().for_each(|packet| umem.free(packet.frame));
    }

    /// How many wait for their clients, and how many for others.
    fn counts(held: &Held) -> (usize, usize) {
        let for_clients = held.order.iter().filter(|place| place.is_for_client).count();
        (for_clients, held.order.len() - for_clients)
    }

    #[test]
    fn clients_on_the_link_have_half_of_the_room_and_all_others_the_other() {
        let mut umem = Umem::new(UmemLayout::of_frames(512)).unwrap();
        let mut held = Held::default();
        let client = |n: u8| [192, 168, 0, n];
        for n in 0..=255 {
            push(&mut held, &mut umem, client(n), client(n));
        }
        assert_eq!(counts(&held), (256, 0), "all of it while nobody else wants it");
        for n in 0..=255 {
            push(&mut held, &mut umem, [10, 0, 0, n], client(n));
            assert_eq!(counts(&held), (256 - (usize::from(n) + 1).min(128), (usize::from(n) + 1).min(128)));
        }
        for n in 0..=255 {
            push(&mut held, &mut umem, client(n), client(n));
            assert_eq!(counts(&held), (128, 128));
        }
        let mut held_by_others = Held::default();
        std::mem::swap(&mut held, &mut held_by_others);
        held_by_others.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        for n in 0..=255 {
            push(&mut held, &mut umem, [10, 0, 0, n / 16], client(n));
        }
        assert_eq!(counts(&held), (0, 256));
        for n in 0..=255 {
            push(&mut held, &mut umem, client(n), client(n));
        }
        assert_eq!(counts(&held), (128, 128));
        held.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        assert_eq!(umem.free_frames(), umem.total());
    }

    /// Whatever comes and goes, each packet knows how many wait before it.
    #[test]
    fn the_order_is_kept_whoever_gives_way() {
        let mut umem = Umem::new(UmemLayout::of_frames(512)).unwrap();
        let mut held = Held::default();
        let mut random = 1u64;
        for _ in 0..4_000 {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let [neighbor, client, behind, ..] = (random >> 32).to_le_bytes();
            let client = [192, 168, 0, client / 16];
            push(&mut held, &mut umem, if behind < 128 { client } else { [10, 0, 0, neighbor / 8] }, client);
            for (at, place) in held.order.iter().enumerate() {
                let before = held.order.iter().take(at).filter(|other| other.key == place.key).count();
                assert_eq!((usize::from(place.ahead), before < PER_NEIGHBOR), (before, true));
            }
        }
        held.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        assert_eq!(umem.free_frames(), umem.total());
    }

    #[test]
    fn who_has_most_gives_way_and_nobody_to_one_who_has_as_many() {
        let mut umem = Umem::new(UmemLayout::of_frames(512)).unwrap();
        let (router, other, client) = ([10, 0, 0, 1], [10, 0, 0, 2], |n: u8| [192, 168, 0, n]);
        let of = |held: &Held, n: u8| {
            held.order.iter().filter(|place| place.client == key_of_client(client(n).into())).count()
        };
        // Who came first has one, and who came next all others.
        let mut held = Held::default();
        push(&mut held, &mut umem, router, client(0));
        (0..15).for_each(|_| push(&mut held, &mut umem, router, client(1)));
        push(&mut held, &mut umem, router, client(2));
        assert_eq!([0, 1, 2].map(|n| of(&held, n)), [1, 14, 1]);
        held.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        // One each.
        (0..20).for_each(|n| push(&mut held, &mut umem, router, client(n)));
        assert_eq!([0, 15, 16, 19].map(|n| of(&held, n)), [1, 1, 0, 0]);
        held.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        // Of many neighbours the one gives way that most wait for.
        push(&mut held, &mut umem, router, client(0));
        (0..4).for_each(|_| push(&mut held, &mut umem, other, client(1)));
        (0..252).for_each(|n| push(&mut held, &mut umem, [10, 0, 1, n], client(2)));
        let waiting = |next_hop: [u8; 4]| held.waiting_for(InterfaceId(0), next_hop.into());
        assert_eq!((waiting(router), waiting(other), held.len()), (1, 3, CAPACITY));
        held.take(0, usize::MAX, |_| false, |packet| umem.free(packet.frame));
        assert_eq!(umem.free_frames(), umem.total());
    }
}
