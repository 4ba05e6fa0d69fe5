//! Neighbours as the kernel reports them, and when to ask it to resolve one.
//!
//! The kernel does all ARP and neighbour discovery. What it cannot see is our traffic: a neighbour that only Ringway
//! sends to would never be resolved, would turn stale, and would be forgotten. So the next hops of the endpoints, and
//! those that workers ask for, are *kept*: unresolved ones are asked for at once and then at growing intervals; a stale
//! one is asked for once, a little later (so that many do not ask together), which makes the kernel confirm it. A fresh
//! one costs nothing.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_shared::MacAddress;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

/// A neighbour: the ifindex of its link, and its address.
pub type Key = (u32, IpAddr);

// The kernel's NUD_* bits.
const REACHABLE: u16 = 0x02;
const STALE: u16 = 0x04;
const DELAY: u16 = 0x08;
const PROBE: u16 = 0x10;
const INCOMPLETE: u16 = 0x01;
const NOARP: u16 = 0x40;
const PERMANENT: u16 = 0x80;
const FRESH: u16 = REACHABLE | DELAY | PROBE | NOARP | PERMANENT;
const USABLE: u16 = FRESH | STALE;

/// How long a flushed neighbour is still used while the kernel is asked again.
const LINGER: Duration = Duration::from_millis(100);
/// The first interval after an unanswered question; it doubles from there.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(16);
/// A stale neighbour is confirmed within this time (plus the kernel's own delay of 5 s).
const CONFIRM: Duration = Duration::from_secs(4);
/// When the kernel said nothing about a stale neighbour that it was asked for.
const CONFIRM_AGAIN: Duration = Duration::from_secs(30);
/// A worker asks again at most this often: packets that wait do so for a second.
const REQUEST_AGAIN: Duration = Duration::from_millis(200);
/// How long a next hop is kept that a worker once asked for.
const REQUEST_KEPT: Duration = Duration::from_secs(600);

/// What a netlink message says about a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    key: Key,
    mac: Option<MacAddress>,
    /// NUD_* bits; 0 when the entry is gone.
    state: u16,
}

impl Change {
    /// The change that a message describes; `None` for bridge and proxy entries. `deleted`: it is an RTM_DELNEIGH.
    pub fn from_message(message: &NeighbourMessage, deleted: bool) -> Option<Self> {
        let header = &message.header;
        if !matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6)
            || header.flags.contains(NeighbourFlags::Proxy)
        {
            return None;
        }
        let (mut address, mut mac) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::from(*v4)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::from(*v6)),
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddress);
                }
                _ => {}
            }
        }
        let state = if deleted { 0 } else { u16::from(header.state) };
        Some(Change { key: (header.ifindex, address?), mac, state })
    }

    fn usable(&self) -> Option<MacAddress> {
        self.mac.filter(|mac| self.state & USABLE != 0 && !mac.is_group() && *mac != MacAddress::default())
    }
}

/// The state that makes the kernel resolve a neighbour without changing anything else: none, with NTF_USE.
pub fn question() -> (NeighbourState, NeighbourFlags) {
    (NeighbourState::None, NeighbourFlags::Use)
}

#[derive(Clone, Debug)]
struct Entry {
    state: u16,
    mac: Option<MacAddress>,
    /// Flushed, yet used until then.
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Kept {
    endpoint: bool,
    requested: Option<Instant>,
    due: Option<Instant>,
    unanswered: u32,
}

/// The neighbour table.
#[derive(Debug, Default)]
pub struct Neighbors {
    entries: HashMap<Key, Entry>,
    kept: HashMap<Key, Kept>,
    random: RandomState,
}

impl Neighbors {
    /// Takes in what the kernel said.
    pub fn apply(&mut self, change: Change, now: Instant) {
        let key = change.key;
        let mac = change.usable();
        let before = self.entries.get(&key).cloned();
        let entry = match (mac, before) {
            (Some(mac), _) => Some(Entry { state: change.state, mac: Some(mac), until: None }),
            // An entry that turns useless without having been probed was flushed: somebody wants it asked for again, and
            // traffic need not stop for that. After a probe it is the neighbour that does not answer.
            (None, Some(Entry { mac: Some(mac), state, until })) if self.kept.contains_key(&key) => {
                let until = until.or((state & PROBE == 0).then(|| now + LINGER));
                until.map(|until| Entry { state: change.state, mac: Some(mac), until: Some(until) })
            }
            (None, _) => {
                (change.state & INCOMPLETE != 0).then_some(Entry { state: INCOMPLETE, mac: None, until: None })
            }
        };
        match entry {
            Some(entry) => self.entries.insert(key, entry),
            None => self.entries.remove(&key),
        };
        self.schedule(key, now);
    }

    /// Takes in a whole table in place of the old one.
    pub fn replace(&mut self, table: impl IntoIterator<Item = Change>, now: Instant) {
        self.entries.clear();
        for change in table {
            self.apply(change, now);
        }
        let keys: Vec<Key> = self.kept.keys().copied().collect();
        keys.into_iter().for_each(|key| self.schedule(key, now));
    }

