//! A second reading of the rules, as plain as they are written: from JSON objects and a packet straight to the answer,
//! with nothing compiled and nothing shared with Ringway's code. Random objects must give the same answers.

mod objects;

use std::net::IpAddr;

use ringway_control::compile::CompileOptions;
use serde_json::{Value, json};

use self::objects::Random;
use crate::support::{World, options};

const NODE: &str = "gw-1";
const ZONE: &str = "a";

/// An endpoint of one service port.
#[derive(Clone, Debug)]
struct Endpoint {
    address: IpAddr,
    port: u64,
    ready: bool,
    going: bool,
    terminating: bool,
    here: bool,
    nodes: Vec<String>,
    zones: Vec<String>,
}

struct Oracle<'o> {
    objects: &'o [Value],
    options: &'o CompileOptions,
}

fn list<'v>(value: &'v Value, path: &str) -> impl Iterator<Item = &'v Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The addresses of a list of texts that are of one family.
fn of_family<'v>(values: impl Iterator<Item = &'v str>, v6: bool) -> Vec<IpAddr> {
    values.filter_map(|text| text.parse::<IpAddr>().ok()).filter(|address| address.is_ipv6() == v6).collect()
}

/// A service port that a packet asks for.
struct Asked<'o> {
    service: &'o Value,
    port: &'o Value,
    matched: &'static str,
}

