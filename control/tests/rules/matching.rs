//! Rules 6 to 9: what a destination matches.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use ringway_control::compile::CompileOptions;
use ringway_control::config::NodePortAddresses;
use ringway_shared::Family;

use crate::support::{World, load_balancer, options, service, slice};

fn node_ports(primary: bool, cidrs: &[&str]) -> CompileOptions {
    let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    CompileOptions { node_port_addresses: NodePortAddresses { primary, cidrs }, ..options() }
}

#[test]
fn rule_6_every_address_matches_by_protocol_and_port() {
    let text = load_balancer(
        "web",
        "clusterIPs: [172.30.0.1, \"fd00:30::1\"], externalIPs: [203.0.113.9]",
        "{ip: 203.0.113.1}, {ip: \"2001:db8:e::1\"}",
    ) + &slice("web", "{addresses: [10.180.0.1]}")
        + &slice("web", "{addresses: [\"fd00:180::1\"]}");
    World::new(&text).expect(&[
        ("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1"),
        ("tcp 10.0.0.9 203.0.113.9:80", "forward default/web externalIP masq: 10.180.0.1"),
        ("tcp 10.0.0.9 203.0.113.1:80", "forward default/web loadBalancerIP masq: 10.180.0.1"),
        ("tcp 10.0.0.9 192.168.0.2:30080", "forward default/web nodePort masq: 10.180.0.1"),
        ("tcp fd00:10::9 [fd00:30::1]:80", "forward default/web clusterIP keep: fd00:180::1"),
        ("tcp fd00:10::9 [2001:db8:e::1]:80", "forward default/web loadBalancerIP masq: fd00:180::1"),
        ("tcp fd00:10::9 [2001:db8::2]:30080", "forward default/web nodePort masq: fd00:180::1"),
        // Neither another protocol, nor the port of another kind of address.
        ("udp 10.0.0.9 192.168.0.2:30080", "pass"),
        ("tcp 10.0.0.9 192.168.0.2:80", "pass"),
        ("tcp 10.0.0.9 8.8.8.8:80", "pass"),
        ("udp 10.0.0.9 172.30.0.1:80", "reject no_service_port"),
        ("tcp 10.0.0.9 172.30.0.1:30080", "reject no_service_port"),
    ]);
}

#[test]
fn rule_6_vips_come_before_node_ports() {
    // An external IP that is the node's address, with the port that another Service has as nodePort.
    let text = service("a", "clusterIP: 172.30.0.1, type: NodePort, ports: [{name: p, port: 80, nodePort: 30080}]")
        + &service("b", "clusterIP: 172.30.0.2, externalIPs: [192.168.0.2], ports: [{name: p, port: 30080}]")
        + &slice("a", "{addresses: [10.180.0.1]}")
        + &slice("b", "{addresses: [10.180.0.2]}");
    let world = World::new(&text);
    world.expect(&[("tcp 10.0.0.9 192.168.0.2:30080", "forward default/b externalIP masq: 10.180.0.2")]);
    assert!(world.problems().contains("Service default/a: tcp:192.168.0.2:30080 belongs to Service default/b already"));
}

#[test]
fn rule_6_of_two_claims_the_oldest_service_wins() {
    let claim = |name: &str, last: u8, created: &str| {
        service(name, &format!("clusterIP: 172.30.0.{last}, externalIPs: [203.0.113.1]"))
            .replace("metadata: {", &format!("metadata: {{creationTimestamp: {created}, "))
            + &slice(name, &format!("{{addresses: [10.180.0.{last}]}}"))
    };
    for (a, b, winner) in [
        ("\"2026-01-02T00:00:00Z\"", "\"2026-01-01T00:00:00Z\"", 'b'),
        ("\"2026-01-01T00:00:00Z\"", "\"2026-01-02T00:00:00Z\"", 'a'),
        ("\"2026-01-01T00:00:00Z\"", "\"2026-01-01T00:00:00Z\"", 'a'),
        ("null", "\"2026-01-01T00:00:00Z\"", 'b'),
        ("null", "null", 'a'),
    ] {
        let world = World::new(&(claim("a", 1, a) + &claim("b", 2, b)));
        let answer = world.ask("tcp 10.0.0.9 203.0.113.1:80");
        assert!(answer.starts_with(&format!("forward default/{winner} ")), "{a} {b}: {answer}");
        let loser = if winner == 'a' { 'b' } else { 'a' };
        assert!(world.problems().starts_with(&format!("Service default/{loser}: tcp:203.0.113.1:80 belongs to")));
        // Only the contested frontend is lost.
        assert!(world.ask("tcp 10.0.0.9 172.30.0.1:80").starts_with("forward default/a "));
        assert!(world.ask("tcp 10.0.0.9 172.30.0.2:80").starts_with("forward default/b "));
    }
}

