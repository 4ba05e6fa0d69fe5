//! Which endpoints a new connection may get: the Service semantics as one pure function.
//!
//! The packet path and `ringway trace` both call [`decide`], so an explanation cannot differ from what happens.
//! Rule numbers are those of `docs/service-rules.md`.

use std::net::IpAddr;

use crate::address::{Family, FiveTuple, Protocol};
use crate::backend::Backend;
use crate::drop_reason::DropReason;
use crate::endpoint::EndpointSet;
use crate::policy::TrafficPolicy;
use crate::service::{Matched, ServicePort};
use crate::snapshot::{Services, Target};

/// Where a source address stands (the words of the rules: pod, node, other).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// In this node's pod CIDRs. Wins over `Node`.
    Pod,
    /// One of this node's own addresses.
    Node,
    /// Anything else.
    Other,
}

impl SourceKind {
    /// The kind of `source` on this node.
    pub fn of(services: &Services, source: IpAddr) -> Self {
        if services.node.is_pod(source) {
            SourceKind::Pod
        } else if services.node.is_own(source) {
            SourceKind::Node
        } else {
            SourceKind::Other
        }
    }
}

/// Why the source is rewritten, or why it is kept. Said by `trace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// Kept: a ClusterIP asked for by a pod of this node.
    KeptForPod,
    /// Kept: a ClusterIP, and no local detector tells pods from others.
    KeptWithoutDetector,
    /// Kept: externalTrafficPolicy Local.
    KeptForLocal,
    /// Kept: the endpoint answers the client itself, so it has to know it.
    KeptForDsr,
    /// Rewritten: `masqueradeAll`.
    All,
    /// Rewritten: a ClusterIP asked for from outside the pod CIDRs.
    OffCluster,
    /// Rewritten: externalTrafficPolicy Cluster.
    External,
    /// Rewritten: the node itself asks for an address with externalTrafficPolicy Local.
    NodeShortcut,
    /// Rewritten: the client is the chosen endpoint.
    Hairpin,
}

impl Masquerade {
    /// Whether the source is rewritten.
    pub const fn is_due(self) -> bool {
        !matches!(
            self,
            Masquerade::KeptForPod
                | Masquerade::KeptWithoutDetector
                | Masquerade::KeptForLocal
                | Masquerade::KeptForDsr
        )
    }

    /// One clause for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Masquerade::KeptForPod => "the source is kept: it is a pod of this node asking for a ClusterIP",
            Masquerade::KeptWithoutDetector => {
                "the source is kept: this node has no pod CIDR of this family, so nobody counts as outside the cluster"
            }
            Masquerade::KeptForLocal => "the source is kept: externalTrafficPolicy is Local",
            Masquerade::KeptForDsr => {
                "nothing is rewritten: the endpoint owns the VIP and answers the client itself (DSR)"
            }
            Masquerade::All => "masquerade: services.masqueradeAll is set",
            Masquerade::OffCluster => "masquerade: the source is not in this node's pod CIDRs",
            Masquerade::External => "masquerade: externalTrafficPolicy Cluster always masquerades external traffic",
            Masquerade::NodeShortcut => "masquerade: the node itself asks, so any endpoint of the cluster may answer",
            Masquerade::Hairpin => "masquerade: the client is the chosen endpoint itself (hairpin)",
        }
    }
}

