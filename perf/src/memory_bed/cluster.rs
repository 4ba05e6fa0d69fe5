//! The cluster of a bed in memory: one Service, and neighbours on both sides.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::endpoint::EndpointState;
use ringway_shared::network::rss::{FieldsByPacket, HashedFields, Rss, RssSettings};
use ringway_shared::network::{Interface, Lowers, Network, QueueChoice};
use ringway_shared::service::ServiceName;
use ringway_shared::snapshot::{Generation, Node, Target};
use ringway_shared::{
    Backend, BackendId, Endpoint, EndpointSet, Family, Frontend, InterfaceId, MacAddress, Matched, ServicePort,
    ServicePortId, Services, Snapshot,
};

use crate::traffic::{Kind, Random};

pub(super) const OUTSIDE: InterfaceId = InterfaceId(0);
pub(super) const INSIDE: InterfaceId = InterfaceId(1);
pub(super) const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
pub(super) const CLIENT_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
pub(super) const NODE_PORT: u16 = 30_053;
/// Of the Service, and of its endpoints.
pub(super) const PORT: u16 = 53;

/// Addresses of one family.
pub(super) struct Plan {
    node: &'static str,
    vip: &'static str,
    first_client: &'static str,
    first_backend: &'static str,
    outside: &'static str,
    inside: &'static str,
}

const V4: Plan = Plan {
    node: "192.168.0.2",
    vip: "198.51.100.10",
    first_client: "198.18.0.1",
    first_backend: "10.0.0.1",
    outside: "198.18.255.254/15",
    inside: "10.255.255.254/8",
};
const V6: Plan = Plan {
    node: "fd00:168::2",
    vip: "2001:db8::10",
    first_client: "fd00:198::1",
    first_backend: "fd00:10::1",
    outside: "fd00:198::ffff:fffe/64",
    inside: "fd00:10::ffff:fffe/64",
};

impl Plan {
    pub(super) fn of(kind: Kind) -> &'static Plan {
        if kind.is_v6() { &V6 } else { &V4 }
    }

    pub(super) fn node(&self) -> IpAddr {
        self.node.parse().expect("a constant")
    }

    /// The Service's load-balancer IP.
    pub(super) fn vip(&self) -> IpAddr {
        self.vip.parse().expect("a constant")
    }

    /// The gateway's own address on the side of the endpoints: what flows are masqueraded to.
    pub(super) fn inside(&self) -> IpAddr {
        let (address, _) = self.inside.split_once('/').expect("a constant");
        address.parse().expect("a constant")
    }

    pub(super) fn first_client(&self) -> IpAddr {
        self.first_client.parse().expect("a constant")
    }

    pub(super) fn backend(&self, n: u32) -> IpAddr {
        after(self.first_backend.parse().expect("a constant"), n)
    }
}

/// The `n`th address after another.
pub(super) fn after(first: IpAddr, n: u32) -> IpAddr {
    match first {
        IpAddr::V4(first) => IpAddr::V4((first.to_bits() + n).into()),
        IpAddr::V6(first) => IpAddr::V6((first.to_bits() + u128::from(n)).into()),
    }
}

/// One Service with `backends` endpoints, asked for by its NodePort or its load-balancer IP: every flow is masqueraded.
///
/// With `queues`, NICs deliver packets to that many, as RSS says that can be computed.
pub(super) fn snapshot(kind: Kind, backends: u32, queues: Option<u16>) -> Snapshot {
    let plan = Plan::of(kind);
    let (node, protocol) = (plan.node(), kind.protocol());
    let backend = |n: u32| Backend { id: BackendId(n), address: plan.backend(n), port: PORT, weight: 1 };
    let backends: Vec<Backend> = (0..backends).map(backend).collect();
    let endpoints: Vec<Endpoint> = backends
        .iter()
        .map(|backend| Endpoint {
            backend: *backend,
            state: EndpointState { ready: true, serving: true, terminating: false },
            drained: false,
            node: None,
            zone: None,
            slice: "perf/slice".into(),
            excluded_from_cluster: None,
            excluded_from_local: None,
        })
        .collect();
    let set = EndpointSet::new(backends.clone());
    let service = ServiceName { namespace: "perf".into(), name: "dns".into() };
    let family = if kind.is_v6() { Family::V6 } else { Family::V4 };
    let port = Arc::new(ServicePort {
        endpoints: endpoints.into(),
        cluster: set.clone(),
        local: set,
        has_endpoint: true,
        ..ServicePort::new(ServicePortId(0), service, protocol, PORT, family)
    });
    let mut services = Services {
        generation: 1,
        node: Node { addresses: [node].into_iter().collect(), pod_cidrs: Vec::new() },
        service_ports: vec![Some(port.clone())].into(),
        ..Services::default()
    };
    let frontend = Frontend { address: node, protocol, port: NODE_PORT };
    services.set_frontend(frontend, Some(Target { matched: Matched::NodePort, service_port: port.clone() }));
    let target = Target { matched: Matched::LoadBalancerIp, service_port: port };
    services.vips.entry(plan.vip()).or_default().targets.push(target.clone());
    services.set_frontend(Frontend { address: plan.vip(), protocol, port: PORT }, Some(target));
    let interface = |id: InterfaceId, name: &str, address: &str| Interface {
        id,
        name: name.into(),
        index: u32::from(id.0) + 1,
        mac: MAC,
        mtu: 1500,
        addresses: vec![address.parse().expect("a constant")],
        up: true,
        lowers: Lowers::itself(u32::from(id.0) + 1, name.into()),
    };
    // Both networks are on link; every backend is a neighbour, and so is every client that a mix may have.
    let clients = (0..128).map(|n| (OUTSIDE, after(plan.first_client(), n)));
    let pods = backends.iter().map(|backend| (INSIDE, backend.address));
    let neighbors: Vec<_> = clients.chain(pods).map(|(interface, address)| (interface, address, CLIENT_MAC)).collect();
    let interfaces = vec![interface(OUTSIDE, "outside", plan.outside), interface(INSIDE, "inside", plan.inside)];
    let mut network = Network::new(1, interfaces, [], neighbors);
    if let Some(queues) = queues {
        let rss = Arc::new(rss(queues));
        let choices = [OUTSIDE, INSIDE].map(|id| (u32::from(id.0) + 1, QueueChoice::Computed(rss.clone())));
        network = network.with_queue_choices(choices.into());
    }
    Snapshot { generation: Generation(1), services: Arc::new(services), network: Arc::new(network) }
}

/// What drivers do unless they are told otherwise: a random key, queues in turn.
fn rss(queues: u16) -> Rss {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    Rss::new(RssSettings {
        key: (0..40).map(|_| random.below(256) as u8).collect(),
        table: (0..128).map(|place| place % u32::from(queues)).collect(),
        fields: FieldsByPacket::all(HashedFields::AddressesAndPorts),
    })
    .expect("a key as long as is needed")
}
