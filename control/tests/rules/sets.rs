//! Rules 10 to 13: the sets that a connection may go to.

use ringway_control::compile::CompileOptions;
use ringway_shared::endpoint::Exclusion;

use crate::support::{World, endpoint, options, service, slice};

const READY: &str = "conditions: {ready: true}";
const NOT_READY: &str = "conditions: {ready: false, serving: false}";
const GOING: &str = "conditions: {ready: false, serving: true, terminating: true}";
const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";

/// What ClusterIP traffic gets from endpoints 10.180.0.1, .2, … with these fields.
fn asked(policy: &str, fields: &[&str], options: &CompileOptions) -> String {
    let endpoints: Vec<String> =
        (1..).zip(fields).map(|(last, fields)| endpoint(&format!("10.180.0.{last}"), fields)).collect();
    let spec = format!("clusterIP: 172.30.0.1, internalTrafficPolicy: {policy}");
    let world = World::with(&(service("web", &spec) + &slice("web", &endpoints.join(", "))), options);
    let answer = world.ask("tcp 10.0.0.9 172.30.0.1:80");
    let answer = answer.strip_prefix("forward default/web clusterIP keep: ").unwrap_or(&answer);
    answer.replace("10.180.0.", "").replace(" default/web clusterIP", "")
}

#[test]
fn rule_10_ready_endpoints_else_those_serving_and_terminating() {
    for (fields, expected) in [
        (vec![READY, READY], "1 2"),
        (vec![READY, NOT_READY, GOING, GONE], "1"),
        (vec![NOT_READY, GOING, GONE, GOING], "2 4"),
        (vec!["conditions: {ready: true, terminating: true}", GOING], "1"),
        (vec!["conditions: {ready: true, serving: false}"], "1"),
        (vec![NOT_READY, GONE], "reject no_endpoint"),
        (vec![], "reject no_endpoint"),
    ] {
        assert_eq!(asked("Cluster", &fields, &options()), expected, "{fields:?}");
    }
}

#[test]
fn rule_11_hints_filter_by_node_then_by_zone() {
    let node = |name: &str| format!("hints: {{forNodes: [{{name: {name}}}]}}");
    let zone = |name: &str| format!("hints: {{forZones: [{{name: {name}}}]}}");
    let both = |n: &str, z: &str| format!("hints: {{forNodes: [{{name: {n}}}], forZones: [{{name: {z}}}]}}");
    let not_ready = |hints: &str| format!("{hints}, {NOT_READY}");
    let going = |hints: &str| format!("{hints}, {GOING}");
    let rows: Vec<(Vec<String>, &str)> = vec![
        (vec![zone("a"), zone("b"), zone("a")], "1 3"),
        (vec!["hints: {forZones: [{name: b}, {name: a}]".to_owned() + "}", zone("b")], "1"),
        // No hint names our zone, or one endpoint has none: no filter.
        (vec![zone("b"), zone("c")], "1 2"),
        (vec![zone("a"), String::new()], "1 2"),
        (vec![zone("a"), "hints: {forZones: []}".into()], "1 2"),
        (vec![zone("a"), "hints: null".into()], "1 2"),
        // Only ready endpoints are asked.
        (vec![zone("a"), zone("b"), not_ready("hints: {}")], "1"),
        (vec![not_ready(&zone("a")), zone("b"), zone("c")], "2 3"),
        // Node hints come first, zone hints when those do not apply.
        (vec![both("gw-1", "b"), both("gw-2", "a")], "1"),
        (vec![both("gw-3", "b"), both("gw-2", "a")], "2"),
        (vec![both("gw-1", "b"), zone("a")], "2"),
        (vec![node("gw-1"), node("gw-2")], "1"),
        (vec![node("gw-1"), String::new()], "1 2"),
        (vec![node("gw-2"), node("gw-3")], "1 2"),
        // Without any ready endpoint hints are ignored.
        (vec![going(&zone("a")), going(&zone("b"))], "1 2"),
    ];
    for (fields, expected) in rows {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(asked("Cluster", &fields, &options()), expected, "{fields:?}");
    }
    // A node whose zone is unknown, or empty, gets no zone filter.
    let nowhere = CompileOptions { labels: Some([].into()), ..options() };
    let empty =
        CompileOptions { labels: Some([("topology.kubernetes.io/zone".into(), String::new())].into()), ..options() };
    for options in [nowhere, empty] {
        assert_eq!(asked("Cluster", &[&zone("a"), &zone("\"\"")], &options), "1 2");
        assert_eq!(asked("Cluster", &[&node("gw-1"), &node("gw-2")], &options), "1");
    }
}

#[test]
fn rule_11_traffic_distribution_is_not_consulted() {
    let spec = "clusterIP: 172.30.0.1, trafficDistribution: PreferClose";
    let endpoints = "{addresses: [10.180.0.1], zone: a}, {addresses: [10.180.0.2], zone: b}";
    World::new(&(service("web", spec) + &slice("web", endpoints)))
        .expect(&[("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1 10.180.0.2")]);
}

#[test]
fn rule_12_the_local_set_falls_back_on_its_own_and_knows_no_hints() {
    let here = |fields: &str| format!("nodeName: gw-1, {fields}");
    let there = |fields: &str| format!("nodeName: gw-2, {fields}");
    let zone_b = "hints: {forZones: [{name: b}]}";
    let zone_a = "hints: {forZones: [{name: a}]}";
    let rows: Vec<(Vec<String>, &str, &str)> = vec![
        (vec![here(READY), there(READY), here(NOT_READY)], "1", "1 2"),
        (vec![here(READY), here(GOING)], "1", "1"),
        (vec![here(GOING), there(READY)], "1", "2"),
        (vec![here(GONE), there(READY)], "drop no_local_endpoint", "2"),
        (vec![here(NOT_READY), there(GOING)], "drop no_local_endpoint", "2"),
        (vec![here(zone_b), there(zone_a)], "1", "2"),
        (vec!["".into()], "drop no_local_endpoint", "1"),
    ];
    for (fields, local, cluster) in rows {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(asked("Local", &fields, &options()), local, "{fields:?}");
        assert_eq!(asked("Cluster", &fields, &options()), cluster, "{fields:?}");
    }
}

