//! Rules 20 to 23: what changes when objects do, and what does not.

use std::collections::HashSet;
use std::sync::Arc;

use ringway_control::cluster::ClusterState;
use ringway_control::compile::{Compiled, Memory, compile};
use ringway_shared::service::ServicePort;

use crate::support::{World, cluster, options, service, slice, slice_with};

const ASK: &str = "tcp 10.0.0.9 172.30.0.1:80";

#[test]
fn rule_20_reject_and_forward_follow_the_objects() {
    let mut memory = Memory::new();
    let web = service("web", "clusterIP: 172.30.0.1");
    let endpoints = slice("web", "{addresses: [10.180.0.1]}");
    let forward = "forward default/web clusterIP keep: 10.180.0.1";
    let reject = "reject no_endpoint default/web clusterIP";
    for (manifests, expected) in [
        (web.clone() + &endpoints, forward),
        (endpoints.clone(), "pass"),
        (web.clone() + &endpoints, forward),
        (web.clone(), reject),
        (web.clone() + &slice("web", ""), reject),
        (web + &endpoints, forward),
        (String::new(), "pass"),
    ] {
        let cluster = cluster(&manifests);
        let compiled = compile(&cluster, &options(), &mut memory);
        assert_eq!(World { cluster, compiled }.ask(ASK), expected, "{manifests}");
    }
}

/// Applies manifests on top of a state and compiles.
fn step(state: &mut ClusterState, manifests: &str, memory: &mut Memory) -> Compiled {
    let new = cluster(manifests);
    let gone: Vec<_> = state.keys().filter(|key| !new.contains(key)).collect();
    for key in gone {
        state.remove(&key);
    }
    for document in ringway_control::source::manifest::read(manifests).documents {
        if let ringway_control::parse::Document::Taken(parsed) = document {
            state.apply(parsed, None);
        }
    }
    compile(state, &options(), memory)
}

fn port(compiled: &Compiled, name: &str) -> Arc<ServicePort> {
    let ports = compiled.services.service_ports.iter().flatten();
    ports.into_iter().find(|port| &*port.service.name == name).unwrap().clone()
}

#[test]
fn rule_21_numbers_stay_and_endpoints_stay_members_while_they_are_listed() {
    let (mut state, mut memory) = (ClusterState::default(), Memory::new());
    let web = service("web", "clusterIP: 172.30.0.1");
    let first = step(
        &mut state,
        &(web.clone() + &slice("web", "{addresses: [10.180.0.1]}, {addresses: [10.180.0.2]}")),
        &mut memory,
    );
    assert_eq!(first.new_service_ports.len(), 1);
    assert_eq!(first.new_backends.len(), 2);
    let before = port(&first, "web");
    // Not ready, going: out of the set, still a member with the same number.
    let second = step(
        &mut state,
        &(web.clone()
            + &slice("web", "{addresses: [10.180.0.1], conditions: {ready: false}}, {addresses: [10.180.0.2]}")),
        &mut memory,
    );
    let now = port(&second, "web");
    let address = "10.180.0.1".parse().unwrap();
    assert_eq!(now.id, before.id);
    assert_eq!(now.member(address, 80), before.member(address, 80));
    assert_eq!(now.cluster.backends().len(), 1);
    assert!(second.new_service_ports.is_empty() && second.new_backends.is_empty());
    assert!(second.services.generation > first.services.generation);
    // Deleted: no member any more. Back at once: the same number, so its counters go on.
    let third = step(&mut state, &(web.clone() + &slice("web", "{addresses: [10.180.0.2]}")), &mut memory);
    assert_eq!(port(&third, "web").member(address, 80), None);
    let fourth = step(
        &mut state,
        &(web.clone() + &slice("web", "{addresses: [10.180.0.1]}, {addresses: [10.180.0.2]}")),
        &mut memory,
    );
    assert_eq!(port(&fourth, "web").member(address, 80), before.member(address, 80));
    assert!(fourth.new_backends.is_empty());
    // Deleted, seen by all workers, and back: it starts anew.
    step(&mut state, &(web.clone() + &slice("web", "{addresses: [10.180.0.2]}")), &mut memory);
    memory.release(u32::MAX / 4);
    let last =
        step(&mut state, &(web + &slice("web", "{addresses: [10.180.0.1]}, {addresses: [10.180.0.2]}")), &mut memory);
    assert_eq!(last.new_backends.len(), 1);
    assert_ne!(port(&last, "web").member(address, 80).unwrap().id, before.member(address, 80).unwrap().id);
}

