//! Devices whose frames have lost their tags before XDP sees them.

use super::{Interfaces, lock, vlans};
use ringway_dataplane::af_xdp::{Device as KernelDevice, DeviceError};
use ringway_shared::drivers;

/// Whether it is a device without hardware, whose tags no offload takes away. So is one that is gone: another that has its name in a
/// moment is none of its affair.
pub(super) fn is_virtual(device: &KernelDevice) -> bool {
    match device.information() {
        Ok(information) => drivers::is_virtual(&information.driver),
        Err(error) => matches!(error, DeviceError::Missing { .. }),
    }
}

/// What follows from an offload that stays on.
pub(super) fn blindness(why: &str) -> String {
    format!("receive VLAN offload stays on, so frames of any VLAN look untagged ({why})")
}

/// Why a device is not served whose tags XDP cannot see. `blind`: why its offload stays on. `tagged`: a VLAN device above it is
/// listed.
pub(super) fn refusal(device: &KernelDevice, blind: Option<&String>, tagged: bool) -> Option<String> {
    let hidden = blind.map(|why| blindness(why)).or_else(|| vlans::hidden(&device.driver()).map(str::to_owned))?;
    let refusal = vlans::refusal(&device.name, tagged && blind.is_some(), &vlans::above(&device.name))?;
    Some(format!("{hidden}; {refusal}"))
}

impl Interfaces {
    /// Looks whether tags are still left in the frames of every device; whether there is anything to tell. Devices that must
    /// not be served any more are let go of, to be refused.
    pub(super) fn look_after_offloads(&mut self) -> bool {
        let mut changed = false;
        let mut unfit = Vec::new();
        let devices = self.carriers.values().map(|carrier| &carrier.device);
        let devices: Vec<_> = devices.filter(|device| !is_virtual(device)).cloned().collect();
        for device in devices {
            let offloads = self.offloads.clone();
            let blind = self.aside(|| lock(&offloads).switch_off(&device).err());
            let Some(carrier) = self.carriers.get_mut(&device.index) else { continue };
            if let Some(why) = blind.as_ref().filter(|_| carrier.blind.is_none()) {
                tracing::warn!("{}: {}", carrier.device, blindness(why));
            }
            changed |= blind != carrier.blind;
            carrier.blind = blind;
        }
        for carrier in self.carriers.values() {
            if refusal(&carrier.device, carrier.blind.as_ref(), false).is_some() {
                unfit.push(carrier.device.index);
            }
        }
        unfit.iter().for_each(|index| self.detach(*index));
        self.put_back_offloads();
        changed || !unfit.is_empty()
    }

    /// Switches the offload on again where an instance before this one left it off, and nothing here needs that.
    fn put_back_offloads(&mut self) {
        let Some(network) = self.newest() else { return };
        let is_free = |index: &u32| {
            !self.carriers.contains_key(index) && !self.kept.contains_key(index) && !self.is_needed(*index, &network)
        };
        let free: Vec<u32> = lock(&self.offloads).switched_off().into_iter().filter(is_free).collect();
        for index in free {
            let offloads = self.offloads.clone();
            self.aside(|| lock(&offloads).restore(index));
        }
    }
}
