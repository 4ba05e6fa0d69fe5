//! Where a device is whose settings are to be changed back: by now it may have another name, or be in another network namespace.
//!
//! A device keeps its ifindex when it is renamed. When it goes to another namespace and comes back it keeps where it is plugged in
//! and its permanent MAC address; the first alone does not tell the ports of one NIC apart.

use std::fmt;
use std::path::Path;

use ringway_shared::MacAddress;

use crate::network::listing::Listing;
use crate::network::nic::{NicError, driver};

/// What a device with hardware is known by, wherever it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) struct Identity {
    /// Where it is plugged in.
    pub(super) bus: String,
    /// Its permanent MAC address, if it has one.
    pub(super) mac: Option<MacAddress>,
}

impl Identity {
    /// As the list of settings has it.
    pub(super) fn read(word: &str) -> Self {
        let both = word.rsplit_once(',').and_then(|(bus, mac)| Some((bus, mac.parse().ok()?)));
        match both {
            Some((bus, mac)) => Identity { bus: bus.to_owned(), mac: Some(mac) },
            None => Identity { bus: word.to_owned(), mac: None },
        }
    }

    /// Whether this is certainly the same device.
    pub(super) fn is(&self, other: &Identity) -> bool {
        self.mac.is_some() && self == other
    }

    /// Whether nothing speaks against it.
    fn may_be(&self, bus: &str, mac: Option<MacAddress>) -> bool {
        self.bus == bus && (self.mac.is_none() || mac.is_none() || self.mac == mac)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bus)?;
        self.mac.map_or(Ok(()), |mac| write!(f, ",{mac}"))
    }
}

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Whereabouts {
    /// Here, under this name.
    Here(String),
    /// In another network namespace.
    Away,
    /// Nowhere: it was deleted, unplugged, or taken from its driver.
    Gone,
    /// What would tell could not be asked.
    Unknown(String),
}

/// The ifindex, the name and the permanent MAC address of a link.
pub(super) type Known<'a> = (u32, &'a str, Option<MacAddress>);

/// Where the machine has a device plugged in; `None` for one without hardware.
fn bus(name: &str) -> Result<Option<String>, String> {
    match driver(name) {
        Ok(driver) => Ok(Some(driver.bus).filter(|bus| !bus.is_empty() && !bus.contains(char::is_whitespace))),
        Err(NicError::Unsupported { .. }) => Ok(None),
        // The kernel says so of a device, too, whose driver has it aside for a moment.
        Err(NicError::Missing { .. }) => Err(format!("{name} does not answer just now")),
        Err(error) => Err(error.to_string()),
    }
}

/// What a device is known by; `None` for one without hardware.
pub(super) fn identity(index: u32, name: &str) -> Result<Option<Identity>, String> {
    let Some(bus) = bus(name)? else { return Ok(None) };
    let mac = Listing::read().map_err(|error| error.to_string())?.permanent_mac(index);
    Ok(Some(Identity { bus, mac }))
}

/// Where the device is that had this ifindex and this name and is known by that.
pub(super) fn find(index: u32, name: &str, noted: Option<&Identity>) -> Whereabouts {
    let listing = match Listing::read() {
        Ok(listing) => listing,
        Err(error) => return Whereabouts::Unknown(format!("the kernel does not tell its interfaces: {error}")),
    };
    let links: Vec<Known> = listing.names().map(|(index, name)| (index, name, listing.permanent_mac(index))).collect();
    among(&links, (index, name), noted, bus, |bus| is_plugged(Path::new("/sys"), bus))
}

