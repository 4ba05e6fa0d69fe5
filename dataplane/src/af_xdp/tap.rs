//! TAP: the way back into the kernel for packets that user space decides to pass.
//!
//! The steering program leaves to the kernel what it can tell. What still comes up and is not ours is written to a TAP
//! device with the NIC's MAC address, so that the kernel receives it as if from a second NIC on the same link. The
//! device sends nothing by itself, has no address of use, and is gone with the process.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use ringway_shared::MacAddress;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::device::{self, Device, DeviceError, Request};

const TUN: &str = "/dev/net/tun";

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// Fail if the device exists.
const IFF_TUN_EXCL: u16 = 0x8000;

const IFF_UP: u16 = 0x1;
const IFF_NOARP: u16 = 0x80;

/// Why there is no TAP device, so that passed packets are lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// The kernel has no TUN/TAP, or the container hides it.
    #[error("cannot open {TUN}: {0}; load the module tun, or give the container this device")]
    Missing(Errno),
    /// It may not be made.
    #[error("may not make the TAP device {name}: grant the capability NET_ADMIN")]
    Permission {
        /// The device's name.
        name: String,
    },
    /// It exists.
    #[error(
        "the TAP device {name} exists: another instance of Ringway runs on this interface; stop it, or remove the device with `ip link del {name}`"
    )]
    Exists {
        /// The device's name.
        name: String,
    },
    /// The kernel said no.
    #[error("cannot make the TAP device {name}: {errno}")]
    Refused {
        /// The device's name.
        name: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// An interface could not be asked or told.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A TAP device that packets of one interface are passed to the kernel by.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    device: Device,
    notes: Vec<String>,
}

impl Tap {
    /// Makes the device for `nic`, in the network namespace of the calling thread.
    pub fn open(nic: &Device) -> Result<Tap, TapError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open(TUN, flags, Mode::empty()).map_err(TapError::Missing)?;
        let name = format!("rw{}", nic.index);
        let mut request = Request::new(&name)?;
        request.set((IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL).to_ne_bytes());
        device::set_tun(&fd, &mut request).map_err(|errno| match errno {
            Errno::PERM => TapError::Permission { name: name.clone() },
            Errno::BUSY | Errno::EXIST => TapError::Exists { name: name.clone() },
            errno => TapError::Refused { name: name.clone(), errno },
        })?;
        let device = Device::by_name(&name)?;
        let notes = configure(nic, &device);
        device.set_mac(nic.mac()?)?;
        device.set_mtu(nic.mtu()?)?;
        device.add_flags(IFF_UP | IFF_NOARP)?;
        Ok(Tap { fd, device, notes })
    }

    /// Gives the kernel a packet, Ethernet header included and checksums complete. Never waits.
    #[inline]
    pub fn inject(&self, packet: &[u8]) -> io::Result<()> {
        match rustix::io::write(&self.fd, packet) {
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Follows a change of the NIC's MAC address.
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), DeviceError> {
        self.device.set_mac(mac)
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Settings that could not be made, for `status`: what will not work as from the NIC itself.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Makes the kernel treat packets from the device like those from the NIC, and send none by it.
fn configure(nic: &Device, tap: &Device) -> Vec<String> {
    let mut notes = Vec::new();
    let mut set = |family: &str, key: &str, value: &str, without: &str| {
        let path = format!("/proc/sys/net/{family}/conf/{tap}/{key}");
        match fs::write(&path, value) {
            Ok(()) => {}
            // No IPv6 in this kernel.
            Err(error) if family == "ipv6" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => notes.push(format!("cannot write {value} to {path}: {error}; {without}")),
        }
    };
    // Answers to a packet leave by the NIC, never by the device it came from. The stricter of this value and the one for
    // all interfaces holds, 2 being laxer than 1.
    let without = "passed IPv4 packets may be dropped by the reverse path filter";
    let is_filtering =
        fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").is_ok_and(|value| value.trim() != "0");
    set("ipv4", "rp_filter", if is_filtering { "2" } else { "0" }, without);
    set("ipv4", "send_redirects", "0", "the kernel may send needless redirects");
    set("ipv6", "addr_gen_mode", "1", "the device may get a link-local address");
    set("ipv6", "accept_ra", "0", "the device may take part in autoconfiguration");
    set("ipv6", "autoconf", "0", "the device may take part in autoconfiguration");
    set("ipv6", "dad_transmits", "0", "the device may look for duplicate addresses");
    for family in ["ipv4", "ipv6"] {
        let like = format!("/proc/sys/net/{family}/conf/{nic}/forwarding");
        if let Ok(value) = fs::read_to_string(like) {
            set(family, "forwarding", value.trim(), "passed packets for other hosts are not forwarded");
        }
    }
    // Even the lax filter drops what comes by an interface without any address. One of scope host is never used as a
    // source, and the whole of 127.0.0.0/8 is local anyway.
    if is_filtering && let Err(error) = tap.set_address(Ipv4Addr::new(127, 255, 255, 254)) {
        notes.push(format!("{error}; {without}"));
    }
    notes
}
