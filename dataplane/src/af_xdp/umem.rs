//! UMEM: one region of equal chunks that packets live in, shared with the kernel, and its free list.
//!
//! A [`Frame`] owns one chunk. It is move-only, and only this module makes one, so at any moment a chunk is
//! in exactly one place: on the free list, in a `Frame`, or in a ring (the kernel's). Free + in flight == total follows.
//! A UMEM needs no kernel socket: replay, tests and benches use it as it is.
#![allow(unsafe_code)]

use std::fmt;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::chunks::Chunks;
pub(crate) use super::chunks::Holder;
use super::frame::Frame;
use super::mapping::Mapping;

/// What the kernel leaves free at the start of a chunk before it writes a received packet (XDP_PACKET_HEADROOM).
pub const KERNEL_HEADROOM: u32 = 256;

/// What an Ethernet frame has besides its IP packet: 14 bytes of header, 4 of a tag.
pub(crate) const ETHERNET: u32 = 18;

/// The shape of a UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UmemLayout {
    /// How many chunks.
    pub frames: u32,
    /// Bytes per chunk: a power of two, 2048 or more. The kernel takes no more than a page, 4096; memory alone takes 65536.
    pub chunk_size: u32,
    /// Bytes free before a packet: at least 256, so that outer headers can grow there.
    pub headroom: u32,
}

impl UmemLayout {
    /// `frames` chunks with the usual sizes: 2048 bytes, 256 of them headroom, which carries an MTU of 1774.
    pub fn of_frames(frames: u32) -> Self {
        UmemLayout { frames, chunk_size: 2048, headroom: KERNEL_HEADROOM }
    }

    /// `frames` chunks that carry packets of this MTU: 4096 bytes each where 2048 are too few. No chunk carries more than
    /// an MTU of 3822.
    pub fn for_mtu(frames: u32, mtu: u32) -> Self {
        let usual = Self::of_frames(frames);
        if mtu.saturating_add(ETHERNET) <= usual.room() { usual } else { usual.large() }
    }

    /// Chunks that carry packets of this MTU in zero-copy mode as well, where 4096 bytes are enough for that.
    pub fn for_zero_copy(frames: u32, mtu: u32) -> Self {
        let usual = Self::of_frames(frames);
        if mtu <= usual.zero_copy_mtu() { usual } else { usual.large() }
    }

    fn large(self) -> Self {
        UmemLayout { chunk_size: 4096, ..self }
    }

    /// The largest MTU in zero-copy mode. NICs whose drivers tell them the room in whole KiB (igb, igc, ixgbe) split a
    /// longer packet over two chunks, and the second part would be taken for a packet of its own.
    pub fn zero_copy_mtu(&self) -> u32 {
        ((self.room() >> 10) << 10).saturating_sub(ETHERNET)
    }

    /// The largest MTU that Ringway takes a device with, which depends on how its packets come. Without a copy: see
    /// [`Self::zero_copy_mtu`]. By native XDP: what every driver that was tried takes in one buffer, a page less headroom, the
    /// kernel's notes behind it and an Ethernet header with two tags. In generic mode: what a chunk holds.
    pub fn largest_mtu(native: bool, zero_copy: bool) -> u32 {
        const NATIVE: u32 = 4096 - KERNEL_HEADROOM - 320 - 22;
        let large = Self::of_frames(1).large();
        match (native, zero_copy) {
            (true, true) => large.zero_copy_mtu(),
            (true, false) => NATIVE.min(large.mtu()),
            (false, _) => large.mtu(),
        }
    }

    /// The largest MTU in copy mode.
    pub fn mtu(&self) -> u32 {
        self.room().saturating_sub(ETHERNET)
    }

    /// The largest packet, Ethernet header included, that fits behind the headroom.
    pub fn room(&self) -> u32 {
        self.chunk_size.saturating_sub(self.headroom)
    }
}

/// Why there is no UMEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UmemError {
    /// The layout is not one the kernel takes.
    #[error("a UMEM cannot have {frames} frames of {chunk_size} bytes with {headroom} bytes of headroom: the chunk size is a power of two from 2048 to 65536, the headroom 256 to half a chunk, and there is at least one frame", frames = .0.frames, chunk_size = .0.chunk_size, headroom = .0.headroom)]
    Layout(UmemLayout),
    /// The memory could not be had.
    #[error("cannot map {bytes} bytes for {frames} frames: {errno}; free memory, or lower the number of workers")]
    Memory {
        /// The size asked for.
        bytes: u64,
        /// The number of frames asked for.
        frames: u32,
        /// What the kernel said.
        errno: Errno,
    },
}

