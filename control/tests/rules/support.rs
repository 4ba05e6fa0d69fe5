//! A cluster in a few lines of YAML, and what it says about a packet in one line of text.

use std::collections::BTreeMap;

use ringway_control::cluster::ClusterState;
use ringway_control::compile::{self, CompileOptions, Compiled, Memory};
use ringway_control::parse::Document;
use ringway_control::source::manifest;
use ringway_shared::decision::{self, Decision};
use ringway_shared::{FiveTuple, Protocol};

/// The node of most tests: `gw-1` in zone a, with pods in 10.0.0.0/16 and fd00:10::/64.
pub(crate) fn options() -> CompileOptions {
    CompileOptions {
        node_name: "gw-1".into(),
        addresses: Some(vec![
            "192.168.0.2".parse().unwrap(),
            "192.168.7.2".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
            "2001:db8:7::2".parse().unwrap(),
        ]),
        pod_cidrs: Some(vec!["10.0.0.0/16".parse().unwrap(), "fd00:10::/64".parse().unwrap()]),
        labels: Some(BTreeMap::from([(compile::ZONE_LABEL.to_owned(), "a".to_owned())])),
        ..CompileOptions::default()
    }
}

/// The state that manifests make; whatever is wrong with them is in its problems.
pub(crate) fn cluster(manifests: &str) -> ClusterState {
    let mut cluster = ClusterState::default();
    let manifest = manifest::read(manifests);
    assert_eq!(manifest.broken, [""; 0], "{manifests}");
    for document in manifest.documents {
        match document {
            Document::Taken(parsed) => {
                cluster.apply(parsed, None);
            }
            Document::Refused(Some(key), refusal) => cluster.refuse(&key, &refusal, None),
            Document::Refused(None, refusal) => panic!("{refusal}"),
            Document::Skipped(what) => panic!("{what}"),
        }
    }
    cluster
}

/// A compiled cluster.
pub(crate) struct World {
    pub(crate) cluster: ClusterState,
    pub(crate) compiled: Compiled,
}

impl World {
    pub(crate) fn new(manifests: &str) -> Self {
        Self::with(manifests, &options())
    }

    pub(crate) fn with(manifests: &str, options: &CompileOptions) -> Self {
        let cluster = cluster(manifests);
        let compiled = compile::compile(&cluster, options, &mut Memory::new());
        World { cluster, compiled }
    }

    /// Every problem, one a line.
    pub(crate) fn problems(&self) -> String {
        let all = self.cluster.problems().chain(self.compiled.problems.iter());
        all.map(|problem| format!("{problem}\n")).collect()
    }

    /// What becomes of a packet `PROTOCOL SOURCE DESTINATION:PORT`.
    ///
    /// `forward ns/name port matched source: endpoints`, where source is `keep` or `masq` and an endpoint that needs
    /// masquerade for itself alone ends in `*`; `drop reason`, `reject reason` or `pass`. Only the endpoints' addresses
    /// are printed where all ports are 80.
    pub(crate) fn ask(&self, packet: &str) -> String {
        let tuple = tuple(packet);
        let named = |target: Option<&ringway_shared::snapshot::Target>| match target {
            Some(target) => format!(" {} {}", target.service_port.service, target.matched.label()),
            None => String::new(),
        };
        match decision::decide(&self.compiled.services, &tuple) {
            Decision::Pass => "pass".into(),
            Decision::Drop(reason, target) => format!("drop {}{}", reason.label(), named(target)),
            Decision::Reject(reason, target) => format!("reject {}{}", reason.label(), named(target)),
            Decision::Forward { target, set, masquerade, .. } => {
                assert!(!set.is_empty());
                let endpoints: Vec<String> = set
                    .backends()
                    .iter()
                    .map(|backend| {
                        let due = decision::masquerade_for(masquerade, tuple.source_address(), backend).is_due();
                        let hairpin = if due && !masquerade.is_due() { "*" } else { "" };
                        if backend.port == 80 {
                            format!("{}{hairpin}", backend.address)
                        } else {
                            format!("{}{hairpin}", backend.socket())
                        }
                    })
                    .collect();
                let source = if masquerade.is_due() { "masq" } else { "keep" };
                format!("forward{} {source}: {}", named(Some(target)), endpoints.join(" "))
            }
        }
    }

    /// Asserts the answers for a table of packets.
    pub(crate) fn expect(&self, rows: &[(&str, &str)]) {
        for (packet, expected) in rows {
            assert_eq!(self.ask(packet), *expected, "{packet}\n{}", self.problems());
        }
    }
}

fn tuple(packet: &str) -> FiveTuple {
    let mut words = packet.split_whitespace();
    let protocol = match words.next().unwrap() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("{other}"),
    };
    let source = std::net::SocketAddr::new(words.next().unwrap().parse().unwrap(), 40000);
    FiveTuple::new(protocol, source, words.next().unwrap().parse().unwrap())
}

/// A Service `default/NAME` with `spec` and one port `{name: p, port: 80}`, unless `spec` brings its own.
pub(crate) fn service(name: &str, spec: &str) -> String {
    let ports = if spec.contains("ports:") { "" } else { ", ports: [{name: p, port: 80}]" };
    format!("---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}{ports}}}}}\n")
}

/// A load balancer `default/NAME` with `spec`, load-balancer addresses and one port.
pub(crate) fn load_balancer(name: &str, spec: &str, ingress: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}},\n spec: {{type: LoadBalancer, {spec}, ports: [{{name: p, port: 80, nodePort: 30080}}]}},\n status: {{loadBalancer: {{ingress: [{ingress}]}}}}}}\n"
    )
}

/// A slice of `default/SERVICE` with the port `{name: p, port: 80}`; IPv6 when an endpoint has two colons in a row.
pub(crate) fn slice(service: &str, endpoints: &str) -> String {
    slice_with(service, "{name: p, port: 80}", endpoints)
}

/// A slice with ports of its own. Its name follows from its content.
pub(crate) fn slice_with(service: &str, ports: &str, endpoints: &str) -> String {
    let family = if endpoints.contains("::") { "IPv6" } else { "IPv4" };
    let name = format!("{service}-{}", ringway_shared::address::MAGLEV_SEED ^ hash(&format!("{ports}{endpoints}")));
    format!(
        "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice,\n metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}},\n addressType: {family}, ports: [{ports}], endpoints: [{endpoints}]}}\n"
    )
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// An endpoint on another node, with more fields.
pub(crate) fn endpoint(address: &str, fields: &str) -> String {
    format!("{{addresses: [\"{address}\"], {fields}}}")
}