    /// The neighbours that packets can be sent to.
    pub fn usable(&self, now: Instant) -> impl Iterator<Item = (Key, MacAddress)> {
        self.entries.iter().filter_map(move |(key, entry)| {
            let mac = entry.mac.filter(|_| entry.until.is_none_or(|until| now < until))?;
            Some((*key, mac))
        })
    }

    /// The next hops of all endpoints: keeps these, and lets go of those that are not among them any more.
    pub fn keep(&mut self, endpoints: &HashSet<Key>, now: Instant) {
        for (key, kept) in &mut self.kept {
            kept.endpoint = endpoints.contains(key);
        }
        self.drop_unwanted(now);
        for key in endpoints {
            if !self.kept.contains_key(key) {
                self.kept.insert(*key, Kept { endpoint: true, ..Kept::default() });
                self.schedule(*key, now);
            }
        }
    }

    /// A worker has packets for this next hop and no MAC address.
    pub fn request(&mut self, key: Key, now: Instant) {
        let kept = self.kept.entry(key).or_default();
        let again = kept.requested.is_none_or(|last| now.duration_since(last) >= REQUEST_AGAIN);
        if again {
            kept.requested = Some(now);
            if self.entries.get(&key).is_none_or(|entry| entry.mac.is_none() || entry.until.is_some()) {
                kept.due = Some(now);
            }
        }
    }

    /// Ends the use of flushed neighbours that lingered long enough; whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.until.is_none_or(|until| now < until));
        self.entries.len() != before
    }

    /// The neighbours to ask for now.
    pub fn due(&mut self, now: Instant) -> Vec<Key> {
        self.drop_unwanted(now);
        let mut due = Vec::new();
        for (key, kept) in &mut self.kept {
            if kept.due.is_none_or(|due| due > now) {
                continue;
            }
            due.push(*key);
            let known = self.entries.get(key).is_some_and(|entry| entry.mac.is_some() && entry.until.is_none());
            kept.due = Some(if known {
                now + CONFIRM_AGAIN
            } else {
                kept.unanswered = kept.unanswered.saturating_add(1);
                now + retry(&self.random, *key, kept.unanswered)
            });
        }
        due
    }

    /// When [`Neighbors::due`] or [`Neighbors::expire`] has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        let lingering = self.entries.values().filter_map(|entry| entry.until);
        self.kept.values().filter_map(|kept| kept.due).chain(lingering).min()
    }

    fn schedule(&mut self, key: Key, now: Instant) {
        let Some(kept) = self.kept.get_mut(&key) else { return };
        match self.entries.get(&key) {
            Some(entry) if entry.until.is_none() && entry.state & FRESH != 0 => {
                (kept.due, kept.unanswered) = (None, 0);
            }
            Some(entry) if entry.until.is_none() && entry.state & STALE != 0 => {
                kept.unanswered = 0;
                kept.due = Some(now + jitter(&self.random, key, kept.unanswered, CONFIRM));
            }
            // Not resolved, or flushed.
            _ if kept.unanswered == 0 => kept.due = Some(now),
            _ => {}
        }
    }

    fn drop_unwanted(&mut self, now: Instant) {
        self.kept.retain(|_, kept| {
            kept.endpoint || kept.requested.is_some_and(|last| now.duration_since(last) < REQUEST_KEPT)
        });
    }
}

/// A pseudo-random part of `span`.
fn jitter(random: &RandomState, key: Key, round: u32, span: Duration) -> Duration {
    let part = random.hash_one((key, round)) as u32;
    span.mul_f64(f64::from(part) / f64::from(u32::MAX))
}

