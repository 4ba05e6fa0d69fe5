//! The task that follows the kernel and publishes networks.

mod glance;
mod reading;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shared::network::Interface;
use ringway_shared::sharing::ShardedMap;
use ringway_shared::{InterfaceId, Network};
use tokio::sync::{mpsc, watch};

use self::glance::Glances;
use super::NetworkError;
use super::attachments::Attachments;
use super::errands::{self, Errands};
use super::kernel::{Event, Kernel};
use super::labels::Labels;
use super::neighbors::Neighbors;
use super::next_hops::{NextHops, routers};
use super::picture::Picture;
use super::primary::PrimaryAddresses;
use super::queues::Queues;
use super::settings::Filters;
use super::stale::Stale;
use super::survey::{Survey, Tables};
use crate::config::InterfacePattern;
use crate::pace::{Pace, sleep_until};
use crate::report::neighbors::NeighborReport;
use crate::watch::heart;

/// Messages of the kernel and questions of workers that one turn of the loop takes in, so that others have theirs.
const TURN: usize = 1024;
/// How often the next hops are looked at that packets left by.
const SWEEP: Duration = Duration::from_secs(1);
/// Networks whose marks are still to be looked at; more of them are looked at early.
const RECENT: usize = 8;
/// The pause before a broken netlink socket is opened again.
const REOPEN: Duration = Duration::from_millis(200);

/// Follows one network namespace.
pub(super) struct Watcher {
    kernel: Kernel,
    errands: Errands,
    attachments: Attachments,
    patterns: watch::Receiver<Vec<InterfacePattern>>,
    unattached: watch::Receiver<BTreeSet<InterfaceId>>,
    requests: mpsc::Receiver<(InterfaceId, IpAddr)>,
    endpoints: watch::Receiver<ShardedMap<IpAddr, u32>>,
    next_hops: NextHops,
    node_addresses: watch::Sender<Arc<[IpAddr]>>,
    primary: PrimaryAddresses,
    tables: Tables,
    interfaces: Vec<Interface>,
    numbers: HashMap<u32, InterfaceId>,
    survey: Survey,
    neighbors: Neighbors,
    filters: Filters,
    queues: Queues,
    stale: Stale,
    glances: Glances,
    changed: bool,
    reading: Pace,
    building: Pace,
    picture: Picture,
    generation: u32,
    // Those that workers use or used since the last sweep, the newest last.
    recent: Vec<Arc<Network>>,
    next_sweep: Instant,
    notes: watch::Sender<Arc<NeighborReport>>,
}

impl Watcher {
    /// Reads all tables.
    pub(super) async fn start(
        kernel: Kernel,
        (mut patterns, unattached): (watch::Receiver<Vec<InterfacePattern>>, watch::Receiver<BTreeSet<InterfaceId>>),
        requests: mpsc::Receiver<(InterfaceId, IpAddr)>,
        endpoints: watch::Receiver<ShardedMap<IpAddr, u32>>,
        node_addresses: watch::Sender<Arc<[IpAddr]>>,
        notes: watch::Sender<Arc<NeighborReport>>,
    ) -> Result<(Self, Arc<Network>), NetworkError> {
        let listed = patterns.borrow_and_update().clone();
        let mut watcher = Watcher {
            errands: errands::run(kernel.resolver()),
            kernel,
            attachments: Attachments::new(listed),
            patterns,
            unattached,
            requests,
            endpoints,
            next_hops: NextHops::default(),
            node_addresses,
            primary: PrimaryAddresses::default(),
            tables: Tables::default(),
            interfaces: Vec::new(),
            numbers: HashMap::new(),
            survey: Survey::default(),
            neighbors: Neighbors::default(),
            filters: Filters::default(),
            queues: Queues::follow(),
            stale: Stale::ALL,
            glances: Glances::new(),
            changed: true,
            reading: Pace::new(),
            building: Pace::new(),
            picture: Picture::default(),
            generation: 0,
            recent: Vec::new(),
            next_sweep: Instant::now(),
            notes,
        };
        watcher.read(None).await?;
        let first = watcher.build().map(Arc::new).unwrap_or_default();
        watcher.use_network(&first);
        watcher.changed = false;
        Ok((watcher, first))
    }

