use std::sync::Arc;

use ringway_shared::endpoint::{EndpointState, Exclusion};
use ringway_shared::network::{Interface, Lowers, ReversePath, Route, RouteTarget};
use ringway_shared::service::{Matched, ServiceName};
use ringway_shared::snapshot::{Node, Vip};
use ringway_shared::{BackendId, Endpoint, Frontend, InterfaceId, MacAddress, Protocol, ServicePort, ServicePortId};

use super::*;

fn endpoint(id: u32, socket: &str, excluded: Option<Exclusion>) -> Endpoint {
    let socket: std::net::SocketAddr = socket.parse().unwrap();
    Endpoint {
        backend: Backend { id: BackendId(id), address: socket.ip(), port: socket.port(), weight: 1 },
        state: EndpointState { ready: excluded.is_none(), serving: true, terminating: excluded.is_some() },
        drained: false,
        node: Some("b".into()),
        zone: None,
        slice: "ns1/svc1-x".into(),
        excluded_from_cluster: excluded,
        excluded_from_local: Some(Exclusion::OtherNode(Some("b".into()))),
    }
}

/// One Service with three endpoints, one of them terminating, asked for by ClusterIP, NodePort and LB IP.
fn services() -> Services {
    let endpoints: Arc<[Endpoint]> = [
        endpoint(0, "10.180.0.1:80", None),
        endpoint(1, "10.180.0.10:80", None),
        endpoint(2, "10.180.0.2:80", Some(Exclusion::Terminating)),
    ]
    .into();
    let eligible = endpoints.iter().filter(|e| e.excluded_from_cluster.is_none()).map(|e| e.backend).collect();
    let port = |external_policy| {
        let service = ServiceName { namespace: "ns1".into(), name: "svc1".into() };
        Arc::new(ServicePort {
            port_name: "p80".into(),
            external_policy,
            endpoints: endpoints.clone(),
            cluster: EndpointSet::new(eligible),
            has_endpoint: true,
            ..ServicePort::new(ServicePortId(0), service, Protocol::Tcp, 80, Family::V4)
        })
    };
    let port = port(TrafficPolicy::Local);
    let mut services = Services {
        node: Node {
            addresses: ["192.168.0.2".parse().unwrap()].into_iter().collect(),
            pod_cidrs: vec!["10.180.0.0/24".parse().unwrap()],
        },
        service_cidrs: vec!["172.30.0.0/16".parse().unwrap()],
        ..Services::default()
    };
    let frontends = [
        ("172.30.0.41", 80, Matched::ClusterIp),
        ("192.168.0.2", 30080, Matched::NodePort),
        ("203.0.113.9", 80, Matched::LoadBalancerIp),
    ];
    for (address, number, matched) in frontends {
        let address = address.parse().unwrap();
        let frontend = Frontend { address, protocol: Protocol::Tcp, port: number };
        services.frontends.insert(frontend, Target { matched, service_port: port.clone() });
        if matched != Matched::NodePort {
            services.vips.insert(
                address,
                Vip { cluster_ip: matched == Matched::ClusterIp, host_owned: false, targets: Vec::new() },
            );
        }
    }
    services
}