/// A region of chunks and the list of free ones. It belongs to one worker.
pub struct Umem {
    memory: Mapping,
    layout: UmemLayout,
    id: u32,
    chunks: Chunks,
}

impl fmt::Debug for Umem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Umem").field("layout", &self.layout).field("free", &self.chunks.free()).finish_non_exhaustive()
    }
}

/// A UMEM as the kernel is told of it: where it lies and what shape it has, but no way to its chunks. It keeps the memory, so
/// that nothing else is ever mapped where the kernel was told to write.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    memory: Mapping,
    layout: UmemLayout,
    umem: u32,
}

impl Region {
    /// The shape that the UMEM was made with.
    pub(crate) fn layout(&self) -> UmemLayout {
        self.layout
    }

    /// Tells the UMEM from the others of the process.
    pub(crate) fn umem(&self) -> u32 {
        self.umem
    }

    /// Its start and its length.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.memory.start().as_ptr() as u64, self.memory.len() as u64)
    }
}

/// Tells UMEMs of one process apart.
static NEXT_ID: AtomicU32 = AtomicU32::new(1);

impl Umem {
    /// Maps the region; every chunk is free.
    pub fn new(layout: UmemLayout) -> Result<Umem, UmemError> {
        let sizes_fit = layout.chunk_size.is_power_of_two()
            && (2048..=65536).contains(&layout.chunk_size)
            && (KERNEL_HEADROOM..=layout.chunk_size / 2).contains(&layout.headroom);
        if layout.frames == 0 || !sizes_fit {
            return Err(UmemError::Layout(layout));
        }
        let bytes = u64::from(layout.frames) * u64::from(layout.chunk_size);
        let memory = usize::try_from(bytes)
            .map_err(|_| Errno::NOMEM)
            .and_then(Mapping::anonymous)
            .map_err(|errno| UmemError::Memory { bytes, frames: layout.frames, errno })?;
        Ok(Umem {
            memory,
            layout,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            chunks: Chunks::new(layout.frames, layout.chunk_size),
        })
    }

    /// The shape it was made with.
    pub fn layout(&self) -> UmemLayout {
        self.layout
    }

    /// The number of chunks.
    #[inline]
    pub fn total(&self) -> u32 {
        self.layout.frames
    }

    /// The number of chunks on the free list.
    #[inline]
    pub fn free_frames(&self) -> u32 {
        self.chunks.free()
    }

    /// An empty frame whose data starts at the headroom; `None` when all chunks are in use.
    #[inline]
    pub fn allocate(&mut self) -> Option<Frame> {
        let base = self.chunks.take()?;
        Some(Frame { address: base + u64::from(self.layout.headroom), length: 0, umem: self.id })
    }

    /// Ends a frame: its chunk is free again.
    #[inline]
    pub fn free(&mut self, frame: Frame) {
        debug_assert_eq!(frame.umem, self.id, "a frame of another UMEM");
        if frame.umem == self.id {
            let (address, _) = frame.into_descriptor();
            self.chunks.give_back(address);
        } else {
            std::mem::forget(frame);
        }
    }

    /// The packet.
    #[inline]
    pub fn packet(&self, frame: &Frame) -> &[u8] {
        let Some(pointer) = self.data(frame) else { return &[] };
        // SAFETY: `data` proved that the bytes lie inside one chunk of this mapping, and the frame owns that chunk: the
        // kernel does not write to it, and writing through this UMEM takes `&mut self`.
        unsafe { slice::from_raw_parts(pointer, frame.len()) }
    }