impl Oracle<'_> {
    fn of_kind<'s>(&'s self, kind: &'s str) -> impl Iterator<Item = &'s Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Rule 1, and rule 3 for this family.
    fn services(&self, v6: bool) -> Vec<(&Value, IpAddr)> {
        let counts = |service: &&Value| {
            service["metadata"]["labels"].get("service.kubernetes.io/service-proxy-name").is_none()
                && service["spec"]["type"] != "ExternalName"
                && service["spec"]["clusterIP"] != "None"
        };
        let services = self.of_kind("Service").filter(counts);
        let with_address = services.map(|service| {
            (service, of_family(list(service, "/spec/clusterIPs").filter_map(Value::as_str), v6).first().copied())
        });
        with_address.filter_map(|(service, address)| Some((service, address?))).collect()
    }

    fn external_ips(service: &Value, v6: bool) -> Vec<IpAddr> {
        of_family(list(service, "/spec/externalIPs").filter_map(Value::as_str), v6)
    }

    /// Rule 5.
    fn balancer_ips(service: &Value, v6: bool) -> Vec<IpAddr> {
        let ours = list(service, "/status/loadBalancer/ingress").filter(|ingress| ingress["ipMode"] != "Proxy");
        of_family(ours.filter_map(|ingress| ingress["ip"].as_str()), v6)
    }

    /// Rules 6 and 9.
    fn asked(&self, wanted: &str, address: IpAddr, number: u16) -> Option<Asked<'_>> {
        let v6 = address.is_ipv6();
        for (service, cluster_ip) in self.services(v6) {
            for port in list(service, "/spec/ports").filter(|port| protocol(port) == wanted && port["port"] == number) {
                let lists = [
                    ("clusterIP", vec![cluster_ip]),
                    ("externalIP", Self::external_ips(service, v6)),
                    ("loadBalancerIP", Self::balancer_ips(service, v6)),
                ];
                if let Some((matched, _)) = lists.iter().find(|(_, list)| list.contains(&address)) {
                    return Some(Asked { service, port, matched });
                }
            }
        }
        if self.primary(v6) != Some(address) {
            return None;
        }
        self.services(v6).into_iter().find_map(|(service, _)| {
            let port = list(service, "/spec/ports").find(|p| protocol(p) == wanted && p["nodePort"] == number)?;
            Some(Asked { service, port, matched: "nodePort" })
        })
    }

    fn primary(&self, v6: bool) -> Option<IpAddr> {
        self.options.addresses.iter().flatten().copied().find(|address| address.is_ipv6() == v6)
    }

    /// Rules 7 and 8.
    fn nobody(&self, address: IpAddr) -> String {
        let v6 = address.is_ipv6();
        let services = self.services(v6);
        let own = self.options.addresses.iter().flatten().any(|own| *own == address);
        let is_vip =
            |s: &Value| Self::external_ips(s, v6).contains(&address) || Self::balancer_ips(s, v6).contains(&address);
        if services.iter().any(|(_, cluster_ip)| *cluster_ip == address) {
            "reject no_service_port".into()
        } else if services.iter().any(|(service, _)| is_vip(service)) {
            if own { "pass".into() } else { "reject no_service_port".into() }
        } else if self.options.service_cidrs.iter().any(|cidr| cidr.contains(&address)) {
            "drop unallocated_cluster_ip".into()
        } else {
            "pass".into()
        }
    }

    /// Rules 2 and 4.
    fn endpoints(&self, asked: &Asked<'_>, v6: bool) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let metadata = &asked.service["metadata"];
        let slices = self.of_kind("EndpointSlice").filter(|slice| {
            let labels = &slice["metadata"]["labels"];
            slice["metadata"]["namespace"] == metadata["namespace"]
                && labels["kubernetes.io/service-name"] == metadata["name"]
                && labels.get("service.kubernetes.io/headless").is_none()
                && slice["addressType"] == if v6 { "IPv6" } else { "IPv4" }
        });
        for slice in slices {
            let same = |port: &&Value| {
                protocol(port) == protocol(asked.port) && text(port, "/name") == text(asked.port, "/name")
            };
            for port in list(slice, "/ports").filter(same).filter_map(|port| port["port"].as_u64()) {
                for api in list(slice, "/endpoints") {
                    let condition = |name: &str, absent| api["conditions"][name].as_bool().unwrap_or(absent);
                    let names =
                        |path: &str| list(api, path).map(|hint| text(hint, "/name").to_owned()).collect::<Vec<_>>();
                    let new = Endpoint {
                        address: text(api, "/addresses/0").parse().unwrap(),
                        port,
                        ready: condition("ready", true),
                        going: condition("serving", true) && condition("terminating", false),
                        terminating: condition("terminating", false),
                        here: api["nodeName"] == NODE,
                        nodes: names("/hints/forNodes"),
                        zones: names("/hints/forZones"),
                    };
                    let same = |old: &Endpoint| (old.address, old.port) == (new.address, new.port);
                    match endpoints.iter().position(same) {
                        None => endpoints.push(new),
                        Some(at) if !new.terminating => endpoints[at] = new,
                        Some(_) => {}
                    }
                }
            }
        }
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        endpoints
    }

    fn ranges(service: &Value, v6: bool) -> Vec<ipnet::IpNet> {
        let ranges =
            list(service, "/spec/loadBalancerSourceRanges").filter_map(|text| text.as_str()?.trim().parse().ok());
        ranges.filter(|range: &ipnet::IpNet| range.addr().is_ipv6() == v6).collect()
    }

    /// Rule 18.
    fn admits(&self, service: &Value, source: IpAddr) -> bool {
        let v6 = source.is_ipv6();
        let ranges = Self::ranges(service, v6);
        let inside = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
        ranges.is_empty()
            || inside(&source)
            || (self.primary(v6).is_some_and(|node| inside(&node)) && Self::balancer_ips(service, v6).contains(&source))
    }

    /// What becomes of a packet, in the words of [`World::ask`].
    fn answer(&self, wanted: &str, source: IpAddr, destination: IpAddr, number: u16) -> String {
        let v6 = destination.is_ipv6();
        let Some(asked) = self.asked(wanted, destination, number) else { return self.nobody(destination) };
        let Asked { service, mut matched, .. } = asked;
        // An address that is external IP and load-balancer IP is guarded where there is something to guard it with.
        let is_both = matched == "externalIP" && Self::balancer_ips(service, v6).contains(&destination);
        if is_both && !Self::ranges(service, v6).is_empty() {
            matched = "loadBalancerIP";
        }
        let metadata = &service["metadata"];
        let named = format!("{}/{} {matched}", text(metadata, "/namespace"), text(metadata, "/name"));
        if matched == "loadBalancerIP" && !self.admits(service, source) {
            return format!("drop source_not_allowed {named}");
        }
        let endpoints = self.endpoints(&asked, v6);
        let cidrs = || self.options.pod_cidrs.iter().flatten().filter(|cidr| cidr.addr().is_ipv6() == v6);
        let pod = cidrs().any(|cidr| cidr.contains(&source));
        let detector = cidrs().next().is_some();
        let node = !pod && (source.is_loopback() || self.options.addresses.iter().flatten().any(|own| *own == source));
        // Rules 10 to 12.
        let ready: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| endpoint.ready).collect();
        let going: Vec<&Endpoint> = endpoints.iter().filter(|endpoint| endpoint.going).collect();
        let all_say = |names: fn(&Endpoint) -> &Vec<String>, ours: &str| {
            ready.iter().all(|e| !names(e).is_empty()) && ready.iter().any(|e| names(e).iter().any(|n| n == ours))
        };
        let cluster: Vec<&Endpoint> = if ready.is_empty() {
            going.clone()
        } else if all_say(|e| &e.nodes, NODE) {
            ready.iter().copied().filter(|e| e.nodes.iter().any(|name| name == NODE)).collect()
        } else if all_say(|e| &e.zones, ZONE) {
            ready.iter().copied().filter(|e| e.zones.iter().any(|name| name == ZONE)).collect()
        } else {
            ready.clone()
        };
        let mut local: Vec<&Endpoint> = ready.iter().copied().filter(|endpoint| endpoint.here).collect();
        if local.is_empty() {
            local = going.iter().copied().filter(|endpoint| endpoint.here).collect();
        }
        // Rule 13.
        if ready.is_empty() && going.is_empty() {
            return format!("reject no_endpoint {named}");
        }
        // Rules 14 to 16.
        let is_local = |policy: &str| service["spec"][policy] == "Local";
        let (set, masquerade) = if matched == "clusterIP" {
            let set = if is_local("internalTrafficPolicy") { local } else { cluster };
            (set, self.options.masquerade_all || (detector && !pod))
        } else if !is_local("externalTrafficPolicy") {
            (cluster, true)
        } else if pod || node {
            (cluster, node)
        } else {
            (local, false)
        };
        if set.is_empty() {
            return format!("drop no_local_endpoint {named}");
        }
        // Rule 17.
        let told = set.iter().map(|endpoint| {
            let hairpin = if endpoint.address == source && !masquerade { "*" } else { "" };
            format!(" {}{hairpin}", std::net::SocketAddr::new(endpoint.address, endpoint.port as u16))
        });
        format!("forward {named} {}:{}", if masquerade { "masq" } else { "keep" }, told.collect::<String>())
    }
}

