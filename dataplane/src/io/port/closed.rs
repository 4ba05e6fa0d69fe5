//! What ports leave behind: chunks that the kernel may still use for a while.
//!
//! `close` does not wait for the driver. What the kernel does (`net/xdp`, read in 5.19 and 6.15):
//!
//! 1. `xsk_release` takes the socket out of all maps and marks it unbound, and waits until no CPU receives for it any more.
//!    In copy mode nothing is written into the chunks from here on.
//! 2. The socket is destroyed once the packets that it sent in copy mode are gone (each holds it; virtio_net sends them from the
//!    chunks themselves, all others from copies), and after an RCU grace period. Then `xp_release_deferred` is scheduled.
//! 3. That takes the lock of all device changes and has the driver let go, by `ndo_bpf(XDP_SETUP_XSK_POOL)` with no pool. The
//!    driver stops the queue first: the kernel gives the memory's pages back right after, so it relies on this itself.
//! 4. Only then, under that same lock, it notes that the queue has no pool (`xsk_clear_pool_at_qid`).
//!
//! Nothing says how long 2 and 3 take (a driver's reset takes up to 3 s, and others may have the lock). But the first thing
//! that a bind looks at under the lock is the note of step 4: it says EBUSY before, and not afterwards. So **a queue that can be
//! bound again is the proof** that the driver has let go of the chunks of whoever had it before; a bind in copy mode does
//! nothing to the driver. That a socket of ours is at the queue now proves as much.
//!
//! Time stands in for the proof only where the kernel does not let us try, for want of memory or a permission.
//!
//! That a socket says that it has no device (ENXIO) proves nothing: a deletion marks the sockets before it has the driver let
//! go, and some drivers (igc, ixgbe) say so as long as no XDP program is attached. A bind to a device that is deleted waits for
//! the deletion, and finds no device: that is the proof.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::af_xdp::socket::Holding;
use crate::af_xdp::umem::Holder;
use crate::af_xdp::{Device, Socket, Umem};

/// How long to wait where there can be no proof. Longer than the drivers known take, and no more than that.
const LETTING_GO: Duration = Duration::from_secs(10);

/// The part of the time that a queue has been held for that it is not asked about again: of one that is held for long, because
/// another process has it by now, it is asked seldom.
const PAUSE: u32 = 8;
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is left of a closed port: its chunks, and the queue by which the kernel had them.
#[derive(Debug)]
#[must_use = "the chunks that the kernel held are lost until they are reclaimed"]
pub struct Closed {
    holder: Holder,
    umem: u32,
    used_by: Option<UsedBy>,
}

/// By what the kernel had a port's chunks: its driver may still use them.
#[derive(Debug)]
pub(super) struct UsedBy {
    device: Device,
    queue: u32,
    socket: Weak<Socket>,
}

impl UsedBy {
    pub(super) fn of(socket: &Arc<Socket>) -> Self {
        UsedBy { device: socket.device().clone(), queue: socket.queue(), socket: Arc::downgrade(socket) }
    }

    /// Whether `other` could be bound only because this one has let go: no queue has two sockets at a time.
    fn is_followed_by(&self, other: &Weak<Socket>) -> bool {
        let is_here = |other: Arc<Socket>| other.device().index == self.device.index && other.queue() == self.queue;
        !Weak::ptr_eq(&self.socket, other) && other.upgrade().is_some_and(is_here)
    }
}

impl Closed {
    /// `used_by`: by what a driver may still use the chunks, if any does.
    pub(super) fn new(holder: Holder, umem: u32, used_by: Option<UsedBy>) -> Self {
        Closed { holder, umem, used_by }
    }

    /// Whether no driver uses the chunks, as far as is known without asking.
    fn is_unused(&self, bound: &[Weak<Socket>]) -> bool {
        self.used_by.as_ref().is_none_or(|used_by| bound.iter().any(|socket| used_by.is_followed_by(socket)))
    }

