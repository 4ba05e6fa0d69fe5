//! The datagrams of one worker whose first fragment it has seen.
//!
//! A table of fixed size under a secret hash, and three queues of it, oldest first: datagrams all of whose bytes came, which
//! are kept for a moment since fragments may come twice; certain ones, whose flow both sides take part in; and all others.
//! When the table is full the complete ones go first. Then each of the other two kinds has half of the table to itself: what
//! is opened takes the place of its own kind's oldest, or of the other's when that has more than half. Between two addresses
//! only so many are certain at once, all others are not: who has one flow that is answered pushes out no more than that.

use std::sync::Arc;

use super::coverage::{Added, Coverage};
use super::{Fate, Key, Piece};
use crate::clock::Time;
use crate::directory::FlowDirectory;

/// The most datagrams at once. They take 2.2 MiB.
pub const MOST_DATAGRAMS: usize = 1024;
/// How long after its last new fragment a datagram is forgotten that is not complete, in nanoseconds.
pub const LIFE: u64 = 1_000_000_000;
/// How long after its last new fragment a datagram that goes on gives way to what it could not have, in nanoseconds: that
/// is then of the next one with its identification.
pub const STALE: u64 = 200_000_000;
/// How long after its last new fragment a datagram is forgotten that is complete, in nanoseconds.
pub const DONE_LIFE: u64 = 100_000_000;

/// The most certain ones at once between two addresses, and others with the same small hash.
pub const MOST_OF_PAIR: u16 = 64;

/// Small hashes of two addresses, a power of two.
const PAIRS: usize = 1024;
/// Heads of the hash table, a power of two.
const BUCKETS: usize = 2 * MOST_DATAGRAMS;
const NONE: u16 = u16::MAX;

/// The number of a datagram, good until the next one is opened or forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramId(u16);

/// What a fragment of a datagram is to be done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It shares this fate.
    Share(Fate),
    /// It is none of this datagram: all of that has come, and this was not among it; or nothing has come for long, and now
    /// something that it has already, or cannot have.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Done = 0,
    Uncertain = 1,
    Certain = 2,
}

const CLASSES: [Class; 3] = [Class::Done, Class::Uncertain, Class::Certain];

#[derive(Clone, Copy)]
struct Record {
    key: Key,
    hash: u64,
    fate: Fate,
    /// When its last new fragment came.
    since: Time,
    class: Class,
    /// The small hash of its addresses, if it is certain.
    pair: u16,
    /// The next one in the bucket, or of those that are free.
    next: u16,
    older: u16,
    newer: u16,
}

#[derive(Clone, Copy)]
struct Queue {
    oldest: u16,
    newest: u16,
    len: u16,
}

/// The table.
pub struct Datagrams {
    records: Box<[Record]>,
    coverages: Box<[Coverage]>,
    buckets: Box<[u16]>,
    queues: [Queue; 3],
    // How many certain ones there are, by the small hash of their addresses.
    pairs: Box<[u16]>,
    free: u16,
    // Where other workers look who has a datagram, and this worker's number there.
    shared: Option<(Arc<FlowDirectory>, u16)>,
}

impl Default for Datagrams {
    fn default() -> Self {
        let nothing = Key::new([0; 2], [0; 2], ringway_shared::Family::V4, 0, 0);
        let record = |number: usize| Record {
            key: nothing,
            hash: 0,
            fate: Fate::Pass,
            since: Time::default(),
            class: Class::Done,
            pair: 0,
            next: if number + 1 < MOST_DATAGRAMS { number as u16 + 1 } else { NONE },
            older: NONE,
            newer: NONE,
        };
        Datagrams {
            records: (0..MOST_DATAGRAMS).map(record).collect(),
            coverages: vec![Coverage::NOTHING; MOST_DATAGRAMS].into_boxed_slice(),
            buckets: vec![NONE; BUCKETS].into_boxed_slice(),
            queues: [Queue { oldest: NONE, newest: NONE, len: 0 }; 3],
            pairs: vec![0; PAIRS].into_boxed_slice(),
            free: 0,
            shared: None,
        }
    }
}

#[inline]
fn bucket(hash: u64) -> usize {
    (hash >> 32) as usize % BUCKETS
}

impl Datagrams {
    /// From now on notes its datagrams in a directory as `worker`'s.
    pub fn share(&mut self, directory: Arc<FlowDirectory>, worker: u16) {
        self.shared = Some((directory, worker));
    }

