//! `services`: for each Service its addresses, its endpoints, and what they get.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_shared::ServicePortId;
use ringway_shared::answers::Answers;
use ringway_shared::counters::BackendTally;
use ringway_shared::endpoint::Endpoint;
use ringway_shared::service::{ServiceName, ServicePort};
use ringway_shared::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use super::answers::AnswerView;
use super::ports::EndpointPortCounts;
use super::source::ProblemReport;
use super::suspects::SuspectReport;
use super::unreachable::why_unreachable;
use crate::parse::{Kind, ObjectKey};
use crate::problem::Problem;

/// The answer of `services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicesReport {
    /// The Services, by namespace and name.
    pub services: Vec<ServiceReport>,
}

/// One Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// `NAMESPACE/NAME`.
    pub service: String,
    /// Why it gets no packets although nothing is wrong with it.
    pub ignored: Option<String>,
    /// What is wrong with it and with its slices.
    pub problems: Vec<ProblemReport>,
    /// Its ports, each address family on its own.
    pub ports: Vec<ServicePortReport>,
}

/// One port of a Service in one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePortReport {
    /// `spec.ports[].name`; empty when it has none.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `spec.ports[].port`.
    pub port: u16,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Where it can be reached.
    pub addresses: Vec<AddressReport>,
    /// internalTrafficPolicy.
    pub internal_traffic_policy: String,
    /// externalTrafficPolicy.
    pub external_traffic_policy: String,
    /// sessionAffinity ClientIP: its timeout.
    pub session_affinity_seconds: Option<u64>,
    /// loadBalancerSourceRanges of this family.
    pub source_ranges: Option<Vec<String>>,
    /// `nat`, `dsr-l2` or `dsr-ipip`.
    pub forwarding: String,
    /// Its endpoints, eligible or not.
    pub endpoints: Vec<EndpointReport>,
    /// What all of them got.
    #[serde(flatten)]
    pub counts: BackendCounts,
}

/// One address of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressReport {
    /// `clusterIP`, `externalIP`, `loadBalancerIP` or `nodePort`.
    pub kind: String,
    /// `IP:PORT`.
    pub address: String,
    /// What is to be known of it.
    #[serde(default)]
    pub note: Option<String>,
    /// Whether pings to the address are answered, of those whom source ranges let in; null where they are the node's.
    #[serde(default)]
    pub ping: Option<bool>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// `IP:PORT`.
    pub endpoint: String,
    /// The node it runs on.
    pub node: Option<String>,
    /// The zone it runs in.
    pub zone: Option<String>,
    /// The EndpointSlice that names it.
    pub slice: String,
    /// Condition.
    pub ready: bool,
    /// Condition.
    pub serving: bool,
    /// Condition.
    pub terminating: bool,
    /// Whether new connections may go to it under policy Cluster.
    pub eligible: bool,
    /// Why not.
    pub excluded: Option<String>,
    /// Whether new connections may go to it under policy Local.
    pub eligible_local: bool,
    /// Why not.
    pub excluded_local: Option<String>,
    /// Its share of new connections in relation to the others.
    #[serde(default = "usual_weight")]
    pub weight: u16,
    /// By command, it is to get no new connections.
    #[serde(default)]
    pub drained: bool,
    /// Why no packet can be sent to it now.
    pub unreachable: Option<String>,
    /// What it has not answered, when it does not answer any more.
    #[serde(default)]
    pub unanswering: Option<String>,
    /// Since when and why it is suspected of being dead.
    #[serde(default)]
    pub suspect: Option<SuspectReport>,
    /// The SNAT ports towards it, where masqueraded flows use or used some, as they were within the last seconds.
    #[serde(default)]
    pub snat_ports: Option<EndpointPortCounts>,
    /// What it got.
    #[serde(flatten)]
    pub counts: BackendCounts,
}

/// What an instance that knows no weights means.
fn usual_weight() -> u16 {
    1
}

/// What endpoints got since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendCounts {
    /// Flows opened.
    pub flows: u64,
    /// Packets, both directions.
    pub packets: u64,
    /// Bytes, both directions.
    pub bytes: u64,
    /// What became of first packets.
    #[serde(default)]
    pub answers: Answers,
}

impl BackendCounts {
    fn add(&mut self, other: BackendCounts) {
        self.flows += other.flows;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.answers.merge(&other.answers);
    }
}

