//! An interface as the kernel's small ioctls show it: index, MAC address, MTU, NUMA node. What drivers tell is next door, in
//! `ethtool.rs`.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::fs;
use std::net::Ipv4Addr;

use ringway_shared::{MacAddress, drivers};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

const SIOCGIFFLAGS: Opcode = 0x8913;
const SIOCSIFFLAGS: Opcode = 0x8914;
const SIOCSIFADDR: Opcode = 0x8916;
const SIOCSIFNETMASK: Opcode = 0x891c;
const SIOCGIFMTU: Opcode = 0x8921;
const SIOCSIFMTU: Opcode = 0x8922;
const SIOCSIFHWADDR: Opcode = 0x8924;
const SIOCGIFHWADDR: Opcode = 0x8927;
const SIOCETHTOOL: Opcode = 0x8946;
const TUNSETIFF: Opcode = 0x4004_54ca;
const TUNGETIFF: Opcode = 0x8004_54d2;

const ARPHRD_ETHER: u16 = 1;

/// What an interface could not be asked or told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// There is no such interface (any more).
    #[error("there is no interface {name}; `ip link` lists those there are")]
    Missing {
        /// The name asked for.
        name: String,
    },
    /// A name that no interface can have.
    #[error("{name:?} cannot be an interface's name: it has 1 to 15 bytes, no slash, no colon and no space")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// The kernel said no.
    #[error("cannot {what} of {name}: {errno}")]
    Refused {
        /// The interface.
        name: String,
        /// What was asked.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

/// `struct ifreq`: a name, and a value whose meaning depends on the request.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Request {
    name: [u8; 16],
    value: [u8; 24],
}

impl Request {
    /// The request about this interface.
    pub(super) fn new(name: &str) -> Result<Self, DeviceError> {
        let bytes = name.as_bytes();
        // What follows a colon the kernel leaves away: the answer would be about another name.
        let is_name =
            (1..16).contains(&bytes.len()) && !bytes.iter().any(|byte| matches!(byte, 0 | b'/' | b':' | b' '));
        if !is_name {
            return Err(DeviceError::Name { name: name.into() });
        }
        let mut request = Request { name: [0; 16], value: [0; 24] };
        for (to, from) in request.name.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(request)
    }

    /// Writes the start of the value.
    pub(super) fn set<const N: usize>(&mut self, bytes: [u8; N]) {
        for (to, from) in self.value.iter_mut().zip(bytes) {
            *to = from;
        }
    }

    /// Reads the start of the value.
    fn get<const N: usize>(&self) -> [u8; N] {
        self.value.first_chunk().copied().unwrap_or([0; N])
    }
}

/// Makes `/dev/net/tun`'s file descriptor the interface that the request names.
pub(super) fn set_tun(fd: &OwnedFd, request: &mut Request) -> Result<(), Errno> {
    // SAFETY: TUNSETIFF reads and writes a `struct ifreq`, which `Request` is.
    let call = unsafe { Updater::<TUNSETIFF, Request>::new(request) };
    // SAFETY: the descriptor is open, and the request outlives the call.
    unsafe { ioctl(fd, call) }
}

/// The name that the interface of `/dev/net/tun`'s file descriptor has now; an error when the interface was deleted.
pub(super) fn tun_name(fd: &OwnedFd) -> Result<String, Errno> {
    let mut request = Request { name: [0; 16], value: [0; 24] };
    // SAFETY: TUNGETIFF writes a `struct ifreq`, which `Request` is.
    let call = unsafe { Updater::<TUNGETIFF, Request>::new(&mut request) };
    // SAFETY: the descriptor is open, and the request outlives the call.
    unsafe { ioctl(fd, call) }?;
    Ok(request.name.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect())
}

/// An interface, by name and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name in the kernel.
    pub name: String,
    /// The kernel's ifindex.
    pub index: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Any socket will do for asking about interfaces of the thread's network namespace.
fn any_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