pub(super) fn among(
    links: &[Known],
    (index, called): (u32, &str),
    noted: Option<&Identity>,
    bus: impl Fn(&str) -> Result<Option<String>, String>,
    is_plugged: impl Fn(&str) -> bool,
) -> Whereabouts {
    let here = |name: &str| Whereabouts::Here(name.to_owned());
    if let Some(&(_, name, mac)) = links.iter().find(|(other, ..)| *other == index) {
        match (noted, bus(name)) {
            // Where it is plugged in could not be asked when it was noted.
            (None, _) if name == called => return here(name),
            (None, Ok(None)) => return here(name),
            (Some(noted), Ok(Some(bus))) if noted.may_be(&bus, mac) => return here(name),
            (_, Err(error)) => return Whereabouts::Unknown(error),
            _ => {}
        }
    }
    let Some(noted) = noted else { return Whereabouts::Gone };
    let (mut there, mut failed) = (Vec::new(), None);
    for (_, name, _) in links.iter().filter(|(.., mac)| mac.is_some() && *mac == noted.mac) {
        match bus(name) {
            Ok(bus) if bus.as_ref() == Some(&noted.bus) => there.push(*name),
            Ok(_) => {}
            Err(error) => failed = Some(error),
        }
    }
    match (&there[..], failed) {
        ([name], _) => here(name),
        ([], Some(error)) => Whereabouts::Unknown(error),
        _ if is_plugged(&noted.bus) => Whereabouts::Away,
        _ => Whereabouts::Gone,
    }
}

/// Whether a device is plugged in, in whatever network namespace; true where the machine cannot be asked.
fn is_plugged(sys: &Path, bus: &str) -> bool {
    let pci = sys.join("bus/pci/devices");
    if is_pci(bus) {
        return !pci.exists() || pci.join(bus).exists() && has_driver(&pci.join(bus));
    }
    // `usb-<controller>-<port>`, where /sys has `<number of the controller's bus>-<port>`.
    let usb = sys.join("bus/usb/devices");
    let place = bus.strip_prefix("usb-").and_then(|place| place.rsplit_once('-'));
    let (Some((controller, port)), Ok(devices)) = (place, usb.read_dir()) else { return true };
    devices.flatten().any(|device| {
        let name = device.file_name().into_string().unwrap_or_default();
        let is_of_controller = || {
            let root = device.path().canonicalize().ok()?;
            Some(root.parent()?.file_name()? == controller)
        };
        let number = name.strip_prefix("usb").filter(|_| is_of_controller() == Some(true));
        number.is_some_and(|number| usb.join(format!("{number}-{port}")).exists())
    })
}

/// Whether a driver has this device that may make a network device of it. One that was taken from its driver, or given to a program
/// or a guest, is none in any namespace, and its settings went with the one that it was.
fn has_driver(device: &Path) -> bool {
    let driver = device.join("driver").read_link();
    driver.is_ok_and(|driver| !driver.ends_with("vfio-pci"))
}

