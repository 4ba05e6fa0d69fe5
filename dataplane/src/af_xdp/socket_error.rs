//! Why there is no socket, with the numbers and the next step.

use rustix::io::Errno;

use super::refusal::Circumstances;
use super::{Device, DeviceError, UmemLayout};

/// Why a socket could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// The interface could not be asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The interface has fewer queues.
    #[error("{interface} has {queues} queues, so there is no queue {queue}: lower the number of workers, or run `ethtool -L {interface} combined {more}` (veth: `rx {more} tx {more}`)", more = .queue + 1)]
    NoQueue {
        /// The interface.
        interface: String,
        /// The queue asked for, counted from 0.
        queue: u32,
        /// How many it has.
        queues: u32,
    },
    /// Its packets can be larger than a chunk.
    #[error(
        "{interface} has MTU {mtu}, and {} at most {}: {}",
        if room < most { "frames of this size carry".to_owned() } else { format!("{mode} carries") },
        room.min(most),
        if mtu <= most { RESTART.to_owned() } else { format!("run `ip link set {interface} mtu {}`", room.min(most)) }
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// The largest MTU that fits.
        room: u32,
        /// How its packets would come: `native XDP`, for example.
        mode: &'static str,
        /// The largest MTU that they can come so with, in frames as large as they get.
        most: u32,
    },
    /// Its packets can be larger than what a driver makes of a chunk in zero-copy mode.
    #[error(
        "zero-copy with frames of {chunk_size} bytes carries an MTU of {most} at most, since drivers count their room in whole \
         KiB, and {interface} has MTU {mtu}: {}",
        remedy(interface, *most, *chunk_size)
    )]
    Frames {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: u32,
        /// Bytes of a frame.
        chunk_size: u32,
        /// The largest MTU in zero-copy mode.
        most: u32,
    },
    /// Somebody else has the queue.
    #[error(
        "queue {queue} of {interface} is held by another AF_XDP socket: `ss --xdp -p` names its process, perhaps another instance of Ringway; stop it, or choose another interface"
    )]
    Busy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// A capability is missing.
    #[error("may not {what} on {interface}: {remedy}")]
    Permission {
        /// The interface.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the user can do.
        remedy: String,
    },
    /// The UMEM is more than the process may lock.
    #[error(
        "the UMEM needs {needed} bytes of locked memory and the limit is {limit}: grant the capability IPC_LOCK, or raise the limit (`ulimit -l`, LimitMEMLOCK=)"
    )]
    LockedMemory {
        /// The bytes needed.
        needed: u64,
        /// The bytes allowed.
        limit: u64,
    },
    /// The kernel has no AF_XDP.
    #[error("this kernel has no AF_XDP sockets: it needs CONFIG_XDP_SOCKETS=y and Linux 5.9 or later")]
    Unsupported,
    /// Zero-copy was demanded and the driver cannot.
    #[error("zeroCopy: on, but driver {driver:?} of {interface} cannot: {cause}; set zeroCopy: auto to copy instead")]
    ZeroCopy {
        /// The interface.
        interface: String,
        /// Its driver.
        driver: String,
        /// What the kernel said.
        cause: String,
    },
    /// Zero-copy was demanded with generic XDP.
    #[error(
        "zeroCopy: on, but {interface} runs XDP in generic mode, which always copies: set xdp: native or zeroCopy: auto"
    )]
    GenericZeroCopy {
        /// The interface.
        interface: String,
    },
    /// Something else.
    #[error("cannot {what} on queue {queue} of {interface}: {errno}")]
    Refused {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// What helps where frames were made for smaller packets.
const RESTART: &str = "restart Ringway, which makes frames as large as its interfaces need";

/// What helps against frames that are too small for zero-copy.
fn remedy(interface: &str, most: u32, chunk_size: u32) -> String {
    match chunk_size {
        // Packet memory is laid out at the start, by the interfaces there are then.
        2048 => RESTART.into(),
        _ => format!("run `ip link set {interface} mtu {most}`"),
    }
}

impl SocketError {
    /// Whether the message names the queue.
    pub fn names_the_queue(&self) -> bool {
        matches!(self, SocketError::NoQueue { .. } | SocketError::Busy { .. } | SocketError::Refused { .. })
    }

    /// The error that `errno` means for this attempt.
    pub(super) fn of(device: &Device, queue: u32, what: &'static str, errno: Errno) -> Self {
        let interface = device.name.clone();
        match errno {
            Errno::BUSY => SocketError::Busy { interface, queue },
            Errno::PERM | Errno::ACCESS => {
                let remedy = Circumstances::here().socket();
                SocketError::Permission { interface, what, remedy }
            }
            Errno::NODEV | Errno::NXIO => SocketError::Device(DeviceError::Missing { name: interface }),
            Errno::AFNOSUPPORT => SocketError::Unsupported,
            errno => SocketError::Refused { interface, queue, what, errno },
        }
    }

    /// That these frames are too small for zero-copy with this MTU.
    pub(super) fn frames(device: &Device, mtu: u32, layout: UmemLayout) -> Self {
        let (interface, chunk_size, most) = (device.name.clone(), layout.chunk_size, layout.zero_copy_mtu());
        SocketError::Frames { interface, mtu, chunk_size, most }
    }

    /// The kernel's part of the error of a bind in zero-copy mode, for a sentence that says the rest.
    pub(super) fn cause(&self, device: &Device) -> String {
        match self {
            SocketError::Refused { errno, .. } => Circumstances::here().zero_copy(&device.driver(), *errno),
            other => other.to_string(),
        }
    }

    /// The error where zero-copy was demanded.
    pub(super) fn without_zero_copy(self, device: &Device) -> Self {
        match self {
            SocketError::Refused { .. } => SocketError::ZeroCopy {
                interface: device.name.clone(),
                driver: device.driver(),
                cause: self.cause(device),
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_too_small_for_zero_copy_are_told_with_what_helps() {
        let device = Device { name: "eth0".into(), index: 2 };
        let small = SocketError::frames(&device, 1500, UmemLayout::of_frames(8)).to_string();
        assert!(small.contains("frames of 2048 bytes carries an MTU of 1006 at most"), "{small}");
        assert!(
            small.ends_with("eth0 has MTU 1500: restart Ringway, which makes frames as large as its interfaces need")
        );
        let large = SocketError::frames(&device, 3200, UmemLayout::for_zero_copy(8, 3200)).to_string();
        assert!(large.ends_with("eth0 has MTU 3200: run `ip link set eth0 mtu 3054`"), "{large}");
    }

    #[test]
    fn an_mtu_that_is_too_large_is_told_with_one_that_is_not() {
        let told = |mtu, room, most| {
            let (interface, mode) = ("eth0".into(), "native XDP");
            SocketError::Mtu { interface, mtu, room, mode, most }.to_string()
        };
        // One limit, whichever is the lower one.
        let native = told(9000, 3822, 3498);
        assert_eq!(native, "eth0 has MTU 9000, and native XDP carries at most 3498: run `ip link set eth0 mtu 3498`");
        let late = told(3000, 1774, 3498);
        assert!(late.ends_with("1774: restart Ringway, which makes frames as large as its interfaces need"), "{late}");
        let both = told(9000, 1774, 3054);
        assert!(both.ends_with("frames of this size carry at most 1774: run `ip link set eth0 mtu 1774`"), "{both}");
    }
}
