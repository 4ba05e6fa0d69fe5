//! Rules 1 to 5: which Services, slices, endpoints and addresses count.

use crate::support::{World, load_balancer, options, service, slice, slice_with};

const CLIENT: &str = "tcp 10.0.0.9";

#[test]
fn rule_1_headless_external_name_and_labelled_services_are_ignored() {
    let slices = slice("web", "{addresses: [10.180.0.1]}");
    let with_label = |kind_label: &str| {
        service("web", "clusterIP: 172.30.0.1")
            .replace("{name: web}", &format!("{{name: web, labels: {{{kind_label}}}}}"))
    };
    for (text, expected) in [
        (service("web", "clusterIP: 172.30.0.1"), "forward default/web clusterIP keep: 10.180.0.1"),
        (service("web", "clusterIP: None, externalIPs: [172.30.0.1]"), "pass"),
        (service("web", "clusterIPs: [None], externalIPs: [172.30.0.1]"), "pass"),
        (service("web", "type: ExternalName, externalName: a.b, externalIPs: [172.30.0.1]"), "pass"),
        (service("web", "type: ExternalName, externalName: a.b, clusterIP: 172.30.0.1"), "pass"),
        (service("web", "clusterIP: \"\", externalIPs: [172.30.0.1]"), "pass"),
        (service("web", "externalIPs: [172.30.0.1]"), "pass"),
        (with_label("service.kubernetes.io/service-proxy-name: other"), "pass"),
        (with_label("service.kubernetes.io/service-proxy-name: \"\""), "pass"),
        // A label of slices: on a Service kube-proxy does not ask for it.
        (with_label("service.kubernetes.io/headless: \"\""), "forward default/web clusterIP keep: 10.180.0.1"),
        (with_label("service.kubernetes.io/other: \"\""), "forward default/web clusterIP keep: 10.180.0.1"),
    ] {
        let world = World::new(&(text.clone() + &slices));
        assert_eq!(world.ask(&format!("{CLIENT} 172.30.0.1:80")), expected, "{text}");
        // What it lists all the same gets nothing, and that is told.
        let has_none = ["{clusterIP: \"\"", "{externalIPs"].iter().any(|spec| text.contains(spec));
        let problems = world.problems();
        assert_eq!(problems.is_empty(), !has_none, "{text}{problems}");
        assert!(!has_none || problems.contains("it has no ClusterIP of the family of 172.30.0.1"), "{problems}");
    }
}

#[test]
fn rule_1_headless_slices_are_ignored() {
    let labelled = slice("web", "{addresses: [10.180.0.2]}")
        .replace("labels: {", "labels: {service.kubernetes.io/headless: \"\", ");
    let world =
        World::new(&(service("web", "clusterIP: 172.30.0.1") + &slice("web", "{addresses: [10.180.0.1]}") + &labelled));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1")]);
}

#[test]
fn rule_2_services_and_slices_join_by_namespace_label_port_name_protocol_and_family() {
    let web = service(
        "web",
        "clusterIPs: [172.30.0.1, \"fd00:30::1\"], ports: [{name: p, port: 80}, {name: q, port: 81}, {name: p, port: 80, protocol: UDP}]",
    );
    let elsewhere = slice("web", "{addresses: [10.180.9.9]}").replace("metadata: {", "metadata: {namespace: other, ");
    let objects = [
        web,
        slice_with("web", "{name: p, port: 8080}", "{addresses: [10.180.0.1]}"),
        slice_with("web", "{name: p, port: 9090}", "{addresses: [10.180.0.2]}"),
        slice_with("web", "{name: q, port: 81}, {name: p, port: 53, protocol: UDP}", "{addresses: [10.180.0.3]}"),
        slice_with("web", "{name: p, port: 8080}", "{addresses: [\"fd00:180::1\"]}"),
        slice("other", "{addresses: [10.180.9.8]}"),
        elsewhere,
    ];
    World::new(&objects.concat()).expect(&[
        // The slice's port number counts, and pods may differ in it.
        ("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1:8080 10.180.0.2:9090"),
        ("tcp 10.0.0.9 172.30.0.1:81", "forward default/web clusterIP keep: 10.180.0.3:81"),
        ("udp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.3:53"),
        ("tcp fd00:10::9 [fd00:30::1]:80", "forward default/web clusterIP keep: [fd00:180::1]:8080"),
        ("tcp fd00:10::9 [fd00:30::1]:81", "reject no_endpoint default/web clusterIP"),
    ]);
}

