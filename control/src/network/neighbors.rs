//! Neighbours as the kernel reports them, and when to ask it to resolve one.
//!
//! The kernel does all ARP and neighbour discovery. What it cannot see is our traffic: a neighbour that only Ringway
//! sends to would never be resolved, would turn stale, and would be forgotten. So some next hops are *wanted*:
//!
//! - those of endpoints, always: unresolved ones are asked for at once and then at growing intervals; a stale one is asked
//!   for once, a little later (so that many do not ask together), which makes the kernel confirm it;
//! - those that carry packets, whoever they are: a stale one is asked for when the next packet leaves by it, as Linux does
//!   for its own packets; one that is lost is asked for like an endpoint's, for as long as somebody sends to it.
//!
//! What workers merely ask for is a question and no more (`clients`). Everything here is bounded and gives way in this
//! order: questions, neighbours that nobody uses lately, next hops of clients; never those of endpoints and routers.
//! Nothing walks all entries for an event.

mod change;
mod clients;
mod earlier;
mod known;
mod lane;
mod overview;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ringway_shared::MacAddress;

pub use change::{Change, question};
use change::{FAILED, FRESH, PROBE, STALE};
use clients::Clients;
use known::Known;
use lane::{Lane, Rate};
pub use overview::{Overview, Role};

/// A neighbour: the ifindex of its link, and its address.
pub type Key = (u32, IpAddr);

/// How many neighbours with a MAC address there are at most; wanted ones never give way.
const KNOWN: usize = 32_768;
/// How many next hops of clients are kept confirmed at most.
const IN_USE: usize = 8192;
/// Questions a second for next hops of endpoints and for routers, and for those of clients in use.
const VOUCHED_A_SECOND: u32 = 4000;
const IN_USE_A_SECOND: u32 = 500;

/// How long a flushed neighbour is still used while the kernel is asked again.
const LINGER: Duration = Duration::from_millis(100);
/// The first interval after an unanswered question; it doubles from there.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(16);
/// A stale neighbour that carries nothing is confirmed within this time (plus the kernel's own delay of 5 s).
const CONFIRM: Duration = Duration::from_secs(4);
/// When the kernel said nothing about a stale neighbour that it was asked for.
const CONFIRM_AGAIN: Duration = Duration::from_secs(30);
/// The same for one that carries packets: the kernel says something within 5 s.
const CONFIRM_USED_AGAIN: Duration = Duration::from_secs(10);
/// A worker asks again at most this often: packets that wait do so for a second.
const REQUEST_AGAIN: Duration = Duration::from_millis(200);
/// How long a next hop that is no endpoint's is kept after the last packet for it.
const USE_KEPT: Duration = Duration::from_secs(60);
/// Unanswered questions after which a next hop counts as silent, whatever the kernel says.
const SILENT_AFTER: u32 = 3;

/// Something to tell the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Resolve this neighbour, or confirm it when it is stale.
    Ask(Key),
    /// Forget this neighbour: it did not answer, and nobody is waiting for it any more.
    Forget(Key),
}

/// A next hop that is to be resolved.
#[derive(Debug, Default)]
struct Wanted {
    endpoint: bool,
    /// The last packet that left by it or waited for it, if it is no endpoint's.
    used: Option<Instant>,
    requested: Option<Instant>,
    due: Option<Instant>,
    /// When the kernel was asked to confirm it.
    confirming: Option<Instant>,
    unanswered: u32,
}

/// The neighbour table.
#[derive(Debug)]
pub struct Neighbors {
    known: Known,
    routers: HashSet<Key>,
    wanted: HashMap<Key, Wanted>,
    /// Those that are wanted for being used alone, by the last use.
    in_use: BTreeSet<(Instant, Key)>,
    silent: BTreeMap<Key, Instant>,
    vouched_lane: Lane,
    in_use_lane: Lane,
    clients: Clients,
    random: RandomState,
}

impl Default for Neighbors {
    fn default() -> Self {
        Neighbors {
            known: Known::new(KNOWN),
            routers: HashSet::new(),
            wanted: HashMap::new(),
            in_use: BTreeSet::new(),
            silent: BTreeMap::new(),
            vouched_lane: Lane::new(Rate::a_second(VOUCHED_A_SECOND)),
            in_use_lane: Lane::new(Rate::a_second(IN_USE_A_SECOND)),
            clients: Clients::new(),
            random: RandomState::new(),
        }
    }
}

