//! `ringway check`: validate a configuration and its objects with no NIC, and say what would be done.

mod carriage;
mod nics;
mod own_ports;
mod served;
pub(super) mod start;
mod weights;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ringway_dataplane::trace::unreachable;
use ringway_shared::Network;
use ringway_shared::snapshot::Services;
use serde::Serialize;

use self::carriage::Carriage;
use super::config_file::ConfigFile;
use super::idle::{idle, orphan};
use super::objects::Offline;
use super::table::Table;
use crate::cluster::ClusterState;
use crate::config::{Config, NodeConfig, Source, SourceKey};
use crate::daemon::check_name;
use crate::network::listing::Listing;
use crate::outcome::{Failure, Output, note};
use crate::plain;
use crate::problem::Severity;
use crate::report::snat::{node_ports_among, odd_addresses};
use crate::source::files::{self, FileSource};
use crate::source::kubernetes::Connection;
use served::{ServedPort, served};
use start::Start;

/// Where Linux lists the interfaces of this network namespace.
const INTERFACES: &str = "/sys/class/net";

/// What `ringway check` is asked.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 2 when something would not take effect as written, or when ringway run would not start here. Where the \
                  interfaces do not all exist here, or with --objects, this machine is not looked at."
)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// A file or a folder of Kubernetes manifests, in place of the configured source; may be repeated
    #[arg(long, value_name = "PATH")]
    objects: Vec<PathBuf>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: Output,
}

/// What would be done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    config: PathBuf,
    node: String,
    source: String,
    #[serde(skip)]
    reads_objects: bool,
    #[serde(skip)]
    configured: NodeConfig,
    node_addresses: Vec<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    interfaces: Vec<ListedInterface>,
    workers: String,
    snat: String,
    network: String,
    start: Start,
    services: Vec<ServedPort>,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// One item of the configuration's `interfaces`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedInterface {
    name: String,
    matches: Vec<String>,
    carried: Vec<Carriage>,
    xdp: &'static str,
    zero_copy: &'static str,
}

/// Checks, reports, and fails when there is a problem.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let source = if arguments.objects.is_empty() { SourceKey::Read } else { SourceKey::Replaced };
    let config = arguments.config.load(source)?;
    let report = report(arguments, &config)?;
    match arguments.output {
        Output::Text => write!(out, "{}", plain::lines(&report.to_string()))?,
        Output::Json => {
            let json = serde_json::to_string(&report);
            writeln!(out, "{}", json.map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?)?;
        }
    }
    out.flush()?;
    report.notes.iter().for_each(note);
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::invalid(lines_of(&report.problems))) }
}

