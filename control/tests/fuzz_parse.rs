//! Random damage to objects: parse and compile never panic, and an object is taken whole or refused whole.

use ringway_control::cluster::ClusterState;
use ringway_control::compile::{CompileOptions, Memory, compile};
use ringway_control::parse::{self, Document, Kind};
use ringway_control::source::kubernetes::decode;
use ringway_control::source::manifest;
use ringway_shared::decision::decide;
use ringway_shared::{FiveTuple, Protocol};

use proptest::prelude::*;
use serde_json::{Value, json};

/// One good object of each kind, every field that is read among them.
fn seeds() -> Vec<Value> {
    let metadata = json!({"name": "web", "namespace": "ns", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"kubernetes.io/service-name": "web"}, "annotations": {"ringway.io/forwarding": "nat"}});
    vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"type": "LoadBalancer", "clusterIP": "172.30.0.1", "clusterIPs": ["172.30.0.1", "fd00:30::1"],
                "ipFamilies": ["IPv4", "IPv6"], "externalIPs": ["203.0.113.9"],
                "loadBalancerSourceRanges": ["198.51.100.0/24"],
                "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local", "healthCheckNodePort": 30999,
                "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "ports": [{"name": "p", "port": 80, "targetPort": "http", "nodePort": 30080, "protocol": "TCP"},
                    {"name": "q", "port": 81, "targetPort": 8081}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1", "ipMode": "VIP", "ports": []}]}}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
            "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.180.0.1"], "nodeName": "gw-1", "zone": "a",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "gw-1"}]}}]}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}], "capacity": {"cpu": 4}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": metadata, "spec": {"cidrs": ["172.30.0.0/16"]}}),
    ]
}

/// A value that somebody could have written in any place.
fn strange() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1i64..70_000).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[0-9a-f.:/]{0,24}".prop_map(Value::from),
        prop::sample::select(vec![
            "None",
            "",
            "TCP",
            "Local",
            "0.0.0.0",
            "::",
            "127.0.0.1",
            "::ffff:1.2.3.4",
            "0/0",
            "IPv6",
            "FQDN"
        ])
        .prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, {"name": null}, [[]], ""])),
        Just(json!({"": {"": []}})),
    ]
}

/// The number of places in a value, itself included.
fn places(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(places).sum::<usize>(),
        Value::Object(members) => members.values().map(places).sum(),
        _ => 0,
    }
}

/// The value at the n-th place, counted depth first.
fn place(value: &mut Value, mut n: usize) -> Option<&mut Value> {
    if n == 0 {
        return Some(value);
    }
    n -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(members) => members.values_mut().collect(),
        _ => return None,
    };
    for child in children {
        let size = places(child);
        if n < size {
            return place(child, n);
        }
        n -= size;
    }
    None
}

fn options() -> CompileOptions {
    CompileOptions { node_name: "gw-1".into(), ..CompileOptions::default() }
}

/// Compiles twice from the same memory and asks for packets: nothing may panic, and the answers must be the same.
fn compile_and_ask(cluster: &ClusterState) {
    let mut memory = Memory::new();
    let first = compile(cluster, &options(), &mut memory);
    memory.release(u32::MAX / 2);
    let second = compile(cluster, &options(), &mut memory);
    for frontend in first.services.frontends.keys() {
        let source = if frontend.address.is_ipv4() { "198.51.100.1" } else { "2001:db8::1" }.parse().unwrap();
        let tuple = FiveTuple::from_parts(frontend.protocol, source, 40_000, frontend.address, frontend.port);
        let [a, b] = [&first, &second].map(|compiled| format!("{:?}", decide(&compiled.services, &tuple)));
        assert_eq!(a, b);
    }
    let unknown = FiveTuple::new(Protocol::Udp, "1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap());
    decide(&first.services, &unknown);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_objects_never_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), strange()), 0..4)) {
        let mut objects = seeds();
        for (object, at, value) in damage {
            let object = object.get_mut(&mut objects);
            let at = at.index(places(object));
            if let Some(place) = place(object, at) {
                *place = value;
            }
        }
        let mut cluster = ClusterState::default();
        let mut documents = Vec::new();
        parse::document(&json!({"apiVersion": "v1", "kind": "List", "items": objects}), &mut documents);
        prop_assert_eq!(documents.len(), 4);
        for document in documents {
            match document {
                Document::Taken(parsed) => {
                    let key = parsed.key.clone();
                    cluster.apply(parsed, None);
                    prop_assert!(cluster.contains(&key));
                }
                Document::Refused(Some(key), refusal) => {
                    prop_assert!(!refusal.to_string().is_empty());
                    cluster.refuse(&key, &refusal, None);
                    prop_assert!(!cluster.contains(&key));
                }
                Document::Refused(None, _) | Document::Skipped(_) => {}
            }
        }
        compile_and_ask(&cluster);
    }

    #[test]
    fn the_api_servers_short_way_takes_the_same_objects(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), value in strange()
    ) {
        let kinds = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];
        let which = which.index(kinds.len());
        let (kind, mut object) = (kinds[which], seeds().swap_remove(which));
        let at = at.index(places(&object));
        *place(&mut object, at).unwrap() = value;
        let text = object.to_string();
        // Not `object` itself: text has no room for every number.
        let object: Value = serde_json::from_str(&text).unwrap();
        let (long, short) = (parse::object(kind, &object), decode(kind, serde_json::from_str(&text).unwrap()));
        prop_assert_eq!(long, short);
    }

    #[test]
    fn damaged_text_never_panics(at in any::<prop::sample::Index>(), length in 0..20usize, with in "\\PC{0,6}|[-{}\\[\\]:&*!|>'\"%@` \n\t]{0,6}") {
        let seeds: Vec<String> = seeds().iter().map(yaml).collect();
        let text = seeds.join("---\n");
        let at = text.floor_char_boundary(at.index(text.len()));
        let to = text.floor_char_boundary((at + length).min(text.len()));
        let damaged = format!("{}{with}{}", &text[..at], &text[to..]);
        manifest::read(&damaged);
        manifest::read(&text[..at]);
    }

    #[test]
    fn any_text_never_panics(text in any::<String>()) {
        manifest::read(&text);
        parse::address::address(&text);
        parse::address::range(&text);
    }
}

/// Block YAML, by the library that reads it back.
fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

#[test]
fn json_and_yaml_of_one_object_are_read_alike() {
    for seed in seeds() {
        let mut direct = Vec::new();
        parse::document(&seed, &mut direct);
        assert!(matches!(direct[..], [Document::Taken(_)]), "{direct:?}");
        for text in [
            seed.to_string(),
            serde_json::to_string_pretty(&seed).unwrap(),
            yaml(&seed),
            format!("---\n{}\n...\n", yaml(&seed)),
        ] {
            let read = manifest::read(&text);
            assert_eq!(read.documents, direct, "{text}");
            assert_eq!(read.broken, [""; 0]);
        }
    }
}
