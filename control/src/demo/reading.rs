//! What the demo reads from the running instance.

use super::tally::Counts;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// The gateway's packets, as its ledger tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packets {
    /// Received.
    pub(super) rx: u64,
    /// Forwarded.
    pub(super) forwarded: u64,
    /// Answered by Ringway itself.
    pub(super) replied: u64,
    /// Given to the kernel.
    pub(super) passed: u64,
    /// Waiting for a neighbour.
    pub(super) held: u64,
    /// Dropped, by reason.
    pub(super) drops: BTreeMap<String, u64>,
}

impl Packets {
    /// Reads a ledger as `status` gives it.
    pub(super) fn read(ledger: &Value) -> Option<Packets> {
        let number = |key: &str| ledger[key].as_u64();
        let drops =
            ledger["drops"].as_object()?.iter().filter_map(|(reason, count)| Some((reason.clone(), count.as_u64()?)));
        Some(Packets {
            rx: number("rx")?,
            forwarded: number("forwarded")?,
            replied: number("replied")?,
            passed: number("passed")?,
            held: number("held").unwrap_or(0),
            drops: drops.filter(|(_, count)| *count > 0).collect(),
        })
    }

    /// All drops.
    pub(super) fn dropped(&self) -> u64 {
        self.drops.values().sum()
    }

    /// rx = forwarded + replied + passed + held + drops.
    pub(super) fn closes(&self) -> bool {
        self.rx == self.forwarded + self.replied + self.passed + self.held + self.dropped()
    }
}

/// One reading of everything that the table shows.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// When.
    pub(super) at: Instant,
    /// What the client counted.
    pub(super) counts: Counts,
    /// What the gateway counted.
    pub(super) packets: Packets,
}

/// Each attached interface and how, as `status` says: "front native XDP, copy".
pub(super) fn modes(status: &Value) -> Vec<String> {
    let interfaces = status["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mode = |interface: &Value| {
        let name = interface["name"].as_str()?;
        let mode = interface["mode"].as_str()?;
        let copy = interface["ports"][0]["copy"].as_str().unwrap_or("no queue");
        Some(format!("{name} {mode} XDP, {copy}"))
    };
    interfaces.iter().filter_map(mode).collect()
}
