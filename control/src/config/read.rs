//! Reads each section of the document into its type.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_dataplane::flow::Timeouts;
use ringway_shared::service::ForwardingMode;

use crate::admin;

use super::field::{Field, Map};
use super::{
    Config, FlowsConfig, InterfaceConfig, InterfacePattern, NODE_NAME, NetworkConfig, NodeConfig, NodePortAddresses,
    Poll, RssMode, ServicePattern, ServicesConfig, Source, SourceKey, Weights, WhenDown, WorkersConfig, XdpMode,
    ZeroCopy, value,
};

/// The most items of `metrics.services`: every Service is compared with each of them.
const MAX_MEASURED: usize = 256;

/// The largest flow table: 2^27 records of 128 bytes are 16 GiB a worker.
const MAX_FLOWS: u64 = 1 << 27;

/// Flow records count milliseconds in 32 bits, and ages are compared by their difference: a quarter of that range.
const MAX_TIMEOUT: Duration = Duration::from_secs(12 * 24 * 3600);

impl Config {
    pub(super) fn read(&mut self, map: &Map<'_>, source: SourceKey, node: Option<&str>) {
        self.node_name = match (map.get("nodeName"), node) {
            (Some(name), _) => name.parse(node_name).unwrap_or_default(),
            (None, Some(name)) => node_name(name).unwrap_or_else(|error| {
                map.missing(
                    "nodeName",
                    format!("not given, and the environment variable {NODE_NAME} is {name:?}, which {error}"),
                );
                Arc::default()
            }),
            (None, None) => {
                let hint = "write this node's name, as in kubectl get nodes, or set the environment variable";
                map.missing("nodeName", format!("missing; {hint} {NODE_NAME}"));
                Arc::default()
            }
        };
        let source_field = map.get_even_null("source");
        if let (Some(field), SourceKey::Read) = (source_field, source) {
            self.source = read_source(&field).unwrap_or_default();
        }
        if let Some(map) = map.map("node") {
            self.node = read_node(map);
        }
        if let Some(map) = map.map("services") {
            self.services = read_services(map);
        }
        self.network = map.map("network").map(NetworkConfig::read);
        if let Some(field) = map.require("interfaces", "list at least one, as [{name: eth0}]") {
            self.interfaces = read_interfaces(&field);
        }
        if let Some(map) = map.map("workers") {
            self.workers = read_workers(map);
        }
        if let Some(map) = map.map("snat") {
            self.snat.addresses = map.get("addresses").map(|f| f.parse_list(value::snat_address)).unwrap_or_default();
            if let Some(Some(ports)) = map.get("ports").and_then(|field| field.parse(value::snat_ports)) {
                (self.snat.ports, self.snat.ports_are_free) = (ports, false);
            }
            map.finish();
        }
        self.forwarding = map.value("forwarding", ForwardingMode::Nat, value::word(FORWARDING));
        if let Some(map) = map.map("flows") {
            self.flows = read_flows(map);
        }
        self.state = map.value("state", self.state.clone(), path);
        self.when_down =
            map.value("whenDown", WhenDown::Hold, value::word(&[("hold", WhenDown::Hold), ("pass", WhenDown::Pass)]));
        if let Some(map) = map.map("admin") {
            self.admin.socket = map.value("socket", self.admin.socket.clone(), socket);
            self.admin.metrics = map.value("metrics", self.admin.metrics, value::listen);
            self.admin.healthz = map.value("healthz", self.admin.healthz, value::listen);
            if let (Some(metrics), Some(healthz)) = (self.admin.metrics, self.admin.healthz)
                && metrics == healthz
                && metrics.port() != 0
            {
                map.problem(format!("metrics and healthz cannot both be at {metrics}; set another address, or off"));
            }
            map.finish();
        }
        if let Some(map) = map.map("metrics") {
            self.measured = map.get("services").map(|field| measured(&field)).unwrap_or_default();
            map.finish();
        }
        self.log = map.value("log", self.log.clone(), value::log);
    }
}

fn measured(field: &Field<'_>) -> Vec<ServicePattern> {
    let patterns = field.parse_list(ServicePattern::parse);
    if patterns.len() > MAX_MEASURED {
        field.problem(format!("{} items, and {MAX_MEASURED} are the most; write globs, as shop/*", patterns.len()));
    }
    patterns
}

const FORWARDING: &[(&str, ForwardingMode)] =
    &[("nat", ForwardingMode::Nat), ("dsr-l2", ForwardingMode::DsrL2), ("dsr-ipip", ForwardingMode::DsrIpip)];

/// A node's name is a DNS subdomain (RFC 1123), as every Kubernetes object name.
pub(super) fn node_name(text: &str) -> Result<Arc<str>, String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if text.is_empty() || text.len() > 253 || !text.bytes().all(allowed) {
        return Err("is no node name; write lower-case letters, digits, - and . only".into());
    }
    Ok(text.into())
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is no path".into()) } else { Ok(text.into()) }
}

fn socket(text: &str) -> Result<PathBuf, String> {
    path(text).and_then(|path| admin::unfit(&path).map_or(Ok(path), Err))
}

