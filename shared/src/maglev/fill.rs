//! Filling a table.

use super::hashes;
use crate::backend::Backend;

/// How many steps of a walk are tried at once.
const STRIDE: usize = 4;

/// One backend's walk through its permutation.
pub(super) struct Walk<T> {
    next: u32,
    /// One to [`STRIDE`] steps ahead.
    ahead: [u32; STRIDE],
    /// The inverse of the skip, once it is needed.
    inverse: Option<u32>,
    backend: T,
    weight: u32,
    credit: u32,
}

impl<T> Walk<T> {
    /// `heaviest` is the largest weight of all.
    pub(super) fn new(backend: &Backend, index: T, weight: u32, heaviest: u32, slots: u32) -> Self {
        let (offset, skip) = hashes(backend.address, backend.port);
        let next = (offset % u64::from(slots)) as u32;
        // Any skip from 1 to slots - 1 visits every slot once, because slots is prime.
        let skip = (skip % u64::from(slots - 1)) as u32 + 1;
        let mut ahead = [skip; STRIDE];
        for step in 1..STRIDE {
            ahead[step] = forward(ahead[step - 1], skip, slots);
        }
        // Everybody takes the first turn, so that whoever has any weight has a slot.
        Walk { next, ahead, inverse: None, backend: index, weight, credit: heaviest - 1 }
    }

    /// Takes the next free slot of the walk. There must be one.
    #[inline(always)]
    fn take(&mut self, free: &mut Free, slots: u32) -> u32 {
        loop {
            let [one, two, three, four] = self.ahead;
            let tried = [
                self.next,
                forward(self.next, one, slots),
                forward(self.next, two, slots),
                forward(self.next, three, slots),
            ];
            let mut found = 0;
            for (step, slot) in tried.into_iter().enumerate() {
                found |= free.get(slot) << step;
            }
            if found == 0 {
                self.next = forward(self.next, four, slots);
                continue;
            }
            let slot = tried[found.trailing_zeros() as usize % STRIDE];
            self.next = forward(slot, one, slots);
            free.clear(slot);
            return slot;
        }
    }

    /// Takes that one of the slots in `left` that comes first on the walk.
    #[inline(always)]
    fn take_one_of(&mut self, left: &mut Vec<u32>, modulus: Modulus) -> u32 {
        let skip = self.ahead[0];
        let inverse = *self.inverse.get_or_insert_with(|| inverse(skip, modulus.slots));
        let steps = |slot: u32| {
            let distance = slot.wrapping_sub(self.next);
            // When the slot is behind, the difference wraps and is the larger one.
            let distance = distance.min(distance.wrapping_add(modulus.slots));
            modulus.of(u64::from(distance) * u64::from(inverse))
        };
        let nearest = (0..left.len()).min_by_key(|place| steps(left[*place])).unwrap_or(0);
        let slot = left.swap_remove(nearest);
        self.next = forward(slot, skip, modulus.slots);
        slot
    }
}

/// Remainders by the number of slots, without division.
#[derive(Clone, Copy)]
pub(super) struct Modulus {
    slots: u32,
    /// 2^64 / slots, rounded down.
    reciprocal: u64,
}

impl Modulus {
    pub(super) fn new(slots: u32) -> Self {
        Modulus { slots, reciprocal: u64::MAX / u64::from(slots) }
    }

    #[inline(always)]
    pub(super) fn of(self, number: u64) -> u32 {
        let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
        // The quotient is at most one too small.
        let rest = number - quotient * u64::from(self.slots);
        rest.min(rest.wrapping_sub(u64::from(self.slots))) as u32
    }
}

/// The number that multiplies `skip` to 1, by Euclid; `slots` is prime.
pub(super) fn inverse(skip: u32, slots: u32) -> u32 {
    let (mut rest, mut next) = (i64::from(slots), i64::from(skip));
    let (mut factor, mut next_factor) = (0, 1);
    while next != 0 {
        let quotient = rest / next;
        (rest, next) = (next, rest - quotient * next);
        (factor, next_factor) = (next_factor, factor - quotient * next_factor);
    }
    factor.rem_euclid(i64::from(slots)) as u32
}

/// `slot + skip`, around the end.
#[inline(always)]
fn forward(slot: u32, skip: u32, slots: u32) -> u32 {
    let sum = slot + skip;
    // When the sum is below `slots` the difference wraps and is the larger one.
    sum.min(sum.wrapping_sub(slots))
}

/// Which slots are free: a byte each, 1 or 0. One bit each would take less cache, but longer to find.
struct Free(Vec<u8>);

impl Free {
    fn all(length: usize) -> Self {
        Free(vec![1; length])
    }

    #[inline(always)]
    fn get(&self, at: u32) -> u64 {
        u64::from(self.0[at as usize])
    }

    #[inline(always)]
    fn clear(&mut self, at: u32) {
        self.0[at as usize] = 0;
    }
}

/// Lets the walks take slots in turns until none is free.
///
/// Trying slots that are taken is most of the work, the more so the fuller the table is: 1/n of it free means n tries. They
/// are tried several at a time, so that one step does not wait for the one before. The last slots, on which half of all
/// tries would go, are not searched for: for each of them it is computed how far on the walk it is.
pub(super) fn fill<T: Copy>(table: &mut [T], walks: &mut [Walk<T>], heaviest: u32) {
    let slots = table.len() as u32;
    let mut free = Free::all(table.len());
    // Where a try each for `slots / left` slots costs as much as a computation each for `left`.
    let last = (slots / 3).isqrt();
    let mut turn = 0;
    turns(walks, &mut turn, heaviest, slots - last, |walk| {
        let slot = walk.take(&mut free, slots);
        table[slot as usize] = walk.backend;
    });
    let mut left: Vec<u32> = (0..slots).filter(|slot| free.get(*slot) == 1).collect();
    let modulus = Modulus::new(slots);
    turns(walks, &mut turn, heaviest, last, |walk| {
        let slot = walk.take_one_of(&mut left, modulus);
        table[slot as usize] = walk.backend;
    });
}

/// Lets `count` walks take a slot, from `turn` on, which goes on from call to call.
#[inline(always)]
fn turns<T>(walks: &mut [Walk<T>], turn: &mut usize, heaviest: u32, count: u32, mut take: impl FnMut(&mut Walk<T>)) {
    let mut left = count;
    while left > 0 {
        let last = *turn + 1 == walks.len();
        let walk = &mut walks[*turn];
        *turn = if last { 0 } else { *turn + 1 };
        // A backend takes its turn as often as its weight in relation to the heaviest says.
        walk.credit += walk.weight;
        if walk.credit < heaviest {
            continue;
        }
        walk.credit -= heaviest;
        take(walk);
        left -= 1;
    }
}
