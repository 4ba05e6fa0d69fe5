//! The neighbours that packets can be sent to: so many at most. The one that was heard of longest ago gives way, but never
//! an endpoint's next hop or a router.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use ringway_shared::MacAddress;

use super::Key;

/// A neighbour with a MAC address.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) state: u16,
    pub(super) mac: MacAddress,
    /// Flushed, yet used until then.
    pub(super) until: Option<Instant>,
    /// Its place in the order of giving way; `None` while it is protected.
    place: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Known {
    room: usize,
    entries: HashMap<Key, Entry>,
    order: BTreeMap<u64, Key>,
    next_place: u64,
    lingering: BTreeSet<(Instant, Key)>,
    /// How many gave way.
    pub(super) gave_way: u64,
}

impl Known {
    pub(super) fn new(room: usize) -> Self {
        Known {
            room,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
            lingering: BTreeSet::new(),
            gave_way: 0,
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn clear(&mut self) {
        (self.entries, self.order, self.lingering) = Default::default();
    }

    /// Takes a neighbour in; whether packets go elsewhere now.
    pub(super) fn insert(&mut self, key: Key, state: u16, mac: MacAddress, protected: bool) -> bool {
        let before = self.take(&key);
        if before.is_none() && !self.make_room(protected) {
            return false;
        }
        let place = (!protected).then(|| self.take_place(key));
        let differs = before.is_none_or(|entry| entry.mac != mac);
        self.entries.insert(key, Entry { state, mac, until: None, place });
        differs
    }

    /// Uses a flushed neighbour until then.
    pub(super) fn linger(&mut self, key: Key, state: u16, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = state;
            if let Some(before) = entry.until.replace(until) {
                self.lingering.remove(&(before, key));
            }
            self.lingering.insert((until, key));
        }
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, key: &Key) -> bool {
        self.take(key).is_some()
    }

    /// An endpoint's next hop or a router does not give way.
    pub(super) fn protect(&mut self, key: Key, protected: bool) {
        let Some(place) = self.entries.get(&key).map(|entry| entry.place) else { return };
        let place = match (place, protected) {
            (Some(place), true) => {
                self.order.remove(&place);
                None
            }
            (None, false) => Some(self.take_place(key)),
            (place, _) => place,
        };
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.place = place;
        }
    }

    /// Ends the use of those that lingered long enough; whether there were any.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some((_, key)) = self.lingering.first().copied().filter(|(until, _)| *until <= now) {
            any |= self.remove(&key);
        }
        any
    }

    /// When the next one stops lingering.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.lingering.first().map(|(until, _)| *until)
    }

    pub(super) fn usable(&self, now: Instant) -> impl Iterator<Item = (Key, MacAddress)> {
        let entries = self.entries.iter();
        entries.filter(move |(_, entry)| entry.until.is_none_or(|until| now < until)).map(|(key, e)| (*key, e.mac))
    }

    fn take(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        if let Some(until) = entry.until {
            self.lingering.remove(&(until, *key));
        }
        if let Some(place) = entry.place {
            self.order.remove(&place);
        }
        Some(entry)
    }

    /// False when there is none: everything is protected.
    fn make_room(&mut self, protected: bool) -> bool {
        if self.entries.len() < self.room {
            return true;
        }
        let Some((_, oldest)) = self.order.pop_first() else { return protected };
        self.take(&oldest);
        self.gave_way += 1;
        true
    }

    fn take_place(&mut self, key: Key) -> u64 {
        self.next_place += 1;
        self.order.insert(self.next_place, key);
        self.next_place
    }

    /// Panics when the orders do not agree with the entries.
    #[cfg(test)]
    pub(super) fn check(&self, protected: impl Fn(&Key) -> bool) {
        for (key, entry) in &self.entries {
            assert_eq!(entry.place.is_none(), protected(key), "{key:?}");
            assert!(entry.place.is_none_or(|place| self.order.get(&place) == Some(key)));
            assert!(entry.until.is_none_or(|until| self.lingering.contains(&(until, *key))));
        }
        assert_eq!(self.order.len(), self.entries.values().filter(|entry| entry.place.is_some()).count());
        assert_eq!(self.lingering.len(), self.entries.values().filter(|entry| entry.until.is_some()).count());
    }
}