/// Whether this is a place like `0000:01:00.0`, which the machine can be asked about.
fn is_pci(bus: &str) -> bool {
    let parts: Vec<usize> = bus.split([':', '.']).map(str::len).collect();
    parts.len() == 4 && parts[1..] == [2, 2, 1]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mac(last: u8) -> Option<MacAddress> {
        Some(MacAddress([2, 0, 0, 0, 0, last]))
    }

    fn known(bus: &str, mac: Option<MacAddress>) -> Option<Identity> {
        Some(Identity { bus: bus.to_owned(), mac })
    }

    fn here(name: &str) -> Whereabouts {
        Whereabouts::Here(name.to_owned())
    }

    #[test]
    fn a_device_is_known_by_its_ifindex_and_by_its_place_and_its_permanent_address() {
        let links = [
            (1, "lo", None),
            (7, "lan0", mac(7)),
            (8, "eth1", mac(8)),
            (9, "port0", mac(9)),
            (10, "port1", mac(10)),
            (11, "veth0", None),
            (12, "sim0", None),
        ];
        let bus = |name: &str| {
            let bus = match name {
                "lan0" => Some("0000:01:00.0"),
                "eth1" => Some("0000:02:00.0"),
                "port0" | "port1" => Some("0000:03:00.0"),
                "sim0" => Some("netdevsim1"),
                _ => None,
            };
            Ok(bus.map(str::to_owned))
        };
        let find = |index, name, noted: Option<Identity>| {
            among(&links, (index, name), noted.as_ref(), bus, |bus| bus != "0000:05:00.0")
        };
        assert_eq!(find(7, "eth0", known("0000:01:00.0", mac(7))), here("lan0"), "whatever it was called");
        assert_eq!(find(11, "veth9", None), here("veth0"));
        assert_eq!(
            find(2, "eth1", known("0000:02:00.0", mac(8))),
            here("eth1"),
            "it was in another namespace meanwhile"
        );
        assert_eq!(find(10, "port1", known("0000:03:00.0", mac(10))), here("port1"));
        assert_eq!(find(4, "port2", known("0000:03:00.0", mac(4))), Whereabouts::Away, "another port of that NIC");
        assert_eq!(find(9, "port2", known("0000:03:00.0", mac(4))), Whereabouts::Away, "even under its ifindex");
        assert_eq!(find(9, "port0", known("0000:03:00.0", None)), here("port0"), "a list without addresses");
        assert_eq!(find(12, "sim0", known("netdevsim1", None)), here("sim0"));
        assert_eq!(find(4, "sim0", known("netdevsim1", None)), Whereabouts::Away, "which one it is nobody knows");
        assert_eq!(find(8, "eth2", known("0000:04:00.0", mac(2))), Whereabouts::Away, "another device has its ifindex");
        assert_eq!(find(3, "eth3", known("0000:05:00.0", mac(3))), Whereabouts::Gone);
        assert_eq!(find(3, "veth3", None), Whereabouts::Gone);
        assert_eq!(find(7, "veth7", None), Whereabouts::Gone);
        assert!(is_pci("0000:01:00.0") && is_pci("10000:e1:00.1") && !is_pci("usb-0000:00:14.0-1") && !is_pci(""));
    }

    #[test]
    fn a_device_that_cannot_be_asked_is_neither_gone_nor_away() {
        let links = [(7, "eth0", mac(7)), (8, "eth1", mac(8))];
        let silent = |name: &str| Err(format!("{name} does not answer just now"));
        let find =
            |index, name, noted: Option<Identity>| among(&links, (index, name), noted.as_ref(), silent, |_| false);
        let unknown = |name| Whereabouts::Unknown(silent(name).unwrap_err());
        assert_eq!(find(7, "eth0", known("0000:01:00.0", mac(7))), unknown("eth0"));
        assert_eq!(find(9, "eth1", known("0000:02:00.0", mac(8))), unknown("eth1"), "it may be back");
        assert_eq!(find(9, "eth9", known("0000:09:00.0", mac(9))), Whereabouts::Gone, "that one it cannot be");
        assert_eq!(find(7, "eth0", None), here("eth0"), "it could not be asked when it was noted");
        assert_eq!(find(7, "eth9", None), unknown("eth0"));
    }

    #[test]
    fn what_is_known_of_a_device_is_read_as_it_is_written() {
        for (bus, mac) in [("0000:01:00.0", mac(1)), ("usb-0000:00:14.0-1", None), ("a,b", mac(2))] {
            let identity = known(bus, mac).unwrap();
            assert_eq!(Identity::read(&identity.to_string()), identity);
        }
    }

    #[test]
    fn a_device_without_its_driver_is_in_no_namespace() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(&device).unwrap();
        let is_plugged = || is_plugged(sys.path(), "0000:01:00.0");
        assert!(!is_plugged());
        for (driver, plugged) in [("igb", true), ("vfio-pci", false)] {
            symlink(format!("../../../bus/pci/drivers/{driver}"), device.join("driver")).unwrap();
            assert_eq!(is_plugged(), plugged, "{driver}");
            std::fs::remove_file(device.join("driver")).unwrap();
        }
    }

    #[test]
    fn a_device_on_a_usb_is_plugged_in_where_its_controller_has_it() {
        let sys = tempfile::tempdir().unwrap();
        let (pci, usb) = (sys.path().join("bus/pci/devices"), sys.path().join("bus/usb/devices"));
        let is_plugged = |bus| is_plugged(sys.path(), bus);
        assert!(is_plugged("0000:01:00.0") && is_plugged("usb-0000:00:14.0-1.2"), "without /sys nobody knows");
        let hub = sys.path().join("devices/0000:00:14.0/usb2");
        [&pci, &usb, &hub.join("2-1.2")].iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        symlink(&hub, usb.join("usb2")).unwrap();
        symlink(hub.join("2-1.2"), usb.join("2-1.2")).unwrap();
        assert!(is_plugged("usb-0000:00:14.0-1.2") && is_plugged("platform"));
        assert!(
            !is_plugged("usb-0000:00:14.0-1") && !is_plugged("usb-0000:00:1d.0-1.2") && !is_plugged("0000:01:00.0")
        );
    }
}