    /// Publishes until nobody listens any more.
    pub(super) async fn run(mut self, networks: watch::Sender<Arc<Network>>) {
        let mut asking = true;
        let heart = heart("the network");
        loop {
            heart.beat();
            // Whatever is always ready must not keep everything else from its turn.
            tokio::task::yield_now().await;
            let now = Instant::now();
            if self.glances.due().is_some_and(|due| now >= due) {
                self.glance(&networks).await;
            }
            if self.stale.any() && now >= self.reading.not_before() {
                if let Err(error) = self.read(Some(&networks)).await {
                    tracing::warn!("{error}; trying again");
                    self.reopen().await;
                }
                // What changed meanwhile has arrived by now, and may make the reading stale again.
                self.hear_what_is_there();
                continue;
            }
            self.changed |= self.neighbors.expire(now);
            if self.changed && now >= self.building.not_before() {
                self.changed = false;
                self.publish(&networks);
                self.building.done(now);
            }
            if now >= self.next_sweep {
                self.sweep(now);
                self.look();
            }
            for errand in self.neighbors.errands(now) {
                let _ = self.errands.try_send(errand);
            }
            let deadline = self.deadline();
            tokio::select! {
                event = self.kernel.next() => match event {
                    Some(event) => {
                        self.hear(event);
                        self.hear_what_is_there();
                    }
                    None => {
                        tracing::warn!("the netlink socket broke; opening it again");
                        self.reopen().await;
                    }
                },
                changed = self.endpoints.changed(), if asking => match changed {
                    Ok(()) => {
                        let network = networks.borrow().clone();
                        self.keep(&network);
                    }
                    Err(_) => asking = false,
                },
                Some(question) = self.requests.recv() => {
                    self.ask(question);
                    for _ in 0..TURN {
                        let Ok(question) = self.requests.try_recv() else { break };
                        self.ask(question);
                    }
                }
                Ok(()) = self.patterns.changed() => {
                    self.attachments.set(self.patterns.borrow_and_update().clone());
                    self.stale.links = true;
                }
                Ok(()) = self.unattached.changed() => self.changed = true,
                () = self.queues.changed() => self.changed = true,
                () = sleep_until(deadline) => {}
                () = heart.rest() => {}
                () = networks.closed() => return,
            }
        }
    }

    /// When there is something to do even if nothing happens.
    fn deadline(&self) -> Option<Instant> {
        let reading = self.stale.any().then_some(self.reading.not_before());
        let building = self.changed.then_some(self.building.not_before());
        [reading, building, self.glances.due(), self.neighbors.next_due(), Some(self.next_sweep)]
            .into_iter()
            .flatten()
            .min()
    }

    fn hear_what_is_there(&mut self) {
        for _ in 0..TURN {
            let Some(event) = self.kernel.ready() else { break };
            self.hear(event);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Link(index) => {
                (self.stale.links, self.stale.addresses, self.stale.routes) = (true, true, true);
                self.stale.settings = true;
                self.glances.want(index);
            }
            Event::Settings => self.stale.settings = true,
            Event::Address => (self.stale.addresses, self.stale.routes) = (true, true),
            Event::Route => self.stale.routes = true,
            Event::Neighbor(change) => {
                // Most of what is told about neighbours changes nothing for packets.
                self.changed |= self.neighbors.apply(change, Instant::now());
            }
            Event::Overrun => {
                tracing::debug!("netlink messages were lost in a storm; reading every table again");
                self.stale = Stale::ALL;
            }
        }
    }

