//! v1 Service.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::{ForwardingMode, ServiceName};
use ringway_shared::{Family, Protocol};

use super::fields::{self, Fields, ServiceSpec};
use super::{MOST_PORTS, Notes, ObjectKey, Refusal, address, check_count, port_name, port_number, protocol, shown};

/// The annotation that picks the forwarding mode of one Service.
pub const FORWARDING_ANNOTATION: &str = "ringway.io/forwarding";

/// The label that hands a Service to another proxy, whatever its value.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// The label of slices that need no proxy, whatever its value. On a Service it says nothing.
pub(super) const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// sessionAffinityConfig.clientIP.timeoutSeconds where it is not given.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// Why a Service gets no packets although nothing is wrong with it (rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// `clusterIP: None`.
    Headless,
    /// `type: ExternalName`.
    ExternalName,
    /// Its label names another proxy.
    OtherProxy,
}

impl Ignored {
    /// One clause for a person.
    pub const fn sentence(self) -> &'static str {
        match self {
            Ignored::Headless => "headless Services have no VIP",
            Ignored::ExternalName => "ExternalName Services have no VIP",
            Ignored::OtherProxy => "the label service.kubernetes.io/service-proxy-name leaves it to another proxy",
        }
    }
}

/// One of a Service's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name, empty when it has none.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on every address but the node's.
    pub port: u16,
    /// Its number on the node's addresses.
    pub node_port: Option<u16>,
}

