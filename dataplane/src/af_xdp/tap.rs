//! TAP: the way back into the kernel for packets that user space decides to pass.
//!
//! The steering program leaves to the kernel what it can tell. What still comes up and is not ours is written to a TAP
//! device with the NIC's MAC address, whose packets go on as the NIC's (`tap/redirect.rs`); where the kernel cannot do that, it
//! receives them as if from a second NIC on the same link. The device sends nothing by itself, has no address of use, and is
//! gone with the process.

mod redirect;
mod settings;

use std::io;
use std::os::fd::OwnedFd;

use ringway_shared::MacAddress;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use self::redirect::Filter;
use super::device::{self, Device, DeviceError, Request};

const TUN: &str = "/dev/net/tun";

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// Fail if the device exists.
const IFF_TUN_EXCL: u16 = 0x8000;

const IFF_UP: u16 = 0x1;
const IFF_NOARP: u16 = 0x80;

/// The address of a bridge without ports.
const NO_MAC: MacAddress = MacAddress([0; 6]);

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
    /// Somebody took it away.
    #[error("the TAP device {name} is gone: {how}")]
    Gone {
        /// The device's name.
        name: String,
        /// What became of it.
        how: String,
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
    /// What has its packets go on as the NIC's, where the kernel can do that.
    filter: Option<Filter>,
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
        let mut notes = settings::make(nic, &device);
        let filter = Filter::make(&device, nic);
        if let Err(errno) = filter {
            notes.push(format!(
                "cannot have packets from {device} go on as {nic}'s: {errno}; firewall rules, policy rules and VRFs that name {nic} \
                 do not see them unless they name {device} as well. Load the modules sch_ingress, act_mirred and cls_matchall \
                 (or cls_u32), and start Ringway again"
            ));
        }
        let tap = Tap { fd, device, filter: filter.ok(), notes };
        tap.set_mac(nic.mac()?)?;
        tap.set_mtu(nic.mtu()?)?;
        tap.device.add_flags(IFF_UP | IFF_NOARP)?;
        Ok(tap)
    }

    /// Whether devices could be made, as far as that shows without making one.
    pub fn look() -> Result<(), TapError> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open(TUN, flags, Mode::empty()).map_err(TapError::Missing)?;
        match device::tun_name(&fd) {
            // It is no device that makes others.
            Err(errno @ (Errno::NOTTY | Errno::INVAL)) => Err(TapError::Missing(errno)),
            _ => Ok(()),
        }
    }

    /// Gives the kernel a packet, Ethernet header included and checksums complete. Never waits.
    #[inline]
    pub fn inject(&self, packet: &[u8]) -> io::Result<()> {
        match rustix::io::write(&self.fd, packet) {
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Puts right what somebody changed about the device, and follows what changed about `nic`; says what that was.
    /// `thorough`: looks at its settings as well. An error says why the device is none any more, or cannot be put right.
    pub fn mend(&self, nic: &Device, thorough: bool) -> Result<Vec<String>, TapError> {
        let name = &self.device.name;
        if !Device::by_name(name).is_ok_and(|found| found.index == self.device.index) {
            let how = match device::tun_name(&self.fd) {
                Err(_) => "it was deleted".to_owned(),
                Ok(other) if other != *name => format!("it was renamed to {other}"),
                Ok(_) => "it was moved to another network namespace".to_owned(),
            };
            return Err(TapError::Gone { name: name.clone(), how });
        }
        let mut mended = Vec::new();
        let (mac, mtu) = (self.device.mac()?, self.device.mtu()?);
        let right = nic.mac()?;
        if mac != right && right != NO_MAC {
            self.device.set_mac(right)?;
            mended.push(format!("its MAC address was {mac}"));
        }
        if mtu != nic.mtu()? {
            self.device.set_mtu(nic.mtu()?)?;
            mended.push(format!("its MTU was {mtu}"));
        }
        let flags = self.device.flags()?;
        let is_down = flags & IFF_UP == 0;
        if is_down {
            mended.push("it was down".to_owned());
        } else if flags & IFF_NOARP == 0 {
            mended.push("ARP was on".to_owned());
        }
        if thorough || !mended.is_empty() {
            mended.extend(settings::mend(nic, &self.device));
            if self.filter.is_some_and(|filter| filter.keep(&self.device, nic) == Ok(true)) {
                mended.push(format!("its packets did not go on as {nic}'s"));
            }
        }
        if flags & (IFF_UP | IFF_NOARP) != IFF_UP | IFF_NOARP {
            self.device.add_flags(IFF_UP | IFF_NOARP)?;
        }
        Ok(mended)
    }

    /// Follows a change of the NIC's MAC address. While a bridge has no ports it has none, and no device can be given that.
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), DeviceError> {
        if mac == NO_MAC { Ok(()) } else { self.device.set_mac(mac) }
    }

    /// Follows a change of the NIC's MTU.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), DeviceError> {
        self.device.set_mtu(mtu)
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
