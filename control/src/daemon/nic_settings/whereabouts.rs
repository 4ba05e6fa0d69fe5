//! Where a device is whose settings are to be changed back: by now it may have another name, or be in another network namespace.
//!
//! A device keeps its ifindex when it is renamed, and where it is plugged in when it goes to another namespace and comes back.

use std::path::Path;

use crate::network::listing::Listing;
use crate::network::nic::driver;

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Whereabouts {
    /// Here, under this name.
    Here(String),
    /// In another network namespace.
    Away,
    /// Nowhere: it was deleted or unplugged.
    Gone,
}

/// Where the machine has a device plugged in; `None` for one without hardware.
pub(super) fn bus(name: &str) -> Option<String> {
    driver(name).ok().map(|driver| driver.bus).filter(|bus| !bus.is_empty() && !bus.contains(char::is_whitespace))
}

/// Where the device is that had this ifindex and was plugged in there.
pub(super) fn find(index: u32, plugged: Option<&str>) -> Whereabouts {
    let listing = Listing::read().unwrap_or_default();
    among(&listing.names().collect::<Vec<_>>(), index, plugged, bus, |bus| {
        !is_pci(bus) || Path::new("/sys/bus/pci/devices").join(bus).exists()
    })
}

fn among(
    links: &[(u32, &str)],
    index: u32,
    plugged: Option<&str>,
    bus: impl Fn(&str) -> Option<String>,
    is_plugged: impl Fn(&str) -> bool,
) -> Whereabouts {
    let is_it = |(_, name): &&(u32, &str)| bus(name).as_deref() == plugged;
    if let Some((_, name)) = links.iter().find(|(other, _)| *other == index).filter(is_it) {
        return Whereabouts::Here((*name).to_owned());
    }
    let Some(place) = plugged else { return Whereabouts::Gone };
    let mut there = links.iter().filter(is_it);
    match (there.next(), there.next()) {
        // A NIC with several ports at one place is known by its ifindex only.
        (Some((_, name)), None) => Whereabouts::Here((*name).to_owned()),
        _ if is_plugged(place) => Whereabouts::Away,
        _ => Whereabouts::Gone,
    }
}

/// Whether this is a place like `0000:01:00.0`, which the machine can be asked about.
fn is_pci(bus: &str) -> bool {
    let parts: Vec<usize> = bus.split([':', '.']).map(str::len).collect();
    parts.len() == 4 && parts[1..] == [2, 2, 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_ifindex_and_by_where_it_is_plugged_in() {
        let links = [(1, "lo"), (7, "lan0"), (8, "eth1"), (9, "port0"), (10, "port1"), (11, "veth0")];
        let bus = |name: &str| match name {
            "lan0" => Some("0000:01:00.0".to_owned()),
            "eth1" => Some("0000:02:00.0".to_owned()),
            "port0" | "port1" => Some("0000:03:00.0".to_owned()),
            _ => None,
        };
        let find = |index, plugged| among(&links, index, plugged, bus, |bus| bus != "0000:05:00.0");
        let here = |name: &str| Whereabouts::Here(name.to_owned());
        assert_eq!(find(7, Some("0000:01:00.0")), here("lan0"), "whatever it was called");
        assert_eq!(find(11, None), here("veth0"));
        assert_eq!(find(2, Some("0000:02:00.0")), here("eth1"), "it was in another namespace meanwhile");
        assert_eq!(find(10, Some("0000:03:00.0")), here("port1"));
        assert_eq!(find(4, Some("0000:03:00.0")), Whereabouts::Away, "which of the two it is nobody knows");
        assert_eq!(find(8, Some("0000:04:00.0")), Whereabouts::Away, "another device has its ifindex");
        assert_eq!(find(3, Some("0000:05:00.0")), Whereabouts::Gone);
        assert_eq!((find(3, None), find(7, None)), (Whereabouts::Gone, Whereabouts::Gone));
        assert!(is_pci("0000:01:00.0") && is_pci("10000:e1:00.1") && !is_pci("usb-0000:00:14.0-1") && !is_pci(""));
    }
}
