//! Whether AF_XDP can do without a copy on a NIC, and why not.

use crate::report::nic::ZeroCopyVerdict;

/// Drivers whose zero-copy is in Linux, and since when, as far as is known. Asked only where the kernel does not announce it, and for the
/// words about a kernel that is too old.
const DRIVERS: [(&str, (u32, u32)); 13] = [
    ("i40e", (4, 20)),
    ("ixgbe", (4, 20)),
    ("mlx5_core", (5, 3)),
    ("ice", (5, 5)),
    ("stmmac", (5, 13)),
    ("st_gmac", (5, 13)),
    ("igc", (5, 14)),
    ("nfp", (5, 18)),
    ("fsl_dpaa2_eth", (6, 2)),
    ("tsnep", (6, 4)),
    ("gve", (6, 4)),
    ("virtio_net", (6, 13)),
    ("igb", (6, 14)),
];

/// `VIRTIO_F_ACCESS_PLATFORM` and `VIRTIO_F_RING_RESET`, by their places in /sys/…/features.
const ACCESS_PLATFORM: usize = 33;
const RING_RESET: usize = 40;

/// What decides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Circumstances<'a> {
    pub(super) driver: &'a str,
    /// What `uname -r` says.
    pub(super) release: &'a str,
    /// Whether the kernel announces it; `None` where it does not tell.
    pub(super) announced: Option<bool>,
    /// What a virtio device and its driver agreed upon.
    pub(super) virtio: Option<&'a str>,
    /// Whether the interface's frames are carried by others.
    pub(super) carried: bool,
}

/// The verdict, with its reason.
pub(super) fn verdict(of: Circumstances<'_>) -> ZeroCopyVerdict {
    let said = |possible, reason: String| ZeroCopyVerdict { possible, reason };
    if of.carried {
        return said(None, "that is for the devices below to say".into());
    }
    let since = DRIVERS.iter().find(|(driver, _)| *driver == of.driver).map(|(_, since)| *since);
    let driver = if of.driver.is_empty() { "this driver" } else { of.driver };
    let too_old = since.filter(|since| version(of.release).is_some_and(|now| now < *since));
    match (of.announced, since, too_old) {
        (_, _, Some((major, minor))) if of.announced != Some(true) => {
            let release = of.release;
            said(Some(false), format!("{driver} has zero-copy since Linux {major}.{minor}, and this is {release}"))
        }
        (Some(false), _, _) => said(Some(false), format!("{driver} does not announce it to this kernel")),
        (None, None, _) => said(Some(false), format!("no zero-copy is known of {driver}")),
        _ => {
            let has = |place| of.virtio.is_none_or(|bits| bits.as_bytes().get(place) == Some(&b'1'));
            match of.driver == "virtio_net" {
                true if !has(ACCESS_PLATFORM) => {
                    said(Some(false), "the hypervisor does not offer iommu_platform (QEMU: iommu_platform=on)".into())
                }
                true if !has(RING_RESET) => {
                    said(Some(false), "the hypervisor does not offer queue_reset (QEMU: queue_reset=on)".into())
                }
                _ => said(
                    Some(true),
                    match (of.announced, since) {
                        (None, Some((major, minor))) => format!("{driver} has it since Linux {major}.{minor}"),
                        _ => format!("{driver} announces it"),
                    },
                ),
            }
        }
    }
}

/// Whether a driver has zero-copy in some kernel, so that doing without can be helped.
pub(super) fn is_known(driver: &str) -> bool {
    DRIVERS.iter().any(|(known, _)| *known == driver)
}

/// Whether a driver has zero-copy in this kernel, by Linux's own source: for kernels that do not tell.
pub fn has_zero_copy(driver: &str, release: &str) -> bool {
    let since = DRIVERS.iter().find(|(known, _)| *known == driver).map(|(_, since)| *since);
    since.is_some_and(|since| version(release).is_none_or(|now| now >= since))
}

/// The first two numbers of a kernel's release.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_by_what_decides() {
        let bits = |on: &[usize]| (0..64).map(|place| if on.contains(&place) { '1' } else { '0' }).collect::<String>();
        let (all, no_platform, no_reset) = (bits(&[33, 40]), bits(&[40]), bits(&[33]));
        let of = |driver, release, announced, virtio| {
            let verdict = verdict(Circumstances { driver, release, announced, virtio, carried: false });
            format!("{:?}: {}", verdict.possible, verdict.reason)
        };
        let yes = Some(true);
        assert_eq!(of("igb", "6.18.15", yes, None), "Some(true): igb announces it");
        assert_eq!(
            of("igb", "6.12.117", Some(false), None),
            "Some(false): igb has zero-copy since Linux 6.14, and this is 6.12.117"
        );
        assert_eq!(of("ice", "5.19.0", None, None), "Some(true): ice has it since Linux 5.5");
        assert_eq!(of("veth", "6.18.1", Some(false), None), "Some(false): veth does not announce it to this kernel");
        assert_eq!(of("e1000e", "6.1.0", None, None), "Some(false): no zero-copy is known of e1000e");
        // A vendor's kernel has what it announces.
        assert_eq!(of("igb", "5.14.0-el9", yes, None), "Some(true): igb announces it");
        assert_eq!(of("virtio_net", "6.18.15", yes, Some(&all)), "Some(true): virtio_net announces it");
        assert!(of("virtio_net", "6.18.15", yes, Some(&no_platform)).contains("iommu_platform=on"));
        assert!(of("virtio_net", "6.18.15", yes, Some(&no_reset)).contains("queue_reset=on"));
        assert!(of("virtio_net", "6.12.117", Some(false), Some(&all)).contains("since Linux 6.13"));
        let carried = verdict(Circumstances { carried: true, ..Circumstances::default() });
        assert_eq!((carried.possible, &*carried.reason), (None, "that is for the devices below to say"));
    }

    #[test]
    fn drivers_and_kernels_without_zero_copy_are_known() {
        assert!(has_zero_copy("ice", "5.15.0-91-generic") && has_zero_copy("ixgbe", "what"));
        assert!(!has_zero_copy("igb", "6.1.0-18-amd64") && !has_zero_copy("e1000e", "6.1.0"));
    }

    #[test]
    fn a_release_is_read() {
        assert_eq!(version("6.18.15+deb13-cloud-amd64"), Some((6, 18)));
        assert_eq!(version("7.3.4"), Some((7, 3)));
        assert_eq!(version("what"), None);
    }
}
