//! The hash of tuples under a secret, so that nobody can make many of them collide.

use ringway_shared::FiveTuple;

/// The secret.
#[derive(Clone, Copy)]
pub(crate) struct Hasher([u64; 6]);

impl Hasher {
    pub(crate) fn new(seed: u64) -> Self {
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
    pub(crate) fn hash(&self, tuple: &FiveTuple) -> u64 {
        self.addresses(tuple).with_ports(tuple.ports)
    }

    /// What the hashes of all tuples between two addresses have in common.
    #[inline]
    pub(super) fn addresses(&self, tuple: &FiveTuple) -> Addresses {
        let [a, b, c, d, e, f] = self.0;
        let source = fold(tuple.source[0] ^ a, tuple.source[1] ^ b);
        let destination = fold(tuple.destination[0] ^ c, tuple.destination[1] ^ d);
        Addresses { source: source ^ e, destination: destination ^ f }
    }
}

/// The part of a hash that depends on addresses alone.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    source: u64,
    destination: u64,
}

impl Addresses {
    /// The hash of the tuple with these [`FiveTuple::ports`].
    #[inline]
    pub(super) fn with_ports(self, ports: u64) -> u64 {
        fold(self.source ^ ports, self.destination)
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn tuple(source: [u64; 2], ports: u64) -> FiveTuple {
        FiveTuple { source, destination: [0, 0xffff_ac1e_0029], ports: ports << 32 | 6 }
    }

    #[test]
    fn tuples_that_count_up_spread_evenly() {
        let hasher = Hasher::new(1);
        let mut loads = vec![0u32; 1 << 13];
        for address in 0..256 {
            for port in 0..128 {
                let hash = hasher.hash(&tuple([0, 0xffff_0a00_0000 + address], (1024 + port) << 16 | 80));
                loads[(hash >> 32) as usize % (1 << 13)] += 1;
            }
        }
        // 32,768 tuples at 4 a bucket: by chance alone one in 10^8 tables has a bucket with more than 24.
        assert!(loads.iter().all(|load| *load <= 24), "{:?}", loads.iter().max());
        assert!(loads.iter().filter(|load| **load > 8).count() < (1 << 13) / 20);
    }

    /// The constants of the public hash of tuples, which make one of its factors zero.
    #[test]
    fn chosen_addresses_do_not_collide() {
        let hasher = Hasher::new(2);
        let hashes: HashSet<_> =
            (0..10_000).map(|high| hasher.hash(&tuple([high, 0xa076_1d64_78bd_642f], 80))).collect();
        assert_eq!(hashes.len(), 10_000);
        assert_ne!(Hasher::new(3).hash(&tuple([1, 2], 3)), hasher.hash(&tuple([1, 2], 3)));
    }
}