fn report(arguments: &Arguments, config: &Config) -> Result<Report, Failure> {
    let file = arguments.config.path();
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let network = config.network.as_ref().map(|network| network.build(1, &config.interfaces));
    let here = network.as_ref().map_or_else(kernel_interfaces, names);
    let listing = if network.is_some() { Listing::default() } else { Listing::read().unwrap_or_default() };
    let (mut interfaces, mut missing) = (Vec::new(), Vec::new());
    for listed in &config.interfaces {
        let meant = |name: &&String| match &network {
            Some(_) => listed.name.matches(name),
            None => listing.is_meant(&listed.name, name),
        };
        let matches: Vec<String> = here.iter().filter(meant).cloned().collect();
        if matches.is_empty() && network.is_some() && !listed.name.is_glob() {
            problems.push(format!(
                "{}: interfaces: {} is not among network.interfaces; describe it there",
                plain::path(file),
                listed.name
            ));
        } else if matches.is_empty() && !listed.name.is_glob() {
            missing.push(listed.name.to_string());
            notes.push(format!("{} does not exist here; ringway run needs it", listed.name));
        }
        let (carried, noted) = carriage::of(&matches, &listing);
        notes.extend(noted);
        if network.is_none() {
            notes.extend(nics::notes(&matches, &listing, config));
        }
        let (xdp, zero_copy) = (listed.xdp.label(), listed.zero_copy.label());
        interfaces.push(ListedInterface { name: listed.name.to_string(), matches, carried, xdp, zero_copy });
    }
    // Where the start is not looked at as a whole, what no other machine would take either.
    if network.is_none() && (!arguments.objects.is_empty() || !missing.is_empty()) {
        let there =
            config.interfaces.iter().enumerate().filter(|(_, listed)| !missing.contains(&listed.name.to_string()));
        let unfit = there.filter_map(|(place, listed)| check_name(place, &listed.name).err());
        problems.extend(unfit.map(|error| format!("{}: {error}", plain::path(file))));
    }
    let start = match (&network, &missing[..]) {
        // That the kernel is not asked is said of the network.
        (Some(_), _) => Start::default(),
        _ if !arguments.objects.is_empty() => Start::untested("not with --objects"),
        (None, []) if interfaces.iter().all(|interface| interface.matches.is_empty()) => {
            Start::untested("no interface matches; ringway run needs one")
        }
        (None, []) => Start::here(config),
        (None, missing) => {
            let (verb, them) = if missing.len() == 1 { ("does", "it") } else { ("do", "them") };
            Start::untested(&format!("{} {verb} not exist here; ringway run needs {them}", missing.join(", ")))
        }
    };
    // Two interfaces may share a device.
    let mut told = BTreeSet::new();
    notes.retain(|note| told.insert(note.clone()));
    problems.extend(start.unmet.iter().map(|why| format!("{}: {why}", plain::path(file))));
    notes.extend(start.notes.iter().cloned());
    if network.is_none() && !config.snat.ports_are_free {
        notes.extend(own_ports::overlap(&config.snat.ports));
    }
    let reads_objects = !arguments.objects.is_empty() || matches!(config.source, Source::Files(_));
    let (source, offline) = match &config.source {
        _ if !arguments.objects.is_empty() => (listed(&arguments.objects), Offline::read(&arguments.objects, config)?),
        Source::Files(paths) => {
            (listed(paths), Offline::compile(FileSource::new(paths.clone()).cluster().clone(), config))
        }
        Source::Kubernetes { kubeconfig, context } => {
            let source = api_server(kubeconfig.as_deref(), context.as_deref()).unwrap_or_else(|error| {
                problems.push(format!("{}: {error}", plain::path(file)));
                "the Kubernetes API".to_owned()
            });
            (source, Offline::compile(ClusterState::default(), config))
        }
    };
    let paths = match &config.source {
        Source::Files(paths) if arguments.objects.is_empty() => paths,
        _ => &arguments.objects,
    };
    for path in paths.iter().filter(|path| files::has_no_manifest(path)) {
        notes.push(format!("no manifests (*.yaml, *.yml, *.json) in {}", plain::path(path)));
    }
    // Without objects there is nothing to be said about them.
    for problem in offline.problems().filter(|_| reads_objects) {
        // What is wrong with a part of an object does not take effect as written either. What is said of the node may be
        // otherwise where it runs, and of two arguments the later one is meant to count.
        let is_meant = !arguments.objects.is_empty() && problem.text == files::GIVEN_TWICE;
        let is_wrong = match problem.severity {
            Severity::Refused => true,
            Severity::Warning => problem.object.is_some() && !is_meant,
            Severity::Note => false,
        };
        let list = if is_wrong { &mut problems } else { &mut notes };
        list.push(problem.to_string());
    }
    problems.extend(offline.cluster.orphans().map(|(service, slices)| orphan(service, slices)));
    notes.extend(idle(&offline.cluster).into_iter().filter(|_| reads_objects));
    let services = &offline.compiled.services;
    if !config.snat.ports_are_free {
        notes.extend(node_ports_among(&config.snat.ports, services));
    }
    if let Some(network) = &network {
        notes.extend(unreachable_endpoints(services, network));
    }
    notes.extend(weights::unused(&config.services.weights, services).into_iter().filter(|_| reads_objects));
    notes.extend(odd_addresses(&config.snat.addresses, services, start.is_local(network.as_ref())));
    let node = &services.node;
    Ok(Report {
        config: file.to_owned(),
        node: config.node_name.to_string(),
        source,
        reads_objects,
        configured: config.node.clone(),
        node_addresses: node.addresses.iter().collect::<BTreeSet<_>>().into_iter().map(ToString::to_string).collect(),
        pod_cidrs: node.pod_cidrs.iter().map(ToString::to_string).collect(),
        interfaces,
        workers: workers(config),
        snat: snat(config),
        network: network
            .as_ref()
            .map_or("from the kernel", |_| "from the configuration; the kernel is not asked")
            .into(),
        start,
        services: served(services),
        problems,
        notes,
    })
}

fn lines_of(problems: &[String]) -> String {
    problems.iter().map(|problem| plain::line(problem)).collect::<Vec<_>>().join("\n")
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| plain::path(path)).collect::<Vec<_>>().join(", ")
}

