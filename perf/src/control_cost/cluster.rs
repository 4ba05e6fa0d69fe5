//! A cluster in memory: Services with one port and one slice each, as API objects would give them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ringway_control::cluster::ClusterState;
use ringway_control::parse::service::Port;
use ringway_control::parse::{EndpointSlice, Kind, Object, ObjectKey, Parsed, Service, SliceEndpoint, SlicePort};
use ringway_shared::endpoint::EndpointState;
use ringway_shared::service::ServiceName;
use ringway_shared::{Family, Frontend, Protocol, Snapshot};

use crate::traffic::Random;

const POD_PORT: u16 = 5353;
const PROTOCOL: Protocol = Protocol::Udp;

/// What the objects say: the pods of each Service.
pub(super) struct Model {
    // The n-th pod that a Service ever had is number n * Services + Service: nobody else ever has its address.
    pods: Vec<Vec<u32>>,
    next: Vec<u32>,
    random: Random,
}

impl Model {
    pub(super) fn new(services: u32, endpoints: u32) -> Self {
        let pods = |service| (0..endpoints).map(|place| place * services + service).collect();
        let next = vec![endpoints; services as usize];
        Model { pods: (0..services).map(pods).collect(), next, random: Random(7) }
    }

    /// Applies all objects.
    pub(super) fn fill(&self, state: &mut ClusterState) {
        for number in 0..self.pods.len() as u32 {
            state.apply(service(number), None);
            state.apply(self.slice(number), None);
        }
    }

    /// Replaces one pod of one Service by another.
    pub(super) fn change(&mut self, state: &mut ClusterState) {
        let services = self.pods.len() as u32;
        let number = self.random.below(services);
        let next = &mut self.next[number as usize];
        let new = *next * services + number;
        // There are some 16 million addresses; by then the first are long gone.
        *next = (*next + 1) % ((1 << 24) / services - 1);
        let pods = &mut self.pods[number as usize];
        let place = self.random.below(pods.len() as u32) as usize;
        pods[place] = new;
        state.apply(self.slice(number), None);
    }

    /// How many Services of `snapshot` do not have the pods that they should have.
    pub(super) fn missing(&self, snapshot: &Snapshot) -> usize {
        let wrong = |(number, pods): &(u32, &Vec<u32>)| {
            let target = snapshot.services.find(&frontend(*number));
            let found = target.map(|target| target.service_port.cluster.backends().iter().map(|b| b.address).collect());
            found != Some(pods.iter().map(|pod| address(*pod)).collect::<HashSet<_>>())
        };
        (0..).zip(&self.pods).filter(wrong).count()
    }

    fn slice(&self, number: u32) -> Parsed {
        let name = ServiceName { namespace: namespace(number), name: format!("service-{number}-x7k2p").into() };
        let endpoint = |pod: &u32| SliceEndpoint {
            address: address(*pod),
            state: EndpointState { ready: true, serving: true, terminating: false },
            node: Some(format!("node-{}", pod % 100).into()),
            zone: Some(["a", "b", "c"][(pod % 3) as usize].into()),
            node_hints: Vec::new(),
            zone_hints: Vec::new(),
        };
        let slice = EndpointSlice {
            label: name.to_string().into(),
            service: Some(service_name(number)),
            family: Family::V4,
            ports: vec![SlicePort { name: "dns".into(), protocol: PROTOCOL, port: POD_PORT }],
            endpoints: self.pods[number as usize].iter().map(endpoint).collect(),
            name,
        };
        parsed(Kind::EndpointSlice, &slice.name.clone(), Object::EndpointSlice(Arc::new(slice)))
    }
}

fn namespace(number: u32) -> Arc<str> {
    format!("namespace-{}", number % 50).into()
}

fn service_name(number: u32) -> ServiceName {
    ServiceName { namespace: namespace(number), name: format!("service-{number}").into() }
}

/// Where clients reach a Service.
pub(super) fn frontend(number: u32) -> Frontend {
    Frontend { address: vip(number), protocol: PROTOCOL, port: 53 }
}

fn vip(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(172, 16, 0, 1).to_bits() + number).into()
}

fn address(pod: u32) -> IpAddr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + pod).into()
}

fn service(number: u32) -> Parsed {
    let name = service_name(number);
    let port = Port {
        name: "dns".into(),
        protocol: PROTOCOL,
        port: 53,
        node_port: u16::try_from(30_000 + number).ok().filter(|port| *port < 32_768),
    };
    let service = Service {
        created: Some(i128::from(number)),
        cluster_ips: vec![vip(number)],
        ports: vec![port],
        ..Service::new(name.clone())
    };
    parsed(Kind::Service, &name, Object::Service(Arc::new(service)))
}

fn parsed(kind: Kind, name: &ServiceName, object: Object) -> Parsed {
    let key = ObjectKey { kind, namespace: name.namespace.clone(), name: name.name.clone() };
    Parsed { key, object, notes: Vec::new() }
}
