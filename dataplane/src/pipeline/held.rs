//! Packets that wait for a neighbour's MAC address.

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
}

/// The packets that wait. When there is room for no more, the oldest of the neighbour that most of them wait for is given up.
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

/// A number that a neighbour has, and few others.
fn key_of(interface: InterfaceId, next_hop: IpAddr) -> u32 {
    let [high, low] = address_words(next_hop);
    let mixed = high ^ low.rotate_left(29) ^ u64::from(interface.0);
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
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

    /// Adds a packet, of whose neighbour so many wait already; gives it back when those are too many.
    pub(super) fn push(&mut self, packet: HeldPacket, ahead: usize) -> Result<(), HeldPacket> {
        if ahead >= PER_NEIGHBOR || self.given_up.is_full() {
            return Err(packet);
        }
        let mut ahead = ahead as u8;
        if self.order.is_full()
            && let Some(given_up) = self.least_needed().and_then(|at| self.remove(at))
        {
            let same = (given_up.interface, given_up.next_hop) == (packet.interface, packet.next_hop);
            ahead = ahead.saturating_sub(u8::from(same));
            self.given_up.push(given_up);
        }
        let Some(slot) = self.free.pop() else { return Err(packet) };
        let key = key_of(packet.interface, packet.next_hop);
        if let Some(place) = self.slots.get_mut(usize::from(slot)) {
            *place = Some(packet);
            self.order.push(Place { key, slot, ahead });
        }
        Ok(())
    }

    /// The oldest packet of the neighbour that most wait for.
    fn least_needed(&self) -> Option<usize> {
        let most = self.order.iter().map(|place| place.ahead).max()?;
        let last = self.order.iter().find(|place| place.ahead == most)?;
        let HeldPacket { interface, next_hop, .. } = *self.packet(last)?;
        self.order.iter().position(|place| self.is_for(place, last.key, (interface, next_hop)))
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
