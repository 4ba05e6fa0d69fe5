//! What forged packets cost in memory, beside flows that are there already.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::batch::BATCH;
use ringway_dataplane::dispatch::dispatch;
use ringway_dataplane::fragments::MOST_PIECES;
use ringway_shared::DropReason;
use ringway_shared::counters::{Counter, Tally};
use serde_json::{Map, Value, json};

use super::cluster::{CLIENT_MAC, MAC, OUTSIDE, Plan};
use super::{MemoryBed, Sink, Time};
use crate::failure::Failure;
use crate::forged::{Aim, Flood, Forgery, LONGEST};
use crate::traffic::Kind;

/// Nanoseconds between two batches: 100,000 packets a second.
const PAUSE: u64 = 640_000;
/// Flows that are there.
const FLOWS: u32 = 1_000;

/// What `ringway-perf forged` is asked.
#[derive(Args, Clone, Debug)]
pub struct ForgedCost {
    /// What is sent: syn, datagram, later-fragment, first-fragment, error, error-from-inside, error-outside-window, long-chain or
    /// ping.
    #[arg(long)]
    pub kind: Forgery,
    /// To the node's own address and a NodePort; otherwise to a VIP.
    #[arg(long)]
    pub to_node: bool,
    /// Over IPv6.
    #[arg(long)]
    pub ipv6: bool,
    /// Packets to send.
    #[arg(long, default_value_t = 200_000, value_parser = RangedU64ValueParser::<u64>::new().range(64..))]
    pub packets: u64,
}

impl ForgedCost {
    /// Measures; the report is one JSON object.
    pub fn run(&self) -> Result<Value, Failure> {
        let flooded = flooded(self.kind, !self.to_node, self.ipv6, self.packets)?;
        let became: Map<String, Value> =
            flooded.became.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        Ok(json!({
            "kind": self.kind.label(),
            "to": if self.to_node { "node" } else { "vip" },
            "ipv6": self.ipv6,
            "packets": self.packets,
            "forgedNanos": flooded.took.as_nanos() as f64 / self.packets as f64,
            "became": became,
            "flowsOpened": flooded.opened,
        }))
    }
}

