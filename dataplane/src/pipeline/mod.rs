//! The packet path: one batch through parse, find or open flow, advance, rewrite. Bytes in, verdict out, no I/O.
//!
//! The same code runs behind AF_XDP, under `ringway replay`, in benches and in tests. Time, seeds and the snapshot are
//! inputs. It works in stages over the whole batch, so that the cache misses of one packet's flow lookup overlap with
//! the others': parse and hash all; load all index slots; load all flow records; then decide and rewrite one by one.
//!
//! Invariants: every received packet leaves as exactly one [`Outcome`], now or (held) later; nothing here panics,
//! allocates, locks or logs.

mod adjacencies;
mod again;
mod answer;
mod broken;
mod departure;
mod direct;
mod dsr;
mod errors;
mod established;
mod fragments;
mod held;
mod late;
mod limiter;
pub(crate) mod more_ports;
mod open;
mod owed;
mod owner;
pub(crate) mod portless;
pub(crate) mod rescue;
mod stage;
mod strays;
mod tunnel_errors;
mod usual;

use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayVec;
use ringway_shared::counters::{Counter, Tally, WorkerCounters};
use ringway_shared::suspects::Suspects;
use ringway_shared::{DropReason, InterfaceId, ServicePortId, Snapshot};

use crate::af_xdp::{Frame, Umem};
use crate::affinity::Affinities;
use crate::batch::{BATCH, Batch, Outcomes, Received};
use crate::clock::Time;
use crate::config::{PipelineConfig, Settings};
use crate::direct::DirectConnections;
use crate::direct::watches::Watches;
use crate::directory::FlowDirectory;
use crate::flow::FlowTable;
use crate::forward::nat;
use crate::resolver::Resolver;
use crate::verdict::{Outcome, Verdict};
use crate::wire::{Kind, Packet, Refusal};

use adjacencies::Adjacencies;
use again::Again;
use errors::HandedErrors;
use fragments::Fragments;
use held::Held;
use limiter::{Answers, Limiter, Rescues};
use owner::MOST_FORMER;
use rescue::Moves;
use stage::{Staged, preload, read};
use strays::Strays;

/// New flows that a worker without a free port gives to others in any second.
const LOANS_PER_SECOND: u32 = 4_000;

/// What the pipeline of one worker shares with others.
#[derive(Clone)]
pub struct Shared {
    /// Where flows of other workers are hinted at; `None` with one worker.
    pub directory: Option<Arc<FlowDirectory>>,
    /// What is known of connections past the Services.
    pub direct: Arc<DirectConnections>,
    /// Which endpoints clients had, for Services with session affinity.
    pub affinities: Arc<Affinities>,
    /// Backends that seem to be dead.
    pub suspects: Arc<Suspects>,
    /// Whom to ask for neighbours.
    pub resolver: Arc<Resolver>,
    /// Where the worker's counts are published.
    pub counters: Arc<WorkerCounters>,
}

/// The packet path of one worker.
pub struct Pipeline {
    stage: [Staged; BATCH],
    core: Core,
}

/// Everything but the stages.
struct Core {
    config: PipelineConfig,
    /// Of former settings, the last ones: flows keep theirs, and their replies still come.
    former_snat_addresses: ArrayVec<IpAddr, MOST_FORMER>,
    flows: FlowTable,
    held: Held,
    fragments: Fragments,
    answers: Answers,
    errors: HandedErrors,
    strays: Strays,
    /// Of new flows that others have a port for.
    loans: Limiter,
    rescues: Rescues,
    moves: Moves,
    again: Again,
    /// Of the batch.
    handed_over: HandedOver,
    adjacencies: Adjacencies,
    watches: Watches,
    shared: Shared,
    tally: Tally,
}

/// What a batch is processed with.
struct Context<'a> {
    umem: &'a mut Umem,
    snapshot: &'a Snapshot,
    now: Time,
}

impl Pipeline {
    /// The pipeline of one worker.
    pub fn new(config: PipelineConfig, mut flows: FlowTable, shared: Shared) -> Self {
        if let Some(directory) = &shared.directory {
            flows.share(directory.clone(), config.worker);
        }
        flows.mind(shared.direct.clone());
        flows.watch(shared.counters.clone());
        flows.watch_suspects(shared.suspects.clone());
        let answers = Answers::new(config.replies_per_second);
        let errors = HandedErrors::new();
        // One alone has nobody to ask.
        let loans = Limiter::new(if config.workers > 1 { LOANS_PER_SECOND } else { 0 });
        let (held, adjacencies, tally) = (Held::default(), Adjacencies::new(shared.resolver.clone()), Tally::default());
        let watches = Watches::new(shared.direct.clone());
        let mut fragments = Fragments::default();
        if let Some(directory) = &shared.directory {
            fragments.datagrams.share(directory.clone(), config.worker);
        }
        let (rescues, moves) = (Rescues::new(), Moves::default());
        let core = Core {
            config,
            former_snat_addresses: ArrayVec::new(),
            flows,
            held,
            fragments,
            answers,
            errors,
            strays: Strays::new(),
            loans,
            rescues,
            moves,
            again: Again::default(),
            handed_over: HandedOver::default(),
            adjacencies,
            watches,
            shared,
            tally,
        };
        Pipeline { stage: std::array::from_fn(|_| Staged::default()), core }
    }

