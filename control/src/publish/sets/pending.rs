//! What the steering program has to be told still, now and later.

use std::collections::{HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use ringway_dataplane::af_xdp::program::SteeringEntry;

use super::SteeringChanges;

/// How long packets to a VIP that is nobody's any more are sent up, and replies of an endpoint that is gone. A TCP connection
/// through them is reset by its client's next packet, UDP goes elsewhere (rule 21 of the Service semantics); all else is
/// passed on to the kernel.
const LINGER: Duration = Duration::from_secs(300);

/// The most VIPs that linger. Of more, the oldest go at once.
const MOST_VIPS: usize = 4096;

/// The most endpoints that do: an eighth of what the steering program has room for.
const MOST_ENDPOINTS: usize = 65_536;

/// The most SNAT addresses that do.
const MOST_SNAT: usize = 1024;

/// What the program has to be told still.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) add: HashSet<SteeringEntry>,
    pub(crate) remove: HashSet<SteeringEntry>,
    pub(crate) linger: Duration,
    vips: Lingering,
    endpoints: Lingering,
    snat: Lingering,
    others_linger: bool,
}

/// Entries by when they were abandoned. One that is used again is still in the queue, under another time than here.
#[derive(Debug)]
struct Lingering {
    since: HashMap<SteeringEntry, Instant>,
    queue: VecDeque<(Instant, SteeringEntry)>,
    most: usize,
}

impl Lingering {
    fn at_most(most: usize) -> Self {
        Lingering { since: HashMap::new(), queue: VecDeque::new(), most }
    }

    fn begin(&mut self, entry: SteeringEntry, now: Instant) {
        self.since.insert(entry.clone(), now);
        self.queue.push_back((now, entry));
    }

    fn due(&self, linger: Duration) -> Option<Instant> {
        self.queue.front().map(|(since, _)| *since + linger)
    }

    /// The next one that has lingered for long enough, or for which there is no room.
    fn ripe(&mut self, linger: Duration, now: Instant) -> Option<SteeringEntry> {
        while self.due(linger)? <= now || self.queue.len() > self.most {
            let (since, entry) = self.queue.pop_front()?;
            if self.since.get(&entry) == Some(&since) {
                self.since.remove(&entry);
                return Some(entry);
            }
        }
        None
    }
}

impl Default for Pending {
    fn default() -> Self {
        Pending {
            add: HashSet::new(),
            remove: HashSet::new(),
            linger: LINGER,
            vips: Lingering::at_most(MOST_VIPS),
            endpoints: Lingering::at_most(MOST_ENDPOINTS),
            snat: Lingering::at_most(MOST_SNAT),
            others_linger: false,
        }
    }
}

impl Pending {
    pub(crate) fn note(&mut self, changes: SteeringChanges, now: Instant) {
        for entry in changes.added {
            // What was to go and is still there stays; adding it again does no harm.
            self.remove.remove(&entry);
            self.is_used(&entry);
            self.add.insert(entry);
        }
        for entry in changes.removed {
            self.add.remove(&entry);
            self.is_used(&entry);
            self.remove.insert(entry);
        }
        for entry in changes.abandoned {
            self.add.remove(&entry);
            match entry {
                // Only packets to SNAT ports can be replies still.
                SteeringEntry::Endpoint(endpoint) => {
                    self.remove.insert(entry);
                    let replies = SteeringEntry::MasqueradedEndpoint(endpoint);
                    self.remove.remove(&replies);
                    self.add.insert(replies.clone());
                    self.endpoints.begin(replies, now);
                }
                SteeringEntry::MasqueradedEndpoint(_) => self.endpoints.begin(entry, now),
                // An endpoint that is gone, or that Linux sends to from elsewhere now, may still answer to it.
                SteeringEntry::Snat(_) => self.snat.begin(entry, now),
                _ => {
                    self.vips.begin(entry, now);
                    self.others_linger = true;
                }
            }
        }
    }

