//! What fragments cost in memory, and what it costs to hand a packet over to another worker.

use std::time::{Duration, Instant};

use ringway_dataplane::batch::BATCH;
use ringway_dataplane::handover::{Handover, Mesh};
use ringway_dataplane::wire::checksum;
use ringway_shared::InterfaceId;
use ringway_shared::counters::Counter;

use super::cluster::{INSIDE, OUTSIDE, Plan};
use super::{Company, Kept, MemoryBed, Sink, Time, swap};
use crate::traffic::{Kind, Mix, Stamp};

/// Bytes of the IPv4 payload of each fragment: the first has the UDP header and 24 bytes.
const PIECE: usize = 32;
const IP: usize = 14;
const FRAME: usize = IP + 20 + PIECE;
/// Clients, so that none has more datagrams under way than one may.
const CLIENTS: u32 = 128;
/// Packets at most: no identification comes twice.
pub const MOST_FRAGMENTS: u64 = 2 * 65_536;

impl MemoryBed {
    /// Sends datagrams of UDP over IPv4 in two fragments each, in order, `packets` fragments of random flows; what the pipeline
    /// took for them. Call it on a bed that has sent nothing yet: flows are opened by a first round, which does not count.
    pub fn fragments(&mut self, packets: u64) -> Duration {
        let flows = self.mix.flows;
        let mut datagram: u32 = 0;
        let opening = flows.div_ceil(BATCH as u32 / 2);
        for _ in 0..opening {
            self.batch_of_fragments(&mut datagram, |_, datagram| datagram % flows);
        }
        datagram = 0;
        self.now = Time(self.now.0 + 35_000_000_000);
        let before = self.pipeline.tally().get(Counter::Forwarded);
        let batches = packets.div_ceil(BATCH as u64);
        let total =
            (0..batches).map(|_| self.batch_of_fragments(&mut datagram, |bed, _| bed.random.below(flows))).sum();
        assert_eq!(
            self.pipeline.tally().get(Counter::Forwarded) - before,
            batches * BATCH as u64,
            "every fragment went on"
        );
        total
    }

    fn batch_of_fragments(&mut self, datagram: &mut u32, mut pick: impl FnMut(&mut Self, u32) -> u32) -> Duration {
        let first_client = Plan::of(Kind::Udp4).first_client();
        for _ in 0..BATCH / 2 {
            let flow = pick(self, *datagram);
            let mut frame = [0; FRAME];
            self.mix.first_client = super::cluster::after(first_client, flow % CLIENTS);
            self.mix.write(flow, FRAME, 0, Stamp::default(), &mut frame);
            // The UDP header tells the length of the whole datagram; without a checksum nothing else does.
            frame[IP + 24..IP + 26].copy_from_slice(&(2 * PIECE as u16).to_be_bytes());
            for word in [MORE_FRAGMENTS, PIECE as u16 / 8] {
                frame[IP + 4..IP + 6].copy_from_slice(&(*datagram as u16).to_be_bytes());
                frame[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
                frame[IP + 10..IP + 12].fill(0);
                let sum = checksum::checksum(&frame[IP..IP + 20]);
                frame[IP + 10..IP + 12].copy_from_slice(&sum.to_be_bytes());
                self.push(&frame, OUTSIDE);
            }
            *datagram += 1;
        }
        self.mix.first_client = first_client;
        // Some 320,000 datagrams a second.
        self.now = Time(self.now.0 + 90_000);
        self.process(&mut Sink)
    }
}

const MORE_FRAGMENTS: u16 = 0x2000;

/// Ports that each of two workers has.
const PORTS_OF_ONE: u16 = (65_535 - 1_023) / 2;

/// Gives the first of two workers `packets` replies of UDP over IPv4 to ports of the other; what it took to know whose they are.
pub fn replies_of_another(packets: u64) -> Duration {
    let company = Company { workers: 2, ..Company::default() };
    let mut bed = MemoryBed::among(&company, Kind::Udp4, 1024, BATCH as u32, 100);
    let (mut sent, mut next) = (Kept::default(), 0..);
    bed.batch(Mix::flags(true), &mut sent, |_, _| next.next().unwrap_or_default());
    for frame in &mut sent.0 {
        let turned = [(0, 6), (IP + 12, 4), (IP + 20, 2)].map(|(at, length)| swap(frame, at, length));
        assert!(turned.iter().all(Option::is_some), "what Ringway sends on has a UDP header");
        let port = u16::from_be_bytes([frame[IP + 22], frame[IP + 23]]) + PORTS_OF_ONE;
        frame[IP + 22..IP + 24].copy_from_slice(&port.to_be_bytes());
    }
    let batches = packets.div_ceil(BATCH as u64);
    let mut total = Duration::ZERO;
    for _ in 0..batches {
        sent.0.iter().for_each(|frame| bed.push(frame, INSIDE));
        total += bed.process(&mut Sink);
    }
    let handed_over = bed.pipeline.tally().get(Counter::HandedOver);
    assert_eq!(handed_over, batches * BATCH as u64, "every reply is the other worker's");
    total
}

/// Hands over `packets` packets of `size` bytes from one worker to another, a batch at a time, both on this CPU; what that took.
pub fn hand_over(packets: u64, size: usize) -> Duration {
    let (_mesh, mut ends) = Mesh::new(2).expect("an eventfd can be made");
    let (mut to, mut from) = (ends.pop().expect("two ends"), ends.pop().expect("two ends"));
    let packet = vec![0; size];
    let mut room = [0; 4096];
    let start = Instant::now();
    for _ in 0..packets.div_ceil(BATCH as u64) {
        handed_over(&mut from, &mut to, &packet, &mut room);
    }
    start.elapsed()
}

/// What `perf/instructions.sh` counts, by this name: into the other's inbox, out of it into its memory, and the parcel back home.
#[inline(never)]
fn handed_over(from: &mut Handover, to: &mut Handover, packet: &[u8], room: &mut [u8]) {
    for n in 0..BATCH as u64 {
        assert!(from.send(1, packet, InterfaceId(0), n, false), "the inbox has room for a batch");
    }
    let mut taken = 0;
    while to.receive(|bytes, _, _| room.get_mut(..bytes.len()).map(|room| room.copy_from_slice(bytes))).is_some() {
        taken += 1;
    }
    assert_eq!(taken, BATCH, "what was sent arrives");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bed panics where a fragment does not go on.
    #[test]
    fn every_fragment_of_known_flows_goes_on() {
        let mut bed = MemoryBed::new(Kind::Udp4, 1024, 200, 10);
        bed.fragments(10_000);
        let tally = bed.pipeline.tally();
        assert!(tally.closes());
        assert_eq!((tally.dropped(), tally.get(Counter::FlowsOpened)), (0, 200));
    }

    /// It panics where a reply is not handed over.
    #[test]
    fn every_reply_of_another_worker_is_known() {
        replies_of_another(1_000);
    }

    #[test]
    fn what_is_handed_over_arrives() {
        hand_over(1_000, 1_514);
    }
}
