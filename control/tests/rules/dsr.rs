//! Direct server return: who asks for it, what it makes of masquerade, and where it cannot work.

use ringway_control::compile::CompileOptions;
use ringway_shared::service::ForwardingMode;

use crate::support::{World, load_balancer, options, service, slice, slice_with};

const ASK: &str = "tcp 10.0.0.9 172.30.0.1:80";

fn annotated(text: &str, mode: &str) -> String {
    text.replacen("metadata: {", &format!("metadata: {{annotations: {{ringway.io/forwarding: {mode}}}, "), 1)
}

fn by_default(forwarding: ForwardingMode) -> CompileOptions {
    CompileOptions { forwarding, ..options() }
}

#[test]
fn sources_are_kept_but_on_node_ports() {
    let text = load_balancer("web", "clusterIP: 172.30.0.1, externalIPs: [203.0.113.1]", "{ip: 198.51.100.1}");
    let slice = slice("web", "{addresses: [10.180.0.1]}");
    for mode in ["dsr-l2", "dsr-ipip"] {
        let options = CompileOptions { masquerade_all: true, ..options() };
        let world = World::with(&(annotated(&text, mode) + &slice), &options);
        world.expect(&[
            ("tcp 198.18.0.9 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1"),
            ("tcp 198.18.0.9 203.0.113.1:80", "forward default/web externalIP keep: 10.180.0.1"),
            ("tcp 198.18.0.9 198.51.100.1:80", "forward default/web loadBalancerIP keep: 10.180.0.1"),
            // The endpoint has the VIP, so it asks nobody for it.
            ("tcp 10.180.0.1 172.30.0.1:80", "forward default/web clusterIP keep: 10.180.0.1"),
            ("tcp 198.18.0.9 192.168.0.2:30080", "forward default/web nodePort masq: 10.180.0.1"),
        ]);
        assert_eq!(world.problems(), "");
        let port = world.compiled.services.service_ports.iter().flatten().next().unwrap().clone();
        assert_eq!(port.forwarding.label(), mode);
    }
}

#[test]
fn the_annotation_wins_over_the_configuration() {
    let text = |mode: Option<&str>| {
        let text = service("web", "clusterIP: 172.30.0.1");
        mode.map_or(text.clone(), |mode| annotated(&text, mode)) + &slice("web", "{addresses: [10.180.0.1]}")
    };
    for (default, annotation, expected) in [
        (ForwardingMode::Nat, None, "nat"),
        (ForwardingMode::Nat, Some("dsr-l2"), "dsr-l2"),
        (ForwardingMode::DsrL2, None, "dsr-l2"),
        (ForwardingMode::DsrIpip, Some("dsr-l2"), "dsr-l2"),
        (ForwardingMode::DsrIpip, Some("nat"), "nat"),
    ] {
        let world = World::with(&text(annotation), &by_default(default));
        let port = world.compiled.services.service_ports.iter().flatten().next().unwrap();
        assert_eq!(port.forwarding.label(), expected, "{default:?} {annotation:?}");
    }
}

#[test]
fn a_service_whose_endpoints_have_another_port_is_refused_with_both() {
    let web = service("web", "clusterIP: 172.30.0.1");
    let other = slice_with("web", "{name: p, port: 8080}", "{addresses: [10.180.0.1]}");
    let world = World::new(&(annotated(&web, "dsr-l2") + &other));
    world.expect(&[(ASK, "pass")]);
    assert_eq!(
        world.problems(),
        "Service default/web: refused: its annotation ringway.io/forwarding asks for dsr-l2, which leaves the destination \
         port as it is, but port 80/tcp leads to 10.180.0.1:8080: make targetPort equal to port, or set the annotation to nat\n"
    );
    let world = World::with(&(web.clone() + &other), &by_default(ForwardingMode::DsrIpip));
    world.expect(&[(ASK, "pass")]);
    let why = "the key forwarding of the configuration asks for dsr-ipip, which leaves the destination port";
    assert!(world.problems().contains(why), "{}", world.problems());
    let world = World::with(&(annotated(&web, "nat") + &other), &by_default(ForwardingMode::DsrIpip));
    world.expect(&[(ASK, "forward default/web clusterIP keep: 10.180.0.1:8080")]);
    // Ports that are named otherwise, or have no endpoint, lead nowhere.
    let none = slice_with("web", "{name: p, port: 8080}", "");
    let stray = slice_with("web", "{name: q, port: 8080}", "{addresses: [10.180.0.1]}");
    for more in [none, stray] {
        let world = World::new(&(annotated(&web, "dsr-l2") + &more));
        assert!(!world.problems().contains("refused"), "{}", world.problems());
    }
}
