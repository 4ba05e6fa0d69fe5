//! The start of a run, step by step, each with its own error.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway_dataplane::af_xdp::Device as KernelDevice;
use ringway_dataplane::af_xdp::program::SteeringProgram;
use ringway_dataplane::direct::DirectConnections;
use ringway_dataplane::resolver::Resolver;
use ringway_shared::Network;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::sync::watch as latest;

use super::descriptors::{self, Shares};
use super::error::RunError;
use super::health::{self, Health, Known, Tasks};
use super::interfaces::{Interfaces, lock};
use super::placement::{Device, Placement, allowed_cpus};
use super::privileges;
use super::steering::SharedSteering;
use super::workers::{Workers, packet_memory, ports_per_worker, wake_all};
use crate::admin::{self, Admin, SocketFile};
use crate::compile::CompileOptions;
use crate::config::Config;
use crate::door::guests::Guests;
use crate::network::NetworkWatch;
use crate::publish::{Publication, PublishOptions, Published};
use crate::report::neighbors::NeighborReport;
use crate::source::health::SourceHealth;
use crate::source::{Objects, Source};
use crate::watch::thread::Watch;
use crate::watch::{self, Heart};

/// How often the address for metrics is tried again.
const METRICS_RETRY: Duration = Duration::from_secs(5);

/// Where others ask this process: the health checks and the admin socket. Taken before anything else is touched, since
/// another process may have them.
pub(super) struct Doors {
    healthz: Option<TcpListener>,
    socket: UnixListener,
    socket_file: SocketFile,
}

impl Doors {
    /// Listens. Who comes before [`Running::serve`] waits.
    pub(super) fn open(config: &Config) -> Result<Self, RunError> {
        let listen = |address| health::listen("admin.healthz", address);
        let healthz = config.admin.healthz.map(listen).transpose()?;
        let (socket, socket_file) = admin::listen(&config.admin.socket)
            .map_err(|error| RunError::AdminSocket { path: config.admin.socket.clone(), error })?;
        Ok(Doors { healthz, socket, socket_file })
    }
}

/// Everything that runs, but for the task that publishes.
pub(super) struct Running {
    pub(super) workers: Workers,
    pub(super) interfaces: Interfaces,
    pub(super) network: latest::Receiver<Arc<Network>>,
    pub(super) published: latest::Receiver<Arc<Published>>,
    pub(super) source: SourceHealth,
    neighbors: latest::Receiver<Arc<NeighborReport>>,
    health: Arc<Health>,
    socket: Option<SocketFile>,
    hearts: Vec<Heart>,
    shares: Shares,
}

impl Running {
    /// Starts workers, attaches to interfaces. Nothing is steered until what comes second runs.
    pub(super) async fn start(
        config: &Config,
        source: Source,
    ) -> Result<(Self, Publication<SharedSteering>), RunError> {
        // Before anything is opened.
        let shares = descriptors::share();
        let resolver =
            Resolver::new().map_err(|errno| RunError::start("the queue of neighbour questions")(errno.into()))?;
        let network = match &config.network {
            Some(network) => NetworkWatch::fixed(network.build(1, &config.interfaces)),
            None => {
                let patterns = config.interfaces.iter().map(|interface| interface.name.clone()).collect();
                NetworkWatch::start(patterns, resolver.clone()).await?
            }
        };
        let (latest, neighbors) = (network.latest.clone(), network.neighbors.clone());
        let first = latest.borrow().clone();
        check_listed(config, &first)?;
        let devices = devices(&first)?;
        let placement = Placement::new(&devices, config.workers.cpus.as_deref(), &allowed_cpus())?;
        let queues: Vec<u32> = devices.iter().map(|device| device.rx).collect();
        let ports = ports_per_worker(config, &queues, placement.workers());
        let mtu = first.interfaces().iter().map(|interface| interface.mtu).max().unwrap_or(0);
        let memory = packet_memory(ports, mtu);
        let bytes = u64::from(memory.frames) * u64::from(memory.chunk_size);
        privileges::check(bytes * placement.workers() as u64)?;
        let Objects { cluster, health: source } =
            source.start(&config.node_name).map_err(RunError::start("watching the objects"))?;
        let steering = SteeringProgram::load()?;
        let direct = DirectConnections::steered_by(steering.claims());
        let steering = Arc::new(Mutex::new(steering));
        let (workers, publisher) = Workers::start(config, &placement, memory, &resolver, &direct)?;
        let mut interfaces = Interfaces::new(
            config.interfaces.clone(),
            placement,
            config.workers.poll,
            workers.handles.clone(),
            steering.clone(),
        );
        tokio::task::block_in_place(|| interfaces.follow(&first));
        check_attached(config, &interfaces)?;
        let options = PublishOptions {
            compile: CompileOptions::from_config(config),
            snat_addresses: config.snat.addresses.clone(),
            snat_ports: config.snat.ports.clone(),
        };
        let counters = workers.views.iter().map(|worker| worker.counters.clone()).collect();
        let (mesh, count) = (workers.mesh.clone(), workers.views.len() as u16);
        let wake = Box::new(move || wake_all(&mesh, count));
        let steering = SharedSteering(steering);
        let (publication, published) =
            Publication::new(options, cluster.clone(), network, steering, publisher, counters, wake);
        let known =
            Known { published: published.clone(), cluster, interfaces: interfaces.reports(), hearts: watch::hearts() };
        let health = Health::new(known, source.clone(), &config.node_name);
        let hearts = workers.hearts();
        let network = latest;
        let socket = None;
        let running =
            Running { workers, interfaces, network, published, source, neighbors, health, socket, hearts, shares };
        Ok((running, publication))
    }

