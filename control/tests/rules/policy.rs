//! Rules 14 to 19: policies, masquerade, source ranges, affinity.

use std::time::Duration;

use ringway_control::compile::CompileOptions;

use crate::support::{World, load_balancer, options, service, slice};

const POD: &str = "tcp 10.0.0.9";
const NODE: &str = "tcp 192.168.7.2";
const OTHER: &str = "tcp 198.51.100.1";

/// `.1` on this node, `.2` on another.
const ENDPOINTS: &str = "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.2], nodeName: gw-2}";

/// The endpoints' last numbers and the source's fate.
fn short(answer: &str) -> String {
    let answer = answer.replace("10.180.0.", "").replace(" default/web", "");
    match answer.strip_prefix("forward") {
        Some(rest) => rest.split_once(' ').unwrap().1.split_once(' ').unwrap().1.into(),
        None => answer,
    }
}

fn no_detector() -> CompileOptions {
    CompileOptions { pod_cidrs: Some(vec![]), ..options() }
}

#[test]
fn rule_14_cluster_ip_follows_the_internal_policy_for_every_source() {
    for (spec, set) in [
        ("internalTrafficPolicy: Cluster", "1 2"),
        ("internalTrafficPolicy: Local", "1"),
        ("internalTrafficPolicy: null", "1 2"),
        ("externalTrafficPolicy: Local", "1 2"),
        ("externalTrafficPolicy: Local, internalTrafficPolicy: Local", "1"),
    ] {
        let text = service("web", &format!("clusterIP: 172.30.0.1, {spec}")) + &slice("web", ENDPOINTS);
        let ask = |options: &CompileOptions, source: &str| {
            short(&World::with(&text, options).ask(&format!("{source} 172.30.0.1:80")))
        };
        assert_eq!(ask(&options(), POD), format!("keep: {set}"), "{spec}");
        assert_eq!(ask(&options(), NODE), format!("masq: {set}"), "{spec}");
        assert_eq!(ask(&options(), OTHER), format!("masq: {set}"), "{spec}");
        assert_eq!(ask(&options(), "tcp 127.0.0.1"), format!("masq: {set}"), "{spec}");
        for source in [POD, NODE, OTHER] {
            assert_eq!(ask(&no_detector(), source), format!("keep: {set}"), "{spec}");
            let all = CompileOptions { masquerade_all: true, ..options() };
            assert_eq!(ask(&all, source), format!("masq: {set}"), "{spec}");
        }
    }
}

#[test]
fn rule_14_the_detector_is_per_family() {
    let text = service("web", "clusterIPs: [172.30.0.1, \"fd00:30::1\"]")
        + &slice("web", "{addresses: [10.180.0.1]}")
        + &slice("web", "{addresses: [\"fd00:180::1\"]}");
    let only_v4 = CompileOptions { pod_cidrs: Some(vec!["10.0.0.0/16".parse().unwrap()]), ..options() };
    World::with(&text, &only_v4).expect(&[
        ("tcp 198.51.100.1 172.30.0.1:80", "forward default/web clusterIP masq: 10.180.0.1"),
        ("tcp 2001:db8:f::1 [fd00:30::1]:80", "forward default/web clusterIP keep: fd00:180::1"),
    ]);
}

#[test]
fn rule_14_an_address_that_is_pod_and_node_is_a_pod() {
    let text = service("web", "clusterIP: 172.30.0.1, externalIPs: [203.0.113.1], externalTrafficPolicy: Local")
        + &slice("web", ENDPOINTS);
    let node_in_pods = CompileOptions { pod_cidrs: Some(vec!["192.168.0.0/16".parse().unwrap()]), ..options() };
    let world = World::with(&text, &node_in_pods);
    assert_eq!(short(&world.ask("tcp 192.168.7.2 172.30.0.1:80")), "keep: 1 2");
    assert_eq!(short(&world.ask("tcp 192.168.7.2 203.0.113.1:80")), "keep: 1 2");
}

/// The external addresses of the Service `web` of the rows below.
const EXTERNAL: [&str; 3] = ["203.0.113.9:80", "203.0.113.1:80", "192.168.0.2:30080"];

