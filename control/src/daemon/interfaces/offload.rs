//! Receive VLAN offload is switched off while Ringway is attached to a device.
//!
//! A NIC with this offload takes the tag off a frame and tells it to the kernel apart from the bytes, which is all that XDP sees:
//! a frame of any VLAN would look untagged. It is switched off before Ringway attaches, and again when somebody switches it on;
//! when Ringway lets go it is switched on again.
//!
//! Virtual devices are left alone: what a veth's other end or a bridge keeps apart from the bytes no setting here brings back.

use ringway_dataplane::af_xdp::Device;

use crate::daemon::nic_settings::{Changes, KernelNics, Setting, VLAN_OFFLOAD};
use crate::network::nic::NicError;

/// The devices whose offload is off because of Ringway.
pub(super) struct Offloads {
    changes: Changes,
    nics: KernelNics,
}

impl Offloads {
    /// `changes`: with those that an instance before this one left behind.
    pub(super) fn new(changes: Changes) -> Self {
        Offloads { changes, nics: KernelNics::default() }
    }

    /// Has a device leave tags in the frames, unless it does. An error says why it does not.
    pub(super) fn switch_off(&mut self, device: &Device) -> Result<(), String> {
        // Settings go by names, and another device may have this one by now.
        if Device::by_name(&device.name).as_ref() != Ok(device) {
            return Ok(());
        }
        let again = self.changes.has(device.index, Setting::VlanOffload);
        match self.changes.change(&mut self.nics, device.index, &device.name, Setting::VlanOffload) {
            Ok(true) if again => {
                tracing::warn!("{device}: somebody switched receive VLAN offload on; switched it off again");
            }
            Ok(true) => tracing::info!(
                "{device}: switched receive VLAN offload off ({VLAN_OFFLOAD}), so that XDP sees the tags of frames; it is \
                 switched on again when Ringway lets go"
            ),
            // Off by somebody else's will, or by an earlier instance's, or there is none.
            Ok(false) => {}
            Err(NicError::Unsupported { .. } | NicError::TooOld { .. } | NicError::Missing { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// The devices whose offload is off because of Ringway, by ifindex.
    pub(super) fn switched_off(&self) -> Vec<u32> {
        let all = self.changes.all().into_iter();
        all.filter(|(_, setting)| *setting == Setting::VlanOffload).map(|(index, _)| index).collect()
    }

    /// Has a device do again what it did before.
    pub(super) fn restore(&mut self, index: u32) {
        self.changes.restore(&mut self.nics, index, Setting::VlanOffload);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ringway_dataplane::af_xdp::UmemLayout;
    use ringway_dataplane::af_xdp::program::SteeringProgram;
    use ringway_shared::network::{Interface, Lowers};
    use ringway_shared::{InterfaceId, MacAddress, Network};
    use tokio::sync::watch;

    use super::super::tags::is_virtual;
    use super::super::{Interfaces, Placement};
    use super::*;
    use crate::config::{InterfaceConfig, InterfacePattern, Poll, RssMode, XdpMode, ZeroCopy};
    use crate::daemon::nic_settings::LeaveAsFound;
    use crate::demo::netns::{End, Namespace, veth};
    use crate::network::nic::Nic;

    /// A device that lets the offload be switched; the other end is of no use.
    fn bed(role: &str) -> Option<Namespace> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "these tests need root");
            eprintln!("SKIPPED: needs root to make network namespaces");
            return None;
        }
        let namespace = Namespace::create("offload", role).unwrap();
        let end = |link| End { namespace: &namespace, link, mac: None };
        veth(end("nic0"), end("peer0"), 1).unwrap();
        Some(namespace)
    }

    fn is_on() -> bool {
        Nic::open().unwrap().features("nic0").unwrap().is_on(VLAN_OFFLOAD)
    }

    #[test]
    fn the_offload_is_off_meanwhile_and_on_afterwards() {
        let Some(namespace) = bed("meanwhile") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            let changes = Changes::read(state.path());
            let mut offloads = Offloads::new(changes.clone());
            assert!(is_on());
            offloads.switch_off(&device).unwrap();
            assert!(!is_on());
            Nic::open().unwrap().set_feature("nic0", VLAN_OFFLOAD, true).unwrap();
            offloads.switch_off(&device).unwrap();
            assert!(!is_on(), "somebody switched it on");
            offloads.restore(device.index);
            assert!(is_on() && changes.all().is_empty());
            // Off by somebody else's will: it stays so.
            Nic::open().unwrap().set_feature("nic0", VLAN_OFFLOAD, false).unwrap();
            offloads.switch_off(&device).unwrap();
            offloads.restore(device.index);
            assert!(!is_on());
        };
        namespace.enter(test).unwrap();
    }

    #[test]
    fn a_device_that_came_in_the_place_of_another_is_left_alone() {
        let Some(namespace) = bed("replaced") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let now = Device::by_name("nic0").unwrap();
            let before = Device { index: now.index + 1000, ..now.clone() };
            Offloads::new(Changes::read(state.path())).switch_off(&before).unwrap();
            assert!(is_on());
            // Of one that is gone no setting is an affair of Ringway's; of a veth, none ever is.
            let gone = Device { name: "nosuch0".to_owned(), ..before };
            assert!(is_virtual(&gone) && is_virtual(&now));
        };
        namespace.enter(test).unwrap();
    }