#[test]
fn rule_2_missing_names_are_empty_and_missing_protocols_tcp() {
    for (service_port, slice_port, joins) in [
        ("{port: 80}", "{port: 80}", true),
        ("{port: 80}", "{name: \"\", port: 80, protocol: TCP}", true),
        ("{name: \"\", port: 80}", "{name: null, port: 80, protocol: null}", true),
        ("{port: 80, protocol: TCP}", "{port: 80}", true),
        ("{port: 80}", "{name: p, port: 80}", false),
        ("{name: p, port: 80}", "{port: 80}", false),
        ("{port: 80}", "{port: 80, protocol: UDP}", false),
        // A port without a number yields no endpoint.
        ("{port: 80}", "{name: \"\"}", false),
        ("{port: 80}", "{port: null}", false),
        ("{port: 80}", "{port: 0}", false),
        ("{port: 80}", "{name: q, port: 0}, {port: 80}", true),
        ("{port: 80}", "", false),
    ] {
        let text = service("web", &format!("clusterIP: 172.30.0.1, ports: [{service_port}]"))
            + &slice_with("web", slice_port, "{addresses: [10.180.0.1]}");
        let expected = if joins {
            "forward default/web clusterIP keep: 10.180.0.1"
        } else {
            "reject no_endpoint default/web clusterIP"
        };
        assert_eq!(World::new(&text).ask("tcp 10.0.0.9 172.30.0.1:80"), expected, "{service_port} {slice_port}");
    }
}

#[test]
fn rule_2_endpoints_merge_and_count_once() {
    let text = [
        service("web", "clusterIP: 172.30.0.1"),
        // Only the first of its addresses counts; two ports make two endpoints.
        slice_with("web", "{name: p, port: 80}, {name: p, port: 81}", "{addresses: [10.180.0.1, 10.180.0.99]}"),
        slice("web", "{addresses: [10.180.0.1]}, {addresses: [10.180.0.1]}, {addresses: [10.180.0.2]}"),
        // The same again, going: the one that stays wins, wherever it stands.
        slice("web", "{addresses: [10.180.0.1], conditions: {ready: false, serving: true, terminating: true}}"),
        slice("web", "{addresses: [10.180.0.3], conditions: {ready: true, serving: true, terminating: true}}"),
        slice("web", "{addresses: [10.180.0.3], conditions: {ready: false, serving: false, terminating: false}}"),
    ];
    World::new(&text.concat()).expect(&[(
        "tcp 10.0.0.9 172.30.0.1:80",
        "forward default/web clusterIP keep: 10.180.0.1 10.180.0.1:81 10.180.0.2",
    )]);
}

#[test]
fn rule_2_what_the_rules_leave_open_is_decided_alike_everywhere() {
    // Twice, not terminating: ready wins, then the one on this node.
    let spec = "clusterIP: 172.30.0.1, internalTrafficPolicy: Local";
    for endpoints in [
        "{addresses: [10.180.0.1], nodeName: gw-2}, {addresses: [10.180.0.1], nodeName: gw-1}",
        "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.1], nodeName: gw-2}",
        "{addresses: [10.180.0.1], nodeName: gw-1, conditions: {ready: false}}, {addresses: [10.180.0.1], nodeName: gw-1}",
    ] {
        World::new(&(service("web", spec) + &slice("web", endpoints)))
            .expect(&[("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1")]);
    }
}

#[test]
fn rule_2_fqdn_slices_are_ignored() {
    let fqdn = slice("web", "{addresses: [a.example]}").replace("IPv4", "FQDN");
    let world = World::new(&(service("web", "clusterIP: 172.30.0.1") + &fqdn));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "reject no_endpoint default/web clusterIP")]);
    assert_eq!(world.problems(), "");
}

