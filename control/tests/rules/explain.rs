//! What `trace` says about each endpoint that is left out: where it stands, by which rule, and why.

use ringway_control::report::flows::{Fate, FlowReport};
use ringway_control::report::overlooked;
use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::{FlowConfig, FlowTable, NewFlow, Segment, Source, Timeouts};
use ringway_dataplane::trace::{Question, Trace, View, explain};
use ringway_shared::PortSet;

use crate::support::{World, endpoint, load_balancer, service, slice, slice_with};

const POD: &str = "tcp:10.0.0.9->172.30.0.1:80";
const CLIENT: &str = "tcp:198.51.100.1->203.0.113.1:80";

fn ask(objects: &[String], packet: &str) -> Trace {
    let world = World::new(&objects.concat());
    let services = &world.compiled.services;
    let question: Question = packet.parse().unwrap();
    let mut trace = explain(
        &View { services, network: None, snat_addresses: &[], affinities: None, rescue: true, suspects: None },
        &question,
    );
    overlooked::tell(&mut trace, &question, &world.cluster, services);
    trace
}

#[test]
fn every_endpoint_that_is_left_out_has_its_slice_its_rule_and_a_reason() {
    let web = |more: &str| service("web", &format!("clusterIP: 172.30.0.1, externalIPs: [203.0.113.1]{more}"));
    let good = "{addresses: [10.180.0.1]}, ";
    let with = |fields: &str| slice("web", &format!("{good}{}", endpoint("10.180.0.2", fields)));
    let hinted = |ours: &str, others: &str| {
        let fields = [ours, others].map(|hint| format!("hints: {{{hint}}}"));
        let both = [endpoint("10.180.0.1", &fields[0]), endpoint("10.180.0.2", &fields[1])];
        slice("web", &both.join(", "))
    };
    let local = ", externalTrafficPolicy: Local";
    let dual = service("web", "clusterIPs: [172.30.0.1, \"fd00:30::1\"]");
    let six = slice("web", "{addresses: [\"fd00:180::2\"]}");
    let rows = [
        (vec![web(""), with("conditions: {ready: false}")], POD, 10, "not ready"),
        (
            vec![web(""), with("conditions: {ready: false, terminating: true}")],
            POD,
            10,
            "terminating, and other endpoints are ready",
        ),
        (
            vec![web(""), hinted("forZones: [{name: a}]", "forZones: [{name: b}]")],
            POD,
            11,
            "its hints name other zones",
        ),
        (
            vec![web(""), hinted("forNodes: [{name: gw-1}]", "forNodes: [{name: gw-2}]")],
            POD,
            11,
            "its hints name other nodes",
        ),
        (
            vec![
                web(local),
                slice("web", "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.2], nodeName: gw-2}"),
            ],
            CLIENT,
            12,
            "on node gw-2, not on this one",
        ),
        (
            vec![
                web(local),
                slice(
                    "web",
                    "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.2], nodeName: gw-1, conditions: {ready: false}}",
                ),
            ],
            CLIENT,
            12,
            "not ready",
        ),
        // The other family, be the Service a part of it or not.
        (vec![dual, slice("web", "{addresses: [10.180.0.1]}"), six.clone()], POD, 3, "it has an IPv6 address"),
        (vec![web(""), slice("web", "{addresses: [10.180.0.1]}"), six], POD, 3, "it has an IPv6 address"),
        // Names that do not meet.
        (
            vec![
                web(""),
                slice("web", "{addresses: [10.180.0.1]}"),
                slice_with("web", "{name: q, port: 80}", "{addresses: [10.180.0.2]}"),
            ],
            POD,
            2,
            "its slice gives the port the name \"q\"",
        ),
        (
            vec![
                web(""),
                slice("web", "{addresses: [10.180.0.1]}"),
                slice_with("web", "{port: 80}", "{addresses: [10.180.0.2]}"),
            ],
            POD,
            2,
            "its slice gives the port no name",
        ),
    ];
    for (objects, packet, rule, why) in rows {
        let trace = ask(&objects, packet);
        assert_eq!(trace.eligible, ["10.180.0.1:80"], "{trace}");
        assert_eq!(trace.excluded.len(), 1, "{trace}");
        let left_out = &trace.excluded[0];
        assert!(["10.180.0.2:80", "[fd00:180::2]:80"].contains(&&*left_out.endpoint), "{trace}");
        assert!(left_out.slice.starts_with("default/web-"), "{trace}");
        assert_eq!((left_out.rule, &*left_out.why), (rule, why), "{trace}");
        let sentence =
            format!("{} of EndpointSlice {} is not eligible: {why} (rule {rule}).", left_out.endpoint, left_out.slice);
        assert!(trace.steps.contains(&sentence), "{trace}");
    }
}