fn external(policy: &str, endpoints: &str) -> String {
    let spec = format!("clusterIP: 172.30.0.1, externalIPs: [203.0.113.9], {policy}");
    load_balancer("web", &spec, "{ip: 203.0.113.1}") + &slice("web", endpoints)
}

#[test]
fn rule_15_external_policy_cluster_always_masquerades() {
    for policy in ["externalTrafficPolicy: Cluster", "externalTrafficPolicy: null", "internalTrafficPolicy: Local"] {
        for options in [options(), no_detector(), CompileOptions { masquerade_all: true, ..options() }] {
            let world = World::with(&external(policy, ENDPOINTS), &options);
            for address in EXTERNAL {
                for source in [POD, NODE, OTHER, "tcp 10.180.0.1"] {
                    assert_eq!(
                        short(&world.ask(&format!("{source} {address}"))),
                        "masq: 1 2",
                        "{source} {address} {policy}"
                    );
                }
            }
        }
    }
}

#[test]
fn rule_16_external_policy_local_depends_on_the_source() {
    let only_remote = "{addresses: [10.180.0.2], nodeName: gw-2}";
    let all = CompileOptions { masquerade_all: true, ..options() };
    for (options, source, with_local, without) in [
        (options(), POD, "keep: 1 2", "keep: 2"),
        (options(), NODE, "masq: 1 2", "masq: 2"),
        (options(), "tcp 127.0.0.1", "masq: 1 2", "masq: 2"),
        (options(), OTHER, "keep: 1", "drop no_local_endpoint"),
        // Without a detector a pod is like any other.
        (no_detector(), POD, "keep: 1", "drop no_local_endpoint"),
        (no_detector(), NODE, "masq: 1 2", "masq: 2"),
        // masqueradeAll is for ClusterIPs only.
        (all.clone(), OTHER, "keep: 1", "drop no_local_endpoint"),
        (all, POD, "keep: 1 2", "keep: 2"),
    ] {
        for address in EXTERNAL {
            let ask = |endpoints: &str| {
                let text = external("externalTrafficPolicy: Local, internalTrafficPolicy: Local", endpoints);
                short(&World::with(&text, &options).ask(&format!("{source} {address}")))
            };
            assert_eq!(ask(ENDPOINTS), with_local, "{source} {address}");
            let without_local = ask(only_remote);
            assert!(without_local.starts_with(without), "{source} {address}: {without_local}");
        }
    }
}

#[test]
fn rule_17_hairpin_is_decided_for_each_endpoint() {
    let endpoints = "{addresses: [10.0.0.5], nodeName: gw-1}, {addresses: [10.0.0.6], nodeName: gw-1}";
    let text = external("externalTrafficPolicy: Local", endpoints);
    let world = World::new(&text);
    world.expect(&[
        ("tcp 10.0.0.5 172.30.0.1:80", "forward default/web clusterIP keep: 10.0.0.5* 10.0.0.6"),
        ("tcp 10.0.0.6 203.0.113.1:80", "forward default/web loadBalancerIP keep: 10.0.0.5 10.0.0.6*"),
        ("tcp 10.0.0.7 172.30.0.1:80", "forward default/web clusterIP keep: 10.0.0.5 10.0.0.6"),
    ]);
    // The port does not matter, and neither does the lack of a detector.
    World::with(&text, &no_detector())
        .expect(&[("tcp 10.0.0.5 203.0.113.9:80", "forward default/web externalIP keep: 10.0.0.5* 10.0.0.6")]);
}