#[test]
fn rule_3_each_family_has_only_its_own() {
    let both = slice("web", "{addresses: [10.180.0.1]}") + &slice("web", "{addresses: [\"fd00:180::1\"]}");
    let externals = "externalIPs: [203.0.113.1, \"2001:db8:e::1\"]";
    let v4 = "forward default/web externalIP masq: 10.180.0.1";
    let v6 = "forward default/web externalIP masq: fd00:180::1";
    for (cluster_ips, on_v4, on_v6) in [
        ("clusterIPs: [172.30.0.1, \"fd00:30::1\"]", v4, v6),
        ("clusterIPs: [\"fd00:30::1\", 172.30.0.1], clusterIP: \"fd00:30::1\"", v4, v6),
        ("clusterIP: 172.30.0.1", v4, "pass"),
        ("clusterIP: \"fd00:30::1\", clusterIPs: []", "pass", v6),
        ("clusterIPs: [172.30.0.1], ipFamilies: [IPv4]", v4, "pass"),
        ("clusterIPs: [172.30.0.1, \"fd00:30::1\"], ipFamilies: [IPv6]", "pass", v6),
        ("clusterIP: nonsense", "pass", "pass"),
    ] {
        let world = World::new(&(service("web", &format!("{cluster_ips}, {externals}")) + &both));
        assert_eq!(world.ask("tcp 198.51.100.1 203.0.113.1:80"), on_v4, "{cluster_ips}");
        assert_eq!(world.ask("tcp 2001:db8:f::1 [2001:db8:e::1]:80"), on_v6, "{cluster_ips}");
    }
}

#[test]
fn rule_3_zeros_in_front_are_decimal_and_what_does_not_parse_is_skipped() {
    let text = load_balancer(
        "web",
        "clusterIP: 172.30.0.041, externalIPs: [203.0.113.010, 1.2.3, \"\", 127.0.0.1], loadBalancerSourceRanges: [\" 198.51.100.010/031\", x]",
        "{ip: 203.000.113.020}, {ip: 0.0.0.0}, {hostname: a.example}, {}",
    ) + &slice(
        "web",
        "{addresses: [10.180.00.01]}, {addresses: [10.180.0.256]}, {addresses: []}, {addresses: [\"fd00-1\"]}, {addresses: [224.0.0.1]}",
    );
    let world = World::new(&text);
    world.expect(&[
        ("tcp 10.0.0.9 172.30.0.41:80", "forward default/web clusterIP keep: 10.180.0.1"),
        ("tcp 10.0.0.9 203.0.113.10:80", "forward default/web externalIP masq: 10.180.0.1"),
        ("tcp 198.51.100.11 203.0.113.20:80", "forward default/web loadBalancerIP masq: 10.180.0.1"),
        ("tcp 198.51.100.12 203.0.113.20:80", "drop source_not_allowed default/web loadBalancerIP"),
    ]);
    let problems = world.problems();
    for part in [
        "\"1.2.3\" is not an IP address",
        "127.0.0.1 is a loopback",
        "\"x\" is not a range",
        "0.0.0.0 is the unspecified",
        "endpoints[1] is skipped: \"10.180.0.256\"",
        "endpoints[2] is skipped: it has no address",
        "endpoints[3]",
        "224.0.0.1 is a multicast",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn rule_2_a_port_without_number_yields_nothing_and_is_told() {
    let nil = slice_with("web", "{name: p}", "{addresses: [10.180.0.1]}");
    let world = World::new(&(service("web", "clusterIP: 172.30.0.1, ports: [{name: p, port: 80}]") + &nil));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "reject no_endpoint default/web clusterIP")]);
    assert!(world.problems().contains(": ports[0] is skipped: it has no number\n"), "{}", world.problems());
    // Of headless Services slices are like that, and nobody asks for them.
    let headless = nil.replace("labels: {", "labels: {service.kubernetes.io/headless: \"\", ");
    assert_eq!(World::new(&headless).problems(), "");
}

#[test]
fn what_is_wrong_with_a_cluster_ip_is_told_once() {
    let world = World::new(&service("web", "clusterIP: x, clusterIPs: [x, 0.0.0.0]"));
    assert_eq!(world.problems().lines().count(), 2, "{}", world.problems());
}

