//! Fragments that came before the first of their datagram.
//!
//! They wait for a second at most, or until the first one comes, here or at another worker. Bounded are the datagrams, the
//! fragments of one, and those of all; where there is no room for another datagram, the one goes that has waited for longest.
//! What waits no more is given back one after the other, as the caller has room for it, and has its place here until then.

use super::Key;
use crate::clock::Time;

/// Datagrams that may wait for their first fragment.
pub const MOST_WAITING: usize = 64;
/// Fragments of one datagram that may wait: 1,480 bytes each make more than the longest datagram.
pub const MOST_OF_ONE: u16 = 64;
/// Fragments that may wait in all.
pub const MOST_PIECES: usize = 512;
/// How long a fragment waits, in nanoseconds.
pub const WAIT: u64 = 1_000_000_000;
/// How long the first one is to be expected any moment, in nanoseconds: fragments that a network reorders, or that come by
/// several queues, are not further apart.
pub const MOMENT: u64 = 10_000_000;

const NONE: u16 = u16::MAX;

/// Why a fragment waits no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first one of its datagram came.
    FirstCame,
    /// It waited for too long, or others needed the room.
    TooLate,
    /// Another worker has the first one.
    Elsewhere(u16),
}

#[derive(Clone, Copy)]
struct List {
    first: u16,
    last: u16,
}

impl List {
    const EMPTY: List = List { first: NONE, last: NONE };
}

struct Place<T> {
    waits: Option<(T, Why)>,
    next: u16,
}

#[derive(Clone, Copy)]
struct Datagram {
    hash: u64,
    key: Key,
    since: Time,
    /// Which one it was; 0: there is none.
    turn: u64,
    pieces: List,
    /// 0: there is no datagram here.
    count: u16,
}

impl Datagram {
    #[inline]
    fn is(&self, hash: u64, key: &Key) -> bool {
        self.hash == hash && self.count > 0 && self.key == *key
    }
}

/// What waits.
pub struct Waiting<T> {
    datagrams: Box<[Datagram]>,
    places: Box<[Place<T>]>,
    free: u16,
    ready: List,
    len: u16,
    /// Datagrams that wait.
    open: u16,
    turn: u64,
    /// Nobody has waited for longer than since then.
    oldest: Time,
    /// When the last one began to wait.
    youngest: Time,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        let nothing = Key::new([0; 2], [0; 2], ringway_shared::Family::V4, 0, 0);
        let datagram =
            Datagram { hash: 0, key: nothing, since: Time::default(), turn: 0, pieces: List::EMPTY, count: 0 };
        let place = |number: usize| Place {
            waits: None,
            next: if number + 1 < MOST_PIECES { number as u16 + 1 } else { NONE },
        };
        Waiting {
            datagrams: vec![datagram; MOST_WAITING].into_boxed_slice(),
            places: (0..MOST_PIECES).map(place).collect(),
            free: 0,
            ready: List::EMPTY,
            len: 0,
            open: 0,
            turn: 0,
            oldest: Time::default(),
            youngest: Time::default(),
        }
    }
}

impl<T> Waiting<T> {
    /// How many fragments are here, those that wait no more included.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any waits.
    pub fn waits(&self) -> bool {
        self.open > 0
    }

    /// Whether one has waited for less than [`MOMENT`].
    pub fn has_just_begun(&self, now: Time) -> bool {
        self.waits() && now.0.saturating_sub(self.youngest.0) < MOMENT
    }

    /// Whether one that waits no more is here.
    pub fn is_ready(&self) -> bool {
        self.ready.first != NONE
    }

    /// Has a fragment wait; gives it back when there is no room.
    pub fn push(&mut self, hash: u64, key: Key, piece: T, now: Time) -> Result<(), T> {
        let slot = self.place_for(hash, &key);
        match self.datagrams.get(slot) {
            Some(datagram) if datagram.is(hash, &key) => {
                if datagram.count >= MOST_OF_ONE {
                    return Err(piece);
                }
            }
            _ => self.let_go(slot, Why::TooLate),
        }
        if self.free == NONE {
            // There is room when those have left that wait no more.
            if !self.is_ready() {
                self.give_up_oldest();
            }
            return Err(piece);
        }
        let number = self.free;
        let Some(place) = self.places.get_mut(usize::from(number)) else { return Err(piece) };
        self.free = std::mem::replace(&mut place.next, NONE);
        place.waits = Some((piece, Why::TooLate));
        self.len += 1;
        let Some(datagram) = self.datagrams.get_mut(slot) else { return Ok(()) };
        if datagram.count == 0 {
            self.oldest = if self.open == 0 { now } else { self.oldest };
            (self.open, self.turn, self.youngest) = (self.open + 1, self.turn + 1, now);
            *datagram = Datagram { hash, key, since: now, turn: self.turn, pieces: List::EMPTY, count: 0 };
        }
        datagram.count += 1;
        append(&mut self.places, &mut datagram.pieces, List { first: number, last: number });
        Ok(())
    }

