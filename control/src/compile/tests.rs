//! What is compiled step by step is what is compiled at once, and what the rules say when they are followed line by line.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use ringway_shared::endpoint::EndpointState;
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::ServicePort;
use ringway_shared::snapshot::{Target, Vip};
use ringway_shared::{Backend, Family, Frontend, Matched, Protocol};

use super::*;
use crate::parse::service::Port;
use crate::parse::{
    EndpointSlice, Ignored, Kind, Node as ParsedNode, Object, ObjectKey, Parsed, Service, SliceEndpoint, SlicePort,
};
use crate::problem::Severity;

/// The frontends of all Services in the order of rule 6, one after the other.
#[derive(Default)]
struct Plain {
    frontends: BTreeMap<Frontend, Target>,
    vips: BTreeMap<std::net::IpAddr, Vip>,
    problems: Vec<Problem>,
}

impl Plain {
    fn of(memory: &Memory) -> Plain {
        let facts = memory.facts.as_ref().unwrap();
        let mut services: Vec<&Remembered> = memory.services.values().collect();
        services.sort_by_key(|compiled| compiled.service.name.clone());
        let mut plain = Plain { problems: memory.node_problems.clone(), ..Plain::default() };
        plain.problems.extend(services.iter().flat_map(|of| of.problem.iter().chain(&of.overlooked)).cloned());
        services.sort_by_key(|compiled| (compiled.service.created.is_none(), compiled.service.created));
        for matched in [Matched::ClusterIp, Matched::ExternalIp, Matched::LoadBalancerIp] {
            services.iter().for_each(|compiled| plain.add_vips(matched, compiled, facts));
        }
        let counted = services.iter().map(|compiled| &compiled.service).filter(|service| service.ignored.is_none());
        let health: HashMap<u16, &ServiceName> =
            counted.filter_map(|service| Some((service.health_check_node_port?, &service.name))).collect();
        services.iter().for_each(|compiled| plain.add_node_ports(compiled, &health, facts));
        plain
    }

    fn add_vips(&mut self, listed: Matched, compiled: &Remembered, facts: &NodeFacts) {
        let service = &compiled.service;
        if service.ignored.is_some() || compiled.problem.is_some() {
            return;
        }
        let addresses = match listed {
            Matched::ClusterIp => &service.cluster_ips,
            Matched::ExternalIp => &service.external_ips,
            _ => &service.load_balancer_ips,
        };
        for address in addresses.iter().copied().filter(|a| service.cluster_ip(Family::of(*a)).is_some()) {
            let family = Family::of(address);
            let ports = || compiled.ports.iter().map(|compiled| &compiled.port).filter(|port| port.family == family);
            let guarded = service.load_balancer_ips.contains(&address) && ports().any(|p| p.source_ranges.is_some());
            let matched = if guarded && listed == Matched::ExternalIp { Matched::LoadBalancerIp } else { listed };
            let vip = self.vips.entry(address).or_default();
            vip.cluster_ip |= matched == Matched::ClusterIp;
            vip.host_owned = facts.owns(address) && !vip.cluster_ip;
            for port in ports() {
                self.add(Frontend { address, protocol: port.protocol, port: port.port }, matched, port);
            }
        }
    }

    fn add_node_ports(&mut self, compiled: &Remembered, health: &HashMap<u16, &ServiceName>, facts: &NodeFacts) {
        for compiled in &compiled.ports {
            let (Some(number), port) = (compiled.node_port, &compiled.port) else { continue };
            if let Some(other) = health.get(&number).filter(|_| port.protocol == Protocol::Tcp) {
                let text = format!("the nodePort {number} is not served: it is the healthCheckNodePort of {other}");
                self.warn(port, text);
                continue;
            }
            for address in facts.node_port_addresses.iter().copied().filter(|a| Family::of(*a) == port.family) {
                self.add(Frontend { address, protocol: port.protocol, port: number }, Matched::NodePort, port);
            }
        }
    }

    fn add(&mut self, frontend: Frontend, matched: Matched, port: &Arc<ServicePort>) {
        let Some(first) = self.frontends.get(&frontend) else {
            let target = Target { matched, service_port: port.clone() };
            if matched != Matched::NodePort {
                self.vips.entry(frontend.address).or_default().targets.push(target.clone());
            }
            self.frontends.insert(frontend, target);
            return;
        };
        let first = &first.service_port.service;
        if *first != port.service {
            let text =
                format!("{frontend} belongs to Service {first} already, which has it first; change one of the two");
            self.warn(port, text);
        }
    }

