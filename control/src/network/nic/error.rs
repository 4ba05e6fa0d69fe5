//! What a NIC could not be asked or told.

use std::io;

use ringway_dataplane::af_xdp::DeviceError;
use rustix::io::Errno;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NicError {
    /// There is no such interface (any more).
    #[error("there is no interface {name}; `ip link` lists those there are")]
    Missing {
        /// The name asked for.
        name: String,
    },
    /// This kernel has no words for the question.
    #[error("this kernel does not tell {what}: that takes Linux {since}")]
    TooOld {
        /// What was asked.
        what: &'static str,
        /// The first kernel that answers.
        since: &'static str,
    },
    /// The driver has no answer.
    #[error("the driver of {name} does not tell or take what was asked: {what}")]
    Unsupported {
        /// The interface.
        name: String,
        /// What was asked.
        what: &'static str,
    },
    /// The driver takes something else than it is told.
    #[error("{name} keeps {feature} {}: {why}", if *.on { "off" } else { "on" })]
    Kept {
        /// The interface.
        name: String,
        /// The feature.
        feature: String,
        /// What was wanted.
        on: bool,
        /// Why, as far as is known.
        why: &'static str,
    },
    /// The kernel or the driver said no.
    #[error("{name}: {what}: {}{}{}", io::Error::from_raw_os_error(*.errno), .text.as_ref().map_or_else(String::new, |text| format!(" ({text})")), advice(*.errno))]
    Refused {
        /// The interface.
        name: String,
        /// What was asked.
        what: &'static str,
        /// What was said.
        errno: i32,
        /// The kernel's own words.
        text: Option<String>,
    },
    /// The kernel could not be asked at all.
    #[error("cannot ask the kernel over generic netlink: {0}")]
    Socket(#[from] io::Error),
}

/// What to do about an error number.
fn advice(errno: i32) -> &'static str {
    match Errno::from_raw_os_error(errno) {
        Errno::PERM | Errno::ACCESS => "; it takes the capability NET_ADMIN: run as root",
        Errno::BUSY => "; its driver does not do that while queues are in use: it may with Ringway stopped",
        Errno::INVAL => "; its driver does not take this value: ethtool shows those that it has",
        _ => "",
    }
}

impl NicError {
    /// Whether asking again is of no use while kernel and driver are the same.
    pub fn is_lasting(&self) -> bool {
        matches!(self, NicError::TooOld { .. } | NicError::Unsupported { .. } | NicError::Kept { .. })
    }

    /// Whether the privilege to ask is missing.
    pub fn is_privilege(&self) -> bool {
        let denied = [Errno::PERM.raw_os_error(), Errno::ACCESS.raw_os_error()];
        matches!(self, NicError::Refused { errno, .. } if denied.contains(errno))
    }

    /// What the kernel's error number means, asked of an interface.
    pub(super) fn of(name: &str, what: &'static str, errno: i32, text: Option<String>) -> Self {
        let name = name.to_owned();
        match Errno::from_raw_os_error(errno) {
            Errno::NODEV | Errno::NXIO => NicError::Missing { name },
            Errno::OPNOTSUPP => NicError::Unsupported { name, what },
            _ => NicError::Refused { name, what, errno, text },
        }
    }

    /// The same said by an ioctl.
    pub(super) fn of_device(error: DeviceError) -> Self {
        match error {
            DeviceError::Missing { name } | DeviceError::Name { name } => NicError::Missing { name },
            DeviceError::Refused { name, what, errno } => NicError::of(&name, what, errno.raw_os_error(), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_the_kernels_words_and_what_to_do() {
        let told = |errno: Errno, text: Option<&str>| {
            let error =
                NicError::of("eth0", "set what is hashed of packets", errno.raw_os_error(), text.map(str::to_owned));
            (error.to_string(), error.is_lasting(), error.is_privilege())
        };
        let (text, lasting, privilege) = told(Errno::PERM, None);
        assert!(text.starts_with("eth0: set what is hashed of packets: ") && text.ends_with("run as root"), "{text}");
        assert_eq!((lasting, privilege), (false, true));
        let (text, ..) = told(Errno::BUSY, Some("queue 3 has a socket"));
        assert!(text.contains("(queue 3 has a socket); its driver does not do that while"), "{text}");
        let (text, lasting, privilege) = told(Errno::OPNOTSUPP, None);
        assert_eq!(text, "the driver of eth0 does not tell or take what was asked: set what is hashed of packets");
        assert_eq!((lasting, privilege), (true, false));
    }
}
