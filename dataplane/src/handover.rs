//! Handover: packets that the NIC delivered to another worker than the one that owns their flow.
//!
//! Every worker has a bounded inbox that all others push into. A parcel is a preallocated box that the packet is copied
//! into; it belongs to the worker that sent it and goes back to it when it has been unpacked, so nothing is allocated or
//! freed after start.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use ringway_shared::InterfaceId;

use crate::af_xdp::Piece;
use crate::waker::Waker;

/// The largest packet that can be handed over, in bytes: a frame's worth.
pub const PARCEL_BYTES: usize = 4096;

/// Parcels that a worker may have under way: two receive rings full, so that a burst which the NIC had room for has room
/// here as well while the other worker is busy. The parcels lent last are used first, and a parcel that was never used
/// takes no memory: 16 MiB a worker at most, next to nothing where little is handed over.
const PARCELS: usize = 4096;

/// Parcels that wait in an inbox at most: what four others can send at once. One that is so far behind gets no better by
/// a longer queue, and every slot takes memory from the start.
const INBOX: usize = 4 * PARCELS;

/// Of a worker's parcels, how many may be under way with packets that seem to belong elsewhere by their own word alone.
const DOUBTED: usize = PARCELS / 8;

/// Bytes that a queue takes for each of its slots.
const SLOT: usize = 16;

/// Address space that each of several workers takes for handover, in bytes, with what the heap adds to a parcel.
pub const BYTES_A_WORKER: usize = PARCELS * (PARCEL_BYTES + size_of::<Parcel>() + 2 * SLOT + 8) + INBOX * SLOT;

struct Parcel {
    sender: u16,
    interface: InterfaceId,
    tag: u64,
    length: usize,
    doubted: bool,
    bytes: Piece,
}

/// What the workers share: an inbox each, and a way to wake each.
pub struct Mesh {
    inboxes: Box<[Inbox]>,
}

struct Inbox {
    parcels: ArrayQueue<Box<Parcel>>,
    returned: ArrayQueue<Box<Parcel>>,
    waker: Waker,
}

impl Mesh {
    /// A mesh of `workers` workers, and each worker's end of it.
    pub fn new(workers: u16) -> rustix::io::Result<(Arc<Mesh>, Vec<Handover>)> {
        let inbox = |_| {
            Ok(Inbox {
                parcels: ArrayQueue::new(INBOX.min(PARCELS * usize::from(workers.max(2) - 1))),
                returned: ArrayQueue::new(PARCELS),
                waker: Waker::new()?,
            })
        };
        let inboxes = (0..workers).map(inbox).collect::<rustix::io::Result<_>>()?;
        let mesh = Arc::new(Mesh { inboxes });
        let parcels = if workers > 1 { PARCELS } else { 0 };
        let end = |worker| {
            let pieces = Piece::several(parcels, PARCEL_BYTES)?;
            // The first piece is used first.
            let parcel = |bytes| {
                Box::new(Parcel { sender: worker, interface: InterfaceId(0), tag: 0, length: 0, doubted: false, bytes })
            };
            let stock = pieces.into_iter().rev().map(parcel).collect();
            Ok(Handover { mesh: mesh.clone(), worker, stock, doubted: 0 })
        };
        let ends = (0..workers).map(end).collect::<rustix::io::Result<_>>()?;
        Ok((mesh, ends))
    }

    /// The waker of a worker.
    pub fn waker(&self, worker: u16) -> Option<&Waker> {
        self.inboxes.get(usize::from(worker)).map(|inbox| &inbox.waker)
    }
}

/// One worker's end of the mesh.
pub struct Handover {
    mesh: Arc<Mesh>,
    worker: u16,
    #[allow(clippy::vec_box, reason = "parcels go from worker to worker in the boxes that they were made in")]
    stock: Vec<Box<Parcel>>,
    /// Parcels under way with packets that are doubted.
    doubted: usize,
}

impl Handover {
    /// Copies a packet to another worker. False when it is not possible now: its inbox is full, or all parcels of this
    /// worker are under way, or of a `doubted` packet as many as there may be.
    pub fn send(&mut self, to: u16, packet: &[u8], interface: InterfaceId, tag: u64, doubted: bool) -> bool {
        if packet.len() > PARCEL_BYTES {
            return false;
        }
        if self.stock.is_empty() || (doubted && self.doubted >= DOUBTED) {
            self.collect();
        }
        if doubted && self.doubted >= DOUBTED {
            return false;
        }
        let Some(inbox) = self.mesh.inboxes.get(usize::from(to)) else { return false };
        let Some(mut parcel) = self.stock.pop() else { return false };
        let Some(room) = parcel.bytes.get_mut(..packet.len()) else { return false };
        room.copy_from_slice(packet);
        (parcel.length, parcel.interface, parcel.tag, parcel.doubted) = (packet.len(), interface, tag, doubted);
        match inbox.parcels.push(parcel) {
            Ok(()) => {
                self.doubted += usize::from(doubted);
                inbox.waker.wake();
                true
            }
            Err(parcel) => {
                self.stock.push(parcel);
                false
            }
        }
    }

    /// Takes back the parcels that were unpacked.
    fn collect(&mut self) {
        let Some(own) = self.mesh.inboxes.get(usize::from(self.worker)) else { return };
        while let Some(parcel) = own.returned.pop() {
            self.doubted -= usize::from(parcel.doubted);
            // Never grows: the stock once held every parcel of this worker.
            self.stock.push(parcel);
        }
    }