#[test]
fn names_cannot_steer_the_terminal_of_those_who_read_them() {
    let escape = "\\u001b[2J\\n";
    let web = service("web", &format!("clusterIP: 172.30.0.1, ports: [{{name: \"{escape}\", port: 80}}]"));
    let odd = slice_with("web", &format!("{{name: \"{escape}\", port: 80}}"), "{addresses: [10.180.0.1]}");
    let world = World::new(&(web + &odd));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "pass")]);
    for field in ["Service default/web: refused: spec.ports[0].name", ": refused: ports[0].name"] {
        let expected =
            format!("{field} is \"\\u{{1b}}[2J\\n\"; a name has at most 253 letters, digits, dashes and dots");
        assert!(world.problems().contains(&expected), "{}", world.problems());
    }
    // A node of another name is elsewhere, whatever the name is.
    let elsewhere = format!("{{addresses: [10.180.0.1], nodeName: \"{escape}\", zone: \"{escape}\"}}");
    let world = World::new(&(service("web", "clusterIP: 172.30.0.1") + &slice("web", &elsewhere)));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1")]);
    let port = world.compiled.services.service_ports.iter().flatten().next().expect("the port");
    let endpoint = &port.endpoints[0];
    assert_eq!(endpoint.node.as_deref(), Some("\\u{1b}[2J\\n"));
    assert_eq!(endpoint.zone, endpoint.node);
}

#[test]
fn rule_3_the_first_address_counts_even_when_only_the_second_parses() {
    let world = World::new(&(service("web", "clusterIP: 172.30.0.1") + &slice("web", "{addresses: [x, 10.180.0.1]}")));
    world.expect(&[("tcp 10.0.0.9 172.30.0.1:80", "reject no_endpoint default/web clusterIP")]);
}

#[test]
fn rule_4_conditions_and_node_names_have_defaults() {
    for (fields, cluster, local) in [
        ("", true, false),
        ("conditions: {}", true, false),
        ("conditions: null, nodeName: gw-1", true, true),
        ("conditions: {ready: null, serving: null, terminating: null}", true, false),
        ("conditions: {ready: false}", false, false),
        ("conditions: {ready: false, terminating: true}, nodeName: gw-1", true, true),
        ("conditions: {ready: false, serving: false, terminating: true}", false, false),
        ("conditions: {ready: false, serving: true}", false, false),
        ("nodeName: gw-2", true, false),
        ("nodeName: \"\"", true, false),
        ("nodeName: GW-1", true, false),
    ] {
        let endpoints = format!("{{addresses: [10.180.0.1], {fields}}}");
        let ask = |policy: &str| {
            let spec = format!("clusterIP: 172.30.0.1, internalTrafficPolicy: {policy}");
            World::new(&(service("web", &spec) + &slice("web", &endpoints))).ask("tcp 10.0.0.9 172.30.0.1:80")
        };
        assert_eq!(ask("Cluster").starts_with("forward"), cluster, "{fields}");
        assert_eq!(ask("Local").starts_with("forward"), local, "{fields}");
    }
}

#[test]
fn rule_4_a_node_without_a_name_has_no_local_endpoints() {
    let options = ringway_control::compile::CompileOptions { node_name: "".into(), ..options() };
    let text = service("web", "clusterIP: 172.30.0.1, internalTrafficPolicy: Local")
        + &slice("web", "{addresses: [10.180.0.1], nodeName: \"\"}");
    World::with(&text, &options)
        .expect(&[("tcp 10.0.0.9 172.30.0.1:80", "drop no_local_endpoint default/web clusterIP")]);
}

#[test]
fn rule_5_load_balancer_addresses_of_mode_proxy_are_not_ours() {
    let ingress = "{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP}, {ip: 203.0.113.3, ipMode: Proxy}, {ip: 203.0.113.4, ipMode: null}";
    let world = World::new(
        &(load_balancer("web", "clusterIP: 172.30.0.1", ingress) + &slice("web", "{addresses: [10.180.0.1]}")),
    );
    for (last, expected) in [(1, true), (2, true), (3, false), (4, true)] {
        let expected = if expected { "forward default/web loadBalancerIP masq: 10.180.0.1" } else { "pass" };
        assert_eq!(world.ask(&format!("tcp 198.51.100.1 203.0.113.{last}:80")), expected, "{last}");
    }
}
