//! Neighbours and interfaces as metrics.

use ringway_shared::counters::Counter;

use super::{Metric, Number, flag, gauge, many, one};
use crate::report::drops::InterfaceLosses;
use crate::report::interfaces::{InterfaceCounters, InterfaceReport};
use crate::report::status::StatusReport;

/// What the interfaces count themselves, how their queues are chosen, and their ports.
pub(super) fn interfaces(status: &StatusReport) -> Vec<Metric> {
    let ports = |number: fn(&InterfaceReport) -> f64| {
        let attached = status.interfaces.iter().filter(|interface| interface.mode.is_some());
        attached.map(|i| (i.name.clone(), Number::Gauge(number(i)))).collect::<Vec<_>>()
    };
    // With the devices that carry them: a bond's members, the NIC below a VLAN device.
    let known = InterfaceLosses::of(&status.interfaces);
    let all = |number: fn(&InterfaceCounters) -> u64| {
        known.iter().map(|one| (one.name.clone(), Number::Count(number(&one.counters)))).collect::<Vec<_>>()
    };
    vec![
        many(
            "interface_ports_stalled",
            "Ports whose frames wait to be sent, and none was for a second.",
            "interface",
            ports(|i| i.ports.iter().filter(|port| port.stalled_seconds.is_some()).count() as f64),
        ),
        many(
            "interface_frames_in_transmit",
            "Frames that wait to be sent, or to be given back as sent.",
            "interface",
            ports(|i| i.ports.iter().map(|port| f64::from(port.in_transmit)).sum()),
        ),
        many(
            "interface_received",
            "Packets that the interface received by its own counters.",
            "interface",
            all(|c| c.rx_packets),
        ),
        many(
            "interface_sent",
            "Packets that the interface sent by its own counters.",
            "interface",
            all(|c| c.tx_packets),
        ),
        many("interface_rx_errors", "Broken packets.", "interface", all(|c| c.rx_errors)),
        many(
            "interface_rx_dropped",
            "Received by the interface and taken by nobody.",
            "interface",
            all(|c| c.rx_dropped),
        ),
        many("interface_rx_missed", "Packets that the NIC had no room for.", "interface", all(|c| c.rx_missed)),
        many("interface_rx_over", "Likewise, as some drivers count it.", "interface", all(|c| c.rx_over)),
        many("interface_rx_fifo", "Likewise, as other drivers count it.", "interface", all(|c| c.rx_fifo)),
        many("interface_tx_errors", "Packets not sent for an error.", "interface", all(|c| c.tx_errors)),
        many("interface_tx_dropped", "Packets not sent for want of room.", "interface", all(|c| c.tx_dropped)),
        many("interface_tx_fifo", "Likewise, as some drivers count it.", "interface", all(|c| c.tx_fifo)),
        many(
            "interface_tx_carrier",
            "Packets not sent because the carrier was lost.",
            "interface",
            all(|c| c.tx_carrier),
        ),
        many(
            "interface_rss_computed",
            "1 when the queue of a packet can be computed, so that replies come to the worker of their flow.",
            "interface",
            status
                .interfaces
                .iter()
                .filter(|interface| !interface.rss.is_empty())
                .map(|interface| (interface.name.clone(), flag(interface.rss.iter().all(|rss| rss.computed)))),
        ),
        many(
            "packets_handed_over",
            "Packets that a worker gave to the one that owns their flow.",
            "worker",
            status.workers.iter().map(|worker| {
                let count = worker.counters.get(Counter::HandedOver.label()).copied().unwrap_or_default();
                (worker.id.to_string(), Number::Count(count))
            }),
        ),
    ]
}

pub(super) fn neighbors(status: &StatusReport) -> Vec<Metric> {
    let neighbors = &status.neighbors;
    let questions = [("unanswered", neighbors.unanswered), ("gave_way", neighbors.questions_gave_way)];
    vec![
        gauge("neighbors", "Neighbours with a known MAC address.", neighbors.known),
        one(
            "neighbors_gave_way",
            "Neighbours that were let go of because there were too many.",
            Number::Count(neighbors.known_gave_way),
        ),
        gauge("neighbors_asked", "Next hops that workers asked for and that have not answered yet.", {
            neighbors.waiting + neighbors.asked
        }),
        many(
            "neighbor_questions_lost",
            "Next hops that workers asked for in vain.",
            "how",
            questions.map(|(how, count)| (how, Number::Count(count))),
        ),
        gauge(
            "next_hops_silent",
            "Next hops of endpoints, routers and clients in use that do not answer now.",
            neighbors.silent_count,
        ),
    ]
}
