//! What a refusal by the kernel means on this machine: the kernel is too old or built without, or somebody forbids it.

use std::fmt;

use rustix::io::Errno;

/// The first Linux that has all that the steering program calls.
const OLDEST: (u32, u32) = (5, 18);

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
        let mut numbers = self.release.split(|letter: char| !letter.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse().ok());
        matches!((next(), next()), (Some(major), Some(minor)) if (major, minor) < OLDEST)
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
    fn a_filter_shows_in_the_status() {
        assert!(is_filtered("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t2\n"));
    }
}
