//! Queues of ports that share one arena: chunks of one cache line, linked by number.

use crate::af_xdp::mapping::spread;
use crate::clock::Time;

/// A port in a queue, and when it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) port: u16,
    pub(super) at: u16,
}

/// Seconds modulo 2^16 (18 hours), as queues keep them. A port that was not asked for in all that time may seem younger
/// than it is, and then waits a little longer.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) u16);

impl Seconds {
    pub(super) fn floor(time: Time) -> Self {
        Seconds(seconds(time) as u16)
    }

    pub(super) fn ceiling(time: Time) -> Self {
        Seconds(time.0.div_ceil(NANOS) as u16)
    }

    pub(super) fn since(self, earlier: Seconds) -> u16 {
        let age = self.0.wrapping_sub(earlier.0);
        // One second into the future is what rounding up may come to.
        if age == u16::MAX { 0 } else { age }
    }
}

const NANOS: u64 = 1_000_000_000;

pub(super) fn seconds(time: Time) -> u32 {
    (time.0 / NANOS) as u32
}

const ENTRIES: usize = 15;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Chunk {
    next: u32,
    entries: [Entry; ENTRIES],
}

const _: () = assert!(size_of::<Chunk>() == 64);

const NONE: u32 = u32::MAX;

/// All chunks. Room is promised (`reserve`) before it is used, so that a push never fails.
pub(super) struct Arena {
    chunks: Box<[Chunk]>,
    free: u32,
    unreserved: u32,
}

impl Arena {
    /// Entries in one chunk.
    pub(super) const ENTRIES: u32 = ENTRIES as u32;

    pub(super) fn new(chunks: u32) -> Self {
        let blank = [Entry { port: 0, at: 0 }; ENTRIES];
        let mut chunks = spread(chunks as usize, Chunk { next: 0, entries: blank });
        for (chunk, next) in chunks.iter_mut().zip(1..) {
            chunk.next = next;
        }
        // The last link leads past the end, where `take` finds nothing.
        Arena { unreserved: chunks.len() as u32, free: 0, chunks }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val(&*self.chunks)
    }

    /// Whether little is left to reserve.
    #[inline]
    pub(super) fn is_short(&self) -> bool {
        (self.unreserved as usize) < self.chunks.len() / 8
    }

    pub(super) fn reserve(&mut self, chunks: u32) -> bool {
        match self.unreserved.checked_sub(chunks) {
            Some(left) => {
                self.unreserved = left;
                true
            }
            None => false,
        }
    }

    pub(super) fn unreserve(&mut self, chunks: u32) {
        self.unreserved += chunks;
        debug_assert!(self.unreserved as usize <= self.chunks.len());
    }

    fn take(&mut self) -> Option<u32> {
        let number = self.free;
        let chunk = self.chunks.get_mut(number as usize)?;
        self.free = chunk.next;
        chunk.next = NONE;
        Some(number)
    }

    fn give(&mut self, number: u32) {
        if let Some(chunk) = self.chunks.get_mut(number as usize) {
            chunk.next = self.free;
            self.free = number;
        }
    }
}

/// One queue. Empty exactly when it has no chunk.
#[derive(Clone, Copy)]
pub(super) struct Fifo {
    head: u32,
    tail: u32,
    // The next entry to pop in the head chunk, the next place to push in the tail chunk.
    pop_at: u16,
    push_at: u16,
}

impl Fifo {
    pub(super) const EMPTY: Fifo = Fifo { head: NONE, tail: NONE, pop_at: 0, push_at: 0 };

    pub(super) fn is_empty(&self) -> bool {
        self.head == NONE
    }

    #[inline]
    pub(super) fn push(&mut self, arena: &mut Arena, entry: Entry) {
        if self.head == NONE || usize::from(self.push_at) >= ENTRIES {
            let Some(chunk) = arena.take() else {
                debug_assert!(false, "a queue grew beyond what was reserved");
                return;
            };
            if self.head == NONE {
                (self.head, self.pop_at) = (chunk, 0);
            } else if let Some(tail) = arena.chunks.get_mut(self.tail as usize) {
                tail.next = chunk;
            }
            (self.tail, self.push_at) = (chunk, 0);
        }
        let tail = arena.chunks.get_mut(self.tail as usize);
        if let Some(place) = tail.and_then(|tail| tail.entries.get_mut(usize::from(self.push_at))) {
            *place = entry;
        }
        self.push_at += 1;
    }

    pub(super) fn peek(&self, arena: &Arena) -> Option<Entry> {
        arena.chunks.get(self.head as usize)?.entries.get(usize::from(self.pop_at)).copied()
    }

    /// The oldest entries, as far as they are together in memory.
    pub(super) fn front<'a>(&self, arena: &'a Arena) -> &'a [Entry] {
        let end = if self.head == self.tail { usize::from(self.push_at) } else { ENTRIES };
        let chunk = arena.chunks.get(self.head as usize);
        chunk.and_then(|chunk| chunk.entries.get(usize::from(self.pop_at)..end)).unwrap_or_default()
    }

    /// All entries, the oldest first.
    pub(super) fn entries<'a>(&self, arena: &'a Arena) -> impl Iterator<Item = Entry> + 'a {
        let mut rest = *self;
        std::iter::from_fn(move || {
            let entries = rest.front(arena);
            let next = if rest.head == rest.tail { NONE } else { arena.chunks.get(rest.head as usize)?.next };
            rest = Fifo { head: next, pop_at: 0, ..rest };
            (!entries.is_empty()).then_some(entries)
        })
        .flatten()
        .copied()
    }

    pub(super) fn pop(&mut self, arena: &mut Arena) -> Option<Entry> {
        let entry = self.peek(arena)?;
        self.pop_at += 1;
        if self.head == self.tail && self.pop_at == self.push_at {
            self.clear(arena);
        } else if usize::from(self.pop_at) == ENTRIES {
            let done = self.head;
            self.head = arena.chunks.get(done as usize).map_or(NONE, |chunk| chunk.next);
            self.pop_at = 0;
            arena.give(done);
        }
        Some(entry)
    }

    /// Gives all chunks back.
    pub(super) fn clear(&mut self, arena: &mut Arena) {
        // The chunks are linked already: hook the whole chain into the free ones.
        if let Some(tail) = arena.chunks.get_mut(self.tail as usize) {
            tail.next = arena.free;
            arena.free = self.head;
        }
        *self = Fifo::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn queues_keep_their_order(operations in proptest::collection::vec((0usize..3, 0u8..5), 1..2000)) {
            let mut arena = Arena::new(300);
            let mut queues = [Fifo::EMPTY; 3];
            let mut oracle: [VecDeque<Entry>; 3] = Default::default();
            for (number, (queue, operation)) in operations.into_iter().enumerate() {
                let entry = Entry { port: number as u16, at: 1 };
                match operation {
                    0 if number % 50 == 0 => {
                        queues[queue].clear(&mut arena);
                        oracle[queue].clear();
                    }
                    0..=2 => {
                        queues[queue].push(&mut arena, entry);
                        oracle[queue].push_back(entry);
                    }
                    _ => prop_assert_eq!(queues[queue].pop(&mut arena), oracle[queue].pop_front()),
                }
                prop_assert_eq!(queues[queue].peek(&arena), oracle[queue].front().copied());
                prop_assert_eq!(queues[queue].is_empty(), oracle[queue].is_empty());
            }
            for mut queue in queues {
                queue.clear(&mut arena);
            }
            let mut free = 0;
            while arena.take().is_some() {
                free += 1;
            }
            prop_assert_eq!(free, 300);
        }
    }
}