    /// How many datagrams there are, complete ones included.
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| usize::from(queue.len)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The datagram with this key.
    pub fn find(&mut self, hash: u64, key: &Key, now: Time) -> Option<DatagramId> {
        let mut number = *self.buckets.get(bucket(hash))?;
        while let Some(record) = self.records.get(usize::from(number)) {
            if record.hash == hash && record.key == *key {
                if is_over(record, now) {
                    self.remove(DatagramId(number));
                    return None;
                }
                return Some(DatagramId(number));
            }
            number = record.next;
        }
        None
    }

    /// What becomes of its fragments.
    pub fn fate(&self, id: DatagramId) -> Fate {
        self.records.get(usize::from(id.0)).map_or(Fate::Pass, |record| record.fate)
    }

    /// Whether all of it has come.
    pub fn is_done(&self, id: DatagramId) -> bool {
        self.records.get(usize::from(id.0)).is_none_or(|record| record.class == Class::Done)
    }

    /// Whether nothing new has come of it for so long that the next one with its identification may have begun.
    pub fn is_stale(&self, id: DatagramId, now: Time) -> bool {
        self.records.get(usize::from(id.0)).is_some_and(|record| is_stale(record, now))
    }

    /// Whether its flow was not one that both sides take part in, or had too many others.
    pub fn is_uncertain(&self, id: DatagramId) -> bool {
        self.records.get(usize::from(id.0)).is_some_and(|record| record.class == Class::Uncertain)
    }

    /// Its flow is one that both sides take part in, as it turns out. `pair`: the hash of its two addresses.
    pub fn make_certain(&mut self, id: DatagramId, pair: u64) {
        if self.is_uncertain(id) && self.has_room(small(pair)) {
            self.unlink(id.0);
            if let Some(record) = self.records.get_mut(usize::from(id.0)) {
                record.pair = small(pair);
            }
            self.link(id.0, Class::Certain);
        }
    }

    fn has_room(&self, pair: u16) -> bool {
        self.pairs.get(usize::from(pair)).is_some_and(|count| *count < MOST_OF_PAIR)
    }

    /// Changes what becomes of its fragments.
    pub fn set_fate(&mut self, id: DatagramId, fate: Fate) {
        if let Some(record) = self.records.get_mut(usize::from(id.0)) {
            record.fate = fate;
        }
    }

    /// Begins a datagram that the table has not. `pair`: the hash of its two addresses, if its flow is one that both sides
    /// take part in.
    pub fn open(&mut self, hash: u64, key: Key, fate: Fate, pair: Option<u64>, now: Time) -> DatagramId {
        let pair = pair.map(small).filter(|pair| self.has_room(*pair));
        let class = if pair.is_some() { Class::Certain } else { Class::Uncertain };
        if self.free == NONE {
            self.evict(class);
        }
        let number = self.free;
        let id = DatagramId(number);
        let Some(record) = self.records.get_mut(usize::from(number)) else { return id };
        self.free = record.next;
        let Some(head) = self.buckets.get_mut(bucket(hash)) else { return id };
        let (next, pair) = (*head, pair.unwrap_or_default());
        *record = Record { key, hash, fate, since: now, class, pair, next, older: NONE, newer: NONE };
        *head = number;
        if let Some(coverage) = self.coverages.get_mut(usize::from(number)) {
            coverage.clear();
        }
        self.link(number, class);
        if let Some((directory, worker)) = self.shared.as_ref().filter(|_| !matches!(fate, Fate::Drop(_))) {
            directory.note(hash, *worker);
        }
        id
    }

    /// Adds a fragment to a datagram: what becomes of it. One that makes the datagram impossible ends all of it, if a flow
    /// would have sent it on; what passes is the kernel's to judge. Nothing is a fragment that no datagram can have.
    pub fn add(&mut self, id: DatagramId, piece: Option<&Piece>, now: Time) -> Next {
        let number = id.0;
        let (Some(record), Some(coverage)) =
            (self.records.get_mut(usize::from(number)), self.coverages.get_mut(usize::from(number)))
        else {
            return Next::Other;
        };
        let invalid = Err(ringway_shared::DropReason::InvalidFragment);
        let added = piece.map_or(invalid, |piece| coverage.add(piece));
        if record.class == Class::Done {
            return if added == Ok(Added::Repeated) { Next::Share(record.fate) } else { Next::Other };
        }
        let goes_on = matches!(record.fate, Fate::Forward(_));
        let is_new = matches!(added, Ok(Added::New | Added::Last));
        if goes_on && !is_new && is_stale(record, now) {
            self.remove(id);
            return Next::Other;
        }
        match added {
            Ok(Added::Repeated) => {}
            Ok(added) => {
                // What is dropped is forgotten no later for more of it.
                let ends = matches!(record.fate, Fate::Drop(_));
                record.since = if ends { record.since } else { now };
                let class = if added == Added::Last { Class::Done } else { record.class };
                if class == Class::Done || !ends {
                    self.unlink(number);
                    self.link(number, class);
                }
            }
            Err(reason) => {
                if goes_on {
                    record.fate = Fate::Drop(reason);
                }
            }
        }
        Next::Share(self.fate(id))
    }

