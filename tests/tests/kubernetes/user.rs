//! What a user does to Services, Pods and Nodes shows in the traffic.

use crate::shop::{self, await_pods, pod, set};
use ringway_tests::control_plane::{self, ControlPlane, EndpointState, node};
use ringway_tests::world::ringway::Ringway;
use ringway_tests::world::{CLIENTS, MASQUERADE, NODE_ADDRESSES, POD_CIDRS, World};
use serde_json::json;

#[test]
fn what_a_user_does_shows_in_the_traffic() {
    if !control_plane::can_run("what_a_user_does_shows_in_the_traffic") {
        return;
    }
    let world = World::start();
    let plane = ControlPlane::start();
    plane.join(&world.gateway);
    shop::open(&plane);
    let ringway = Ringway::start_ready(&world, &plane.kubeconfig("ringway", None), &json!({}));
    // Named ports are another number on each node.
    await_pods(&world, &[0, 1, 2, 3, 4, 5], MASQUERADE);

    set(&plane, 0, EndpointState::NotReady);
    plane.delete_within(&[pod(3, EndpointState::Ready)], 600);
    await_pods(&world, &[1, 2, 4, 5], MASQUERADE);

    let client = [CLIENTS[0], CLIENTS[2]];
    plane.patch("Service", "web", json!({"spec": {"externalTrafficPolicy": "Local"}}));
    await_pods(&world, &[1, 2], client);
    plane.patch("Service", "web", json!({"spec": {"externalTrafficPolicy": "Cluster"}}));
    await_pods(&world, &[1, 2, 4, 5], MASQUERADE);

    // The controllers write hints, and the node's own zone decides.
    plane.patch("Service", "web", json!({"spec": {"trafficDistribution": "PreferSameZone"}}));
    await_pods(&world, &[1, 2], MASQUERADE);
    plane.apply(&[node("gw-1", "b", &POD_CIDRS, &NODE_ADDRESSES)]);
    await_pods(&world, &[4, 5], MASQUERADE);
    plane.patch("Service", "web", json!({"spec": {"trafficDistribution": null}}));
    await_pods(&world, &[1, 2, 4, 5], MASQUERADE);

    // Nobody is ready any more: the one that terminates still serves, and takes all.
    for index in [1, 2, 4, 5] {
        set(&plane, index, EndpointState::NotReady);
    }
    await_pods(&world, &[3], MASQUERADE);
    set(&plane, 5, EndpointState::Ready);
    await_pods(&world, &[5], MASQUERADE);
    let refused: u64 = ["Service", "EndpointSlice", "Node"]
        .map(|kind| ringway.resource(kind)["refused"].as_u64().unwrap_or(1))
        .iter()
        .sum();
    assert_eq!(refused, 0, "what real controllers write is understood: {:#}", ringway.instance.ask("/status"));
    ringway.instance.ledger();
}
