//! The network as the kernel has it, watched: links, addresses, routes and neighbours become
//! [`ringway_shared::Network`].
//!
//! Routing stays the kernel's business, and so do ARP and neighbour discovery. Links, addresses and routes change rarely
//! and with side effects that the kernel does not tell (a link that goes down takes IPv4 routes along), so any such change
//! makes us read the tables again; neighbours change often and are followed one by one. After a lost message
//! everything is read again.

mod atoms;
mod attachments;
pub mod counters;
mod errands;
pub mod free_ports;
pub mod kernel;
mod labels;
mod layers;
pub mod links;
pub mod listing;
mod lowers;
pub mod neighbors;
mod next_hops;
pub mod nic;
mod objects;
mod perspectives;
mod picture;
mod primary;
pub mod programs;
mod questions;
mod queues;
mod requests;
pub mod routes;
mod rules;
mod settings;
mod sources;
mod stale;
mod survey;
mod unfit;
mod watch;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;

use ringway_dataplane::resolver::Resolver;
use ringway_shared::network::RouteTarget;
use ringway_shared::sharing::ShardedMap;
use ringway_shared::{InterfaceId, Network};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch as latest};

use crate::config::InterfacePattern;
use crate::report::neighbors::NeighborReport;
use kernel::Kernel;
use watch::Watcher;

/// A network that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} from the kernel over netlink: {error}")]
pub struct NetworkError {
    what: &'static str,
    error: io::Error,
}

/// The network, kept up to date until this is dropped.
pub struct NetworkWatch {
    /// The newest network.
    pub latest: latest::Receiver<Arc<Network>>,
    /// The addresses of the interfaces that the default routes leave by: the node's, when nothing else names any.
    pub node_addresses: latest::Receiver<Arc<[IpAddr]>>,
    /// The addresses of all endpoints, with how many there are of each; their next hops are resolved ahead of traffic.
    pub endpoints: latest::Sender<ShardedMap<IpAddr, u32>>,
    /// The neighbours in numbers, and those that do not answer.
    pub neighbors: latest::Receiver<Arc<NeighborReport>>,
    /// What Ringway attaches to; it may change. Of no effect on a network that does not.
    pub patterns: Arc<latest::Sender<Vec<InterfacePattern>>>,
    /// Where to say which interfaces Ringway should be attached to and is not. It keeps `latest` open where no task publishes.
    pub unattached: Unattached,
    // The thread that publishes ends with this.
    _watched: Option<oneshot::Sender<()>>,
}

/// Who hears which interfaces Ringway should be attached to and is not.
#[derive(Clone)]
pub enum Unattached {
    /// Whoever watches the kernel's network.
    Watched(Arc<latest::Sender<BTreeSet<InterfaceId>>>),
    /// A network in which nothing else changes.
    Fixed(Arc<latest::Sender<Arc<Network>>>),
}

impl Default for Unattached {
    fn default() -> Self {
        Unattached::Watched(Arc::new(latest::channel(BTreeSet::new()).0))
    }
}

impl Unattached {
    /// These are not attached now; all others are.
    pub fn tell(&self, interfaces: BTreeSet<InterfaceId>) {
        match self {
            Unattached::Watched(known) => drop(known.send_if_modified(|known| {
                let differs = *known != interfaces;
                *known = interfaces;
                differs
            })),
            Unattached::Fixed(network) => drop(network.send_if_modified(|network| {
                let differs = !network.unattached().iter().eq(&interfaces);
                if differs {
                    let mut next = Network::clone(network);
                    next.generation = next.generation.wrapping_add(1);
                    *network = Arc::new(next.with_unattached(interfaces));
                }
                differs
            })),
        }
    }
}

