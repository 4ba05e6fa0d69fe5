//! The hash of tuples under a secret, so that nobody can make many of them collide.

use ringway_shared::FiveTuple;

/// The secret.
#[derive(Clone, Copy)]
pub(super) struct Hasher([u64; 6]);

impl Hasher {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        Hasher(std::array::from_fn(|_| {
            // splitmix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word ^ (word >> 31)
        }))
    }

    /// Both factors of every multiplication have secret bits: a sender who chooses addresses freely cannot make a factor
    /// zero, and with it the other one irrelevant.
    #[inline]
    pub(super) fn hash(&self, tuple: &FiveTuple) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        let source = fold(tuple.source[0] ^ a, tuple.source[1] ^ b);
        let destination = fold(tuple.destination[0] ^ c, tuple.destination[1] ^ d);
        fold(source ^ tuple.ports ^ e, destination ^ f)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}
