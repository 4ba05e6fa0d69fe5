//! Which bytes of a datagram came, and where its fragments began: a bit for each eight bytes, which is what offsets count.

use std::ops::Range;

use ringway_shared::DropReason;

use super::Piece;

/// Words of a bit for each eight of 65,536 bytes.
const WORDS: usize = 128;

/// What a fragment is to those that came before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Its bytes are new, and some are missing still.
    New,
    /// With it all bytes have come.
    Last,
    /// Just this fragment came before.
    Repeated,
}

/// The bytes of one datagram that came.
#[derive(Clone, Debug)]
pub struct Coverage {
    covered: [u64; WORDS],
    starts: [u64; WORDS],
    /// How many bits of `covered` are set.
    units: u16,
    /// The end of the bytes that came.
    reach: u16,
    /// The end of the datagram, when its last fragment came; else 0.
    end: u16,
}

impl Coverage {
    /// Nothing came.
    pub const NOTHING: Coverage = Coverage { covered: [0; WORDS], starts: [0; WORDS], units: 0, reach: 0, end: 0 };

    /// Says where the datagram ends before its last fragment comes.
    pub fn expect_end(&mut self, end: u16) {
        if self.end == 0 {
            self.end = end;
        }
    }

    /// Forgets what came. No bit is set behind the end of that, so the words there, nearly all, are left alone.
    pub fn clear(&mut self) {
        let written = usize::from(self.reach.div_ceil(8)).div_ceil(64);
        for bits in [&mut self.covered, &mut self.starts] {
            bits.get_mut(..written).unwrap_or_default().fill(0);
        }
        (self.units, self.reach, self.end) = (0, 0, 0);
    }

    /// Adds a fragment; the reason says why the datagram can be none.
    pub fn add(&mut self, piece: &Piece) -> Result<Added, DropReason> {
        let Range { start, end } = piece.bytes;
        // The last fragment says where the datagram ends, and nothing lies behind that.
        let contradicts = match (piece.more, self.end) {
            (true, 0) => false,
            (true, known) => end > known,
            (false, 0) => end < self.reach,
            (false, known) => end != known,
        };
        if start >= end || contradicts {
            return Err(DropReason::InvalidFragment);
        }
        let units = start / 8..end.div_ceil(8);
        let set = self.count(&self.covered, &units);
        if set == units.len() as u16 && self.is_fragment(&units) {
            return Ok(Added::Repeated);
        }
        if set != 0 {
            return Err(DropReason::FragmentOverlap);
        }
        for (word, mask) in words(&units) {
            if let Some(word) = self.covered.get_mut(word) {
                *word |= mask;
            }
        }
        if let Some(word) = self.starts.get_mut(usize::from(units.start) / 64) {
            *word |= 1 << (units.start % 64);
        }
        self.units += units.len() as u16;
        self.reach = self.reach.max(end);
        if !piece.more {
            self.end = end;
        }
        let whole = self.end != 0 && self.units == self.end.div_ceil(8);
        Ok(if whole { Added::Last } else { Added::New })
    }

    /// Whether units that all came did so as one fragment.
    fn is_fragment(&self, units: &Range<u16>) -> bool {
        let is = |bits: &[u64; WORDS], unit: u16| {
            bits.get(usize::from(unit) / 64).is_some_and(|word| word >> (unit % 64) & 1 == 1)
        };
        let begins_and_goes_on = is(&self.starts, units.start) && self.count(&self.starts, units) == 1;
        begins_and_goes_on && (!is(&self.covered, units.end) || is(&self.starts, units.end))
    }

    fn count(&self, bits: &[u64; WORDS], units: &Range<u16>) -> u16 {
        words(units).map(|(word, mask)| (bits.get(word).copied().unwrap_or(0) & mask).count_ones() as u16).sum()
    }
}

