//! A Service `web` with Pods on two nodes, in the API server and on the bed.

use ringway_shared::Protocol;
use ringway_tests::control_plane::{ControlPlane, EndpointState, Pod, node, pod_objects};
use ringway_tests::eventually;
use ringway_tests::world::probe::{Outcome, Probe};
use ringway_tests::world::{CLIENTS, NODE_ADDRESSES, POD_CIDRS, PODS, PORTS, Place, World, pod_address};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Load-balancer IPs of `web`.
pub(crate) const LOAD_BALANCER_IPS: [&str; 2] = ["198.51.100.10", "2001:db8:1::10"];
/// How long a change may take through the controllers to all workers.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Endpoints and the client addresses that they see.
pub(crate) type Seen = BTreeSet<(SocketAddr, IpAddr)>;

/// Makes the nodes gw-1, which is the gateway, and gw-2, the Service and a Pod for each one on the bed.
pub(crate) fn open(plane: &ControlPlane) {
    let mut objects =
        vec![node("gw-1", "a", &POD_CIDRS, &NODE_ADDRESSES), node("gw-2", "b", &["10.180.0.128/25"], &["192.168.0.3"])];
    objects.push(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "selector": {"app": "web"},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
                {"name": "echo", "port": 53, "targetPort": "echo", "protocol": "UDP"},
            ],
        },
        "status": {"loadBalancer": {"ingress": LOAD_BALANCER_IPS.map(|ip| json!({"ip": ip, "ipMode": "VIP"}))}},
    }));
    objects.extend((0..PODS).map(|index| pod(index, EndpointState::Ready)));
    plane.apply(&objects);
}

/// The Pod for the bed's pod of this number. Port numbers differ from node to node.
pub(crate) fn pod(index: usize, state: EndpointState) -> Value {
    let here = index < PODS / 2;
    let pod = Pod {
        name: format!("web-{index}"),
        app: "web".into(),
        node: if here { "gw-1".into() } else { "gw-2".into() },
        addresses: vec![pod_address(index, false).to_string(), pod_address(index, true).to_string()],
        http: port(index),
        echo: port(index),
    };
    pod_objects(&pod, state)
}

fn port(index: usize) -> u16 {
    PORTS[usize::from(index >= PODS / 2)]
}

/// Says how a Pod does.
pub(crate) fn set(plane: &ControlPlane, index: usize, state: EndpointState) {
    plane.patch_status("Pod", &format!("web-{index}"), pod(index, state)["status"].clone());
}

/// A connection of the client to a load-balancer IP.
pub(crate) fn probe(protocol: Protocol, v6: bool) -> Probe {
    let port = if protocol == Protocol::Tcp { 80 } else { 53 };
    Probe {
        protocol,
        place: Place::Client,
        source: CLIENTS[2 * usize::from(v6)].parse().expect("an address"),
        destination: SocketAddr::new(LOAD_BALANCER_IPS[usize::from(v6)].parse().expect("an address"), port),
    }
}

/// Waits until exactly these pods answer, over TCP and UDP and both families, and see the client as `seen_as`.
#[track_caller]
pub(crate) fn await_pods(world: &World, pods: &[usize], seen_as: [&str; 2]) {
    for v6 in [false, true] {
        let seen: IpAddr = seen_as[usize::from(v6)].parse().expect("an address");
        let wanted: Seen = pods.iter().map(|pod| (SocketAddr::new(pod_address(*pod, v6), port(*pod)), seen)).collect();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            eventually(SOON, &format!("{protocol:?} reaches {wanted:?}"), || {
                // Missing one of 6 in 60 draws has a chance of 1 in 10,000, and then there is another try.
                let outcomes = world.probe(&vec![probe(protocol, v6); 60], Duration::from_secs(2));
                let mut found = Seen::new();
                for outcome in outcomes {
                    match outcome {
                        Outcome::Answered { endpoint, seen } => found.insert((endpoint, seen)),
                        other => return Err(format!("{other:?}")),
                    };
                }
                if found == wanted { Ok(()) } else { Err(format!("{found:?} answered")) }
            });
        }
    }
}