/// What the Service semantics say about a new connection.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'s> {
    /// Not ours: the kernel gets it untouched.
    Pass,
    /// Dropped in silence. The target is there when a Service's port was matched.
    Drop(DropReason, Option<&'s Target>),
    /// Dropped, and the client is told.
    Reject(DropReason, Option<&'s Target>),
    /// May go to any backend of `set`.
    Forward {
        /// The Service's port and how it was matched.
        target: &'s Target,
        /// The eligible backends.
        set: &'s EndpointSet,
        /// Which of the two sets that is.
        policy: TrafficPolicy,
        /// The source's fate, but for hairpin: ask [`masquerade_for`] with the chosen backend.
        masquerade: Masquerade,
    },
}

/// The decision for a new connection.
pub fn decide<'s>(services: &'s Services, tuple: &FiveTuple) -> Decision<'s> {
    // Rule 6.
    let Some(target) = services.find(&tuple.frontend()) else {
        return without_frontend(services, tuple.destination_address());
    };
    let port = &*target.service_port;
    let source = tuple.source_address();
    // Rule 18, before rule 13.
    if target.matched == Matched::LoadBalancerIp
        && let Some(ranges) = &port.source_ranges
        && !ranges.admit(source)
    {
        return Decision::Drop(DropReason::SourceNotAllowed, Some(target));
    }
    // Rule 13.
    if !port.has_endpoint {
        return Decision::Reject(DropReason::NoEndpoint, Some(target));
    }
    let (policy, masquerade) = policy(services, target.matched, port, source);
    let set = match policy {
        TrafficPolicy::Cluster => &port.cluster,
        TrafficPolicy::Local => &port.local,
    };
    if set.is_empty() {
        let reason = match policy {
            TrafficPolicy::Local if !set.is_refused() => DropReason::NoLocalEndpoint,
            // Endpoints exist, yet none may be forwarded to.
            TrafficPolicy::Local | TrafficPolicy::Cluster => DropReason::EndpointRefused,
        };
        return Decision::Drop(reason, Some(target));
    }
    Decision::Forward { target, set, policy, masquerade }
}

/// What becomes of a packet whose (address, protocol, port) no Service has: rules 6, 7 and 8. Also the answer for
/// packets without ports.
pub fn without_frontend(services: &Services, destination: IpAddr) -> Decision<'_> {
    match services.vips.get(&destination) {
        Some(vip) if vip.host_owned => Decision::Pass,
        Some(_) => Decision::Reject(DropReason::NoServicePort, None),
        None if services.service_cidrs.iter().any(|cidr| cidr.contains(&destination)) => {
            Decision::Drop(DropReason::UnallocatedClusterIp, None)
        }
        None => Decision::Pass,
    }
}

/// Rules 14–16: which set, and whether the source is rewritten. With DSR it never is.
#[inline]
pub fn policy(
    services: &Services,
    matched: Matched,
    port: &ServicePort,
    source: IpAddr,
) -> (TrafficPolicy, Masquerade) {
    let (policy, masquerade) = policy_of_nat(services, matched, port, source);
    (policy, if port.forwarding_of(matched).is_dsr() { Masquerade::KeptForDsr } else { masquerade })
}

#[inline]
fn policy_of_nat(
    services: &Services,
    matched: Matched,
    port: &ServicePort,
    source: IpAddr,
) -> (TrafficPolicy, Masquerade) {
    let kind = || SourceKind::of(services, source);
    match (matched, port.external_policy) {
        (Matched::ClusterIp, _) => {
            let masquerade = if services.masquerade_all {
                Masquerade::All
            } else if !services.node.detects(port.family) {
                Masquerade::KeptWithoutDetector
            } else if kind() == SourceKind::Pod {
                Masquerade::KeptForPod
            } else {
                Masquerade::OffCluster
            };
            (port.internal_policy, masquerade)
        }
        (_, TrafficPolicy::Cluster) => (TrafficPolicy::Cluster, Masquerade::External),
        (_, TrafficPolicy::Local) => match kind() {
            SourceKind::Pod => (TrafficPolicy::Cluster, Masquerade::KeptForLocal),
            SourceKind::Node => (TrafficPolicy::Cluster, Masquerade::NodeShortcut),
            SourceKind::Other => (TrafficPolicy::Local, Masquerade::KeptForLocal),
        },
    }
}

/// Rule 17: the masquerade for the chosen backend.
#[inline]
pub fn masquerade_for(masquerade: Masquerade, source: IpAddr, chosen: &Backend) -> Masquerade {
    // With DSR an endpoint has the VIP itself, and asks nobody else for it.
    let may_be = !masquerade.is_due() && masquerade != Masquerade::KeptForDsr;
    if may_be && chosen.address == source { Masquerade::Hairpin } else { masquerade }
}

/// The hash that picks the Maglev slot of a new connection: the whole tuple, or with session affinity the client and the
/// Service alone, so that all its connections, on every port, ask for the same slot.
#[inline]
pub fn selection_hash(tuple: &FiveTuple, port: &ServicePort) -> u64 {
    if port.affinity.is_none() {
        return tuple.maglev_hash();
    }
    let client = FiveTuple::from_parts(Protocol::Tcp, tuple.source_address(), 0, unspecified(tuple.family()), 0);
    client.maglev_hash()
}

fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