#[test]
fn random_objects_get_the_answers_of_a_second_reading() {
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let options = CompileOptions {
            pod_cidrs: [options().pod_cidrs, Some(vec!["10.0.0.0/16".parse().unwrap()]), Some(Vec::new())]
                [random.below(3)]
            .clone(),
            masquerade_all: random.once_in(4),
            service_cidrs: vec!["172.30.0.0/16".parse().unwrap(), "fd00:30::/112".parse().unwrap()],
            ..options()
        };
        let objects = objects::objects(&mut random);
        let world = World::with(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string(), &options);
        let oracle = Oracle { objects: &objects, options: &options };
        for _ in 0..60 {
            let (wanted, source, destination) = objects::packet(&mut random, &world);
            let expected = oracle.answer(wanted, source, destination.ip(), destination.port());
            let packet = format!("{} {source} {destination}", wanted.to_lowercase());
            assert_eq!(world.ask(&packet), expected, "seed {seed}: {packet}\n{}", json!(objects));
            *kinds.entry(expected.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).or_default() += 1;
        }
    }
    // The draw is worth something only when it meets every kind of answer.
    let met = |kind: &str| kinds.iter().filter(|(of, _)| of.starts_with(kind)).map(|(_, number)| number).sum::<usize>();
    for (kind, least) in [
        ("forward", 4_000),
        ("reject no_endpoint", 1_000),
        ("reject no_service_port", 300),
        ("drop no_local_endpoint", 100),
        ("drop source_not_allowed", 100),
        ("drop unallocated_cluster_ip", 100),
        ("pass", 300),
    ] {
        assert!(met(kind) >= least, "{kind}: {kinds:?}");
    }
}