/// What a flood cost, and what became of it.
#[derive(Clone, Debug)]
pub struct Flooded {
    /// What the pipeline took for it.
    pub took: Duration,
    /// What became of how many packets, by name.
    pub became: Vec<(&'static str, u64)>,
    /// Flows that opened.
    pub opened: u64,
}

/// Sends `packets` forged packets of a kind, to a VIP or to the node's own address, to a worker with a thousand flows.
pub fn flooded(kind: Forgery, to_vip: bool, is_v6: bool, packets: u64) -> Result<Flooded, Failure> {
    let mix = Kind::of(kind.protocol() == ringway_shared::Protocol::Tcp, is_v6);
    let mut bed = MemoryBed::new(mix, 65_536, FLOWS, 100);
    let plan = Plan::of(mix);
    if to_vip {
        bed.mix.destination = SocketAddr::new(plan.vip(), super::cluster::PORT);
    }
    bed.umem = Umem::new(UmemLayout::of_frames((2 * BATCH + MOST_PIECES) as u32)).expect("memory for a few frames");
    bed.open_all();
    let (to, about) = match kind {
        // As from a router behind which the endpoints are.
        Forgery::ErrorFromInside => (SocketAddr::new(plan.inside(), 1_024), Some(plan.backend(0))),
        Forgery::ErrorOutsideWindow => (bed.mix.destination, Some(bed.mix.tuple(0).source_address())),
        _ => (bed.mix.destination, None),
    };
    let about_port =
        if kind == Forgery::ErrorFromInside { super::cluster::PORT } else { bed.mix.tuple(0).source_port() };
    let aim = Aim {
        destination_mac: MAC,
        source_mac: CLIENT_MAC,
        from: strangers(is_v6),
        to,
        about: about.map(|address| SocketAddr::new(address, about_port)),
    };
    let flood = Flood::new(kind, &aim)?;
    let before = bed.pipeline.tally().clone();
    let mut number = 0;
    let took = (0..packets.div_ceil(BATCH as u64)).map(|_| bed.batch_of_forged(&flood, &mut number)).sum();
    let tally = bed.pipeline.tally();
    assert!(tally.closes(), "every packet has a verdict");
    let opened = tally.get(Counter::FlowsOpened) - before.get(Counter::FlowsOpened);
    let flooded = Flooded { took, became: became(&before, tally), opened };
    // Frames are not dropped with the list that they wait in.
    bed.pipeline.end_waiting();
    bed.carry_forged();
    bed.pipeline.drop_held(&mut bed.umem);
    Ok(flooded)
}

fn strangers(is_v6: bool) -> IpAddr {
    let text = if is_v6 { "fd00:198::1:0:0" } else { "198.19.0.0" };
    text.parse().expect("a constant")
}

fn became(before: &Tally, after: &Tally) -> Vec<(&'static str, u64)> {
    let counters = [("forwarded", Counter::Forwarded), ("passed", Counter::Passed), ("held", Counter::Held)];
    let counters = counters.into_iter().map(|(name, counter)| (name, after.get(counter) - before.get(counter)));
    let replies = DropReason::ALL.iter().map(|reason| after.replies(*reason) - before.replies(*reason)).sum();
    let drops = DropReason::ALL.iter().map(|reason| (reason.label(), after.drops(*reason) - before.drops(*reason)));
    counters.chain([("replied", replies)]).chain(drops).filter(|(_, count)| *count > 0).collect()
}

impl MemoryBed {
    fn batch_of_forged(&mut self, flood: &Flood, number: &mut u32) -> Duration {
        let mut frame = [0; LONGEST];
        for _ in 0..BATCH {
            let length = flood.write(*number, &mut frame);
            self.push(frame.get(..length).unwrap_or_default(), OUTSIDE);
            *number = number.wrapping_add(1);
        }
        self.now = Time(self.now.0 + PAUSE);
        let start = Instant::now();
        self.carry_forged();
        start.elapsed()
    }

    /// What `perf/instructions.sh` counts, by this name: a turn of a worker's loop without its rings.
    #[inline(never)]
    fn carry_forged(&mut self) {
        self.pipeline.process(&mut self.umem, &mut self.batch, &self.snapshot, self.now);
        dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), &mut Sink);
        let mut more = self.pipeline.held() > 0;
        while more {
            more = self.pipeline.release(&mut self.umem, &mut self.batch, &self.snapshot, self.now);
            dispatch(&mut self.batch, &mut self.umem, self.pipeline.tally(), &mut Sink);
        }
        self.pipeline.expire(self.now, 32);
        self.pipeline.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as fill every list that a flood may fill.
    const MANY: u64 = 20_000;

    fn fate(kind: Forgery, to_vip: bool, is_v6: bool) -> (&'static str, u64) {
        let flooded = flooded(kind, to_vip, is_v6, MANY).unwrap();
        *flooded.became.iter().max_by_key(|(_, count)| *count).unwrap()
    }

    #[test]
    fn what_is_forged_ends_by_name() {
        for is_v6 in [false, true] {
            for (kind, to_vip, expected) in [
                (Forgery::LaterFragment, true, "fragment_without_first"),
                (Forgery::Error, true, "icmp_without_flow"),
                (Forgery::Error, false, "icmp_without_flow"),
                (Forgery::ErrorFromInside, false, "icmp_without_flow"),
                (Forgery::ErrorOutsideWindow, true, "icmp_outside_window"),
                (Forgery::ErrorOutsideWindow, false, "icmp_outside_window"),
                (Forgery::LongChain, true, "extension_chain_too_long"),
            ] {
                if kind == Forgery::LongChain && !is_v6 {
                    continue;
                }
                let (name, count) = fate(kind, to_vip, is_v6);
                assert_eq!(name, expected, "{kind}");
                assert!(count > MANY * 4 / 5, "{kind}: {count}");
            }
        }
    }
}
