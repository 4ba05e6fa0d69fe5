//! Where every frame ends, exactly once: sent, passed, handed over or freed.
//!
//! What became of a packet is counted here and nowhere else, by one function: of the packets of a batch, of those that had
//! their place in a batch but no verdict ([`discard`]), and of those that never came into one ([`turn_away`]). That a packet
//! was received is counted by the pipeline that takes it in, and here for those that no pipeline did.

use ringway_shared::counters::{Counter, Tally};
use ringway_shared::{DropReason, InterfaceId};

use crate::af_xdp::{Frame, Umem};
use crate::batch::Batch;
use crate::forward::fragment::Cut;
use crate::verdict::{Outcome, Verdict};

/// What a worker writes frames to.
pub trait Transmit {
    /// Sends a frame by an interface. The frame comes back with the reason when that is not possible.
    fn send(&mut self, umem: &mut Umem, out: InterfaceId, frame: Frame, tag: u64) -> Result<(), (Frame, DropReason)>;

    /// Gives a packet to the kernel as if it had arrived on `arrived` untouched. False when that is not possible.
    fn pass(&mut self, packet: &[u8], arrived: InterfaceId) -> bool;

    /// Gives a packet to another worker. False when that is not possible, or when `doubted` ones have had their part of the room.
    fn hand_over(&mut self, worker: u16, packet: &[u8], arrived: InterfaceId, tag: u64, doubted: bool) -> bool;

    /// Learns the fate of a packet.
    #[inline]
    fn note(&mut self, _outcome: &Fate) {}
}

/// What became of a packet in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The number that the packet carried.
    pub tag: u64,
    /// The verdict; a frame that could not be sent is a drop.
    pub verdict: Verdict,
    /// The service port whose packet it was.
    pub service_port: Option<ringway_shared::ServicePortId>,
}

/// Carries out the verdicts of a batch.
pub fn dispatch(batch: &mut Batch, umem: &mut Umem, tally: &mut Tally, to: &mut impl Transmit) {
    for outcome in batch.output.drain(..) {
        let Outcome { frame, tag, verdict, service_port } = outcome;
        let verdict = match verdict {
            Verdict::Forward { out } | Verdict::Reply { out, .. } => match send(umem, tally, to, out, frame, tag) {
                Ok(()) => verdict,
                Err(reason) => Verdict::Drop(reason),
            },
            Verdict::Fragment { out, mtu } => match send_fragments(umem, tally, to, frame, out, mtu, tag) {
                Ok(()) => Verdict::Forward { out },
                Err(reason) => Verdict::Drop(reason),
            },
            Verdict::Pass { arrived } => {
                let passed = to.pass(umem.packet(&frame), arrived);
                umem.free(frame);
                if passed { verdict } else { Verdict::Drop(DropReason::KernelUnreachable) }
            }
            Verdict::HandOver { worker, arrived, doubted } => {
                let packet = umem.packet(&frame);
                let bytes = packet.len() as u64;
                let handed = to.hand_over(worker, packet, arrived, tag, doubted);
                umem.free(frame);
                if handed {
                    verdict
                } else {
                    // No other pipeline takes it in.
                    receive(tally, bytes);
                    Verdict::Drop(DropReason::HandoverQueueFull)
                }
            }
            Verdict::Drop(_) => {
                umem.free(frame);
                verdict
            }
        };
        count(tally, verdict);
        to.note(&Fate { tag, verdict, service_port });
    }
}

/// Sends a frame, and counts it as sent; frees one that cannot be.
#[inline(always)]
fn send(
    umem: &mut Umem,
    tally: &mut Tally,
    to: &mut impl Transmit,
    out: InterfaceId,
    frame: Frame,
    tag: u64,
) -> Result<(), DropReason> {
    let bytes = frame.len() as u64;
    match to.send(umem, out, frame, tag) {
        Ok(()) => {
            tally.add(Counter::Tx, 1);
            tally.add(Counter::TxBytes, bytes);
            Ok(())
        }
        Err((frame, reason)) => {
            umem.free(frame);
            Err(reason)
        }
    }
}

/// Sends a packet as fragments, in order: all but the last in frames of their own. Either a frame is free for each, or none
/// is sent.
#[cold]
fn send_fragments(
    umem: &mut Umem,
    tally: &mut Tally,
    to: &mut impl Transmit,
    mut frame: Frame,
    out: InterfaceId,
    mtu: u16,
    tag: u64,
) -> Result<(), DropReason> {
    let Some(cut) = Cut::new(umem.packet(&frame), mtu) else {
        umem.free(frame);
        return Err(DropReason::TooBig);
    };
    let mut sent = if cut.count() > umem.free_frames() as usize + 1 { Err(DropReason::NoFreeFrame) } else { Ok(()) };
    for number in 0..cut.count() - 1 {
        if sent.is_ok() {
            sent = umem.allocate().ok_or(DropReason::NoFreeFrame).and_then(|mut fragment| {
                umem.resize(&mut fragment, cut.frame_length(number));
                let (from, into) = umem.packet_pair(&frame, &mut fragment);
                cut.copy(from, number, into);
                send(umem, tally, to, out, fragment, tag)
            });
        }
    }
    match sent {
        Ok(()) => {
            let lost = cut.keep_last(umem.packet_mut(&mut frame));
            umem.shrink_head(&mut frame, lost);
            send(umem, tally, to, out, frame, tag)
        }
        Err(reason) => {
            umem.free(frame);
            Err(reason)
        }
    }
}

/// Ends a frame whose packet was received before, and for which no batch has room: the worker ends.
pub fn discard(umem: &mut Umem, tally: &mut Tally, frame: Frame, reason: DropReason) {
    umem.free(frame);
    count(tally, Verdict::Drop(reason));
}

/// Counts a packet that comes into no pipeline, with what became of it. `bytes`: its length.
pub fn turn_away(tally: &mut Tally, bytes: u64, verdict: Verdict) {
    receive(tally, bytes);
    count(tally, verdict);
}

pub(crate) fn receive(tally: &mut Tally, bytes: u64) {
    tally.add(Counter::Rx, 1);
    tally.add(Counter::RxBytes, bytes);
}

/// Counts what became of a packet.
#[inline(always)]
fn count(tally: &mut Tally, verdict: Verdict) {
    match verdict {
        Verdict::Forward { .. } | Verdict::Fragment { .. } => tally.add(Counter::Forwarded, 1),
        Verdict::Reply { reason, .. } => tally.add_reply(reason),
        Verdict::Pass { .. } => tally.add(Counter::Passed, 1),
        Verdict::Drop(reason) => tally.add_drop(reason),
        Verdict::HandOver { .. } => tally.add(Counter::HandedOver, 1),
    }
}

#[cfg(test)]
mod tests;