/// A Service, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// When it was created, in nanoseconds since 1970; the older Service gets an address that two claim.
    pub created: Option<i128>,
    /// Set when the Service does not count.
    pub ignored: Option<Ignored>,
    /// The ClusterIP of each family that has one: at most two addresses.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`, each once.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` of mode VIP, each once.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Those of mode Proxy, which are not ours (rule 5). Only explanations ask.
    pub proxied_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges` of both families.
    pub source_ranges: Vec<IpNet>,
    /// `spec.ports`.
    pub ports: Vec<Port>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// The timeout of sessionAffinity ClientIP.
    pub affinity: Option<Duration>,
    /// What the annotation `ringway.io/forwarding` asks for.
    pub forwarding: Option<ForwardingMode>,
    /// `spec.healthCheckNodePort` of a load balancer with externalTrafficPolicy Local.
    pub health_check_node_port: Option<u16>,
}

impl Service {
    /// One of which nothing is said but its name.
    pub fn new(name: ServiceName) -> Self {
        Service {
            name,
            created: None,
            ignored: None,
            cluster_ips: Vec::new(),
            external_ips: Vec::new(),
            load_balancer_ips: Vec::new(),
            proxied_ips: Vec::new(),
            source_ranges: Vec::new(),
            ports: Vec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: None,
            forwarding: None,
            health_check_node_port: None,
        }
    }

    /// The ClusterIP of `family`.
    pub fn cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips.iter().copied().find(|address| Family::of(*address) == family)
    }
}

pub(super) fn parse(key: &ObjectKey, api: &fields::Service, notes: &mut Notes) -> Result<Service, Refusal> {
    let absent = ServiceSpec::default();
    let spec = api.spec.as_ref().unwrap_or(&absent);
    let type_ = spec.type_.as_deref().unwrap_or("");
    if !matches!(type_, "" | "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName") {
        let allowed = "allowed are ClusterIP, NodePort, LoadBalancer and ExternalName";
        return Err(Refusal::Value { field: "spec.type".into(), value: shown(type_), allowed });
    }
    let internal_policy = policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?;
    let external_policy = policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?;
    let health_check = spec.health_check_node_port.filter(|port| *port != 0);
    let health_check = health_check.map(|port| port_number(|| "spec.healthCheckNodePort".into(), port)).transpose()?;
    let served = type_ == "LoadBalancer" && external_policy == TrafficPolicy::Local;
    let ignored = ignored(api, spec);
    let (load_balancer_ips, proxied_ips) = load_balancer_ips(api, notes)?;
    let service = Service {
        name: key.service_name(),
        created: api.metadata().creation_timestamp.as_ref().map(|time| time.0.as_nanosecond()),
        ignored,
        cluster_ips: cluster_ips(spec, notes)?,
        external_ips: addresses("spec.externalIPs", spec.external_ips.iter().flatten(), notes),
        load_balancer_ips,
        proxied_ips,
        source_ranges: source_ranges(spec, notes),
        ports: ports(spec)?,
        internal_policy,
        external_policy,
        affinity: affinity(spec)?,
        forwarding: forwarding(api)?,
        health_check_node_port: health_check.filter(|_| served),
    };
    if ignored.is_some() {
        // What does not count needs no notes either.
        notes.clear();
    }
    Ok(service)
}

fn ignored(api: &fields::Service, spec: &ServiceSpec) -> Option<Ignored> {
    let labelled = |label| api.metadata().labels.as_ref().is_some_and(|labels| labels.contains_key(label));
    let headless = spec.cluster_ip.iter().chain(spec.cluster_ips.iter().flatten()).any(|address| address == "None");
    if labelled(PROXY_NAME_LABEL) {
        Some(Ignored::OtherProxy)
    } else if spec.type_.as_deref() == Some("ExternalName") {
        Some(Ignored::ExternalName)
    } else if headless {
        Some(Ignored::Headless)
    } else {
        None
    }
}

fn policy(field: &str, text: Option<&str>) -> Result<TrafficPolicy, Refusal> {
    match text.unwrap_or("") {
        "" | "Cluster" => Ok(TrafficPolicy::Cluster),
        "Local" => Ok(TrafficPolicy::Local),
        other => {
            let allowed = "allowed are Cluster and Local";
            Err(Refusal::Value { field: field.into(), value: shown(other), allowed })
        }
    }
}

/// What no other port of the same protocol may have.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Own {
    Port(u16),
    NodePort(u16),
    Name(Arc<str>),
}

fn ports(spec: &ServiceSpec) -> Result<Vec<Port>, Refusal> {
    check_count("spec.ports", spec.ports.as_ref().map_or(0, Vec::len), MOST_PORTS)?;
    let mut ports: Vec<Port> = Vec::new();
    let mut owners = HashMap::new();
    for (second, api) in spec.ports.iter().flatten().enumerate() {
        let field = |name: &str| format!("spec.ports[{second}].{name}");
        let node_port = api.node_port.filter(|port| *port != 0);
        let port = Port {
            name: port_name(|| field("name"), api.name.as_deref())?,
            protocol: protocol(|| field("protocol"), api.protocol.as_deref())?,
            port: port_number(|| field("port"), api.port)?,
            node_port: node_port.map(|port| port_number(|| field("nodePort"), port)).transpose()?,
        };
        // Ports of different protocols may share anything.
        let own = |what| (port.protocol, what);
        let numbers = [Some(own(Own::Port(port.port))), port.node_port.map(|number| own(Own::NodePort(number)))];
        let name = own(Own::Name(port.name.clone()));
        let taken = numbers.into_iter().flatten().chain([name]).filter_map(|what| match owners.entry(what) {
            Entry::Occupied(owner) => Some((*owner.get(), owner.key().1.clone())),
            Entry::Vacant(free) => {
                free.insert(second);
                None
            }
        });
        // Of several the first one, and of that the first thing.
        if let Some((first, what)) = taken.min_by_key(|(first, _)| *first) {
            let protocol = port.protocol.to_string().to_uppercase();
            let (what, differ) = match what {
                Own::Port(number) => (format!("port {number} of {protocol}"), "number"),
                Own::NodePort(number) => (format!("nodePort {number} of {protocol}"), "nodePort"),
                Own::Name(name) => (format!("the name {} for {protocol}", shown(&name)), "name"),
            };
            return Err(Refusal::SamePort { first, second, what, differ });
        }
        ports.push(port);
    }
    Ok(ports)
}

/// The first address of each family, of the families that the Service has when it lists them.
fn cluster_ips(spec: &ServiceSpec, notes: &mut Notes) -> Result<Vec<IpAddr>, Refusal> {
    let mut families = HashSet::new();
    for family in spec.ip_families.iter().flatten() {
        families.insert(match family.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            other => {
                let allowed = "allowed are IPv4 and IPv6";
                return Err(Refusal::Value { field: "spec.ipFamilies".into(), value: shown(other), allowed });
            }
        });
    }
    // The singular field repeats the first of the plural one.
    let listed = || spec.cluster_ips.iter().flatten();
    let singular = spec.cluster_ip.iter().filter(|single| !listed().any(|text| text == *single));
    let given = listed().chain(singular).filter(|text| *text != "None");
    let mut cluster_ips: Vec<IpAddr> = Vec::new();
    for address in addresses("spec.clusterIPs", given, notes) {
        let family = Family::of(address);
        if !families.is_empty() && !families.contains(&family) {
            notes.push(format!("the ClusterIP {address} does not count: spec.ipFamilies does not name {family}"));
        } else if let Some(first) = cluster_ips.iter().find(|first| Family::of(**first) == family) {
            notes.push(format!("the ClusterIP {address} does not count: {first} is the {family} one already"));
        } else {
            cluster_ips.push(address);
        }
    }
    Ok(cluster_ips)
}

/// Those of mode VIP, then those of mode Proxy.
fn load_balancer_ips(api: &fields::Service, notes: &mut Notes) -> Result<(Vec<IpAddr>, Vec<IpAddr>), Refusal> {
    let status = api.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let (mut ours, mut proxied) = (Vec::new(), Vec::new());
    for (index, ingress) in status.iter().flat_map(|status| status.ingress.iter().flatten()).enumerate() {
        match ingress.ip_mode.as_deref().unwrap_or("") {
            "" | "VIP" => ours.extend(&ingress.ip),
            "Proxy" => proxied.extend(&ingress.ip),
            other => {
                let field = format!("status.loadBalancer.ingress[{index}].ipMode");
                return Err(Refusal::Value { field, value: shown(other), allowed: "allowed are VIP and Proxy" });
            }
        }
    }
    // Nobody misses what is wrong with an address that is not ours.
    let proxied = addresses("status.loadBalancer.ingress", proxied, &mut Notes::default());
    Ok((addresses("status.loadBalancer.ingress", ours, notes), proxied))
}

/// The addresses of a list that can be used, each once. An empty text counts as none.
fn addresses<'t>(field: &str, texts: impl IntoIterator<Item = &'t String>, notes: &mut Notes) -> Vec<IpAddr> {
    let (mut addresses, mut seen) = (Vec::new(), HashSet::new());
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match address::address(text) {
            None => notes.push(format!("{field}: {} is not an IP address; skipped", shown(text))),
            Some(address) => match address::nobody_behind(address) {
                Some(why) => notes.push(format!("{field}: {address} is {why}; skipped")),
                None if !seen.insert(address) => {}
                None => addresses.push(address),
            },
        }
    }
    addresses
}

fn source_ranges(spec: &ServiceSpec, notes: &mut Notes) -> Vec<IpNet> {
    let mut ranges: Vec<IpNet> = Vec::new();
    let (mut skipped, mut seen) = (false, HashSet::new());
    for text in spec.load_balancer_source_ranges.iter().flatten() {
        match address::range(text.trim()) {
            Some(range) if !seen.insert(range) => {}
            Some(range) => ranges.push(range),
            None => {
                skipped = true;
                notes.push(format!("spec.loadBalancerSourceRanges: {} is not a range; skipped", shown(text)));
            }
        }
    }
    for family in [Family::V4, Family::V6] {
        if skipped && !ranges.iter().any(|range| Family::of(range.addr()) == family) {
            notes.push(format!(
                "spec.loadBalancerSourceRanges: no {family} range is left, so everybody may use the {family} addresses"
            ));
        }
    }
    ranges
}

fn affinity(spec: &ServiceSpec) -> Result<Option<Duration>, Refusal> {
    match spec.session_affinity.as_deref().unwrap_or("") {
        "" | "None" => return Ok(None),
        "ClientIP" => {}
        other => {
            let allowed = "allowed are None and ClientIP";
            return Err(Refusal::Value { field: "spec.sessionAffinity".into(), value: shown(other), allowed });
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT_AFFINITY_SECONDS);
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Refusal::Value {
            field: "spec.sessionAffinityConfig.clientIP.timeoutSeconds".into(),
            value: seconds.to_string(),
            allowed: "allowed are 1 to 86400 seconds",
        }),
    }
}

fn forwarding(api: &fields::Service) -> Result<Option<ForwardingMode>, Refusal> {
    let annotation = api.metadata().annotations.as_ref().and_then(|all| all.get(FORWARDING_ANNOTATION));
    let Some(text) = annotation else { return Ok(None) };
    match text.trim() {
        "nat" => Ok(Some(ForwardingMode::Nat)),
        "dsr-l2" => Ok(Some(ForwardingMode::DsrL2)),
        "dsr-ipip" => Ok(Some(ForwardingMode::DsrIpip)),
        other => Err(Refusal::Value {
            field: format!("the annotation {FORWARDING_ANNOTATION}"),
            value: shown(other),
            allowed: "allowed are nat, dsr-l2 and dsr-ipip",
        }),
    }
}
