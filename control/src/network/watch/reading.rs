//! The reading of the tables that are stale. With large tables it takes long, and meanwhile links are looked at all the same: a bond
//! goes on to another member a moment after the loss of the carrier that the reading is about.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use ringway_shared::Network;
use tokio::sync::watch;

use super::Watcher;
use super::glance::Changed;
use crate::network::NetworkError;
use crate::network::labels::Labels;
use crate::network::links::Link;
use crate::network::objects::NextHopObjects;
use crate::network::survey::{Survey, Tables};
use crate::pace::sleep_until;

/// Where networks go that are published during a reading; not yet for the first.
type Networks<'a> = Option<&'a watch::Sender<Arc<Network>>>;

impl Watcher {
    /// Reads the tables that are stale.
    pub(super) async fn read(&mut self, networks: Networks<'_>) -> Result<(), NetworkError> {
        let began = Instant::now();
        let failed = |what| move |error| NetworkError { what, error };
        let stale = std::mem::take(&mut self.stale);
        let tables = self.kernel.tables();
        // Until everything is read, everything asked for is still to be done.
        let result = async {
            if stale.links {
                self.glances.seen = Changed::default();
                let links = self.meanwhile(networks, tables.links()).await.map_err(failed("links"))?;
                let is_gone = |link: &&Link| !links.iter().any(|other| other.index == link.index);
                let gone: Vec<u32> = self.tables.links.iter().filter(is_gone).map(|link| link.index).collect();
                self.tables.links = links;
                if !gone.is_empty() {
                    self.neighbors.leave(&gone);
                }
            }
            if stale.addresses {
                self.tables.addresses =
                    self.meanwhile(networks, tables.addresses()).await.map_err(failed("addresses"))?;
            }
            if stale.routes {
                self.tables.routes = self.meanwhile(networks, tables.routes()).await.map_err(failed("routes"))?;
                self.tables.rules = self.meanwhile(networks, tables.rules()).await.map_err(failed("policy rules"))?;
            }
            if stale.links || stale.addresses || stale.routes {
                self.survey(networks).await.map_err(failed("the ways of packets"))?;
                // What glances have shown since is newer than the links that were read, now or before.
                self.glances.links = self.tables.links.clone();
                let seen = self.glances.seen.clone();
                self.look_at(&seen).await.map_err(failed("links"))?;
            }
            if stale.settings {
                self.read_settings(networks).await.map_err(failed("settings of interfaces"))?;
            }
            if stale.neighbors {
                // What is heard of neighbours must come after this.
                let table = tables.neighbors().await.map_err(failed("neighbours"))?;
                self.neighbors.replace(table, Instant::now());
            }
            Ok(())
        }
        .await;
        if result.is_err() {
            self.stale |= stale;
        }
        self.changed = true;
        self.reading.done(began);
        result
    }

    /// Asks the kernel where packets go.
    async fn survey(&mut self, networks: Networks<'_>) -> io::Result<()> {
        let (interfaces, numbers) = self.attachments.interfaces(&self.tables.links, &self.tables.addresses);
        // What a glance asks for stays here.
        let (links, addresses) = (self.tables.links.clone(), self.tables.addresses.clone());
        let mut tables = std::mem::replace(&mut self.tables, Tables { links, addresses, ..Tables::default() });
        let mut asker = self.kernel.asker.take().ok_or_else(|| io::Error::other("the socket is gone"))?;
        // Some thousand questions take longer than the runtime may be held up.
        let asking = tokio::task::spawn_blocking(move || {
            tables.objects = NextHopObjects::read(&mut asker)?;
            tables.labels = Labels::read(&mut asker)?;
            let survey = Survey::make(&tables, &numbers, &interfaces, &mut asker)?;
            Ok::<_, io::Error>((tables, interfaces, numbers, asker, survey))
        });
        let asker;
        let before = self.survey.overlooked.clone();
        let asked = self.meanwhile(networks, asking).await.map_err(io::Error::other)??;
        (self.tables, self.interfaces, self.numbers, asker, self.survey) = asked;
        self.kernel.asker = Some(asker);
        self.survey.overlooked.iter().filter(|note| !before.contains(note)).for_each(|note| tracing::warn!("{note}"));
        Ok(())
    }

    /// Asks the kernel what interfaces ask of sources, in a thread of its own as well.
    async fn read_settings(&mut self, networks: Networks<'_>) -> io::Result<()> {
        let asker = self.kernel.settings.asker.take().ok_or_else(|| io::Error::other("the socket is gone"))?;
        let asking = tokio::task::spawn_blocking(move || (asker.filters(), asker));
        let (filters, asker) = self.meanwhile(networks, asking).await.map_err(io::Error::other)?;
        self.kernel.settings.asker = Some(asker);
        self.filters = filters?;
        Ok(())
    }

