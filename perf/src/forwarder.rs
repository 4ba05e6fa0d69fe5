//! The bare forwarder: what AF_XDP itself costs, with nothing done to a frame but new MAC addresses.

use std::net::IpAddr;

use ringway_dataplane::af_xdp::program::XdpMode;
use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions, bare};
use ringway_shared::MacAddress;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::{Failure, failed};
use crate::recorder::tap;

/// From where to where.
#[derive(Clone, Debug)]
pub struct Way {
    /// The interface that packets arrive on.
    pub from: String,
    /// The interface that they leave by.
    pub to: String,
    /// The addresses whose packets are taken.
    pub addresses: Vec<IpAddr>,
    /// The MAC address they are sent to.
    pub next_hop: MacAddress,
}

/// Looks for packets this often before it sleeps: as a worker of Ringway does.
const IDLE_LOOPS: u32 = 200;
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Forwards until `stop` says so; `ready` is called once packets are taken. How many went on.
pub fn forward(way: &Way, ready: impl FnOnce(), mut stop: impl FnMut() -> bool) -> Result<u64, Failure> {
    let rings = RingSizes::DEFAULT;
    let mut taps = tap(&way.from, &way.addresses, XdpMode::Auto, rings.frames())?;
    let device = Device::by_name(&way.to).map_err(failed("cannot forward"))?;
    let mac = device.mac().map_err(failed("cannot forward"))?;
    let socket = SocketOptions { rings, zero_copy: ZeroCopy::Auto, generic: false, busy_poll: false, announces: None };
    let options = PortOptions { device: &device, queue: 0, socket };
    let mut out = Port::open_patiently(&options, &mut taps.umem, &taps.ports).map_err(failed("cannot forward"))?;
    ready();
    let (mut sent, mut idle) = (0, 0);
    while !stop() {
        let mut moved = 0;
        for port in &mut taps.ports {
            moved += bare::forward(&mut taps.umem, port, Some(&mut out), way.next_hop, mac);
        }
        sent += moved as u64;
        idle = if moved == 0 { idle + 1 } else { 0 };
        if idle >= IDLE_LOOPS {
            let fds = taps.ports.iter().filter_map(Port::fd);
            let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, Some(&NAP));
            idle = IDLE_LOOPS - 1;
        }
    }
    Ok(sent)
}