#[test]
fn rule_7_other_ports_of_a_vip_are_rejected_unless_a_host_owns_it() {
    let text = load_balancer(
        "web",
        "clusterIP: 172.30.0.1, externalIPs: [203.0.113.9, 192.168.7.2]",
        "{ip: 203.0.113.1}, {ip: 192.168.0.2}, {ip: 203.0.113.3, ipMode: Proxy}",
    ) + &service("own", "clusterIP: 192.168.9.9, ports: []")
        + &service("odd", "clusterIP: \"2001:db8::2\"");
    World::new(&text).expect(&[
        ("tcp 10.0.0.9 172.30.0.1:81", "reject no_service_port"),
        ("tcp 10.0.0.9 203.0.113.9:81", "reject no_service_port"),
        ("tcp 10.0.0.9 203.0.113.1:81", "reject no_service_port"),
        ("tcp 10.0.0.9 192.168.7.2:22", "pass"),
        ("tcp 10.0.0.9 192.168.0.2:22", "pass"),
        ("tcp 10.0.0.9 203.0.113.3:81", "pass"),
        ("tcp 10.0.0.9 192.168.9.9:1", "reject no_service_port"),
        // A ClusterIP answers on every port, even where the node has the same address.
        ("tcp 2001:db8:f::1 [2001:db8::2]:22", "reject no_service_port"),
    ]);
    // The NodePort on a node's address that is a VIP too is found first.
    let text = text + &slice("web", "{addresses: [10.180.0.1]}");
    World::new(&text).expect(&[("tcp 10.0.0.9 192.168.0.2:30080", "forward default/web nodePort masq: 10.180.0.1")]);
}

#[test]
fn rule_7_the_node_owns_what_its_kernel_has() {
    let text = load_balancer("web", "clusterIP: 172.30.0.1", "{ip: 203.0.113.1}, {ip: 203.0.113.2}")
        + &slice("web", "{addresses: [10.180.0.1]}, {addresses: [10.180.0.9]}");
    let has = |addresses: &[&str]| CompileOptions {
        host_addresses: Arc::new(addresses.iter().map(|address| address.parse::<IpNet>().unwrap()).collect()),
        ..options()
    };
    let all = "forward default/web loadBalancerIP masq: 10.180.0.1 10.180.0.9";
    World::with(&text, &has(&[])).expect(&[
        ("tcp 198.51.100.1 203.0.113.1:22", "reject no_service_port"),
        ("tcp 198.51.100.1 203.0.113.1:80", all),
    ]);
    // Of a ClusterIP every port is ours, whoever has it; an endpoint of the node's own is none.
    World::with(&text, &has(&["203.0.113.1/32", "172.30.0.1/32", "10.180.0.9/32"])).expect(&[
        ("tcp 198.51.100.1 203.0.113.1:22", "pass"),
        ("tcp 198.51.100.1 203.0.113.1:80", "forward default/web loadBalancerIP masq: 10.180.0.1"),
        ("tcp 198.51.100.1 203.0.113.2:22", "reject no_service_port"),
        ("tcp 198.51.100.1 172.30.0.1:22", "reject no_service_port"),
    ]);
    World::with(&text, &has(&["203.0.113.0/24"])).expect(&[("tcp 198.51.100.1 203.0.113.2:22", "pass")]);
}

