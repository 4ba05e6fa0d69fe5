//! Random objects and packets: small worlds in which everything meets everything.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::support::World;

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    /// `most` of these at most, each once.
    fn some<T: Clone>(&mut self, items: &[T], most: usize) -> Vec<T> {
        let mut left = items.to_vec();
        let many = self.below(most + 1).min(left.len());
        (0..many).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }
}

/// One to four Services with their slices, in any order.
pub(super) fn objects(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    for number in 1..=1 + random.below(4) {
        let service = service(random, number);
        for slice in 0..random.pick(&[0, 2, 3, 4]) {
            objects.push(self::slice(random, &service, slice));
        }
        objects.insert(random.below(objects.len() + 1), service);
    }
    objects
}

fn service(random: &mut Random, number: usize) -> Value {
    let v4 = format!("172.30.0.{number}");
    let v6 = format!("fd00:30::{number}");
    let cluster_ips = match random.below(5) {
        0 => vec![v6],
        1 => vec![v6, v4],
        2 => vec![v4, v6],
        _ => vec![v4],
    };
    let mut labels = Map::new();
    if random.once_in(15) {
        labels.insert("service.kubernetes.io/service-proxy-name".into(), "other".into());
    }
    let mut ports: Vec<Value> = Vec::new();
    for (at, name) in random.some(&["http", "dns", "x", ""], 3).into_iter().enumerate() {
        let port = json!({"name": name, "port": random.pick(&[80, 53, 443]), "protocol": random.pick(&[Some("TCP"), Some("UDP"), Some("SCTP"), None]),
            "nodePort": if random.once_in(4) { 0 } else { 30_000 + number * 10 + at }});
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
        if !ports.iter().any(|other| (&other["port"], protocol(other)) == (&port["port"], protocol(&port))) {
            ports.push(port);
        }
    }
    if ports.is_empty() {
        ports.push(json!({"port": 80}));
    }
    let externals = [
        format!("203.0.113.{number}"),
        format!("2001:db8:e::{number}"),
        format!("192.168.{}.2", [0, 7, 8, 9][number - 1]),
    ];
    let balancers = [
        format!("198.51.100.{number}"),
        format!("198.51.101.{number}"),
        format!("2001:db8:b::{number}"),
        format!("203.0.113.{number}"),
    ];
    let modes = [json!({}), json!({}), json!({"ipMode": "VIP"}), json!({"ipMode": "Proxy"})];
    let ingress = random.some(&balancers, 3).into_iter().map(|ip| {
        let mut ingress = random.pick(&modes);
        ingress["ip"] = ip.into();
        ingress
    });
    let ingress: Vec<Value> = ingress.collect();
    let ranges = ["10.0.0.0/8", " 192.168.0.0/24 ", "198.51.100.64/26", "2001:db8::/64", "fd00:10::/64", "0.0.0.0/0"];
    let policy = [Value::Null, "Cluster".into(), "Local".into(), "Local".into()];
    let kind = if random.once_in(15) { "ExternalName" } else { "LoadBalancer" };
    let headless = random.once_in(15);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": random.pick(&["ns1", "ns2"]), "name": format!("s{number}"), "labels": labels},
        "spec": {"type": kind, "clusterIPs": if headless { vec!["None".to_owned()] } else { cluster_ips.clone() },
            "clusterIP": if headless { "None" } else { &cluster_ips[0] }, "ports": ports,
            "externalIPs": random.some(&externals, 2), "loadBalancerSourceRanges": random.some(&ranges, 2),
            "internalTrafficPolicy": random.pick(&policy), "externalTrafficPolicy": random.pick(&policy)},
        "status": {"loadBalancer": {"ingress": ingress}}})
}

fn slice(random: &mut Random, service: &Value, number: usize) -> Value {
    let v6 = random.once_in(2);
    let metadata = &service["metadata"];
    let mut ports = Vec::new();
    for of in service["spec"]["ports"].as_array().unwrap() {
        // Now and then a port has no number, another name or another protocol.
        let name = if random.once_in(20) { "other".into() } else { of["name"].clone() };
        let protocol = if random.once_in(20) { "UDP".into() } else { of["protocol"].clone() };
        let number = if random.once_in(20) { Value::Null } else { random.pick(&[8080, 8081, 9000]).into() };
        ports.push(json!({"name": name, "protocol": protocol, "port": number}));
    }
    let mut labels = Map::from_iter([("kubernetes.io/service-name".to_owned(), metadata["name"].clone())]);
    if random.once_in(15) {
        labels.insert("service.kubernetes.io/headless".into(), "".into());
    }
    let hinted = (random.once_in(2), random.once_in(3));
    let endpoints = (0..random.below(6)).map(|last| endpoint(random, v6, number, last, hinted)).collect::<Vec<_>>();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": metadata["namespace"], "name": format!("{}-{number}", metadata["name"].as_str().unwrap()), "labels": labels},
        "addressType": if v6 { "IPv6" } else { "IPv4" }, "ports": ports, "endpoints": endpoints})
}