    fn warn(&mut self, port: &ServicePort, text: String) {
        let key = ObjectKey::of_service(&port.service);
        self.problems.push(Problem::of_object(Severity::Warning, &key, text));
    }
}

fn outline<'t>(
    frontends: impl Iterator<Item = (&'t Frontend, &'t Target)>,
    vips: impl Iterator<Item = (&'t std::net::IpAddr, &'t Vip)>,
) -> [BTreeMap<String, String>; 2] {
    let target = |target: &Target| {
        let port = &target.service_port;
        let sets = [&port.cluster, &port.local].map(|set| (set.backends().to_vec(), set.is_refused()));
        format!(
            "{:?} {} {} {} {:?} {sets:?} {:?}",
            target.matched, port.id.0, port.service, port.port, port.endpoints, port.has_endpoint
        )
    };
    let vip = |vip: &Vip| {
        let targets: Vec<_> = vip.targets.iter().map(target).collect();
        format!("{} {} {targets:?}", vip.cluster_ip, vip.host_owned)
    };
    [
        frontends.map(|(frontend, to)| (frontend.to_string(), target(to))).collect(),
        vips.map(|(address, of)| (address.to_string(), vip(of))).collect(),
    ]
}

fn name(name: &str) -> ServiceName {
    ServiceName { namespace: "ns".into(), name: name.into() }
}

const SERVICES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn service() -> impl Strategy<Value = Service> {
    let ip = |choices: &'static [&'static str]| {
        prop::sample::subsequence(choices, 0..=choices.len().min(2))
            .prop_shuffle()
            .prop_map(|ips| ips.into_iter().map(|ip| ip.parse().unwrap()).collect::<Vec<std::net::IpAddr>>())
    };
    let port = (0..2u8, 0..2usize, prop::option::of(0..2u16)).prop_map(|(name, number, node_port)| Port {
        name: ["p", "q"][usize::from(name)].into(),
        protocol: [Protocol::Tcp, Protocol::Udp][usize::from(name)],
        port: [80, 30_000][number],
        node_port: node_port.map(|place| 30_000 + place),
    });
    let ports = prop::collection::vec(port, 0..3).prop_map(|mut ports| {
        ports.dedup_by_key(|port| port.protocol);
        ports
    });
    let lists = (
        ip(&["172.30.0.1", "172.30.0.2", "fd00:30::1"]),
        ip(&["203.0.113.1", "192.168.0.2", "172.30.0.2", "fd00::9"]),
        ip(&["203.0.113.1", "203.0.113.2", "192.168.0.2"]),
    );
    let rest = (
        prop::sample::select(&SERVICES[..]),
        prop::option::of(0..3i128),
        prop::option::weighted(0.1, Just(Ignored::Headless)),
        prop::bool::weighted(0.3),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.3, 30_000..30_002u16),
        prop::bool::weighted(0.1),
    );
    (lists, ports, rest).prop_map(|((cluster, external, balancer), ports, rest)| {
        let (service, created, ignored, guarded, local, health_check_node_port, dsr) = rest;
        Service {
            created,
            ignored,
            cluster_ips: cluster,
            external_ips: external,
            load_balancer_ips: balancer,
            source_ranges: if guarded { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() },
            ports,
            external_policy: if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster },
            forwarding: dsr.then_some(ringway_shared::service::ForwardingMode::DsrL2),
            health_check_node_port,
            ..Service::new(name(service))
        }
    })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let endpoint = (1..6u8, any::<bool>(), any::<bool>()).prop_map(|(last, ready, here)| SliceEndpoint {
        address: std::net::IpAddr::from([10, 0, 0, last]),
        state: EndpointState { ready, serving: true, terminating: !ready },
        node: here.then(|| "gw".into()),
        zone: None,
        node_hints: Vec::new(),
        zone_hints: Vec::new(),
    });
    let endpoints = prop::collection::vec(endpoint, 0..4);
    let service = prop::option::weighted(0.9, prop::sample::select(&SERVICES[..]));
    (prop::sample::select(&["s", "t", "u"][..]), service, endpoints).prop_map(|(slice, service, endpoints)| {
        let port = |name: &str, protocol| SlicePort { name: name.into(), protocol, port: 8080 };
        EndpointSlice {
            name: name(slice),
            label: slice.into(),
            service: service.map(name),
            family: Family::V4,
            ports: vec![port("p", Protocol::Tcp), port("q", Protocol::Udp)],
            endpoints,
        }
    })
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Service(Service),
    Slice(EndpointSlice),
    Node(u8),
    Remove(Kind, &'static str),
    Copy,
    Kernel(Vec<std::net::IpAddr>),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => service().prop_map(Step::Service),
        6 => slice().prop_map(Step::Slice),
        1 => (1..4u8).prop_map(Step::Node),
        2 => prop::sample::select(&SERVICES[..]).prop_map(|name| Step::Remove(Kind::Service, name)),
        2 => prop::sample::select(&["s", "t", "u"][..]).prop_map(|name| Step::Remove(Kind::EndpointSlice, name)),
        1 => Just(Step::Copy),
        1 => prop::sample::subsequence(&["203.0.113.1", "172.30.0.1", "fd00::9", "10.0.0.2", "192.168.0.2"][..], 0..4)
            .prop_map(|addresses| Step::Kernel(addresses.into_iter().map(|address| address.parse().unwrap()).collect())),
    ]
}

