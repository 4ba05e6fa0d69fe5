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

use super::conditions::Plan;
use super::descriptors::{self, Shares};
use super::doorway;
use super::error::RunError;
use super::health::starting::Meanwhile;
use super::health::{self, Health, Known, Tasks};
use super::interfaces::{Interfaces, lock};
use super::nic_settings::Changes;
use super::reload::{self, Reloader};
use super::steering::SharedSteering;
use super::supervisor::News;
use super::udp_hash::UdpHash;
use super::workers::{Workers, wake_all};
use crate::admin::{self, Admin, SocketFile};
use crate::compile::CompileOptions;
use crate::config::{Config, InterfacePattern};
use crate::door::guests::Guests;
use crate::drain::keeper::Keeper;
use crate::network::listing::Listing;
use crate::network::{NetworkWatch, counters};
use crate::publish::{Publication, PublishOptions, Published};
use crate::report::neighbors::NeighborReport;
use crate::source::health::SourceHealth;
use crate::source::{Objects, Source};
use crate::watch::thread::Watch;
use crate::watch::{self, Heart};

/// How long who came by an admin socket that has moved may still be answered: the one who asked for that, above all.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many interfaces are named that are not attached.
const FEW: usize = 5;
/// How often the address for metrics is tried again.
const METRICS_RETRY: Duration = Duration::from_secs(5);

/// Where others ask this process: the health checks and the admin socket. Taken before anything else is touched, since
/// another process may have them.
pub(super) struct Listeners {
    healthz: Option<TcpListener>,
    socket: UnixListener,
    socket_file: SocketFile,
}

impl Listeners {
    /// Listens. Who comes to the socket before [`Running::serve`] waits.
    pub(super) fn open(config: &Config) -> Result<Self, RunError> {
        let listen = |address| health::listen("admin.healthz", address);
        let healthz = config.admin.healthz.map(listen).transpose()?;
        let (socket, socket_file) = admin::listen(&config.admin.socket)
            .map_err(|error| RunError::AdminSocket { path: config.admin.socket.clone(), error })?;
        Ok(Listeners { healthz, socket, socket_file })
    }

    /// Answers health checks until [`Running::serve`] does, from the thread that watches.
    pub(super) fn answer_meanwhile(&self, watch: &Watch) -> Result<Meanwhile, RunError> {
        let meanwhile = Meanwhile::answer(self.healthz.as_ref(), &watch.tasks, watch::hearts());
        meanwhile.map_err(RunError::start("the health checks"))
    }

    /// Whether [`Listeners::open`] would find them free. Nobody is listened to.
    pub(super) fn look(config: &Config) -> Result<(), RunError> {
        config.admin.healthz.map_or(Ok(()), |address| health::look("admin.healthz", address))?;
        let path = &config.admin.socket;
        admin::look(path).map_err(|error| RunError::AdminSocket { path: path.clone(), error })
    }
}

/// Everything that runs, but for the task that publishes.
pub(super) struct Running {
    pub(super) workers: Workers,
    pub(super) interfaces: Interfaces,
    pub(super) network: latest::Receiver<Arc<Network>>,
    pub(super) published: latest::Receiver<Arc<Published>>,
    pub(super) source: SourceHealth,
    drains: Arc<Keeper>,
    neighbors: latest::Receiver<Arc<NeighborReport>>,
    pub(super) patterns: Arc<latest::Sender<Vec<InterfacePattern>>>,
    pub(super) reloader: Reloader,
    pub(super) socket: Option<SocketFile>,
    health: Arc<Health>,
    udp_hash: UdpHash,
    hearts: Vec<Heart>,
    shares: Shares,
}

/// Where metrics are served.
pub(super) enum MetricsDoor {
    /// Here.
    Open(std::net::TcpListener),
    /// Here, as soon as it can be listened on.
    Wanted(SocketAddr),
}

impl From<std::net::TcpListener> for MetricsDoor {
    fn from(listener: std::net::TcpListener) -> Self {
        MetricsDoor::Open(listener)
    }
}

