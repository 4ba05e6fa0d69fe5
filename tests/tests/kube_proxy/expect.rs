//! What Ringway decides for a packet, in the words of one who sends it.

use crate::rounds::Manner;
use ringway_control::cluster::ClusterState;
use ringway_control::compile::{self, CompileOptions, Compiled, Memory};
use ringway_control::parse::Document;
use ringway_control::source::manifest;
use ringway_shared::decision::{Decision, Masquerade, decide, masquerade_for};
use ringway_shared::{DropReason, FiveTuple, Protocol};
use ringway_tests::world::probe::{Outcome, Probe};
use ringway_tests::world::{MASQUERADE, NODE_ADDRESSES};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// What a sender may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// An answer of one of these.
    Forward {
        /// Each with the client address that it sees.
        endpoints: BTreeMap<SocketAddr, IpAddr>,
        /// The same one every time: session affinity.
        sticky: bool,
        /// Those of them that need not answer: silence is as good then.
        optional: BTreeSet<SocketAddr>,
    },
    /// Exactly this, every time.
    All(Outcome),
}

impl Expected {
    /// One word for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Expected::Forward { .. } => "forwarded",
            Expected::All(Outcome::Refused) => "refused",
            Expected::All(Outcome::Silent) => "silent",
            Expected::All(_) => "let alone",
        }
    }
}

/// The objects as Ringway compiles them on the node `gw-1`.
pub(crate) fn compile(objects: &[Value], manner: Manner) -> Compiled {
    let manifest = manifest::read(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    assert!(manifest.broken.is_empty(), "{:?}", manifest.broken);
    let mut cluster = ClusterState::default();
    for document in manifest.documents {
        match document {
            Document::Taken(parsed) => {
                cluster.apply(parsed, None);
            }
            Document::Refused(key, refusal) => panic!("the API server took {key:?}, Ringway refused it: {refusal}"),
            Document::Skipped(_) => {}
        }
    }
    let options = CompileOptions {
        node_name: "gw-1".into(),
        pod_cidrs: (!manner.detector).then(Vec::new),
        masquerade_all: manner.masquerade_all,
        ..CompileOptions::default()
    };
    compile::compile(&cluster, &options, &mut Memory::default())
}

/// Whom a packet is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Balancer {
    /// The real kube-proxy: where Ringway differs on purpose, what kube-proxy does instead is expected.
    KubeProxy,
    /// Ringway itself.
    Ringway,
}

/// What should become of a connection.
pub(crate) fn expected(compiled: &Compiled, probe: &Probe, balancer: Balancer) -> Expected {
    let source = SocketAddr::new(probe.source, 40_000);
    let tuple = FiveTuple::new(probe.protocol, source, probe.destination);
    match decide(&compiled.services, &tuple) {
        Decision::Pass => passed(probe),
        // Rule 7: kube-proxy leaves other ports of a VIP that is no ClusterIP to the kernel.
        Decision::Reject(DropReason::NoServicePort, _)
            if balancer == Balancer::KubeProxy && !is_cluster_ip(compiled, probe.destination.ip()) =>
        {
            passed(probe)
        }
        Decision::Reject(..) => Expected::All(Outcome::Refused),
        Decision::Drop(..) => Expected::All(Outcome::Silent),
        Decision::Forward { target, set, masquerade, .. } => {
            let own_address = MASQUERADE[usize::from(probe.source.is_ipv6())].parse().expect("an address");
            let here = |address: IpAddr| {
                let mut all = target.service_port.endpoints.iter();
                all.any(|endpoint| endpoint.backend.address == address && endpoint.node.as_deref() == Some("gw-1"))
            };
            let mut endpoints = BTreeMap::new();
            let mut optional = BTreeSet::new();
            for backend in set.backends() {
                let masquerade = masquerade_for(masquerade, probe.source, backend);
                endpoints.insert(backend.socket(), if masquerade.is_due() { own_address } else { probe.source });
                // Rule 17: kube-proxy gives an endpoint of another node its own packet back, which it cannot answer;
                // unless some Service has that endpoint on this node.
                if balancer == Balancer::KubeProxy && masquerade == Masquerade::Hairpin && !here(backend.address) {
                    optional.insert(backend.socket());
                }
            }
            Expected::Forward { endpoints, sticky: target.service_port.affinity.is_some(), optional }
        }
    }
}

fn is_cluster_ip(compiled: &Compiled, address: IpAddr) -> bool {
    compiled.services.vips.get(&address).is_some_and(|vip| vip.cluster_ip)
}

/// The kernel has it: nobody listens on the node, and there is no way to any other address.
fn passed(probe: &Probe) -> Expected {
    let own = NODE_ADDRESSES.iter().any(|address| address.parse() == Ok(probe.destination.ip()));
    Expected::All(match (own, probe.protocol) {
        (true, _) => Outcome::Refused,
        (false, Protocol::Tcp) => Outcome::Unreachable,
        (false, _) => Outcome::Silent,
    })
}

/// What the outcomes so far say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All as expected, and everything expected was seen.
    Agrees,
    /// Nothing wrong, but not everything expected was seen, or an answer is missing that may have been late.
    Open(String),
    /// Something that must not be.
    Differs(String),
}

/// Compares.
pub(crate) fn judge(expected: &Expected, outcomes: &[Outcome]) -> Judgement {
    match expected {
        Expected::All(wanted) => match outcomes.iter().find(|outcome| *outcome != wanted) {
            None => Judgement::Agrees,
            Some(Outcome::Silent) => Judgement::Open(format!("silence instead of {wanted:?}")),
            Some(other) => Judgement::Differs(format!("{other:?} instead of {wanted:?}")),
        },
        Expected::Forward { endpoints, sticky, optional } => {
            let mut missing = endpoints.clone();
            missing.retain(|endpoint, _| !optional.contains(endpoint));
            let mut found = BTreeSet::new();
            let mut answered = 0;
            let mut silent = 0;
            for outcome in outcomes {
                match outcome {
                    Outcome::Answered { endpoint, seen } if endpoints.get(endpoint) == Some(seen) => {
                        missing.remove(endpoint);
                        found.insert(*endpoint);
                        answered += 1;
                    }
                    Outcome::Silent if !optional.is_empty() => {}
                    Outcome::Silent => silent += 1,
                    other => return Judgement::Differs(format!("{other:?} instead of one of {endpoints:?}")),
                }
            }
            if *sticky && found.len() > 1 {
                return Judgement::Differs(format!("{found:?} answered in spite of session affinity"));
            }
            match (silent, missing.is_empty() || (*sticky && (found.len() == 1 || !optional.is_empty()))) {
                (0, true) => Judgement::Agrees,
                (0, false) => {
                    Judgement::Open(format!("{missing:?} of {endpoints:?} never answered in {answered} tries"))
                }
                _ => Judgement::Open(format!("silence in {silent} tries instead of one of {endpoints:?}")),
            }
        }
    }
}

/// How many tries tell enough at first.
pub(crate) fn tries(expected: &Expected) -> usize {
    match expected {
        Expected::Forward { sticky: true, .. } => 4,
        Expected::Forward { endpoints, .. } if endpoints.len() > 1 => 6 * endpoints.len(),
        Expected::Forward { .. } | Expected::All(_) => 2,
    }
}