    async fn reopen(&mut self) {
        tokio::time::sleep(REOPEN).await;
        match Kernel::open() {
            Ok(kernel) => {
                self.errands = errands::run(kernel.resolver());
                self.kernel = kernel;
                self.stale = Stale::ALL;
            }
            Err(error) => tracing::warn!("cannot open a netlink socket: {error}"),
        }
    }

    /// The network, if it differs from the last one.
    fn build(&mut self) -> Option<Network> {
        self.tell_node_addresses();
        let usable = self.neighbors.usable(Instant::now());
        let mut neighbors: Vec<_> = usable
            .filter_map(|((link, address), mac)| self.numbers.get(&link).map(|interface| (*interface, address, mac)))
            .collect();
        neighbors.sort_unstable();
        let interfaces = self.interfaces.clone();
        let reverse_paths = self.filters.of(&interfaces);
        let queue_choices = self.queues.of(&interfaces);
        let survey = self.survey.clone();
        let unattached = self.unattached.borrow_and_update().clone();
        let picture = Picture { interfaces, survey, reverse_paths, queue_choices, neighbors, unattached };
        if picture == self.picture {
            return None;
        }
        self.picture = picture;
        self.generation = self.generation.wrapping_add(1);
        Some(self.picture.network(self.generation, self.recent.last()))
    }

    /// The addresses of the interfaces that the default routes leave by, attached or not.
    fn tell_node_addresses(&mut self) {
        let addresses = self.primary.choose(&self.survey.default_links, &self.tables.addresses);
        self.node_addresses.send_if_modified(|known| {
            let changed = **known != *addresses;
            if changed {
                *known = addresses.into();
            }
            changed
        });
    }

    /// Goes on to a network that workers will use.
    fn use_network(&mut self, network: &Arc<Network>) {
        if self.recent.len() >= RECENT {
            self.sweep(Instant::now());
        }
        if self.recent.last().is_none_or(|last| !last.has_same_routes(network)) {
            self.neighbors.set_routers(routers(network));
        }
        self.recent.push(network.clone());
        self.keep(network);
    }

    /// Takes the marks of what packets left by: those next hops are kept confirmed.
    fn sweep(&mut self, now: Instant) {
        // Networks are older than links, and a device that is gone is not to be looked for on again.
        let is_here = |index| self.tables.links.iter().any(|link| link.index == index);
        for network in &self.recent {
            for (interface, address) in network.take_used() {
                let interface = network.interface(interface);
                if let Some(interface) = interface.filter(|interface| interface.up && is_here(interface.index)) {
                    self.neighbors.note_use((interface.index, address), now);
                }
            }
        }
        let older = self.recent.len().saturating_sub(1);
        self.recent.drain(..older);
        self.next_sweep = now + SWEEP;
        let name = |index| self.tables.links.iter().find(|link| link.index == index).map_or("?", |link| &*link.name);
        let report = self.neighbors.overview(now).report(name, now);
        self.notes.send_if_modified(|last| {
            let differs = **last != report;
            if differs {
                *last = Arc::new(report);
            }
            differs
        });
    }

    /// Looks for what the kernel does not tell: whether labels changed, what a bond decided.
    fn look(&mut self) {
        let read = self.kernel.asker.as_mut().map(Labels::read);
        self.stale.routes |= matches!(read, Some(Ok(labels)) if labels != self.tables.labels);
        self.look_again_at_layers();
    }

    /// Keeps the next hops of all endpoints resolved.
    fn keep(&mut self, network: &Arc<Network>) {
        let endpoints = self.endpoints.borrow_and_update().clone();
        let changes = self.next_hops.advance(network, endpoints);
        self.neighbors.keep(&changes.new, &changes.gone, Instant::now());
    }

    /// A worker has packets for this neighbour.
    fn ask(&mut self, (interface, address): (InterfaceId, IpAddr)) {
        let up = self.picture.interfaces.get(usize::from(interface.0)).filter(|interface| interface.up);
        if let Some(interface) = up {
            self.neighbors.request((interface.index, address), Instant::now());
        }
    }
}