    /// Processes the packets of `batch.input`; their outcomes go to `batch.output`, which must be empty.
    ///
    /// What a packet of a known flow costs, with masquerade, 1,000 flows, AMD EPYC, 2026-11-30, in instructions; the command that
    /// shows them is `STAGES=1 perf/instructions.sh`. UDP over IPv4 has no checksum here, the others have one:
    ///
    /// | stage | UDP | TCP | UDP over IPv6 | TCP over IPv6 |
    /// |---|---|---|---|---|
    /// | `read`: parse, hash | 139 | 144 | 171 | 177 |
    /// | `preload`: bucket, record | 52 | 52 | 52 | 52 |
    /// | `handle_all`: find, advance, rewrite, leave, count | 275 | 306 | 355 | 355 |
    /// | dispatch, to who frees it | 52 | 53 | 52 | 52 |
    /// | in all | 518 | 555 | 630 | 636 |
    ///
    /// In CPU time (`ringway-perf cost`): 38 ns at 2.6 GHz, some 100 cycles, when it was 662 instructions on an idle machine.
    /// There are no cycles by stage: the virtual machine that this was measured in offers no counter of them (`perf_event_open`
    /// of CPU cycles: no such event). With a million flows it is 62 ns: what `preload` asks for comes from memory.
    pub fn process(&mut self, umem: &mut Umem, batch: &mut Batch, snapshot: &Snapshot, now: Time) {
        let core = &mut self.core;
        // As many as fit into the batch fit into the stage.
        let stage = self.stage.get_mut(..batch.input.len()).unwrap_or_default();
        if stage.is_empty() {
            return;
        }
        core.tally.add(Counter::Batches, 1);
        let bytes = read(stage, &batch.input, umem, &core.flows);
        preload(stage, &core.flows);
        let mut context = Context { umem, snapshot, now };
        core.handle_all(&mut context, batch, stage);
        core.end_given_up(&mut batch.output);
        let handed_over = std::mem::take(&mut core.handed_over);
        let (later, later_bytes) = std::mem::take(&mut core.fragments.received_later);
        core.tally.add(Counter::Rx, stage.len() as u64 - handed_over.packets - later);
        core.tally.add(Counter::RxBytes, bytes - handed_over.bytes - later_bytes);
        core.count_held();
    }

    /// Releases held packets whose neighbour is known now, fragments whose first one has come, and both if they waited too
    /// long; as many as the batch has room for. Whether more fragments are ready.
    pub fn release(&mut self, umem: &mut Umem, batch: &mut Batch, snapshot: &Snapshot, now: Time) -> bool {
        let mut context = Context { umem, snapshot, now };
        if self.core.held.is_due(snapshot.network.generation, now) {
            self.core.release(&mut context, batch);
        }
        self.core.release_fragments(&mut context, batch)
    }

    /// Whether fragments wait for what another worker may have to say any moment.
    pub fn waits_for_others(&self, now: Time) -> bool {
        self.core.shared.directory.is_some() && self.core.fragments.waiting.has_just_begun(now)
    }

    /// Fragments wait no more for their first one: the worker ends.
    pub fn end_waiting(&mut self) {
        self.core.fragments.waiting.end();
    }

    /// A bounded step of expiry.
    pub fn expire(&mut self, now: Time, budget: u32) {
        self.core.flows.expire(now, budget);
        self.core.fragments.expire(now, budget);
        self.core.watches.expire(now);
    }

    /// The worker's counts; `dispatch` adds what became of packets.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.core.tally
    }

    /// Publishes the counts.
    pub fn publish(&mut self) {
        let (tally, flows) = (&mut self.core.tally, &self.core.flows);
        let counts = flows.statistics();
        tally.set(Counter::FlowsOpened, counts.opened);
        tally.set(Counter::FlowsClosed, counts.closed);
        tally.set(Counter::FlowsEvicted, counts.evicted);
        tally.set(Counter::SnatPortsReclaimed, counts.ports_reclaimed);
        tally.set(Counter::Flows, u64::from(flows.len()));
        tally.set(Counter::FlowsHalfOpen, u64::from(flows.half_open_len()));
        tally.set(Counter::SnatPortsHighWater, u64::from(flows.port_high_water()));
        self.core.shared.counters.publish(tally);
    }

    /// Other settings from now on. Not for the packet path: it frees memory.
    #[cold]
    pub fn set(&mut self, settings: Settings, now: Time) {
        self.core.flows.set_timeouts(&settings.timeouts, now);
        self.core.set_snat_addresses(settings.snat_addresses);
        self.core.config.rescue = settings.rescue;
    }

    /// The flow table, for questions.
    pub fn flows(&self) -> &FlowTable {
        &self.core.flows
    }

    /// Packets that wait for a neighbour, and fragments that wait for the first one of their datagram.
    pub fn held(&self) -> usize {
        self.core.held_packets()
    }

    /// Frees every held packet as dropped: the worker ends.
    pub fn drop_held(&mut self, umem: &mut Umem) {
        self.core.drop_held(umem);
    }
}

