//! `status`: is it well, and if not, what is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use ringway_shared::counters::{Counter, Tally};
use ringway_shared::snapshot::Snapshot;
use ringway_shared::{Network, PortSet};
use serde::{Deserialize, Serialize};

use super::LedgerReport;
use super::answers::UnansweringReport;
use super::configuration::ConfigurationReport;
use super::drained::DrainedReport;
use super::drops::{KernelLosses, PortCounts};
use super::interfaces::InterfaceReport;
use super::neighbors::NeighborReport;
use super::readiness::reasons;
use super::snat::SnatReport;
use super::source::{KubernetesReport, SourceReport};
use super::unreachable::{UnreachableReport, unreachable};
use crate::publish::Published;

/// The answer of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// Ringway's version.
    pub version: String,
    /// `nodeName`.
    pub node: String,
    /// The process id.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether the first full list was in force on all workers, everything makes progress and packets can leave.
    pub ready: bool,
    /// Why not.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The configuration.
    #[serde(default)]
    pub configuration: ConfigurationReport,
    /// The objects.
    pub source: SourceReport,
    /// The newest snapshot.
    pub snapshot: SnapshotReport,
    /// The steering program.
    pub steering: SteeringReport,
    /// The interfaces.
    pub interfaces: Vec<InterfaceReport>,
    /// The workers.
    pub workers: Vec<WorkerReport>,
    /// What became of every packet, over all workers.
    pub ledger: LedgerReport,
    /// The flows, over all workers.
    pub flows: FlowCounts,
    /// The SNAT ports.
    pub snat: SnatReport,
    /// What the kernel lost, over all sockets.
    pub kernel: KernelLosses,
    /// What ports made of packets larger than a frame, and lost.
    #[serde(default)]
    pub ports: PortCounts,
    /// The next hops, and who does not answer.
    #[serde(default)]
    pub neighbors: NeighborReport,
    /// Endpoints that no packet can be sent to, with the reason; neighbours that are merely not asked yet not included.
    pub unreachable: Vec<UnreachableReport>,
    /// Endpoints that packets are sent to and that answer nothing: the first of them.
    #[serde(default)]
    pub unanswering: Vec<UnansweringReport>,
    /// How many of them there are.
    #[serde(default)]
    pub unanswering_count: usize,
    /// How many endpoints are suspected of being dead.
    #[serde(default)]
    pub suspected_count: usize,
    /// What is nearly or wholly used up, one sentence each: SNAT ports towards an endpoint, a worker's flow table.
    #[serde(default)]
    pub limits: Vec<String>,
    /// What is drained by command.
    #[serde(default)]
    pub drained: Vec<DrainedReport>,
    /// What is wrong with `metrics.services`, one sentence each.
    #[serde(default)]
    pub metrics_problems: Vec<String>,
}

/// What the workers use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotReport {
    /// Its number.
    pub generation: u64,
    /// Whether every worker uses it.
    pub in_force: bool,
    /// Why the newest objects are not part of it.
    pub problem: Option<String>,
    /// Microseconds from the change until every worker used it.
    pub took_micros: Option<u64>,
    /// Counts changes of the Services.
    pub services_generation: u32,
    /// Counts changes of the network.
    pub network_generation: u32,
    /// Service ports.
    pub service_ports: usize,
    /// (address, protocol, port) that are balanced.
    pub frontends: usize,
    /// VIPs.
    pub vips: usize,
    /// Endpoints, eligible or not.
    pub endpoints: usize,
    /// Next hops with a known MAC address.
    pub adjacencies: usize,
    /// What the kernel's routing looks at and Ringway does not, one sentence each.
    #[serde(default)]
    pub not_followed: Vec<String>,
}

/// What the steering program holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SteeringReport {
    /// Entries of each kind.
    pub entries: BTreeMap<String, usize>,
    /// Why it does not hold all of them.
    pub problem: Option<String>,
    /// Fragments to the node's own addresses that it left to the kernel, being too many in a moment.
    #[serde(default)]
    pub fragments_left: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerReport {
    /// Its number.
    pub id: u16,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// The generation that it uses.
    pub ack: Option<u64>,
    /// Its queues, as `eth0/0`.
    pub queues: Vec<String>,
    /// Its packet memory.
    #[serde(default)]
    pub frames: FrameReport,
    /// What became of its packets.
    pub ledger: LedgerReport,
    /// Everything else that it counts.
    pub counters: BTreeMap<String, u64>,
}

/// The packet memory of a worker, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrameReport {
    /// Held by nobody now.
    pub free: u64,
    /// All of them.
    pub total: u64,
    /// Bytes of one.
    pub size: u64,
}

/// The flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowCounts {
    /// In the tables now.
    pub open: u64,
    /// Of these, half-open and unreplied.
    pub half_open: u64,
    /// Room in all tables.
    pub capacity: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Ended since the start.
    pub closed: u64,
    /// Of these, ended early because a table was full or no SNAT port was free.
    pub evicted: u64,
    /// Moved to another endpoint because the first one did not answer.
    #[serde(default)]
    pub rescued: u64,
}

/// A worker with its counts at this moment.
pub struct Counted {
    /// Its number.
    pub id: u16,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// How many frames its packet memory has, and of how many bytes.
    pub memory: (u32, u32),
    /// Its counts.
    pub tally: Tally,
}

