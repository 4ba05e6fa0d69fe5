//! Services of one line of text each, compiled as `control` would for a node with pods in 10.0.0.0/16 and fd00:10::/64.
//!
//! `NAME PROTOCOL CLUSTERIP:PORT [node=N] [external=IP] [lb=IP] [ranges=CIDR,CIDR] [etp=Local] [itp=Local] [affinity=S]
//! [dsr=l2|ipip] -> ENDPOINT[/local][/unready][/refused] …`

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ringway_shared::endpoint::{EndpointState, Exclusion};
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::{Affinity, ForwardingMode, ServiceName, SourceRanges};
use ringway_shared::snapshot::{Node, Target};
use ringway_shared::{
    Backend, BackendId, Endpoint, EndpointSet, Family, Frontend, Matched, Protocol, ServicePort, ServicePortId,
    Services,
};

use super::network::NODE;

/// Numbers that stay from one set of Services to the next.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    ports: HashMap<String, u32>,
    backends: HashMap<(u32, SocketAddr), u32>,
}

impl Ids {
    fn port(&mut self, name: String) -> u32 {
        let next = self.ports.len() as u32;
        *self.ports.entry(name).or_insert(next)
    }

    fn backend(&mut self, port: u32, socket: SocketAddr) -> BackendId {
        let next = self.backends.len() as u32;
        BackendId(*self.backends.entry((port, socket)).or_insert(next))
    }
}

/// The protocol of a word.
pub fn protocol(word: &str) -> Protocol {
    match word {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("no protocol {other:?}"),
    }
}

/// The Services of `specs`.
pub fn services(ids: &mut Ids, generation: u32, specs: &[&str]) -> Services {
    let addresses: Vec<IpAddr> = NODE.iter().map(|address| address.parse().unwrap()).collect();
    let mut services = Services {
        generation,
        service_cidrs: vec!["172.30.0.0/16".parse().unwrap(), "fd00:172:30::/112".parse().unwrap()],
        node: Node {
            addresses: addresses.iter().copied().collect(),
            pod_cidrs: vec!["10.0.0.0/16".parse().unwrap(), "fd00:10::/64".parse().unwrap()],
        },
        ..Services::default()
    };
    for spec in specs {
        add(&mut services, ids, &addresses, spec);
    }
    services
}

fn add(services: &mut Services, ids: &mut Ids, node: &[IpAddr], spec: &str) {
    let (head, endpoints) = spec.split_once("->").unwrap_or_else(|| panic!("no -> in {spec:?}"));
    let mut words = head.split_whitespace();
    let name = words.next().unwrap();
    let protocol = protocol(words.next().unwrap());
    let frontend: SocketAddr = words.next().unwrap().parse().unwrap();
    let id = ids.port(format!("{name} {protocol} {}", frontend.port()));
    let family = Family::of(frontend.ip());
    let service = ServiceName { namespace: "test".into(), name: name.into() };
    let mut port = ServicePort::new(ServicePortId(id), service, protocol, frontend.port(), family);
    let mut frontends = vec![(frontend.ip(), frontend.port(), Matched::ClusterIp)];
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "node" => {
                let own = node.iter().filter(|address| Family::of(**address) == family);
                frontends.extend(own.map(|address| (*address, value.parse().unwrap(), Matched::NodePort)));
            }
            "external" => frontends.push((value.parse().unwrap(), frontend.port(), Matched::ExternalIp)),
            "lb" => frontends.push((value.parse().unwrap(), frontend.port(), Matched::LoadBalancerIp)),
            "ranges" => {
                let ranges = value.split(',').map(|range| range.parse().unwrap()).collect();
                port.source_ranges = Some(SourceRanges { ranges, own_vips: Arc::default() });
            }
            "dsr" => {
                port.forwarding = match value {
                    "l2" => ForwardingMode::DsrL2,
                    "ipip" => ForwardingMode::DsrIpip,
                    other => panic!("no DSR {other:?}"),
                }
            }
            "etp" => port.external_policy = policy(value),
            "itp" => port.internal_policy = policy(value),
            "affinity" => {
                port.affinity = Some(Affinity::new(&port.service, Duration::from_secs(value.parse().unwrap())))
            }
            other => panic!("{other:?} in {spec:?}"),
        }
    }
    let mut endpoints: Vec<Endpoint> = endpoints.split_whitespace().map(|word| endpoint(ids, id, word)).collect();
    endpoints.sort_by_key(|endpoint| (endpoint.backend.address, endpoint.backend.port));
    let refused = |e: &&Endpoint| matches!(e.excluded_from_cluster, Some(Exclusion::Refused(_)));
    let set = |local: bool| {
        let excluded =
            |e: &&Endpoint| if local { e.excluded_from_local.is_none() } else { e.excluded_from_cluster.is_none() };
        let members: Vec<Backend> = endpoints.iter().filter(excluded).map(|endpoint| endpoint.backend).collect();
        if members.is_empty() && endpoints.iter().any(|e| refused(&e)) {
            EndpointSet::refused()
        } else {
            EndpointSet::new(members)
        }
    };
    (port.cluster, port.local) = (set(false), set(true));
    port.has_endpoint = endpoints.iter().any(|endpoint| endpoint.state.ready);
    port.endpoints = endpoints.into();
    let port = Arc::new(port);
    for (address, number, matched) in frontends {
        let target = Target { matched, service_port: port.clone() };
        if matched != Matched::NodePort {
            let vip = services.vips.entry(address).or_default();
            vip.cluster_ip |= matched == Matched::ClusterIp;
            vip.host_owned = node.contains(&address) && !vip.cluster_ip;
            vip.targets.push(target.clone());
        }
        let frontend = Frontend { address, protocol, port: number };
        if services.find(&frontend).is_none() {
            services.set_frontend(frontend, Some(target));
        }
    }
    let place = id as usize;
    services.service_ports.resize((place + 1).max(services.service_ports.len()), None);
    services.service_ports[place] = Some(port);
}

fn policy(word: &str) -> TrafficPolicy {
    match word {
        "Local" => TrafficPolicy::Local,
        "Cluster" => TrafficPolicy::Cluster,
        other => panic!("no policy {other:?}"),
    }
}

fn endpoint(ids: &mut Ids, port: u32, word: &str) -> Endpoint {
    let mut parts = word.split('/');
    let socket: SocketAddr = parts.next().unwrap().parse().unwrap();
    let marks: Vec<&str> = parts.collect();
    let (local, unready, refused) = (marks.contains(&"local"), marks.contains(&"unready"), marks.contains(&"refused"));
    let excluded = if refused {
        Some(Exclusion::Refused("one of the node's own addresses".into()))
    } else {
        unready.then_some(Exclusion::NotReady)
    };
    Endpoint {
        backend: Backend { id: ids.backend(port, socket), address: socket.ip(), port: socket.port(), weight: 1 },
        state: EndpointState { ready: !unready, serving: !unready, terminating: false },
        drained: false,
        node: None,
        zone: None,
        slice: "test/slice".into(),
        excluded_from_local: excluded.clone().or((!local).then_some(Exclusion::OtherNode(None))),
        excluded_from_cluster: excluded,
    }
}
