//! What the running instance says about itself: the JSON of the admin socket. Keys are only ever added.

pub mod answers;
pub mod configuration;
pub mod drained;
pub mod drops;
pub mod flows;
pub mod interfaces;
pub mod metrics;
pub mod neighbors;
pub mod nic;
pub mod overlooked;
pub mod ports;
pub mod queues;
pub(crate) mod readiness;
pub mod services;
pub mod shared_ports;
pub mod snat;
pub mod source;
pub mod status;
pub mod suspects;
pub mod unreachable;
pub mod worker;

use std::collections::BTreeMap;

use ringway_shared::DropReason;
use ringway_shared::counters::{Counter, Tally};
use serde::{Deserialize, Serialize};

/// What became of every received packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerReport {
    /// Received.
    pub rx: u64,
    /// Sent on.
    pub forwarded: u64,
    /// Answered by Ringway itself.
    pub replied: u64,
    /// Given to the kernel.
    pub passed: u64,
    /// Waiting for a neighbour.
    pub held: u64,
    /// Dropped, by the reason's label; reasons that never happened are left out.
    pub drops: BTreeMap<String, u64>,
    /// Whether rx is the sum of all the others.
    pub closes: bool,
}

impl From<&Tally> for LedgerReport {
    fn from(tally: &Tally) -> Self {
        let drops = DropReason::ALL.into_iter().map(|reason| (reason.label().to_owned(), tally.drops(reason)));
        LedgerReport {
            rx: tally.get(Counter::Rx),
            forwarded: tally.get(Counter::Forwarded),
            replied: tally.get(Counter::Replied),
            passed: tally.get(Counter::Passed),
            held: tally.get(Counter::Held),
            drops: drops.filter(|(_, count)| *count > 0).collect(),
            closes: tally.closes(),
        }
    }
}