pub(crate) fn take(state: &mut ClusterState, step: Step) {
    let key = |kind: Kind, name: &str| {
        let namespace = if kind.is_namespaced() { "ns" } else { "" };
        ObjectKey { kind, namespace: namespace.into(), name: name.into() }
    };
    let (key, object) = match step {
        Step::Service(service) => (key(Kind::Service, &service.name.name), Object::Service(service.into())),
        Step::Slice(slice) => (key(Kind::EndpointSlice, &slice.name.name), Object::EndpointSlice(slice.into())),
        Step::Node(last) => {
            let addresses = [[192, 168, 0, 2], [192, 168, 0, last]].map(std::net::IpAddr::from);
            let (pod_cidrs, labels) = Default::default();
            let addresses = addresses.into();
            let node = ParsedNode { name: "gw".into(), addresses, pod_cidrs, labels, leaving: false };
            (key(Kind::Node, "gw"), Object::Node(node.into()))
        }
        Step::Remove(kind, name) => {
            state.remove(&key(kind, name));
            return;
        }
        // No object: the options have it.
        Step::Kernel(_) => return,
        // The same objects in a state that shares nothing with the one before.
        Step::Copy => {
            let services = state.services().map(|s| (key(Kind::Service, &s.name.name), Object::Service(s.clone())));
            let slices = SERVICES.iter().flat_map(|service| state.slice_list(&name(service)).to_vec());
            let slices = slices.map(|s| (key(Kind::EndpointSlice, &s.name.name), Object::EndpointSlice(s.clone())));
            let node = state.node("gw").map(|n| (key(Kind::Node, "gw"), Object::Node(n.clone())));
            let mut copy = ClusterState::default();
            for (key, object) in services.chain(slices).chain(node) {
                copy.apply(Parsed { key, object, notes: Vec::new() }, None);
            }
            *state = copy;
            return;
        }
    };
    state.apply(Parsed { key, object, notes: Vec::new() }, None);
}

/// The numbers of a flow of `frontend` to `backend`: what the packet path finds when it looks again.
fn standing(services: &Services, frontend: &Frontend, backend: &Backend) -> Option<(ServicePortId, BackendId)> {
    let port = &services.find(frontend)?.service_port;
    Some((port.id, port.member(backend.address, backend.port)?.id))
}

