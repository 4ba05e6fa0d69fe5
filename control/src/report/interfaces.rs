//! Interfaces as `status` shows them.

use std::time::Instant;

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
    /// In how many seconds it is tried again; `null` while it is attached, and where something must happen first.
    #[serde(default)]
    pub next_try_seconds: Option<u64>,
    /// When that is.
    #[serde(skip)]
    pub next_try: Option<Instant>,
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
    /// Of the broken ones, those with a wrong checksum (CRC).
    pub rx_crc: u64,
    /// Of the broken ones, those that were too long or too short.
    pub rx_length: u64,
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

    /// What is lost on the wire or in the NIC, in words: what each count means, and what to do. Drivers add to `rx_errors` whatever
    /// they count elsewhere as well, so what is explained there is told once.
    pub fn meanings(&self) -> Vec<String> {
        let no_room = self.rx_missed.max(self.rx_over).max(self.rx_fifo);
        let explained = self.rx_crc + self.rx_length + no_room;
        let other = self.rx_errors.saturating_sub(explained);
        let told = |count: u64, what: &str| (count > 0).then(|| format!("{count} {what}"));
        let all = [
            told(
                self.rx_crc,
                "received frames were broken on the wire (CRC): see to the cable, the transceivers and the other end (ethtool -S)",
            ),
            told(
                self.rx_length,
                "received frames were longer than the NIC takes, or too short: the other end has a larger MTU, or sends tags that \
                 the NIC does not reckon with; set the same MTU at both ends (ip link)",
            ),
            told(
                no_room,
                "received frames found no room in the NIC: more descriptors help against bursts (ethtool -G), more queues and \
                 workers against load",
            ),
            told(
                other,
                "received frames are counted as errors (rx_errors) for a reason that only the driver tells: ethtool -S",
            ),
            told(
                self.tx_carrier,
                "frames were not sent because the link was lost (tx_carrier): see to the cable and the other end",
            ),
        ];
        all.into_iter().flatten().collect()
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
        add(|counters| &mut counters.rx_crc);
        add(|counters| &mut counters.rx_length);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_driver_counts_twice_is_told_once_and_what_it_does_not_explain_as_that() {
        let told = |counters: InterfaceCounters| {
            let first = |text: String| text.split(':').next().unwrap_or_default().to_owned();
            counters.meanings().into_iter().map(first).collect::<Vec<_>>()
        };
        let none = InterfaceCounters::default();
        assert_eq!(told(InterfaceCounters { rx_packets: 7, rx_dropped: 3, ..none }), [""; 0]);
        // igb: errors are the sum of those of length and checksum, and more.
        let igb = InterfaceCounters { rx_errors: 12, rx_crc: 4, rx_length: 5, ..none };
        let said = told(igb);
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("4 received frames were broken on the wire"), "{said:?}");
        assert!(said[1].starts_with("5 received frames were longer"), "{said:?}");
        assert!(said[2].starts_with("3 received frames are counted as errors (rx_errors)"), "{said:?}");
        // Missed ones stand under several names, with some drivers among the errors.
        let missed = told(InterfaceCounters { rx_errors: 6, rx_missed: 6, rx_fifo: 6, ..none });
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed[0].starts_with("6 received frames found no room in the NIC"), "{missed:?}");
    }
}