impl Neighbors {
    /// Takes in what the kernel said; whether packets go elsewhere now.
    pub fn apply(&mut self, change: Change, now: Instant) -> bool {
        let (key, wanted) = (change.key, self.wanted.contains_key(&change.key));
        let differs = match (change.usable(), self.known.get(&key)) {
            (Some(mac), _) => {
                self.clients.of(&key).answered(&key);
                self.silent.remove(&key);
                let protected = self.is_protected(&key);
                self.known.insert(key, change.state, mac, protected)
            }
            // An entry that turns useless without having been probed was flushed: somebody wants it asked for again, and
            // traffic need not stop for that. After a probe it is the neighbour that does not answer.
            (None, Some(entry)) if wanted && (entry.until.is_some() || entry.state & PROBE == 0) => {
                self.known.linger(key, change.state, entry.until.unwrap_or(now + LINGER));
                false
            }
            (None, Some(_)) => self.known.remove(&key),
            (None, None) => false,
        };
        if change.state & FAILED != 0 {
            self.clients.of(&key).failed(&key, now);
            if wanted {
                self.silent.entry(key).or_insert(now);
            }
        }
        self.schedule(key, now);
        differs
    }

    /// Takes in a whole table in place of the old one.
    pub fn replace(&mut self, table: impl IntoIterator<Item = Change>, now: Instant) {
        self.known.clear();
        for change in table {
            self.apply(change, now);
        }
        let keys: Vec<Key> = self.wanted.keys().copied().collect();
        keys.into_iter().for_each(|key| self.schedule(key, now));
    }

    /// The neighbours that packets can be sent to.
    pub fn usable(&self, now: Instant) -> impl Iterator<Item = (Key, MacAddress)> {
        self.known.usable(now)
    }

    /// Keeps `new`, next hops of endpoints, and lets go of `gone`, which are none any more.
    pub fn keep(&mut self, new: &[Key], gone: &[Key], now: Instant) {
        for key in new {
            let known = self.wanted.contains_key(key);
            let wanted = self.wanted.entry(*key).or_default();
            wanted.endpoint = true;
            if let Some(used) = wanted.used.take() {
                self.in_use.remove(&(used, *key));
            }
            self.change_lane(*key);
            if !known {
                self.schedule(*key, now);
            }
        }
        for key in gone.iter().filter(|key| !new.contains(key)) {
            if let Some(wanted) = self.wanted.get_mut(key).filter(|wanted| wanted.endpoint) {
                wanted.endpoint = false;
                // Packets that still leave by it make it wanted again.
                self.stop_wanting(key);
            }
        }
    }

    /// The next hops that routes lead by.
    pub fn set_routers(&mut self, routers: HashSet<Key>) {
        let before = std::mem::replace(&mut self.routers, routers);
        let changed: Vec<Key> = before.symmetric_difference(&self.routers).copied().collect();
        changed.into_iter().for_each(|key| self.change_lane(key));
    }

    /// A worker has packets for this next hop and no MAC address.
    pub fn request(&mut self, key: Key, now: Instant) {
        let is_known = self.is_known(&key);
        if !self.wanted.contains_key(&key) {
            if is_known {
                return;
            }
            if !self.routers.contains(&key) {
                return self.clients.of(&key).request(key, now);
            }
        }
        self.touch(key, now);
        let Some(wanted) = self.wanted.get_mut(&key) else { return };
        if wanted.requested.is_none_or(|last| now.duration_since(last) >= REQUEST_AGAIN) {
            wanted.requested = Some(now);
            if !is_known {
                self.set_due(key, Some(now));
            }
        }
    }

    /// Packets left by this next hop lately.
    pub fn note_use(&mut self, key: Key, now: Instant) {
        let is_new = !self.wanted.contains_key(&key);
        self.touch(key, now);
        match self.known.get(&key) {
            Some(entry) if entry.until.is_none() && entry.state & FRESH != 0 => {}
            Some(entry) if entry.until.is_none() && entry.state & STALE != 0 => {
                let asked = self.wanted.get(&key).and_then(|wanted| wanted.confirming);
                if asked.is_none_or(|asked| now.duration_since(asked) >= CONFIRM_USED_AGAIN) {
                    self.set_due(key, Some(now));
                }
            }
            _ if is_new => self.set_due(key, Some(now)),
            _ => {}
        }
    }

    /// Ends the use of flushed neighbours that lingered long enough; whether there were any.
    pub fn expire(&mut self, now: Instant) -> bool {
        self.known.expire(now)
    }

    /// What to tell the kernel now.
    pub fn errands(&mut self, now: Instant) -> Vec<Errand> {
        self.lapse(now);
        let mut errands = Vec::new();
        while let Some(key) = self.vouched_lane.pop(now).or_else(|| self.in_use_lane.pop(now)) {
            errands.push(Errand::Ask(key));
            self.note_asked(key, now);
        }
        let (known, wanted) = (&self.known, &self.wanted);
        let is_known = |key: &Key| known.get(key).is_some_and(|entry| entry.until.is_none());
        for questions in self.clients.each() {
            questions.expire(now);
            let next = std::iter::from_fn(|| questions.pop(now, |key| wanted.contains_key(key) || is_known(key)));
            let asked: Vec<Key> = next.collect();
            // What is wanted meanwhile is asked for elsewhere, and not to be forgotten.
            let over = questions.over().into_iter().filter(|key| !wanted.contains_key(key) && !is_known(key));
            errands.extend(over.map(Errand::Forget));
            errands.extend(asked.into_iter().map(Errand::Ask));
        }
        errands
    }