#[test]
fn a_change_of_one_service_is_none_of_another() {
    let (mut state, mut memory, options) = (ClusterState::default(), Memory::new(), CompileOptions::default());
    let service = |of: &str, last| Service {
        created: Some(i128::from(last)),
        cluster_ips: vec![[172, 30, 0, last].into()],
        // They share one; the older has it.
        external_ips: vec![[203, 0, 113, 1].into()],
        ports: vec![Port { name: "p".into(), protocol: Protocol::Tcp, port: 80, node_port: None }],
        ..Service::new(name(of))
    };
    let slice = |address| EndpointSlice {
        name: name("s"),
        label: "s".into(),
        service: Some(name("a")),
        family: Family::V4,
        ports: vec![SlicePort { name: "p".into(), protocol: Protocol::Tcp, port: 8080 }],
        endpoints: vec![SliceEndpoint {
            address,
            state: EndpointState { ready: true, serving: true, terminating: false },
            node: None,
            zone: None,
            node_hints: Vec::new(),
            zone_hints: Vec::new(),
        }],
    };
    let mut after = |step: Option<Step>| {
        step.into_iter().for_each(|step| take(&mut state, step));
        compile(&state, &options, &mut memory).services
    };
    after(Some(Step::Service(service("a", 2))));
    after(Some(Step::Service(service("b", 3))));
    let first = after(Some(Step::Slice(slice([10, 0, 0, 1].into()))));
    let id = |last: u8| {
        let frontend = Frontend { address: [172, 30, 0, last].into(), protocol: Protocol::Tcp, port: 80 };
        first.find(&frontend).unwrap().service_port.id
    };
    let (a, b) = (id(2), id(3));
    let changed = |services: &Services| [a, b].map(|port| services.changed_since(port, services.generation - 1));
    assert_eq!(changed(&first), [true, false]);
    assert_eq!(changed(&after(Some(Step::Slice(slice([10, 0, 0, 2].into()))))), [true, false]);
    assert_eq!(changed(&after(None)), [false, false]);
    // A newcomer takes the shared address from `a`, whose own objects stay.
    assert_eq!(changed(&after(Some(Step::Service(service("c", 1))))), [true, false]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_is_the_same_as_at_once(steps in prop::collection::vec((step(), 0..3u8), 1..40)) {
        let mut options = CompileOptions {
            node_name: "gw".into(),
            node_port_addresses: crate::config::NodePortAddresses { primary: true, cidrs: vec!["192.168.0.0/24".parse().unwrap()] },
            ..CompileOptions::default()
        };
        let (mut state, mut memory) = (ClusterState::default(), Memory::new());
        let mut approved = Vec::new();
        for (step, then) in steps {
            if let Step::Kernel(addresses) = &step {
                options.host_addresses = Arc::new(addresses.iter().copied().map(ipnet::IpNet::from).collect());
            }
            take(&mut state, step);
            // Several changes may come at once.
            if then == 0 {
                continue;
            }
            let compiled = compile(&state, &options, &mut memory);
            let services = &compiled.services;
            // Flows to what is not said to have changed are what they were.
            for (generation, frontend, port, backend) in &approved {
                if !services.changed_since(*port, *generation) {
                    prop_assert_eq!(standing(services, frontend, backend), Some((*port, backend.id)), "{}", frontend);
                }
            }
            approved.extend(services.frontends.iter().flat_map(|(frontend, target)| {
                let (frontend, port) = (*frontend, &target.service_port);
                port.endpoints.iter().map(move |e| (services.generation, frontend, port.id, e.backend))
            }));
            let [frontends, vips] = outline(services.frontends.iter(), services.vips.iter());
            let plain = Plain::of(&memory);
            let [plain_frontends, plain_vips] = outline(plain.frontends.iter(), plain.vips.iter());
            prop_assert_eq!(&frontends, &plain_frontends);
            prop_assert_eq!(&vips, &plain_vips);
            prop_assert_eq!(&compiled.problems[..], plain.problems);
            let mut fresh_memory = Memory::new();
            let fresh = compile(&state, &options, &mut fresh_memory);
            prop_assert_eq!(&compiled.problems, &fresh.problems);
            prop_assert_eq!(&compiled.health_checks, &fresh.health_checks);
            let owned = |services: &Services| -> BTreeMap<_, _> {
                services.vips.iter().map(|(address, vip)| (*address, vip.host_owned)).collect()
            };
            prop_assert_eq!(owned(services), owned(&fresh.services));
            prop_assert_eq!(services.frontends.len(), fresh.services.frontends.len());
            let ports = |memory: &Memory| -> BTreeMap<_, String> {
                let ports = memory.services.values().flat_map(|compiled| &compiled.ports).map(|compiled| &compiled.port);
                ports.map(|p| ((p.service.clone(), p.family, p.protocol, p.port), format!("{:?}", (
                    p.endpoints.iter().map(|e| (e.backend.socket(), e.state, e.slice.clone())).collect::<Vec<_>>(),
                    p.cluster.table(), p.local.table(), p.has_endpoint,
                )))).collect()
            };
            prop_assert_eq!(ports(&memory), ports(&fresh_memory));
            let listed: Vec<u32> = services.service_ports.iter().flatten().map(|port| port.id.0).collect();
            let mut known: Vec<u32> = memory.services.values().flat_map(|c| &c.ports).map(|c| c.port.id.0).collect();
            known.sort();
            prop_assert_eq!(listed, known);
            if then == 2 {
                memory.release(compiled.services.generation);
            }
        }
    }
}
