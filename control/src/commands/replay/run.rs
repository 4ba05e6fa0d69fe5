//! One worker that is fed from a capture.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use ringway_dataplane::af_xdp::{Umem, UmemLayout};
use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Time;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::dispatch::{Fate, turn_away};
use ringway_dataplane::flow::FlowTable;
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::io::pcap::{CaptureWriter, Captured};
use ringway_dataplane::pipeline::{Pipeline, Shared};
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::verdict::Verdict;
use ringway_dataplane::wire::Packet;
use ringway_shared::counters::{Tally, WorkerCounters};
use ringway_shared::decision::{Decision, decide, without_frontend};
use ringway_shared::suspects::Suspects;
use ringway_shared::{DropReason, InterfaceId, Snapshot};

use super::verdicts::Verdicts;
use crate::config::Config;
use crate::outcome::{Failure, note};

/// The seed of the flow table's hashes: every replay of a capture is the same.
const SEED: u64 = 0x52_65_70_6c_61_79;

/// Frames with room for a batch, for packets that wait for a neighbour, and for fragments that wait for the first one.
const FRAMES: u32 = 1024;

/// Captures have packets larger than a NIC's queue takes, as a sender's offload left them: a frame holds them all.
const CHUNK: u32 = 65536;

/// Flows count milliseconds in a circle of 49 days, and must hear of the time before half of it is over.
const STEP: u64 = 10 * 24 * 60 * 60 * 1_000_000_000;

/// Longer than any packet waits.
const END: Duration = Duration::from_secs(2);

/// An interface that Ringway is not attached to.
const ELSEWHERE: InterfaceId = InterfaceId(u16::MAX);

/// What could not be written.
#[derive(Debug)]
pub(super) enum Unwritten {
    Out(io::Error),
    Verdicts(io::Error),
}

pub(super) struct Replay<W: Write> {
    worker: MemoryWorker,
    snapshot: Snapshot,
    out: CaptureWriter<W>,
    written: u64,
    verdicts: Verdicts<W>,
    start: Option<Duration>,
    now: Time,
    /// Interfaces of the capture that Ringway is not attached to.
    elsewhere: HashSet<String>,
    /// Packets that the capture did not keep whole.
    cut: u64,
}

