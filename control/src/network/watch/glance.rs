//! A glance at the links alone, ahead of the reading of all tables that a change of a link asks for.
//!
//! A bond that goes on to another member changes no route, and its packets are lost until workers know. With large tables
//! the reading takes long, and in a storm it waits. The glance asks for the links that the kernel has told of, as far as they carry
//! attached interfaces, are those, or members of them, and for no other link, however many there are; it does not wait for a reading.
//! A member that is new is found by the reading.

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

/// Links whose changes are told apart; after more of them all are looked at.
const TOLD_APART: usize = 8192;

/// Links of which something may have changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    indexes: BTreeSet<u32>,
    all: bool,
}

impl Changed {
    pub(super) fn add(&mut self, index: u32) {
        self.all |= !self.indexes.contains(&index) && self.indexes.len() >= TOLD_APART;
        if !self.all {
            self.indexes.insert(index);
        }
    }

    fn any(&self) -> bool {
        self.all || !self.indexes.is_empty()
    }
}

/// What is to be looked at, and when.
#[derive(Debug)]
pub(super) struct Glances {
    /// What has changed since the last one.
    wanted: Changed,
    /// What was looked at since all links were read.
    pub(super) seen: Changed,
    /// The links as they were read, or looked at since.
    pub(super) links: Vec<Link>,
    pace: Pace,
}

impl Glances {
    pub(super) fn new() -> Self {
        let (wanted, seen, links) = Default::default();
        Glances { wanted, seen, links, pace: Pace::at_most(LONGEST_PAUSE) }
    }

    /// Something about a link may have changed.
    pub(super) fn want(&mut self, index: u32) {
        self.wanted.add(index);
    }

    /// When the next one is to be, if any.
    pub(super) fn due(&self) -> Option<Instant> {
        self.wanted.any().then(|| self.pace.not_before())
    }
}

impl Watcher {
    /// Looks at the links, and publishes at once where attached interfaces are carried otherwise, or are up, down or have
    /// another MAC address. Interfaces that came or went wait for the reading.
    pub(super) async fn glance(&mut self, networks: &watch::Sender<Arc<Network>>) {
        let began = Instant::now();
        let wanted = std::mem::take(&mut self.glances.wanted);
        wanted.indexes.iter().for_each(|index| self.glances.seen.add(*index));
        self.glances.seen.all |= wanted.all;
        // What fails here fails in the reading as well, and is told there.
        if let Ok(true) = self.look_at(&wanted).await {
            self.publish(networks);
        }
        self.glances.pace.done(began);
    }

    /// Takes over what these links say now of attached interfaces; false when that is known.
    pub(super) async fn look_at(&mut self, changed: &Changed) -> io::Result<bool> {
        let mut asked = concerned(&self.interfaces, &self.glances.links);
        if !changed.all {
            asked.retain(|index| changed.indexes.contains(index));
        }
        if asked.is_empty() {
            return Ok(false);
        }
        if asked.len() > FEW || !self.ask_for(&asked).await? {
            self.glances.links = self.kernel.links_apart().await?;
        }
        let (interfaces, _) = self.attachments.interfaces(&self.glances.links, &self.tables.addresses);
        Ok(take_over(&mut self.interfaces, interfaces))
    }

    /// Asks for these links one by one; false where one stands on another, or is a member of another, than it did.
    async fn ask_for(&mut self, asked: &BTreeSet<u32>) -> io::Result<bool> {
        for index in asked {
            let now = self.kernel.link_apart(*index).await?;
            let links = &mut self.glances.links;
            match (now, links.iter_mut().find(|link| link.index == *index)) {
                (Some(now), Some(link)) if stands(&now) == stands(link) => *link = now,
                (None, _) => links.retain(|link| link.index != *index),
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Not everything that a bond decides is told: while a bond, a bridge or a VLAN device is attached, it is looked at again.
    pub(super) fn look_again_at_layers(&mut self) {
        let by_itself = |interface: &&Interface| {
            matches!(&*interface.lowers.devices, [only] if only.index == interface.index)
                || interface.lowers == Lowers::default()
        };
        let layered: Vec<Interface> =
            self.interfaces.iter().filter(|interface| !by_itself(interface)).cloned().collect();
        if !layered.is_empty() {
            concerned(&layered, &self.glances.links).into_iter().for_each(|index| self.glances.want(index));
        }
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

/// Takes over what is now known of interfaces that are the same devices; whether it is another thing than before.
fn take_over(known: &mut [Interface], now: Vec<Interface>) -> bool {
    let mut is_news = false;
    for (known, now) in known.iter_mut().zip(now) {
        if (known.id, known.index) == (now.id, now.index) && *known != now {
            (*known, is_news) = (now, true);
        }
    }
    is_news
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

    #[test]
    fn an_interface_that_goes_holds_up_no_word_of_the_others() {
        let interface = |id, index, up| {
            let (mac, addresses, lowers) = Default::default();
            Interface { id: InterfaceId(id), name: "it".into(), index, mac, mtu: 1500, addresses, up, lowers }
        };
        let mut known = vec![interface(0, 5, true), interface(1, 100, true), interface(2, 101, true)];
        // A pod went, and another one came in its place; bond0 went down.
        let now = vec![interface(0, 5, false), interface(1, 102, true), interface(2, 101, true)];
        assert!(take_over(&mut known, now.clone()));
        let states = known.iter().map(|interface| (interface.index, interface.up)).collect::<Vec<_>>();
        assert_eq!(states, [(5, false), (100, true), (101, true)], "what came waits for the reading");
        assert!(!take_over(&mut known, now));
    }

    #[test]
    fn changes_of_too_many_links_are_changes_of_all() {
        let mut changed = Changed::default();
        assert!(!changed.any());
        (0..TOLD_APART as u32).chain(0..9).for_each(|index| changed.add(index));
        assert!(changed.any() && !changed.all && changed.indexes.len() == TOLD_APART);
        changed.add(u32::MAX);
        assert!(changed.all && changed.indexes.len() == TOLD_APART);
    }
}
