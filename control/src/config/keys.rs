//! Every key of the configuration, and whether a running instance takes another value of it.
//!
//! What is taken cuts no flow and unsettles no object. What is not is made of memory, threads or places of the start, or
//! would take away at once what other values do not name.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plain;

use super::value;
use super::{Config, InterfaceConfig, NodePortAddresses, RssMode, Source, WhenDown};

/// What becomes of a key's new value in a running instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// It holds from the reload on.
    InForce,
    /// The old one stays until a restart.
    Restart,
}

/// A key whose value in the file is not the one that the instance runs with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    /// Its path.
    pub key: String,
    /// The value of before.
    pub from: String,
    /// The value in the file.
    pub to: String,
    /// Whether it is taken.
    pub fate: Fate,
}

impl Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fate = match self.fate {
            Fate::InForce => "in force",
            Fate::Restart => "takes a restart",
        };
        write!(f, "{}: {} -> {}: {fate}", plain::line(&self.key), plain::line(&self.from), plain::line(&self.to))
    }
}

/// A key.
pub struct Key {
    /// Its path, without numbers of list items.
    pub name: &'static str,
    /// How another value is taken.
    taken: Taken,
    show: fn(&Config) -> String,
}

/// Copies a value from the second configuration to the first; `None` when it takes a restart.
type Taken = Option<fn(&mut Config, &Config)>;

impl Key {
    /// What becomes of a new value.
    pub fn fate(&self) -> Fate {
        if self.taken.is_some() { Fate::InForce } else { Fate::Restart }
    }
}

const fn restart(name: &'static str, show: fn(&Config) -> String) -> Key {
    Key { name, taken: None, show }
}

const fn taken(name: &'static str, show: fn(&Config) -> String, take: fn(&mut Config, &Config)) -> Key {
    Key { name, taken: Some(take), show }
}

/// All keys, in the order of the documentation. A section without sections is one key where its parts go together.
pub static KEYS: &[Key] = &[
    restart("nodeName", |c| c.node_name.to_string()),
    // Whatever the new place lacks would be gone at once, and a slip of the pen lacks everything.
    restart("source", |c| source(&c.source)),
    taken("node.addresses", |c| maybe(&c.node.addresses, list), |to, c| to.node.addresses = c.node.addresses.clone()),
    taken("node.podCIDRs", |c| maybe(&c.node.pod_cidrs, list), |to, c| to.node.pod_cidrs = c.node.pod_cidrs.clone()),
    taken("node.labels", |c| maybe(&c.node.labels, pairs), |to, c| to.node.labels = c.node.labels.clone()),
    taken(
        "services.nodePortAddresses",
        |c| node_port_addresses(&c.services.node_port_addresses),
        |to, c| to.services.node_port_addresses = c.services.node_port_addresses.clone(),
    ),
    taken(
        "services.serviceCIDRs",
        |c| list(&c.services.service_cidrs),
        |to, c| to.services.service_cidrs = c.services.service_cidrs.clone(),
    ),
    taken(
        "services.masqueradeAll",
        |c| c.services.masquerade_all.to_string(),
        |to, c| to.services.masquerade_all = c.services.masquerade_all,
    ),
    taken(
        "services.weights.zones",
        |c| pairs(&c.services.weights.zones),
        |to, c| Arc::make_mut(&mut to.services.weights).zones.clone_from(&c.services.weights.zones),
    ),
    taken(
        "services.weights.nodes",
        |c| pairs(&c.services.weights.nodes),
        |to, c| Arc::make_mut(&mut to.services.weights).nodes.clone_from(&c.services.weights.nodes),
    ),
    restart("network", |c| maybe(&c.network, brief)),
    taken("interfaces", |c| list(c.interfaces.iter().map(|interface| &interface.name)), take_interfaces),
    restart("workers.cpus", |c| maybe(&c.workers.cpus, list)),
    restart("workers.poll", |c| c.workers.poll.label().to_owned()),
    taken("snat.addresses", |c| list(&c.snat.addresses), |to, c| to.snat.addresses = c.snat.addresses.clone()),
    // Flows hold ports of the shares that the workers were given, and a port names its worker.
    restart("snat.ports", |c| match c.snat.ports_are_free {
        true => value::AUTO.to_owned(),
        false => c.snat.ports.to_string(),
    }),
    // Every Service that the new mode does not suit would be refused at once, and its flows end.
    restart("forwarding", |c| c.forwarding.label().to_owned()),
    restart("flows.perWorker", |c| c.flows.per_worker.to_string()),
    taken("flows.synRescue", |c| c.flows.syn_rescue.to_string(), |to, c| to.flows.syn_rescue = c.flows.syn_rescue),
    taken(
        "flows.timeouts.tcpEstablished",
        |c| duration(c.flows.timeouts.tcp_established),
        |to, c| to.flows.timeouts.tcp_established = c.flows.timeouts.tcp_established,
    ),
    taken(
        "flows.timeouts.tcpHalfOpen",
        |c| duration(c.flows.timeouts.tcp_half_open),
        |to, c| to.flows.timeouts.tcp_half_open = c.flows.timeouts.tcp_half_open,
    ),
    taken(
        "flows.timeouts.udp",
        |c| duration(c.flows.timeouts.udp),
        |to, c| to.flows.timeouts.udp = c.flows.timeouts.udp,
    ),
    taken(
        "flows.timeouts.udpUnreplied",
        |c| duration(c.flows.timeouts.udp_unreplied),
        |to, c| to.flows.timeouts.udp_unreplied = c.flows.timeouts.udp_unreplied,
    ),
    restart("state", |c| plain::path(&c.state)),
    restart("whenDown", |c| when_down(c.when_down).to_owned()),
    taken("admin.socket", |c| plain::path(&c.admin.socket), |to, c| to.admin.socket = c.admin.socket.clone()),
    taken("admin.metrics", |c| listen(c.admin.metrics), |to, c| to.admin.metrics = c.admin.metrics),
    taken("admin.healthz", |c| listen(c.admin.healthz), |to, c| to.admin.healthz = c.admin.healthz),
    taken("metrics.services", |c| list(&c.measured), |to, c| to.measured.clone_from(&c.measured)),
    taken("log", |c| c.log.clone(), |to, c| to.log.clone_from(&c.log)),
];