fn read_source(field: &Field<'_>) -> Option<Source> {
    let map = field.map()?;
    let (kubernetes, files) = (map.get_even_null("kubernetes"), map.get("files"));
    let source = match (kubernetes, files) {
        (Some(_), Some(_)) => {
            map.problem("has both kubernetes and files; keep one of them");
            None
        }
        (None, None) => {
            map.problem("names no source; write kubernetes: {} or files: PATH");
            None
        }
        (Some(field), None) => field.map().map(|map| {
            let kubeconfig = map.get("kubeconfig").and_then(|field| field.parse(path));
            let context = map.get("context").and_then(|field| field.text()).map(str::to_owned);
            if context.is_some() && kubeconfig.is_none() {
                map.problem("has a context but no kubeconfig that it could stand in; add kubeconfig: PATH");
            }
            map.finish();
            Source::Kubernetes { kubeconfig, context }
        }),
        (None, Some(field)) => {
            let items = field.one_or_more().unwrap_or_default();
            if items.is_empty() {
                field.problem("names no file; write the path of a file or folder of manifests");
            }
            Some(Source::Files(items.iter().filter_map(|item| item.parse(path)).collect()))
        }
    };
    map.finish();
    source
}

fn read_node(map: Map<'_>) -> NodeConfig {
    let addresses = map.get("addresses").map(|field| field.parse_list(value::unicast));
    let pod_cidrs = map.get("podCIDRs").map(|field| field.parse_list(value::cidr));
    let labels = map.map("labels").map(|labels| {
        let text = |(key, field): (&str, Field<'_>)| Some((key.to_owned(), field.text()?.to_owned()));
        labels.free().filter_map(text).collect()
    });
    map.finish();
    NodeConfig { addresses, pod_cidrs, labels }
}

fn read_services(map: Map<'_>) -> ServicesConfig {
    let mut node_port_addresses = NodePortAddresses::default();
    if let Some(field) = map.get("nodePortAddresses") {
        field.parse_list(|text| {
            if text == "primary" {
                node_port_addresses.primary = true;
            } else {
                let cidr = value::cidr(text);
                node_port_addresses.cidrs.push(cidr.map_err(|_| "is neither a CIDR nor the word primary".to_owned())?);
            }
            Ok(())
        });
    }
    let service_cidrs = map.get("serviceCIDRs").map(|field| field.parse_list(value::cidr)).unwrap_or_default();
    let masquerade_all = map.value("masqueradeAll", false, value::truth);
    let weights = map.map("weights").map(Weights::read).unwrap_or_default().into();
    map.finish();
    ServicesConfig { node_port_addresses, service_cidrs, masquerade_all, weights }
}

fn read_interfaces(field: &Field<'_>) -> Vec<InterfaceConfig> {
    let Some(items) = field.list() else { return Vec::new() };
    if items.is_empty() {
        field.problem("is empty; list at least one, as [{name: eth0}]");
    }
    let mut interfaces: Vec<InterfaceConfig> = Vec::new();
    for item in &items {
        let Some(map) = item.map() else { continue };
        let name = map.require("name", "write an interface name or a glob");
        let name = name.and_then(|field| field.parse(InterfacePattern::parse));
        let modes = &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
        let xdp = map.value("xdp", XdpMode::Auto, value::word(modes));
        let modes = &[("auto", ZeroCopy::Auto), ("on", ZeroCopy::On), ("off", ZeroCopy::Off)];
        let zero_copy = map.value("zeroCopy", ZeroCopy::Auto, value::word(modes));
        if (xdp, zero_copy) == (XdpMode::Generic, ZeroCopy::On) {
            map.problem(
                "zeroCopy: on cannot be with xdp: generic, which always copies; write zeroCopy: auto, or xdp: auto",
            );
        }
        let rss = map.value("rss", RssMode::Auto, value::word(&[("auto", RssMode::Auto), ("leave", RssMode::Leave)]));
        if let Some(name) = name {
            if interfaces.iter().any(|interface| interface.name == name) {
                map.problem(format!("{name} is listed twice"));
            }
            interfaces.push(InterfaceConfig { name, xdp, zero_copy, rss });
        }
        map.finish();
    }
    interfaces
}

fn read_workers(map: Map<'_>) -> WorkersConfig {
    let cpus = map.get("cpus").and_then(|field| {
        let mut cpus: Vec<usize> = Vec::new();
        field.parse_list(|text| {
            let cpu = value::number(0..=8191)(text)? as usize;
            if cpus.contains(&cpu) {
                return Err("is listed twice".to_owned());
            }
            cpus.push(cpu);
            Ok(())
        });
        // An empty list is the default, as elsewhere.
        (!cpus.is_empty()).then_some(cpus)
    });
    let poll = map.value("poll", Poll::Adaptive, value::word(&[("adaptive", Poll::Adaptive), ("busy", Poll::Busy)]));
    map.finish();
    WorkersConfig { cpus, poll }
}

fn read_flows(map: Map<'_>) -> FlowsConfig {
    let mut flows = FlowsConfig::default();
    flows.per_worker = map.value("perWorker", u64::from(flows.per_worker), value::number(1..=MAX_FLOWS)) as u32;
    flows.syn_rescue = map.value("synRescue", flows.syn_rescue, value::truth);
    if let Some(map) = map.map("timeouts") {
        let timeout = |key, default| {
            map.value(key, default, |text| {
                let too_long = || Err(format!("is too long; the longest timeout is {}h", MAX_TIMEOUT.as_secs() / 3600));
                value::duration(text).and_then(|wanted| if wanted > MAX_TIMEOUT { too_long() } else { Ok(wanted) })
            })
        };
        flows.timeouts = Timeouts {
            tcp_established: timeout("tcpEstablished", flows.timeouts.tcp_established),
            tcp_half_open: timeout("tcpHalfOpen", flows.timeouts.tcp_half_open),
            udp: timeout("udp", flows.timeouts.udp),
            udp_unreplied: timeout("udpUnreplied", flows.timeouts.udp_unreplied),
            ..flows.timeouts
        };
        map.finish();
    }
    map.finish();
    flows
}
