//! What a refusal by the kernel means on this machine: the kernel is too old or built without, or somebody forbids it.

use std::fmt;

use ringway_shared::drivers;
use rustix::io::Errno;

/// The first Linux that has all that the steering program calls.
const OLDEST: (u16, u16) = (5, 18);

/// The kernel's own ENOTSUPP, which some drivers let out.
const ENOTSUPP: Errno = Errno::from_raw_os_error(524);

/// What decides how a refusal is to be read.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    /// As `uname -r` says.
    release: String,
    /// Whether a seccomp filter is in force.
    filtered: bool,
}

impl Circumstances {
    /// Those of this process.
    pub(super) fn here() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        Circumstances { release, filtered: is_filtered(&status) }
    }

    fn is_too_old(&self) -> bool {
        self.is_before(OLDEST)
    }

    fn is_before(&self, version: (u16, u16)) -> bool {
        drivers::version(&self.release).is_some_and(|release| release < version)
    }

    /// What to do when `bpf()` did not do what the steering program needs.
    pub(super) fn bpf(&self, errno: Option<Errno>) -> String {
        match errno {
            Some(Errno::PERM | Errno::NOSYS) if self.filtered => filter("bpf()"),
            Some(Errno::NOSYS) => "this kernel was built without it: boot one with CONFIG_BPF_SYSCALL=y".into(),
            _ if self.is_too_old() => {
                let ((major, minor), release) = (OLDEST, &self.release);
                format!("this is Linux {release}, and Ringway needs {major}.{minor} or later: boot a newer kernel")
            }
            Some(Errno::PERM | Errno::ACCESS) => {
                "it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and no security module that forbids it: journalctl -k \
                 tells of those"
                    .into()
            }
            _ => {
                let release = &self.release;
                format!("it needs a kernel with CONFIG_BPF_SYSCALL=y and CONFIG_XDP_SOCKETS=y, and this is Linux {release}")
            }
        }
    }

    /// What it means that a bind in zero-copy mode was refused by this driver.
    pub(super) fn zero_copy(&self, driver: &str, errno: Errno) -> String {
        match (driver, errno) {
            ("virtio_net", Errno::INVAL) => {
                "the virtual NIC does not use the platform's DMA: give it iommu_platform=on (QEMU; libvirt: \
                 <driver iommu='on'/>), which is VIRTIO_F_ACCESS_PLATFORM"
            }
            .into(),
            ("virtio_net", Errno::NOENT) => {
                "the virtual NIC cannot reset one queue: give it queue_reset=on (QEMU 7.2 or later), which is \
                 VIRTIO_F_RING_RESET"
            }
            .into(),
            (_, Errno::OPNOTSUPP | ENOTSUPP) => {
                match drivers::zero_copy_since(driver).filter(|since| self.is_before(*since)) {
                    Some((major, minor)) => {
                        format!(
                            "zero-copy is not supported: this is Linux {}, and {driver} has it since {major}.{minor}",
                            self.release
                        )
                    }
                    None => "zero-copy is not supported".into(),
                }
            }
            (_, Errno::INVAL) => {
                format!(
                    "{errno}: the driver refuses this queue, its ring sizes (ethtool -g) or its MTU; journalctl -k may tell"
                )
            }
            (_, Errno::NOMEM) => format!("{errno}: smaller rings (ethtool -G) or fewer queues (ethtool -L) take less"),
            (_, errno) => format!("{errno}; journalctl -k may tell why"),
        }
    }

    /// What to do when an AF_XDP socket was forbidden.
    pub(super) fn socket(&self) -> String {
        match self.filtered {
            true => filter("AF_XDP sockets"),
            false => "AF_XDP needs the capabilities NET_RAW, NET_ADMIN and BPF; run as root or grant them".into(),
        }
    }
}

fn filter(what: impl fmt::Display) -> String {
    format!(
        "a seccomp filter is in force, which is what refuses {what} to those with the capabilities: in a pod set \
         seccompProfile to {{type: Unconfined}}, or use a runtime whose default allows it (containerd 1.6.9, Docker 23, or \
         later)"
    )
}

/// Whether `/proc/self/status` tells of a seccomp filter.
fn is_filtered(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(release: &str, filtered: bool) -> Circumstances {
        Circumstances { release: release.to_owned(), filtered }
    }

    #[test]
    fn a_refusal_is_read_by_where_it_happens() {
        for (release, filtered, errno, said) in [
            ("5.15.0-91-generic", false, Some(Errno::INVAL), "this is Linux 5.15.0-91-generic, and Ringway needs 5.18"),
            ("4.19.0", false, None, "this is Linux 4.19.0, and Ringway needs 5.18 or later: boot a newer kernel"),
            // What an old verifier says.
            ("5.17.9", false, Some(Errno::ACCESS), "this is Linux 5.17.9, and Ringway needs 5.18"),
            (
                "6.1.0",
                false,
                Some(Errno::INVAL),
                "it needs a kernel with CONFIG_BPF_SYSCALL=y and CONFIG_XDP_SOCKETS=y",
            ),
            (
                "6.1.0",
                false,
                Some(Errno::NOSYS),
                "this kernel was built without it: boot one with CONFIG_BPF_SYSCALL=y",
            ),
            (
                "6.1.0",
                false,
                Some(Errno::PERM),
                "it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and no security module",
            ),
            ("6.1.0", true, Some(Errno::PERM), "a seccomp filter is in force, which is what refuses bpf()"),
            ("6.1.0", true, Some(Errno::NOSYS), "a seccomp filter is in force, which is what refuses bpf()"),
            ("what", false, Some(Errno::INVAL), "it needs a kernel with"),
        ] {
            let told = on(release, filtered).bpf(errno);
            assert!(told.starts_with(said), "{release} {filtered} {errno:?}: {told}");
        }
        assert!(on("6.1.0", true).socket().contains("refuses AF_XDP sockets"));
        assert!(on("6.1.0", false).socket().starts_with("AF_XDP needs the capabilities"));
    }

    #[test]
    fn a_refused_zero_copy_says_what_to_change() {
        for (release, driver, errno, said) in [
            ("6.18.0", "virtio_net", Errno::INVAL, "give it iommu_platform=on"),
            ("6.18.0", "virtio_net", Errno::NOENT, "give it queue_reset=on"),
            ("6.12.1", "virtio_net", Errno::OPNOTSUPP, "this is Linux 6.12.1, and virtio_net has it since 6.13"),
            ("6.13.9", "igb", Errno::OPNOTSUPP, "this is Linux 6.13.9, and igb has it since 6.14"),
            ("6.18.0", "igb", Errno::INVAL, "its ring sizes (ethtool -g)"),
            ("6.18.0", "ice", Errno::NOMEM, "smaller rings (ethtool -G)"),
            ("6.18.0", "ice", Errno::IO, "journalctl -k"),
        ] {
            let told = on(release, false).zero_copy(driver, errno);
            assert!(told.contains(said), "{release} {driver} {errno:?}: {told}");
        }
        for (driver, errno) in [("igb", Errno::OPNOTSUPP), ("veth", Errno::OPNOTSUPP), ("ice", ENOTSUPP)] {
            assert_eq!(on("6.18.0", false).zero_copy(driver, errno), "zero-copy is not supported");
        }
    }

    #[test]
    fn a_filter_shows_in_the_status() {
        assert!(is_filtered("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t2\n"));
    }
}