impl Running {
    /// Starts workers, attaches to interfaces. Nothing is steered until what comes second runs.
    pub(super) async fn start(
        config: &Config,
        source: Source,
        reloader: Reloader,
        changes: &Changes,
        watch: &Watch,
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
        let (latest, patterns) = (network.latest.clone(), network.patterns.clone());
        let neighbors = network.neighbors.clone();
        let first = latest.borrow().clone();
        let plan = Plan::make(config, &first)?;
        plan.check_privileges()?;
        plan.check_limits(config)?;
        plan.look(config, &first)?;
        let Plan { placement, memory, rings, .. } = plan;
        let Objects { cluster, health: source } =
            source.start(&config.node_name).map_err(RunError::start("watching the objects"))?;
        let mut steering = SteeringProgram::load()?;
        steering.set_snat_ports(&config.snat.ports)?;
        let direct = DirectConnections::steered_by(steering.claims());
        let left_fragments = steering.left_fragments();
        let steering = Arc::new(Mutex::new(steering));
        let (mut workers, publisher) = Workers::start(config, &placement, memory, &resolver, &direct)?;
        workers.left_fragments = Some(left_fragments);
        let mut interfaces = Interfaces::new(
            changes.clone(),
            config.interfaces.clone(),
            placement,
            config.workers.poll,
            workers.handles.clone(),
            steering.clone(),
            memory,
        );
        interfaces.follow_meanwhile(latest.clone(), watch.drivers.clone());
        interfaces.tell_network(network.unattached.clone());
        interfaces.usual = rings;
        interfaces.begin(reloader.supervisor.clone());
        tokio::task::block_in_place(|| interfaces.follow(&first));
        interfaces.have_begun();
        check_attached(config, &interfaces, watch.drivers.is_end())?;
        let options = PublishOptions {
            compile: CompileOptions::from_config(config),
            snat_addresses: config.snat.addresses.clone(),
        };
        let counters = workers.views.iter().map(|worker| worker.counters.clone()).collect();
        let (mesh, count) = (workers.mesh.clone(), workers.views.len() as u16);
        let wake = Box::new(move || wake_all(&mesh, count));
        let steering = SharedSteering(steering);
        let (publication, published) =
            Publication::new(options, cluster.clone(), network, steering, publisher, counters, wake);
        let drains = Keeper::read(&config.state);
        let publication = publication.following(reloader.resettings.subscribe(), drains.watch());
        let known =
            Known { published: published.clone(), cluster, interfaces: interfaces.reports(), hearts: watch::hearts() };
        let health = Health::new(known, source.clone(), &config.node_name);
        let hearts = workers.hearts();
        let (network, socket) = (latest, None);
        let running = Running {
            workers,
            interfaces,
            network,
            published,
            source,
            drains,
            neighbors,
            patterns,
            reloader,
            socket,
            health,
            udp_hash: UdpHash::new(changes.clone()),
            hearts,
            shares,
        };
        Ok((running, publication))
    }

    /// Answers who comes by the listeners from now on, about health from the thread that watches.
    pub(super) fn serve(
        &mut self,
        listeners: Listeners,
        config: &Config,
        watch: &Watch,
        news: News,
    ) -> Result<Tasks, RunError> {
        let mut tasks = Tasks::default();
        let (here, apart) = (Handle::current(), &watch.tasks);
        let Shares { strangers, admin: room, node_ports } = self.shares;
        let guests = Guests::new(strangers);
        let (healthz, health_listeners) = doorway::doorway();
        let (metrics, metrics_listeners) = doorway::doorway();
        let (socket, sockets) = doorway::doorway();
        let listener = listeners.healthz.map(TcpListener::into_std).transpose();
        // There is room for one each.
        let _ = healthz.try_send(listener.map_err(RunError::start("the health checks"))?);
        let _ = metrics.try_send(config.admin.metrics.map(MetricsDoor::Wanted));
        let _ = socket.try_send(Some(listeners.socket));
        self.reloader.moving = Some(reload::MovingListeners { healthz, metrics, socket });
        let (health, strangers) = (self.health.clone(), guests.clone());
        let answer = move |listener| serve_health(listener, health.clone(), strangers.clone());
        tasks.spawn(apart, "health checks", doorway::serve(health_listeners, Duration::ZERO, answer));
        tasks.spawn(apart, "health", self.health.clone().follow());
        let node_ports = health::node_ports::serve(self.health.clone(), guests.clone(), node_ports);
        tasks.spawn(apart, "healthCheckNodePorts", node_ports);
        self.socket = Some(listeners.socket_file);
        let (reports, count) = (self.interfaces.reports(), self.workers.views.len());
        let telling = self.udp_hash.clone().follow(reports, self.reloader.loaded(), count);
        tasks.spawn(&here, "UDP hash of NICs", telling);
        let (interfaces, counting) = counters::count(self.interfaces.reports());
        self.interfaces.count_by(interfaces.sums());
        tasks.spawn(&here, "interface counters", counting);
        let admin = Admin::new(
            self.reloader.loaded(),
            (self.reloader.reloads(), self.drains.clone()),
            &self.workers,
            interfaces,
            self.published.clone(),
            self.neighbors.clone(),
            self.source.clone(),
        );
        tasks.spawn(&here, "drained endpoints", self.drains.clone().follow(self.published.clone()));
        tasks.spawn(&here, "the use of SNAT ports", admin.clone().follow_ports());
        let scraped = admin.clone();
        let answer = move |door| serve_metrics(door, scraped.clone(), guests.clone());
        tasks.spawn(&here, "metrics", doorway::serve(metrics_listeners, Duration::ZERO, answer));
        let room = Guests::new(room);
        let answer = move |socket| admin::serve(socket, admin.clone(), room.clone());
        tasks.spawn(&here, "the admin socket", doorway::serve(sockets, FAREWELL, answer));
        tasks.spawn(&here, "the control thread", async { watch::heart("the control thread").waiting(pending()).await });
        let supervisor = self.reloader.supervisor.clone();
        supervisor.ready();
        tasks.spawn(apart, "the word to the supervisor", supervisor.follow(news, self.health.clone()));
        Ok(tasks)
    }