    #[test]
    fn it_is_on_again_whatever_the_device_is_called_by_then() {
        let Some(namespace) = bed("renamed") else { return };
        let state = tempfile::tempdir().unwrap();
        let device = namespace.enter(|| Device::by_name("nic0").unwrap()).unwrap();
        let changes = Changes::read(state.path());
        namespace.enter(|| Offloads::new(changes.clone()).switch_off(&device).unwrap()).unwrap();
        namespace.ip(&["link", "set", "nic0", "down"]).unwrap();
        namespace.ip(&["link", "set", "nic0", "name", "lan0"]).unwrap();
        let test = || {
            Offloads::new(changes.clone()).restore(device.index);
            assert!(Nic::open().unwrap().features("lan0").unwrap().is_on(VLAN_OFFLOAD));
            assert!(changes.all().is_empty());
        };
        namespace.enter(test).unwrap();
    }

    #[test]
    fn it_is_on_after_a_start_that_failed_and_after_the_instance_that_follows_a_killed_one() {
        let Some(namespace) = bed("killed") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            let changes = Changes::read(state.path());
            let guard = LeaveAsFound(changes.clone());
            Offloads::new(changes).switch_off(&device).unwrap();
            assert!(!is_on());
            drop(guard);
            assert!(is_on());
            Offloads::new(Changes::read(state.path())).switch_off(&device).unwrap();
            // Killed.
            let changes = Changes::read(state.path());
            let guard = LeaveAsFound(changes.clone());
            Offloads::new(changes).switch_off(&device).unwrap();
            assert!(!is_on());
            drop(guard);
            assert!(is_on());
        };
        namespace.enter(test).unwrap();
    }

    /// Nothing attached, on the way to these interfaces.
    fn instance(changes: Changes) -> Interfaces {
        let name = InterfacePattern::parse("nic*").unwrap();
        let (xdp, zero_copy) = (XdpMode::Auto, ZeroCopy::Auto);
        let listed = vec![InterfaceConfig { name, xdp, zero_copy, rss: RssMode::Auto }];
        let steering = Arc::new(Mutex::new(SteeringProgram::load().unwrap()));
        let (placement, memory) = (Placement { cpus: Vec::new() }, UmemLayout::for_mtu(64, 1500));
        Interfaces::new(changes, listed, placement, Poll::Adaptive, Arc::default(), steering, memory)
    }

    #[test]
    fn what_a_killed_instance_left_off_is_on_again_at_once_where_the_next_needs_it_not() {
        let Some(namespace) = bed("unneeded") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            Offloads::new(Changes::read(state.path())).switch_off(&device).unwrap();
            // Killed.
            let mut all = instance(Changes::read(state.path()));
            let interface = Interface {
                id: InterfaceId(0),
                name: "nic0".into(),
                index: device.index,
                mac: MacAddress([2; 6]),
                mtu: 1500,
                addresses: Vec::new(),
                up: true,
                lowers: Lowers::itself(device.index, "nic0".into()),
            };
            let listed = watch::Sender::new(Arc::new(Network::new(1, vec![interface], [], [])));
            all.follow_meanwhile(listed.subscribe(), Arc::default());
            all.look_after_offloads();
            assert!(!is_on(), "it is about to be attached");
            listed.send_replace(Arc::default());
            all.look_after_offloads();
            assert!(is_on());
        };
        namespace.enter(test).unwrap();
    }
}
