//! What can be known of a device before anything is done to it: which are needed, and whether each can be attached to. `run`
//! asks before every attempt, `check` instead of one.

use std::collections::BTreeMap;

use ringway_dataplane::af_xdp::program::SteeringError;
use ringway_dataplane::af_xdp::{Device as KernelDevice, RingSizes, Socket, SocketOptions, UmemLayout};
use ringway_shared::Network;
use ringway_shared::network::Interface;
use rustix::io::Errno;

use super::{is_there, lowers_of, tags, unable};
use crate::config::{InterfaceConfig, XdpMode, ZeroCopy};
use crate::daemon::nics::NicFacts;
use crate::daemon::placement::{Device, Placement};

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

impl Terms<'_> {
    /// Looks at a device. `is_taken`: whether an XDP program that is not Ringway's own is in the way of one on this device.
    pub(in crate::daemon) fn look_at(
        &self,
        device: &KernelDevice,
        wanted: &Wanted,
        is_taken: impl FnOnce(u32) -> bool,
    ) -> Result<Fit, String> {
        let number = device.queues().map_err(|error| error.to_string())?;
        let placed = Device::read("/sys".as_ref(), &device.name, device.index, number);
        let queues = self.placement.queues(&placed).map_err(|error| error.to_string())?;
        let nic = NicFacts::of(device);
        let blind = nic.hides_tags.then(|| "its driver keeps rx-vlan-hw-parse on".to_owned());
        if let Some(refusal) = tags::refusal(device, blind.as_ref(), wanted.tagged) {
            return Err(refusal);
        }
        let socket = SocketOptions {
            rings: RingSizes::DEFAULT,
            zero_copy: wanted.zero_copy,
            generic: wanted.xdp == XdpMode::Generic,
            busy_poll: self.busy_poll,
            announces: nic.announces,
        };
        Socket::check(device, self.memory, &socket).map_err(|error| error.to_string())?;
        if is_taken(device.index) {
            let taken = SteeringError::Taken { interface: device.name.clone(), source: Errno::BUSY.into() };
            return Err(taken.to_string());
        }
        Ok(Fit { number, queues, nic })
    }
}

impl Fit {
    /// Why an attempt is sure to fail with a driver of Linux's own. One from elsewhere may not announce what it can.
    pub(in crate::daemon) fn doubt(&self, device: &KernelDevice, wanted: &Wanted) -> Option<String> {
        let lacks = wanted.xdp == XdpMode::Native && self.nic.native == Some(false);
        lacks.then(|| {
            format!("{} announces no native XDP, and xdp: native asks for it; write xdp: auto", device.driver())
        })
    }
}