type ShowInterface = fn(&InterfaceConfig) -> &'static str;

/// Keys of the items of `interfaces`: an interface that is kept keeps how it is attached, since attaching anew loses packets.
static INTERFACE_KEYS: &[(&str, ShowInterface)] = &[
    ("xdp", |interface| interface.xdp.label()),
    ("zeroCopy", |interface| interface.zero_copy.label()),
    ("rss", |interface| rss(interface.rss)),
];

impl Config {
    /// What differs in `wanted`, key by key, and whether a running instance takes it.
    pub fn changes(&self, wanted: &Config) -> Vec<Change> {
        let mut changes = Vec::new();
        for key in KEYS {
            let [from, to] = [self, wanted].map(key.show);
            if from != to {
                changes.push(Change { key: key.name.to_owned(), from, to, fate: self.fate(key) });
            }
        }
        for interface in &wanted.interfaces {
            let Some(kept) = self.interfaces.iter().find(|kept| kept.name == interface.name) else { continue };
            for (key, show) in INTERFACE_KEYS {
                let [from, to] = [kept, interface].map(|interface| show(interface).to_owned());
                if from != to {
                    let key = format!("interfaces[{}].{key}", interface.name);
                    changes.push(Change { key, from, to, fate: Fate::Restart });
                }
            }
        }
        // Two networks that look alike in brief.
        if self.network != wanted.network && !changes.iter().any(|change| change.key == "network") {
            let [from, to] = ["as before".to_owned(), "other contents".to_owned()];
            changes.push(Change { key: "network".into(), from, to, fate: Fate::Restart });
        }
        changes
    }

    /// This configuration with everything of `wanted` that a running instance takes.
    #[must_use]
    pub fn with(&self, wanted: &Config) -> Config {
        let mut config = self.clone();
        for key in KEYS {
            if let (Some(take), Fate::InForce) = (key.taken, self.fate(key)) {
                take(&mut config, wanted);
            }
        }
        config
    }

    /// Interfaces of a configured network are numbered once.
    fn fate(&self, key: &Key) -> Fate {
        if key.name == "interfaces" && self.network.is_some() { Fate::Restart } else { key.fate() }
    }
}

fn take_interfaces(to: &mut Config, wanted: &Config) {
    let kept = |interface: &InterfaceConfig| {
        let before = to.interfaces.iter().find(|kept| kept.name == interface.name);
        before.unwrap_or(interface).clone()
    };
    to.interfaces = wanted.interfaces.iter().map(kept).collect();
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(", "))
}

fn rss(mode: RssMode) -> &'static str {
    match mode {
        RssMode::Auto => "auto",
        RssMode::Leave => "leave",
    }
}

fn maybe<'v, T>(value: &'v Option<T>, show: impl Fn(&'v T) -> String) -> String {
    value.as_ref().map_or_else(|| "not given".to_owned(), show)
}

fn pairs<T: Display>(pairs: &BTreeMap<String, T>) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn brief(network: &super::NetworkConfig) -> String {
    let [interfaces, routes, neighbors] =
        [network.interfaces.len(), network.routes.len(), network.neighbors.len()].map(|count| count.to_string());
    format!("{interfaces} interfaces, {routes} routes, {neighbors} neighbors")
}

fn source(source: &Source) -> String {
    match source {
        Source::Files(paths) => format!("files {}", list(paths.iter().map(|path| plain::path(path)))),
        Source::Kubernetes { kubeconfig: None, .. } => "kubernetes".to_owned(),
        Source::Kubernetes { kubeconfig: Some(file), context } => {
            let context = context.as_ref().map_or_else(String::new, |context| format!(", context {context}"));
            format!("kubernetes, kubeconfig {}{context}", plain::path(file))
        }
    }
}

fn node_port_addresses(addresses: &NodePortAddresses) -> String {
    let primary = addresses.primary || addresses.cidrs.is_empty();
    let words = primary.then(|| "primary".to_owned()).into_iter();
    list(words.chain(addresses.cidrs.iter().map(ToString::to_string)))
}

fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
}

fn listen(address: Option<std::net::SocketAddr>) -> String {
    address.map_or_else(|| "off".to_owned(), |address| address.to_string())
}

fn when_down(when_down: WhenDown) -> &'static str {
    match when_down {
        WhenDown::Hold => "hold",
        WhenDown::Pass => "pass",
    }
}

#[cfg(test)]
mod tests;
