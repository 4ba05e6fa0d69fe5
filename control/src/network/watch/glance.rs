//! A glance at the links alone, ahead of the reading of all tables that a change of a link asks for.
//!
//! A bond that goes on to another member changes no route, and its packets are lost until workers know. With large tables
//! the reading takes long, and in a storm it waits. The glance asks for the attached interfaces, what carries them and their
//! members, and for no other link, however many there are; it does not wait for a reading. A member that is new is found by the
//! reading.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_shared::Network;
use ringway_shared::network::{Interface, Lowers};
use tokio::sync::watch;

use super::Watcher;
use crate::network::links::Link;
use crate::pace::Pace;

/// The longest pause between two glances.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Links that are asked for one by one; more of them cost more than a dump.
const FEW: usize = 64;

/// When to look at the links next.
#[derive(Debug)]
pub(super) struct Glances {
    /// Something about links may have changed since the last one.
    pub(super) wanted: bool,
    /// How many there were.
    pub(super) made: u64,
    pace: Pace,
}

impl Glances {
    pub(super) fn new() -> Self {
        Glances { wanted: false, made: 0, pace: Pace::at_most(LONGEST_PAUSE) }
    }

    /// When the next one is to be, if any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.then(|| self.pace.not_before())
    }
}

impl Watcher {
    /// Looks at the links, and publishes at once where attached interfaces are carried otherwise, or are up, down or have
    /// another MAC address. Interfaces that came or went wait for the reading.
    pub(super) async fn glance(&mut self, networks: &watch::Sender<Arc<Network>>) {
        let began = Instant::now();
        self.glances.wanted = false;
        self.glances.made += 1;
        // What fails here fails in the reading as well, and is told there.
        if let Ok(true) = self.look_at_links().await {
            self.publish(networks);
        }
        self.glances.pace.done(began);
    }

    /// Takes over what the links say now of attached interfaces; false when that is known.
    pub(super) async fn look_at_links(&mut self) -> io::Result<bool> {
        let links = self.links_now().await?;
        let (interfaces, _) = self.attachments.interfaces(&links, &self.tables.addresses);
        let is_news = interfaces != self.interfaces && are_the_same(&interfaces, &self.interfaces);
        if is_news {
            self.interfaces = interfaces;
        }
        Ok(is_news)
    }

    /// The links as they are now, as far as they tell what carries attached interfaces: asked for one by one while they are few and
    /// stand on each other as they did, else all.
    async fn links_now(&self) -> io::Result<Vec<Link>> {
        let mut links = self.tables.links.clone();
        let concerned = concerned(&self.interfaces, &links);
        if concerned.len() > FEW {
            return self.kernel.links_apart().await;
        }
        for link in links.iter_mut().filter(|link| concerned.contains(&link.index)) {
            match self.kernel.link_apart(link.index).await? {
                Some(now) if stands(&now) == stands(link) => *link = now,
                _ => return self.kernel.links_apart().await,
            }
        }
        Ok(links)
    }

    /// Not everything that a bond decides is told: while a bond, a bridge or a VLAN device is attached, it is looked at again.
    pub(super) fn look_again_at_layers(&mut self) {
        let by_itself = |interface: &Interface| {
            matches!(&*interface.lowers.devices, [only] if only.index == interface.index)
                || interface.lowers == Lowers::default()
        };
        self.glances.wanted |= !self.interfaces.iter().all(by_itself);
    }

    /// Publishes the network, if it differs from the last one.
    pub(super) fn publish(&mut self, networks: &watch::Sender<Arc<Network>>) {
        if let Some(network) = self.build().map(Arc::new) {
            self.use_network(&network);
            networks.send_replace(network);
        }
    }
}

/// The links that tell what carries these interfaces: they, the devices that do, what stands between, and all members.
fn concerned(interfaces: &[Interface], links: &[Link]) -> BTreeSet<u32> {
    let own = interfaces.iter().map(|interface| interface.index).filter(|index| *index != 0);
    let lowers = interfaces.iter().flat_map(|interface| interface.lowers.devices.iter().map(|lower| lower.index));
    let mut all: BTreeSet<u32> = own.chain(lowers).collect();
    loop {
        let before = all.len();
        for link in links {
            let (below, upper) = stands(link);
            if all.contains(&link.index) {
                all.extend(below);
            }
            if upper.is_some_and(|upper| all.contains(&upper)) {
                all.insert(link.index);
            }
        }
        if all.len() == before {
            return all;
        }
    }
}

/// On what a link stands, and what stands on it as a member.
fn stands(link: &Link) -> (Option<u32>, Option<u32>) {
    (link.layer.below, link.layer.member.as_ref().map(|(upper, _)| *upper))
}

/// Whether these are the same devices, whatever their state.
fn are_the_same(some: &[Interface], others: &[Interface]) -> bool {
    let devices = |all: &[Interface]| all.iter().map(|interface| (interface.id, interface.index)).collect::<Vec<_>>();
    devices(some) == devices(others)
}

#[cfg(test)]
mod tests {
    use ringway_shared::{InterfaceId, MacAddress};

    use super::*;
    use crate::network::layers::{BondMember, Layer, Member};

    fn link(index: u32, layer: Layer) -> Link {
        Link { index, layer, ..Link::default() }
    }

    #[test]
    fn of_all_links_those_are_asked_for_that_tell_what_carries_an_interface() {
        let member = |upper| Layer { member: Some((upper, Member::Bond(BondMember::default()))), ..Layer::default() };
        let above = |below| Layer { below: Some(below), ..Layer::default() };
        // eth0 and eth1 in bond0, bond0.100 above it; another bond, and pods.
        let mut links = vec![link(2, member(5)), link(3, member(5)), link(5, Layer::default()), link(6, above(5))];
        links.extend([link(7, Layer::default()), link(8, member(7)), link(9, above(7))]);
        links.extend((100..1100).map(|index| link(index, Layer::default())));
        let of = |index| {
            let (id, mac, lowers) = (InterfaceId(0), MacAddress::default(), Lowers::default());
            let interface =
                Interface { id, name: "it".into(), index, mac, mtu: 1500, addresses: Vec::new(), up: true, lowers };
            concerned(&[interface], &links).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of(6), [2, 3, 5, 6]);
        assert_eq!(of(5), [2, 3, 5]);
        assert_eq!(of(100), [100]);
        assert!(of(0).is_empty(), "an interface that is not there");
    }
}