#[test]
fn rule_18_source_ranges_guard_load_balancer_addresses_only() {
    let spec = "clusterIPs: [172.30.0.1, \"fd00:30::1\"], externalIPs: [203.0.113.9], loadBalancerSourceRanges: [\" 198.51.100.0/25 \", \"\\t10.1.0.0/16\"]";
    let text = load_balancer(
        "web",
        spec,
        "{ip: 203.0.113.1}, {ip: 203.0.113.2}, {ip: \"2001:db8:e::1\"}, {ip: 203.0.113.3, ipMode: Proxy}",
    ) + &slice("web", "{addresses: [10.180.0.1]}")
        + &slice("web", "{addresses: [\"fd00:180::1\"]}");
    let miss = "drop source_not_allowed default/web loadBalancerIP";
    let hit = "forward default/web loadBalancerIP masq: 10.180.0.1";
    World::new(&text).expect(&[
        ("tcp 198.51.100.1 203.0.113.1:80", hit),
        ("tcp 10.1.2.3 203.0.113.2:80", hit),
        ("tcp 198.51.100.128 203.0.113.1:80", miss),
        // Pods and nodes, too.
        ("tcp 10.0.0.9 203.0.113.1:80", miss),
        ("tcp 192.168.0.2 203.0.113.1:80", miss),
        ("tcp 203.0.113.2 203.0.113.1:80", miss),
        // Nothing else is guarded.
        ("tcp 198.51.100.128 203.0.113.9:80", "forward default/web externalIP masq: 10.180.0.1"),
        ("tcp 198.51.100.128 192.168.0.2:30080", "forward default/web nodePort masq: 10.180.0.1"),
        ("tcp 198.51.100.128 172.30.0.1:80", "forward default/web clusterIP masq: 10.180.0.1"),
        ("tcp 198.51.100.128 203.0.113.3:80", "pass"),
        // A family without a range of its own.
        ("tcp 2001:db8:f::1 [2001:db8:e::1]:80", "forward default/web loadBalancerIP masq: fd00:180::1"),
    ]);
}

#[test]
fn rule_18_a_range_with_the_nodes_primary_address_lets_the_vips_in_as_sources() {
    let ask = |range: &str, source: &str| {
        let spec = format!("clusterIP: 172.30.0.1, externalIPs: [203.0.113.9], loadBalancerSourceRanges: [{range}]");
        let text = load_balancer("web", &spec, "{ip: 203.0.113.1}, {ip: 203.0.113.2}")
            + &slice("web", "{addresses: [10.180.0.1]}");
        World::new(&text).ask(&format!("tcp {source} 203.0.113.1:80")).starts_with("forward")
    };
    assert!(ask("192.168.0.0/24", "203.0.113.1"));
    assert!(ask("192.168.0.2/32", "203.0.113.2"));
    assert!(ask("192.168.0.2/32", "192.168.0.2"));
    assert!(!ask("192.168.0.2/32", "192.168.7.2"));
    // The node's other addresses do not count, and other Services' VIPs neither.
    assert!(!ask("192.168.7.0/24", "203.0.113.1"));
    assert!(!ask("192.168.0.0/24", "203.0.113.77"));
}

#[test]
fn rule_18_comes_before_rule_13_and_holds_for_an_address_that_is_external_ip_too() {
    let spec = "clusterIP: 172.30.0.1, externalIPs: [203.0.113.1], loadBalancerSourceRanges: [198.51.100.0/24]";
    let world = World::new(&load_balancer("web", spec, "{ip: 203.0.113.1}"));
    world.expect(&[
        ("tcp 203.0.113.200 203.0.113.1:80", "drop source_not_allowed default/web loadBalancerIP"),
        ("tcp 198.51.100.1 203.0.113.1:80", "reject no_endpoint default/web loadBalancerIP"),
    ]);
    // Without ranges the first match gives the name.
    let world =
        World::new(&load_balancer("web", "clusterIP: 172.30.0.1, externalIPs: [203.0.113.1]", "{ip: 203.0.113.1}"));
    world.expect(&[("tcp 198.51.100.1 203.0.113.1:80", "reject no_endpoint default/web externalIP")]);
    assert_eq!(world.problems(), "");
}

#[test]
fn rule_19_affinity_has_a_default_timeout() {
    for (spec, expected) in [
        ("sessionAffinity: None", None),
        ("sessionAffinity: null", None),
        ("sessionAffinity: ClientIP", Some(10_800)),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {}}", Some(10_800)),
        ("sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}", Some(60)),
        ("sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}", None),
    ] {
        let world = World::new(&service("web", &format!("clusterIP: 172.30.0.1, {spec}")));
        let port = world.compiled.services.service_ports[0].as_ref().unwrap();
        assert_eq!(port.affinity.map(|affinity| affinity.timeout), expected.map(Duration::from_secs), "{spec}");
    }
}