    /// Says where a datagram ends: one that turns out to end elsewhere is none.
    pub fn expect_end(&mut self, id: DatagramId, end: u16) {
        if let Some(coverage) = self.coverages.get_mut(usize::from(id.0)) {
            coverage.expect_end(end);
        }
    }

    /// Forgets a datagram.
    pub fn remove(&mut self, id: DatagramId) {
        let number = id.0;
        let Some(record) = self.records.get(usize::from(number)).copied() else { return };
        self.unlink(number);
        if let Some(head) = self.buckets.get_mut(bucket(record.hash)) {
            if *head == number {
                *head = record.next;
            } else {
                let mut at = *head;
                while let Some(before) = self.records.get_mut(usize::from(at)) {
                    if before.next == number {
                        before.next = record.next;
                        break;
                    }
                    at = before.next;
                }
            }
        }
        if let Some(record) = self.records.get_mut(usize::from(number)) {
            record.next = self.free;
        }
        self.free = number;
        if let Some((directory, worker)) = &self.shared {
            directory.forget(record.hash, *worker);
        }
    }

    /// Forgets datagrams whose time is up, at most so many.
    pub fn expire(&mut self, now: Time, budget: u32) {
        let mut left = budget;
        for class in CLASSES {
            while left > 0
                && let Some(oldest) = self.oldest(class)
                && self.records.get(usize::from(oldest)).is_some_and(|record| is_over(record, now))
            {
                self.remove(DatagramId(oldest));
                left -= 1;
            }
        }
    }

    fn evict(&mut self, class: Class) {
        let half = (MOST_DATAGRAMS / 2) as u16;
        let other = if class == Class::Certain { Class::Uncertain } else { Class::Certain };
        let own_is_due = self.queues.get(class as usize).is_some_and(|queue| queue.len >= half);
        let order = if own_is_due { [Class::Done, class, other] } else { [Class::Done, other, class] };
        if let Some(oldest) = order.into_iter().find_map(|class| self.oldest(class)) {
            self.remove(DatagramId(oldest));
        }
    }

    fn oldest(&self, class: Class) -> Option<u16> {
        self.queues.get(class as usize).map(|queue| queue.oldest).filter(|oldest| *oldest != NONE)
    }

    /// Makes a record, which is in no queue, the newest of one.
    fn link(&mut self, number: u16, class: Class) {
        let Some(queue) = self.queues.get_mut(class as usize) else { return };
        let before = std::mem::replace(&mut queue.newest, number);
        queue.len += 1;
        match self.records.get_mut(usize::from(before)) {
            Some(record) => record.newer = number,
            None => queue.oldest = number,
        }
        if let Some(record) = self.records.get_mut(usize::from(number)) {
            (record.class, record.older, record.newer) = (class, before, NONE);
            if class == Class::Certain
                && let Some(count) = self.pairs.get_mut(usize::from(record.pair))
            {
                *count += 1;
            }
        }
    }

    fn unlink(&mut self, number: u16) {
        let Some(record) = self.records.get(usize::from(number)) else { return };
        let Record { class, pair, older, newer, .. } = *record;
        let Some(queue) = self.queues.get_mut(class as usize) else { return };
        queue.len -= 1;
        if class == Class::Certain
            && let Some(count) = self.pairs.get_mut(usize::from(pair))
        {
            *count -= 1;
        }
        match self.records.get_mut(usize::from(older)) {
            Some(record) => record.newer = newer,
            None => queue.oldest = newer,
        }
        match self.records.get_mut(usize::from(newer)) {
            Some(record) => record.older = older,
            None => queue.newest = older,
        }
    }
}

/// Whether a datagram's time is up.
fn is_over(record: &Record, now: Time) -> bool {
    let life = if record.class == Class::Done { DONE_LIFE } else { LIFE };
    now.0.saturating_sub(record.since.0) >= life
}

fn is_stale(record: &Record, now: Time) -> bool {
    now.0.saturating_sub(record.since.0) >= STALE
}

/// The place of a hash of two addresses.
fn small(pair: u64) -> u16 {
    (pair >> 32) as u16 % PAIRS as u16
}

#[cfg(test)]
mod tests;
