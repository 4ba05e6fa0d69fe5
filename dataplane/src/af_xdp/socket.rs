//! Sockets: one AF_XDP socket per port, bound to one queue of one interface, and its four rings.
//!
//! All sockets of a worker share its UMEM: the first one registers it, the others bind to the first one's registration,
//! which fixes their mode. Devices of both modes under one worker therefore have two registrations of the same memory.
#![allow(unsafe_code)]

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpRingOffset, XdpStatistics,
    XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::mapping::Mapping;
use super::rings::{Consumer, Descriptor, Entry, Offsets, Producer};
use super::socket_error::SocketError;
use super::umem::KERNEL_HEADROOM;
use super::{Device, Umem};

/// Socket option: how many packets one send call may hand to the driver in copy mode; newer kernels have it.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// How long a queue may stay busy after another socket left it, before we believe that somebody holds it.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);

/// The numbers of entries of a port's rings: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Free chunks for the kernel.
    pub fill: u32,
    /// Chunks of sent packets, from the kernel.
    pub completion: u32,
    /// Received packets.
    pub receive: u32,
    /// Packets to send.
    pub transmit: u32,
}

impl RingSizes {
    /// 2048 each: at two million packets a second a millisecond of waiting loses nothing.
    pub const DEFAULT: RingSizes = RingSizes { fill: 2048, completion: 2048, receive: 2048, transmit: 2048 };

    /// How many chunks all four can hold at once: what a port needs of its UMEM so that nobody starves.
    pub fn frames(&self) -> u32 {
        self.fill + self.completion + self.receive + self.transmit
    }
}

/// Whether the driver shall work on the UMEM directly.
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

/// One way to bind.
#[derive(Clone, Copy)]
struct Attempt {
    zero_copy: bool,
    /// Packets larger than a chunk come as several descriptors.
    large: bool,
}

/// What to know and to do where packets larger than a frame are lost.
const MERGED_ARE_LOST: &str = "this kernel (before 6.6) loses packets that receive offloads have merged: turn gro, lro \
                               and rx-gro-hw off (ethtool -K)";

impl Socket {
    /// Opens a socket on `queue` of `device`, with its chunks in `umem`. `siblings` are the worker's sockets so far.
    pub fn open(
        device: &Device,
        queue: u32,
        umem: &Umem,
        siblings: &[&Socket],
        options: &SocketOptions,
    ) -> Result<(Socket, Rings), SocketError> {
        let queues = device.queues()?;
        if queue >= queues {
            return Err(SocketError::NoQueue { interface: device.name.clone(), queue, queues });
        }
        let mtu = device.mtu()?;
        // 14 bytes of Ethernet header, 4 of a tag.
        if mtu + 18 > umem.layout().room() {
            return Err(SocketError::Mtu { interface: device.name.clone(), mtu, room: umem.layout().room() - 18 });
        }
        let because = match (options.zero_copy, options.generic) {
            (ZeroCopy::On, true) => return Err(SocketError::GenericZeroCopy { interface: device.name.clone() }),
            (ZeroCopy::Off, _) => "zeroCopy: off".to_owned(),
            (ZeroCopy::Auto, true) => "generic XDP always copies".to_owned(),
            (asked, false) => {
                match Self::bind_patiently(
                    device,
                    queue,
                    umem,
                    siblings,
                    options,
                    Attempt { zero_copy: true, large: false },
                ) {
                    Ok((fd, rings)) => {
                        return Ok((Self::of(fd, device, queue, umem, CopyMode::ZeroCopy, false), rings));
                    }
                    Err(error @ SocketError::Busy { .. }) => return Err(error),
                    Err(error) if asked == ZeroCopy::On => return Err(error.without_zero_copy(device)),
                    Err(error) => format!("driver {:?}: {}", device.driver(), error.cause()),
                }
            }
        };
        // Kernels before 6.6 cannot deliver packets larger than a chunk.
        for large in [true, false] {
            let attempt = Attempt { zero_copy: false, large };
            match Self::bind_patiently(device, queue, umem, siblings, options, attempt) {
                Ok((fd, rings)) => {
                    // In generic mode packets come after the kernel has merged them.
                    let lost = options.generic && !large;
                    let because = if lost { format!("{because}; {MERGED_ARE_LOST}") } else { because };
                    return Ok((Self::of(fd, device, queue, umem, CopyMode::Copy { because }, large), rings));
                }
                Err(SocketError::Refused { errno: Errno::INVAL, .. }) if large => {}
                Err(error) => return Err(error),
            }
        }
        Err(SocketError::Refused { interface: device.name.clone(), queue, what: "bind", errno: Errno::INVAL })
    }