    /// The first fragment of a datagram came, or something else that says what becomes of it.
    pub fn settle(&mut self, hash: u64, key: &Key) {
        if self.open > 0
            && let Some(slot) = self.place_of(hash, key)
        {
            self.let_go(slot, Why::FirstCame);
        }
    }

    /// Those that waited for too long wait no more.
    pub fn expire(&mut self, now: Time) {
        if self.open == 0 || now.0.saturating_sub(self.oldest.0) < WAIT {
            return;
        }
        let mut oldest = now;
        for slot in 0..MOST_WAITING {
            let Some(datagram) = self.datagrams.get(slot).filter(|datagram| datagram.count > 0) else { continue };
            if now.0.saturating_sub(datagram.since.0) >= WAIT {
                self.let_go(slot, Why::TooLate);
            } else {
                oldest = oldest.min(datagram.since);
            }
        }
        self.oldest = oldest;
    }

    /// Those wait no more whose datagram another worker has, as `owner` says of its hash.
    pub fn look_elsewhere(&mut self, owner: impl Fn(u64) -> Option<u16>) {
        for slot in 0..MOST_WAITING {
            let Some(datagram) = self.datagrams.get(slot).filter(|datagram| datagram.count > 0) else { continue };
            if let Some(worker) = owner(datagram.hash) {
                self.let_go(slot, Why::Elsewhere(worker));
            }
        }
    }

    /// Nobody waits any more.
    pub fn end(&mut self) {
        (0..MOST_WAITING).for_each(|slot| self.let_go(slot, Why::TooLate));
    }

    /// Takes out the next fragment that waits no more.
    pub fn take(&mut self) -> Option<(T, Why)> {
        let number = self.ready.first;
        let place = self.places.get_mut(usize::from(number))?;
        let next = std::mem::replace(&mut place.next, self.free);
        let taken = place.waits.take();
        self.free = number;
        self.ready.first = next;
        if next == NONE {
            self.ready.last = NONE;
        }
        self.len -= 1;
        taken
    }

    fn place_of(&self, hash: u64, key: &Key) -> Option<usize> {
        self.datagrams.iter().position(|datagram| datagram.is(hash, key))
    }

    /// The place of a datagram; if it has none, a free one, or else that of the one that has waited for longest. One look at each.
    fn place_for(&self, hash: u64, key: &Key) -> usize {
        let (mut place, mut turn) = (0, u64::MAX);
        for (slot, datagram) in self.datagrams.iter().enumerate() {
            if datagram.is(hash, key) {
                return slot;
            }
            if datagram.turn < turn {
                (place, turn) = (slot, datagram.turn);
            }
        }
        place
    }

    fn give_up_oldest(&mut self) {
        let waiting = self.datagrams.iter().enumerate().filter(|(_, datagram)| datagram.count > 0);
        if let Some((slot, _)) = waiting.min_by_key(|(_, datagram)| datagram.turn) {
            self.let_go(slot, Why::TooLate);
        }
    }

    fn let_go(&mut self, slot: usize, why: Why) {
        let Some(datagram) = self.datagrams.get_mut(slot).filter(|datagram| datagram.count > 0) else { return };
        (datagram.count, datagram.turn) = (0, 0);
        let pieces = std::mem::replace(&mut datagram.pieces, List::EMPTY);
        self.open -= 1;
        let mut at = pieces.first;
        while let Some(place) = self.places.get_mut(usize::from(at)) {
            if let Some((_, reason)) = &mut place.waits {
                *reason = why;
            }
            at = place.next;
        }
        append(&mut self.places, &mut self.ready, pieces);
    }
}

/// Adds one list, which is not empty, to the end of another.
fn append<T>(places: &mut [Place<T>], list: &mut List, more: List) {
    match places.get_mut(usize::from(list.last)) {
        Some(last) => last.next = more.first,
        None => list.first = more.first,
    }
    list.last = more.last;
}

#[cfg(test)]
mod tests;
