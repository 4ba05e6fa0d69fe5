//! A port: one queue of one device, with its four rings.
//!
//! Every chunk that a port holds is in its fill or receive ring ([`Port::in_receive`]), in its transmit or completion
//! ring ([`Port::in_transmit`]), or in the kernel between them. With the free list and the frames in the worker's hands
//! they make up the whole UMEM, at every moment between two calls.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ringway_shared::{InterfaceId, drivers};
use rustix::net::xdp::XdpStatistics;

use super::kernel_side::{self, KernelSide};
use super::large::{Gathered, Large, PIECE};
use super::ports::Tags;
use crate::af_xdp::rings::{CONTINUES, Descriptor};
use crate::af_xdp::umem::{Holder, Region};
use crate::af_xdp::{CopyMode, Device, Frame, RingSizes, Rings, Socket, SocketError, SocketOptions, Umem};
use crate::batch::{BATCH, Received};
use crate::clock::Time;

mod closed;
mod counters;
mod error;
mod kicks;
mod loan;
mod progress;

use closed::UsedBy;
pub use closed::{Closed, Leftovers};
pub use counters::PortCounters;
pub use error::PortError;
pub use loan::Loan;
use progress::Tracker;
pub use progress::{Progress, ProgressCell};

/// The shortest frame that is sent: an Ethernet header. The kernel takes shorter ones out of the ring for good.
const SHORTEST: usize = 14;

/// What a port is to be.
#[derive(Clone, Copy, Debug)]
pub struct PortOptions<'a> {
    /// The device.
    pub device: &'a Device,
    /// The queue.
    pub queue: u32,
    /// How to open its socket.
    pub socket: SocketOptions,
}

/// One queue of one device, with its four rings.
#[derive(Debug)]
pub struct Port {
    /// The device's ifindex; 0 for a port in memory, unless somebody says otherwise.
    pub device: u32,
    /// Which interface's frames it receives.
    pub tags: Tags,
    /// The queue of the device.
    pub queue: u32,
    /// `None` when the rings end in memory.
    socket: Option<Arc<Socket>>,
    rings: Rings,
    umem: u32,
    holder: Holder,
    in_receive: u32,
    in_transmit: u32,
    /// Longer packets are more than the link carries: offloads merged them.
    longest: u32,
    large: Large,
    /// Poll the driver by system call whenever there is nothing to receive.
    busy_poll: bool,
    /// No transmit kick before; and no kick at all, where the device is gone.
    resting: Option<Instant>,
    is_gone: bool,
    /// Whether the driver works on the chunks directly.
    is_direct: bool,
    tracker: Tracker,
    counters: PortCounters,
}

impl Port {
    /// Opens a socket on the queue, its fill ring full. `ports` are the worker's other ports, which share the UMEM.
    pub fn open(options: &PortOptions<'_>, umem: &mut Umem, ports: &[Port]) -> Result<Port, PortError> {
        let siblings: Vec<Arc<Socket>> = ports.iter().filter_map(|port| port.socket.clone()).collect();
        Loan::of(umem, options.socket.rings)?.open(options, &siblings).map_err(|(error, loan)| {
            loan.unused().reclaim(umem);
            error
        })
    }