#[test]
fn rule_21_flows_keep_their_endpoints_while_a_port_is_renamed() {
    let (mut state, mut memory) = (ClusterState::default(), Memory::new());
    let web = |name: &str| service("web", &format!("clusterIP: 172.30.0.1, ports: [{{name: {name}, port: 80}}]"));
    let of = |name: &str, last: u8| {
        slice_with("web", &format!("{{name: {name}, port: 8080}}"), &format!("{{addresses: [10.180.0.{last}]}}"))
    };
    let mut step = |manifests: &[String]| {
        let compiled = step(&mut state, &manifests.concat(), &mut memory);
        let web = port(&compiled, "web");
        let members = [1, 2].map(|last| web.member(format!("10.180.0.{last}").parse().unwrap(), 8080).copied());
        (web.id, members, World { cluster: cluster(""), compiled }.ask(ASK))
    };
    let (id, members, asked) = step(&[web("old"), of("old", 1), of("old", 2)]);
    assert_eq!(asked, "forward default/web clusterIP keep: 10.180.0.1:8080 10.180.0.2:8080");
    assert!(members.iter().all(Option::is_some));
    // The Service first, then slice after slice: new connections follow, flows go on.
    for (slices, expected) in [
        ([of("old", 1), of("old", 2)], "reject no_endpoint default/web clusterIP"),
        ([of("new", 1), of("old", 2)], "forward default/web clusterIP keep: 10.180.0.1:8080"),
        ([of("new", 1), of("new", 2)], "forward default/web clusterIP keep: 10.180.0.1:8080 10.180.0.2:8080"),
    ] {
        assert_eq!(step(&[vec![web("new")], slices.to_vec()].concat()), (id, members, expected.to_owned()));
    }
    // A slice port that is a port of the Service is that one's alone.
    let two = service("web", "clusterIP: 172.30.0.1, ports: [{name: new, port: 80}, {name: other, port: 81}]");
    assert_eq!(step(&[two, of("new", 1), of("other", 2)]).1, [members[0], None]);
}

#[test]
fn rule_21_a_service_port_with_another_number_is_another_service_port() {
    let (mut state, mut memory) = (ClusterState::default(), Memory::new());
    let of = |port: u16| {
        service("web", &format!("clusterIP: 172.30.0.1, ports: [{{name: p, port: {port}}}]"))
            + &slice("web", "{addresses: [10.180.0.1]}")
    };
    let first = port(&step(&mut state, &of(80), &mut memory), "web").id;
    let second = step(&mut state, &of(81), &mut memory);
    assert_ne!(port(&second, "web").id, first);
    assert!(second.services.service_port(first).is_none());
}

#[test]
fn what_did_not_change_is_shared() {
    let (mut state, mut memory) = (ClusterState::default(), Memory::new());
    let (a, b) = (service("a", "clusterIP: 172.30.0.1"), service("b", "clusterIP: 172.30.0.2"));
    let of =
        |address: &str| slice("a", &format!("{{addresses: [{address}]}}")) + &slice("b", "{addresses: [10.180.0.9]}");
    let first = step(&mut state, &(a.clone() + &b + &of("10.180.0.1")), &mut memory);
    let second = step(&mut state, &(a.clone() + &b + &of("10.180.0.2")), &mut memory);
    assert!(Arc::ptr_eq(&port(&first, "b"), &port(&second, "b")));
    assert!(!Arc::ptr_eq(&port(&first, "a"), &port(&second, "a")));
    // Another node means other sets.
    let elsewhere = ringway_control::compile::CompileOptions { node_name: "gw-9".into(), ..options() };
    let third = compile(&state, &elsewhere, &mut memory);
    assert!(!Arc::ptr_eq(&port(&second, "b"), &port(&third, "b")));
    assert_eq!(port(&second, "b").id, port(&third, "b").id);
    // A set that is the same keeps its table.
    let tables = [&second, &third].map(|compiled| std::ptr::from_ref(port(compiled, "b").cluster.table()));
    assert_eq!(tables[0], tables[1]);
}