    fn of(fd: OwnedFd, device: &Device, queue: u32, umem: &Umem, mode: CopyMode, takes_large: bool) -> Self {
        Socket { fd, device: device.clone(), queue, umem: umem.id(), mode, takes_large }
    }

    /// Tries again while the queue is busy: the kernel needs some 50 ms to let go of a socket that was closed.
    fn bind_patiently(
        device: &Device,
        queue: u32,
        umem: &Umem,
        siblings: &[&Socket],
        options: &SocketOptions,
        attempt: Attempt,
    ) -> Result<(OwnedFd, Rings), SocketError> {
        let start = Instant::now();
        loop {
            match Self::bind(device, queue, umem, siblings, options, attempt) {
                Err(SocketError::Busy { .. }) if start.elapsed() < BUSY_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    fn bind(
        device: &Device,
        queue: u32,
        umem: &Umem,
        siblings: &[&Socket],
        options: &SocketOptions,
        attempt: Attempt,
    ) -> Result<(OwnedFd, Rings), SocketError> {
        let refused = |what| move |errno| SocketError::of(device, queue, what, errno);
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(refused("open an AF_XDP socket"))?;
        let sibling = siblings.iter().find(|sibling| {
            let is_alike = (sibling.mode == CopyMode::ZeroCopy) == attempt.zero_copy
                && (attempt.zero_copy || sibling.takes_large == attempt.large);
            sibling.umem == umem.id() && is_alike
        });
        if sibling.is_none() {
            register(&fd, device, queue, umem)?;
        }
        let sizes = options.rings;
        sockopt::set_xdp_umem_fill_ring_size(&fd, sizes.fill).map_err(refused("size the fill ring"))?;
        sockopt::set_xdp_umem_completion_ring_size(&fd, sizes.completion)
            .map_err(refused("size the completion ring"))?;
        sockopt::set_xdp_rx_ring_size(&fd, sizes.receive).map_err(refused("size the receive ring"))?;
        sockopt::set_xdp_tx_ring_size(&fd, sizes.transmit).map_err(refused("size the transmit ring"))?;
        let rings = map_rings(&fd, sizes).map_err(refused("map the rings"))?;
        tune(&fd, options);
        match sibling {
            Some(sibling) => {
                // The registration that is shared decides the mode, so nothing else may be said here.
                let address = SocketAddrXdpWithSharedUmem {
                    addr: SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, device.index, queue),
                    shared_umem_fd: sibling.fd.as_fd(),
                };
                rustix::net::bind(&fd, &address).map_err(refused("bind, sharing the UMEM,"))?;
            }
            None => {
                let mut flags = SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
                flags |= match attempt.zero_copy {
                    true => SocketAddrXdpFlags::XDP_ZEROCOPY,
                    false => SocketAddrXdpFlags::XDP_COPY,
                };
                if attempt.large {
                    flags |= SocketAddrXdpFlags::XDP_USE_SG;
                }
                let address = SocketAddrXdp::new(flags, device.index, queue);
                rustix::net::bind(&fd, &address).map_err(refused("bind"))?;
            }
        }
        let is_zero_copy =
            sockopt::xdp_options(&fd).is_ok_and(|options| options.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY));
        if attempt.zero_copy && !is_zero_copy {
            return Err(SocketError::of(device, queue, "bind in zero-copy mode", Errno::OPNOTSUPP));
        }
        Ok((fd, rings))
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

/// Registers the UMEM with the kernel, raising the limit of locked memory if it must and may.
fn register(fd: &OwnedFd, device: &Device, queue: u32, umem: &Umem) -> Result<(), SocketError> {
    let (start, length) = umem.region();
    let layout = umem.layout();
    let registration = XdpUmemReg {
        addr: start,
        len: length,
        chunk_size: layout.chunk_size,
        // The kernel leaves its own 256 bytes free in any case.
        headroom: layout.headroom - KERNEL_HEADROOM,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    let failed = match sockopt::set_xdp_umem_reg(fd, registration) {
        Err(Errno::NOBUFS) if raise_memory_limit() => sockopt::set_xdp_umem_reg(fd, registration),
        other => other,
    };
    failed.map_err(|errno| match errno {
        Errno::NOBUFS => SocketError::LockedMemory {
            needed: length,
            limit: getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX),
        },
        errno => SocketError::of(device, queue, "register the UMEM", errno),
    })
}

/// Lifts the limit of locked memory as far as we may; whether that helped.
fn raise_memory_limit() -> bool {
    let before = getrlimit(Resource::Memlock);
    let unlimited = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    unlimited.or_else(|_| setrlimit(Resource::Memlock, Rlimit { current: before.maximum, ..before })).is_ok()
        && getrlimit(Resource::Memlock).current != before.current
}

fn map_rings(fd: &OwnedFd, sizes: RingSizes) -> Result<Rings, Errno> {
    let offsets = sockopt::xdp_mmap_offsets(fd)?;
    fn map<T: Entry>(fd: &OwnedFd, page: u64, at: &XdpRingOffset, size: u32) -> Result<(Arc<Mapping>, Offsets), Errno> {
        // Without flags (before Linux 5.4) there is no need-wakeup, which we bind with.
        let flags = at.flags.ok_or(Errno::OPNOTSUPP)?;
        let offsets = Offsets { producer: at.producer, consumer: at.consumer, entries: at.desc, flags };
        let length = usize::try_from(at.desc).map_err(|_| Errno::INVAL)? + size as usize * size_of::<T>();
        Ok((Arc::new(Mapping::shared(fd, page, length)?), offsets))
    }
    let (fill, fill_at) = map::<u64>(fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizes.fill)?;
    let (completion, completion_at) = map::<u64>(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, sizes.completion)?;
    let (receive, receive_at) = map::<Descriptor>(fd, XDP_PGOFF_RX_RING, &offsets.rx, sizes.receive)?;
    let (transmit, transmit_at) = map::<Descriptor>(fd, XDP_PGOFF_TX_RING, &offsets.tx, sizes.transmit)?;
    Ok(Rings {
        fill: Producer::over(fill, fill_at, sizes.fill)?,
        completion: Consumer::over(completion, completion_at, sizes.completion)?,
        receive: Consumer::over(receive, receive_at, sizes.receive)?,
        transmit: Producer::over(transmit, transmit_at, sizes.transmit)?,
    })
}

/// Options that make it faster; a kernel or a sandbox without them is as correct, so refusals do not matter.
fn tune(fd: &OwnedFd, options: &SocketOptions) {
    let _ = set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, options.rings.transmit);
    // In copy mode every packet on its way through the driver counts against the send buffer.
    let _ = sockopt::set_socket_send_buffer_size_force(fd, options.rings.transmit as usize * 4096);
    if options.busy_poll {
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1);
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, 20);
        let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, 64);
    }
}

/// `setsockopt` with a number, for the options that rustix does not name.
fn set_option(fd: &OwnedFd, level: i32, option: i32, value: u32) -> Result<(), Errno> {
    let pointer = std::ptr::from_ref(&value).cast();
    // SAFETY: the kernel reads four bytes from the pointer, which `value` has.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, pointer, size_of::<u32>() as u32) };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}