/// Packets that are received by the workers that get them.
#[derive(Default)]
struct HandedOver {
    packets: u64,
    bytes: u64,
}

impl Core {
    /// The last stage: decides and rewrites one by one.
    #[inline(never)]
    fn handle_all(&mut self, context: &mut Context, batch: &mut Batch, stage: &[Staged]) {
        for (received, staged) in batch.input.drain(..).zip(stage) {
            if staged.candidate.is_none() {
                self.handle_any(context, received, staged, &mut batch.output);
            } else {
                self.handle(context, received, staged, &mut batch.output);
            }
        }
    }

    /// One packet to its outcome, unless it is held. A function of its own, so that the packet stays where it is in memory, and
    /// takes no registers.
    #[inline(never)]
    fn handle(&mut self, context: &mut Context, mut received: Received, staged: &Staged, output: &mut Outcomes) {
        match self.usual(context, &mut received, staged) {
            Some((verdict, service_port)) => {
                let (frame, tag) = (received.frame, received.tag);
                output.push(Outcome { frame, tag, verdict, service_port: Some(service_port) });
            }
            None => self.handle_any(context, received, staged, output),
        }
    }

    #[cold]
    #[inline(never)]
    fn handle_any(&mut self, context: &mut Context, received: Received, staged: &Staged, output: &mut Outcomes) {
        let bytes = received.frame.len() as u64;
        let Some(mut outcome) = self.decide(context, received, staged) else { return };
        match outcome.verdict {
            Verdict::Pass { .. } => finish_for_kernel(context.umem, &mut outcome.frame, &staged.parsed),
            Verdict::HandOver { .. } => {
                self.handed_over.packets += 1;
                self.handed_over.bytes += bytes;
            }
            _ => {}
        }
        output.push(outcome);
    }

    #[inline(always)]
    fn decide(&mut self, context: &mut Context, received: Received, staged: &Staged) -> Option<Outcome> {
        let Some(interface) = context.snapshot.network.interface(received.interface) else { return pass(received) };
        let packet = match &staged.parsed {
            Ok(packet) => packet,
            Err(refusal) => return self.refused(context, received, refusal, interface.mac),
        };
        if packet.destination_mac != interface.mac {
            return pass(received);
        }
        if let Some(fragment) = packet.fragment {
            return self.fragment(context, received, packet, fragment, staged);
        }
        if !matches!(packet.kind, Kind::Tcp { .. } | Kind::Udp | Kind::Sctp) {
            return self.portless(context, received, packet);
        }
        match self.flows.find(staged.hash, staged.candidate, &packet.tuple, context.now) {
            Ok((flow, direction)) => self.established(context, received, packet, staged.hash, flow, direction),
            Err(over) => {
                if let Some(flow) = over {
                    self.flows.remove(flow, context.now);
                }
                self.open_unknown(context, received, packet, staged.hash)
            }
        }
    }

    /// Packets that wait for whatever.
    #[inline]
    fn held_packets(&self) -> usize {
        self.held.len() + self.fragments.waiting.len()
    }
}

/// Why the packet must be dropped if it is ours, as far as the packet and the network tell.
#[inline]
fn objection(snapshot: &Snapshot, packet: &Packet, arrived: InterfaceId) -> Option<DropReason> {
    match packet.objection {
        Some(objection) => Some(objection),
        None => snapshot.network.objection_to(packet.tuple.source_address(), arrived),
    }
}

#[inline]
fn pass(received: Received) -> Option<Outcome> {
    let verdict = Verdict::Pass { arrived: received.interface };
    Some(Outcome { frame: received.frame, tag: received.tag, verdict, service_port: None })
}

/// Gives a packet to another worker, which receives it; `doubted`: see [`Verdict::HandOver`].
#[inline]
fn handed(received: Received, worker: u16, doubted: bool) -> Option<Outcome> {
    let verdict = Verdict::HandOver { worker, arrived: received.interface, doubted };
    Some(Outcome { frame: received.frame, tag: received.tag, verdict, service_port: None })
}

#[inline]
fn dropped(received: Received, reason: DropReason, service_port: Option<ServicePortId>) -> Option<Outcome> {
    Some(Outcome { frame: received.frame, tag: received.tag, verdict: Verdict::Drop(reason), service_port })
}

/// Completes what a local sender's checksum offload left open, for a packet that goes to the kernel by a way that does
/// not carry that mark.
#[cold]
fn finish_for_kernel(umem: &mut Umem, frame: &mut Frame, parsed: &Result<Packet, Refusal>) {
    if let Ok(packet) = parsed {
        nat::complete_partial(umem.packet_mut(frame), packet);
    }
}