/// 1 s, 2 s, 4 s … 16 s, each with up to a quarter more.
fn retry(random: &RandomState, key: Key, unanswered: u32) -> Duration {
    let base = RETRY.saturating_mul(1 << unanswered.saturating_sub(1).min(10)).min(RETRY_MAX);
    base + jitter(random, key, unanswered, base / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: u16 = 0x20;
    const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

    fn key() -> Key {
        (2, "10.0.0.9".parse().unwrap())
    }

    fn change(state: u16) -> Change {
        let mac = (state & USABLE != 0).then_some(MAC);
        Change { key: key(), mac, state }
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn is_usable(neighbors: &Neighbors, now: Instant) -> bool {
        neighbors.usable(now).any(|found| found == (key(), MAC))
    }

    #[test]
    fn messages_are_read_and_foreign_ones_are_not() {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 2;
        message.header.state = NeighbourState::Stale;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet("10.0.0.9".parse().unwrap())),
            NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec()),
        ];
        assert_eq!(Change::from_message(&message, false), Some(change(STALE)));
        assert_eq!(Change::from_message(&message, true).unwrap().usable(), None);
        for state in [REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT] {
            message.header.state = state.into();
            assert_eq!(Change::from_message(&message, false).unwrap().usable(), Some(MAC), "{state:#x}");
        }
        for state in [0, INCOMPLETE, FAILED] {
            message.header.state = state.into();
            assert_eq!(Change::from_message(&message, false).unwrap().usable(), None, "{state:#x}");
        }
        message.header.state = NeighbourState::Noarp;
        for mac in [vec![0; 6], vec![1, 0, 0x5e, 0, 0, 1], vec![1, 2, 3, 4]] {
            message.attributes[1] = NeighbourAttribute::LinkLayerAddress(mac.clone());
            assert_eq!(Change::from_message(&message, false).unwrap().usable(), None, "{mac:?}");
        }
        message.header.flags = NeighbourFlags::Proxy;
        assert_eq!(Change::from_message(&message, false), None);
        message.header.family = AddressFamily::Bridge;
        assert_eq!(Change::from_message(&message, false), None);
    }

    #[test]
    fn an_endpoints_next_hop_is_asked_for_at_once_and_then_at_growing_intervals() {
        let (mut neighbors, mut now) = (Neighbors::default(), Instant::now());
        neighbors.keep(&HashSet::from([key()]), now);
        assert_eq!(neighbors.due(now), [key()]);
        assert_eq!(neighbors.due(now), []);
        let mut gaps = Vec::new();
        for _ in 0..7 {
            let next = neighbors.next_due().unwrap();
            gaps.push(next.duration_since(now).as_secs_f64());
            now = next;
            assert_eq!(neighbors.due(now), [key()]);
            // An answer that is none changes nothing about the interval.
            neighbors.apply(change(FAILED), now);
        }
        for (gap, expected) in gaps.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]) {
            assert!(*gap >= expected && *gap <= expected * 1.25, "{gaps:?}");
        }
        neighbors.keep(&HashSet::new(), now);
        assert_eq!(neighbors.next_due(), None);
    }

    #[test]
    fn a_fresh_neighbour_costs_nothing_and_a_stale_one_a_question() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.keep(&HashSet::from([key()]), now);
        neighbors.apply(change(REACHABLE), now);
        assert!(is_usable(&neighbors, now));
        assert_eq!(neighbors.next_due(), None);
        neighbors.apply(change(STALE), now);
        assert!(is_usable(&neighbors, now));
        let due = neighbors.next_due().unwrap();
        assert!(due <= now + CONFIRM);
        assert_eq!(neighbors.due(due), [key()]);
        assert_eq!(neighbors.due(due + seconds(10)), []);
        assert_eq!(neighbors.due(due + CONFIRM_AGAIN), [key()]);
        neighbors.apply(change(DELAY), due);
        assert_eq!(neighbors.next_due(), None);
    }

    #[test]
    fn a_flushed_neighbour_is_asked_for_at_once_and_used_meanwhile() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.keep(&HashSet::from([key()]), now);
        neighbors.apply(change(REACHABLE), now);
        // `ip neigh flush`: failed, then deleted.
        neighbors.apply(change(FAILED), now);
        neighbors.apply(change(0), now);
        assert_eq!(neighbors.due(now), [key()]);
        assert!(is_usable(&neighbors, now));
        neighbors.apply(change(INCOMPLETE), now);
        assert!(is_usable(&neighbors, now), "still lingers");
        assert!(!is_usable(&neighbors, now + LINGER), "but not for long");
        neighbors.apply(change(REACHABLE), now);
        assert!(is_usable(&neighbors, now + LINGER));
    }

    #[test]
    fn a_neighbour_that_does_not_answer_is_removed_at_once() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.keep(&HashSet::from([key()]), now);
        for state in [REACHABLE, STALE, PROBE, FAILED] {
            neighbors.apply(change(state), now);
        }
        assert!(!is_usable(&neighbors, now));
        assert_eq!(neighbors.due(now), [key()]);
    }

    #[test]
    fn a_worker_is_heard_but_not_every_time() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.request(key(), now);
        assert_eq!(neighbors.due(now), [key()]);
        neighbors.request(key(), now + Duration::from_millis(10));
        assert_eq!(neighbors.due(now + Duration::from_millis(10)), []);
        neighbors.request(key(), now + REQUEST_AGAIN);
        assert_eq!(neighbors.due(now + REQUEST_AGAIN), [key()]);
        neighbors.apply(change(REACHABLE), now);
        neighbors.request(key(), now + seconds(2));
        assert_eq!(neighbors.due(now + seconds(2)), []);
        neighbors.due(now + seconds(3) + REQUEST_KEPT);
        neighbors.apply(change(STALE), now);
        assert_eq!(neighbors.next_due(), None, "not kept any more");
    }

    #[test]
    fn a_new_table_replaces_the_old_one() {
        let (mut neighbors, now) = (Neighbors::default(), Instant::now());
        neighbors.apply(change(REACHABLE), now);
        neighbors.replace([], now);
        assert!(!is_usable(&neighbors, now));
        neighbors.keep(&HashSet::from([key()]), now);
        neighbors.replace([change(PERMANENT)], now);
        assert!(is_usable(&neighbors, now));
        assert_eq!(neighbors.next_due(), None);
    }
}