#[test]
fn rule_8_unallocated_addresses_of_a_service_cidr_are_dropped() {
    let objects = service("web", "clusterIP: 172.30.0.1")
        + &service("headless", "clusterIP: None")
        + &slice("web", "{addresses: [10.180.0.1]}");
    let cidr = "---\n{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes}, spec: {cidrs: [172.30.0.0/016, x, \"fd00:30::/112\"]}}\n";
    World::new(&objects).expect(&[("tcp 10.0.0.9 172.30.0.2:80", "pass")]);
    let with_object = World::new(&(objects.clone() + cidr));
    assert!(with_object.problems().contains("ServiceCIDR kubernetes: spec.cidrs: \"x\" is not a range"));
    let configured = CompileOptions {
        service_cidrs: vec!["172.30.0.0/16".parse().unwrap(), "fd00:30::/112".parse().unwrap()],
        ..options()
    };
    for world in [with_object, World::with(&objects, &configured)] {
        world.expect(&[
            ("tcp 10.0.0.9 172.30.0.2:80", "drop unallocated_cluster_ip"),
            ("udp fd00:10::9 [fd00:30::2]:53", "drop unallocated_cluster_ip"),
            ("tcp 10.0.0.9 172.30.0.1:81", "reject no_service_port"),
            ("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1"),
            ("tcp 10.0.0.9 172.31.0.1:80", "pass"),
        ]);
    }
}

#[test]
fn rule_9_node_ports_are_served_on_the_chosen_addresses() {
    let text = load_balancer("web", "clusterIPs: [172.30.0.1, \"fd00:30::1\"]", "")
        + &slice("web", "{addresses: [10.180.0.1]}")
        + &slice("web", "{addresses: [\"fd00:180::1\"]}");
    let all = ["192.168.0.2", "192.168.7.2", "[2001:db8::2]", "[2001:db8:7::2]", "127.0.0.1", "[::1]", "192.168.0.3"];
    for (options, served) in [
        (node_ports(false, &[]), &[0, 2][..]),
        (node_ports(true, &[]), &[0, 2]),
        (node_ports(false, &["0.0.0.0/0", "::/0"]), &[0, 1, 2, 3]),
        (node_ports(false, &["192.168.7.0/24"]), &[1]),
        (node_ports(true, &["192.168.7.0/24"]), &[0, 1, 2]),
        (node_ports(false, &["2001:db8:7::/48"]), &[3]),
        (node_ports(false, &["127.0.0.0/8", "10.0.0.0/8"]), &[]),
    ] {
        let world = World::with(&text, &options);
        for (index, address) in all.iter().enumerate() {
            let source = if address.starts_with('[') { "2001:db8:f::1" } else { "198.51.100.1" };
            let answer = world.ask(&format!("tcp {source} {address}:30080"));
            assert_eq!(answer.starts_with("forward"), served.contains(&index), "{address} {options:?}: {answer}");
            assert!(served.contains(&index) || answer == "pass", "{answer}");
        }
    }
    // A loopback address among the node's own serves no NodePort, whatever the ranges say.
    let odd = CompileOptions {
        addresses: Some(vec!["127.0.0.1".parse().unwrap(), "192.168.0.2".parse().unwrap()]),
        ..node_ports(false, &["0.0.0.0/0"])
    };
    let world = World::with(&text, &odd);
    assert_eq!(world.ask("tcp 127.0.0.1 127.0.0.1:30080"), "pass");
    assert!(world.ask("tcp 198.51.100.1 192.168.0.2:30080").starts_with("forward"));
}

