//! What packet memory and sockets need to know of a device's NIC.

use ringway_dataplane::af_xdp::{Device as KernelDevice, RingSizes};
use ringway_shared::drivers;

use super::nic_settings::VLAN_OFFLOAD;
use crate::network::nic::Nic;

/// A device's NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct NicFacts {
    /// Whether its driver announces zero-copy; `None` where the kernel does not tell (before Linux 6.3).
    pub(super) announces: Option<bool>,
    /// Whether zero-copy is to be reckoned with.
    pub(super) zero_copy: bool,
    /// Whether its driver announces native XDP; `None` where the kernel does not tell.
    pub(super) native: Option<bool>,
    /// Whether it takes tags off frames before XDP sees them, and cannot be told not to.
    pub(super) hides_tags: bool,
    /// Descriptors of each receive queue; 0 where the driver has none or does not tell.
    descriptors: u32,
}

impl NicFacts {
    /// Asks the kernel. What it does not say is left open.
    pub(super) fn of(device: &KernelDevice) -> Self {
        let Ok(mut nic) = Nic::open() else {
            return NicFacts { zero_copy: by_table(device), ..NicFacts::default() };
        };
        let features = nic.xdp_features(device.index, &device.name).ok();
        let announces = features.as_ref().map(|features| features.zero_copy);
        let native = features.map(|features| features.basic && features.redirect);
        let strips = nic.features(&device.name).ok().and_then(|features| features.get(VLAN_OFFLOAD));
        // Tags of a device without hardware are no affair of its own offloads.
        let hides_tags = device.may_zero_copy() && strips.is_some_and(|strips| strips.on && strips.fixed);
        let descriptors = nic.rings(&device.name).map_or(0, |rings| rings.rx);
        let zero_copy = announces.unwrap_or_else(|| by_table(device));
        NicFacts { announces, zero_copy, native, hides_tags, descriptors }
    }

    /// How large the rings of its ports should be. `wanted`: whether zero-copy is, by the configuration. `usual`: those of others.
    pub(super) fn rings(&self, wanted: bool, usual: RingSizes) -> RingSizes {
        if self.zero_copy && wanted { RingSizes::for_nic(self.descriptors) } else { usual }
    }
}

/// What is known of its driver, where the kernel does not tell: not every NIC is worth frames of twice the size.
fn by_table(device: &KernelDevice) -> bool {
    drivers::has_zero_copy(&device.driver(), &rustix::system::uname().release().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_larger_where_zero_copy_comes_into_question() {
        let nic = NicFacts { announces: Some(true), zero_copy: true, descriptors: 4096, ..NicFacts::default() };
        let small = RingSizes::DEFAULT.halved().unwrap();
        assert_eq!(nic.rings(true, small), RingSizes::for_nic(4096));
        assert_eq!(nic.rings(false, small), small);
        assert_eq!(NicFacts { zero_copy: false, ..nic }.rings(true, small), small);
    }

    #[test]
    fn the_loopback_interface_has_no_zero_copy() {
        let device = KernelDevice::by_name("lo").unwrap();
        let facts = NicFacts::of(&device);
        assert!(facts.announces != Some(true) && facts.descriptors == 0, "{facts:?}");
    }
}
