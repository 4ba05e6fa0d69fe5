//! The API server away, restarted, without a memory, and behind a proxy that stalls, cuts and truncates: traffic goes on,
//! and what has changed meanwhile is known afterwards.

use crate::shop::{self, SOON, await_pods, set};
use crate::traffic::{Traffic, during};
use ringway_tests::control_plane::{self, ControlPlane, EndpointState, Fault, FaultyProxy};
use ringway_tests::eventually;
use ringway_tests::world::ringway::Ringway;
use ringway_tests::world::{MASQUERADE, World};
use serde_json::{Value, json};

const ALL: [usize; 6] = [0, 1, 2, 3, 4, 5];

/// Waits for some more rounds of traffic.
fn await_rounds(traffic: &Traffic, count: u64) {
    let end = traffic.rounds() + count;
    eventually(SOON, "traffic goes on", || if traffic.rounds() >= end { Ok(()) } else { Err(format!("{end}")) });
}

/// Waits until `status` says that slices are cut off, or that they are not any more.
fn await_problem(ringway: &Ringway, expected: bool) -> Value {
    eventually(SOON, &format!("a problem in status: {expected}"), || {
        let resource = ringway.resource("EndpointSlice");
        if resource["problem"].is_string() == expected { Ok(resource) } else { Err(resource.to_string()) }
    })
}

#[test]
fn traffic_goes_on_while_the_api_server_is_away() {
    if !control_plane::can_run("traffic_goes_on_while_the_api_server_is_away") {
        return;
    }
    let world = World::start();
    let mut plane = ControlPlane::start();
    plane.join(&world.gateway);
    shop::open(&plane);
    let ringway = Ringway::start_ready(&world, &plane.kubeconfig("ringway", None), &json!({}));
    await_pods(&world, &ALL, MASQUERADE);

    during(&world, |traffic| {
        plane.kill_api();
        await_problem(&ringway, true);
        eventually(SOON, "status says how old the picture is", || {
            let age = ringway.resource("EndpointSlice")["ageSeconds"].as_u64();
            if age.is_some_and(|age| age >= 2) { Ok(()) } else { Err(format!("{age:?}")) }
        });
        await_rounds(traffic, 5);
        plane.start_api();
        await_problem(&ringway, false);
        // Held connections stay with an endpoint that is no longer ready.
        set(&plane, 0, EndpointState::NotReady);
        await_pods(&world, &[1, 2, 3, 4, 5], MASQUERADE);
        await_rounds(traffic, 5);
        set(&plane, 0, EndpointState::Ready);
        await_pods(&world, &ALL, MASQUERADE);
    });
    ringway.instance.ledger();
}

#[test]
fn traffic_goes_on_behind_a_faulty_proxy_and_through_an_expired_watch() {
    if !control_plane::can_run("traffic_goes_on_behind_a_faulty_proxy_and_through_an_expired_watch") {
        return;
    }
    let world = World::start();
    let mut plane = ControlPlane::start();
    plane.join(&world.gateway);
    shop::open(&plane);
    let proxy = FaultyProxy::start(&plane);
    let kubeconfig = plane.kubeconfig("ringway", Some(&proxy.url("https")));
    // Enough for the handshake and the start of an answer.
    proxy.set(Fault::Truncate(4_000));
    let mut ringway = Ringway::start(&world, &kubeconfig, &json!({}));
    let before = proxy.connections();
    eventually(SOON, "it tries again and again", || {
        let tried = proxy.connections() - before;
        if tried >= 6 { Ok(()) } else { Err(format!("{tried} connections")) }
    });
    let status = eventually(SOON, "it answers", || ringway.instance.get("/status"));
    assert_eq!(status["source"]["kubernetes"]["complete"], false, "a part of a list is no list: {status:#}");
    proxy.set(Fault::None);
    ringway.instance.await_ready(&world.gateway);
    await_pods(&world, &ALL, MASQUERADE);

    during(&world, |traffic| {
        // Bytes that come late are as good as any.
        proxy.set(Fault::Stall);
        set(&plane, 0, EndpointState::NotReady);
        await_rounds(traffic, 10);
        proxy.set(Fault::None);
        await_pods(&world, &[1, 2, 3, 4, 5], MASQUERADE);

        for bytes in [0, 1, 3_000, 8_000] {
            proxy.set(Fault::Truncate(bytes));
            set(&plane, 1, if bytes == 0 || bytes == 3_000 { EndpointState::NotReady } else { EndpointState::Ready });
            let before = proxy.connections();
            eventually(SOON, "it connects again", || {
                if proxy.connections() > before { Ok(()) } else { Err("no new connection".into()) }
            });
            await_rounds(traffic, 5);
        }
        proxy.set(Fault::None);
        await_problem(&ringway, false);
        await_pods(&world, &[1, 2, 3, 4, 5], MASQUERADE);

        // Meanwhile the revision it has seen last is forgotten.
        let lists = ringway.resource("EndpointSlice")["lists"].as_u64();
        proxy.set(Fault::Cut);
        await_problem(&ringway, true);
        set(&plane, 5, EndpointState::NotReady);
        set(&plane, 0, EndpointState::Ready);
        plane.kill_api();
        plane.compact();
        plane.kill_etcd();
        plane.start_etcd();
        plane.start_api();
        proxy.set(Fault::None);
        await_problem(&ringway, false);
        await_pods(&world, &[0, 1, 2, 3, 4], MASQUERADE);
        let anew = ringway.resource("EndpointSlice")["lists"].as_u64();
        assert!(anew > lists, "the watch had expired, so all was listed anew: {lists:?}, then {anew:?}");
        await_rounds(traffic, 5);
    });
    ringway.instance.ledger();
}