    /// The packet, to be changed.
    #[inline]
    pub fn packet_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        let Some(pointer) = self.data(frame) else { return &mut [] };
        // SAFETY: as in `packet`; `&mut self` makes this the only slice into the UMEM.
        unsafe { slice::from_raw_parts_mut(pointer, frame.len()) }
    }

    /// One packet to read and another to write at the same time, as an answer needs that quotes what it answers.
    #[inline]
    pub fn packet_pair(&mut self, source: &Frame, target: &mut Frame) -> (&[u8], &mut [u8]) {
        let (Some(from), Some(to)) = (self.data(source), self.data(target)) else { return (&[], &mut []) };
        // SAFETY: as in `packet`; the two frames own different chunks, so the slices do not overlap.
        let from = unsafe { slice::from_raw_parts(from, source.len()) };
        // SAFETY: as in `packet_mut`; the two frames own different chunks, so the slices do not overlap.
        let to = unsafe { slice::from_raw_parts_mut(to, target.len()) };
        (from, to)
    }

    /// Makes `bytes` the packet, behind the full headroom; false, and nothing changed, when they are too long.
    #[inline]
    pub fn fill(&mut self, frame: &mut Frame, bytes: &[u8]) -> bool {
        if bytes.len() > self.layout.room() as usize || frame.umem != self.id {
            return false;
        }
        frame.address = self.chunks.base(frame.address) + u64::from(self.layout.headroom);
        frame.length = bytes.len() as u32;
        self.packet_mut(frame).copy_from_slice(bytes);
        true
    }

    /// Sets the packet's length by growing or shrinking it at the tail; false, and nothing changed, when the chunk ends
    /// before. Bytes that appear are whatever was there.
    #[inline]
    pub fn resize(&mut self, frame: &mut Frame, length: usize) -> bool {
        let offset = (frame.address - self.chunks.base(frame.address)) as usize;
        if length > self.layout.chunk_size as usize - offset {
            return false;
        }
        frame.length = length as u32;
        true
    }

    /// Moves the packet's start `bytes` towards the start of the chunk, for outer headers; false, and nothing changed,
    /// when the headroom is used up.
    #[inline]
    pub fn grow_head(&mut self, frame: &mut Frame, bytes: usize) -> bool {
        let offset = (frame.address - self.chunks.base(frame.address)) as usize;
        if bytes > offset {
            return false;
        }
        frame.address -= bytes as u64;
        frame.length += bytes as u32;
        true
    }

    /// Cuts `bytes` off the packet's start; false, and nothing changed, when it has not as many.
    #[inline]
    pub fn shrink_head(&mut self, frame: &mut Frame, bytes: usize) -> bool {
        if bytes > frame.len() {
            return false;
        }
        frame.address += bytes as u64;
        frame.length -= bytes as u32;
        true
    }

    /// Where a frame's bytes are, if they lie in one chunk of this UMEM.
    #[inline]
    fn data(&self, frame: &Frame) -> Option<*mut u8> {
        let in_chunk = frame.address - self.chunks.base(frame.address) + u64::from(frame.length);
        let is_inside = in_chunk <= u64::from(self.layout.chunk_size) && frame.address < self.memory.len() as u64;
        debug_assert!(is_inside && frame.umem == self.id, "{frame:?} does not belong to {self:?}");
        if !is_inside || frame.umem != self.id {
            return None;
        }
        // SAFETY: the address is inside the mapping.
        Some(unsafe { self.memory.start().as_ptr().add(frame.address as usize) })
    }

    /// Hands the frame's chunk to a port; what the port's ring is to hold.
    #[inline]
    pub(crate) fn hand_to(&mut self, frame: Frame, holder: Holder) -> (u64, u32) {
        let (address, length) = frame.into_descriptor();
        self.chunks.hand_to(address, holder);
        (address, length)
    }

    /// Takes a free chunk for a port's fill ring; its base.
    #[inline]
    pub(crate) fn take_for(&mut self, holder: Holder) -> Option<u64> {
        let base = self.chunks.take()?;
        self.chunks.hand_to(base, holder);
        Some(base)
    }

    /// Frees the chunk that `address`, out of a completion ring, points into.
    #[inline]
    pub(crate) fn complete(&mut self, address: u64) {
        self.chunks.give_back(address);
    }

    /// The frame of a descriptor that a ring gave back. `None` when it lies outside.
    #[inline]
    pub(crate) fn adopt(&mut self, address: u64, length: u32) -> Option<Frame> {
        let in_chunk = address - self.chunks.base(address) + u64::from(length);
        if address >= self.memory.len() as u64 || in_chunk > u64::from(self.layout.chunk_size) {
            return None;
        }
        self.chunks.hand_to_frame(address);
        Some(Frame { address, length, umem: self.id })
    }

    /// How many frames no port was promised.
    pub(crate) fn unpromised(&self) -> u32 {
        self.chunks.unpromised()
    }

    /// A number for a new port, which will hold up to `frames`; `None` when 254 ports have one.
    pub(crate) fn new_holder(&mut self, frames: u32) -> Option<Holder> {
        self.chunks.new_holder(frames)
    }

    /// Frees every chunk of a port that is gone, and its number. How many chunks those were.
    pub(crate) fn reclaim(&mut self, holder: Holder) -> u32 {
        self.chunks.reclaim(holder)
    }

    /// What whoever opens sockets on it must know.
    pub(crate) fn region(&self) -> Region {
        Region { memory: self.memory.clone(), layout: self.layout, umem: self.id }
    }

    /// Tells this UMEM from the others of the process.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }
}

#[cfg(test)]
mod tests;
