//! Whether AF_XDP can do without a copy on a NIC, and why not.

use ringway_shared::drivers::{version, zero_copy_since};

use crate::report::nic::ZeroCopyVerdict;

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
    let since = zero_copy_since(of.driver);
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
}
