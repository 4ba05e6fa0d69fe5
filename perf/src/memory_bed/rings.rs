//! The bed's worker, or a bare forwarder, between rings in memory: what a packet costs in user space from one ring to the other.
//! What a kernel and its driver do is not there, nor are system calls, nor the clock.

use ringway_dataplane::af_xdp::{RingSizes, Umem, UmemLayout};
use ringway_dataplane::batch::BATCH;
use ringway_dataplane::clock::Time;
use ringway_dataplane::dispatch::dispatch;
use ringway_dataplane::handover::Mesh;
use ringway_dataplane::io::{KernelSide, Port, Ports, bare};
use ringway_shared::counters::Counter;
use ringway_shared::network::Lowers;

use super::MemoryBed;
use super::cluster::{CLIENT_MAC, INSIDE, MAC, OUTSIDE};
use crate::traffic::{PSH_ACK, Stamp};

const SIZES: RingSizes = RingSizes { fill: 128, completion: 128, receive: 128, transmit: 128, driver: 0 };

/// Both sides of the two ports.
struct Cables {
    outside: Port,
    inside: Port,
    ends: Ends,
}

/// What plays the kernel.
struct Ends {
    arriving: KernelSide,
    leaving: KernelSide,
}

impl MemoryBed {
    /// Sends `packets` packets of known flows from ring to ring by the worker.
    pub fn by_rings(&mut self, packets: u64) {
        let Cables { outside, inside, mut ends } = self.cables();
        let (_mesh, mut handovers) = Mesh::new(1).expect("an eventfd can be made");
        let mut io = Ports::new(handovers.remove(0));
        for (mut port, id) in [(outside, OUTSIDE), (inside, INSIDE)] {
            port.device = u32::from(id.0) + 1;
            let lowers = Lowers::itself(port.device, "ring".into());
            io.push(port);
            io.carry(id, lowers);
        }
        let before = self.pipeline.tally().get(Counter::Forwarded);
        let batches = packets.div_ceil(BATCH as u64);
        for _ in 0..batches {
            self.deliver(&mut ends);
            self.turn_by_rings(&mut io);
            self.take(&mut ends);
        }
        let forwarded = self.pipeline.tally().get(Counter::Forwarded) - before;
        assert_eq!(forwarded, batches * BATCH as u64, "every packet went on");
    }

    /// The same by a forwarder that changes nothing but MAC addresses.
    pub fn bare_by_rings(&mut self, packets: u64) {
        let Cables { mut outside, mut inside, mut ends } = self.cables();
        for _ in 0..packets.div_ceil(BATCH as u64) {
            self.deliver(&mut ends);
            let forwarded = turn_of_bare(&mut self.umem, &mut outside, &mut inside);
            assert_eq!(forwarded, BATCH, "every packet went on");
            self.take(&mut ends);
        }
    }

    fn cables(&mut self) -> Cables {
        self.umem = Umem::new(UmemLayout::of_frames(2 * SIZES.frames() + 2 * BATCH as u32)).expect("memory for rings");
        let mut cable = |id| Port::in_memory(id, 0, SIZES, &mut self.umem).expect("rings of a good size");
        let ((outside, arriving), (inside, leaving)) = (cable(OUTSIDE), cable(INSIDE));
        Cables { outside, inside, ends: Ends { arriving, leaving } }
    }

    fn deliver(&mut self, ends: &mut Ends) {
        let (mut frame, size) = ([0; 128], self.mix.kind.shortest());
        for _ in 0..BATCH {
            let flow = self.random.below(self.mix.flows);
            let length = self.mix.write(flow, size, PSH_ACK, Stamp::default(), &mut frame);
            let is_delivered = ends.arriving.deliver(&mut self.umem, frame.get(..length).unwrap_or_default());
            assert!(is_delivered, "the fill ring is refilled");
        }
    }

    fn take(&mut self, ends: &mut Ends) {
        while ends.leaving.transmit(&mut self.umem).is_some() {}
    }

    /// What `perf/instructions.sh` counts, by this name: a turn of a worker's loop.
    #[inline(never)]
    fn turn_by_rings(&mut self, io: &mut Ports) {
        self.now = Time(self.now.0 + 10_000);
        for port in 0..io.len() {
            if io.receive(port, &mut self.umem, &mut self.batch.input, self.pipeline.tally()) > 0 {
                self.pipeline.process(&mut self.umem, &mut self.batch, &self.snapshot, self.now);
                dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), io);
            }
        }
        io.flush(&mut self.umem);
        self.pipeline.expire(self.now, 32);
        self.pipeline.publish();
    }
}

/// The same of the bare forwarder.
#[inline(never)]
fn turn_of_bare(umem: &mut Umem, from: &mut Port, to: &mut Port) -> usize {
    bare::forward(umem, from, Some(to), CLIENT_MAC, MAC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Kind;

    /// The bed panics where a packet is lost.
    #[test]
    fn packets_go_from_ring_to_ring() {
        let mut bed = MemoryBed::new(Kind::Udp4, 1024, 200, 10);
        bed.open_all();
        bed.by_rings(1_000);
        bed.bare_by_rings(1_000);
        bed.established(100);
    }
}
