//! Ringway and kube-proxy on one node.

use ringway_shared::Protocol;
use ringway_tests::control_plane::{self, ControlPlane, KubeProxy, node};
use ringway_tests::eventually;
use ringway_tests::world::probe::{Outcome, Probe};
use ringway_tests::world::ringway::Ringway;
use ringway_tests::world::{CLIENTS, NODE_ADDRESSES, POD_CIDRS, PORTS, Place, World, pod_address};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

const VIP: &str = "198.51.100.10";

fn objects() -> Vec<Value> {
    let endpoints: Vec<Value> =
        (0..3).map(|pod| json!({"addresses": [pod_address(pod, false)], "nodeName": "gw-1"})).collect();
    vec![
        node("gw-1", "a", &POD_CIDRS, &NODE_ADDRESSES),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": VIP}]}},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": PORTS[0], "protocol": "TCP"}],
        }),
    ]
}

/// Waits until 40 connections in a row are answered, by all three pods.
#[track_caller]
fn await_service(world: &World, place: Place) {
    let source = if place == Place::Node { NODE_ADDRESSES[0] } else { CLIENTS[0] };
    let probe = Probe {
        protocol: Protocol::Tcp,
        place,
        source: source.parse().expect("an address"),
        destination: SocketAddr::new(VIP.parse().expect("an address"), 80),
    };
    eventually(Duration::from_secs(30), &format!("{place:?} is served"), || {
        let mut pods = BTreeSet::new();
        for outcome in world.probe(&[probe; 40], Duration::from_secs(2)) {
            match outcome {
                Outcome::Answered { endpoint, .. } => pods.insert(endpoint),
                other => return Err(format!("{other:?}")),
            };
        }
        if pods.len() == 3 { Ok(()) } else { Err(format!("only {pods:?}")) }
    });
}

#[test]
fn ringway_takes_what_comes_in_and_kube_proxy_the_rest() {
    if !control_plane::can_run("ringway_takes_what_comes_in_and_kube_proxy_the_rest") {
        return;
    }
    let world = World::start();
    let plane = ControlPlane::start();
    plane.join(&world.gateway);
    plane.apply(&objects());
    let _kube_proxy = KubeProxy::start(&plane, &world.gateway, "gw-1", true, false);
    await_service(&world, Place::Client);
    await_service(&world, Place::Node);

    let mut ringway = Ringway::start_ready(&world, &plane.kubeconfig("ringway", None), &json!({}));
    let before = ringway.instance.ledger();
    await_service(&world, Place::Client);
    let clients = ringway.instance.ledger().since(&before);
    // A connection is at least SYN, SYN-ACK, ACK, the answer and two FINs.
    assert!(clients.forwarded >= 40 * 6, "{clients:?}");
    let before = ringway.instance.ledger();
    await_service(&world, Place::Node);
    let node = ringway.instance.ledger().since(&before);
    assert_eq!((node.forwarded, node.dropped()), (0, 0), "the node's own connections are kube-proxy's: {node:?}");

    // Without Ringway everything is kube-proxy's again.
    ringway.instance.stop();
    await_service(&world, Place::Client);
    await_service(&world, Place::Node);
}
