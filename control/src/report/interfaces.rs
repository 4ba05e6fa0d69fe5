//! Interfaces as `status` shows them.

use serde::{Deserialize, Serialize};

use super::queues::RssReport;

/// An interface that Ringway is attached to, or could not be attached to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub index: u32,
    /// Whether it can carry packets.
    pub up: bool,
    /// `native` or `generic`; `null` when it is not attached.
    pub mode: Option<String>,
    /// Why not native.
    pub mode_reason: Option<String>,
    /// The devices that carry its frames; itself, unless it is a VLAN device, a bond or a bridge.
    #[serde(default)]
    pub lowers: Vec<LowerReport>,
    /// The VLAN of its frames there; `null` where they are untagged.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// What else there is to know about how it is carried.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The queues of these devices.
    pub ports: Vec<PortReport>,
    /// The TAP device that gives packets back to the kernel.
    pub tap: Option<String>,
    /// What the TAP device does not do as the interface itself.
    pub tap_notes: Vec<String>,
    /// Why there is no TAP device.
    pub tap_problem: Option<String>,
    /// How often that device was set up again, because somebody had changed it or taken it away.
    #[serde(default)]
    pub tap_mended: u64,
    /// What was wrong the last time.
    #[serde(default)]
    pub tap_last_mend: Option<String>,
    /// How the devices that receive for it choose queues.
    #[serde(default)]
    pub rss: Vec<RssReport>,
    /// Why it is not attached.
    pub problem: Option<String>,
    /// Its own counters since the start; `null` before they were read.
    #[serde(default)]
    pub counters: Option<InterfaceCounters>,
}

/// What an interface counts itself (IFLA_STATS64), since Ringway found it. Its packets are not only Ringway's, and what it
/// lost never reached the ledger, or had left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceCounters {
    /// Received packets.
    pub rx_packets: u64,
    /// Sent packets.
    pub tx_packets: u64,
    /// Broken packets.
    pub rx_errors: u64,
    /// Received and not taken by anybody: no room, or nothing that the kernel has a use for.
    pub rx_dropped: u64,
    /// The NIC had no room for them.
    pub rx_missed: u64,
    /// Likewise, as some drivers count it.
    pub rx_over: u64,
    /// Likewise, as other drivers count it.
    pub rx_fifo: u64,
    /// Not sent for an error.
    pub tx_errors: u64,
    /// Not sent for want of room, or because the other end did not take them.
    pub tx_dropped: u64,
    /// Not sent, as some drivers count it.
    pub tx_fifo: u64,
    /// Not sent because the carrier was lost.
    pub tx_carrier: u64,
}

impl InterfaceCounters {
    /// What was lost, by the names that metrics use.
    pub fn losses(&self) -> [(&'static str, u64); 9] {
        [
            ("rx_errors", self.rx_errors),
            ("rx_dropped", self.rx_dropped),
            ("rx_missed", self.rx_missed),
            ("rx_over", self.rx_over),
            ("rx_fifo", self.rx_fifo),
            ("tx_errors", self.tx_errors),
            ("tx_dropped", self.tx_dropped),
            ("tx_fifo", self.tx_fifo),
            ("tx_carrier", self.tx_carrier),
        ]
    }

    /// Adds what was counted from `last` to `now`. A count that went back began anew.
    pub fn add_since(&mut self, last: &InterfaceCounters, now: &InterfaceCounters) {
        let mut add = |count: fn(&mut InterfaceCounters) -> &mut u64| {
            let (before, after) = (*count(&mut { *last }), *count(&mut { *now }));
            *count(self) += if after >= before { after - before } else { after };
        };
        add(|counters| &mut counters.rx_packets);
        add(|counters| &mut counters.tx_packets);
        add(|counters| &mut counters.rx_errors);
        add(|counters| &mut counters.rx_dropped);
        add(|counters| &mut counters.rx_missed);
        add(|counters| &mut counters.rx_over);
        add(|counters| &mut counters.rx_fifo);
        add(|counters| &mut counters.tx_errors);
        add(|counters| &mut counters.tx_dropped);
        add(|counters| &mut counters.tx_fifo);
        add(|counters| &mut counters.tx_carrier);
    }
}

/// A device that carries an interface's frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LowerReport {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub index: u32,
    /// Whether frames that arrive by it are the interface's now.
    pub receives: bool,
    /// Whether the interface's frames may leave by it now.
    pub sends: bool,
    /// `native` or `generic`; `null` when Ringway is not attached to it.
    pub mode: Option<String>,
    /// Why not native.
    pub mode_reason: Option<String>,
    /// Why Ringway is not attached to it.
    pub problem: Option<String>,
    /// Its own counters since the start; `null` before they were read.
    #[serde(default)]
    pub counters: Option<InterfaceCounters>,
}

/// One queue of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortReport {
    /// The device.
    #[serde(default)]
    pub device: String,
    /// The queue.
    pub queue: u32,
    /// The worker that polls it.
    pub worker: u16,
    /// `zero-copy` or `copy`.
    pub copy: String,
    /// Why not zero-copy.
    pub copy_reason: Option<String>,
    /// The sizes of its rings; `null` from an instance that does not tell.
    #[serde(default)]
    pub rings: Option<RingReport>,
    /// Frames that wait to be received into.
    #[serde(default)]
    pub in_receive: u32,
    /// Frames that wait to be sent, or to be given back as sent.
    #[serde(default)]
    pub in_transmit: u32,
    /// For how many seconds frames have waited to be sent and none was: the port is stalled. `null` while it is not.
    #[serde(default)]
    pub stalled_seconds: Option<u64>,
}

impl PortReport {
    /// That it is stalled, in words.
    pub fn stall(&self) -> Option<String> {
        let seconds = self.stalled_seconds?;
        Some(format!("stalled: {} frames wait to be sent, and none was for {seconds} s", self.in_transmit))
    }
}

/// How many entries the rings of a port have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RingReport {
    /// Free frames for the kernel.
    pub fill: u32,
    /// Received packets.
    pub receive: u32,
    /// Packets to send.
    pub transmit: u32,
    /// Sent frames on their way back.
    pub completion: u32,
    /// Frames that are set aside for the NIC's own receive ring; 0 in copy mode.
    pub nic: u32,
}
