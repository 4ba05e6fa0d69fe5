//! Rules 24 and 25: weights, and endpoints that are drained by command.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringway_control::cluster::ClusterState;
use ringway_control::compile::{CompileOptions, Memory, compile};
use ringway_control::config::Weights;
use ringway_control::drain::Drained;

use crate::support::{World, cluster, endpoint, options, service, slice};

const GOING: &str = "conditions: {ready: false, serving: true, terminating: true}";
const NOT_READY: &str = "conditions: {ready: false, serving: false}";

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

fn weighted(zones: &[(&str, u16)], nodes: &[(&str, u16)]) -> CompileOptions {
    let map = |weights: &[(&str, u16)]| -> BTreeMap<String, u16> {
        weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    };
    CompileOptions { weights: Arc::new(Weights { zones: map(zones), nodes: map(nodes) }), ..options() }
}

#[test]
fn rule_24_no_weight_is_no_share_unless_nobody_has_any() {
    let (a, b) = ("zone: a", "zone: b");
    let here = "zone: a, nodeName: gw-1";
    for (zones, nodes, policy, fields, expected) in [
        (&[("a", 0)][..], &[][..], "Cluster", vec![a, b, ""], "2 3"),
        (&[("a", 0), ("b", 0)], &[], "Cluster", vec![a, b], "1 2"),
        (&[("a", 0), ("b", 0)], &[], "Cluster", vec![a, b, ""], "3"),
        // The node's weight wins.
        (&[("a", 0)], &[("gw-1", 2)], "Cluster", vec![a, here, b], "2 3"),
        (&[("a", 5)], &[("gw-1", 0)], "Cluster", vec![a, here], "1"),
        // Each set on its own: here nobody else is.
        (&[], &[("gw-1", 0)], "Local", vec![a, here], "2"),
        (&[("a", 0)], &[], "Local", vec![here, "zone: b, nodeName: gw-1", b], "2"),
        // Readiness and hints come first.
        (&[("a", 0)], &[], "Cluster", vec![a, "zone: b, conditions: {ready: false, serving: false}"], "1"),
        (
            &[("a", 0)],
            &[],
            "Cluster",
            vec!["zone: a, hints: {forZones: [{name: a}]}", "zone: b, hints: {forZones: [{name: b}]}"],
            "1",
        ),
    ] {
        assert_eq!(
            asked(policy, &fields, &weighted(zones, nodes)),
            expected,
            "{zones:?} {nodes:?} {policy} {fields:?}"
        );
    }
}

#[test]
fn rule_24_weights_are_shares_of_the_table() {
    let endpoints = ["10.180.0.1", "10.180.0.2", "10.180.0.3"]
        .map(|address| endpoint(address, if address.ends_with('3') { "zone: b" } else { "zone: a" }));
    let objects = service("web", "clusterIP: 172.30.0.1") + &slice("web", &endpoints.join(", "));
    let world = World::with(&objects, &weighted(&[("b", 4)], &[]));
    let port = world.compiled.services.service_ports.iter().flatten().next().unwrap();
    let (set, mut slots) = (&port.cluster, [0; 3]);
    (0..set.table().slots()).for_each(|slot| slots[set.table().at(slot).unwrap() as usize] += 1);
    let shares = slots.map(|slots| (slots * 60) as f64 / set.table().slots() as f64);
    assert!(
        (shares[0] - 10.0).abs() < 0.5 && (shares[1] - 10.0).abs() < 0.5 && (shares[2] - 40.0).abs() < 0.5,
        "{shares:?}"
    );
}

fn drained(targets: &[&str]) -> CompileOptions {
    let targets: Drained = targets.iter().map(|target| target.parse().unwrap()).collect();
    CompileOptions { drained: Arc::new(targets), ..options() }
}

#[test]
fn rule_25_a_drained_endpoint_is_as_if_it_were_terminating() {
    let here = "nodeName: gw-1";
    for (targets, policy, fields, expected) in [
        (vec!["10.180.0.1"], "Cluster", vec!["", ""], "2"),
        (vec!["10.180.0.1:80"], "Cluster", vec!["", ""], "2"),
        (vec!["10.180.0.1:81"], "Cluster", vec!["", ""], "1 2"),
        // Nobody else is ready: those that still serve, as rules 10 and 12 say.
        (vec!["10.180.0.1"], "Cluster", vec!["", GOING, NOT_READY], "1 2"),
        (vec!["10.180.0.1", "10.180.0.2"], "Cluster", vec!["", ""], "1 2"),
        (vec!["10.180.0.1"], "Local", vec![here, ""], "1"),
        (vec!["10.180.0.1"], "Local", vec![here, here], "2"),
        // One that does not serve is not made to.
        (vec!["10.180.0.1"], "Cluster", vec![NOT_READY], "reject no_endpoint"),
        (vec!["10.180.0.1"], "Cluster", vec!["conditions: {ready: false}"], "reject no_endpoint"),
        (
            vec!["10.180.0.1"],
            "Cluster",
            vec!["conditions: {ready: false}", "conditions: {ready: false}"],
            "reject no_endpoint",
        ),
        // It has no say in hints.
        (
            vec!["10.180.0.3"],
            "Cluster",
            vec!["hints: {forZones: [{name: a}]}", "hints: {forZones: [{name: b}]}", ""],
            "1",
        ),
    ] {
        assert_eq!(asked(policy, &fields, &drained(&targets)), expected, "{targets:?} {policy} {fields:?}");
    }
}

#[test]
fn rule_25_draining_compiles_those_that_are_concerned_and_no_others() {
    let web = |name: &str, last: u8| {
        let spec = format!("clusterIP: 172.30.0.{last}");
        service(name, &spec)
            + &slice(name, &format!("{{addresses: [10.180.0.{last}]}}, {{addresses: [10.180.1.{last}]}}"))
    };
    let cluster: ClusterState = cluster(&(web("one", 1) + &web("two", 2)));
    let mut memory = Memory::new();
    let mut ports = |options: &CompileOptions| {
        let services = compile(&cluster, options, &mut memory).services;
        let named = |name: &str| {
            services.service_ports.iter().flatten().find(|port| &*port.service.name == name).unwrap().clone()
        };
        (named("one"), named("two"))
    };
    let (one, two) = ports(&options());
    let (now_one, now_two) = ports(&drained(&["10.180.0.1"]));
    assert!(!Arc::ptr_eq(&one, &now_one) && Arc::ptr_eq(&two, &now_two));
    assert_eq!((one.cluster.backends().len(), now_one.cluster.backends().len()), (2, 1));
    assert!(now_one.endpoints[0].drained && now_one.member(now_one.endpoints[0].backend.address, 80).is_some());
    let (then_one, then_two) = ports(&options());
    assert!(then_one.cluster.backends() == one.cluster.backends() && Arc::ptr_eq(&two, &then_two));
}