impl ServicesReport {
    /// The Services at this moment.
    pub fn of(view: &AnswerView<'_>) -> Self {
        let published = view.published;
        let snapshot = &published.snapshot;
        let addresses = addresses(snapshot);
        let mut ports: BTreeMap<&ServiceName, Vec<&Arc<ServicePort>>> = BTreeMap::new();
        for port in snapshot.services.service_ports.iter().flatten() {
            ports.entry(&port.service).or_default().push(port);
        }
        let mut compiling: BTreeMap<&ObjectKey, Vec<&Problem>> = BTreeMap::new();
        for problem in published.problems.iter() {
            problem.object.iter().for_each(|object| compiling.entry(object).or_default().push(problem));
        }
        let cluster = &*published.cluster;
        let services = cluster.services().map(|service| {
            let key = ObjectKey::of_service(&service.name);
            let slices = cluster.slices_of(&service.name).map(|slice| slice_key(&slice.name));
            let slices = slices.flat_map(|slice| cluster.problems_of(&slice));
            let problems = cluster.problems_of(&key).iter().chain(compiling.remove(&key).into_iter().flatten());
            let mut own = ports.remove(&service.name).unwrap_or_default();
            own.sort_by_key(|port| (port.family, port.port, port.protocol));
            let report = ServiceReport {
                service: service.name.to_string(),
                ignored: service.ignored.map(|ignored| ignored.sentence().to_owned()),
                problems: problems.chain(slices).map(ProblemReport::from).collect(),
                ports: own.into_iter().map(|port| service_port(port, view, &addresses)).collect(),
            };
            (service.name.clone(), report)
        });
        let mut services: BTreeMap<ServiceName, ServiceReport> = services.collect();
        // Those that were refused at once have no content, but their owners look for them here.
        for problem in cluster.problems() {
            let Some(key) = problem.object.as_ref().filter(|key| key.kind == Kind::Service && !cluster.contains(key))
            else {
                continue;
            };
            let name = key.service_name();
            let report = ServiceReport { service: name.to_string(), ..ServiceReport::default() };
            services.entry(name).or_insert(report).problems.push(problem.into());
        }
        ServicesReport { services: services.into_values().collect() }
    }
}

fn slice_key(name: &ServiceName) -> ObjectKey {
    ObjectKey { kind: Kind::EndpointSlice, ..ObjectKey::of_service(name) }
}

fn addresses(snapshot: &Snapshot) -> BTreeMap<ServicePortId, Vec<AddressReport>> {
    let mut addresses: BTreeMap<ServicePortId, Vec<AddressReport>> = BTreeMap::new();
    for (frontend, target) in snapshot.services.frontends.iter() {
        let address = std::net::SocketAddr::new(frontend.address, frontend.port).to_string();
        let by_nat = target.service_port.forwarding != target.service_port.forwarding_of(target.matched);
        let note = by_nat.then(|| "by nat: no endpoint can have a node's address".to_owned());
        let vip = snapshot.services.vips.get(&frontend.address).filter(|vip| !vip.host_owned);
        let ping = vip.map(|vip| vip.targets.iter().any(|target| target.service_port.has_endpoint));
        let report = AddressReport { kind: target.matched.label().to_owned(), address, note, ping };
        addresses.entry(target.service_port.id).or_default().push(report);
    }
    addresses.values_mut().for_each(|list| list.sort());
    addresses
}

fn service_port(
    port: &ServicePort,
    view: &AnswerView<'_>,
    addresses: &BTreeMap<ServicePortId, Vec<AddressReport>>,
) -> ServicePortReport {
    let answered = OnceCell::new();
    let endpoints = port.endpoints.iter().map(|endpoint| endpoint_report(port, endpoint, view, &answered));
    let endpoints: Vec<_> = endpoints.collect();
    let mut counts = BackendCounts::default();
    endpoints.iter().for_each(|endpoint| counts.add(endpoint.counts));
    let ranges = port.source_ranges.as_ref();
    ServicePortReport {
        name: port.port_name.to_string(),
        protocol: port.protocol.to_string(),
        port: port.port,
        family: port.family.to_string(),
        addresses: addresses.get(&port.id).cloned().unwrap_or_default(),
        internal_traffic_policy: port.internal_policy.label().to_owned(),
        external_traffic_policy: port.external_policy.label().to_owned(),
        session_affinity_seconds: port.affinity.map(|affinity| affinity.timeout.as_secs()),
        source_ranges: ranges.map(|ranges| ranges.ranges.iter().map(ToString::to_string).collect()),
        forwarding: port.forwarding.label().to_owned(),
        endpoints,
        counts,
    }
}

fn endpoint_report(
    port: &ServicePort,
    endpoint: &Endpoint,
    view: &AnswerView<'_>,
    answered: &OnceCell<u64>,
) -> EndpointReport {
    let snapshot = &view.published.snapshot;
    let unreachable = snapshot.network.unreachable(endpoint.backend.address, port.forwarding);
    EndpointReport {
        endpoint: endpoint.backend.socket().to_string(),
        node: endpoint.node.as_deref().map(str::to_owned),
        zone: endpoint.zone.as_deref().map(str::to_owned),
        slice: endpoint.slice.to_string(),
        ready: endpoint.state.ready,
        serving: endpoint.state.serving,
        terminating: endpoint.state.terminating,
        eligible: endpoint.excluded_from_cluster.is_none(),
        excluded: endpoint.excluded_from_cluster.as_ref().map(ToString::to_string),
        eligible_local: endpoint.excluded_from_local.is_none(),
        excluded_local: endpoint.excluded_from_local.as_ref().map(ToString::to_string),
        weight: endpoint.backend.weight,
        drained: endpoint.drained,
        unreachable: unreachable.map(|why| why_unreachable(snapshot, endpoint.backend.address, why)),
        unanswering: view.unanswering(port, endpoint, answered).map(|report| report.sentence()),
        suspect: view.suspect(&endpoint.backend),
        snat_ports: None,
        counts: view.tally(endpoint.backend.id).into(),
    }
}

impl From<BackendTally> for BackendCounts {
    fn from(BackendTally { flows, packets, bytes, answers }: BackendTally) -> Self {
        BackendCounts { flows, packets, bytes, answers }
    }
}

#[cfg(test)]
mod tests;
