//! Receive VLAN offload is switched off while Ringway is attached to a device.
//!
//! A NIC with this offload takes the tag off a frame and tells it to the kernel apart from the bytes, which is all that XDP sees:
//! a frame of any VLAN would look untagged. It is switched off before Ringway attaches, and again when somebody switches it on;
//! when Ringway lets go it is switched on again. What was switched off stands in a file of the state folder, so that an instance
//! that follows a killed one still knows.
//!
//! Virtual devices are left alone: what a veth's other end or a bridge keeps apart from the bytes no setting here brings back.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ringway_dataplane::af_xdp::Device;

use crate::network::nic::{Nic, NicError};

/// The kernel's name of the offload.
const FEATURE: &str = "rx-vlan-hw-parse";
/// The file in the state folder.
const FILE: &str = "vlan-offload";

/// The devices whose offload is off because of Ringway.
pub(super) struct Offloads {
    file: PathBuf,
    nic: Option<Nic>,
    /// By ifindex. The kernel gives no ifindex twice while it has others, and the name must fit, too.
    off: BTreeMap<u32, String>,
}

impl Offloads {
    /// Those that an instance before this one left behind in the state folder.
    pub(super) fn new(state: &Path) -> Self {
        let file = state.join(FILE);
        let left = std::fs::read_to_string(&file).unwrap_or_default();
        let of_line = |line: &str| {
            let (index, name) = line.split_once(' ')?;
            Some((index.parse().ok()?, name.to_owned()))
        };
        Offloads { file, nic: None, off: left.lines().filter_map(of_line).collect() }
    }

    /// Has a device leave tags in the frames. An error says why it does not.
    pub(super) fn switch_off(&mut self, device: &Device) -> Result<(), String> {
        match self.set(&device.name, false) {
            Ok(true) => {
                // Written at once: a driver may take its time, and a process may be killed.
                self.off.insert(device.index, device.name.clone());
                self.write();
                tracing::info!(
                    "{device}: switched receive VLAN offload off ({FEATURE}), so that XDP sees the tags of frames; it is switched \
                     on again when Ringway lets go"
                );
                Ok(())
            }
            // Off by somebody else's will, or by an earlier instance's, or there is none.
            Ok(false) => Ok(()),
            Err(NicError::Unsupported { .. } | NicError::TooOld { .. } | NicError::Missing { .. }) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Has a device do again what it did before.
    pub(super) fn restore(&mut self, index: u32) {
        let Some(name) = self.off.remove(&index) else { return };
        let is_same = Device::by_name(&name).is_ok_and(|device| device.index == index);
        if is_same {
            match self.set(&name, true) {
                Ok(_) => tracing::info!("{name}: switched receive VLAN offload on again"),
                Err(error) => tracing::warn!("receive VLAN offload stays off: {error}"),
            }
        }
        self.write();
    }

    /// The same for all, those of an earlier instance that nobody asked for since included.
    pub(super) fn restore_all(&mut self) {
        let all: Vec<u32> = self.off.keys().copied().collect();
        all.into_iter().for_each(|index| self.restore(index));
    }

    /// Looks whether somebody switched it on again, and switches it off. An error says why it stays on.
    pub(super) fn look(&mut self, device: &Device) -> Result<(), String> {
        if !self.off.contains_key(&device.index) {
            return self.switch_off(device);
        }
        match self.set(&device.name, false) {
            Ok(true) => tracing::warn!("{device}: somebody switched receive VLAN offload on; switched it off again"),
            Ok(false) | Err(NicError::Missing { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Whether that changed anything.
    fn set(&mut self, name: &str, on: bool) -> Result<bool, NicError> {
        let nic = match self.nic.take() {
            Some(nic) => nic,
            None => Nic::open()?,
        };
        let done = self.nic.insert(nic).set_feature(name, FEATURE, on);
        if matches!(done, Err(NicError::Socket(_))) {
            self.nic = None;
        }
        done
    }

    fn write(&self) {
        let mut text = String::new();
        for (index, name) in &self.off {
            // It cannot fail: a String takes everything.
            let _ = writeln!(text, "{index} {name}");
        }
        let written = match text.is_empty() {
            true => std::fs::remove_file(&self.file).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
            false => std::fs::write(&self.file, text),
        };
        if let Err(error) = written {
            let file = crate::plain::path(&self.file);
            tracing::warn!("cannot note in {file} which offloads to switch on again after a crash: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::netns::{End, Namespace, veth};

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
        Nic::open().unwrap().features("nic0").unwrap().is_on(FEATURE)
    }

    #[test]
    fn the_offload_is_off_meanwhile_and_on_afterwards() {
        let Some(namespace) = bed("meanwhile") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            let mut offloads = Offloads::new(state.path());
            assert!(is_on());
            offloads.switch_off(&device).unwrap();
            assert!(!is_on());
            Nic::open().unwrap().set_feature("nic0", FEATURE, true).unwrap();
            offloads.look(&device).unwrap();
            assert!(!is_on(), "somebody switched it on");
            offloads.restore(device.index);
            assert!(is_on());
            assert!(!state.path().join(FILE).exists());
            // Off by somebody else's will: it stays so.
            Nic::open().unwrap().set_feature("nic0", FEATURE, false).unwrap();
            offloads.switch_off(&device).unwrap();
            offloads.restore(device.index);
            assert!(!is_on());
        };
        namespace.enter(test).unwrap();
    }

    #[test]
    fn the_instance_after_a_killed_one_switches_it_on_again() {
        let Some(namespace) = bed("killed") else { return };
        let state = tempfile::tempdir().unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            Offloads::new(state.path()).switch_off(&device).unwrap();
            let mut after = Offloads::new(state.path());
            after.switch_off(&device).unwrap();
            after.restore_all();
            assert!(is_on());
            // Of another device that has the name by now nothing is known.
            std::fs::write(state.path().join(FILE), "99999 nic0\nrubbish\n").unwrap();
            Nic::open().unwrap().set_feature("nic0", FEATURE, false).unwrap();
            Offloads::new(state.path()).restore_all();
            assert!(!is_on());
            assert!(!state.path().join(FILE).exists());
        };
        namespace.enter(test).unwrap();
    }
}
