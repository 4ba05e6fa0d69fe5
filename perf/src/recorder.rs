//! The recorder: counts what arrives of a load, what is missing, and how long it took, by the stamps in the frames.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use hdrhistogram::Histogram;
use ringway_dataplane::af_xdp::program::{AttachedMode, SteeringEntry, SteeringProgram, XdpMode};
use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::batch::{BATCH, Received};
use ringway_dataplane::io::{Port, PortOptions};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::failure::Failure;
use crate::traffic::{Stamp, now};

/// The ports of all queues of an interface, with the steering program that takes packets to some addresses.
pub struct Taps {
    /// The chunks of all ports.
    pub umem: Umem,
    /// One a queue.
    pub ports: Vec<Port>,
    // Attached for as long as it lives.
    _program: SteeringProgram,
}

/// Takes every packet to `addresses` that arrives on an interface of the calling thread's namespace. `extra` frames are
/// set aside for ports that are opened later.
pub fn tap(interface: &str, addresses: &[IpAddr], attachment: XdpMode, extra: u32) -> Result<Taps, Failure> {
    let fail = |error: &dyn Display| Failure(format!("cannot receive on {interface}: {error}"));
    let device = Device::by_name(interface).map_err(|error| fail(&error))?;
    let queues = device.queues().map_err(|error| fail(&error))?;
    let rings = RingSizes::DEFAULT;
    let direct = if device.may_zero_copy() { device.mtu().map_err(|error| fail(&error))? } else { 0 };
    let mut umem = Umem::new(UmemLayout::for_zero_copy(queues * rings.frames() + BATCH as u32 + extra, direct))
        .map_err(|error| fail(&error))?;
    let mut program = SteeringProgram::load().map_err(|error| fail(&error))?;
    let entries = addresses.iter().map(|address| SteeringEntry::Vip(*address)).collect();
    program.add_missing(&entries).map_err(|error| fail(&error))?;
    let mac = device.mac().map_err(|error| fail(&error))?;
    program.set_link(device.index, None, mac).map_err(|error| fail(&error))?;
    let mode = program.attach(interface, device.index, attachment).map_err(|error| fail(&error))?;
    let generic = mode != AttachedMode::Native;
    let mut ports = Vec::new();
    for queue in 0..queues {
        let socket = SocketOptions { rings, zero_copy: ZeroCopy::Auto, generic, busy_poll: false, announces: None };
        let options = PortOptions { device: &device, queue, socket };
        let port = Port::open_patiently(&options, &mut umem, &ports).map_err(|error| fail(&error))?;
        if let Some(fd) = port.fd() {
            program.set_socket(device.index, queue, fd).map_err(|error| fail(&error))?;
        }
        ports.push(port);
    }
    Ok(Taps { umem, ports, _program: program })
}

/// What arrived.
pub struct Recording {
    /// Frames with a stamp.
    pub packets: u64,
    /// Frames without.
    pub foreign: u64,
    /// Frames that are missing between the first and the last number that arrived.
    pub lost: u64,
    /// Between the first and the last frame.
    pub elapsed: Duration,
    /// Nanoseconds from writing to reading.
    pub latency: Histogram<u64>,
}

/// Longer latencies count as this: a minute.
const LONGEST: u64 = 60_000_000_000;
/// Waits when nothing has come for this many looks.
const PATIENCE: u32 = 64;
/// The longest wait before the end is looked for.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// Records until `stop`, which is shown what has come so far, says so and nothing more is there.
pub fn record(taps: &mut Taps, mut stop: impl FnMut(&Recording) -> bool) -> Recording {
    let latency = Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|error| panic!("a constant: {error}"));
    let mut recording = Recording { packets: 0, foreign: 0, lost: 0, elapsed: Duration::ZERO, latency };
    let mut numbers: Option<(u64, u64)> = None;
    let mut times: Option<(Instant, Instant)> = None;
    let (mut idle, mut came) = (0, false);
    while came || !stop(&recording) {
        came = false;
        for port in &mut taps.ports {
            let mut batch: ArrayVec<Received, BATCH> = ArrayVec::new();
            port.receive(&mut taps.umem, &mut batch);
            let at = now();
            for received in batch.drain(..) {
                came = true;
                match Stamp::read(taps.umem.packet(&received.frame)) {
                    Some(stamp) => {
                        recording.packets += 1;
                        recording.latency.saturating_record(at.saturating_sub(stamp.nanos).max(1));
                        let (first, last) = numbers.unwrap_or((stamp.sequence, stamp.sequence));
                        numbers = Some((first.min(stamp.sequence), last.max(stamp.sequence)));
                    }
                    None => recording.foreign += 1,
                }
                taps.umem.free(received.frame);
            }
            port.flush(&mut taps.umem);
        }
        idle = if came { 0 } else { idle + 1 };
        if came {
            let at = Instant::now();
            times = Some((times.map_or(at, |(first, _)| first), at));
        } else if idle >= PATIENCE {
            let fds = taps.ports.iter().filter_map(Port::fd);
            let mut fds: Vec<PollFd> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            // An interrupted wait is a short one.
            let _ = poll(&mut fds, Some(&NAP));
        }
    }
    recording.lost = numbers.map_or(0, |(first, last)| (last - first + 1).saturating_sub(recording.packets));
    recording.elapsed = times.map_or(Duration::ZERO, |(first, last)| last - first);
    recording
}
