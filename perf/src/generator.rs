//! The generator: offers a mix of flows on an interface by AF_XDP transmit, at a rate or as fast as the kernel takes it.
//!
//! It needs no XDP program and nothing of the interface but a queue to send on. In copy mode the kernel's part costs some
//! 800 cycles a frame, so one generator offers 1 to 2.5 million frames a second on the cores this was written on.

use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Device, RingSizes, SocketOptions, Umem, UmemLayout, ZeroCopy};
use ringway_dataplane::io::{Port, PortOptions};
use ringway_shared::InterfaceId;

use crate::failure::{Failure, failed};
use crate::traffic::{Mix, Random, Stamp, now};

/// A load to offer.
#[derive(Clone, Debug)]
pub struct Load {
    /// The flows and sizes; flows are picked at random.
    pub mix: Mix,
    /// Frames a second; 0 for as many as possible.
    pub rate: u64,
    /// For how long.
    pub duration: Duration,
}

/// What was offered.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    /// Frames that the kernel took.
    pub packets: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// System calls that the kernel refused.
    pub kick_errors: u64,
}

impl Offered {
    /// Frames a second.
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Frames handed to the kernel at once.
const BURST: u64 = 32;
/// How long to wait in the end for frames that the kernel still has.
const DRAIN: Duration = Duration::from_millis(200);

/// Sends `load` on queue 0 of an interface of the calling thread's namespace.
pub fn send(interface: &str, load: &Load) -> Result<Offered, Failure> {
    let rings = RingSizes::DEFAULT;
    let device = Device::by_name(interface).map_err(failed("cannot send"))?;
    let layout = UmemLayout::of_frames(rings.frames() + 64);
    if load.mix.size > layout.room() as usize {
        return Err(Failure(format!("frames of {} bytes: at most {} are possible", load.mix.size, layout.room())));
    }
    let mut umem = Umem::new(layout).map_err(failed("cannot send"))?;
    let socket = SocketOptions { rings, zero_copy: ZeroCopy::Auto, generic: false, busy_poll: false };
    let options = PortOptions { interface: InterfaceId(0), device: &device, queue: 0, socket };
    let mut port = Port::open(&options, &mut umem, &[]).map_err(failed("cannot send"))?;
    let mut bytes = vec![0; load.mix.size.max(60)];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (start, mut sequence) = (Instant::now(), 0);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= load.duration {
            break;
        }
        let due = match load.rate {
            0 => BURST,
            rate => ((elapsed.as_secs_f64() * rate as f64) as u64).saturating_sub(sequence).min(BURST),
        };
        for _ in 0..due {
            let Some(mut frame) = umem.allocate() else { break };
            let flow = random.below(load.mix.flows.max(1));
            let length = load.mix.write(flow, Stamp { sequence, nanos: now() }, &mut bytes);
            umem.fill(&mut frame, bytes.get(..length).unwrap_or_default());
            match port.send(&mut umem, frame) {
                Ok(()) => sequence += 1,
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
    let packets = sequence - u64::from(port.in_transmit());
    Ok(Offered { packets, elapsed, kick_errors: port.counters().kick_errors() })
}
