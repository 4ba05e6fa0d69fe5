//! Sockets: one AF_XDP socket per port, bound to one queue of one interface, and its four rings.
//!
//! All sockets of a worker share its UMEM: the first one registers it, the others bind to the first one's registration,
//! which fixes their mode. Devices of both modes under one worker therefore have two registrations of the same memory.

mod holding;
mod prepared;
mod sizes;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::xdp::XdpStatistics;
use rustix::net::{RecvFlags, SendFlags, sockopt};

use super::rings::{Consumer, Descriptor, Producer};
use super::socket_error::SocketError;
use super::umem::Region;
use super::{Device, UmemLayout};
pub use holding::Holding;
use prepared::{Attempt, Prepared};
pub use sizes::RingSizes;

/// Whether the driver shall work on the UMEM directly: `interfaces[].zeroCopy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If it can.
    #[default]
    Auto,
    /// Or not at all.
    On,
    /// No.
    Off,
}

impl ZeroCopy {
    /// The word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            ZeroCopy::Auto => "auto",
            ZeroCopy::On => "on",
            ZeroCopy::Off => "off",
        }
    }
}

/// How a socket is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct SocketOptions {
    /// The sizes of the rings.
    pub rings: RingSizes,
    /// Zero-copy or not.
    pub zero_copy: ZeroCopy,
    /// True when the steering program runs in generic mode on this interface, which rules zero-copy out.
    pub generic: bool,
    /// Whether the worker polls the driver itself (`poll: busy`).
    pub busy_poll: bool,
    /// Whether the driver announces zero-copy; `None` where the kernel does not tell (before Linux 6.3).
    pub announces: Option<bool>,
}

impl SocketOptions {
    /// Whether a driver that works on the UMEM directly might split packets of this MTU over two chunks. Where the driver cannot
    /// do that anyway, the kernel's own answer is the better reason.
    fn would_split(&self, device: &Device, mtu: u32, layout: UmemLayout) -> bool {
        mtu > layout.zero_copy_mtu() && self.announced(device)
    }

    /// Whether the driver may work on the UMEM, as far as is known.
    fn announced(&self, device: &Device) -> bool {
        self.announces.unwrap_or_else(|| device.may_zero_copy())
    }

    /// Why packets are copied without asking for anything else. What a driver does not announce the kernel refuses, and an attempt
    /// costs a registration of the whole UMEM: for each of a hundred devices, the longer the more of them there are.
    fn copies(&self, device: &Device) -> Option<String> {
        match (self.zero_copy, self.generic) {
            (ZeroCopy::Off, _) => Some("zeroCopy: off".to_owned()),
            (_, true) => Some("generic XDP always copies".to_owned()),
            (ZeroCopy::Auto, false) if !self.announced(device) => {
                Some(told(device, &SocketError::of(device, 0, "bind", Errno::OPNOTSUPP)))
            }
            (ZeroCopy::Auto | ZeroCopy::On, false) => None,
        }
    }
}

/// Why zero-copy does not come about, by the driver's answer.
fn told(device: &Device, error: &SocketError) -> String {
    format!("driver {:?}: {}", device.driver(), error.cause(device))
}

/// How packets get between the driver and the UMEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// The driver works on the UMEM.
    ZeroCopy,
    /// The kernel copies, for this reason.
    Copy {
        /// Why not zero-copy.
        because: String,
    },
}

impl fmt::Display for CopyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyMode::ZeroCopy => f.write_str("zero-copy"),
            CopyMode::Copy { because } => write!(f, "copy ({because})"),
        }
    }
}

/// Our ends of a port's rings.
#[derive(Debug)]
pub struct Rings {
    /// Free chunks, to the kernel.
    pub fill: Producer<u64>,
    /// Chunks of sent packets.
    pub completion: Consumer<u64>,
    /// Received packets.
    pub receive: Consumer<Descriptor>,
    /// Packets to send.
    pub transmit: Producer<Descriptor>,
}

/// A bound AF_XDP socket. It closes with the process, and never outlives an exec.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    device: Device,
    queue: u32,
    umem: u32,
    mode: CopyMode,
    takes_large: bool,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What a socket is to be.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    /// The interface.
    pub(crate) device: &'a Device,
    /// Its queue.
    pub(crate) queue: u32,
    /// Where the chunks are.
    pub(crate) region: &'a Region,
    /// The worker's sockets so far. Those whose devices are gone do not matter.
    pub(crate) siblings: &'a [Arc<Socket>],
    /// How to open it.
    pub(crate) options: &'a SocketOptions,
    /// The chunks that the kernel gets before the socket is bound, by their bases. Of an attempt that failed they are the
    /// next one's.
    pub(crate) chunks: &'a [u64],
}

/// What to know and to do where packets larger than a frame are lost.
const MERGED_ARE_LOST: &str = "this kernel (before 6.6) loses packets that receive offloads have merged: turn gro, lro \
                               and rx-gro-hw off (ethtool -K)";

impl Socket {
    /// What can be known before anything is done to a device; its MTU.
    pub fn check(device: &Device, layout: UmemLayout, options: &SocketOptions) -> Result<u32, SocketError> {
        let interface = || device.name.clone();
        let (mtu, room) = (device.mtu()?, layout.mtu());
        if mtu > room {
            let direct = options.zero_copy != ZeroCopy::Off && options.announced(device);
            let most = UmemLayout::largest_mtu(!options.generic, direct);
            let mode = match (direct, options.generic) {
                (_, true) => "generic XDP",
                (true, false) => "zero-copy",
                (false, false) => "native XDP",
            };
            return Err(SocketError::Mtu { interface: interface(), mtu, room, mode, most });
        }
        if options.zero_copy != ZeroCopy::On {
            return Ok(mtu);
        }
        if options.generic {
            return Err(SocketError::GenericZeroCopy { interface: interface() });
        }
        if options.announces == Some(false) {
            let refused = SocketError::of(device, 0, "bind", Errno::OPNOTSUPP);
            return Err(refused.without_zero_copy(device));
        }
        if options.would_split(device, mtu, layout) {
            return Err(SocketError::frames(device, mtu, layout));
        }
        Ok(mtu)
    }

