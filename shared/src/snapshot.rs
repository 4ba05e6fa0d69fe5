//! The snapshot: all Services and the network at one moment, immutable.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;
use ipnet::IpNet;

use crate::address::{Family, Frontend, Protocol};
use crate::network::Network;
use crate::service::{Matched, ServicePort};
use crate::sharing::{PagedVec, ShardedMap};

/// The number of a snapshot; larger is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// What the workers read: everything that decides about a packet, except their own flows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// The Services.
    pub services: Arc<Services>,
    /// Interfaces, routes and neighbours.
    pub network: Arc<Network>,
}

/// What a frontend leads to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Which kind of address it is.
    pub matched: Matched,
    /// The Service's port.
    pub service_port: Arc<ServicePort>,
}

/// An address that Services have (never a NodePort's).
#[derive(Clone, Debug, Default)]
pub struct Vip {
    /// It is some Service's ClusterIP.
    pub cluster_ip: bool,
    /// It is also one of this node's own addresses, on whatever interface, and no ClusterIP, so ports that no Service has are the node's.
    pub host_owned: bool,
    /// The service ports on it: whether one of them would serve a sender decides about echo requests.
    pub targets: Vec<Target>,
}

/// The node that Ringway runs on, as far as the Service semantics ask for it.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// All of the node's addresses, loopback not included.
    pub addresses: HashSet<IpAddr>,
    /// The node's pod CIDRs: the local detector of each family.
    pub pod_cidrs: Vec<IpNet>,
}

impl Node {
    /// Whether there is a local detector for this family.
    pub fn detects(&self, family: Family) -> bool {
        self.pod_cidrs.iter().any(|cidr| Family::of(cidr.addr()) == family)
    }

    /// Whether `source` is a pod of this node.
    pub fn is_pod(&self, source: IpAddr) -> bool {
        self.pod_cidrs.iter().any(|cidr| cidr.contains(&source))
    }

    /// Whether `source` is one of this node's own addresses, loopback included.
    pub fn is_own(&self, source: IpAddr) -> bool {
        source.is_loopback() || self.addresses.contains(&source)
    }
}

/// All Services, compiled. What did not change is shared with the snapshot before.
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// Counts changes of this part; a flow that saw another value asks whether its service port changed, and if so whether
    /// its endpoint still exists.
    pub generation: u32,
    /// Every (address, protocol, port) that is balanced, NodePorts included.
    pub frontends: ShardedMap<Frontend, Target>,
    /// By port number: how many frontends of UDP have it, at whatever addresses.
    pub udp_ports: PagedVec<u32>,
    /// Every ClusterIP, external IP and load-balancer IP.
    pub vips: ShardedMap<IpAddr, Vip>,
    /// Known service CIDRs (rule 8).
    pub service_cidrs: Vec<IpNet>,
    /// This node.
    pub node: Node,
    /// `services.masqueradeAll`.
    pub masquerade_all: bool,
    /// The service ports by number, for counters and names; `None` where a number is not in use.
    pub service_ports: PagedVec<Option<Arc<ServicePort>>>,
    /// By the same numbers: the generation in which the service port, or what leads to it, last changed. In one piece, since
    /// after a change every flow asks: the copy that a change takes costs less than its readers would pay for pages.
    pub changed: Arc<Vec<u32>>,
}

impl Services {
    /// What `frontend` leads to.
    #[inline]
    pub fn find(&self, frontend: &Frontend) -> Option<&Target> {
        self.frontends.get(frontend)
    }

    /// Whether there is a frontend of UDP with this port. New masqueraded flows ask for each port that they are offered, and
    /// nearly always the answer is no.
    #[inline]
    pub fn has_udp_port(&self, port: u16) -> bool {
        self.udp_ports.get(usize::from(port)).is_some_and(|frontends| *frontends > 0)
    }

    /// Has `frontend` lead to `target`, or to nothing. Returns what it led to.
    pub fn set_frontend(&mut self, frontend: Frontend, target: Option<Target>) -> Option<Target> {
        let is = u32::from(target.is_some());
        let former = match target {
            Some(target) => self.frontends.insert(frontend, target),
            None => self.frontends.remove(&frontend),
        };
        let was = u32::from(former.is_some());
        if frontend.protocol == Protocol::Udp && is != was {
            let place = usize::from(frontend.port);
            if place >= self.udp_ports.len() {
                self.udp_ports.resize(place + 1, 0);
            }
            self.udp_ports[place] = self.udp_ports[place] + is - was;
        }
        former
    }

    /// Whether a flow to this service port that `generation` approved has to be looked at again: the port's endpoints, or
    /// the frontends that lead to it, may have changed since.
    #[inline]
    pub fn changed_since(&self, port: crate::ServicePortId, generation: u32) -> bool {
        // What is not noted may have changed at any time. Generations wrap around.
        self.changed.get(port.0 as usize).is_none_or(|changed| changed.wrapping_sub(generation) as i32 > 0)
    }

    /// The same port of the same Service in the other address family. Slow: it looks at every service port.
    pub fn other_family(&self, port: &ServicePort) -> Option<&Arc<ServicePort>> {
        let same = |other: &&Arc<ServicePort>| {
            (&other.service, other.protocol, other.port) == (&port.service, port.protocol, port.port)
                && other.family != port.family
        };
        self.service_ports.iter().flatten().find(same)
    }

    /// The service port with this number.
    pub fn service_port(&self, id: crate::ServicePortId) -> Option<&Arc<ServicePort>> {
        self.service_ports.get(id.0 as usize)?.as_ref()
    }
}