#[test]
fn rule_9_the_node_comes_from_the_configuration_then_the_object_then_the_default_route() {
    let text = load_balancer("web", "clusterIP: 172.30.0.1", "")
        + &slice(
            "web",
            "{addresses: [10.180.0.1], hints: {forZones: [{name: b}]}}, {addresses: [10.180.0.2], hints: {forZones: [{name: c}]}}",
        );
    let node = "---\n{apiVersion: v1, kind: Node, metadata: {name: gw-1, labels: {topology.kubernetes.io/zone: b}}, spec: {podCIDR: 10.7.0.0/24, podCIDRs: [10.7.0.0/24]},\n status: {addresses: [{type: Hostname, address: gw-1}, {type: ExternalIP, address: 203.0.113.50}, {type: InternalIP, address: 192.168.5.5}]}}\n";
    let other = node.replace("gw-1", "gw-2").replace("192.168.5.5", "192.168.6.6");
    let unset = CompileOptions {
        node_name: "gw-1".into(),
        fallback_addresses: vec!["192.168.8.8".parse().unwrap()],
        ..CompileOptions::default()
    };
    let everywhere = "forward default/web nodePort masq: 10.180.0.1 10.180.0.2";
    let zone_b = "forward default/web nodePort masq: 10.180.0.1";
    let world = World::with(&(text.clone() + node + &other), &unset);
    world.expect(&[
        // The internal address is the primary one, whatever the order.
        ("tcp 10.7.0.1 192.168.5.5:30080", zone_b),
        ("tcp 10.7.0.1 203.0.113.50:30080", "pass"),
        ("tcp 10.7.0.1 192.168.6.6:30080", "pass"),
        ("tcp 10.7.0.1 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1"),
        ("tcp 10.8.0.1 172.30.0.1:80", "forward default/web clusterIP masq: 10.180.0.1"),
    ]);
    World::with(&(text.clone() + &other), &unset).expect(&[
        ("tcp 10.7.0.1 192.168.8.8:30080", everywhere),
        ("tcp 10.8.0.1 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1 10.180.0.2"),
    ]);
    // What the configuration says wins whole, even when it says nothing.
    let empty = CompileOptions { addresses: Some(vec![]), pod_cidrs: Some(vec![]), labels: Some([].into()), ..unset };
    let world = World::with(&(text + node), &empty);
    world.expect(&[
        ("tcp 10.7.0.1 192.168.5.5:30080", "pass"),
        ("tcp 10.8.0.1 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1 10.180.0.2"),
    ]);
    assert!(world.problems().contains("the addresses of this node are unknown"));
}

#[test]
fn rule_9_a_health_check_node_port_is_never_intercepted() {
    let text = load_balancer(
        "web",
        "clusterIP: 172.30.0.1, externalTrafficPolicy: Local, healthCheckNodePort: 30999",
        "{ip: 203.0.113.1}",
    ) + &service(
        "other",
        "clusterIP: 172.30.0.2, type: NodePort, ports: [{name: p, port: 80, nodePort: 30999}, {name: u, port: 81, nodePort: 30999, protocol: UDP}]",
    ) + &slice(
        "web",
        "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.2]}, {addresses: [10.180.0.3], nodeName: gw-1, conditions: {ready: false}}",
    ) + &crate::support::slice_with(
        "other",
        "{name: p, port: 80}, {name: u, port: 81, protocol: UDP}",
        "{addresses: [10.180.0.2]}",
    );
    let world = World::new(&text);
    world.expect(&[
        ("tcp 198.51.100.1 192.168.0.2:30999", "pass"),
        ("udp 198.51.100.1 192.168.0.2:30999", "forward default/other nodePort masq: 10.180.0.2:81"),
    ]);
    assert!(
        world.problems().contains("the nodePort 30999 is not served: it is the healthCheckNodePort of default/web")
    );
    let checks: Vec<_> =
        world.compiled.health_checks.iter().map(|check| (check.port, check.local_endpoints.clone())).collect();
    assert_eq!(checks, [(30999, BTreeMap::from([(Family::V4, 1)]))]);
}

#[test]
fn rule_9_health_checks_count_each_family_that_the_service_has() {
    let counts = |cluster_ips: &str| {
        let spec = format!("clusterIPs: [{cluster_ips}], externalTrafficPolicy: Local, healthCheckNodePort: 30999");
        let here = |address: &str| format!("{{addresses: [{address:?}], nodeName: gw-1}}");
        let text = load_balancer("web", &spec, "{ip: 203.0.113.1}")
            + &slice("web", &here("10.180.0.1"))
            + &slice("web", &[here("fd00:180::1"), here("fd00:180::2")].join(", "));
        let world = World::new(&text);
        let check = &world.compiled.health_checks[0];
        check.local_endpoints.iter().map(|(family, count)| (*family, *count)).collect::<Vec<_>>()
    };
    assert_eq!(counts("172.30.0.1, \"fd00:30::1\""), [(Family::V4, 1), (Family::V6, 2)]);
    assert_eq!(counts("172.30.0.1"), [(Family::V4, 1)]);
    assert_eq!(counts("\"fd00:30::1\""), [(Family::V6, 2)]);
}