#[test]
fn endpoints_are_accounted_for_where_none_is_left() {
    let web = service("web", "clusterIP: 172.30.0.1");
    for (slices, rule, why) in [
        (slice("web", "{addresses: [192.168.0.2]}"), 13, "refused: it has one of this node's own addresses"),
        (slice("web", "{addresses: [10.180.0.2], conditions: {ready: false}}"), 10, "not ready"),
        (slice("web", "{addresses: [\"fd00:180::2\"]}"), 3, "it has an IPv6 address"),
        (slice_with("web", "{name: q, port: 80}", "{addresses: [10.180.0.2]}"), 2, "its slice gives the port the name"),
    ] {
        let trace = ask(&[web.clone(), slices], POD);
        assert_eq!((trace.eligible.len(), trace.excluded.len()), (0, 1), "{trace}");
        assert_eq!(trace.excluded[0].rule, rule, "{trace}");
        assert!(trace.excluded[0].why.starts_with(why), "{trace}");
    }
    let trace = ask(&[web], POD);
    assert!(trace.steps.contains(&"No EndpointSlice names an endpoint for this port.".into()), "{trace}");
}

#[test]
fn a_packet_that_no_service_got_has_the_one_that_it_may_have_been_for() {
    let web = |spec: &str| service("web", spec);
    let other = web("clusterIP: 172.30.0.1")
        .replace("{name: web}", "{name: web, labels: {service.kubernetes.io/service-proxy-name: x}}");
    let node_port = web("clusterIP: 172.30.0.2, type: NodePort, ports: [{port: 80, nodePort: 30080}]");
    for (objects, packet, step) in [
        (
            other,
            POD,
            "Service default/web lists 172.30.0.1, but it is ignored: the label \
             service.kubernetes.io/service-proxy-name leaves it to another proxy (rule 1).",
        ),
        (
            web("clusterIP: None, externalIPs: [203.0.113.1]"),
            CLIENT,
            "Service default/web lists 203.0.113.1, but it is ignored: headless Services have no VIP (rule 1).",
        ),
        (
            web("clusterIP: \"fd00:30::1\", externalIPs: [203.0.113.1]"),
            CLIENT,
            "Service default/web lists 203.0.113.1, but it has no IPv4 ClusterIP, so it has no part in IPv4 (rule 3).",
        ),
        (
            load_balancer("web", "clusterIP: 172.30.0.1", "{ip: 203.0.113.1, ipMode: Proxy}"),
            CLIENT,
            "Service default/web lists 203.0.113.1, but its ipMode is Proxy, so whoever owns it forwards to the Service by \
             itself (rule 5).",
        ),
        (
            node_port,
            "tcp:198.51.100.1->192.168.7.2:30080",
            "tcp 30080 is a NodePort of Service default/web, but it is not served on 192.168.7.2: nodePortAddresses does \
             not name it, or the number is a healthCheckNodePort (rule 9).",
        ),
    ] {
        let trace = ask(&[objects], packet);
        assert_eq!(trace.service, None, "{trace}");
        assert_eq!(trace.steps[1], step, "{trace}");
    }
    // What a refused Service lists, nobody knows; it is told beside a VIP that another has, too.
    let refused = web("clusterIP: 172.30.0.1, type: Odd").replace("{name: web}", "{name: bad}");
    let step = "What default/bad may list now does not count, since it is refused; ringway status or check says why.";
    for objects in [vec![refused.clone()], vec![web("clusterIP: 172.30.0.1, ports: [{port: 81}]"), refused.clone()]] {
        let trace = ask(&objects, POD);
        assert_eq!((&trace.service, &*trace.steps[1]), (&None, step), "{trace}");
    }
    let many: Vec<String> = (0..5).map(|n| refused.replace("bad", &format!("bad{n}"))).collect();
    assert!(ask(&many, POD).steps[1].starts_with("What default/bad0, default/bad1, default/bad2 and 2 more may list"));
    // Nothing to say about what no Service lists, nor beside what one has.
    assert_eq!(ask(&[web("clusterIP: 172.30.0.9")], POD).steps.len(), 2);
    assert_eq!(ask(&[web("clusterIP: 172.30.0.1")], "tcp:10.0.0.9->172.30.0.1:81").steps.len(), 2);
}