    /// The same, again and again while another socket has the queue, at most 1 s: for those who do nothing else meanwhile.
    pub fn open_patiently(options: &PortOptions<'_>, umem: &mut Umem, ports: &[Port]) -> Result<Port, PortError> {
        let start = Instant::now();
        loop {
            match Self::open(options, umem, ports) {
                Err(PortError::Socket(SocketError::Busy { .. })) if start.elapsed() < Duration::from_secs(1) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }

    /// A port of one interface whose rings end in memory: the second value plays the kernel.
    pub fn in_memory(
        interface: InterfaceId,
        queue: u32,
        sizes: RingSizes,
        umem: &mut Umem,
    ) -> Result<(Port, KernelSide), PortError> {
        let holder = Self::holder(umem, sizes)?;
        let (rings, kernel) = kernel_side::rings(sizes, holder).map_err(PortError::Rings)?;
        let mut port = Port { tags: Tags::plain(interface), ..Self::over(0, queue, rings, &umem.region(), holder) };
        port.refill(umem);
        Ok((port, kernel))
    }

    fn holder(umem: &mut Umem, sizes: RingSizes) -> Result<Holder, PortError> {
        let (needed, free) = (sizes.frames(), umem.unpromised());
        if free < needed {
            return Err(PortError::Frames { needed, free });
        }
        umem.new_holder(needed).ok_or(PortError::TooMany)
    }

    fn over(device: u32, queue: u32, rings: Rings, region: &Region, holder: Holder) -> Port {
        Port {
            device,
            tags: Tags::default(),
            queue,
            socket: None,
            rings,
            umem: region.umem(),
            holder,
            in_receive: 0,
            in_transmit: 0,
            longest: region.layout().room(),
            large: Large::new(holder, PIECE),
            busy_poll: false,
            resting: None,
            is_gone: false,
            is_direct: false,
            tracker: Tracker::default(),
            counters: PortCounters::default(),
        }
    }

    /// Moves frames from the receive ring to `into` until one is empty or the other full; how many.
    #[inline]
    pub fn receive(&mut self, umem: &mut Umem, into: &mut ArrayVec<Received, BATCH>) -> usize {
        let before = into.len();
        if !self.is_of(umem) {
            return 0;
        }
        while !into.is_full() {
            if self.large.is_busy()
                && let Some(frame) = self.next_piece(umem)
            {
                into.push(self.received(frame));
                continue;
            }
            let Some(descriptor) = self.rings.receive.pop() else { break };
            self.tracker.received += 1;
            let is_large = descriptor.options & CONTINUES != 0 || descriptor.length > self.longest;
            if is_large || self.large.is_busy() {
                if let Some(frame) = self.gather(umem, descriptor) {
                    into.push(self.received(frame));
                }
                continue;
            }
            self.in_receive -= 1;
            match umem.adopt(descriptor.address, descriptor.length) {
                Some(frame) => into.push(self.received(frame)),
                None => self.counters.invalid += 1,
            }
        }
        self.rings.receive.release();
        into.len() - before
    }

    #[inline]
    fn received(&self, frame: Frame) -> Received {
        Received { frame, interface: self.tags.untagged(), tag: 0, handed_over: false }
    }

    /// The next piece of a large packet.
    #[cold]
    fn next_piece(&mut self, umem: &mut Umem) -> Option<Frame> {
        match self.large.next(umem) {
            Ok((frame, freed)) => {
                self.in_receive -= freed;
                self.counters.large_cut += u64::from(freed > 0);
                Some(frame)
            }
            Err(freed) => {
                self.in_receive -= freed;
                self.counters.large_lost += u64::from(freed > 0);
                None
            }
        }
    }

    /// A descriptor of a large packet; a frame when it is whole and stays so.
    #[cold]
    fn gather(&mut self, umem: &mut Umem, descriptor: Descriptor) -> Option<Frame> {
        match self.large.gather(umem, descriptor) {
            Gathered::Taken => None,
            Gathered::Whole(frame) => {
                self.in_receive -= 1;
                Some(frame)
            }
            Gathered::Refused(freed) => {
                self.in_receive -= freed;
                // Of a packet with too many descriptors each is refused; the last one counts.
                self.counters.large_lost += u64::from(!self.large.is_busy());
                None
            }
        }
    }

    /// Puts a frame on the transmit ring; the kernel sees it after the next [`Self::flush`]. The frame comes back when
    /// the ring is full, or when the kernel would refuse it.
    #[inline]
    pub fn send(&mut self, umem: &mut Umem, frame: Frame) -> Result<(), Frame> {
        if self.is_gone || !self.is_of(umem) || frame.len() < SHORTEST || self.rings.transmit.room(1) == 0 {
            return Err(frame);
        }
        let (address, length) = umem.hand_to(frame, self.holder);
        let is_sent = self.rings.transmit.push(Descriptor { address, length, options: 0 });
        debug_assert!(is_sent, "there was room");
        self.in_transmit += 1;
        Ok(())
    }

    /// Once a loop: frees the chunks of sent packets, shows the kernel new ones, refills the fill ring, and wakes the
    /// kernel if it asks.
    #[inline]
    pub fn flush(&mut self, umem: &mut Umem) {
        if !self.is_of(umem) || self.is_gone && !self.is_back() {
            return;
        }
        let before = self.in_transmit;
        while let Some(address) = self.rings.completion.pop() {
            umem.complete(address);
            self.in_transmit -= 1;
        }
        self.tracker.completed += u64::from(before - self.in_transmit);
        self.rings.completion.release();
        self.rings.transmit.submit();
        self.refill(umem);
        if self.in_transmit > 0 {
            self.kick_transmit();
        }
        if self.busy_poll || self.rings.fill.needs_wakeup() {
            self.kick_receive();
        }
    }

    /// Hands free chunks to the kernel until the fill ring is full.
    #[inline]
    fn refill(&mut self, umem: &mut Umem) {
        let mut room = self.rings.fill.room(1);
        while room > 0 {
            let Some(base) = umem.take_for(self.holder) else { break };
            let is_filled = self.rings.fill.push(base);
            debug_assert!(is_filled, "there was room");
            self.in_receive += 1;
            room -= 1;
        }
        self.rings.fill.submit();
    }

    /// Closes the socket, unless others have it too. The chunks that the kernel still had come back to the free list with
    /// [`Closed::reclaim`].
    pub fn close(self) -> Closed {
        let used_by = self.socket.as_ref().filter(|socket| self.may_be_used(&socket.device().driver())).map(UsedBy::of);
        Closed::new(self.holder, self.umem, used_by)
    }

    /// Whether the driver may use the port's chunks after its socket is closed, also where the socket says that it is gone. In
    /// copy mode the kernel writes into none any more; with some drivers it sends from those that it was given to send.
    fn may_be_used(&self, driver: &str) -> bool {
        self.is_direct || self.in_transmit > 0 && drivers::sends_from_memory(driver)
    }

    #[inline]
    fn is_of(&self, umem: &Umem) -> bool {
        debug_assert_eq!(umem.id(), self.umem, "the UMEM of another worker");
        umem.id() == self.umem
    }

    /// Chunks in the fill and receive rings, in the kernel between them, and in a large packet that is being cut.
    pub fn in_receive(&self) -> u32 {
        self.in_receive
    }

    /// Chunks in the transmit and completion rings, and in the kernel between them.
    pub fn in_transmit(&self) -> u32 {
        self.in_transmit
    }

    /// Chunks that the port holds.
    pub fn in_flight(&self) -> u32 {
        self.in_receive + self.in_transmit
    }

    /// True while the socket has no interface to send by: it was deleted, or (igc, ixgbe) somebody took the XDP program off it.
    pub fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// Notes how far it is, for whoever reads [`Self::progress`].
    pub fn note(&mut self, now: Time) {
        self.tracker.note(self.in_receive, self.in_transmit, self.rings.transmit.waiting(), now);
    }

    /// Where to read how far it is.
    pub fn progress(&self) -> Arc<ProgressCell> {
        self.tracker.cell()
    }

    /// What it counted.
    pub fn counters(&self) -> &PortCounters {
        &self.counters
    }

    /// The kernel's own count of what it lost; `None` for a port in memory.
    pub fn statistics(&self) -> Option<XdpStatistics> {
        self.socket.as_ref()?.statistics().ok()
    }

    /// The socket, for others who need it; `None` for a port in memory. It closes when all have dropped it.
    pub fn socket(&self) -> Option<&Arc<Socket>> {
        self.socket.as_ref()
    }

    /// The socket's descriptor, for poll and for the steering map; `None` for a port in memory.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// Zero-copy, or why not; `None` for a port in memory.
    pub fn mode(&self) -> Option<&CopyMode> {
        self.socket.as_ref().map(|socket| socket.mode())
    }
}

#[cfg(test)]
mod tests;
