//! Which frames of devices the steering program looks at: those of interfaces that Ringway is attached to.

use std::collections::BTreeMap;

use ringway_shared::MacAddress;
use ringway_shared::network::Lowers;

use super::{Interfaces, lock};

/// A device, by its ifindex, and a VLAN there; none: its untagged frames.
pub(super) type Link = (u32, Option<u16>);

/// What the steering program was told.
#[derive(Default)]
pub(super) struct Steered {
    links: BTreeMap<Link, MacAddress>,
    /// What it did not take, and why.
    failed: BTreeMap<Link, String>,
    /// Nothing is to be steered any more.
    is_over: bool,
}

/// The word that no frame is steered: what the steering program relies on may be changed back.
#[derive(Debug)]
pub(in crate::daemon) struct Unsteered(());

impl Unsteered {
    /// There is no steering program: none was loaded, or it went with its owner.
    pub(in crate::daemon) fn without_program() -> Self {
        Unsteered(())
    }
}

/// What is to be told: what to remove, and what to set after that.
fn changes(
    before: &BTreeMap<Link, MacAddress>,
    wanted: &BTreeMap<Link, MacAddress>,
) -> (Vec<Link>, Vec<(Link, MacAddress)>) {
    let gone = before.keys().filter(|link| !wanted.contains_key(link)).copied().collect();
    let new = wanted.iter().filter(|(link, mac)| before.get(link) != Some(mac));
    (gone, new.map(|(link, mac)| (*link, *mac)).collect())
}

impl Steered {
    /// The steering program has forgotten a device.
    pub(super) fn forget(&mut self, index: u32) {
        self.links.retain(|(device, _), _| *device != index);
        self.failed.retain(|(device, _), _| *device != index);
    }

    /// What is to be steered of this.
    fn wanted(&self, links: impl Iterator<Item = (Link, MacAddress)>) -> BTreeMap<Link, MacAddress> {
        links.filter(|_| !self.is_over).collect()
    }

    /// Whether everything is as it should be.
    pub(super) fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }

    /// Why frames of an interface that these devices carry go to the kernel.
    pub(super) fn problems(&self, lowers: &Lowers) -> impl Iterator<Item = &String> {
        let links = lowers.devices.iter().filter(|lower| lower.receives).map(|lower| (lower.index, lowers.vlan));
        links.filter_map(|link| self.failed.get(&link))
    }
}

impl Interfaces {
    /// Has the steering program let every frame pass from now on, while it stays attached: a driver may need seconds to let go of
    /// it. Settings of NICs that it relies on may be changed back after this.
    pub(in crate::daemon) fn stop_steering(&mut self) -> Unsteered {
        self.steered.is_over = true;
        self.steer();
        Unsteered(())
    }

    /// Has the steering program look at the frames of all attached interfaces, on the devices that receive them, and at no
    /// others. What it does not take is tried again with the next call.
    pub(super) fn steer(&mut self) {
        let mut wanted = BTreeMap::new();
        for attached in self.attached.values() {
            let has_program = |index| self.carriers.contains_key(index) || self.kept.contains_key(index);
            let devices = attached.lowers.devices.iter();
            for lower in devices.filter(|lower| lower.receives && has_program(&lower.index)) {
                wanted.insert((lower.index, attached.lowers.vlan), attached.mac);
            }
        }
        let wanted = self.steered.wanted(wanted.into_iter());
        let (gone, new) = changes(&self.steered.links, &wanted);
        let before = std::mem::take(&mut self.steered.failed);
        if gone.is_empty() && new.is_empty() {
            return;
        }
        let mut steering = lock(&self.steering);
        // First of all there is room.
        for (index, vlan) in gone {
            steering.remove_link(index, vlan);
            self.steered.links.remove(&(index, vlan));
        }
        for (link, mac) in new {
            let (index, vlan) = link;
            match steering.set_link(index, vlan, mac) {
                Ok(()) => drop(self.steered.links.insert(link, mac)),
                Err(error) => {
                    let error = error.to_string();
                    if before.get(&link) != Some(&error) {
                        tracing::warn!("{error}");
                    }
                    self.steered.failed.insert(link, error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_hands_is_set_and_not_removed() {
        let (a, b) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let before = BTreeMap::from([((2, None), a), ((3, Some(7)), a), ((4, None), a)]);
        // Device 2 carries another interface by now.
        let wanted = BTreeMap::from([((2, None), b), ((3, Some(7)), a), ((5, None), b)]);
        let (gone, new) = changes(&before, &wanted);
        assert_eq!(gone, [(4, None)]);
        assert_eq!(new, [((2, None), b), ((5, None), b)]);
        // What was not taken is not among what was told, so it comes again.
        assert_eq!(changes(&wanted, &wanted), (vec![], vec![]));
        assert_eq!(changes(&BTreeMap::new(), &before).1.len(), 3);
    }

    #[test]
    fn at_the_end_nothing_is_steered_and_nothing_comes_again() {
        let links = BTreeMap::from([
            ((2, None), MacAddress([2, 0, 0, 0, 0, 1])),
            ((3, Some(7)), MacAddress([2, 0, 0, 0, 0, 2])),
        ]);
        let mut steered = Steered { links: links.clone(), ..Steered::default() };
        assert_eq!(steered.wanted(links.clone().into_iter()), links);
        steered.is_over = true;
        let (gone, new) = changes(&steered.links, &steered.wanted(links.into_iter()));
        assert_eq!((gone, new), (vec![(2, None), (3, Some(7))], vec![]));
    }
}
