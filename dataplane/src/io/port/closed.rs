//! What ports leave behind: chunks that the kernel may still use for a while.
//!
//! `close` does not wait for the driver. What the kernel does (`net/xdp`, Linux 5.9 to 7.0):
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
//! Time stands in for the proof only where the kernel does not let us try, for want of memory or a permission. A deleted
//! device needs none: its deletion does steps 1 to 4 before a socket on it says that it is gone.

use std::time::{Duration, Instant};

use crate::af_xdp::socket::Holding;
use crate::af_xdp::umem::Holder;
use crate::af_xdp::{Device, Umem};

/// How long to wait where there can be no proof. Longer than the drivers known take, and no more than that.
const LETTING_GO: Duration = Duration::from_secs(10);

/// What is left of a closed port: its chunks, and the queue by which the kernel had them.
#[derive(Debug)]
#[must_use = "the chunks that the kernel held are lost until they are reclaimed"]
pub struct Closed {
    holder: Holder,
    umem: u32,
    /// Whose driver may still use the chunks.
    used_by: Option<(Device, u32)>,
}

impl Closed {
    /// `used_by`: the queue whose driver may still use the chunks, if any.
    pub(super) fn new(holder: Holder, umem: u32, used_by: Option<(Device, u32)>) -> Self {
        Closed { holder, umem, used_by }
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
pub struct Leftovers(Vec<Leftover>);

#[derive(Debug)]
struct Leftover {
    worker: u16,
    closed: Closed,
    since: Instant,
}

impl Leftovers {
    /// Takes what a port of a worker left.
    pub fn add(&mut self, worker: u16, closed: Closed) {
        self.0.push(Leftover { worker, closed, since: Instant::now() });
    }

    /// A socket of ours was bound to a queue of a device, by its ifindex: whoever had it before has let go.
    pub fn bound(&mut self, device: u32, queue: u32) {
        let is_there = |used_by: &(Device, u32)| used_by.0.index == device && used_by.1 == queue;
        for left in &mut self.0 {
            left.closed.used_by = left.closed.used_by.take().filter(|used_by| !is_there(used_by));
        }
    }

    /// Takes out what is known to be used by nobody, with the number of the worker that is to reclaim it.
    pub fn take_unused(&mut self) -> Vec<(u16, Closed)> {
        self.take_free_by(Instant::now(), |_, _| Holding::Held)
    }

    /// Takes out what nobody uses any more, with the number of the worker that is to reclaim it. Binds a socket for a moment
    /// to each queue that may be in use, for which the kernel may wait until others have changed their devices; then the queue is
    /// busy for some 50 ms, so whoever is about to bind to it is better off with [`Self::bound`].
    pub fn take_free(&mut self) -> Vec<(u16, Closed)> {
        self.take_free_by(Instant::now(), Holding::of)
    }

    fn take_free_by(&mut self, now: Instant, ask: impl Fn(&Device, u32) -> Holding) -> Vec<(u16, Closed)> {
        let is_free = |left: &mut Leftover| {
            let Some((device, queue)) = &left.closed.used_by else { return true };
            match ask(device, *queue) {
                Holding::Free => true,
                Holding::Held => false,
                Holding::Unknown => now.saturating_duration_since(left.since) >= LETTING_GO,
            }
        };
        self.0.extract_if(.., is_free).map(|left| (left.worker, left.closed)).collect()
    }

    /// Whether some are a worker's.
    pub fn has(&self, worker: u16) -> bool {
        self.0.iter().any(|left| left.worker == worker)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
