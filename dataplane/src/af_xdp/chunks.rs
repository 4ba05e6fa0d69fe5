//! Chunks: who holds each chunk of a UMEM, and which are free.
//!
//! A chunk is on the free list, in a frame, or in the rings of one port (the kernel's); a byte for each says which. The
//! bytes cost a store wherever a chunk changes hands. They make a double free harmless, and when a port's interface
//! vanishes they are the only account of the chunks that the kernel took with it.

/// Held by a [`Frame`](super::Frame).
pub(super) const IN_FRAME: u8 = 0;
/// On the free list.
const FREE: u8 = 255;

/// A port of this UMEM, as the holder of chunks; made by [`Chunks::new_holder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder(u8);

/// The holder of every chunk, and the list of free ones.
pub(super) struct Chunks {
    /// Bytes per chunk, a power of two.
    size: u32,
    /// Bases of free chunks; the one freed last is used first, while it is in the cache.
    free: Vec<u64>,
    /// By chunk number.
    holders: Vec<u8>,
    /// By holder number: how many chunks were promised to it; `None` while nobody has the number.
    promised: [Option<u32>; 256],
}

impl Chunks {
    /// `count` free chunks of `size` bytes, a power of two.
    pub(super) fn new(count: u32, size: u32) -> Self {
        let mut promised = [None; 256];
        for reserved in [IN_FRAME, FREE] {
            promised[usize::from(reserved)] = Some(0);
        }
        Chunks {
            size,
            // Reversed, so that chunks are first used in ascending order.
            free: (0..count).rev().map(|chunk| u64::from(chunk) * u64::from(size)).collect(),
            holders: vec![FREE; count as usize],
            promised,
        }
    }

    /// The number of free chunks.
    #[inline]
    pub(super) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// The base of the chunk that `address` points into.
    #[inline]
    pub(super) fn base(&self, address: u64) -> u64 {
        address & !u64::from(self.size - 1)
    }

    #[inline]
    fn holder_of(&mut self, address: u64) -> Option<&mut u8> {
        // A shift, since the size is a power of two: a division would cost more than everything else here.
        self.holders.get_mut(usize::try_from(address >> self.size.trailing_zeros()).ok()?)
    }

    /// Takes a chunk off the free list, for a frame; its base.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u64> {
        let base = self.free.pop()?;
        self.set(base, IN_FRAME);
        Some(base)
    }

    /// Puts the chunk that `address` points into on the free list.
    #[inline]
    pub(super) fn give_back(&mut self, address: u64) {
        let base = self.base(address);
        let was_held = match self.holder_of(base) {
            Some(holder) => std::mem::replace(holder, FREE) != FREE,
            None => false,
        };
        debug_assert!(was_held, "the chunk at {base:#x} was freed twice, or there is none");
        // The list has room for every chunk, and each is on it at most once, so this never allocates.
        if was_held {
            self.free.push(base);
        }
    }

    /// Notes that a port holds the chunk that `address` points into.
    #[inline]
    pub(super) fn hand_to(&mut self, address: u64, holder: Holder) {
        self.set(address, holder.0);
    }

    /// Notes that a frame holds the chunk that `address` points into.
    #[inline]
    pub(super) fn hand_to_frame(&mut self, address: u64) {
        self.set(address, IN_FRAME);
    }

    #[inline]
    fn set(&mut self, address: u64, holder: u8) {
        if let Some(place) = self.holder_of(address) {
            *place = holder;
        }
    }

    /// How many chunks nobody was promised.
    pub(super) fn unpromised(&self) -> u32 {
        (self.holders.len() as u32).saturating_sub(self.promised.iter().flatten().sum())
    }

    /// A number for a new port, which will hold up to `chunks`; `None` when 254 ports have one.
    pub(super) fn new_holder(&mut self, chunks: u32) -> Option<Holder> {
        let number = self.promised.iter().position(Option::is_none)?;
        self.promised[number] = Some(chunks);
        Some(Holder(number as u8))
    }

    /// Frees every chunk of a port that is gone, and its number. How many chunks those were.
    pub(super) fn reclaim(&mut self, holder: Holder) -> u32 {
        let mut freed = 0;
        for (chunk, place) in self.holders.iter_mut().enumerate() {
            if *place == holder.0 {
                *place = FREE;
                self.free.push(chunk as u64 * u64::from(self.size));
                freed += 1;
            }
        }
        self.promised[usize::from(holder.0)] = None;
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "freed twice")]
    fn freeing_a_chunk_twice_is_stopped_in_debug_builds() {
        let mut chunks = Chunks::new(1, 2048);
        let base = chunks.take().unwrap();
        chunks.give_back(base);
        chunks.give_back(base);
    }

    #[test]
    fn a_port_that_is_gone_leaves_its_chunks() {
        let mut chunks = Chunks::new(8, 2048);
        let (one, two) = (chunks.new_holder(5).unwrap(), chunks.new_holder(2).unwrap());
        assert_eq!(chunks.unpromised(), 1);
        let bases: Vec<u64> = (0..6).map(|_| chunks.take().unwrap()).collect();
        for (index, &base) in bases.iter().enumerate() {
            match index {
                0..3 => chunks.hand_to(base + 256, one),
                3 | 4 => chunks.hand_to(base, two),
                _ => {}
            }
        }
        chunks.hand_to_frame(bases[0] + 300);
        assert_eq!((chunks.free(), chunks.reclaim(one), chunks.free()), (2, 2, 4));
        chunks.give_back(bases[0]);
        assert_eq!((chunks.reclaim(two), chunks.free()), (2, 7));
        assert_eq!((chunks.unpromised(), chunks.new_holder(8)), (8, Some(one)));
    }

    #[test]
    fn holder_numbers_end() {
        let mut chunks = Chunks::new(1, 2048);
        assert_eq!(std::iter::from_fn(|| chunks.new_holder(0)).count(), 254);
    }
}