#[test]
fn a_client_that_is_not_let_in_is_told_the_ranges() {
    let spec = "clusterIP: 172.30.0.1, loadBalancerSourceRanges: [192.0.2.0/24, \"2001:db8::/32\", 10.0.0.0/8]";
    let trace = ask(&[load_balancer("web", spec, "{ip: 203.0.113.1}")], CLIENT);
    let step =
        "loadBalancerSourceRanges lets in 192.0.2.0/24, 10.0.0.0/8 only, and 198.51.100.1 is not in there (rule 18).";
    assert!(trace.steps.contains(&step.to_owned()), "{trace}");
}

#[test]
fn a_flow_is_told_with_what_becomes_of_its_next_packet() {
    let web = service("web", "clusterIP: 172.30.0.1, ports: [{port: 80}, {port: 80, protocol: UDP}]");
    let ports = "{port: 80}, {port: 80, protocol: UDP}";
    let slice = |address: &str| slice_with("web", ports, &format!("{{addresses: [{address}]}}"));
    let before = World::new(&(web.clone() + &slice("10.180.0.1")));
    for (protocol, gone, words) in [
        ("tcp", Fate::Reset, "so its next packet is answered with a RST"),
        ("udp", Fate::DecidedAnew, "so its next packet is decided about like this"),
    ] {
        let question: Question = format!("{protocol}:10.0.0.9:4000->172.30.0.1:80").parse().unwrap();
        let target = before.compiled.services.find(&question.tuple.frontend()).unwrap();
        let backend = target.service_port.endpoints[0].backend;
        let timeouts = Timeouts::default();
        let mut flows =
            FlowTable::new(&FlowConfig { capacity: 1, seed: 1, timeouts, snat_ports: PortSet::from(61_000..=61_001) });
        let new = NewFlow {
            original: question.tuple,
            segment: Segment::default(),
            endpoint: backend.address,
            endpoint_port: backend.port,
            source: Source::Kept,
            service_port: target.service_port.id,
            backend: backend.id,
        };
        let id = flows.open(&new, Time::default()).unwrap().id;
        let flow = flows.flow(id);
        let told = |objects: &str, is_passed: bool| {
            let services = &World::new(objects).compiled.services;
            let fate = Fate::of(flow, services, is_passed);
            (fate, FlowReport::of(0, flow, services, Time::default()).sentence(fate))
        };
        for (objects, is_passed, fate, words) in [
            (web.clone() + &slice("10.180.0.1"), false, Fate::GoesOn, "which goes on as it is"),
            (web.clone() + &slice("10.180.0.2"), false, gone, words),
            (slice("10.180.0.1"), false, gone, words),
            (slice("10.180.0.1"), true, Fate::Unseen, "but the kernel gets its packets, too"),
        ] {
            let (found, sentence) = told(&objects, is_passed);
            assert_eq!(found, fate, "{protocol} {objects}");
            assert!(sentence.contains(words) && sentence.contains("endpoint 10.180.0.1:80"), "{sentence}");
        }
    }
}
