//! What can be known of a device before anything is done to it: which are needed, and whether each can be attached to. `run`
//! asks before every attempt, `check` instead of one.

use std::collections::BTreeMap;

use ringway_dataplane::af_xdp::program::SteeringError;
use ringway_dataplane::af_xdp::{Device as KernelDevice, RingSizes, Socket, SocketError, SocketOptions, UmemLayout};
use ringway_shared::Network;
use ringway_shared::network::Interface;
use rustix::io::Errno;

use super::ports::held_by_another;
use super::{is_there, lowers_of, tags, unable};
use crate::config::{InterfaceConfig, XdpMode, ZeroCopy};
use crate::daemon::nics::NicFacts;
use crate::daemon::placement::{Device, Placement};
use crate::network::nic::Nic;

/// A device that is needed: its name, and how it is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Wanted {
    pub(in crate::daemon) name: String,
    pub(super) xdp: XdpMode,
    pub(super) zero_copy: ZeroCopy,
    /// An interface that it carries has a tag.
    pub(super) tagged: bool,
    /// An interface that it carries is named in the configuration, and not meant by a glob.
    pub(super) named: bool,
}

/// The devices that interfaces need, by ifindex. One that carries itself is attached as its own entry in the configuration
/// says, another as that of the first interface that it carries.
pub(in crate::daemon) fn wanted(listed: &[InterfaceConfig], network: &Network) -> BTreeMap<u32, Wanted> {
    let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
    let there = |interface: &&Interface| is_there(interface) && unable(interface).is_empty();
    for interface in network.interfaces().iter().filter(there) {
        let Ok(lowers) = lowers_of(interface) else { continue };
        let listed = listed.iter().find(|listed| listed.name.matches(&interface.name));
        let (xdp, zero_copy) = listed.map_or_else(Default::default, |listed| (listed.xdp, listed.zero_copy));
        for lower in lowers.devices.iter() {
            let new = || Wanted { name: lower.name.to_string(), xdp, zero_copy, tagged: false, named: false };
            let one = wanted.entry(lower.index).or_insert_with(new);
            if lower.index == interface.index {
                (one.xdp, one.zero_copy) = (xdp, zero_copy);
            }
            one.tagged |= lowers.vlan.is_some();
            one.named |= listed.is_some_and(|listed| !listed.name.is_glob());
        }
    }
    wanted
}

/// What a device must agree with.
pub(in crate::daemon) struct Terms<'t> {
    pub(in crate::daemon) placement: &'t Placement,
    pub(in crate::daemon) memory: UmemLayout,
    pub(in crate::daemon) busy_poll: bool,
}

/// What is known of a device that may be attached to.
pub(in crate::daemon) struct Fit {
    /// How many queues it has.
    pub(super) number: u32,
    /// Those of each worker.
    pub(super) queues: Vec<Vec<u32>>,
    pub(super) nic: NicFacts,
}

/// Why a device is not attached to.
pub(in crate::daemon) struct Unfit {
    pub(in crate::daemon) why: String,
    /// Whether that may pass while nobody changes anything here: it is somebody else's doing.
    passes: bool,
}

impl Unfit {
    fn for_good(error: impl ToString) -> Self {
        Unfit { why: error.to_string(), passes: false }
    }

    /// What an attempt shows, perhaps.
    pub(in crate::daemon) fn for_now(error: impl ToString) -> Self {
        Unfit { why: error.to_string(), passes: true }
    }
}

/// What a look at all devices found, before anything is done to any of them.
pub(in crate::daemon) struct Looked {
    /// By ifindex, with their names; those that are named first.
    unfit: Vec<(u32, String, Unfit)>,
    /// How many are fit.
    fit: usize,
    /// The devices of each interface that is named.
    named: Vec<Vec<u32>>,
}

impl Looked {
    /// `look`: looks at one of them.
    pub(in crate::daemon) fn at(
        listed: &[InterfaceConfig],
        network: &Network,
        mut look: impl FnMut(&KernelDevice, &Wanted) -> Result<(), Unfit>,
    ) -> Self {
        let is_named = |interface: &&Interface| listed.iter().any(|listed| listed.name.as_str() == &*interface.name);
        let devices = |interface: &Interface| {
            lowers_of(interface).ok().map(|lowers| lowers.devices.iter().map(|lower| lower.index).collect())
        };
        let named = network.interfaces().iter().filter(is_named).filter_map(devices).collect();
        let (mut unfit, mut fit) = (Vec::new(), 0);
        let mut all: Vec<(u32, Wanted)> = wanted(listed, network).into_iter().collect();
        all.sort_by_key(|(_, wanted)| !wanted.named);
        for (index, wanted) in all {
            let device = KernelDevice { name: wanted.name.clone(), index };
            match look(&device, &wanted) {
                Ok(()) => fit += 1,
                Err(why) => unfit.push((index, wanted.name, why)),
            }
        }
        Looked { unfit, fit, named }
    }

    /// The devices that are not fit, with the reason, and whether a start ends for that: no time mends it and an interface that is
    /// named needs the device, or there is nothing to be attached to at all. Else it goes on without the device, and tries again.
    pub(in crate::daemon) fn unfit(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        // A bond goes on with its other members.
        let lasts = |index: &u32| self.unfit.iter().any(|(other, _, unfit)| other == index && !unfit.passes);
        self.unfit.iter().map(move |(index, name, unfit)| {
            let mut needed = self.named.iter().filter(|devices| devices.contains(index));
            let ends = self.fit == 0 || needed.any(|devices| devices.iter().all(lasts));
            (&**name, &*unfit.why, ends)
        })
    }
}