    /// Lets go of everything.
    pub(super) fn end(&mut self) {
        tokio::task::block_in_place(|| {
            self.interfaces.detach_all();
            self.udp_hash.end();
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

/// Serves health checks. The listener's events come from the runtime that answers.
async fn serve_health(listener: std::net::TcpListener, health: Arc<Health>, guests: Arc<Guests>) {
    match TcpListener::from_std(listener) {
        Ok(listener) => health::serve(listener, health, guests).await,
        Err(error) => tracing::error!("health checks: {error}"),
    }
}

/// Serves metrics as soon as the address is to be had. Packets do not wait for that: another instance may have the port, and
/// in a namespace whose loopback interface is down there is no 127.0.0.1.
async fn serve_metrics(door: MetricsDoor, admin: Arc<Admin>, guests: Arc<Guests>) {
    let address = match door {
        MetricsDoor::Open(listener) => match TcpListener::from_std(listener) {
            Ok(listener) => {
                return watch::heart("metrics").waiting(admin::serve_metrics(listener, admin, guests)).await;
            }
            Err(error) => return tracing::error!("metrics: {error}"),
        },
        MetricsDoor::Wanted(address) => address,
    };
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

/// An interface that is named, not meant by a glob, must be there and be one that Ringway can be attached to.
pub(crate) fn check_name(place: usize, name: &InterfacePattern) -> Result<(), RunError> {
    if name.is_glob() {
        return Ok(());
    }
    if KernelDevice::by_name(name.as_str()).is_ok() {
        let unfit = |why| Err(RunError::Unfit { place, name: name.as_str().to_owned(), why });
        // A kernel that cannot be asked is told by those who need its answer.
        return Listing::read().unwrap_or_default().why_not(name.as_str()).map_or(Ok(()), unfit);
    }
    Err(RunError::NoInterface { place, name: name.as_str().to_owned(), there: there() })
}

/// The interfaces there are that could be named, for a message.
pub(super) fn there() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let listing = Listing::read().unwrap_or_default();
    names.retain(|name| can_be_listed(name) && listing.why_not(name).is_none() && KernelDevice::by_name(name).is_ok());
    names.sort();
    names
}

/// Whether an interface of this name could be one of `interfaces`: neither loopback nor a TAP device of an instance
/// (`rw<ifindex>`).
fn can_be_listed(name: &str) -> bool {
    let is_tap = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    name != "lo" && !name.strip_prefix("rw").is_some_and(is_tap)
}

/// Something must be attached. What could not be is tried again while the rest is served: a NIC that another process has for a
/// while is no reason to take the others away from everybody, again and again. `is_end`: whether this is no start any more.
fn check_attached(config: &Config, interfaces: &Interfaces, is_end: bool) -> Result<(), RunError> {
    let named = |name: &str| config.interfaces.iter().any(|listed| listed.name.as_str() == name);
    let first = interfaces.failures().find(|(name, _)| named(name)).or_else(|| interfaces.failures().next());
    match first {
        Some((interface, reason)) if is_end || interfaces.is_empty() => {
            Err(RunError::Attach { interface: interface.to_owned(), reason: reason.into_owned() })
        }
        Some(_) => {
            // A link that went meanwhile is tried again by nobody, unless it is named.
            let is_there = |name: &&str| named(name) || KernelDevice::by_name(name).is_ok();
            let failed: Vec<&str> = interfaces.failures().map(|(name, _)| name).filter(is_there).collect();
            let names: Vec<&str> = failed.iter().take(FEW).copied().collect();
            if names.is_empty() {
                return Ok(());
            }
            let more = match failed.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            tracing::warn!(
                "starting without {}{more}: tried again after 1 s, 2 s, 4 s … up to a minute; `ringway status` says why",
                names.join(", ")
            );
            Ok(())
        }
        None => Ok(()),
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