#[test]
fn rule_13_reject_when_no_node_has_an_endpoint_and_drop_when_only_others_do() {
    let spec = "clusterIP: 172.30.0.1, internalTrafficPolicy: Local, externalTrafficPolicy: Local, externalIPs: [203.0.113.1], type: NodePort, ports: [{name: p, port: 80, nodePort: 30080}]";
    let packets =
        ["tcp 198.51.100.1 172.30.0.1:80", "tcp 198.51.100.1 203.0.113.1:80", "tcp 198.51.100.1 192.168.0.2:30080"];
    for (endpoints, expected) in [
        (endpoint("10.180.0.1", NOT_READY), "reject no_endpoint"),
        (endpoint("10.180.0.1", GONE), "reject no_endpoint"),
        (endpoint("10.180.0.1", READY), "drop no_local_endpoint"),
        (endpoint("10.180.0.1", GOING), "drop no_local_endpoint"),
        (String::new(), "reject no_endpoint"),
    ] {
        let world = World::new(&(service("web", spec) + &slice("web", &endpoints)));
        for packet in packets {
            let answer = world.ask(packet);
            assert!(answer.starts_with(expected), "{packet} {endpoints}: {answer}");
        }
    }
}

#[test]
fn endpoints_on_the_nodes_own_addresses_are_refused_by_name() {
    let here = "nodeName: gw-1";
    let text = |policy: &str, endpoints: &[String]| {
        service("web", &format!("clusterIP: 172.30.0.1, internalTrafficPolicy: {policy}"))
            + &slice("web", &endpoints.join(", "))
    };
    let own = endpoint("192.168.0.2", here);
    let pod = endpoint("10.180.0.1", here);
    let ask =
        |policy: &str, endpoints: &[String]| World::new(&text(policy, endpoints)).ask("tcp 10.0.0.9 172.30.0.1:80");
    let refused = "drop endpoint_refused default/web clusterIP";
    for policy in ["Cluster", "Local"] {
        assert_eq!(ask(policy, &[own.clone(), pod.clone()]), "forward default/web clusterIP keep: 10.180.0.1");
        assert_eq!(ask(policy, std::slice::from_ref(&own)), refused, "it exists, so this is no reject");
    }
    assert_eq!(ask("Local", &[endpoint("10.180.0.1", ""), own.clone()]), refused);
    // The choice goes on among those that are left, in hints too.
    let hinted = [
        endpoint("192.168.7.2", "hints: {forZones: [{name: a}]}"),
        endpoint("10.180.0.1", "hints: {forZones: [{name: b}]}"),
    ];
    assert_eq!(ask("Cluster", &hinted), "forward default/web clusterIP keep: 10.180.0.1");
    let world = World::new(&text("Cluster", &[own, pod]));
    let port = world.compiled.services.service_ports[0].as_ref().unwrap();
    let reasons: Vec<_> = port.endpoints.iter().map(|endpoint| endpoint.excluded_from_cluster.clone()).collect();
    assert!(matches!(&reasons[..], [None, Some(Exclusion::Refused(_))]), "{reasons:?}");
}

#[test]
fn every_endpoint_is_listed_with_the_reason_it_is_not_eligible() {
    let endpoints = [
        endpoint("10.180.0.1", "nodeName: gw-1, hints: {forZones: [{name: a}]}, zone: a"),
        endpoint("10.180.0.2", "nodeName: gw-2, hints: {forZones: [{name: b}]}"),
        endpoint("10.180.0.3", &format!("nodeName: gw-1, {GOING}")),
        endpoint("10.180.0.4", &format!("nodeName: gw-1, {NOT_READY}")),
        endpoint("10.180.0.5", "hints: {forZones: [{name: a}]}"),
    ];
    let spec = "clusterIP: 172.30.0.1, internalTrafficPolicy: Local";
    let world = World::new(&(service("web", spec) + &slice("web", &endpoints.join(", "))));
    let port = world.compiled.services.service_ports[0].as_ref().unwrap();
    let shown = |exclusion: &Option<Exclusion>| exclusion.as_ref().map_or("eligible".into(), ToString::to_string);
    let listed: Vec<String> = port
        .endpoints
        .iter()
        .map(|e| {
            format!("{}: {}; {}", e.backend.address, shown(&e.excluded_from_cluster), shown(&e.excluded_from_local))
        })
        .collect();
    assert_eq!(
        listed,
        [
            "10.180.0.1: eligible; eligible",
            "10.180.0.2: its hints name other zones; on node gw-2, not on this one",
            "10.180.0.3: terminating, and other endpoints are ready; terminating, and other endpoints are ready",
            "10.180.0.4: not ready; not ready",
            "10.180.0.5: eligible; names no node, so it is not on this one",
        ]
    );
    for endpoint in port.endpoints.iter() {
        let backend = endpoint.backend;
        assert_eq!(port.member(backend.address, backend.port), Some(&backend));
        assert_eq!(endpoint.excluded_from_cluster.is_none(), port.cluster.backends().contains(&backend));
        assert_eq!(endpoint.excluded_from_local.is_none(), port.local.backends().contains(&backend));
    }
}
