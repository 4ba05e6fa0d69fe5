//! Packets that wait for a neighbour's MAC address.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use ringway_shared::network::Heading;
use ringway_shared::{InterfaceId, ServicePortId};

use super::departure::Intent;
use crate::af_xdp::Frame;
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

/// The packets that wait, oldest first.
#[derive(Default)]
pub(super) struct Held {
    packets: ArrayVec<HeldPacket, CAPACITY>,
    network_generation: u32,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.packets.len()
    }

    /// How many wait for this neighbour.
    pub(super) fn waiting_for(&self, interface: InterfaceId, next_hop: IpAddr) -> usize {
        self.packets.iter().filter(|held| held.interface == interface && held.next_hop == next_hop).count()
    }

    /// Adds a packet; gives it back when too many wait already.
    pub(super) fn push(&mut self, packet: HeldPacket) -> Result<(), HeldPacket> {
        if self.waiting_for(packet.interface, packet.next_hop) >= PER_NEIGHBOR {
            return Err(packet);
        }
        self.packets.try_push(packet).map_err(|full| full.element())
    }

    /// Whether anything may have changed for the packets that wait.
    pub(super) fn is_due(&self, network_generation: u32, now: Time) -> bool {
        // The oldest stands first.
        self.packets
            .first()
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
            match self.packets.get(at) {
                None => {
                    // Everything was looked at: nothing more until the network changes again.
                    self.network_generation = network_generation;
                    return;
                }
                Some(held) if keep(held) => at += 1,
                Some(_) => {
                    if let Some(held) = self.packets.pop_at(at) {
                        each(held);
                    }
                    taken += 1;
                }
            }
        }
    }
}