    /// Answers at the doors from now on, about health from the thread that watches.
    pub(super) fn serve(&mut self, doors: Doors, config: &Config, watch: &Watch) -> Result<Tasks, RunError> {
        let mut tasks = Tasks::default();
        let (here, apart) = (Handle::current(), &watch.tasks);
        let Shares { strangers, admin: room, node_ports } = self.shares;
        let guests = Guests::new(strangers);
        if let Some(listener) = doors.healthz {
            // Its events come from the runtime that answers.
            let context = apart.enter();
            let listener = listener.into_std().and_then(TcpListener::from_std);
            drop(context);
            let listener = listener.map_err(RunError::start("the health checks"))?;
            tasks.spawn(apart, "health checks", health::serve(listener, self.health.clone(), guests.clone()));
        }
        tasks.spawn(apart, "health", self.health.clone().follow());
        let node_ports = health::node_ports::serve(self.health.clone(), guests.clone(), node_ports);
        tasks.spawn(apart, "healthCheckNodePorts", node_ports);
        self.socket = Some(doors.socket_file);
        let admin = Admin::new(
            config,
            &self.workers,
            self.interfaces.reports(),
            self.published.clone(),
            self.neighbors.clone(),
            self.source.clone(),
        );
        if let Some(address) = config.admin.metrics {
            tasks.spawn(&here, "metrics", serve_metrics(address, admin.clone(), guests));
        }
        tasks.spawn(&here, "the admin socket", admin::serve(doors.socket, admin, Guests::new(room)));
        tasks.spawn(&here, "the control thread", async { watch::heart("the control thread").waiting(pending()).await });
        Ok(tasks)
    }

    /// Lets go of everything.
    pub(super) fn end(&mut self) {
        tokio::task::block_in_place(|| {
            self.interfaces.detach_all();
            self.hearts.clear();
            let mut workers = lock(&self.workers.handles);
            workers.iter().for_each(|worker| worker.stop());
            for worker in workers.iter_mut() {
                if !worker.join() {
                    tracing::error!("worker {} panicked", worker.id);
                }
            }
        });
        self.socket = None;
    }
}

/// Serves metrics as soon as the address is to be had. Packets do not wait for that: another instance may have the port, and
/// in a namespace whose loopback interface is down there is no 127.0.0.1.
async fn serve_metrics(address: SocketAddr, admin: Arc<Admin>, guests: Arc<Guests>) {
    let mut told = false;
    let heart = watch::heart("metrics");
    loop {
        match health::listen("admin.metrics", address) {
            Ok(listener) => return heart.waiting(admin::serve_metrics(listener, admin, guests)).await,
            Err(error) if !told => tracing::warn!("no metrics, until this works: {error}"),
            Err(_) => {}
        }
        told = true;
        heart.waiting(tokio::time::sleep(METRICS_RETRY)).await;
    }
}

/// Interfaces that are named, not meant by a glob, must be there and be Ethernet.
fn check_listed(config: &Config, network: &Network) -> Result<(), RunError> {
    for (place, listed) in config.interfaces.iter().enumerate().filter(|(_, listed)| !listed.name.is_glob()) {
        let name = listed.name.as_str();
        if network.interfaces().iter().any(|interface| &*interface.name == name) {
            continue;
        }
        let name = name.to_owned();
        return Err(match KernelDevice::by_name(&name) {
            Ok(_) => RunError::NotEthernet { place, name },
            Err(_) => RunError::NoInterface { place, name, there: there() },
        });
    }
    Ok(())
}

/// The interfaces there are that could be named, for a message.
fn there() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| can_be_listed(name) && KernelDevice::by_name(name).is_ok());
    names.sort();
    names
}

/// Whether an interface of this name could be one of `interfaces`: neither loopback nor a TAP device of an instance
/// (`rw<ifindex>`).
fn can_be_listed(name: &str) -> bool {
    let is_tap = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    name != "lo" && !name.strip_prefix("rw").is_some_and(is_tap)
}

fn devices(network: &Network) -> Result<Vec<Device>, RunError> {
    let read = |interface: &ringway_shared::network::Interface| {
        let device = KernelDevice::by_name(&interface.name)?;
        let queues = device.queues()?;
        Ok(Device::read("/sys".as_ref(), &device.name, device.index, queues))
    };
    network.interfaces().iter().map(read).collect()
}

/// What was named must be attached; of what globs mean, something.
fn check_attached(config: &Config, interfaces: &Interfaces) -> Result<(), RunError> {
    let failed = |(interface, reason): (&str, &str)| {
        Err(RunError::Attach { interface: interface.to_owned(), reason: reason.to_owned() })
    };
    let named = |name: &str| config.interfaces.iter().any(|listed| listed.name.as_str() == name);
    if let Some(failure) = interfaces.failures().find(|(name, _)| named(name)) {
        return failed(failure);
    }
    match interfaces.failures().next() {
        Some(failure) if interfaces.is_empty() => failed(failure),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listed_is_not_offered() {
        let names = ["eth0", "lo", "rw2", "rw17", "rw", "rwlan0", "lo0", "bond0"];
        let offered: Vec<&str> = names.into_iter().filter(|name| can_be_listed(name)).collect();
        assert_eq!(offered, ["eth0", "rw", "rwlan0", "lo0", "bond0"]);
    }
}
