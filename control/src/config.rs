//! The configuration file: every key of it, its default, and what a wrong one is told.
//!
//! A document is read in one go and every problem in it is reported, each with path, line, value and what is allowed.

mod document;
mod field;
pub mod keys;
mod network;
mod packet_path;
mod read;
mod value;
mod weights;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
pub use ringway_dataplane::af_xdp::ZeroCopy;
pub use ringway_dataplane::af_xdp::program::XdpMode;
pub use ringway_dataplane::config::Poll;
use ringway_dataplane::flow::Timeouts;
use ringway_shared::PortSet;
use ringway_shared::service::ForwardingMode;

pub use document::Position;
pub use field::Problem;
use field::{Field, Problems};
pub use network::{NetworkConfig, NetworkInterface, NetworkNeighbor, NetworkRoute};
pub use value::{InterfacePattern, ServicePattern};
pub use weights::Weights;

use crate::plain;
use crate::source::open::{self, Named, Progress};

/// The largest configuration that is read.
const MAX_BYTES: u64 = 4 << 20;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `nodeName`: this node, as `kubectl get nodes` calls it.
    pub node_name: Arc<str>,
    /// `source`: where Kubernetes objects come from.
    pub source: Source,
    /// `node`: what is said here wins over the Node object.
    pub node: NodeConfig,
    /// `services`.
    pub services: ServicesConfig,
    /// `network`: given, the kernel is not asked for interfaces, routes and neighbours.
    pub network: Option<NetworkConfig>,
    /// `interfaces`: what Ringway attaches to; at least one.
    pub interfaces: Vec<InterfaceConfig>,
    /// `workers`.
    pub workers: WorkersConfig,
    /// `snat`.
    pub snat: SnatConfig,
    /// `forwarding`: the mode of Services without an annotation of their own.
    pub forwarding: ForwardingMode,
    /// `flows`.
    pub flows: FlowsConfig,
    /// `state`: the folder for what outlives a process.
    pub state: PathBuf,
    /// `whenDown`.
    pub when_down: WhenDown,
    /// `admin`.
    pub admin: AdminConfig,
    /// `metrics.services`: the Services that have series of their own.
    pub measured: Vec<ServicePattern>,
    /// `log`: a filter as `RUST_LOG` takes it.
    pub log: String,
}

/// `source`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Kubernetes API: in-cluster unless a kubeconfig is given.
    Kubernetes {
        /// The kubeconfig file.
        kubeconfig: Option<PathBuf>,
        /// The context in it.
        context: Option<String>,
    },
    /// Files and folders of manifests.
    Files(Vec<PathBuf>),
}

/// `node`: keys that are present win whole, even empty ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's addresses; the first of each family is the primary one.
    pub addresses: Option<Vec<IpAddr>>,
    /// The local detector.
    pub pod_cidrs: Option<Vec<IpNet>>,
    /// The node's labels.
    pub labels: Option<BTreeMap<String, String>>,
}

/// `services`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicesConfig {
    /// On which of the node's addresses NodePorts are served.
    pub node_port_addresses: NodePortAddresses,
    /// Service CIDRs (rule 8), besides those of ServiceCIDR objects.
    pub service_cidrs: Vec<IpNet>,
    /// Masquerade everything that asks for a ClusterIP.
    pub masquerade_all: bool,
    /// Shares of new flows, by zone and by node.
    pub weights: Arc<Weights>,
}

/// `services.nodePortAddresses`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// The node's primary address of each family; also meant by an empty list.
    pub primary: bool,
    /// The node's addresses in these networks.
    pub cidrs: Vec<IpNet>,
}

/// One item of `interfaces`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// A name or a glob.
    pub name: InterfacePattern,
    /// How the steering program is attached.
    pub xdp: XdpMode,
    /// Whether frames are shared with the NIC.
    pub zero_copy: ZeroCopy,
    /// Whether the NIC may be told how to spread packets over its queues.
    pub rss: RssMode,
}

/// `interfaces[].rss`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RssMode {
    /// The NIC is told to spread UDP by ports, where it does not and can.
    #[default]
    Auto,
    /// The NIC is told nothing.
    Leave,
}

/// `workers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersConfig {
    /// One worker a CPU; `None` for one worker a queue, on the NIC's NUMA node.
    pub cpus: Option<Vec<usize>>,
    /// How workers wait.
    pub poll: Poll,
}

/// `snat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnatConfig {
    /// Source addresses; empty for the one that Linux would choose towards the endpoint.
    pub addresses: Vec<IpAddr>,
    /// Source ports, split between the workers.
    pub ports: PortSet,
    /// Whether the file says `auto`, or nothing: `run` takes all that are free then.
    pub ports_are_free: bool,
}

