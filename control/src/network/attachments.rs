//! Which links Ringway is attached to, and their numbers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ringway_shared::InterfaceId;
use ringway_shared::network::{Interface, Lowers};

use super::links::{Link, LinkAddress, Standing};
use super::lowers;
use crate::config::InterfacePattern;

/// Interfaces that only a glob means and that are gone keep their numbers, the latest so many of them; those of others are
/// given to new ones. Where pods come and go, every name is new.
const REMEMBERED: usize = 256;

/// Which interfaces Ringway is attached to, and their numbers. An interface that is deleted and made again keeps its number,
/// for as long as the process runs if the configuration names it, else until [`REMEMBERED`] others were deleted since.
#[derive(Debug)]
pub(super) struct Attachments {
    patterns: Vec<InterfacePattern>,
    numbered: Vec<Numbered>,
    looks: u64,
}

/// Who has a number.
#[derive(Debug)]
struct Numbered {
    name: Arc<str>,
    /// The look that missed it first.
    gone: Option<u64>,
}

impl Attachments {
    /// Nothing attached yet; links whose names match one of `patterns` will be.
    pub(super) fn new(patterns: Vec<InterfacePattern>) -> Self {
        Attachments { patterns, numbered: Vec::new(), looks: 0 }
    }

    /// Other interfaces from now on. Those that are no longer meant keep their numbers, and are gone.
    pub(super) fn set(&mut self, patterns: Vec<InterfacePattern>) {
        self.patterns = patterns;
    }

    /// Whether this link is an interface. A plain name is taken at its word; a glob leaves out what it hardly means
    /// ([`lowers::is_meant`]).
    fn wants(&self, link: &Link, all: &[Link]) -> bool {
        let is_known = link.mac.is_some() || link.unfit.is_some();
        let means = |pattern: &InterfacePattern| {
            !pattern.is_glob() || lowers::is_meant(link, all, |name| pattern.matches(name))
        };
        is_known && self.patterns.iter().any(|pattern| pattern.matches(&link.name) && means(pattern))
    }

    /// The attached interfaces by number, with their addresses; and the number of each attached ifindex.
    pub(super) fn interfaces(
        &mut self,
        links: &[Link],
        addresses: &[LinkAddress],
    ) -> (Vec<Interface>, HashMap<u32, InterfaceId>) {
        let mut wanted: Vec<&Link> = links.iter().filter(|link| self.wants(link, links)).collect();
        // New numbers follow the order of the configuration, then of the names, so that equal nodes number alike.
        wanted.sort_by_key(|link| {
            (self.patterns.iter().position(|pattern| pattern.matches(&link.name)), link.name.clone())
        });
        let there: HashMap<&str, &Link> = wanted.iter().map(|link| (&*link.name, *link)).collect();
        self.number(&wanted, &there);
        let (mut numbers, mut carried) = (HashMap::new(), HashMap::new());
        let interfaces = self.numbered.iter().enumerate().map(|(number, Numbered { name, .. })| {
            let id = InterfaceId(number as u16);
            let Some(link) = there.get(&**name).copied() else {
                return gone(id, name.clone());
            };
            numbers.insert(link.index, id);
            let usable = |address: &&LinkAddress| address.standing != Standing::Tentative;
            let own = addresses.iter().filter(|address| address.link == link.index).filter(usable);
            let mut own: Vec<&LinkAddress> = own.collect();
            // The kernel lists primary addresses first; deprecated ones go last.
            own.sort_by_key(|address| address.standing == Standing::Deprecated);
            let lowers = carried_once(link, links, &mut carried);
            Interface {
                id,
                name: name.clone(),
                index: link.index,
                mac: link.mac.unwrap_or_default(),
                mtu: link.mtu,
                addresses: own.into_iter().map(|address| address.address).collect(),
                up: link.up && !lowers.devices.is_empty(),
                lowers,
            }
        });
        let interfaces = interfaces.collect();
        (interfaces, numbers)
    }

    /// Gives every wanted link that has none a number. `there`: the same by name.
    fn number(&mut self, wanted: &[&Link], there: &HashMap<&str, &Link>) {
        self.looks += 1;
        let mut known = HashSet::new();
        for numbered in &mut self.numbered {
            numbered.gone = match there.contains_key(&*numbered.name) {
                true => None,
                false => numbered.gone.or(Some(self.looks)),
            };
            known.insert(numbered.name.clone());
        }
        let is_named = |name: &str| self.patterns.iter().any(|pattern| !pattern.is_glob() && pattern.matches(name));
        let missed = self.numbered.iter().enumerate();
        let mut missed: Vec<(u64, usize)> = missed
            .filter(|(_, numbered)| !is_named(&numbered.name))
            .filter_map(|(place, numbered)| Some((numbered.gone?, place)))
            .collect();
        missed.sort_unstable();
        // Those that were missed first give their numbers up first.
        let spare = missed.len().saturating_sub(REMEMBERED);
        let mut free = missed.into_iter().map(|(_, place)| place).take(spare);
        for link in wanted.iter().filter(|link| !known.contains(&link.name)) {
            let numbered = Numbered { name: link.name.clone(), gone: None };
            match free.next() {
                Some(place) => self.numbered[place] = numbered,
                None if self.numbered.len() < usize::from(u16::MAX) => self.numbered.push(numbered),
                None => {}
            }
        }
    }
}

