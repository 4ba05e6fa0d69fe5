//! A worker's ports: which interface a received frame belongs to, and where an interface's frames leave.
//!
//! Ports are queues of devices; what the pipeline knows are interfaces. A device may carry several interfaces (its own frames,
//! and those of the VLAN devices above it), and an interface may be carried by several devices (a bond's members). Here and
//! nowhere else tags come off and go on: the pipeline, other workers and the way back into the kernel see untagged frames, and
//! the counters count them without their tag.
//!
//! An interface is found by its number, without a search; an interface that one device carries untagged costs no more than
//! that. What a port receives for nobody (a device that just stopped to carry an interface) is dropped and counted.

use std::sync::Arc;

use arrayvec::ArrayVec;
use ringway_shared::counters::{Counter, Tally};
use ringway_shared::network::Lowers;
use ringway_shared::{DropReason, InterfaceId};
use rustix::fd::BorrowedFd;
use rustix::net::xdp::XdpStatistics;

use super::Port;
use crate::af_xdp::{Frame, Tap, Umem};
use crate::batch::{BATCH, Received};
use crate::clock::Time;
use crate::dispatch::Transmit;
use crate::handover::Handover;
use crate::wire::spread::spread;
use crate::wire::vlan;

pub use tags::Tags;

mod tags;

/// The most devices that an interface's frames leave by; further ones are not used.
pub const SENDERS: usize = 16;

/// Where a worker's frames come from and where they leave.
pub struct Ports {
    ports: Vec<Port>,
    /// By interface number.
    exits: Vec<Exit>,
    handover: Handover,
    /// What ports counted that are closed since.
    gone: [u64; COUNTED.len()],
}

/// How an interface's frames leave, and how what came by it goes back to the kernel.
#[derive(Default)]
struct Exit {
    /// The port of an interface that one device carries untagged; beyond all ports for any other.
    only: usize,
    /// The ports by which frames may leave, one of each device.
    senders: ArrayVec<usize, SENDERS>,
    lowers: Lowers,
    tap: Option<Arc<Tap>>,
}

impl Ports {
    /// None yet. `handover`: the way to other workers.
    pub fn new(handover: Handover) -> Self {
        Ports { ports: Vec::new(), exits: Vec::new(), handover, gone: Default::default() }
    }

    /// Adds an open port. It carries what [`Self::carry`] said or will say of its device.
    pub fn push(&mut self, port: Port) {
        self.ports.push(port);
        self.connect();
    }

    /// Takes the ports of a device out.
    #[must_use]
    pub fn detach(&mut self, device: u32) -> Vec<Port> {
        let (out, kept): (Vec<Port>, Vec<Port>) = self.ports.drain(..).partition(|port| port.device == device);
        self.ports = kept;
        out.iter().for_each(|port| add(&mut self.gone, counted(port)));
        self.connect();
        out
    }

    /// Has these devices carry an interface from now on; none: it is gone.
    pub fn carry(&mut self, interface: InterfaceId, lowers: Lowers) {
        self.exit_mut(interface).lowers = lowers;
        self.connect();
    }

    /// Gives what came by an interface and is not ours back by this device from now on.
    pub fn set_tap(&mut self, interface: InterfaceId, tap: Option<Arc<Tap>>) {
        self.exit_mut(interface).tap = tap;
        self.connect();
    }

    fn exit_mut(&mut self, interface: InterfaceId) -> &mut Exit {
        let place = usize::from(interface.0);
        if self.exits.len() <= place {
            self.exits.resize_with(place + 1, Exit::default);
        }
        &mut self.exits[place]
    }

    /// Says anew what every port carries and by which ports every interface's frames leave.
    fn connect(&mut self) {
        for port in &mut self.ports {
            let carried = (0..).zip(&self.exits).filter_map(|(number, exit)| {
                let receives = exit.lowers.devices.iter().any(|lower| lower.index == port.device && lower.receives);
                receives.then_some((exit.lowers.vlan, InterfaceId(number)))
            });
            port.tags = Tags::new(carried);
        }
        for exit in &mut self.exits {
            let ports = &self.ports;
            // A device's first queue here is as good as its others: they are this worker's.
            let of = |device| ports.iter().position(|port| port.device == device);
            let sending = exit.lowers.devices.iter().filter(|lower| lower.sends);
            exit.senders = sending.filter_map(|lower| of(lower.index)).take(SENDERS).collect();
            exit.only = match (exit.senders.as_slice(), exit.lowers.vlan) {
                ([only], None) => *only,
                _ => usize::MAX,
            };
        }
    }

    /// How many ports there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Every port.
    pub fn iter(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter()
    }

    /// Moves frames from the port at `place` to `into`, without tags, until there are no more or no room; how many there
    /// were. Those for nobody are counted and freed.
    #[inline]
    pub fn receive(
        &mut self,
        place: usize,
        umem: &mut Umem,
        into: &mut ArrayVec<Received, BATCH>,
        tally: &mut Tally,
    ) -> usize {
        let Some(port) = self.ports.get_mut(place) else { return 0 };
        let received = port.receive(umem, into);
        if received > 0 && !port.tags.is_plain() {
            port.tags.assign(umem, into, received, tally);
        }
        received
    }

    /// Once a loop: what [`Port::flush`] does, for all.
    #[inline]
    pub fn flush(&mut self, umem: &mut Umem) {
        self.ports.iter_mut().for_each(|port| port.flush(umem));
    }

