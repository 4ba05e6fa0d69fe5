//! Neighbours as the kernel reports them, and when to ask it to resolve one.
//!
//! The kernel does all ARP and neighbour discovery. What it cannot see is our traffic: a neighbour that only Ringway
//! sends to would never be resolved, would turn stale, and would be forgotten. So the next hops of the endpoints, and
//! those that workers ask for, are *kept*: unresolved ones are asked for at once and then at growing intervals; a stale
//! one is asked for once, a little later (so that many do not ask together), which makes the kernel confirm it. A fresh
//! one costs nothing.

use std::collections::HashMap;
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

    /// Keeps `new`, next hops of endpoints, and lets go of `gone`, which are none any more.
    pub fn keep(&mut self, new: &[Key], gone: &[Key], now: Instant) {
        for key in gone {
            if let Some(kept) = self.kept.get_mut(key) {
                kept.endpoint = false;
            }
        }
        self.drop_unwanted(now);
        for key in new {
            let known = self.kept.contains_key(key);
            self.kept.entry(*key).or_default().endpoint = true;
            if !known {
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
mod tests;
