//! `drops`: why packets were dropped or answered, in words.

use super::interfaces::{InterfaceCounters, InterfaceReport};
use ringway_shared::DropReason;
use ringway_shared::counters::{Counter, Tally};
use serde::{Deserialize, Serialize};

/// The answer of `drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DropsReport {
    /// Dropped packets in all.
    pub dropped: u64,
    /// By reason, the most frequent first; reasons that never happened are left out.
    pub drops: Vec<ReasonReport>,
    /// Packets in all that Ringway answered itself.
    pub replied: u64,
    /// By the reason for the answer, the most frequent first.
    pub replies: Vec<ReasonReport>,
    /// Of the drops, packets that would have been answered but for the rate limit.
    pub replies_limited: u64,
    /// What the kernel lost before Ringway received it; not part of the ledger.
    pub kernel: KernelLosses,
    /// What the interfaces lost by their own counters; not part of the ledger.
    #[serde(default)]
    pub interfaces: Vec<InterfaceLosses>,
    /// What ports made of packets larger than a frame, and lost; not part of the ledger.
    #[serde(default)]
    pub ports: PortCounts,
}

/// What one interface, or a device that carries one, lost since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceLosses {
    /// Its name.
    pub name: String,
    /// Its counters.
    pub counters: InterfaceCounters,
}

impl InterfaceLosses {
    /// Of all interfaces whose counters are known, and then of the devices that carry them, each once.
    pub fn of(interfaces: &[InterfaceReport]) -> Vec<Self> {
        Self::of_these(|| interfaces.iter())
    }

    /// Of those that Ringway is attached to: what others lose is not its affair.
    pub fn of_attached(interfaces: &[InterfaceReport]) -> Vec<Self> {
        Self::of_these(|| interfaces.iter().filter(|report| report.mode.is_some()))
    }

    fn of_these<'a, I: Iterator<Item = &'a InterfaceReport>>(interfaces: impl Fn() -> I) -> Vec<Self> {
        let known =
            |report: &InterfaceReport| Some(InterfaceLosses { name: report.name.clone(), counters: report.counters? });
        let mut losses: Vec<Self> = interfaces().filter_map(known).collect();
        for lower in interfaces().flat_map(|report| &report.lowers) {
            let is_new = losses.iter().all(|one| one.name != lower.name);
            if let Some(counters) = lower.counters.filter(|_| is_new) {
                losses.push(InterfaceLosses { name: lower.name.clone(), counters });
            }
        }
        losses
    }
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonReport {
    /// The label.
    pub reason: String,
    /// How many packets.
    pub packets: u64,
    /// What it means.
    pub sentence: String,
}

/// The kernel's own counts (XDP_STATISTICS), over all sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelLosses {
    /// The receive ring was full: workers are too slow.
    pub rx_ring_full: u64,
    /// How often the kernel found the fill ring empty. No packets: in copy mode what is lost so counts as `rx_dropped`, and in
    /// zero-copy mode the driver asks again.
    pub fill_ring_empty: u64,
    /// No free frame, or other reasons.
    pub rx_dropped: u64,
    /// Invalid receive descriptors.
    pub rx_invalid: u64,
    /// Invalid transmit descriptors.
    pub tx_invalid: u64,
}

impl KernelLosses {
    /// From the counts of one worker or of all.
    pub fn of(tally: &Tally) -> Self {
        KernelLosses {
            rx_ring_full: tally.get(Counter::KernelRxRingFull),
            fill_ring_empty: tally.get(Counter::KernelFillRingEmpty),
            rx_dropped: tally.get(Counter::KernelRxDropped),
            rx_invalid: tally.get(Counter::KernelRxInvalid),
            tx_invalid: tally.get(Counter::KernelTxInvalid),
        }
    }
}

/// What happens to packets between the kernel and the packet path, over all ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortCounts {
    /// Packets that offloads had merged and that were cut again. Nothing is lost by it.
    pub large_cut: u64,
    /// Packets larger than a frame that were lost, because they cannot be cut or no frame was free.
    pub large_lost: u64,
    /// Descriptors from the kernel that were refused, because they lay outside the packet memory.
    pub outside_umem: u64,
}

impl PortCounts {
    /// From the counts of one worker or of all.
    pub fn of(tally: &Tally) -> Self {
        PortCounts {
            large_cut: tally.get(Counter::LargeCut),
            large_lost: tally.get(Counter::LargeLost),
            outside_umem: tally.get(Counter::OutsideUmem),
        }
    }
}

impl DropsReport {
    /// From the sum over all workers.
    pub fn of(tally: &Tally, interfaces: &[InterfaceReport]) -> Self {
        DropsReport {
            dropped: tally.dropped(),
            drops: by_reason(|reason| tally.drops(reason)),
            replied: tally.get(Counter::Replied),
            replies: by_reason(|reason| tally.replies(reason)),
            replies_limited: tally.get(Counter::RepliesLimited),
            kernel: KernelLosses::of(tally),
            interfaces: InterfaceLosses::of_attached(interfaces),
            ports: PortCounts::of(tally),
        }
    }
}

fn by_reason(count: impl Fn(DropReason) -> u64) -> Vec<ReasonReport> {
    let mut reasons: Vec<ReasonReport> = DropReason::ALL
        .into_iter()
        .map(|reason| ReasonReport {
            reason: reason.label().to_owned(),
            packets: count(reason),
            sentence: reason.sentence().to_owned(),
        })
        .filter(|report| report.packets > 0)
        .collect();
    // Stable: equal counts stay in the order of the list.
    reasons.sort_by_key(|report| std::cmp::Reverse(report.packets));
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::LedgerReport;

    #[test]
    fn the_most_frequent_reason_comes_first_and_what_never_happened_is_left_out() {
        let mut tally = Tally::default();
        tally.add(Counter::Rx, 5);
        tally.add_drop(DropReason::Land);
        tally.add_drop(DropReason::NoRoute);
        tally.add_drop(DropReason::NoRoute);
        tally.add_reply(DropReason::NoEndpoint);
        tally.add(Counter::Forwarded, 1);
        tally.set(Counter::KernelRxRingFull, 7);
        tally.set(Counter::LargeLost, 4);
        let report = DropsReport::of(&tally, &[]);
        let drops: Vec<_> = report.drops.iter().map(|drop| (&*drop.reason, drop.packets)).collect();
        assert_eq!(drops, [("no_route", 2), ("land", 1)]);
        assert_eq!((report.dropped, report.replied, report.kernel.rx_ring_full), (3, 1, 7));
        assert_eq!(report.ports, PortCounts { large_lost: 4, ..PortCounts::default() });
        assert_eq!(report.replies[0].sentence, DropReason::NoEndpoint.sentence());
        let ledger = LedgerReport::from(&tally);
        assert!(ledger.closes);
        assert_eq!(ledger.drops, [("land".to_owned(), 1), ("no_route".to_owned(), 2)].into());
        let json = serde_json::to_value(&ledger).unwrap();
        assert_eq!(json["rx"], 5);
    }
}
