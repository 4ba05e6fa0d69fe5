//! Rings: single-producer, single-consumer queues of descriptors, as AF_XDP shares them with the kernel.
//!
//! A port has four: *fill* (free chunks, to the kernel), *receive* (packets, from it), *transmit* (packets, to it) and
//! *completion* (chunks of sent packets, from it). Each side holds one end. [`pair`] makes both ends over plain memory,
//! so that everything that drives rings runs without a kernel socket.
//!
//! Indices count up for ever and wrap at 2³²; only their difference matters. An end caches its own index and its peer's:
//! it loads the peer's (Acquire) only when the cached one says that there is too little, and stores its own (Release)
//! once a batch, in [`Producer::submit`] or [`Consumer::release`].
#![allow(unsafe_code)]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::mapping::Mapping;

/// What a receive or transmit ring holds: a packet in the UMEM (`struct xdp_desc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Where the packet starts, from the start of the UMEM.
    pub address: u64,
    /// The packet's length.
    pub length: u32,
    /// `XDP_PKT_CONTD` and its like.
    pub options: u32,
}

/// The packet goes on in the next descriptor (`XDP_PKT_CONTD`).
pub const CONTINUES: u32 = 1;

/// The flag by which the kernel asks to be woken (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// What a ring can hold: chunk addresses or descriptors.
pub trait Entry: Copy + Send + sealed::Plain + 'static {}
impl Entry for u64 {}
impl Entry for Descriptor {}

mod sealed {
    /// Types for which every bit pattern is a value.
    pub trait Plain {}
    impl Plain for u64 {}
    impl Plain for super::Descriptor {}
}

/// Where the parts of a ring lie in its mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offsets {
    pub(crate) producer: u64,
    pub(crate) consumer: u64,
    pub(crate) entries: u64,
    pub(crate) flags: u64,
}

impl Offsets {
    /// For rings in plain memory: each index has a cache line of its own.
    const PLAIN: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };
}

/// The shared part of a ring, as both ends see it.
struct Ring<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// A power of two.
    size: u32,
    /// Keeps the memory of all of these.
    _mapping: Arc<Mapping>,
}

// SAFETY: the pointers lead into the mapping that the ring keeps alive; the indices are atomics, and each entry is
// touched by one end at a time, which the indices tell.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// A ring of `size` entries, a power of two, in `mapping`.
    fn new(mapping: Arc<Mapping>, offsets: Offsets, size: u32) -> Result<Self, Errno> {
        if !size.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        Ok(Ring {
            producer: mapping.at(offsets.producer, 1).ok_or(Errno::INVAL)?,
            consumer: mapping.at(offsets.consumer, 1).ok_or(Errno::INVAL)?,
            flags: mapping.at(offsets.flags, 1).ok_or(Errno::INVAL)?,
            entries: mapping.at(offsets.entries, size as usize).ok_or(Errno::INVAL)?,
            size,
            _mapping: mapping,
        })
    }

    #[inline]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: the pointer is aligned and inside the mapping, and everybody uses that word as an atomic.
        unsafe { self.producer.as_ref() }
    }

    #[inline]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: the pointer is aligned and inside the mapping, and everybody uses that word as an atomic.
        unsafe { self.consumer.as_ref() }
    }

    #[inline]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: the pointer is aligned and inside the mapping, and everybody uses that word as an atomic.
        unsafe { self.flags.as_ref() }
    }

    /// The place of the entry with this index.
    #[inline]
    fn entry(&self, index: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the offset below `size`, and `size` entries lie in the mapping.
        unsafe { self.entries.add((index & (self.size - 1)) as usize) }
    }
}

