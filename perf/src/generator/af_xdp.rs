//! Load by AF_XDP transmit.

use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions};

use super::{By, Load, Offered};
use crate::failure::{Failure, failed};
use crate::traffic::{LONGEST, Mix, Random, Stamp, now};

/// Frames handed to the kernel at once.
const BURST: u64 = 32;
/// How long to wait in the end for frames that the kernel still has.
const DRAIN: Duration = Duration::from_millis(200);

/// What is sent, one frame after the other.
pub(crate) trait Frames {
    /// The next frame.
    fn next(&mut self) -> &[u8];

    /// The last frame is on its way.
    fn sent(&mut self);
}

/// How frames are sent.
pub(crate) struct Pace {
    /// Frames a second; 0 for as many as possible.
    pub(crate) rate: u64,
    /// For how long.
    pub(crate) duration: Duration,
    /// How long to sleep when nothing is due; `None` to wait awake.
    pub(crate) nap: Option<Duration>,
}

/// What became of it.
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) elapsed: Duration,
    pub(crate) kick_errors: u64,
}

/// Sends a mix on queue 0.
pub(super) fn send(interface: &str, load: &Load) -> Result<Offered, Failure> {
    let mut writer = Writer::new(&load.mix);
    let sent = send_frames(interface, &Pace { rate: load.rate, duration: load.duration, nap: None }, &mut writer)?;
    Ok(Offered {
        by: By::AfXdp,
        because: None,
        packets: sent.packets,
        stamped: writer.stamped.min(sent.packets),
        elapsed: sent.elapsed,
        kick_errors: sent.kick_errors,
    })
}

/// Sends frames on queue 0.
pub(crate) fn send_frames(interface: &str, pace: &Pace, frames: &mut impl Frames) -> Result<Sent, Failure> {
    let rings = RingSizes::DEFAULT;
    let device = Device::by_name(interface).map_err(failed("cannot send"))?;
    let direct = if device.may_zero_copy() { device.mtu().map_err(failed("cannot send"))? } else { 0 };
    let mut umem = Umem::new(UmemLayout::for_zero_copy(rings.frames() + 64, direct)).map_err(failed("cannot send"))?;
    let socket = SocketOptions { rings, zero_copy: ZeroCopy::Auto, generic: false, busy_poll: false, announces: None };
    let options = PortOptions { device: &device, queue: 0, socket };
    let mut port = Port::open_patiently(&options, &mut umem, &[]).map_err(failed("cannot send"))?;
    let (start, mut sent) = (Instant::now(), 0);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= pace.duration {
            break;
        }
        let due = match pace.rate {
            0 => BURST,
            rate => ((elapsed.as_secs_f64() * rate as f64) as u64).saturating_sub(sent).min(BURST),
        };
        if let (0, Some(nap)) = (due, pace.nap) {
            std::thread::sleep(nap);
            continue;
        }
        for _ in 0..due {
            let Some(mut frame) = umem.allocate() else { break };
            umem.fill(&mut frame, frames.next());
            match port.send(&mut umem, frame) {
                Ok(()) => {
                    frames.sent();
                    sent += 1;
                }
                Err(frame) => {
                    umem.free(frame);
                    break;
                }
            }
        }
        port.flush(&mut umem);
    }
    let elapsed = start.elapsed();
    while port.in_transmit() > 0 && start.elapsed() < elapsed + DRAIN {
        port.flush(&mut umem);
    }
    let packets = sent - u64::from(port.in_transmit());
    Ok(Sent { packets, elapsed, kick_errors: port.counters().kick_errors() })
}

/// Writes the frames of a mix, one after the other.
struct Writer<'m> {
    mix: &'m Mix,
    random: Random,
    /// Which flows have sent a frame.
    opened: Vec<bool>,
    bytes: [u8; LONGEST],
    stamped: u64,
    /// What the last frame was.
    flow: u32,
    has_stamp: bool,
}

impl<'m> Writer<'m> {
    fn new(mix: &'m Mix) -> Self {
        let opened = if mix.kind.is_tcp() { vec![false; mix.flows as usize] } else { Vec::new() };
        let random = Random(0x9e37_79b9_7f4a_7c15);
        Writer { mix, random, opened, bytes: [0; LONGEST], stamped: 0, flow: 0, has_stamp: false }
    }
}

impl Frames for Writer<'_> {
    fn next(&mut self) -> &[u8] {
        self.flow = self.random.below(self.mix.flows);
        let size = self.mix.pick_size(&mut self.random);
        let is_open = self.opened.get(self.flow as usize).copied().unwrap_or(true);
        let stamp = Stamp { sequence: self.stamped, nanos: now() };
        let length = self.mix.write(self.flow, size, Mix::flags(!is_open), stamp, &mut self.bytes);
        self.has_stamp = length >= self.mix.kind.shortest_stamped();
        self.bytes.get(..length).unwrap_or_default()
    }

    fn sent(&mut self) {
        if let Some(opened) = self.opened.get_mut(self.flow as usize) {
            *opened = true;
        }
        self.stamped += u64::from(self.has_stamp);
    }
}