#[test]
fn rule_23_the_choice_depends_on_the_endpoints_alone() {
    let addresses: Vec<String> = (1..=50).map(|last| format!("{{addresses: [10.180.0.{last}]}}")).collect();
    let backwards: Vec<String> = addresses.iter().rev().cloned().collect();
    let one = service("web", "clusterIP: 172.30.0.1") + &slice("web", &addresses.join(", "));
    let other = service("aaa", "clusterIP: 172.30.0.9")
        + &slice("aaa", "{addresses: [10.9.9.9]}")
        + &service("web", "clusterIP: 172.30.0.1")
        + &slice("web", &backwards[..20].join(", "))
        + &slice("web", &backwards[20..].join(", "));
    let elsewhere = ringway_control::compile::CompileOptions { node_name: "gw-2".into(), ..options() };
    let [one, other] = [World::new(&one), World::with(&other, &elsewhere)].map(|world| port(&world.compiled, "web"));
    assert_eq!(one.cluster.table(), other.cluster.table());
    let chosen: HashSet<_> = (0..10_000u64)
        .map(|n| {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let sockets = [&one, &other].map(|port| port.cluster.select(hash).unwrap().socket());
            assert_eq!(sockets[0], sockets[1]);
            sockets[0]
        })
        .collect();
    assert_eq!(chosen.len(), 50);
}

#[test]
fn refused_objects_keep_their_last_good_content() {
    let good = service("web", "clusterIP: 172.30.0.1") + &slice("web", "{addresses: [10.180.0.1]}");
    let forward = "forward default/web clusterIP keep: 10.180.0.1";
    let mut state = cluster(&good);
    for (broken, message) in [
        (
            service("web", "clusterIP: 172.30.0.1, ports: [{name: p, port: 0}]"),
            "spec.ports[0].port is 0; a port is a number from 1 to 65535",
        ),
        (service("web", "clusterIP: 172.30.0.1, ports: [{port: 70000}]"), "spec.ports[0].port is 70000"),
        (
            service("web", "clusterIP: 172.30.0.1, ports: [{port: x}]"),
            "spec.ports[0].port: invalid type: string \"x\", expected i32",
        ),
        (service("web", "clusterIP: 172.30.0.1, ports: [{port: 80, nodePort: -1}]"), "spec.ports[0].nodePort is -1"),
        (
            service("web", "clusterIP: 172.30.0.1, ports: [{port: 80, protocol: tcp}]"),
            "spec.ports[0].protocol is \"tcp\"; allowed are TCP, UDP and SCTP",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, ports: [{name: a, port: 80}, {name: b, port: 80}]"),
            "both have port 80 of TCP; give each port a number of its own",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, ports: [{name: a, port: 80}, {name: a, port: 81}]"),
            "both have the name \"a\" for TCP",
        ),
        (
            service(
                "web",
                "clusterIP: 172.30.0.1, ports: [{port: 80, nodePort: 30000}, {name: a, port: 81, nodePort: 30000}]",
            ),
            "both have nodePort 30000 of TCP",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, type: Balancer"),
            "spec.type is \"Balancer\"; allowed are ClusterIP, NodePort",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, internalTrafficPolicy: local"),
            "spec.internalTrafficPolicy is \"local\"; allowed are Cluster and Local",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, externalTrafficPolicy: Global"),
            "spec.externalTrafficPolicy is \"Global\"",
        ),
        (
            service("web", "clusterIP: 172.30.0.1, sessionAffinity: Cookie"),
            "spec.sessionAffinity is \"Cookie\"; allowed are None and ClientIP",
        ),
        (
            service(
                "web",
                "clusterIP: 172.30.0.1, sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            ),
            "timeoutSeconds is 0; allowed are 1 to 86400 seconds",
        ),
        (service("web", "clusterIP: 172.30.0.1, ipFamilies: [IPv5]"), "spec.ipFamilies is \"IPv5\""),
        (service("web", "clusterIP: 172.30.0.1, externalIPs: 1.2.3.4"), "spec.externalIPs: invalid type"),
        (
            service("web", "clusterIP: 172.30.0.1")
                .replace("metadata: {", "metadata: {annotations: {ringway.io/forwarding: fast}, "),
            "the annotation ringway.io/forwarding is \"fast\"; allowed are nat, dsr-l2 and dsr-ipip",
        ),
    ] {
        let document = ringway_control::source::manifest::read(&broken).documents.remove(0);
        let ringway_control::parse::Document::Refused(Some(key), refusal) = document else {
            panic!("{broken}: {document:?}")
        };
        state.refuse(&key, &refusal, None);
        let compiled = compile(&state, &options(), &mut Memory::new());
        let world = World { cluster: state.clone(), compiled };
        assert_eq!(world.ask(ASK), forward, "{broken}");
        assert!(world.problems().contains(message), "{broken}: {}", world.problems());
        assert!(world.problems().contains("; its last good content stays in force"), "{}", world.problems());
        assert!(world.problems().starts_with("Service default/web: refused: "), "{}", world.problems());
    }
}
