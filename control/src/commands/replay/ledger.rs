//! The ledger as `--ledger` writes it.

use std::collections::BTreeMap;

use ringway_shared::DropReason;
use ringway_shared::counters::{Counter, Tally};
use serde::Serialize;

/// rx = forwarded + replied + passed + Σ drops.
#[derive(Debug, Serialize)]
pub(super) struct Ledger {
    rx: u64,
    forwarded: u64,
    replied: u64,
    passed: u64,
    drops: BTreeMap<&'static str, u64>,
}

impl Ledger {
    pub(super) fn of(tally: &Tally) -> Self {
        let dropped = DropReason::ALL.into_iter().filter(|reason| tally.drops(*reason) > 0);
        Ledger {
            rx: tally.get(Counter::Rx),
            forwarded: tally.get(Counter::Forwarded),
            replied: tally.get(Counter::Replied),
            passed: tally.get(Counter::Passed),
            drops: dropped.map(|reason| (reason.label(), tally.drops(reason))).collect(),
        }
    }
}