    /// What to poll for reading. A port that lost its device would end every sleep at once.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.ports.iter().filter(|port| !port.is_gone()).filter_map(Port::fd)
    }

    /// The way to other workers.
    #[inline]
    pub fn handover(&self) -> &Handover {
        &self.handover
    }

    /// The same, to unpack what other workers sent.
    #[inline]
    pub fn handover_mut(&mut self) -> &mut Handover {
        &mut self.handover
    }

    /// Sends this frame, as it is, by every port of a device. A port whose ring is full sends others meanwhile.
    pub fn probe(&mut self, device: u32, bytes: &[u8], umem: &mut Umem) {
        for port in self.ports.iter_mut().filter(|port| port.device == device) {
            let Some(mut frame) = umem.allocate() else { return };
            umem.fill(&mut frame, bytes);
            if let Err(frame) = port.send(umem, frame) {
                umem.free(frame);
            }
        }
    }

    /// Has every port note how far it is.
    pub fn note(&mut self, now: Time) {
        self.ports.iter_mut().for_each(|port| port.note(now));
    }

    /// Adds up what the kernel and the ports counted, those that are gone included.
    pub fn count(&self, tally: &mut Tally) {
        let mut sums = self.gone;
        self.ports.iter().for_each(|port| add(&mut sums, counted(port)));
        COUNTED.into_iter().zip(sums).for_each(|(counter, sum)| tally.set(counter, sum));
    }

    /// Sends by one of several devices, or under a tag.
    #[inline(never)]
    fn send_carried(&mut self, umem: &mut Umem, out: usize, mut frame: Frame) -> Result<(), (Frame, DropReason)> {
        let Some(exit) = self.exits.get(out) else { return Err((frame, DropReason::InterfaceDown)) };
        let place = match *exit.senders.as_slice() {
            [] => return Err((frame, DropReason::InterfaceDown)),
            [only] => only,
            ref several => {
                let share = u64::from(spread(umem.packet(&frame))) * several.len() as u64;
                several.get((share >> 32) as usize).copied().unwrap_or_default()
            }
        };
        // A device that is just being deleted leaves its share to the others, until the network says so.
        let alive = |place: &usize| self.ports.get(*place).is_some_and(|port| !port.is_gone());
        let place = if alive(&place) { Some(place) } else { exit.senders.iter().copied().find(alive) };
        let tag = exit.lowers.vlan;
        let Some(port) = place.and_then(|place| self.ports.get_mut(place)) else {
            return Err((frame, DropReason::InterfaceDown));
        };
        if let Some(identifier) = tag {
            // No room before a received packet, or too short to be a frame: never from our own hands.
            if !umem.grow_head(&mut frame, vlan::TAG) || !vlan::put_on(umem.packet_mut(&mut frame), identifier) {
                return Err((frame, DropReason::TooBig));
            }
        }
        port.send(umem, frame).map_err(|frame| (frame, unsent(port)))
    }
}

/// Why a port did not take a frame.
#[cold]
fn unsent(port: &Port) -> DropReason {
    if port.is_gone() { DropReason::InterfaceDown } else { DropReason::TxRingFull }
}

impl Transmit for Ports {
    #[inline]
    fn send(&mut self, umem: &mut Umem, out: InterfaceId, frame: Frame, _tag: u64) -> Result<(), (Frame, DropReason)> {
        let out = usize::from(out.0);
        let Some(exit) = self.exits.get(out) else { return Err((frame, DropReason::InterfaceDown)) };
        match self.ports.get_mut(exit.only) {
            Some(port) => port.send(umem, frame).map_err(|frame| (frame, unsent(port))),
            None => self.send_carried(umem, out, frame),
        }
    }

    fn pass(&mut self, packet: &[u8], arrived: InterfaceId) -> bool {
        let tap = self.exits.get(usize::from(arrived.0)).and_then(|exit| exit.tap.as_ref());
        tap.is_some_and(|tap| tap.inject(packet).is_ok())
    }

    fn hand_over(&mut self, worker: u16, packet: &[u8], arrived: InterfaceId, tag: u64, doubted: bool) -> bool {
        self.handover.send(worker, packet, arrived, tag, doubted)
    }
}

/// What the kernel and a port count, by the worker's counters.
const COUNTED: [Counter; 10] = [
    Counter::KernelRxRingFull,
    Counter::KernelFillRingEmpty,
    Counter::KernelRxDropped,
    Counter::KernelRxInvalid,
    Counter::KernelTxInvalid,
    Counter::Kicks,
    Counter::KickErrors,
    Counter::LargeCut,
    Counter::LargeLost,
    Counter::OutsideUmem,
];

/// The values of [`COUNTED`] for one port.
fn counted(port: &Port) -> [u64; COUNTED.len()] {
    let statistics = port.statistics();
    let kernel = |of: fn(&XdpStatistics) -> u64| statistics.as_ref().map_or(0, of);
    let own = port.counters();
    [
        kernel(|statistics| statistics.rx_ring_full.unwrap_or(0)),
        kernel(|statistics| statistics.rx_fill_ring_empty_descs.unwrap_or(0)),
        kernel(|statistics| statistics.rx_dropped),
        kernel(|statistics| statistics.rx_invalid_descs),
        kernel(|statistics| statistics.tx_invalid_descs),
        own.kicks,
        own.kick_errors(),
        own.large_cut,
        own.large_lost,
        own.invalid,
    ]
}

fn add(sums: &mut [u64; COUNTED.len()], more: [u64; COUNTED.len()]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

#[cfg(test)]
mod tests;
