//! A socket before it is bound: its memory registered, its rings mapped, its fill ring full.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpRingOffset, XdpUmemReg,
    XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{CopyMode, Order, RingSizes, Rings, Socket, SocketOptions};
use crate::af_xdp::Device;
use crate::af_xdp::mapping::Mapping;
use crate::af_xdp::rings::{Consumer, Descriptor, Entry, Offsets, Producer};
use crate::af_xdp::socket_error::SocketError;
use crate::af_xdp::umem::{KERNEL_HEADROOM, Region};

/// Socket option: how many packets one send call may hand to the driver in copy mode; newer kernels have it.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// One way to bind.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    pub(super) zero_copy: bool,
    /// Packets larger than a chunk come as several descriptors.
    pub(super) large: bool,
}

/// A socket with its rings, all that the kernel wants to know before the bind.
pub(super) struct Prepared<'a> {
    order: Order<'a>,
    attempt: Attempt,
    /// Whose registration of the memory it shares.
    sibling: Option<&'a Socket>,
    fd: OwnedFd,
    rings: Rings,
}

impl<'a> Prepared<'a> {
    /// Everything but the bind. The chunks are in the fill ring, where the kernel sees them.
    pub(super) fn new(order: &Order<'a>, attempt: Attempt) -> Result<Self, SocketError> {
        let Order { device, queue, region, siblings, options, chunks } = *order;
        let refused = |what| move |errno| SocketError::of(device, queue, what, errno);
        let fd = rustix::net::socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(refused("open an AF_XDP socket"))?;
        let sibling = siblings.iter().map(|sibling| &**sibling).find(|sibling| {
            let is_alike = (sibling.mode == CopyMode::ZeroCopy) == attempt.zero_copy
                && (attempt.zero_copy || sibling.takes_large == attempt.large);
            sibling.umem == region.umem() && is_alike && sibling.has_device()
        });
        if sibling.is_none() {
            register(&fd, device, queue, region)?;
        }
        let sizes = options.rings;
        sockopt::set_xdp_umem_fill_ring_size(&fd, sizes.fill).map_err(refused("size the fill ring"))?;
        sockopt::set_xdp_umem_completion_ring_size(&fd, sizes.completion)
            .map_err(refused("size the completion ring"))?;
        sockopt::set_xdp_rx_ring_size(&fd, sizes.receive).map_err(refused("size the receive ring"))?;
        sockopt::set_xdp_tx_ring_size(&fd, sizes.transmit).map_err(refused("size the transmit ring"))?;
        let mut rings = map_rings(&fd, sizes).map_err(refused("map the rings"))?;
        for &chunk in chunks {
            let is_filled = rings.fill.push(chunk);
            debug_assert!(is_filled, "more chunks than the fill ring has room for");
        }
        rings.fill.submit();
        tune(&fd, options, attempt);
        Ok(Prepared { order: *order, attempt, sibling, fd, rings })
    }

    /// Binds it to its queue.
    pub(super) fn bind(self) -> Result<(OwnedFd, Rings), SocketError> {
        let Prepared { order: Order { device, queue, .. }, attempt, sibling, fd, rings } = self;
        let refused = |what| move |errno| SocketError::of(device, queue, what, errno);
        match sibling {
            Some(sibling) => {
                // The registration that is shared decides the mode, so nothing else may be said here.
                let address = SocketAddrXdpWithSharedUmem {
                    addr: SocketAddrXdp::new(SocketAddrXdpFlags::XDP_SHARED_UMEM, device.index, queue),
                    shared_umem_fd: sibling.as_fd(),
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
}

/// Registers the UMEM with the kernel, raising the limit of locked memory if it must and may.
fn register(fd: &OwnedFd, device: &Device, queue: u32, region: &Region) -> Result<(), SocketError> {
    let (start, length) = region.range();
    let layout = region.layout();
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
fn tune(fd: &OwnedFd, options: &SocketOptions, attempt: Attempt) {
    let _ = set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, options.rings.transmit);
    // In copy mode every packet on its way through the driver counts against the send buffer.
    let _ = sockopt::set_socket_send_buffer_size_force(fd, options.rings.transmit as usize * 4096);
    // In zero-copy mode busy polling makes the kernel leave out the wakeup for transmit, and poll for receive only. Drivers
    // that send from an interrupt of their own (virtio_net, igb) then never send.
    if options.busy_poll && !attempt.zero_copy {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::{Umem, UmemLayout, ZeroCopy};

    /// What igb needs: it gives the NIC its buffers at the bind, and an empty ring gives it none.
    #[test]
    fn the_kernel_sees_a_full_fill_ring_before_the_bind() {
        let mut umem = Umem::new(UmemLayout::of_frames(256)).unwrap();
        let holder = umem.new_holder(256).unwrap();
        let chunks: Vec<u64> = (0..64).map_while(|_| umem.take_for(holder)).collect();
        let rings = RingSizes { fill: 64, completion: 64, receive: 64, transmit: 64, driver: 0 };
        let options =
            SocketOptions { rings, zero_copy: ZeroCopy::Auto, generic: false, busy_poll: true, announces: None };
        let device = Device::by_name("lo").unwrap();
        let region = umem.region();
        let order =
            Order { device: &device, queue: 0, region: &region, siblings: &[], options: &options, chunks: &chunks };
        for attempt in [(true, false), (false, true), (false, false)] {
            let attempt = Attempt { zero_copy: attempt.0, large: attempt.1 };
            let prepared = match Prepared::new(&order, attempt) {
                Ok(prepared) => prepared,
                Err(error @ SocketError::Permission { .. }) => {
                    eprintln!("\n*** SKIPPED: it needs CAP_NET_RAW: {error} ***\n");
                    assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "it must not be skipped in CI");
                    return;
                }
                Err(error) => panic!("{error}"),
            };
            // What the kernel sees is in the memory that it shares, whoever maps it.
            let offsets = sockopt::xdp_mmap_offsets(&prepared.fd).unwrap().fr;
            let at = Offsets {
                producer: offsets.producer,
                consumer: offsets.consumer,
                entries: offsets.desc,
                flags: offsets.flags.unwrap(),
            };
            let length = offsets.desc as usize + 64 * size_of::<u64>();
            let mapping = Mapping::shared(&prepared.fd, XDP_UMEM_PGOFF_FILL_RING, length).unwrap();
            let mut kernel = Consumer::<u64>::over(Arc::new(mapping), at, 64).unwrap();
            let seen: Vec<u64> = std::iter::from_fn(|| kernel.pop()).collect();
            assert_eq!(seen, chunks);
            // Busy polling is asked for, and not where it keeps packets from being sent.
            let mut polls = 7u32;
            let mut length = size_of::<u32>() as u32;
            // SAFETY: the kernel writes no more than the four bytes that `polls` has.
            let asked = unsafe {
                libc::getsockopt(
                    prepared.fd.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_PREFER_BUSY_POLL,
                    std::ptr::from_mut(&mut polls).cast(),
                    &mut length,
                )
            };
            assert_eq!((asked, polls), (0, u32::from(!attempt.zero_copy)));
        }
    }
}
