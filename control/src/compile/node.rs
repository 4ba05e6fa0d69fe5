//! What the rules ask about the node: from the configuration where it says something, else from the Node object.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use ringway_shared::Family;
use ringway_shared::network::HostAddresses;
use ringway_shared::service::ForwardingMode;

use crate::cluster::ClusterState;
use crate::config::{Config, NodePortAddresses, Weights};
use crate::drain::Drained;
use crate::problem::{Problem, Severity};

/// The label that names a node's zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What compile needs besides the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileOptions {
    /// `nodeName`.
    pub node_name: String,
    /// `node.addresses`, when it is given.
    pub addresses: Option<Vec<IpAddr>>,
    /// `node.podCIDRs`, when it is given.
    pub pod_cidrs: Option<Vec<IpNet>>,
    /// `node.labels`, when it is given.
    pub labels: Option<BTreeMap<String, String>>,
    /// The addresses of the default route's interface, for want of a Node object and of `node.addresses`.
    pub fallback_addresses: Vec<IpAddr>,
    /// Every address that the kernel has, on whatever interface (rule 7).
    pub host_addresses: Arc<HostAddresses>,
    /// `services.nodePortAddresses`; the default is the same as `[primary]`.
    pub node_port_addresses: NodePortAddresses,
    /// `services.serviceCIDRs`; those of ServiceCIDR objects come on top.
    pub service_cidrs: Vec<IpNet>,
    /// `services.masqueradeAll`.
    pub masquerade_all: bool,
    /// `forwarding`, for Services without the annotation.
    pub forwarding: ForwardingMode,
    /// `services.weights`.
    pub weights: Arc<Weights>,
    /// What is drained by command.
    pub drained: Arc<Drained>,
}

impl CompileOptions {
    /// What the configuration says. The rest is the caller's to find.
    pub fn from_config(config: &Config) -> Self {
        CompileOptions {
            node_name: config.node_name.to_string(),
            addresses: config.node.addresses.clone(),
            pod_cidrs: config.node.pod_cidrs.clone(),
            labels: config.node.labels.clone(),
            fallback_addresses: Vec::new(),
            host_addresses: Arc::default(),
            node_port_addresses: config.services.node_port_addresses.clone(),
            service_cidrs: config.services.service_cidrs.clone(),
            masquerade_all: config.services.masquerade_all,
            forwarding: config.forwarding,
            weights: config.services.weights.clone(),
            drained: Arc::default(),
        }
    }
}

/// The node, as the compiled sets depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) name: Arc<str>,
    pub(super) zone: Option<Arc<str>>,
    pub(super) addresses: Vec<IpAddr>,
    /// What the kernel has besides.
    pub(super) host: Arc<HostAddresses>,
    pub(super) pod_cidrs: Vec<IpNet>,
    pub(super) node_port_addresses: Vec<IpAddr>,
    pub(super) forwarding: ForwardingMode,
    pub(super) weights: Arc<Weights>,
    pub(super) drained: Arc<Drained>,
}

impl NodeFacts {
    pub(super) fn new(cluster: &ClusterState, options: &CompileOptions, problems: &mut Vec<Problem>) -> Self {
        let node = cluster.node(&options.node_name);
        let addresses = match (&options.addresses, node) {
            (Some(addresses), _) => addresses.clone(),
            (None, Some(node)) if !node.addresses.is_empty() => node.addresses.clone(),
            (None, _) => options.fallback_addresses.clone(),
        };
        let pod_cidrs = match (&options.pod_cidrs, node) {
            (Some(pod_cidrs), _) => pod_cidrs.clone(),
            (None, node) => node.map_or_else(Vec::new, |node| node.pod_cidrs.clone()),
        };
        let labels = options.labels.as_ref().or(node.map(|node| &node.labels));
        let zone = labels.and_then(|labels| labels.get(ZONE_LABEL)).filter(|zone| !zone.is_empty());
        let mut facts = NodeFacts {
            name: options.node_name.as_str().into(),
            zone: zone.map(|zone| zone.as_str().into()),
            addresses,
            host: options.host_addresses.clone(),
            pod_cidrs,
            node_port_addresses: Vec::new(),
            forwarding: options.forwarding,
            weights: options.weights.clone(),
            drained: options.drained.clone(),
        };
        facts.node_port_addresses = facts.chosen(&options.node_port_addresses);
        if facts.addresses.is_empty() {
            let remedy = match &*options.node_name {
                "" => "say which node this is with --config FILE".to_owned(),
                name => format!("add the Node object {name:?} or set node.addresses"),
            };
            let text = format!("the addresses of this node are unknown, so no NodePort is served; {remedy}");
            problems.push(Problem { severity: Severity::Warning, object: None, file: None, text });
        } else if facts.node_port_addresses.is_empty() {
            let addresses = facts.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let text = format!(
                "services.nodePortAddresses names none of the addresses of this node ({addresses}), so no NodePort is served"
            );
            problems.push(Problem { severity: Severity::Warning, object: None, file: None, text });
        }
        facts
    }

    /// The node's primary address of `family`.
    pub(super) fn primary(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// Whether this is one of the node's own addresses: a listed one, or any that its kernel has.
    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address) || self.host.contains(address)
    }

    /// Whether nothing differs but what concerns the endpoints of some addresses alone: those that the kernel has, and those
    /// that are drained.
    pub(super) fn is_same_node(&self, other: &NodeFacts) -> bool {
        NodeFacts { host: other.host.clone(), drained: other.drained.clone(), ..self.clone() } == *other
    }

    /// Whether an endpoint with this address means something else to `other`, which is the same node otherwise.
    pub(super) fn differs_at(&self, other: &NodeFacts, address: IpAddr) -> bool {
        self.owns(address) != other.owns(address) || !self.drained.at(address).eq(other.drained.at(address))
    }

    /// The addresses that NodePorts are served on (rule 9): never loopback.
    fn chosen(&self, wanted: &NodePortAddresses) -> Vec<IpAddr> {
        let primary = wanted.primary || wanted.cidrs.is_empty();
        let is_wanted = |address: IpAddr| {
            (primary && self.primary(Family::of(address)) == Some(address))
                || wanted.cidrs.iter().any(|cidr| cidr.contains(&address))
        };
        self.addresses.iter().copied().filter(|address| !address.is_loopback() && is_wanted(*address)).collect()
    }
}
