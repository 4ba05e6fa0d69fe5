//! One round: objects into the API server, packets through the balancers, and the comparison.

use crate::asking::{Asked, ask};
use crate::expect::{Balancer, compile};
use crate::health;
use crate::objects;
use crate::packets::packets;
use crate::peer::Peer;
use crate::random::Draw;
use ringway_shared::Protocol;
use ringway_tests::control_plane::{ControlPlane, KubeProxy, node};
use ringway_tests::eventually;
use ringway_tests::world::probe::{Outcome, Probe};
use ringway_tests::world::{CLIENTS, NODE_ADDRESSES, POD_CIDRS, PORTS, Place, World, pod_address};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a balancer may take to learn of a change.
const SYNC: Duration = Duration::from_secs(30);
/// The Service that tells whether a balancer has seen everything before it.
const LAST: [&str; 2] = ["172.30.2.1", "fd00:30::2001"];

/// How balancers are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// The node has pod CIDRs.
    pub(crate) detector: bool,
    /// `masqueradeAll`.
    pub(crate) masquerade_all: bool,
}

/// A control plane, kube-proxy and Ringway on beds of their own, and what was found.
pub(crate) struct Rounds {
    kube_proxy: Option<KubeProxy>,
    ringway: Peer,
    world: World,
    plane: ControlPlane,
    manner: Manner,
    present: Vec<Value>,
    number: u16,
    tally: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl Rounds {
    pub(crate) fn start() -> Rounds {
        let world = World::start();
        let plane = ControlPlane::start();
        plane.join(&world.gateway);
        let ringway = Peer::start();
        plane.join(&ringway.world.gateway);
        let manner = Manner { detector: true, masquerade_all: false };
        plane.apply(&[node("gw-1", "a", &POD_CIDRS, &NODE_ADDRESSES)]);
        Rounds {
            kube_proxy: None,
            ringway,
            world,
            plane,
            manner,
            present: Vec::new(),
            number: 0,
            tally: BTreeMap::new(),
            differences: Vec::new(),
        }
    }

    /// Starts the balancers anew.
    pub(crate) fn begin(&mut self, manner: Manner) {
        self.manner = manner;
        drop(self.kube_proxy.take());
        self.kube_proxy =
            Some(KubeProxy::start(&self.plane, &self.world.gateway, "gw-1", manner.detector, manner.masquerade_all));
        self.ringway.begin(&self.plane, manner);
    }

    /// One set of objects and its packets.
    pub(crate) fn compare(&mut self, seed: u64) {
        let mut draw = Draw(seed);
        let objects = objects::cluster(&mut draw);
        self.plane.delete(&std::mem::replace(&mut self.present, objects));
        self.plane.apply(&self.present);
        let last = self.apply_last();
        let kinds = ["Service", "EndpointSlice", "ServiceCIDR", "Node"];
        let all: Vec<Value> = kinds.into_iter().flat_map(|kind| self.plane.list(kind)).collect();
        let compiled = compile(&all, self.manner);
        let services: Vec<Value> = self.present.iter().filter(|object| object["kind"] == "Service").cloned().collect();
        let probes = packets(&mut draw, &services);
        // What the node itself sends does not come in by an interface, so Ringway leaves it alone.
        let received: Vec<Probe> = probes.iter().filter(|probe| probe.place != Place::Node).copied().collect();

        await_sync(&self.world, &last, || self.kube_proxy.as_ref().map(KubeProxy::output).unwrap_or_default());
        await_sync(&self.ringway.world, &last, || self.ringway.output());
        let (world, peer) = (&self.world, &self.ringway.world);
        let (kube_proxy, ringway) = std::thread::scope(|scope| {
            let kube_proxy = scope.spawn(|| ask(world, Balancer::KubeProxy, &compiled, &probes));
            let ringway = ask(peer, Balancer::Ringway, &compiled, &received);
            (kube_proxy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), ringway)
        });
        self.ringway.check_ledger();
        *self.tally.entry("health checks").or_default() += health::compare(world, peer, &services);
        println!(
            "seed {seed}: {} packets in {} connections, {} differences; {:?}",
            probes.len() + received.len(),
            kube_proxy.connections + ringway.connections,
            kube_proxy.differences.len() + ringway.differences.len(),
            kube_proxy.tally,
        );
        self.note(seed, Balancer::KubeProxy, kube_proxy);
        self.note(seed, Balancer::Ringway, ringway);
    }

    fn note(&mut self, seed: u64, balancer: Balancer, asked: Asked) {
        for (what, count) in asked.tally {
            *self.tally.entry(what).or_default() += count;
        }
        for (probe, why) in asked.differences {
            let Probe { protocol, place, source, destination } = probe;
            self.differences.push(format!(
                "seed {seed} ({:?}), {balancer:?}: {protocol:?} {source} ({place:?}) -> {destination}: {why}\n{}",
                self.manner,
                self.objects_of(destination.ip(), destination.port())
            ));
        }
    }

    /// Fails when anything differed.
    pub(crate) fn finish(self) {
        println!("{:?}", self.tally);
        assert!(
            self.differences.is_empty(),
            "{} differences in {:?}:\n{}",
            self.differences.len(),
            self.tally,
            self.differences.join("\n")
        );
        // A comparison in which nothing happens compares nothing.
        assert!(self.tally.len() == 5 && self.tally.values().all(|count| *count >= 20), "{:?}", self.tally);
    }

    /// Changes the last Service; connections through it say that a balancer knows everything before it.
    fn apply_last(&mut self) -> [Probe; 2] {
        self.number += 1;
        let (port, name) = (1000 + self.number, format!("round{}", self.number));
        let slice = |v6: bool| {
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": if v6 { "last-v6" } else { "last-v4" }, "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "last"},
                },
                "addressType": if v6 { "IPv6" } else { "IPv4" },
                "ports": [{"name": name, "protocol": "TCP", "port": PORTS[0]}],
                "endpoints": [{"addresses": [pod_address(0, v6)]}],
            })
        };
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "last", "namespace": "default"},
            "spec": {
                "clusterIP": LAST[0], "clusterIPs": LAST, "ipFamilyPolicy": "RequireDualStack",
                "ports": [{"name": name, "protocol": "TCP", "port": port}],
            },
        });
        self.plane.apply(&[slice(false), slice(true), service]);
        [0, 2].map(|family| Probe {
            protocol: Protocol::Tcp,
            place: Place::Client,
            source: CLIENTS[family].parse().expect("an address"),
            destination: SocketAddr::new(LAST[family / 2].parse().expect("an address"), port),
        })
    }

    /// The Services that a packet may be about, with their slices.
    fn objects_of(&self, address: IpAddr, port: u16) -> String {
        let (address, port) = (format!("\"{address}\""), format!("\"nodePort\":{port}"));
        let mut text = String::new();
        for service in self.present.iter().filter(|object| object["kind"] == "Service") {
            let service_text = service.to_string();
            if !service_text.contains(&address) && !service_text.contains(&port) {
                continue;
            }
            text += &format!("  {service_text}\n");
            for slice in &self.present {
                if slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"] {
                    text += &format!("  {slice}\n");
                }
            }
        }
        text
    }
}

fn await_sync(world: &World, last: &[Probe], log: impl Fn() -> String) {
    eventually(SYNC, "the balancer has seen all objects", || {
        let outcomes = world.probe(last, Duration::from_millis(500));
        let all = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Answered { .. }));
        if all { Ok(()) } else { Err(format!("{outcomes:?}\n{}", log())) }
    });
}