/// The end that puts entries in.
pub struct Producer<T> {
    ring: Ring<T>,
    /// The next entry to write; entries from the shared index up to here are written but not submitted.
    next: u32,
    /// The consumer's index as last seen.
    consumed: u32,
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("size", &self.ring.size).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T: Entry> Producer<T> {
    /// The producer's end of a ring that the kernel consumes.
    pub(crate) fn over(mapping: Arc<Mapping>, offsets: Offsets, size: u32) -> Result<Self, Errno> {
        let ring = Ring::new(mapping, offsets, size)?;
        let next = ring.producer().load(Ordering::Relaxed);
        let consumed = ring.consumer().load(Ordering::Acquire);
        Ok(Producer { ring, next, consumed })
    }

    /// How many entries the ring has.
    #[inline]
    pub fn size(&self) -> u32 {
        self.ring.size
    }

    /// How many entries can be pushed now; looks at the consumer's index only if the last look is not enough for
    /// `wanted`.
    #[inline]
    pub fn room(&mut self, wanted: u32) -> u32 {
        let room = self.cached_room();
        if room >= wanted {
            return room;
        }
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.cached_room()
    }

    #[inline]
    fn cached_room(&self) -> u32 {
        self.ring.size.saturating_sub(self.next.wrapping_sub(self.consumed))
    }

    /// Writes an entry, which the consumer sees after [`Self::submit`]; false when the ring is full.
    #[inline]
    #[must_use]
    pub fn push(&mut self, entry: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        let place = self.ring.entry(self.next);
        // SAFETY: there is room, so the consumer has released this entry (Acquire above) and only we touch it.
        unsafe { place.write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the consumer everything pushed so far.
    #[inline]
    pub fn submit(&mut self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// How many entries the consumer has not taken yet.
    pub fn waiting(&mut self) -> u32 {
        self.ring.size - self.room(self.ring.size)
    }

    /// True when the consumer has taken everything submitted.
    #[inline]
    pub fn is_drained(&mut self) -> bool {
        self.room(self.ring.size) == self.ring.size
    }

    /// Whether the kernel asks to be woken to serve this ring.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.ring.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }
}

/// The end that takes entries out.
pub struct Consumer<T> {
    ring: Ring<T>,
    /// The next entry to read; entries from the shared index up to here are read but not released.
    next: u32,
    /// The producer's index as last seen.
    produced: u32,
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("size", &self.ring.size).field("next", &self.next).finish_non_exhaustive()
    }
}

impl<T: Entry> Consumer<T> {
    /// The consumer's end of a ring that the kernel produces.
    pub(crate) fn over(mapping: Arc<Mapping>, offsets: Offsets, size: u32) -> Result<Self, Errno> {
        let ring = Ring::new(mapping, offsets, size)?;
        let next = ring.consumer().load(Ordering::Relaxed);
        let produced = ring.producer().load(Ordering::Acquire);
        Ok(Consumer { ring, next, produced })
    }

    /// How many entries the ring has.
    #[inline]
    pub fn size(&self) -> u32 {
        self.ring.size
    }

    /// How many entries can be popped now; looks at the producer's index only if the last look is not enough for
    /// `wanted`.
    #[inline]
    pub fn available(&mut self, wanted: u32) -> u32 {
        let available = self.cached_available();
        if available >= wanted {
            return available;
        }
        self.produced = self.ring.producer().load(Ordering::Acquire);
        self.cached_available()
    }

    #[inline]
    fn cached_available(&self) -> u32 {
        // The producer never runs ahead by more than the size; whatever else is read must not be believed.
        self.produced.wrapping_sub(self.next).min(self.ring.size)
    }

    /// Reads the next entry; its place belongs to the producer again after [`Self::release`].
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.available(1) == 0 {
            return None;
        }
        let place = self.ring.entry(self.next);
        // SAFETY: the producer has submitted this entry (Acquire above) and will not touch it until it is released.
        let entry = unsafe { place.read() };
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Gives the producer the places of everything popped so far.
    #[inline]
    pub fn release(&mut self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }

    /// Asks the producer for a wakeup, or no longer, as the kernel does.
    pub fn ask_wakeup(&self, asks: bool) {
        self.ring.flags().store(if asks { NEED_WAKEUP } else { 0 }, Ordering::Relaxed);
    }
}

/// Both ends of a ring in plain memory, with both indices at `start`. `size` is a power of two.
pub fn pair<T: Entry>(size: u32, start: u32) -> Result<(Producer<T>, Consumer<T>), Errno> {
    let length = Offsets::PLAIN.entries as usize + size as usize * size_of::<T>();
    let mapping = Arc::new(Mapping::anonymous(length)?);
    let ring: Ring<T> = Ring::new(Arc::clone(&mapping), Offsets::PLAIN, size)?;
    ring.producer().store(start, Ordering::Relaxed);
    ring.consumer().store(start, Ordering::Relaxed);
    let consumer = Consumer::over(Arc::clone(&mapping), Offsets::PLAIN, size)?;
    Ok((Producer::over(mapping, Offsets::PLAIN, size)?, consumer))
}

#[cfg(test)]
mod tests;