/// `flows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowsConfig {
    /// Room for so many flows in each worker's table.
    pub per_worker: u32,
    /// `flows.synRescue`: whether a client whose SYN is not answered is moved to another endpoint.
    pub syn_rescue: bool,
    /// `flows.timeouts`: when idle flows end.
    pub timeouts: Timeouts,
}

/// `whenDown`: what becomes of VIP packets while no process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// They are dropped, so that flows survive.
    #[default]
    Hold,
    /// The kernel gets them.
    Pass,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// The Unix socket that commands ask.
    pub socket: PathBuf,
    /// Where metrics are served; `None` for nowhere (`off`).
    pub metrics: Option<SocketAddr>,
    /// Where health checks are served; `None` for nowhere (`off`).
    pub healthz: Option<SocketAddr>,
}

/// The configuration file when none is named.
pub const DEFAULT_FILE: &str = "/etc/ringway/ringway.yaml";

/// The environment variable with the name of the node that a pod is on. One file serves many nodes by it.
const NODE_NAME: &str = "NODE_NAME";

/// The admin socket when nothing else is said.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/ringway/admin.sock";

impl Default for SnatConfig {
    fn default() -> Self {
        SnatConfig { addresses: Vec::new(), ports: PortSet::from(61_000..=65_535), ports_are_free: true }
    }
}

impl Default for FlowsConfig {
    fn default() -> Self {
        FlowsConfig { per_worker: 1_048_576, syn_rescue: true, timeouts: Timeouts::default() }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        AdminConfig {
            socket: DEFAULT_ADMIN_SOCKET.into(),
            metrics: Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9098)),
            healthz: Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 10256)),
        }
    }
}

impl Default for Source {
    fn default() -> Self {
        Source::Kubernetes { kubeconfig: None, context: None }
    }
}

impl Default for Config {
    /// The defaults of every key; nodeName is empty and interfaces are none, which no file may leave so.
    fn default() -> Self {
        Config {
            node_name: "".into(),
            source: Source::default(),
            node: NodeConfig::default(),
            services: ServicesConfig::default(),
            network: None,
            interfaces: Vec::new(),
            workers: WorkersConfig::default(),
            snat: SnatConfig::default(),
            forwarding: ForwardingMode::Nat,
            flows: FlowsConfig::default(),
            state: "/run/ringway".into(),
            when_down: WhenDown::Hold,
            admin: AdminConfig::default(),
            measured: Vec::new(),
            log: "info".into(),
        }
    }
}

/// Whether the `source` key is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKey {
    /// It is.
    Read,
    /// `--objects` replaces it, so it is neither read nor required.
    Replaced,
}

/// A configuration that cannot be used: all its problems, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, in the order of the file.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    /// One line a problem.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", plain::path(&self.file))?;
            if let Some(Position { line, column }) = problem.position {
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads a configuration file.
    pub fn load(file: &Path, source: SourceKey) -> Result<Self, ConfigError> {
        let text = open::text(file, Named::Itself, MAX_BYTES, &Progress::default()).map_err(|error| {
            let message = match error.kind() {
                std::io::ErrorKind::InvalidData => "not valid UTF-8".to_owned(),
                _ => format!("cannot read the configuration: {error}; name a readable file with --config"),
            };
            ConfigError { file: file.into(), problems: vec![Problem { path: String::new(), position: None, message }] }
        })?;
        Self::parse_on(std::env::var(NODE_NAME).ok().as_deref(), &text, file, source)
    }

    /// Reads a configuration from `text`; `file` is what messages call it.
    pub fn parse(text: &str, file: &Path, source: SourceKey) -> Result<Self, ConfigError> {
        Self::parse_on(None, text, file, source)
    }

    /// The same on a node of this name, which counts where the text has no `nodeName`.
    fn parse_on(name: Option<&str>, text: &str, file: &Path, source: SourceKey) -> Result<Self, ConfigError> {
        let problems = Problems::default();
        let mut config = Config::default();
        match document::load(text) {
            Err(malformed) => problems.add("", malformed.position, malformed.message),
            Ok(None) => problems.add("", None, "the file is empty; at least nodeName and interfaces must be written"),
            Ok(Some(node)) => {
                if let Some(map) = Field::root(&node, &problems).map() {
                    config.read(&map, source, name);
                    map.finish();
                }
            }
        }
        let mut problems = problems.into_inner();
        problems.sort_by_key(|problem| problem.position);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError { file: file.into(), problems }) }
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
