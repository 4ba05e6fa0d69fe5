//! What is known of network drivers by their names, as ethtool tells them.
//!
//! It counts where the kernel does not say it itself (before Linux 6.3), and for words about a kernel that is too old.

use Driver::{Virtual, ZeroCopySince};

/// A driver.
enum Driver {
    /// It has zero-copy for AF_XDP since this Linux, both ways.
    ZeroCopySince(u16, u16),
    /// It has no hardware: nothing to work on memory directly, and nothing that takes tags off frames.
    Virtual,
}

/// Those of whom something is known.
const KNOWN: [(&str, Driver); 28] = [
    ("802.1Q VLAN Support", Virtual),
    ("bond", Virtual),
    ("bonding", Virtual),
    ("bridge", Virtual),
    ("dummy", Virtual),
    ("fsl_dpaa2_eth", ZeroCopySince(6, 2)),
    ("geneve", Virtual),
    ("gve", ZeroCopySince(6, 4)),
    ("i40e", ZeroCopySince(4, 20)),
    ("ice", ZeroCopySince(5, 5)),
    ("ifb", Virtual),
    ("igb", ZeroCopySince(6, 14)),
    ("igc", ZeroCopySince(5, 14)),
    ("ipvlan", Virtual),
    ("ixgbe", ZeroCopySince(4, 20)),
    ("macvlan", Virtual),
    ("mlx5_core", ZeroCopySince(5, 3)),
    ("netkit", Virtual),
    ("nfp", ZeroCopySince(5, 18)),
    ("openvswitch", Virtual),
    ("st_gmac", ZeroCopySince(5, 13)),
    ("stmmac", ZeroCopySince(5, 13)),
    ("team", Virtual),
    ("tsnep", ZeroCopySince(6, 4)),
    ("tun", Virtual),
    ("veth", Virtual),
    ("virtio_net", ZeroCopySince(6, 13)),
    ("vxlan", Virtual),
];

fn find(name: &str) -> Option<&'static Driver> {
    KNOWN.iter().find(|(known, _)| *known == name).map(|(_, driver)| driver)
}

/// Whether it is the driver of devices without hardware.
pub fn is_virtual(name: &str) -> bool {
    matches!(find(name), Some(Virtual))
}

/// Whether a driver sends what it is given in copy mode from where it is (IFF_TX_SKB_NO_LINEAR); all others send a copy.
pub fn sends_from_memory(name: &str) -> bool {
    name == "virtio_net"
}

/// The first Linux in which a driver has zero-copy; `None` where none is known.
pub fn zero_copy_since(name: &str) -> Option<(u16, u16)> {
    match find(name)? {
        ZeroCopySince(major, minor) => Some((*major, *minor)),
        Virtual => None,
    }
}

/// Whether a driver has zero-copy in this kernel, by Linux's own source. A release that cannot be read counts as new.
pub fn has_zero_copy(name: &str, release: &str) -> bool {
    zero_copy_since(name).is_some_and(|since| version(release).is_none_or(|now| now >= since))
}

/// The first two numbers of a kernel's release, as `uname -r` says it.
pub fn version(release: &str) -> Option<(u16, u16)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_kernels_without_zero_copy_are_known() {
        assert!(has_zero_copy("ice", "5.15.0-91-generic") && has_zero_copy("ixgbe", "what"));
        assert!(!has_zero_copy("igb", "6.1.0-18-amd64") && !has_zero_copy("e1000e", "6.1.0"));
        assert!(!has_zero_copy("veth", "6.18.0") && is_virtual("veth") && !is_virtual("igb") && !is_virtual("e1000e"));
        assert!(sends_from_memory("virtio_net") && !sends_from_memory("veth"));
        assert!(KNOWN.is_sorted_by(|(one, _), (other, _)| one < other), "each is there once");
    }

    #[test]
    fn a_release_is_read() {
        assert_eq!(version("6.18.15+deb13-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("7.3.4"), Some((7, 3)));
        assert_eq!(version("what"), None);
    }
}
