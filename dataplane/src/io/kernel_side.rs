//! The kernel's side of a port in memory: a NIC queue for tests and benches that need no root.

use rustix::io::Errno;

use crate::af_xdp::rings::{self, CONTINUES, Consumer, Descriptor, Producer};
use crate::af_xdp::umem::Holder;
use crate::af_xdp::{RingSizes, Rings, Umem};

/// The other ends of a port's rings.
#[derive(Debug)]
pub struct KernelSide {
    fill: Consumer<u64>,
    completion: Producer<u64>,
    receive: Producer<Descriptor>,
    transmit: Consumer<Descriptor>,
    holder: Holder,
}

/// Both sides of four rings in plain memory.
pub(super) fn rings(sizes: RingSizes, holder: Holder) -> Result<(Rings, KernelSide), Errno> {
    let (fill, kernel_fill) = rings::pair(sizes.fill, 0)?;
    let (kernel_completion, completion) = rings::pair(sizes.completion, 0)?;
    let (kernel_receive, receive) = rings::pair(sizes.receive, 0)?;
    let (transmit, kernel_transmit) = rings::pair(sizes.transmit, 0)?;
    let kernel = KernelSide {
        fill: kernel_fill,
        completion: kernel_completion,
        receive: kernel_receive,
        transmit: kernel_transmit,
        holder,
    };
    Ok((Rings { fill, completion, receive, transmit }, kernel))
}

impl KernelSide {
    /// Receives a packet, as the kernel does: one that is too long for a chunk comes as several descriptors. False when
    /// there are not enough chunks for it, or no room in the ring.
    pub fn deliver(&mut self, umem: &mut Umem, packet: &[u8]) -> bool {
        let (headroom, room) = (u64::from(umem.layout().headroom), umem.layout().room() as usize);
        let count = packet.len().div_ceil(room).max(1) as u32;
        if self.receive.room(count) < count || self.fill.available(count) < count {
            return false;
        }
        let mut rest = packet;
        loop {
            let (part, after) = rest.split_at(rest.len().min(room));
            let Some(base) = self.fill.pop() else { return false };
            let Some(mut frame) = umem.adopt(base + headroom, 0) else { return false };
            let is_filled = umem.fill(&mut frame, part);
            let (address, length) = umem.hand_to(frame, self.holder);
            let options = if after.is_empty() { 0 } else { CONTINUES };
            let is_pushed = self.receive.push(Descriptor { address, length, options });
            debug_assert!(is_filled && is_pushed, "there was room");
            if after.is_empty() {
                break;
            }
            rest = after;
        }
        self.fill.release();
        self.receive.submit();
        true
    }

    /// Sends the next packet, as a NIC does: its bytes, or `None` when there is none or the completion ring is full.
    pub fn transmit(&mut self, umem: &mut Umem) -> Option<Vec<u8>> {
        if self.completion.room(1) == 0 {
            return None;
        }
        let Descriptor { address, length, .. } = self.transmit.pop()?;
        self.transmit.release();
        let frame = umem.adopt(address, length)?;
        let packet = umem.packet(&frame).to_vec();
        let (address, _) = umem.hand_to(frame, self.holder);
        let is_completed = self.completion.push(address);
        self.completion.submit();
        is_completed.then_some(packet)
    }
}
