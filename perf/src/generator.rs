//! The generator: offers a mix of flows on an interface, at a rate or as fast as it goes.
//!
//! Two ways. **Live frames**: BPF_PROG_RUN runs a small XDP program in the kernel that makes each frame and sends it by
//! the interface, without a socket buffer or a copy; 5 to 10 million frames a second on the cores this was written on.
//! It takes Linux 5.18 and an interface that sends redirected frames: on a veth, one whose other end has a native XDP
//! program. **AF_XDP transmit** needs nothing of the interface but a queue to send on; in copy mode the kernel's part
//! costs some 800 cycles a frame, so it offers 1 to 2.5 million.

mod af_xdp;
mod live_frames;

use std::time::Duration;

use clap::ValueEnum;

use crate::failure::Failure;
use crate::traffic::Mix;
pub(crate) use af_xdp::{Frames, Pace, send_frames};
pub use live_frames::LiveFrames;

/// A load to offer.
#[derive(Clone, Debug)]
pub struct Load {
    /// The flows and sizes; each frame picks one of both at random.
    pub mix: Mix,
    /// Frames a second; 0 for as many as possible.
    pub rate: u64,
    /// For how long.
    pub duration: Duration,
    /// Which generator.
    pub by: By,
}

/// Which generator offers a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Live frames where they work, else AF_XDP.
    #[default]
    Auto,
    /// BPF_PROG_RUN with live frames, or fail.
    LiveFrames,
    /// AF_XDP transmit.
    AfXdp,
}

impl By {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            By::Auto => "auto",
            By::LiveFrames => "live-frames",
            By::AfXdp => "af-xdp",
        }
    }
}

/// What was offered.
#[derive(Clone, Debug)]
pub struct Offered {
    /// Which generator it was.
    pub by: By,
    /// Why not live frames, where that was tried.
    pub because: Option<String>,
    /// Frames that the kernel took.
    pub packets: u64,
    /// How many of them carry a stamp: short frames have no room for one.
    pub stamped: u64,
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

/// Offers `load` on an interface of the calling thread's namespace.
pub fn send(interface: &str, load: &Load) -> Result<Offered, Failure> {
    load.mix.check()?;
    match load.by {
        By::AfXdp => af_xdp::send(interface, load),
        By::LiveFrames => live_frames::send(interface, load),
        By::Auto => live_frames::send(interface, load).or_else(|failure| {
            let offered = af_xdp::send(interface, load)?;
            Ok(Offered { because: Some(failure.0), ..offered })
        }),
    }
}