    /// An entry is somebody's, again or in another way.
    fn is_used(&mut self, entry: &SteeringEntry) {
        match entry {
            SteeringEntry::Vip(_) => self.others_linger |= self.vips.since.remove(entry).is_some(),
            SteeringEntry::MasqueradedEndpoint(_) => _ = self.endpoints.since.remove(entry),
            SteeringEntry::Snat(_) => _ = self.snat.since.remove(entry),
            _ => {}
        }
    }

    /// The VIPs that linger, if others than when this was asked last.
    pub(crate) fn lingering(&mut self) -> Option<Arc<HashSet<IpAddr>>> {
        let addresses = self.vips.since.keys().filter_map(|entry| match entry {
            SteeringEntry::Vip(vip) => Some(*vip),
            _ => None,
        });
        std::mem::take(&mut self.others_linger).then(|| Arc::new(addresses.collect()))
    }

    /// When something has lingered for long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        let dues = [&self.vips, &self.endpoints, &self.snat].map(|lingering| lingering.due(self.linger));
        dues.into_iter().flatten().min()
    }

    /// Lets go what has lingered for long enough.
    pub(crate) fn end_lingering(&mut self, now: Instant) {
        while let Some(vip) = self.vips.ripe(self.linger, now) {
            self.others_linger = true;
            self.remove.insert(vip);
        }
        for lingering in [&mut self.endpoints, &mut self.snat] {
            while let Some(entry) = lingering.ripe(self.linger, now) {
                self.remove.insert(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_shared::{Frontend, Protocol};

    use super::*;

    fn endpoint(port: u16) -> Frontend {
        Frontend { address: IpAddr::from([10, 0, 0, 1]), protocol: Protocol::Tcp, port }
    }

    fn note(pending: &mut Pending, added: &[SteeringEntry], abandoned: &[SteeringEntry], now: Instant) {
        let (added, abandoned) = (added.to_vec(), abandoned.to_vec());
        pending.note(SteeringChanges { added, abandoned, ..SteeringChanges::default() }, now);
    }

    /// What a program has after it was told everything.
    fn told(pending: &mut Pending, held: &mut HashSet<SteeringEntry>, now: Instant) {
        pending.end_lingering(now);
        held.extend(pending.add.drain());
        pending.remove.drain().for_each(|entry| _ = held.remove(&entry));
    }

    #[test]
    fn replies_of_an_endpoint_that_is_gone_find_back_for_a_while() {
        use SteeringEntry::{Endpoint, MasqueradedEndpoint};
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let (mut pending, mut held) = (Pending::default(), HashSet::new());
        let [kept, masqueraded] = [Endpoint(endpoint(80)), MasqueradedEndpoint(endpoint(81))];
        note(&mut pending, &[kept.clone(), masqueraded.clone()], &[], begin);
        told(&mut pending, &mut held, begin);
        assert_eq!(held, [kept.clone(), masqueraded.clone()].into());
        note(&mut pending, &[], &[kept.clone(), masqueraded.clone()], begin);
        told(&mut pending, &mut held, at(299));
        assert_eq!(held, [MasqueradedEndpoint(endpoint(80)), masqueraded.clone()].into());
        assert_eq!(pending.due(), Some(at(300)));
        // One is used again.
        note(&mut pending, std::slice::from_ref(&masqueraded), &[], at(299));
        told(&mut pending, &mut held, at(300));
        assert_eq!(held, [masqueraded].into());
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn of_very_many_endpoints_the_oldest_go_at_once() {
        let now = Instant::now();
        let mut pending = Pending::default();
        let many = (0..=u16::MAX).map(|port| SteeringEntry::MasqueradedEndpoint(endpoint(port)));
        let more = SteeringEntry::MasqueradedEndpoint(Frontend { protocol: Protocol::Udp, ..endpoint(1) });
        note(&mut pending, &[], &many.chain([more]).collect::<Vec<_>>(), now);
        pending.end_lingering(now);
        assert_eq!(pending.remove, [SteeringEntry::MasqueradedEndpoint(endpoint(0))].into());
    }
}