/// What carries a link. A frame belongs to one interface: what a device carries under a tag for one, it carries for no other.
fn carried_once<'a>(link: &'a Link, links: &[Link], carried: &mut HashMap<(u32, Option<u16>), &'a str>) -> Lowers {
    let lowers = lowers::of(link, links).unwrap_or_else(Lowers::nothing);
    for device in &*lowers.devices {
        if let Some(other) = carried.get(&(device.index, lowers.vlan)) {
            let tag = lowers.vlan.map_or_else(String::new, |id| format!(" under VLAN {id}"));
            return Lowers::nothing(format!(
                "is carried by {}{tag}, and so is {other}, which is listed as well; list one of them",
                device.name
            ));
        }
    }
    carried.extend(lowers.devices.iter().map(|device| ((device.index, lowers.vlan), &*link.name)));
    lowers
}

/// An interface that went away: down, without ifindex and addresses.
fn gone(id: InterfaceId, name: Arc<str>) -> Interface {
    let (mac, addresses, lowers) = Default::default();
    Interface { id, name, index: 0, mac, mtu: 0, addresses, up: false, lowers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringway_shared::MacAddress;

    fn attachments(patterns: &[&str]) -> Attachments {
        Attachments::new(patterns.iter().map(|pattern| InterfacePattern::parse(pattern).unwrap()).collect())
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            mac: Some(MacAddress([2, 0, 0, 0, 0, index as u8])),
            mtu: 1500,
            up: true,
            ..Link::default()
        }
    }

    #[test]
    fn an_interface_keeps_its_number_when_it_comes_back_with_another_ifindex() {
        let mut attachments = attachments(&["eth*", "uplink"]);
        let standing = Standing::Preferred;
        let address = |link| LinkAddress { link, address: "10.0.0.1/24".parse().unwrap(), standing };
        let (first, numbers) = attachments.interfaces(&[link(7, "uplink"), link(3, "eth1"), link(9, "lan")], &[]);
        assert_eq!(first.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["eth1", "uplink"]);
        assert_eq!(numbers[&7], InterfaceId(1));
        let (second, _) = attachments.interfaces(&[link(7, "uplink"), link(4, "eth0")], &[address(7)]);
        assert_eq!(
            second.iter().map(|i| (&*i.name, i.index, i.up)).collect::<Vec<_>>(),
            [("eth1", 0, false), ("uplink", 7, true), ("eth0", 4, true)]
        );
        assert_eq!(second[1].addresses, ["10.0.0.1/24".parse().unwrap()]);
        let (third, numbers) = attachments.interfaces(&[link(30, "eth1"), link(7, "uplink")], &[]);
        assert_eq!((third[0].index, third[0].up), (30, true));
        assert_eq!(numbers[&30], InterfaceId(0));
    }

    /// Nodes whose pods come and go, each with a new device.
    #[test]
    fn devices_with_ever_new_names_fill_no_list() {
        let mut attachments = attachments(&["veth*", "eth0", "eth1"]);
        let [uplink, gone] = [link(2, "eth0"), link(3, "eth1")];
        attachments.interfaces(&[uplink.clone(), gone], &[]);
        const PODS: u32 = 200;
        let mut before = None;
        for look in 0..70_000 / PODS {
            let pods = (0..PODS).map(|pod| look * PODS + pod).map(|pod| link(10 + pod, &format!("veth{pod:x}")));
            let links: Vec<Link> = [uplink.clone()].into_iter().chain(pods).collect();
            let (interfaces, numbers) = attachments.interfaces(&links, &[]);
            for pod in &links {
                let number = numbers[&pod.index];
                assert_eq!((&*interfaces[usize::from(number.0)].name, number), (&*pod.name, number));
            }
            assert!((0..).zip(&interfaces).all(|(number, interface)| interface.id == InterfaceId(number)));
            assert!(interfaces.len() <= 2 + REMEMBERED + 2 * PODS as usize, "{} after {look}", interfaces.len());
            // Who is named keeps its number for ever, and who comes back soon finds its own.
            assert_eq!([0, 1].map(|place: usize| &*interfaces[place].name), ["eth0", "eth1"]);
            if let Some((links, expected)) = before.replace((links, numbers)).filter(|_| look % 50 == 1) {
                assert_eq!(attachments.interfaces(&links, &[]).1, expected);
            }
        }
    }

    #[test]
    fn an_interface_that_is_no_longer_meant_is_gone_and_the_others_keep_their_numbers() {
        let mut attachments = attachments(&["eth0", "eth1"]);
        let links = [link(3, "eth0"), link(4, "eth1"), link(5, "eth2")];
        attachments.interfaces(&links, &[]);
        attachments.set(["eth2", "eth1"].map(|name| InterfacePattern::parse(name).unwrap()).to_vec());
        let (interfaces, numbers) = attachments.interfaces(&links, &[]);
        assert_eq!(
            interfaces.iter().map(|i| (&*i.name, i.index)).collect::<Vec<_>>(),
            [("eth0", 0), ("eth1", 4), ("eth2", 5)]
        );
        assert_eq!(numbers.get(&3), None);
        assert_eq!(numbers[&4], InterfaceId(1));
    }

    #[test]
    fn a_glob_attaches_neither_to_our_own_taps_nor_to_what_is_not_ethernet() {
        let mut attachments = attachments(&["*"]);
        let loopback = Link { mac: None, ..link(1, "lo") };
        let (interfaces, _) = attachments.interfaces(&[loopback, link(2, "rw5"), link(5, "rwan")], &[]);
        assert_eq!(interfaces.iter().map(|i| &*i.name).collect::<Vec<_>>(), ["rwan"]);
    }
}