    /// Opens a socket, with its fill ring full before it is bound: some drivers give the NIC its buffers at that moment and
    /// not again. A busy queue is told at once, whoever opens it waits: the kernel needs some 50 ms to let go of a socket that
    /// was closed.
    pub(crate) fn open(order: &Order<'_>) -> Result<(Socket, Rings), SocketError> {
        let Order { device, queue, region, options, .. } = *order;
        let queues = device.queues()?;
        if queue >= queues {
            return Err(SocketError::NoQueue { interface: device.name.clone(), queue, queues });
        }
        let mtu = Self::check(device, region.layout(), options)?;
        let because = match options.copies(device) {
            Some(because) => because,
            None => match Self::open_zero_copy(order, mtu) {
                Ok(opened) => return Ok(opened),
                Err(error @ SocketError::Busy { .. }) => return Err(error),
                Err(error) if options.zero_copy == ZeroCopy::On => return Err(error.without_zero_copy(device)),
                Err(error @ SocketError::Frames { .. }) => error.to_string(),
                Err(error) => told(device, &error),
            },
        };
        // Kernels before 6.6 cannot deliver packets larger than a chunk.
        for large in [true, false] {
            let attempt = Attempt { zero_copy: false, large };
            match Prepared::new(order, attempt).and_then(Prepared::bind) {
                Ok((fd, rings)) => {
                    // In generic mode packets come after the kernel has merged them.
                    let lost = options.generic && !large;
                    let because = if lost { format!("{because}; {MERGED_ARE_LOST}") } else { because };
                    return Ok((Self::of(fd, device, queue, region, CopyMode::Copy { because }, large), rings));
                }
                Err(SocketError::Refused { errno: Errno::INVAL, .. }) if large => {}
                Err(error) => return Err(error),
            }
        }
        Err(SocketError::Refused { interface: device.name.clone(), queue, what: "bind", errno: Errno::INVAL })
    }

    fn open_zero_copy(order: &Order<'_>, mtu: u32) -> Result<(Socket, Rings), SocketError> {
        let Order { device, queue, region, options, .. } = *order;
        let layout = region.layout();
        if options.would_split(device, mtu, layout) {
            return Err(SocketError::frames(device, mtu, layout));
        }
        let attempt = Attempt { zero_copy: true, large: false };
        let (fd, rings) = Prepared::new(order, attempt).and_then(Prepared::bind)?;
        Ok((Self::of(fd, device, queue, region, CopyMode::ZeroCopy, false), rings))
    }

    fn of(fd: OwnedFd, device: &Device, queue: u32, region: &Region, mode: CopyMode, takes_large: bool) -> Self {
        Socket { fd, device: device.clone(), queue, umem: region.umem(), mode, takes_large }
    }

    /// One that is bound to nothing.
    #[cfg(test)]
    pub(crate) fn in_name_only(device: Device, queue: u32) -> Self {
        let fd = std::fs::File::open("/dev/null").unwrap().into();
        Socket { fd, device, queue, umem: 0, mode: CopyMode::ZeroCopy, takes_large: false }
    }

    /// The interface it is bound to.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The queue it is bound to.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Zero-copy, or why not.
    pub fn mode(&self) -> &CopyMode {
        &self.mode
    }

    /// Whether packets larger than a chunk arrive, as several descriptors; otherwise the kernel drops them.
    pub fn takes_large(&self) -> bool {
        self.takes_large
    }

    /// Whether others can share its registration: the kernel does not let them once its device was deleted. Where a driver says
    /// the same for want of an XDP program (igc, ixgbe) the memory is registered once more. Any thread may ask.
    pub(super) fn has_device(&self) -> bool {
        self.kick_receive() != Err(Errno::NXIO)
    }

    /// The kernel's own count of what it lost.
    pub fn statistics(&self) -> Result<XdpStatistics, Errno> {
        sockopt::xdp_statistics(&self.fd)
    }

    /// Asks the kernel to send what is in the transmit ring.
    #[inline]
    pub fn kick_transmit(&self) -> Result<(), Errno> {
        rustix::net::send(&self.fd, &[], SendFlags::DONTWAIT).map(drop)
    }

    /// Asks the kernel to look at the fill ring, and to poll the driver if busy polling is on.
    #[inline]
    pub fn kick_receive(&self) -> Result<(), Errno> {
        let nothing: &mut [u8] = &mut [];
        rustix::net::recv(&self.fd, nothing, RecvFlags::DONTWAIT).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_does_not_announce_is_not_tried() {
        let (rings, device) = (RingSizes::DEFAULT, Device::by_name("lo").unwrap());
        let copies = |zero_copy, generic, announces| {
            SocketOptions { rings, zero_copy, generic, busy_poll: false, announces }.copies(&device)
        };
        let refused = copies(ZeroCopy::Auto, false, Some(false)).unwrap();
        assert!(refused.ends_with("zero-copy is not supported"), "{refused}");
        assert_eq!(copies(ZeroCopy::Auto, false, Some(true)), None);
        // Whoever insists is told by the kernel.
        assert_eq!(copies(ZeroCopy::On, false, Some(false)), None);
        assert_eq!(copies(ZeroCopy::On, true, Some(true)).as_deref(), Some("generic XDP always copies"));
        assert_eq!(copies(ZeroCopy::Off, false, Some(true)).as_deref(), Some("zeroCopy: off"));
    }
}
