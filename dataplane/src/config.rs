//! What the packet path is told at start, and what of it may change while a worker runs.

use std::net::IpAddr;

use ringway_shared::PortSet;

use crate::flow::Timeouts;

/// How a worker waits for packets: `workers.poll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Poll {
    /// Spins while there is work and for a short while after, then sleeps in `poll(2)`.
    #[default]
    Adaptive,
    /// Never sleeps.
    Busy,
}

impl Poll {
    /// The word in the configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Poll::Adaptive => "adaptive",
            Poll::Busy => "busy",
        }
    }
}

/// What may change while a worker runs, without harm to any flow.
#[derive(Clone, Debug)]
pub struct Settings {
    /// When silent flows end, those that there are included.
    pub timeouts: Timeouts,
    /// SNAT source addresses of new flows; see [`PipelineConfig::snat_addresses`].
    pub snat_addresses: Vec<IpAddr>,
    /// See [`PipelineConfig::rescue`].
    pub rescue: bool,
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
    pub snat_ports: PortSet,
    /// Packets that Ringway itself generates, a second.
    pub replies_per_second: u32,
    /// Whether clients whose first packet is not answered are moved to another endpoint.
    pub rescue: bool,
}

impl PipelineConfig {
    /// One worker with the default ports.
    pub fn single() -> Self {
        PipelineConfig {
            worker: 0,
            workers: 1,
            snat_addresses: Vec::new(),
            snat_ports: PortSet::from(61_000..=65_535),
            replies_per_second: 1_000,
            rescue: true,
        }
    }

    /// The worker that owns a SNAT port, when it is one.
    #[inline]
    pub fn port_owner(&self, port: u16) -> Option<u16> {
        let rank = self.snat_ports.rank(port)?;
        let share = share_size(&self.snat_ports, self.workers);
        Some((rank / share).min(u32::from(self.workers) - 1) as u16)
    }
}

fn share_size(ports: &PortSet, workers: u16) -> u32 {
    (ports.len() / u32::from(workers.max(1))).max(1)
}

/// The SNAT ports of one worker: shares are disjoint, so a reply's port names its owner. `None` when there are fewer
/// ports than workers.
pub fn port_share(ports: &PortSet, worker: u16, workers: u16) -> Option<PortSet> {
    let share = share_size(ports, workers);
    let first = u32::from(worker) * share;
    // The last worker takes what the division leaves.
    let end = if worker + 1 == workers { ports.len() } else { first + share };
    let ports = ports.part(first..end);
    (!ports.is_empty()).then_some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_complete_and_name_their_owner() {
        let sets = [vec![61_000..=65_535], vec![1024..=29_999, 40_000..=40_003, 61_000..=65_535]];
        for (ranges, workers) in sets.iter().flat_map(|ranges| (1..=9u16).map(move |workers| (ranges, workers))) {
            let snat_ports = PortSet::of(ranges.clone()).unwrap();
            let config = PipelineConfig { workers, snat_ports, ..PipelineConfig::single() };
            let mut all = config.snat_ports.ranges().flatten();
            for worker in 0..workers {
                let share = port_share(&config.snat_ports, worker, workers).unwrap();
                for port in share.ranges().flatten() {
                    assert_eq!(Some(port), all.next(), "worker {worker} of {workers}");
                    assert_eq!(config.port_owner(port), Some(worker), "{port} of {workers}");
                }
            }
            assert_eq!(all.next(), None);
            assert_eq!(config.port_owner(60_999), None);
        }
        assert_eq!(port_share(&PortSet::from(7..=8), 2, 3), None);
    }
}