impl Terms<'_> {
    /// Looks at a device. `is_taken`: whether an XDP program that is not Ringway's own is in the way of one on this device.
    pub(in crate::daemon) fn look_at(
        &self,
        device: &KernelDevice,
        wanted: &Wanted,
        is_taken: impl FnOnce(u32) -> bool,
    ) -> Result<Fit, Unfit> {
        // It may be going away just now.
        let number = device.queues().map_err(Unfit::for_now)?;
        let placed = Device::read("/sys".as_ref(), &device.name, device.index, number);
        let queues = self.placement.queues(&placed).map_err(Unfit::for_good)?;
        let nic = NicFacts::of(device);
        let blind = nic.hides_tags.then(|| "its driver keeps rx-vlan-hw-parse on".to_owned());
        if let Some(refusal) = tags::refusal(device, blind.as_ref(), wanted.tagged) {
            return Err(Unfit::for_good(refusal));
        }
        let socket = SocketOptions {
            rings: RingSizes::DEFAULT,
            zero_copy: wanted.zero_copy,
            generic: wanted.xdp == XdpMode::Generic,
            busy_poll: self.busy_poll,
            announces: nic.announces,
        };
        Socket::check(device, self.memory, &socket).map_err(|error| match error {
            SocketError::Device(_) => Unfit::for_now(error),
            _ => Unfit::for_good(error),
        })?;
        if is_taken(device.index) {
            let taken = SteeringError::Taken { interface: device.name.clone(), source: Errno::BUSY.into() };
            return Err(Unfit::for_now(taken));
        }
        Ok(Fit { number, queues, nic })
    }
}

impl Fit {
    /// Who has one of its queues, where the kernel tells of that.
    pub(in crate::daemon) fn held(&self, device: &KernelDevice) -> Option<String> {
        let queue = self.held_queue(&mut Nic::open().ok()?, device)?;
        Some(held_by_another(&SocketError::Busy { interface: device.name.clone(), queue }))
    }

    /// The first of its queues that somebody has.
    pub(super) fn held_queue(&self, nic: &mut Nic, device: &KernelDevice) -> Option<u32> {
        nic.held_queues(device.index, &device.name, self.number).ok()?.first().copied()
    }

    /// Why an attempt is sure to fail with a driver of Linux's own. One from elsewhere may not announce what it can.
    pub(in crate::daemon) fn doubt(&self, device: &KernelDevice, wanted: &Wanted) -> Option<String> {
        let lacks = wanted.xdp == XdpMode::Native && self.nic.native == Some(false);
        lacks.then(|| {
            format!("{} announces no native XDP, and xdp: native asks for it; write xdp: auto", device.driver())
        })
    }
}

#[cfg(test)]
mod tests {
    use ringway_shared::network::{Lower, Lowers};
    use ringway_shared::{InterfaceId, MacAddress};

    use super::*;
    use crate::config::{InterfacePattern, RssMode};

    fn interface(id: u16, name: &str, devices: &[(u32, &str)]) -> Interface {
        let lower = |(index, name): &(u32, &str)| Lower { index: *index, ..one(name) };
        let (mac, lowers) = (MacAddress([2; 6]), devices.iter().map(lower).collect());
        Interface {
            id: InterfaceId(id),
            name: name.into(),
            index: 90 + u32::from(id),
            mac,
            mtu: 1500,
            addresses: Vec::new(),
            up: true,
            lowers: Lowers { devices: lowers, ..Lowers::default() },
        }
    }

    fn one(name: &str) -> Lower {
        Lowers::itself(0, name.into()).devices[0].clone()
    }

    #[test]
    fn a_start_ends_for_what_no_time_mends_where_it_is_named_and_for_want_of_anything_else() {
        let listed = ["eth0", "bond0", "v*"].map(|name| InterfaceConfig {
            name: InterfacePattern::parse(name).unwrap(),
            xdp: XdpMode::Auto,
            zero_copy: ZeroCopy::Auto,
            rss: RssMode::Auto,
        });
        let network = Network::new(
            1,
            vec![
                interface(0, "v1", &[(1, "v1")]),
                interface(1, "eth0", &[(2, "eth0")]),
                interface(2, "bond0", &[(3, "m1"), (4, "m2")]),
            ],
            [],
            [],
        );
        let told = |unfit: &[(&str, bool)]| {
            let look = |device: &KernelDevice, _: &Wanted| match unfit.iter().find(|(name, _)| *name == device.name) {
                Some((_, true)) => Err(Unfit::for_now("taken")),
                Some((_, false)) => Err(Unfit::for_good("too large")),
                None => Ok(()),
            };
            let looked = Looked::at(&listed, &network, look);
            looked.unfit().map(|(name, _, ends)| (name.to_owned(), ends)).collect::<Vec<_>>()
        };
        let of = |all: &[(&str, bool)]| all.iter().map(|(name, ends)| ((*name).to_owned(), *ends)).collect::<Vec<_>>();
        assert_eq!(told(&[]), of(&[]));
        // What is named comes first.
        assert_eq!(told(&[("v1", false), ("eth0", true)]), of(&[("eth0", false), ("v1", false)]));
        assert_eq!(told(&[("eth0", false)]), of(&[("eth0", true)]));
        assert_eq!(told(&[("m1", false)]), of(&[("m1", false)]), "the bond has another member");
        assert_eq!(told(&[("m1", false), ("m2", true)]), of(&[("m1", false), ("m2", false)]), "one may come back");
        assert_eq!(told(&[("m1", false), ("m2", false)]), of(&[("m1", true), ("m2", true)]));
        let all = ["eth0", "m1", "m2", "v1"];
        assert_eq!(told(&all.map(|name| (name, true))), of(&all.map(|name| (name, true))), "nothing is left");
    }
}
