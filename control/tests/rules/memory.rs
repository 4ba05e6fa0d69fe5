//! What compile remembers changes nothing but the numbers: any history gives what a fresh start gives.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use proptest::prelude::*;
use ringway_control::cluster::ClusterState;
use ringway_control::compile::{Compiled, Memory, compile};
use ringway_control::parse::Document;
use ringway_control::source::manifest;

use crate::support::{load_balancer, options, service, slice};

/// The forms that each of a few objects takes in turn; the empty one is its absence.
fn forms() -> Vec<Vec<String>> {
    let named = |name: &str, text: String| text.replacen("metadata: {", &format!("metadata: {{uid: {name}, "), 1);
    let slice_named = |name: &str, service: &str, endpoints: &str| {
        let text = slice(service, endpoints);
        let start = text.find("name: ").unwrap();
        let end = start + text[start..].find(',').unwrap();
        format!("{}name: {name}{}", &text[..start], &text[end..])
    };
    let claim = "externalIPs: [203.0.113.1]";
    vec![
        vec![
            String::new(),
            service("a", &format!("clusterIP: 172.30.0.1, {claim}")),
            service("a", "clusterIP: 172.30.0.1, internalTrafficPolicy: Local"),
            service("a", "clusterIP: 172.30.0.1, ports: [{name: p, port: 81}, {name: q, port: 80}]"),
            service("a", "clusterIP: None"),
        ],
        vec![
            String::new(),
            named("b", service("b", &format!("clusterIP: 172.30.0.2, {claim}"))),
            load_balancer(
                "b",
                "clusterIPs: [172.30.0.2, \"fd00:30::2\"], externalTrafficPolicy: Local",
                "{ip: 203.0.113.1}",
            ),
        ],
        vec![
            String::new(),
            slice_named("x", "a", "{addresses: [10.180.0.1], nodeName: gw-1}, {addresses: [10.180.0.2]}"),
            slice_named("x", "a", "{addresses: [10.180.0.2]}, {addresses: [10.180.0.3], conditions: {ready: false}}"),
            slice_named("x", "b", "{addresses: [10.180.0.2], nodeName: gw-1}"),
        ],
        vec![
            String::new(),
            slice_named("y", "a", "{addresses: [10.180.0.3]}"),
            slice_named("y", "b", "{addresses: [\"fd00:180::1\"], nodeName: gw-1}"),
        ],
    ]
}

/// Everything that packets could tell, without the numbers.
fn outline(compiled: &Compiled) -> String {
    let mut frontends: Vec<_> = compiled.services.frontends.iter().collect();
    frontends.sort_by_key(|(frontend, _)| **frontend);
    let mut text = String::new();
    for (frontend, target) in frontends {
        let port = &target.service_port;
        write!(text, "{frontend} {} {} {}:", target.matched.label(), port.service, port.port_name).unwrap();
        for endpoint in port.endpoints.iter() {
            let excluded = (&endpoint.excluded_from_cluster, &endpoint.excluded_from_local);
            write!(text, " {} {excluded:?}", endpoint.backend.socket()).unwrap();
        }
        for set in [&port.cluster, &port.local] {
            let sockets: Vec<_> = set.backends().iter().map(|backend| backend.socket()).collect();
            write!(text, " {sockets:?} {:?} {}", set.table(), set.is_refused()).unwrap();
        }
        writeln!(text, " {}", port.has_endpoint).unwrap();
    }
    let mut vips: Vec<_> =
        compiled.services.vips.iter().map(|(ip, v)| (*ip, v.cluster_ip, v.host_owned, v.targets.len())).collect();
    vips.sort();
    writeln!(text, "{vips:?} {:?} {:?}", compiled.problems, compiled.health_checks).unwrap();
    text
}

/// What each number in use means.
fn meanings(compiled: &Compiled) -> HashMap<(char, u32), String> {
    let mut meanings = HashMap::new();
    for (index, port) in compiled.services.service_ports.iter().enumerate() {
        let Some(port) = port else { continue };
        assert_eq!(port.id.0 as usize, index);
        let name = format!("{} {} {} {}", port.service, port.family, port.protocol, port.port);
        assert_eq!(meanings.insert(('s', port.id.0), name.clone()), None);
        for endpoint in port.endpoints.iter() {
            let meaning = format!("{name} {}", endpoint.backend.socket());
            assert_eq!(meanings.insert(('b', endpoint.backend.id.0), meaning), None, "two backends with one number");
        }
    }
    meanings
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn history_changes_nothing_but_numbers(steps in prop::collection::vec((0..4usize, any::<prop::sample::Index>(), any::<bool>()), 1..25)) {
        let forms = forms();
        let mut chosen = [0; 4];
        let (mut state, mut memory) = (ClusterState::default(), Memory::new());
        let mut known: HashMap<(char, u32), String> = HashMap::new();
        for (object, form, release) in steps {
            chosen[object] = form.index(forms[object].len());
            let text: String = chosen.iter().zip(&forms).map(|(form, forms)| forms[*form].as_str()).collect();
            let mut fresh = ClusterState::default();
            for document in manifest::read(&text).documents {
                let Document::Taken(parsed) = document else { panic!("{document:?}") };
                state.apply(parsed.clone(), None);
                fresh.apply(parsed, None);
            }
            let gone: Vec<_> = state.keys().filter(|key| !fresh.contains(key)).collect();
            for key in gone {
                state.remove(&key);
            }
            prop_assert_eq!(&state, &fresh);
            let compiled = compile(&state, &options(), &mut memory);
            prop_assert_eq!(outline(&compiled), outline(&compile(&fresh, &options(), &mut Memory::new())));
            // A number gets a meaning, or another one, only when compile says so.
            let new: HashSet<(char, u32)> = compiled
                .new_service_ports
                .iter()
                .map(|id| ('s', id.0))
                .chain(compiled.new_backends.iter().map(|id| ('b', id.0)))
                .collect();
            for (number, meaning) in meanings(&compiled) {
                let bound = if number.0 == 's' { memory.service_port_bound() } else { memory.backend_bound() };
                prop_assert!(number.1 < bound);
                let before = known.insert(number, meaning.clone());
                prop_assert!(before.as_ref() == Some(&meaning) || new.contains(&number), "{before:?} {meaning}");
            }
            if release {
                memory.release(compiled.services.generation);
            }
        }
    }
}