    /// Frees the port's chunks; how many. Right as soon as the kernel has let go: [`Leftovers`] know when.
    pub fn reclaim(self, umem: &mut Umem) -> u32 {
        debug_assert_eq!(umem.id(), self.umem, "the UMEM of another worker");
        if umem.id() == self.umem { umem.reclaim(self.holder) } else { 0 }
    }
}

/// Closed ports of all workers whose chunks a driver may still read and write. Until they are free again they belong to the
/// number that the port had, which no other port gets meanwhile.
#[derive(Debug, Default)]
pub struct Leftovers {
    left: Vec<Leftover>,
    /// Our sockets that are bound to queues; those that are closed since go when others come.
    bound: Vec<Weak<Socket>>,
}

#[derive(Debug)]
struct Leftover {
    worker: u16,
    closed: Closed,
    since: Instant,
    asked: Option<Instant>,
}

impl Leftover {
    /// Whether it is worth while to ask again.
    fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| {
            let pause = (asked.saturating_duration_since(self.since) / PAUSE).min(LONGEST_PAUSE);
            now.saturating_duration_since(asked) >= pause
        })
    }
}

impl Leftovers {
    /// Takes what a port of a worker left.
    pub fn add(&mut self, worker: u16, closed: Closed) {
        self.left.push(Leftover { worker, closed, since: Instant::now(), asked: None });
    }

    /// A socket of ours was bound to its queue: as long as it is there, whoever had the queue before has let go, also where we
    /// hear of that one later.
    pub fn bound(&mut self, socket: &Arc<Socket>) {
        self.bound.retain(|socket| socket.strong_count() > 0);
        self.bound.push(Arc::downgrade(socket));
    }

    /// Takes out what is known to be used by nobody, with the number of the worker that is to reclaim it.
    pub fn take_unused(&mut self) -> Vec<(u16, Closed)> {
        let bound = &self.bound;
        let is_unused = |left: &mut Leftover| left.closed.is_unused(bound);
        Self::freed(self.left.extract_if(.., is_unused))
    }

    /// Takes out what nobody uses any more, with the number of the worker that is to reclaim it. Binds a socket for a moment
    /// to each queue that may be in use, for which the kernel may wait until others have changed their devices; then the queue is
    /// busy for some 50 ms, so whoever is about to bind to it is better off with [`Self::bound`].
    pub fn take_free(&mut self) -> Vec<(u16, Closed)> {
        self.take_free_by(Instant::now(), Holding::of)
    }

    fn take_free_by(&mut self, now: Instant, ask: impl Fn(&Device, u32) -> Holding) -> Vec<(u16, Closed)> {
        let bound = &self.bound;
        let is_free = |left: &mut Leftover| {
            if left.closed.is_unused(bound) {
                return true;
            }
            let Some(used_by) = left.closed.used_by.as_ref().filter(|_| left.is_due(now)) else { return false };
            left.asked = Some(now);
            match ask(&used_by.device, used_by.queue) {
                Holding::Free => true,
                Holding::Held => false,
                Holding::Unknown => now.saturating_duration_since(left.since) >= LETTING_GO,
            }
        };
        Self::freed(self.left.extract_if(.., is_free))
    }

    /// What is proven need not be proven again, should the worker have no time for it now.
    fn freed(free: impl Iterator<Item = Leftover>) -> Vec<(u16, Closed)> {
        free.map(|left| (left.worker, Closed { used_by: None, ..left.closed })).collect()
    }

    /// Whether some are a worker's.
    pub fn has(&self, worker: u16) -> bool {
        self.left.iter().any(|left| left.worker == worker)
    }

    /// When the last of those came that a device's driver may still use.
    pub fn last_of(&self, device: u32) -> Option<Instant> {
        let is_its =
            |left: &&Leftover| left.closed.used_by.as_ref().is_some_and(|used_by| used_by.device.index == device);
        self.left.iter().filter(is_its).map(|left| left.since).max()
    }

    /// The devices whose drivers may still use some.
    pub fn devices(&self) -> BTreeSet<u32> {
        self.left.iter().filter_map(|left| Some(left.closed.used_by.as_ref()?.device.index)).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

#[cfg(test)]
mod tests;
