//! Objects that come, change and go: two Services that want the same addresses, with two slices each.

use proptest::prelude::*;
use serde_json::{Value, json};

/// What becomes of one object, as random choices: which Service it belongs to, what it is, and what it looks like.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    service: usize,
    kind: u8,
    form: [u8; 6],
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let kind = prop_oneof![3 => Just(0u8), 4 => Just(1u8), 4 => Just(2u8), 1 => Just(3u8)];
    (0..2usize, kind, any::<[u8; 6]>()).prop_map(|(service, kind, form)| Change { service, kind, form })
}

impl Change {
    /// Both Services, each with an address and slices of its own.
    pub(crate) fn first() -> Vec<Change> {
        let form = |service: usize, kind| [2, kind, 7, 0xff * (1 - service as u8), 2, service as u8];
        let both = (0..2).flat_map(|service| (0..3).map(move |kind| (service, kind)));
        both.map(|(service, kind)| Change { service, kind, form: form(service, kind) }).collect()
    }

    /// The name of the object, and its new content; `None` deletes it.
    pub(crate) fn object(&self) -> (String, Option<Value>) {
        let name = format!("s{}", self.service);
        match self.kind {
            0 => {
                let service = self.service(&name);
                (name, Some(service))
            }
            kind @ 1..=2 => {
                let slice = format!("{name}-{kind}");
                let object = self.slice(&name, &slice);
                (slice, Some(object))
            }
            _ => {
                ([name.clone(), format!("{name}-1"), format!("{name}-2")][usize::from(self.form[0] % 3)].clone(), None)
            }
        }
    }

    /// Ports are there for both protocols, as a rule.
    fn protocols(&self) -> &'static [&'static str] {
        match self.form[4] % 8 {
            0 => &["TCP"],
            1 => &["UDP"],
            _ => &["TCP", "UDP"],
        }
    }

    fn service(&self, name: &str) -> Value {
        let [a, b, c, d, _, f] = self.form.map(usize::from);
        let node_ports = [[30080, 30081], [30081, 30080], [30080, 0], [0, 30081]][b % 4];
        // One port or two, renamed, renumbered, or the other way round.
        let ports = match a % 5 {
            0 => vec![("p", 80, node_ports[0])],
            1 => vec![("q", 80, node_ports[0])],
            2 => vec![("p", 80, node_ports[0]), ("q", 81, node_ports[1])],
            3 => vec![("q", 80, node_ports[0]), ("p", 81, node_ports[1])],
            _ => vec![("p", 81, node_ports[1])],
        };
        let ports = self.protocols().iter().flat_map(|protocol| {
            let port = move |(name, number, node_port)| {
                json!({"name": name, "port": number, "protocol": protocol, "nodePort": node_port})
            };
            ports.iter().copied().map(port)
        });
        let ports: Vec<Value> = ports.collect();
        let cluster_ip = ["172.30.0.1", "172.30.0.2"][d % 2];
        let external = if f.is_multiple_of(2) { vec!["203.0.113.1"] } else { Vec::new() };
        let ingress = if c.is_multiple_of(2) { Vec::new() } else { vec![json!({"ip": "203.0.113.2"})] };
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"},
            "spec": {"type": "LoadBalancer", "clusterIP": cluster_ip, "ports": ports, "externalIPs": external},
            "status": {"loadBalancer": {"ingress": ingress}}})
    }

    fn slice(&self, service: &str, name: &str) -> Value {
        let [a, b, c, d, ..] = self.form.map(usize::from);
        let numbers = if b.is_multiple_of(4) { [9090, 8080] } else { [8080, 9090] };
        let ports = match a % 5 {
            0 => vec![("p", numbers[0])],
            1 => vec![("q", numbers[0])],
            _ => vec![("p", numbers[0]), ("q", numbers[1])],
        };
        let ports = self.protocols().iter().flat_map(|protocol| {
            ports.iter().map(move |(name, number)| json!({"name": name, "port": number, "protocol": protocol}))
        });
        let ports: Vec<Value> = ports.collect();
        let state = |bits: usize| match bits % 4 {
            0 => json!({"ready": false}),
            1 => json!({"ready": false, "terminating": true}),
            _ => json!({}),
        };
        let listed = (0..3).filter(|at| c >> at & 1 == 1);
        let endpoint = |at| json!({"addresses": [format!("10.180.0.{}", at + 1)], "conditions": state(d >> (2 * at))});
        let endpoints: Vec<Value> = listed.map(endpoint).collect();
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints})
    }
}