/// The words of some units, each with a mask of those in it.
fn words(units: &Range<u16>) -> impl Iterator<Item = (usize, u64)> {
    let (start, last) = (usize::from(units.start), usize::from(units.end).saturating_sub(1));
    (start / 64..=last / 64).map(move |word| {
        let from = if word == start / 64 { u64::MAX << (start % 64) } else { u64::MAX };
        let to = if word == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        (word, from & to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(start: u16, length: u16, more: bool) -> Piece {
        Piece { bytes: start..start + length, more }
    }

    #[test]
    fn a_datagram_is_whole_when_each_byte_came_whatever_the_order() {
        let pieces = [piece(0, 1480, true), piece(1480, 1480, true), piece(2960, 5, false)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut coverage = Coverage::NOTHING;
            let added = order.map(|at| coverage.add(&pieces[at]));
            assert_eq!(added, [Ok(Added::New), Ok(Added::New), Ok(Added::Last)], "{order:?}");
            for piece in &pieces {
                assert_eq!(coverage.add(piece), Ok(Added::Repeated));
            }
        }
        let mut smallest = Coverage::NOTHING;
        assert_eq!(smallest.add(&piece(0, 3, false)), Ok(Added::Last));
        let mut largest = Coverage::NOTHING;
        assert_eq!(largest.add(&piece(65_528, 7, false)), Ok(Added::New));
        assert_eq!(largest.add(&piece(0, 65_528, true)), Ok(Added::Last));
    }

    #[test]
    fn what_overlaps_or_contradicts_is_named() {
        let overlap = Err(DropReason::FragmentOverlap);
        let invalid = Err(DropReason::InvalidFragment);
        let after = |first: &[Piece], then: Piece| {
            let mut coverage = Coverage::NOTHING;
            first.iter().for_each(|piece| assert_eq!(coverage.add(piece), Ok(Added::New)));
            coverage.add(&then)
        };
        let middle = [piece(80, 80, true)];
        for (start, length) in [(72, 16), (152, 16), (80, 8), (152, 8), (96, 16), (72, 96), (80, 88), (72, 88)] {
            assert_eq!(after(&middle, piece(start, length, true)), overlap, "{start} {length}");
        }
        // Two fragments are not one.
        assert_eq!(after(&[piece(8, 8, true), piece(16, 8, true)], piece(8, 16, true)), overlap);
        assert_eq!(after(&middle, piece(80, 79, false)), invalid, "data behind the end");
        assert_eq!(after(&[piece(80, 5, false)], piece(88, 8, true)), invalid);
        assert_eq!(after(&[piece(80, 5, false)], piece(80, 8, true)), invalid);
        assert_eq!(after(&[piece(80, 5, false)], piece(80, 6, false)), invalid, "another end");
        assert_eq!(after(&[piece(80, 8, false)], piece(72, 16, true)), overlap);
        assert_eq!(after(&[], Piece { bytes: 8..8, more: false }), invalid);
    }

    proptest! {
        #[test]
        fn what_is_cleared_is_as_new(pieces in proptest::collection::vec((0u16..8191, 1u16..300, any::<bool>()), 0..24)) {
            let mut coverage = Coverage::NOTHING;
            for (start, length, more) in pieces {
                // What does not fit is refused, and sets nothing either.
                let end = (start * 8).saturating_add(length * 8 - u16::from(!more));
                let _ = coverage.add(&Piece { bytes: start * 8..end, more });
            }
            coverage.clear();
            let Coverage { covered, starts, units, reach, end } = coverage;
            prop_assert_eq!((covered, starts), ([0; WORDS], [0; WORDS]));
            prop_assert_eq!((units, reach, end), (0, 0, 0));
        }

        /// Against a list of bytes.
        #[test]
        fn bits_say_what_a_list_of_bytes_says(pieces in proptest::collection::vec((0u16..40, 1u16..9, any::<bool>(), 0u16..8), 1..24)) {
            let mut coverage = Coverage::NOTHING;
            let mut came: Vec<Piece> = Vec::new();
            let mut owner = vec![None::<usize>; 400];
            for (start, length, more, short) in pieces {
                let length = if more { length * 8 } else { length * 8 - short };
                let next = piece(start * 8, length, more);
                let units = usize::from(start)..usize::from(next.bytes.end.div_ceil(8));
                let known_end = came.iter().find(|piece| !piece.more).map(|piece| piece.bytes.end);
                let reach = came.iter().map(|piece| piece.bytes.end).max().unwrap_or(0);
                let end = next.bytes.end;
                let contradicts = match known_end {
                    Some(known) => if more { end > known } else { end != known },
                    None => !more && end < reach,
                };
                let expected = if contradicts {
                    Err(DropReason::InvalidFragment)
                } else if came.iter().any(|piece| piece.bytes == next.bytes) {
                    Ok(Added::Repeated)
                } else if owner[units.clone()].iter().any(Option::is_some) {
                    Err(DropReason::FragmentOverlap)
                } else {
                    owner[units].fill(Some(came.len()));
                    came.push(next.clone());
                    let end = came.iter().find(|piece| !piece.more).map(|piece| usize::from(piece.bytes.end.div_ceil(8)));
                    let whole = end.is_some_and(|end| owner[..end].iter().all(Option::is_some));
                    Ok(if whole { Added::Last } else { Added::New })
                };
                prop_assert_eq!(coverage.add(&next), expected, "{:?} after {:?}", next, came);
            }
        }
    }
}