/// What is known besides what is published and counted.
pub struct Facts<'a> {
    /// `nodeName`.
    pub node: &'a str,
    /// The configuration in force.
    pub configuration: ConfigurationReport,
    /// `source.files`.
    pub files: Vec<String>,
    /// How `source.kubernetes` is doing.
    pub kubernetes: Option<KubernetesReport>,
    /// How old what is known of the source is.
    pub source_age: Option<Duration>,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// `flows.perWorker`.
    pub flows_per_worker: u32,
    /// `snat.ports`.
    pub snat_ports: PortSet,
    /// What makes no progress.
    pub stuck: Vec<String>,
}

impl StatusReport {
    /// The status at this moment.
    pub fn of(
        facts: &Facts<'_>,
        published: &Published,
        interfaces: &[InterfaceReport],
        neighbors: &NeighborReport,
        workers: &[Counted],
    ) -> Self {
        let mut sum = Tally::default();
        workers.iter().for_each(|worker| sum.merge(&worker.tally));
        let problems = published.cluster.problems().chain(published.problems.iter());
        let reasons = reasons(published, interfaces, facts.stuck.iter().cloned());
        StatusReport {
            version: crate::VERSION.to_owned(),
            node: facts.node.to_owned(),
            pid: std::process::id(),
            uptime_seconds: facts.uptime_seconds,
            ready: reasons.is_empty(),
            reasons,
            configuration: facts.configuration.clone(),
            source: SourceReport {
                files: facts.files.clone(),
                kubernetes: facts.kubernetes.clone(),
                age_seconds: facts.source_age.map(|age| age.as_secs()),
                services: published.cluster.services().count(),
                ..SourceReport::default()
            }
            .with_problems(problems),
            snapshot: snapshot(published),
            steering: steering(published),
            interfaces: interfaces.iter().map(|interface| with_rss(interface, &published.snapshot.network)).collect(),
            workers: workers.iter().map(|counted| worker(counted, published, interfaces)).collect(),
            ledger: LedgerReport::from(&sum),
            flows: FlowCounts {
                open: sum.get(Counter::Flows),
                half_open: sum.get(Counter::FlowsHalfOpen),
                capacity: u64::from(facts.flows_per_worker) * workers.len() as u64,
                opened: sum.get(Counter::FlowsOpened),
                closed: sum.get(Counter::FlowsClosed),
                evicted: sum.get(Counter::FlowsEvicted),
                rescued: sum.get(Counter::FlowsRescued),
            },
            snat: SnatReport {
                ports: facts.snat_ports.to_string(),
                total: u64::from(facts.snat_ports.len()),
                // The last worker takes what the division leaves.
                per_worker: u64::from(facts.snat_ports.len()) / workers.len().max(1) as u64,
                high_water: workers.iter().map(|w| w.tally.get(Counter::SnatPortsHighWater)).max().unwrap_or(0),
                reclaimed: sum.get(Counter::SnatPortsReclaimed),
                ..SnatReport::default()
            },
            kernel: KernelLosses::of(&sum),
            ports: PortCounts::of(&sum),
            neighbors: neighbors.clone(),
            unreachable: unreachable(&published.snapshot),
            unanswering: Vec::new(),
            unanswering_count: 0,
            suspected_count: 0,
            limits: Vec::new(),
            drained: Vec::new(),
            metrics_problems: Vec::new(),
        }
    }
}

fn with_rss(report: &InterfaceReport, network: &Network) -> InterfaceReport {
    let interface = network.interfaces().iter().find(|interface| *interface.name == *report.name);
    let rss = interface.map(|interface| super::queues::rss(network, interface)).unwrap_or_default();
    InterfaceReport { rss, ..report.clone() }
}

fn snapshot(published: &Published) -> SnapshotReport {
    let Snapshot { generation, services, network } = &published.snapshot;
    let ports = || services.service_ports.iter().flatten();
    SnapshotReport {
        generation: generation.0,
        in_force: published.in_force,
        problem: published.compile_problem.clone(),
        took_micros: published.took.map(|took| took.as_micros() as u64),
        services_generation: services.generation,
        network_generation: network.generation,
        service_ports: ports().count(),
        frontends: services.frontends.len(),
        vips: services.vips.len(),
        endpoints: ports().map(|port| port.endpoints.len()).sum(),
        adjacencies: network.adjacencies(),
        not_followed: network.overlooked().to_vec(),
    }
}

fn steering(published: &Published) -> SteeringReport {
    let counts = &published.steering;
    let entries = [
        ("frontends", counts.frontends),
        ("vips", counts.vips),
        ("serviceCidrs", counts.service_cidrs),
        ("snatAddresses", counts.snat_addresses),
        ("endpoints", counts.endpoints),
    ];
    SteeringReport {
        entries: entries.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        problem: published.steering_problem.clone(),
        fragments_left: 0,
    }
}

fn worker(counted: &Counted, published: &Published, interfaces: &[InterfaceReport]) -> WorkerReport {
    // Several interfaces may share a device.
    let mut queues: Vec<String> = Vec::new();
    for port in interfaces.iter().flat_map(|interface| &interface.ports).filter(|port| port.worker == counted.id) {
        let queue = format!("{}/{}", port.device, port.queue);
        if !queues.contains(&queue) {
            queues.push(queue);
        }
    }
    WorkerReport {
        id: counted.id,
        cpu: counted.cpu,
        ack: published.acks.get(usize::from(counted.id)).copied(),
        queues,
        frames: FrameReport {
            free: counted.tally.get(Counter::FreeFrames),
            total: counted.memory.0.into(),
            size: counted.memory.1.into(),
        },
        ledger: LedgerReport::from(&counted.tally),
        counters: Counter::ALL.into_iter().map(|c| (c.label().to_owned(), counted.tally.get(c))).collect(),
    }
}
