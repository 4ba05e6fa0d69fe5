//! What is to be known before no SNAT port is left towards an endpoint, or no room in a flow table, and when it has come to that.

use ringway_shared::FiveTuple;

use super::{EndpointPorts, PortUses};

/// Percent in use from which on it is to be known.
const HIGH: u64 = 80;

/// Percent below which another warning may come.
const LOW: u64 = 60;

/// What has a limit, of which it is remembered that a warning was given.
const REMEMBERED: usize = 1000;

/// How often in a row something may be unheard of before that is forgotten.
const FORGOTTEN: u32 = 30;

/// What has a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limited {
    /// The ports for flows with this reply.
    Ports(FiveTuple),
    /// A worker's flow table.
    Table(u16),
}

impl EndpointPorts {
    fn sentence(&self) -> String {
        let EndpointPorts { endpoint, protocol, address, used, limit, fullest_worker_percent, .. } = self;
        let share = match fullest_worker_percent {
            // With one worker, or all as full, there is no more to say.
            percent if used >= limit || used * 100 / limit.max(&1) == *percent => String::new(),
            percent => format!(", and {percent} % of one worker's share"),
        };
        let then = match fullest_worker_percent {
            100.. => {
                "none is free there, so a new connection needs one of another worker or SNAT address, or of a flow that is \
                      closed, half-open or unreplied, and is dropped where there is none (snat_ports_exhausted)"
            }
            _ => "when none is left, new connections are dropped (snat_ports_exhausted)",
        };
        format!(
            "{used} of {limit} SNAT ports are in use from {address} to {protocol}:{endpoint}{share}: {then}; add ports to \
             snat.ports, addresses to snat.addresses, or endpoints"
        )
    }
}

fn table(worker: u16, certain: u32, capacity: u32) -> String {
    let then = match certain >= capacity {
        true => "so new connections are dropped (flow_table_full), and UDP with its source kept goes on without a flow",
        false => "and when it is full of these, new connections are dropped (flow_table_full)",
    };
    format!(
        "{certain} of {capacity} flows of worker {worker} are established, which no new one pushes out, {then}; raise \
         flows.perWorker, add workers, or lower flows.timeouts.tcpEstablished"
    )
}

impl PortUses {
    /// What is to be known now: no more than there are endpoints that `status` names, and workers.
    pub fn warnings(&self) -> Vec<String> {
        self.high().map(|(_, _, text)| text).collect()
    }

    fn high(&self) -> impl Iterator<Item = (Limited, u64, String)> {
        let ports = self.first().into_iter().filter(|(_, sum)| sum.fullest_percent >= HIGH);
        let ports =
            ports.map(|(tuple, sum)| (Limited::Ports(*tuple), sum.fullest_percent, self.named(tuple, sum).sentence()));
        let tables = self.tables.iter().map(|(worker, (certain, capacity))| (*worker, *certain, *capacity));
        let tables = tables.filter(|(_, certain, capacity)| percent(*certain, *capacity) >= HIGH);
        ports.chain(tables.map(|(worker, certain, capacity)| {
            (Limited::Table(worker), percent(certain, capacity), table(worker, certain, capacity))
        }))
    }

    fn percent_of(&self, limited: &Limited) -> Option<u64> {
        match limited {
            Limited::Ports(tuple) => self.sums.get(tuple).map(|sum| sum.fullest_percent),
            Limited::Table(worker) => self.tables.get(worker).map(|(certain, capacity)| percent(*certain, *capacity)),
        }
    }
}

fn percent(certain: u32, capacity: u32) -> u64 {
    u64::from(certain) * 100 / u64::from(capacity.max(1))
}

/// What was warned of: once when it is nearly full, and once when it is full, until far less is in use, however many others are
/// fuller meanwhile.
#[derive(Debug, Default)]
pub struct Warnings {
    // How often in a row each was not heard of, and whether it was full; what was warned of first comes first.
    told: Vec<(Limited, u32, bool)>,
}