fn network(neighbor: bool, dev: RouteTarget) -> Network {
    let interface = Interface {
        id: InterfaceId(0),
        name: "eth0".into(),
        index: 1,
        mac: MacAddress([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        addresses: vec!["192.168.0.2/24".parse().unwrap()],
        up: true,
        lowers: Lowers::default(),
    };
    let route = Route::new("10.180.0.0/16".parse().unwrap(), dev);
    let known = (InterfaceId(0), "192.168.0.3".parse().unwrap(), MacAddress([2, 0, 0, 0, 0, 3]));
    Network::new(1, vec![interface], [route], neighbor.then_some(known))
}

fn by_eth0() -> RouteTarget {
    RouteTarget::Out { interface: InterfaceId(0), via: Some("192.168.0.3".parse().unwrap()) }
}

fn ask(network: Option<&Network>, source: &str, destination: &str) -> Trace {
    let services = services();
    let view =
        View { services: &services, network, snat_addresses: &[], affinities: None, rescue: true, suspects: None };
    explain(&view, &format!("tcp:{source}->{destination}").parse().unwrap())
}

#[test]
fn a_forwarded_packet_has_every_documented_key() {
    let trace = ask(None, "10.0.0.2:1234", "172.30.0.41:80");
    let json = serde_json::to_string(&trace).unwrap();
    let chosen = trace.chosen.as_deref().unwrap();
    let expected = format!(
        "{{\"packet\":\"tcp:10.0.0.2:1234->172.30.0.41:80\",\"verdict\":\"forward\",\"reason\":null,\"service\":\"ns1/svc1\",\
         \"servicePort\":\"p80\",\"matched\":\"clusterIP\",\"eligible\":[\"10.180.0.10:80\",\"10.180.0.1:80\"],\
         \"chosen\":\"{chosen}\",\"masquerade\":true,"
    );
    assert!(json.starts_with(&expected), "{json}");
    assert!(trace.eligible.iter().any(|eligible| eligible == chosen));
    assert_eq!(trace.excluded.len(), 1);
    let excluded = serde_json::to_value(&trace.excluded[0]).unwrap();
    let expected = serde_json::json!({
        "endpoint": "10.180.0.2:80", "slice": "ns1/svc1-x", "rule": 10,
        "why": "terminating, and other endpoints are ready",
    });
    assert_eq!(excluded, expected);
    assert_eq!(serde_json::from_str::<Trace>(&json).unwrap(), trace);
}

#[test]
fn a_ping_and_an_icmp_error_are_told_of_as_well() {
    let mut services = services();
    services.vips.insert("fd00::41".parse().unwrap(), Vip { cluster_ip: true, host_owned: false, targets: Vec::new() });
    for address in ["172.30.0.41", "203.0.113.9"] {
        let address = address.parse().unwrap();
        let target = services.find(&Frontend { address, protocol: Protocol::Tcp, port: 80 }).unwrap().clone();
        services.vips.entry(address).or_default().targets.push(target);
    }
    let say = |services: &Services, text: &str| {
        let view =
            View { services, network: None, snat_addresses: &[], affinities: None, rescue: true, suspects: None };
        let trace = explain(&view, &text.parse().unwrap());
        assert!(trace.service.is_none() && trace.chosen.is_none() && trace.eligible.is_empty(), "{trace}");
        (trace.verdict, trace.reason.unwrap_or_default())
    };
    let (pass, drop) = (TraceVerdict::Pass, TraceVerdict::Drop);
    for (text, verdict, reason) in [
        ("icmp:10.0.0.2->203.0.113.9", TraceVerdict::Reply, "echo_request"),
        ("icmp:10.0.0.2->172.30.0.41", TraceVerdict::Reply, "echo_request"),
        ("icmp:10.0.0.2->192.168.0.2", pass, ""),
        ("icmp:10.0.0.2->172.30.9.9", drop, "unallocated_cluster_ip"),
        ("icmp:224.0.0.1->172.30.0.41", drop, "impossible_source"),
        ("icmp:[fe80::9]->[fd00::41]", drop, "impossible_source"),
        ("icmp:[fe80::9]->[fd00::41] about tcp:[fd00::41]:80->[fd00::9]:5000", drop, "icmp_without_flow"),
        ("icmp:10.0.0.2->172.30.0.41 about tcp:172.30.0.41:80->10.0.0.9:5000", drop, "icmp_without_flow"),
        ("icmp:10.0.0.2->192.168.0.2 about tcp:192.168.0.2:30080->10.0.0.9:5000", pass, ""),
    ] {
        assert_eq!(say(&services, text), (verdict, reason.to_owned()), "{text}");
    }
    // Nobody is left who could be meant by the ping.
    let vip = services.vips.entry("203.0.113.9".parse().unwrap()).or_default();
    vip.targets.iter_mut().for_each(|target| Arc::make_mut(&mut target.service_port).has_endpoint = false);
    assert_eq!(say(&services, "icmp:10.0.0.2->203.0.113.9"), (drop, "echo_without_endpoint".to_owned()));
}

#[test]
fn the_masquerade_is_said_for_the_chosen_endpoint() {
    let hairpin = (1..200).map(|port| ask(None, &format!("10.180.0.1:{port}"), "172.30.0.41:80")).collect::<Vec<_>>();
    assert!(hairpin.iter().any(|trace| trace.masquerade) && hairpin.iter().any(|trace| !trace.masquerade));
    for trace in hairpin {
        assert_eq!(trace.masquerade, trace.chosen.as_deref() == Some("10.180.0.1:80"), "{trace}");
    }
}

#[test]
fn what_is_not_forwarded_names_no_endpoint_and_rules_7_and_8_no_service() {
    let cases = [
        ("10.0.0.2:1", "8.8.8.8:80", TraceVerdict::Pass, None, None),
        ("10.0.0.2:1", "172.30.0.41:81", TraceVerdict::Reject, Some("no_service_port"), None),
        ("10.0.0.2:1", "172.30.9.9:80", TraceVerdict::Drop, Some("unallocated_cluster_ip"), None),
        ("10.0.0.2:1", "203.0.113.9:80", TraceVerdict::Drop, Some("no_local_endpoint"), Some("ns1/svc1")),
        ("224.0.0.1:1", "172.30.0.41:80", TraceVerdict::Drop, Some("impossible_source"), Some("ns1/svc1")),
        ("172.30.0.41:80", "172.30.0.41:80", TraceVerdict::Drop, Some("land"), Some("ns1/svc1")),
        ("127.0.0.1:1", "203.0.113.9:80", TraceVerdict::Forward, None, Some("ns1/svc1")),
        ("192.168.0.2:1", "192.168.0.2:30080", TraceVerdict::Forward, None, Some("ns1/svc1")),
    ];
    for (source, destination, verdict, reason, service) in cases {
        let trace = ask(None, source, destination);
        assert_eq!(
            (trace.verdict, trace.reason.as_deref(), trace.service.as_deref()),
            (verdict, reason, service),
            "{trace}"
        );
        assert_eq!(trace.service.is_some(), trace.matched.is_some() && trace.service_port.is_some());
        if verdict != TraceVerdict::Forward {
            assert!(trace.eligible.is_empty() && trace.chosen.is_none() && !trace.masquerade, "{trace}");
        }
    }
}

#[test]
fn the_way_out_is_part_of_the_answer_when_the_network_is_known() {
    let reachable = network(true, by_eth0());
    let trace = ask(Some(&reachable), "10.0.0.2:1", "172.30.0.41:80");
    assert_eq!(trace.snat_address, Some("192.168.0.2".parse().unwrap()));
    assert_eq!(trace.adjacency.unwrap().next_hop_mac, "02:00:00:00:00:03");
    for (network, reason) in [
        (network(false, by_eth0()), "neighbor_unresolved"),
        (network(true, RouteTarget::Unlisted("wg0".into())), "no_interface"),
        (network(true, RouteTarget::Nowhere), "no_route"),
    ] {
        let trace = ask(Some(&network), "10.0.0.2:1", "172.30.0.41:80");
        assert_eq!((trace.verdict, trace.reason.as_deref()), (TraceVerdict::Drop, Some(reason)), "{trace}");
    }
}

#[test]
fn sources_that_some_interface_would_refuse_are_told() {
    let refused = "Where it arrives by eth0, it is dropped (reverse_path): rp_filter is ";
    let told = |asked, source: &str| {
        let network = network(true, by_eth0()).with_reverse_paths(vec![asked]);
        let trace = ask(Some(&network), source, "172.30.0.41:80");
        assert_eq!(trace.verdict, TraceVerdict::Forward, "{trace}");
        trace.steps.iter().find_map(|step| step.strip_prefix(refused)).map(str::to_owned)
    };
    let words = |asked, source| told(asked, source).unwrap_or_default();
    // What passes does so by another way than the interface that it arrived by, which would refuse it as well.
    let strict = network(true, by_eth0()).with_reverse_paths(vec![ReversePath::Strict]);
    let passed = ["10.0.0.2", "10.180.3.4"].map(|source| ask(Some(&strict), &format!("{source}:1"), "192.168.0.2:22"));
    let telling = passed.each_ref().map(|trace| trace.steps.iter().any(|step| step.starts_with(refused)));
    assert_eq!((passed.map(|trace| trace.verdict), telling), ([TraceVerdict::Pass; 2], [true, false]));
    assert_eq!(words(ReversePath::Strict, "10.180.3.4:1"), "");
    assert_eq!(words(ReversePath::Off, "10.0.0.2:1"), "");
    assert_eq!(words(ReversePath::Strict, "10.0.0.2:1"), "strict there, and the answer would not leave by eth0.");
    assert_eq!(words(ReversePath::Loose, "10.0.0.2:1"), "loose there, and there is no route for the answer.");
    let trace = ask(Some(&network(true, by_eth0())), "192.168.0.2:1", "172.30.0.41:80");
    assert_eq!(trace.verdict, TraceVerdict::Forward);
    assert!(trace.steps.iter().any(|step| step.starts_with("On the wire such a source is dropped")), "{trace}");
}

#[test]
fn a_route_that_carries_less_than_its_interface_is_told() {
    let plain = network(true, by_eth0());
    let routes: Vec<Route> = plain
        .routes()
        .filter(|route| route.metric == 0)
        .map(|route| Route { mtu: Some(1400), ..route.clone() })
        .collect();
    let known = (InterfaceId(0), "192.168.0.3".parse().unwrap(), MacAddress([2, 0, 0, 0, 0, 3]));
    let trace =
        ask(Some(&Network::new(1, plain.interfaces().to_vec(), routes, [known])), "10.0.0.2:1", "172.30.0.41:80");
    let expected = "It leaves by eth0 to 02:00:00:00:00:03, in packets of at most 1400 bytes: the route says so, the interface carries 1500.";
    assert_eq!(trace.steps.last().unwrap(), expected);
    assert_eq!(trace.adjacency.unwrap().mtu, 1400);
}

#[test]
fn a_person_reads_the_answer_first_and_then_the_steps() {
    let trace = ask(Some(&network(true, by_eth0())), "10.0.0.2:1", "172.30.0.41:80");
    let text = trace.to_string();
    let expected = [
        "tcp:10.0.0.2:1->172.30.0.41:80",
        "  FORWARD to ",
        "   1. 172.30.0.41 is a ClusterIP of Service ns1/svc1, which has tcp 80 (port \"p80\").",
        "   2. The source 10.0.0.2 is neither in this node's pod CIDRs nor one of its own addresses.",
        "   3. internalTrafficPolicy is Cluster: endpoints of the whole cluster.",
        "   4. 2 of 3 endpoints are eligible: 10.180.0.1:80, 10.180.0.10:80.",
        "   5. 10.180.0.2:80 of EndpointSlice ns1/svc1-x is not eligible: terminating, and other endpoints are ready (rule 10).",
        "   6. The five-tuple is hashed: Maglev slot ",
        "   7. Masquerade: the source is not in this node's pod CIDRs.",
        "   8. The source becomes 192.168.0.2 with a port of the SNAT range.",
        "   9. It leaves by eth0 to 02:00:00:00:00:03.",
    ];
    assert_eq!(text.lines().count(), expected.len(), "{text}");
    for (line, expected) in text.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line}\n{expected}");
    }
}