impl NetworkWatch {
    /// Reads the kernel's tables of this network namespace and watches them. `interfaces` is what Ringway attaches to;
    /// `requests` brings the neighbours that packets wait for.
    ///
    /// A thread of its own does it: whatever keeps the caller's runtime busy, workers hear at once of a bond that went on to
    /// another member.
    pub async fn start(interfaces: Vec<InterfacePattern>, requests: Arc<Resolver>) -> Result<Self, NetworkError> {
        let failed = |what| move |error| NetworkError { what, error };
        let (endpoints, wanted) = latest::channel(ShardedMap::default());
        let (own, node_addresses) = latest::channel(Arc::from([]));
        let (notes, neighbors) = latest::channel(Arc::default());
        let (patterns, listed) = latest::channel(interfaces);
        let (unattached, not_attached) = latest::channel(BTreeSet::new());
        let (begun, beginning) = oneshot::channel();
        let (watched, unwatched) = oneshot::channel::<()>();
        let watching = async move {
            let start = async {
                let kernel = Kernel::open().map_err(failed("the network"))?;
                let requests = requests::listen(requests).map_err(failed("workers' questions"))?;
                Watcher::start(kernel, (listed, not_attached), requests, wanted, own, notes).await
            };
            match start.await {
                Ok((watcher, first)) => {
                    let (sender, latest) = latest::channel(first);
                    // Whoever started this may have ended meanwhile.
                    let _ = begun.send(Ok(latest));
                    tokio::select! {
                        () = watcher.run(sender) => {}
                        _ = unwatched => {}
                    }
                }
                Err(error) => drop(begun.send(Err(error))),
            }
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed("the network"))?;
        let run = move || {
            runtime.block_on(watching);
            runtime.shutdown_background();
        };
        thread::Builder::new().name("ringway-network".into()).spawn(run).map_err(failed("the network"))?;
        let ended = |_| failed("the network")(io::Error::other("its thread has ended"));
        let latest = beginning.await.map_err(ended)??;
        let patterns = Arc::new(patterns);
        Ok(NetworkWatch {
            latest,
            node_addresses,
            endpoints,
            neighbors,
            patterns,
            unattached: Unattached::Watched(Arc::new(unattached)),
            _watched: Some(watched),
        })
    }

    /// A network that does not change but for what is attached: the one written in the configuration.
    pub fn fixed(network: Network) -> Self {
        let (_, node_addresses) = latest::channel(default_route_addresses(&network).into());
        let (sender, latest) = latest::channel(Arc::new(network));
        let (endpoints, _) = latest::channel(ShardedMap::default());
        let (_, neighbors) = latest::channel(Arc::default());
        let patterns = Arc::new(latest::channel(Vec::new()).0);
        let unattached = Unattached::Fixed(Arc::new(sender));
        NetworkWatch { latest, node_addresses, endpoints, neighbors, patterns, unattached, _watched: None }
    }
}

/// The addresses of the attached interfaces that the default routes leave by.
fn default_route_addresses(network: &Network) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for anywhere in [IpAddr::from([0u8; 4]), IpAddr::from([0u8; 16])] {
        // Only a default route matches the unspecified address.
        let Some(RouteTarget::Out { interface, .. }) = network.route(anywhere).map(|route| &route.target) else {
            continue;
        };
        let own = network.interface(*interface).into_iter().flat_map(|interface| &interface.addresses);
        for address in own.map(|net| net.addr()).filter(|address| !is_link_local(*address)) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

/// IPv6 link-local addresses mean something on one link only.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::MacAddress;
    use ringway_shared::network::{Interface, Lowers};

    #[test]
    fn a_network_of_the_configuration_knows_what_is_not_attached() {
        let eth0 = Interface {
            id: InterfaceId(0),
            name: "eth0".into(),
            index: 0,
            mac: MacAddress([2; 6]),
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers: Lowers::default(),
        };
        let watch = NetworkWatch::fixed(Network::new(7, vec![eth0], [], []));
        let mut latest = watch.latest.clone();
        let mut told = |interfaces: &[InterfaceId]| {
            watch.unattached.tell(interfaces.iter().copied().collect());
            latest.has_changed().unwrap().then(|| {
                let network = latest.borrow_and_update();
                (network.generation, network.is_way(InterfaceId(0)))
            })
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[InterfaceId(0)]), Some((8, false)));
        assert_eq!(told(&[InterfaceId(0)]), None, "it is known");
        assert_eq!(told(&[]), Some((9, true)));
    }
}