    /// Waits for what takes long, hears what the kernel tells, and looks at the links when something about them changes.
    async fn meanwhile<T>(&mut self, networks: Networks<'_>, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let Some(networks) = networks else { return work.await };
        let mut hears = true;
        loop {
            tokio::select! {
                done = &mut work => return done,
                event = self.kernel.next(), if hears => match event {
                    Some(event) => self.hear(event),
                    // The loop opens it again.
                    None => hears = false,
                },
                () = sleep_until(self.glances.due()) => self.glance(networks).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use ringway_shared::MacAddress;
    use ringway_shared::network::{Interface, Route, RouteTarget};
    use ringway_shared::sharing::ShardedMap;
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::InterfacePattern;
    use crate::demo::netns::{End, Namespace, veth};
    use crate::network::kernel::Kernel;
    use crate::network::stale::Stale;

    /// Runs the body with a watcher of eth0, whose peer is `uplink` of the namespace.
    fn watching(body: impl AsyncFnOnce(Watcher, watch::Sender<Arc<Network>>, Namespace)) {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return eprintln!("SKIPPED: needs root to make network namespaces");
        }
        // Their namespaces have the same names.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let [gateway, host] = ["gateway", "host"].map(|role| Namespace::create("reading", role).unwrap());
        let [near, far] =
            [(&gateway, "eth0"), (&host, "uplink")].map(|(namespace, link)| End { namespace, link, mac: None });
        veth(near, far, 1).unwrap();
        let namespace = File::open(format!("/run/netns/{}", gateway.name())).unwrap();
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_patterns, listed) = watch::channel(vec![InterfacePattern::parse("eth0").unwrap()]);
            let (_questions, requests) = mpsc::channel(1);
            let (_endpoints, wanted) = watch::channel(ShardedMap::default());
            let (own, _) = watch::channel(Arc::from([]));
            let (notes, _) = watch::channel(Arc::default());
            let (_attached, unattached) = watch::channel(BTreeSet::new());
            let listed = (listed, unattached);
            let kernel = Kernel::open().unwrap();
            let (watcher, first) = Watcher::start(kernel, listed, requests, wanted, own, notes).await.unwrap();
            assert!(first.interfaces()[0].up);
            body(watcher, watch::Sender::new(first), host).await;
        });
    }

    #[test]
    fn a_reading_that_takes_long_holds_up_no_glance() {
        watching(async |mut watcher, networks, host| {
            let mut latest = networks.subscribe();
            host.ip(&["link", "set", "uplink", "down"]).unwrap();
            // It is not done before workers know.
            let reading = latest.wait_for(|network| !network.interfaces()[0].up);
            let done = tokio::time::timeout(Duration::from_secs(10), watcher.meanwhile(Some(&networks), reading)).await;
            assert!(done.is_ok(), "the link went down, and nobody looked while tables were read");
        });
    }

    /// With thousands of interfaces it takes so long that a glance would come late.
    #[test]
    fn whoever_asks_for_settings_lets_others_have_their_turn() {
        watching(async |mut watcher, networks, _host| {
            // The only thread for what takes long does nothing before another task has had its turn.
            let (turn, wait) = std::sync::mpsc::channel();
            let occupied = tokio::task::spawn_blocking(move || wait.recv());
            let had = Arc::new(AtomicBool::new(false));
            let other = had.clone();
            tokio::spawn(async move {
                other.store(true, Ordering::Relaxed);
                turn.send(())
            });
            watcher.stale = Stale { settings: true, ..Stale::default() };
            watcher.read(Some(&networks)).await.unwrap();
            assert!(had.load(Ordering::Relaxed), "the thread did nothing else meanwhile");
            occupied.await.unwrap().unwrap();
        });
    }

    /// Not everything that glances show is told by the kernel, so that no reading of links needs to follow.
    #[test]
    fn a_reading_of_routes_alone_keeps_what_a_glance_has_shown() {
        watching(async |mut watcher, networks, host| {
            let mut latest = networks.subscribe();
            host.ip(&["link", "set", "uplink", "down"]).unwrap();
            let glanced = latest.wait_for(|network| !network.interfaces()[0].up);
            let done = tokio::time::timeout(Duration::from_secs(10), watcher.meanwhile(Some(&networks), glanced)).await;
            assert!(done.is_ok());
            watcher.stale = Stale { routes: true, ..Stale::default() };
            watcher.read(Some(&networks)).await.unwrap();
            watcher.publish(&networks);
            assert!(!networks.borrow().interfaces()[0].up);
        });
    }

    /// However many interfaces there are, one that changed costs one question.
    #[test]
    fn a_glance_asks_for_the_links_that_were_told_of() {
        watching(async |mut watcher, _networks, host| {
            host.ip(&["link", "set", "uplink", "down"]).unwrap();
            let changed = |index| {
                let mut changed = Changed::default();
                changed.add(index);
                changed
            };
            let eth0 = watcher.interfaces[0].index;
            let is_down = async {
                while watcher.kernel.link_apart(eth0).await.unwrap().unwrap().up {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), is_down).await.expect("the carrier goes");
            assert!(!watcher.look_at(&changed(eth0 + 1000)).await.unwrap() && watcher.interfaces[0].up);
            assert!(watcher.look_at(&changed(eth0)).await.unwrap() && !watcher.interfaces[0].up);
            assert!(!watcher.look_at(&changed(eth0)).await.unwrap(), "known");
        });
    }

    /// Packets left by it until it went, and the networks that say so are older than the links.
    #[test]
    fn nobody_is_looked_for_on_a_device_that_is_gone() {
        watching(async |mut watcher, networks, _host| {
            let eth0 = networks.borrow().interfaces()[0].clone();
            for (index, looked_for) in [(eth0.index + 1000, 0), (eth0.index, 1)] {
                let (id, neighbor) = (eth0.id, "192.0.2.9".parse().unwrap());
                let to = "192.0.2.0/24".parse().unwrap();
                let route = Route::new(to, RouteTarget::Out { interface: id, via: None });
                let known = [(id, neighbor, MacAddress([2; 6]))];
                let network = Network::new(1, vec![Interface { index, ..eth0.clone() }], [route], known);
                network.leave_by(network.resolve(neighbor).unwrap()).unwrap();
                watcher.recent = vec![Arc::new(network)];
                let now = Instant::now();
                watcher.sweep(now);
                assert_eq!(watcher.neighbors.errands(now + Duration::from_secs(1)).len(), looked_for, "{index}");
            }
        });
    }
}
