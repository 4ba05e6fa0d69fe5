//! Floods on an interface: forged frames at a rate, by AF_XDP transmit, and asleep between them, so that whatever else the machine
//! does has its CPUs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use ringway_dataplane::af_xdp::Device;
use ringway_shared::MacAddress;
use serde_json::{Value, json};

use crate::failure::{Failure, failed};
use crate::forged::{Aim, Flood, Forgery, LONGEST};
use crate::generator::{Frames, Pace, send_frames};

/// How long to sleep when nothing is due.
const NAP: Duration = Duration::from_micros(250);

/// What `ringway-perf flood` is asked.
#[derive(Args, Clone, Debug)]
pub struct FloodOptions {
    /// The interface.
    #[arg(long)]
    pub interface: String,
    /// The MAC address of the next hop.
    #[arg(long)]
    pub next_hop: MacAddress,
    /// What is sent: syn, datagram, later-fragment, first-fragment, error, error-from-inside, error-outside-window, long-chain or
    /// ping.
    #[arg(long)]
    pub kind: Forgery,
    /// The first of 65,535 sources, which count up from it.
    #[arg(long)]
    pub from: IpAddr,
    /// The frontend, as `ADDRESS:PORT`; of IPv6 as `[ADDRESS]:PORT`. Of an error: who sent what it is about.
    #[arg(long)]
    pub to: SocketAddr,
    /// Of an error: where the packet went that it is about.
    #[arg(long)]
    pub about: Option<SocketAddr>,
    /// Frames a second.
    #[arg(long, default_value_t = 100_000, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub rate: u64,
    /// For how long, in seconds.
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(1..=86_400))]
    pub seconds: u64,
}

impl FloodOptions {
    /// Sends; the report is one JSON object.
    pub fn run(&self) -> Result<Value, Failure> {
        let device = Device::by_name(&self.interface).map_err(failed("cannot send"))?;
        let aim = Aim {
            destination_mac: self.next_hop,
            source_mac: device.mac().map_err(failed("cannot send"))?,
            from: self.from,
            to: self.to,
            about: self.about,
        };
        let mut forger = Forger { flood: Flood::new(self.kind, &aim)?, number: 0, bytes: [0; LONGEST] };
        let pace = Pace { rate: self.rate, duration: Duration::from_secs(self.seconds), nap: Some(NAP) };
        let sent = send_frames(&self.interface, &pace, &mut forger)?;
        Ok(json!({
            "kind": self.kind.label(),
            "packets": sent.packets,
            "seconds": sent.elapsed.as_secs_f64(),
            "perSecond": sent.packets as f64 / sent.elapsed.as_secs_f64().max(1e-9),
            "kickErrors": sent.kick_errors,
        }))
    }
}

struct Forger {
    flood: Flood,
    number: u32,
    bytes: [u8; LONGEST],
}

impl Frames for Forger {
    fn next(&mut self) -> &[u8] {
        let length = self.flood.write(self.number, &mut self.bytes);
        self.bytes.get(..length).unwrap_or_default()
    }

    fn sent(&mut self) {
        self.number = self.number.wrapping_add(1);
    }
}