    /// Takes the next packet that was handed to this worker: `unpack` gets its bytes, interface and tag.
    pub fn receive<R>(&mut self, unpack: impl FnOnce(&[u8], InterfaceId, u64) -> R) -> Option<R> {
        let parcel = self.mesh.inboxes.get(usize::from(self.worker))?.parcels.pop()?;
        let result = unpack(parcel.bytes.get(..parcel.length).unwrap_or_default(), parcel.interface, parcel.tag);
        if let Some(home) = self.mesh.inboxes.get(usize::from(parcel.sender)) {
            // Never full: it has room for every parcel of its worker.
            let _ = home.returned.push(parcel);
        }
        Some(result)
    }

    /// Whether a packet waits in this worker's inbox.
    pub fn is_waiting(&self) -> bool {
        self.waiting() > 0
    }

    /// How many packets wait in this worker's inbox.
    pub fn waiting(&self) -> usize {
        self.mesh.inboxes.get(usize::from(self.worker)).map_or(0, |inbox| inbox.parcels.len())
    }

    /// This worker's waker.
    pub fn waker(&self) -> Option<&Waker> {
        self.mesh.waker(self.worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::RingSizes;

    #[test]
    fn parcels_come_back_and_a_full_inbox_refuses() {
        let (_mesh, mut ends) = Mesh::new(2).unwrap();
        let mut b = ends.pop().unwrap();
        let mut a = ends.pop().unwrap();
        for round in 0..3 * PARCELS as u64 {
            assert!(a.send(1, &round.to_ne_bytes(), InterfaceId(2), round, false));
            let seen = b.receive(|bytes, interface, tag| (bytes.to_vec(), interface, tag));
            assert_eq!(seen, Some((round.to_ne_bytes().to_vec(), InterfaceId(2), round)));
        }
        // A burst from both NICs of a gateway finds room.
        assert!(PARCELS >= 2 * RingSizes::DEFAULT.receive as usize);
        let sent = (0..2 * PARCELS).filter(|_| a.send(1, b"x", InterfaceId(0), 0, false)).count();
        assert_eq!(sent, PARCELS);
        assert_eq!(b.waiting(), PARCELS);
        assert!(b.receive(|_, _, _| ()).is_some());
        assert!(a.send(1, b"x", InterfaceId(0), 0, false), "a returned parcel is used again");
        assert!(!a.send(1, &[0; PARCEL_BYTES + 1], InterfaceId(0), 0, false));
        assert!(!a.send(7, b"x", InterfaceId(0), 0, false));
    }

    #[test]
    fn an_inbox_holds_no_more_than_its_slots_however_many_send() {
        let (mesh, mut ends) = Mesh::new(6).unwrap();
        let mut receiver = ends.remove(0);
        let mut accepted = 0;
        for sender in &mut ends {
            accepted += (0..PARCELS).filter(|_| sender.send(0, b"x", InterfaceId(0), 0, false)).count();
        }
        assert_eq!((accepted, receiver.waiting()), (INBOX, INBOX));
        assert!(receiver.receive(|_, _, _| ()).is_some());
        assert!(ends[4].send(0, b"x", InterfaceId(0), 0, false), "what was refused stayed in the stock");
        let slots = |workers| Mesh::new(workers).unwrap().0.inboxes[0].parcels.capacity();
        assert_eq!([1, 2, 3, 64].map(slots), [PARCELS, PARCELS, 2 * PARCELS, INBOX]);
        drop(mesh);
    }

    #[test]
    fn doubted_packets_leave_most_of_the_room_to_others() {
        let (_mesh, mut ends) = Mesh::new(2).unwrap();
        let (mut b, mut a) = (ends.pop().unwrap(), ends.pop().unwrap());
        let sent = |a: &mut Handover, doubted| {
            (0..2 * PARCELS).filter(|_| a.send(1, b"x", InterfaceId(0), 0, doubted)).count()
        };
        assert_eq!(sent(&mut a, true), DOUBTED);
        assert_eq!(sent(&mut a, false), PARCELS - DOUBTED);
        for _ in 0..3 {
            // Those that were unpacked may be used for the like again.
            (0..DOUBTED).for_each(|_| assert!(b.receive(|_, _, _| ()).is_some()));
            assert_eq!(sent(&mut a, true), DOUBTED);
            (0..PARCELS - DOUBTED).for_each(|_| assert!(b.receive(|_, _, _| ()).is_some()));
            assert_eq!(sent(&mut a, false), PARCELS - DOUBTED);
        }
    }

    #[test]
    fn a_sleeping_worker_is_woken() {
        let (mesh, mut ends) = Mesh::new(2).unwrap();
        let (mut b, mut a) = (ends.pop().unwrap(), ends.pop().unwrap());
        let waker = mesh.waker(1).unwrap();
        waker.sleep();
        assert!(!b.is_waiting());
        let sleeper = std::thread::spawn({
            let mesh = mesh.clone();
            move || {
                let waker = mesh.waker(1).unwrap();
                let mut fds = [rustix::event::PollFd::from_borrowed_fd(waker.fd(), rustix::event::PollFlags::IN)];
                rustix::event::poll(&mut fds, None).unwrap();
                waker.awake();
            }
        });
        assert!(a.send(1, b"up", InterfaceId(0), 0, false));
        sleeper.join().unwrap();
        assert!(b.receive(|bytes, _, _| bytes == b"up").unwrap());
    }
}