/// Endpoints of different slices differ, but for one: the first slice of each family may have it for good, and the others
/// may say that it is going.
fn endpoint(random: &mut Random, v6: bool, slice: usize, last: usize, (zones, nodes): (bool, bool)) -> Value {
    let address = |subnet: usize, last: usize| match v6 {
        true => format!("fd00:1{subnet}::{last}"),
        false => format!("10.{subnet}.0.{last}"),
    };
    if slice > 0 && last == 0 {
        let conditions = json!({"ready": false, "serving": true, "terminating": true});
        return json!({"addresses": [address(0, 1)], "nodeName": "gw-1", "conditions": conditions});
    }
    let for_good = slice == 0 && last == 0;
    let address = address((slice + last) % 3, slice * 10 + last + 1);
    let condition = [Value::Null, true.into(), true.into(), false.into()];
    let ready = random.pick(&condition);
    let terminating = if for_good { Value::Null } else { random.pick(&[Value::Null, false.into(), true.into()]) };
    let mut hints = Map::new();
    if zones && !random.once_in(8) {
        hints.insert(
            "forZones".into(),
            random.some(&[json!({"name": "a"}), json!({"name": "b"}), json!({"name": "c"})], 2).into(),
        );
    }
    if nodes && !random.once_in(8) {
        hints.insert("forNodes".into(), random.some(&[json!({"name": "gw-1"}), json!({"name": "gw-2"})], 2).into());
    }
    json!({"addresses": [address, "10.9.9.9"], "nodeName": random.pick(&[Value::Null, "gw-1".into(), "gw-2".into()]), "hints": hints,
        "conditions": {"ready": ready, "serving": random.pick(&condition), "terminating": terminating}})
}

/// Protocol, source and destination, mostly to a frontend.
pub(super) fn packet(random: &mut Random, world: &World) -> (&'static str, IpAddr, SocketAddr) {
    let services = &world.compiled.services;
    let mut frontends: Vec<_> = services.frontends.iter().map(|(frontend, _)| *frontend).collect();
    frontends.sort();
    let mut vips: Vec<IpAddr> = services.vips.iter().map(|(address, _)| *address).collect();
    vips.sort();
    let of = |text: &str| -> IpAddr { text.parse().unwrap() };
    let elsewhere =
        ["192.168.0.2", "192.168.7.2", "2001:db8::2", "172.30.0.99", "fd00:30::99", "8.8.8.8", "2001:db8:9::9"].map(of);
    let mut protocol = random.pick(&["TCP", "UDP", "SCTP"]);
    let mut destination =
        SocketAddr::new(random.pick(&[&vips[..], &elsewhere].concat()), random.pick(&[80, 53, 443, 30_010, 1]));
    if !frontends.is_empty() && !random.once_in(4) {
        let frontend = random.pick(&frontends);
        destination = SocketAddr::new(frontend.address, frontend.port);
        if !random.once_in(10) {
            protocol = match frontend.protocol {
                ringway_shared::Protocol::Tcp => "TCP",
                ringway_shared::Protocol::Udp => "UDP",
                ringway_shared::Protocol::Sctp => "SCTP",
            };
        }
    }
    let sources = [
        "10.0.0.1",
        "10.0.9.9",
        "10.1.0.2",
        "192.168.0.2",
        "192.168.7.2",
        "127.0.0.1",
        "198.51.100.70",
        "203.0.113.200",
        "fd00:10::1",
        "fd00:10::77",
        "fd00:11::2",
        "2001:db8::2",
        "::1",
        "2001:db8:9::1",
    ];
    let sources = sources.map(of).into_iter().chain(vips).filter(|source| source.is_ipv6() == destination.is_ipv6());
    (protocol, random.pick(&sources.collect::<Vec<_>>()), destination)
}