impl Device {
    /// The interface with this name in the network namespace of the calling thread.
    pub fn by_name(name: &str) -> Result<Device, DeviceError> {
        Request::new(name)?;
        let refused = |errno| DeviceError::Refused { name: name.into(), what: "read the index", errno };
        let socket = any_socket().map_err(refused)?;
        match netdevice::name_to_index(&socket, name) {
            Ok(index) => Ok(Device { name: name.into(), index }),
            Err(Errno::NODEV | Errno::NXIO) => Err(DeviceError::Missing { name: name.into() }),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Its MAC address.
    pub fn mac(&self) -> Result<MacAddress, DeviceError> {
        let mut request = Request::new(&self.name)?;
        self.call::<SIOCGIFHWADDR>(&mut request, "read the MAC address")?;
        let [_, _, mac @ ..]: [u8; 8] = request.get();
        Ok(MacAddress(mac))
    }

    /// Changes its MAC address.
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), DeviceError> {
        let mut request = Request::new(&self.name)?;
        let [low, high] = ARPHRD_ETHER.to_ne_bytes();
        let [a, b, c, d, e, f] = mac.0;
        request.set([low, high, a, b, c, d, e, f]);
        self.call::<SIOCSIFHWADDR>(&mut request, "set the MAC address")
    }

    /// The largest IP packet it carries.
    pub fn mtu(&self) -> Result<u32, DeviceError> {
        let mut request = Request::new(&self.name)?;
        self.call::<SIOCGIFMTU>(&mut request, "read the MTU")?;
        Ok(u32::from_ne_bytes(request.get()))
    }

    /// Changes the largest IP packet it carries.
    pub fn set_mtu(&self, mtu: u32) -> Result<(), DeviceError> {
        let mut request = Request::new(&self.name)?;
        request.set(mtu.to_ne_bytes());
        self.call::<SIOCSIFMTU>(&mut request, "set the MTU")
    }

    /// Gives it an IPv4 address that stands for no network (/32).
    pub fn set_address(&self, address: Ipv4Addr) -> Result<(), DeviceError> {
        let set = |address: Ipv4Addr, is_mask: bool| {
            let mut request = Request::new(&self.name)?;
            // `struct sockaddr_in`: family, port, address.
            let [low, high] = AddressFamily::INET.as_raw().to_ne_bytes();
            let [a, b, c, d] = address.octets();
            request.set([low, high, 0, 0, a, b, c, d]);
            match is_mask {
                false => self.call::<SIOCSIFADDR>(&mut request, "set the address"),
                true => self.call::<SIOCSIFNETMASK>(&mut request, "set the address's mask"),
            }
        };
        set(address, false)?;
        set(Ipv4Addr::BROADCAST, true)
    }

    /// Its `IFF_…` flags.
    pub fn flags(&self) -> Result<u16, DeviceError> {
        let mut request = Request::new(&self.name)?;
        self.call::<SIOCGIFFLAGS>(&mut request, "read the flags")?;
        Ok(u16::from_ne_bytes(request.get()))
    }

    /// Sets `IFF_…` flags besides those it has.
    pub fn add_flags(&self, flags: u16) -> Result<(), DeviceError> {
        let mut request = Request::new(&self.name)?;
        request.set((self.flags()? | flags).to_ne_bytes());
        self.call::<SIOCSIFFLAGS>(&mut request, "set the flags")
    }

    /// Whether its driver may work on the UMEM directly, as far as its name tells: those of devices without hardware never do.
    pub fn may_zero_copy(&self) -> bool {
        !drivers::is_virtual(&self.driver())
    }

    /// The NUMA node it is attached to; `None` when it has none, as virtual interfaces do.
    pub fn numa_node(&self) -> Option<u32> {
        let text = fs::read_to_string(format!("/sys/class/net/{}/device/numa_node", self.name)).ok()?;
        text.trim().parse().ok()
    }

    fn call<const REQUEST: Opcode>(&self, request: &mut Request, what: &'static str) -> Result<(), DeviceError> {
        // SAFETY: every request that is named in this file reads and writes a `struct ifreq`, which `Request` is.
        let call = unsafe { Updater::<REQUEST, Request>::new(request) };
        // SAFETY: the request outlives the call; where it carries a pointer, whoever called `ethtool` vouches for its target.
        let done = any_socket().and_then(|socket| unsafe { ioctl(&socket, call) });
        done.map_err(|errno| match errno {
            Errno::NODEV => DeviceError::Missing { name: self.name.clone() },
            errno => DeviceError::Refused { name: self.name.clone(), what, errno },
        })
    }

    /// One ethtool command.
    ///
    /// # Safety
    ///
    /// `command` starts with the command's number, and has the layout and at least the size that the kernel reads and writes
    /// for it; every bit pattern is a value of it.
    pub(super) unsafe fn ethtool<T: ?Sized>(&self, command: &mut T, what: &'static str) -> Result<(), DeviceError> {
        let mut request = Request::new(&self.name)?;
        let pointer: *mut c_void = std::ptr::from_mut(command).cast();
        // The kernel follows this pointer; `command` is borrowed until it is back.
        request.set((pointer.expose_provenance()).to_ne_bytes());
        self.call::<SIOCETHTOOL>(&mut request, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_can_be_asked() {
        let device = Device::by_name("lo").unwrap();
        assert_eq!((device.index, device.mac().unwrap()), (1, MacAddress([0; 6])));
        assert!(device.mtu().unwrap() >= 1280);
        assert_eq!(device.flags().unwrap() & 8, 8, "IFF_LOOPBACK");
        assert_eq!(device.queues().unwrap(), 1);
        assert_eq!(device.numa_node(), None);
    }

    #[test]
    fn names_are_checked_before_the_kernel_is_asked() {
        for name in ["", "a-name-too-long-", "a/b", "a b"] {
            assert_eq!(Device::by_name(name).unwrap_err(), DeviceError::Name { name: name.into() });
        }
        let error = Device::by_name("rwnosuch0").unwrap_err();
        assert_eq!(error, DeviceError::Missing { name: "rwnosuch0".into() });
    }
}