/// Where the API server is and as whom it would be asked. It is not asked now: a check must not depend on whether it
/// happens to be up.
fn api_server(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("source.kubernetes: cannot be looked at: {error}"))?;
    let connection = runtime.block_on(Connection::open(kubeconfig, context)).map_err(|error| error.to_string())?;
    Ok(format!("the Kubernetes API at {}, as {}; not asked by check", connection.server, connection.identity))
}

fn names(network: &Network) -> Vec<String> {
    network.interfaces().iter().map(|interface| interface.name.to_string()).collect()
}

/// The interfaces of this network namespace; none where that cannot be known.
fn kernel_interfaces() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(INTERFACES) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn workers(config: &Config) -> String {
    let cpus = config.workers.cpus.as_ref();
    let cpus = cpus.map(|cpus| cpus.iter().map(ToString::to_string).collect::<Vec<_>>());
    let poll = match config.workers.poll {
        crate::config::Poll::Adaptive => "sleeping when idle",
        crate::config::Poll::Busy => "never sleeping",
    };
    match cpus {
        Some(cpus) => format!("{}, on CPU {}, {poll}", cpus.len(), cpus.join(", ")),
        None => format!("one a queue, on the NIC's NUMA node, {poll}"),
    }
}

fn snat(config: &Config) -> String {
    let addresses: Vec<String> = config.snat.addresses.iter().map(ToString::to_string).collect();
    let from = match addresses.is_empty() {
        true => "the address that Linux would choose".to_owned(),
        false => addresses.join(", "),
    };
    match config.snat.ports_are_free {
        true => format!("from {from}, all free ports"),
        false => format!("from {from}, ports {}", config.snat.ports),
    }
}

/// What would be dropped for want of a way, endpoint by endpoint.
fn unreachable_endpoints(services: &Services, network: &Network) -> Vec<String> {
    let mut said = BTreeSet::new();
    for port in services.service_ports.iter().flatten() {
        for backend in port.cluster.backends().iter().chain(port.local.backends()) {
            if let Some((error, why)) = unreachable(network, backend.address, port.forwarding) {
                said.insert(format!("{}: {why} Its packets are dropped, {}.", port.service, error.reason().label()));
            }
        }
    }
    said.into_iter().collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.problems.len(), self.start.unmet.len()) {
            (0, _) => "valid",
            (all, start) if all == start => "valid, but not for this machine as it is now",
            _ => "not valid",
        };
        writeln!(f, "{} is {verdict}\n", plain::path(&self.config))?;
        let told = |list: &[String], configured: bool| match list {
            // Without asking the API server nobody knows what it has of the node.
            [] if !self.reads_objects && !configured => format!("those of Node {}", self.node),
            [] if configured => "none".to_owned(),
            [] => "none known".to_owned(),
            list => list.join(", "),
        };
        writeln!(f, "node         {}", self.node)?;
        if !self.reads_objects {
            writeln!(f, "objects      from {}", plain::line(&self.source))?;
        }
        writeln!(f, "addresses    {}", told(&self.node_addresses, self.configured.addresses.is_some()))?;
        writeln!(f, "pod CIDRs    {}", told(&self.pod_cidrs, self.configured.pod_cidrs.is_some()))?;
        for (at, interface) in self.interfaces.iter().enumerate() {
            let heading = if at == 0 { "interfaces" } else { "" };
            let matches = match &interface.matches[..] {
                [] => "not here now".to_owned(),
                [only] if *only == interface.name => "here".to_owned(),
                several => format!("here: {}", several.join(", ")),
            };
            let carried: String = interface.carried.iter().map(|one| one.text(&interface.name)).collect();
            writeln!(
                f,
                "{heading:<12} {}: {matches}{carried}; XDP {}, zero copy {}",
                interface.name, interface.xdp, interface.zero_copy
            )?;
        }
        writeln!(f, "workers      {}", self.workers)?;
        writeln!(f, "SNAT         {}", self.snat)?;
        writeln!(f, "network      {}\n{}", self.network, self.start)?;
        if !self.reads_objects {
            return writeln!(
                f,
                "What it has of Services and of the node is told by ringway status and ringway services."
            );
        }
        if self.services.is_empty() {
            return writeln!(f, "No Services: every packet passes to the kernel.");
        }
        let mut table = Table::new(["SERVICE", "PORT", "ELIGIBLE", "FRONTENDS"]).prose();
        for port in &self.services {
            let eligible = format!("{}/{}", port.eligible, port.endpoints);
            let frontends = if port.frontends.is_empty() { "none".to_owned() } else { port.frontends.join(" ") };
            table.row([port.service.clone(), port.port.clone(), eligible, frontends]);
        }
        write!(f, "{table}")
    }
}