impl Warnings {
    /// What is to be told now, as far as it was not told.
    pub fn due(&mut self, uses: &PortUses) -> Vec<String> {
        self.told.retain_mut(|(limited, unheard, _)| match uses.percent_of(limited) {
            Some(percent) => {
                *unheard = 0;
                percent >= LOW
            }
            // No worker has flows to it any more, or one is late to answer.
            None => {
                *unheard += 1;
                *unheard < FORGOTTEN
            }
        });
        let mut due = Vec::new();
        for (limited, percent, text) in uses.high() {
            let is_full = percent >= 100;
            match self.told.iter_mut().find(|(told, ..)| *told == limited) {
                Some((_, _, was_full)) if *was_full || !is_full => continue,
                Some((_, _, was_full)) => *was_full = true,
                None => {
                    if self.told.len() >= REMEMBERED {
                        self.told.remove(0);
                    }
                    self.told.push((limited, 0, is_full));
                }
            }
            due.push(text);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{of, port_use, ports};
    use super::*;

    #[test]
    fn a_warning_comes_once_until_far_fewer_ports_are_in_use() {
        let mut warnings = Warnings::default();
        let mut due = |used| {
            let mut uses = of(100);
            uses.add(&port_use("10.0.0.7:80", "192.0.2.1", used, 100), &ports(100));
            warnings.due(&uses)
        };
        assert_eq!(due(79), [""; 0]);
        let [told] = &due(80)[..] else { panic!("not told") };
        assert!(told.starts_with("80 of 100 SNAT ports are in use from 192.0.2.1 to tcp:10.0.0.7:80"), "{told}");
        assert_eq!(due(99), [""; 0]);
        assert_eq!(due(61), [""; 0]);
        assert_eq!(due(80), [""; 0]);
        assert_eq!(due(59), [""; 0]);
        assert_eq!(due(80).len(), 1);
    }

    /// Endpoints that are all nearly full, by turns among the fullest or not.
    #[test]
    fn a_warning_is_not_repeated_for_who_was_not_among_the_fullest_meanwhile() {
        let mut warnings = Warnings::default();
        let mut due = |fullest: u8, low: Option<u8>| {
            let mut uses = of(100);
            for number in (0..30u8).filter(|number| low != Some(*number)) {
                let used = if number / 10 == fullest { 95 } else { 85 };
                uses.add(&port_use(&format!("10.0.0.{number}:80"), "192.0.2.1", used, 100), &ports(100));
            }
            low.into_iter()
                .for_each(|n| uses.add(&port_use(&format!("10.0.0.{n}:80"), "192.0.2.1", 59, 100), &ports(100)));
            warnings.due(&uses).len()
        };
        assert_eq!([0, 1, 0, 1, 2, 2, 0].map(|fullest| due(fullest, None)), [10, 10, 0, 0, 10, 0, 0]);
        assert_eq!((due(0, Some(5)), due(1, None), due(0, None)), (0, 0, 1));
        // A worker that does not answer for a moment changes nothing; who is gone is forgotten.
        for (times, expected) in [(FORGOTTEN - 1, 0), (FORGOTTEN, 10)] {
            (0..times).for_each(|_| assert_eq!(warnings.due(&of(100)), [""; 0]));
            let mut uses = of(100);
            (0..10).for_each(|n| uses.add(&port_use(&format!("10.0.0.{n}:80"), "192.0.2.1", 95, 100), &ports(100)));
            assert_eq!(warnings.due(&uses).len(), expected);
        }
        // Of very many only so many are remembered.
        for number in 0..3 * REMEMBERED {
            let mut uses = of(100);
            uses.add(&port_use(&format!("10.0.1.1:{}", 1 + number), "192.0.2.1", 95, 100), &ports(100));
            warnings.due(&uses);
            assert!(warnings.told.len() <= REMEMBERED);
        }
    }

    #[test]
    fn what_is_full_is_told_once_more() {
        let mut warnings = Warnings::default();
        let mut due = |used, certain| {
            let mut uses = of(100);
            uses.add(&port_use("10.0.0.7:80", "192.0.2.1", used, 100), &ports(100));
            uses.note_table(3, certain, 1000);
            let due = warnings.due(&uses);
            // What status says does not depend on what was logged.
            assert!(due.iter().all(|text| uses.warnings().contains(text)));
            assert_eq!(uses.warnings().len(), usize::from(used >= 80) + usize::from(certain >= 800));
            due
        };
        assert_eq!(due(79, 799), [""; 0]);
        let [ports, table] = &due(99, 999)[..] else { panic!("not told") };
        assert!(ports.contains("tcp:10.0.0.7:80: when none is left, new connections are dropped"), "{ports}");
        assert!(table.starts_with("999 of 1000 flows of worker 3 are established"), "{table}");
        assert!(
            table.contains("and when it is full of these, new connections are dropped (flow_table_full)"),
            "{table}"
        );
        assert_eq!(due(99, 999), [""; 0]);
        let [ports, table] = &due(100, 1000)[..] else { panic!("not told") };
        assert!(
            ports.starts_with("100 of 100 SNAT ports are in use from 192.0.2.1 to tcp:10.0.0.7:80: none is free"),
            "{ports}"
        );
        assert!(table.contains("so new connections are dropped (flow_table_full)"), "{table}");
        assert_eq!(due(99, 999), [""; 0]);
        assert_eq!(due(100, 1000), [""; 0]);
        assert_eq!(due(59, 599), [""; 0]);
        assert_eq!(due(100, 1000).len(), 2);
    }
}