    /// When [`Neighbors::errands`] or [`Neighbors::expire`] has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        let lapse = self.in_use.first().map(|(used, _)| *used + USE_KEPT);
        let lanes = [self.vouched_lane.next_due(), self.in_use_lane.next_due()];
        lanes.into_iter().chain([self.clients.next_due(), self.known.next_end(), lapse]).flatten().min()
    }

    fn is_known(&self, key: &Key) -> bool {
        self.known.get(key).is_some_and(|entry| entry.until.is_none())
    }

    /// Whether it gives way to nobody.
    fn is_protected(&self, key: &Key) -> bool {
        self.routers.contains(key) || self.wanted.contains_key(key)
    }

    /// Whether it is an endpoint's or a router.
    fn is_vouched_for(&self, key: &Key) -> bool {
        self.routers.contains(key) || self.wanted.get(key).is_some_and(|wanted| wanted.endpoint)
    }

    /// Wants a next hop for being used, unless it is an endpoint's, which is wanted anyway.
    fn touch(&mut self, key: Key, now: Instant) {
        if !self.wanted.contains_key(&key) && self.in_use.len() >= IN_USE {
            let oldest = self.in_use.iter().find(|(_, other)| !self.routers.contains(other)).map(|(_, other)| *other);
            oldest.into_iter().for_each(|other| self.stop_wanting(&other));
        }
        let wanted = self.wanted.entry(key).or_default();
        if wanted.endpoint {
            return;
        }
        if let Some(before) = wanted.used.replace(now) {
            self.in_use.remove(&(before, key));
        }
        self.in_use.insert((now, key));
        self.known.protect(key, true);
    }

    fn schedule(&mut self, key: Key, now: Instant) {
        let Some(wanted) = self.wanted.get_mut(&key) else { return };
        match self.known.get(&key) {
            Some(entry) if entry.until.is_none() && entry.state & FRESH != 0 => {
                (wanted.unanswered, wanted.confirming) = (0, None);
                self.set_due(key, None);
            }
            Some(entry) if entry.until.is_none() && entry.state & STALE != 0 => {
                // Said again, it is stale again: what was asked about it before is void.
                (wanted.unanswered, wanted.confirming) = (0, None);
                // One that is no endpoint's is confirmed when the next packet leaves by it.
                let due = wanted.endpoint.then(|| now + jitter(&self.random, key, 0, CONFIRM));
                self.set_due(key, due);
            }
            // Not resolved, or flushed.
            _ if wanted.unanswered == 0 => self.set_due(key, Some(now)),
            _ => {}
        }
    }

    fn note_asked(&mut self, key: Key, now: Instant) {
        let known = self.is_known(&key);
        let Some(wanted) = self.wanted.get_mut(&key) else { return };
        wanted.due = None;
        if known {
            wanted.confirming = Some(now);
            if wanted.endpoint {
                self.set_due(key, Some(now + CONFIRM_AGAIN));
            }
            return;
        }
        wanted.unanswered = wanted.unanswered.saturating_add(1);
        if wanted.unanswered >= SILENT_AFTER {
            self.silent.entry(key).or_insert(now);
        }
        let again = retry(&self.random, key, wanted.unanswered);
        self.set_due(key, Some(now + again));
    }

    fn set_due(&mut self, key: Key, due: Option<Instant>) {
        let vouched = self.is_vouched_for(&key);
        let Some(wanted) = self.wanted.get_mut(&key) else { return };
        if let Some(before) = std::mem::replace(&mut wanted.due, due) {
            self.vouched_lane.remove(before, key);
            self.in_use_lane.remove(before, key);
        }
        if let Some(due) = due {
            if vouched { &mut self.vouched_lane } else { &mut self.in_use_lane }.insert(due, key);
        }
    }

    /// Follows a change of who vouches for it.
    fn change_lane(&mut self, key: Key) {
        self.known.protect(key, self.is_protected(&key));
        if let Some(due) = self.wanted.get(&key).and_then(|wanted| wanted.due) {
            self.set_due(key, Some(due));
        }
    }

    fn stop_wanting(&mut self, key: &Key) {
        self.set_due(*key, None);
        if let Some(used) = self.wanted.remove(key).and_then(|wanted| wanted.used) {
            self.in_use.remove(&(used, *key));
        }
        self.silent.remove(key);
        self.known.protect(*key, self.is_protected(key));
    }

    /// Lets go of what carried nothing for long.
    fn lapse(&mut self, now: Instant) {
        while let Some((used, key)) = self.in_use.first().copied()
            && now.saturating_duration_since(used) >= USE_KEPT
        {
            self.stop_wanting(&key);
        }
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