impl<W: Write> Replay<W> {
    pub(super) fn new(
        config: &Config,
        snapshot: Snapshot,
        out: CaptureWriter<W>,
        verdicts: Verdicts<W>,
    ) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::failed(format!("cannot start a worker: {error}"));
        let layout = UmemLayout { chunk_size: CHUNK, ..UmemLayout::of_frames(FRAMES) };
        let umem = Umem::new(layout).map_err(|error| failed(&error))?;
        let flows = config.flow_table(0, 1, SEED).ok_or_else(|| failed(&"snat.ports is empty"))?;
        let ports = snapshot.services.service_ports.iter().flatten();
        let numbers = ports.flat_map(|port| port.endpoints.iter()).map(|endpoint| endpoint.backend.id.0);
        // What endpoints answer decides about suspects.
        let backends = numbers.max().map_or(0, |last| last as usize + 1);
        let counters = WorkerCounters::new(backends);
        let shared = Shared {
            directory: None,
            direct: DirectConnections::new(),
            affinities: Affinities::new(Affinities::CLIENTS, SEED),
            suspects: Suspects::new(backends, [counters.clone()]),
            resolver: Resolver::new().map_err(|error| failed(&error))?,
            counters,
        };
        let pipeline = Pipeline::new(config.pipeline(0, 1), FlowTable::new(&flows), shared);
        let (worker, now) = (MemoryWorker::new(umem, pipeline), Time::default());
        Ok(Replay { worker, snapshot, out, written: 0, verdicts, start: None, now, elsewhere: HashSet::new(), cut: 0 })
    }

    /// Runs one packet through. `interface`: where the capture says it arrived.
    pub(super) fn packet(&mut self, packet: &Captured, interface: Option<&str>) -> Result<(), Unwritten> {
        let start = *self.start.get_or_insert(packet.timestamp);
        // Captures of several queues are not always in order; time never runs backwards.
        let since = packet.timestamp.saturating_sub(start).as_nanos();
        self.advance(self.now.max(Time(u64::try_from(since).unwrap_or(u64::MAX))))?;
        self.cut += u64::from(packet.original_length as usize > packet.data.len());
        let arrived = self.arrival(interface);
        let number = self.verdicts.arrive(packet.timestamp);
        if !self.worker.run(&packet.data, arrived, number, &self.snapshot, self.now) {
            self.refuse(packet, arrived, number);
        }
        self.collect()
    }

    /// Ends the capture: what still waits gets its fate. Gives the counts.
    pub(super) fn finish(mut self) -> Result<Tally, Unwritten> {
        if self.cut > 0 {
            let cut = if self.cut == 1 { "1 packet was".into() } else { format!("{} packets were", self.cut) };
            note(format!("{cut} cut off by the capture, which counts as truncated; capture with -s 0"));
        }
        self.advance(Time(self.now.0.saturating_add(END.as_nanos() as u64)))?;
        let tally = self.worker.tally();
        self.out.finish().map_err(Unwritten::Out)?;
        self.verdicts.finish().map_err(Unwritten::Verdicts)?;
        Ok(tally)
    }

    /// Lets time pass until `now`: packets stop waiting, flows expire.
    fn advance(&mut self, now: Time) -> Result<(), Unwritten> {
        while now.0.saturating_sub(self.now.0) > STEP {
            self.now.0 += STEP;
            self.worker.pipeline.expire(self.now, u32::MAX);
        }
        self.now = now;
        loop {
            let before = self.worker.pipeline.held();
            self.worker.tick(&self.snapshot, now);
            self.collect()?;
            if self.worker.pipeline.held() == before {
                break;
            }
        }
        self.worker.pipeline.expire(now, u32::MAX);
        Ok(())
    }

    fn arrival(&mut self, name: Option<&str>) -> InterfaceId {
        let Some(name) = name else { return InterfaceId(0) };
        let interfaces = self.snapshot.network.interfaces();
        if let Some(interface) = interfaces.iter().find(|interface| &*interface.name == name) {
            return interface.id;
        }
        if self.elsewhere.insert(name.to_owned()) {
            note(format!("packets that arrived on {name} pass: the configuration's interfaces do not list it"));
        }
        ELSEWHERE
    }

    /// A packet larger than a frame: the NIC has no room for it, so it is lost if it is ours.
    fn refuse(&mut self, packet: &Captured, arrived: InterfaceId, number: u64) {
        let ours = self.is_ours(&packet.data, arrived);
        let verdict = if ours { Verdict::Drop(DropReason::TooBig) } else { Verdict::Pass { arrived } };
        turn_away(self.worker.pipeline.tally(), packet.data.len() as u64, verdict);
        self.verdicts.decide(&Fate { tag: number, verdict, service_port: None }, &self.snapshot.services);
    }

    fn is_ours(&self, bytes: &[u8], arrived: InterfaceId) -> bool {
        let Some(interface) = self.snapshot.network.interface(arrived) else { return false };
        let Ok(packet) = Packet::parse(bytes) else { return false };
        let (services, tuple) = (&self.snapshot.services, &packet.tuple);
        packet.destination_mac == interface.mac
            && (!matches!(decide(services, tuple), Decision::Pass)
                || !matches!(without_frontend(services, tuple.destination_address()), Decision::Pass)
                || self.worker.pipeline.flows().lookup(tuple, self.now).is_some())
    }

    /// Writes down what left and what was decided.
    fn collect(&mut self) -> Result<(), Unwritten> {
        let collector = &mut self.worker.collector;
        for sent in collector.sent.drain(..) {
            self.written += 1;
            let timestamp = self.verdicts.caused(sent.tag, self.written);
            self.out.write(usize::from(sent.out.0), timestamp, &sent.bytes).map_err(Unwritten::Out)?;
        }
        for fate in collector.fates.drain(..) {
            self.verdicts.decide(&fate, &self.snapshot.services);
        }
        collector.passed.clear();
        self.verdicts.write().map_err(Unwritten::Verdicts)
    }
}
