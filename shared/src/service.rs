//! What a Service means to a packet.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::address::{Family, Protocol};
use crate::backend::Backend;
use crate::endpoint::{Endpoint, EndpointSet};
pub use crate::policy::TrafficPolicy;

/// The number of a service port (one port of one Service in one address family); stable while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortId(pub u32);

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name in it.
    pub name: Arc<str>,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Through which of its addresses a Service was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matched {
    /// `spec.clusterIPs`.
    ClusterIp,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `status.loadBalancer.ingress[].ip`.
    LoadBalancerIp,
    /// A node's address and `spec.ports[].nodePort`.
    NodePort,
}

impl Matched {
    /// The word in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Matched::ClusterIp => "clusterIP",
            Matched::ExternalIp => "externalIP",
            Matched::LoadBalancerIp => "loadBalancerIP",
            Matched::NodePort => "nodePort",
        }
    }
}

/// How packets get to the endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ForwardingMode {
    /// Rewrite the destination, and the source too where masquerade is due.
    #[default]
    Nat,
    /// Change only the MAC addresses; the endpoint owns the VIP and answers the client itself.
    DsrL2,
    /// Inside IPv4 or IPv6 to the endpoint, which owns the VIP and answers the client itself.
    DsrIpip,
}

impl ForwardingMode {
    /// The word in the configuration and in the annotation.
    pub const fn label(self) -> &'static str {
        match self {
            ForwardingMode::Nat => "nat",
            ForwardingMode::DsrL2 => "dsr-l2",
            ForwardingMode::DsrIpip => "dsr-ipip",
        }
    }

    /// Whether the endpoint answers the client itself.
    #[inline]
    pub const fn is_dsr(self) -> bool {
        matches!(self, ForwardingMode::DsrL2 | ForwardingMode::DsrIpip)
    }
}

/// loadBalancerSourceRanges of one family (rule 18 of the Service semantics).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRanges {
    /// Who is let in.
    pub ranges: Arc<[IpNet]>,
    /// The Service's own VIPs, let in as sources when a range contains the node's primary address; else empty.
    pub own_vips: Arc<[IpAddr]>,
}

impl SourceRanges {
    /// Whether `source` may use the Service's load-balancer addresses.
    pub fn admit(&self, source: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&source)) || self.own_vips.contains(&source)
    }
}

/// sessionAffinity ClientIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// How long after its last new connection a client keeps its endpoint.
    pub timeout: Duration,
    /// What tells the Service from others where clients are remembered: the same for all its ports.
    pub service: u64,
}

impl Affinity {
    /// The affinity of this Service.
    pub fn new(service: &ServiceName, timeout: Duration) -> Self {
        let mut hasher = DefaultHasher::new();
        service.hash(&mut hasher);
        Affinity { timeout, service: hasher.finish() }
    }
}

/// An endpoint that cannot serve a service port because it has an address of the other family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherFamily {
    /// Its address and port.
    pub socket: SocketAddr,
    /// The EndpointSlice (namespace/name) that names it.
    pub slice: Arc<str>,
}

/// One port of one Service in one address family, compiled.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// Its number.
    pub id: ServicePortId,
    /// Its Service.
    pub service: ServiceName,
    /// `spec.ports[].name`, empty when there is only one.
    pub port_name: Arc<str>,
    /// The protocol.
    pub protocol: Protocol,
    /// `spec.ports[].port`.
    pub port: u16,
    /// The family of all its addresses and endpoints.
    pub family: Family,
    /// internalTrafficPolicy.
    pub internal_policy: TrafficPolicy,
    /// externalTrafficPolicy.
    pub external_policy: TrafficPolicy,
    /// sessionAffinity ClientIP; `None` without.
    pub affinity: Option<Affinity>,
    /// How packets to its VIPs get to the endpoints; [`ServicePort::forwarding_of`] knows about NodePorts.
    pub forwarding: ForwardingMode,
    /// Who may use the load-balancer addresses; `None` for everyone.
    pub source_ranges: Option<SourceRanges>,
    /// Every endpoint that the slices name, eligible or not, sorted by address and port.
    pub endpoints: Arc<[Endpoint]>,
    /// Endpoints of the other family, where the Service has no ClusterIP of that family. Only explanations ask.
    pub other_family: Arc<[OtherFamily]>,
    /// Where a connection may go under policy Cluster.
    pub cluster: EndpointSet,
    /// Where a connection may go under policy Local.
    pub local: EndpointSet,
    /// Whether any node has a ready or a serving-and-terminating endpoint (rule 13).
    pub has_endpoint: bool,
}

impl ServicePort {
    /// One of which nothing is said: policies Cluster, and no endpoints.
    pub fn new(id: ServicePortId, service: ServiceName, protocol: Protocol, port: u16, family: Family) -> Self {
        ServicePort {
            id,
            service,
            port_name: "".into(),
            protocol,
            port,
            family,
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: None,
            forwarding: ForwardingMode::Nat,
            source_ranges: None,
            endpoints: Arc::new([]),
            other_family: Arc::new([]),
            cluster: EndpointSet::empty(),
            local: EndpointSet::empty(),
            has_endpoint: false,
        }
    }

    /// How packets get to the endpoints that came to such an address: no endpoint can own an address of a node, so NodePorts are
    /// always served by NAT.
    #[inline]
    pub const fn forwarding_of(&self, matched: Matched) -> ForwardingMode {
        match matched {
            Matched::NodePort => ForwardingMode::Nat,
            Matched::ClusterIp | Matched::ExternalIp | Matched::LoadBalancerIp => self.forwarding,
        }
    }

    /// The backend with this address and port, as long as a slice names it in whatever state: what an established flow
    /// needs in order to go on (rule 21).
    pub fn member(&self, address: IpAddr, port: u16) -> Option<&Backend> {
        let at = self.endpoints.binary_search_by_key(&(address, port), |e| (e.backend.address, e.backend.port)).ok()?;
        self.endpoints.get(at).map(|endpoint| &endpoint.backend)
    }
}
