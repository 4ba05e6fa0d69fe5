//! What the packet path is told at start, and what of it may change while a worker runs.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::flow::Timeouts;

/// How a worker waits for packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Spins while there is work and for a short while after, then sleeps in `poll(2)`.
    #[default]
    Adaptive,
    /// Never sleeps.
    Busy,
}

/// What may change while a worker runs, without harm to any flow.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When silent flows end, those that there are included.
    pub timeouts: Timeouts,
    /// SNAT source addresses of new flows; see [`PipelineConfig::snat_addresses`].
    pub snat_addresses: Vec<IpAddr>,
}

/// Settings of one worker's pipeline.
#[derive(Clone, Debug)]
pub struct PipelineConfig {
    /// This worker's number, from 0.
    pub worker: u16,
    /// How many workers there are.
    pub workers: u16,
    /// SNAT source addresses; empty: the address Linux would choose on the way.
    pub snat_addresses: Vec<IpAddr>,
    /// SNAT ports of all workers together; [`port_share`] says which are this worker's.
    pub snat_ports: RangeInclusive<u16>,
    /// Packets that Ringway itself generates, a second.
    pub replies_per_second: u32,
}

impl PipelineConfig {
    /// One worker with the default ports.
    pub fn single() -> Self {
        PipelineConfig {
            worker: 0,
            workers: 1,
            snat_addresses: Vec::new(),
            snat_ports: 61_000..=65_535,
            replies_per_second: 1_000,
        }
    }

    /// The worker that owns a SNAT port, when it is one.
    #[inline]
    pub fn port_owner(&self, port: u16) -> Option<u16> {
        let (first, last) = (*self.snat_ports.start(), *self.snat_ports.end());
        if port < first || port > last {
            return None;
        }
        let share = share_size(&self.snat_ports, self.workers);
        Some((u32::from(port - first) / share).min(u32::from(self.workers) - 1) as u16)
    }
}

fn share_size(ports: &RangeInclusive<u16>, workers: u16) -> u32 {
    let count = u32::from(ports.end().saturating_sub(*ports.start())) + 1;
    (count / u32::from(workers.max(1))).max(1)
}

/// The SNAT ports of one worker: shares are disjoint, so a reply's port names its owner. `None` when there are fewer
/// ports than workers.
pub fn port_share(ports: &RangeInclusive<u16>, worker: u16, workers: u16) -> Option<RangeInclusive<u16>> {
    let share = share_size(ports, workers);
    let first = u32::from(*ports.start()) + u32::from(worker) * share;
    // The last worker takes what the division leaves.
    let last = if worker + 1 == workers { u32::from(*ports.end()) } else { first + share - 1 };
    (first <= last && last <= u32::from(*ports.end())).then_some(first as u16..=last as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_complete_and_name_their_owner() {
        for workers in 1..=9u16 {
            let config = PipelineConfig { workers, ..PipelineConfig::single() };
            let mut next = *config.snat_ports.start();
            for worker in 0..workers {
                let share = port_share(&config.snat_ports, worker, workers).unwrap();
                assert_eq!(*share.start(), next);
                for port in share.clone() {
                    assert_eq!(config.port_owner(port), Some(worker), "{port} of {workers}");
                }
                next = share.end().wrapping_add(1);
            }
            assert_eq!(next, 0, "65,535 is the last port");
            assert_eq!(config.port_owner(60_999), None);
        }
        assert_eq!(port_share(&(7..=8), 2, 3), None);
    }
}
