//! One mapping in equal pieces that go their own ways, from thread to thread.
#![allow(unsafe_code)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use rustix::io::Errno;

use super::mapping::Mapping;

/// A part of a mapping that nobody else has. The mapping lives as long as any of its pieces.
pub(crate) struct Piece {
    start: NonNull<u8>,
    length: usize,
    _memory: Arc<Mapping>,
}

// SAFETY: a piece owns its bytes as a box would, and the mapping that it keeps belongs to no thread.
unsafe impl Send for Piece {}

impl Piece {
    /// `count` pieces of `length` zeroed bytes. A piece takes memory when it is written to first: the heap would put a
    /// header before each, and so touch nearly every page at once.
    pub(crate) fn several(count: usize, length: usize) -> Result<Vec<Piece>, Errno> {
        if count == 0 || length == 0 {
            return Ok(Vec::new());
        }
        let memory = Arc::new(Mapping::untouched(count.checked_mul(length).ok_or(Errno::NOMEM)?)?);
        let piece = |number: usize| {
            let start = memory.at::<u8>((number * length) as u64, length)?;
            Some(Piece { start, length, _memory: memory.clone() })
        };
        (0..count).map(|number| piece(number).ok_or(Errno::NOMEM)).collect()
    }
}

impl Deref for Piece {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes lie in the mapping, which lives as long as `self`; they are zeroed or written, and of this piece
        // alone, so whoever changes them has it mutably.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Piece {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `several` gives every byte to one piece only.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_outlive_each_other() {
        let mut pieces = Piece::several(3, 4096).unwrap();
        for (number, piece) in (1..).zip(&mut pieces) {
            assert!(piece.iter().all(|byte| *byte == 0));
            piece.fill(number);
        }
        let last = pieces.pop().unwrap();
        drop(pieces.remove(0));
        let middle = pieces.pop().unwrap();
        let last = std::thread::spawn(move || last.iter().all(|byte| *byte == 3) && last.len() == 4096);
        assert!(last.join().unwrap());
        assert!(middle.iter().all(|byte| *byte == 2));
        assert!(Piece::several(0, 4096).unwrap().is_empty());
        assert!(Piece::several(usize::MAX, 4096).is_err());
    }
}
