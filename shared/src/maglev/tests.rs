use super::fill::{Modulus, inverse};
use super::*;
use crate::backend::BackendId;
use proptest::prelude::*;
use std::net::Ipv4Addr;

fn backends(count: u32) -> Vec<Backend> {
    let backend =
        |n| Backend { id: BackendId(n), address: Ipv4Addr::from_bits(0x0ab4_0000 + n).into(), port: 80, weight: 1 };
    (0..count).map(backend).collect()
}

/// How many slots each backend has.
fn shares(table: &Maglev, backends: usize) -> Vec<u32> {
    let mut shares = vec![0; backends];
    for slot in 0..table.slots() {
        shares[table.at(slot).unwrap() as usize] += 1;
    }
    shares
}

/// The paper's pseudo-code, with turns by weight, as plainly as it can be written.
fn plain(backends: &[Backend], slots: u32) -> Vec<u32> {
    let heaviest = backends.iter().map(|backend| u64::from(backend.weight)).max().unwrap();
    let permutation = |backend: &Backend| {
        let (offset, skip) = hashes(backend.address, backend.port);
        let (offset, skip) = (offset % u64::from(slots), skip % u64::from(slots - 1) + 1);
        (0..u64::from(slots)).map(move |step| (offset + step * skip) % u64::from(slots))
    };
    let mut walks: Vec<_> = backends.iter().map(permutation).collect();
    let mut table = vec![None; slots as usize];
    let mut taken = 0;
    for round in 1.. {
        for (index, backend) in backends.iter().enumerate() {
            let turns = |round: u64| (round * u64::from(backend.weight)).div_ceil(heaviest);
            if turns(round) == turns(round - 1) {
                continue;
            }
            let Some(slot) = walks[index].find(|slot| table[*slot as usize].is_none()) else { continue };
            table[slot as usize] = Some(index as u32);
            taken += 1;
        }
        if taken == slots {
            break;
        }
    }
    table.into_iter().flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_the_papers(weights in prop::collection::vec(0u16..20, 1..40), slots in 40u32..700, v6 in any::<bool>()) {
        let slots = next_prime(slots);
        let mut backends = backends(weights.len() as u32);
        for (backend, weight) in backends.iter_mut().zip(&weights) {
            backend.weight = *weight;
            if v6 {
                backend.address = Ipv4Addr::from_bits(backend.id.0).to_ipv6_compatible().into();
            }
        }
        let table = Maglev::build(&backends, slots);
        prop_assert_eq!(table.slots(), slots as usize);
        if weights.iter().any(|weight| *weight > 0) {
            let table: Vec<u32> = (0..table.slots()).map(|slot| table.at(slot).unwrap()).collect();
            prop_assert_eq!(table, plain(&backends, slots));
        } else {
            let shares = shares(&table, backends.len());
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}

#[test]
fn tables_of_default_sizes_are_the_papers() {
    for count in [1, 2, 3, 5, 10, 30, 100, 655, 1000] {
        let backends = backends(count);
        let table = Maglev::for_backends(&backends);
        let built: Vec<u32> = (0..table.slots()).map(|slot| table.at(slot).unwrap()).collect();
        assert!(built == plain(&backends, table.slots() as u32), "{count} backends");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_remainder_and_the_inverse_are_right(slots in 2u32..100_000_000, a in any::<u32>(), b in any::<u32>()) {
        let slots = next_prime(slots);
        let (a, b) = (a % slots, b % slots);
        let modulus = Modulus::new(slots);
        for product in [u64::from(a) * u64::from(b), u64::from(slots - 1) * u64::from(slots - 1), u64::from(slots), 0] {
            prop_assert_eq!(u64::from(modulus.of(product)), product % u64::from(slots));
        }
        if a != 0 {
            prop_assert_eq!(modulus.of(u64::from(a) * u64::from(inverse(a, slots))), 1);
        }
    }
}

#[test]
fn known_tables_stay_what_they_are() {
    // These decide where connections go. If this fails, every user's connections would move with the update.
    let table = Maglev::build(&backends(3), 13);
    let slots: Vec<_> = (0..13).map(|slot| table.at(slot).unwrap()).collect();
    assert_eq!(slots, [2, 0, 0, 0, 1, 1, 0, 2, 2, 1, 1, 0, 2]);
}

#[test]
fn equal_backends_get_equal_shares() {
    // Each takes a turn a round, so shares differ by one slot at most; with 100 slots a backend that is within 1 %.
    for count in [1, 2, 3, 7, 10, 100, 655] {
        let table = Maglev::for_backends(&backends(count));
        let shares = shares(&table, count as usize);
        let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
        assert!(most - least <= 1 && least >= 100, "{count}: {least} to {most}");
    }
    let shares = shares(&Maglev::for_backends(&backends(1000)), 1000);
    assert!(shares.iter().all(|share| [65, 66].contains(share)));
}

#[test]
fn hashes_find_the_shares() {
    let backends = backends(10);
    let table = Maglev::for_backends(&backends);
    let mut hits = [0_u32; 10];
    let mut hash = 1_u64;
    for _ in 0..100_000 {
        hash = fold(hash ^ 0x9e37_79b9_7f4a_7c15, 0xe703_7ed1_a0b4_28db ^ hash.rotate_left(17));
        hits[table.lookup(hash).unwrap() as usize] += 1;
    }
    assert!(hits.iter().all(|hits| (9_400..10_600).contains(hits)), "{hits:?}");
}

#[test]
fn the_lightest_backend_has_slots_enough_for_its_share() {
    let mut backends = backends(3);
    backends[0].weight = 8;
    let table = Maglev::for_backends(&backends);
    assert_eq!(table.slots(), 1_009, "10 shares of 100 slots");
    assert!(shares(&table, 3)[1..].iter().all(|light| (99..=102).contains(light)), "{:?}", shares(&table, 3));
    // Equal weights, whichever, make the table that no weights make.
    let alike = |weight| Maglev::for_backends(&backends.iter().map(|b| Backend { weight, ..*b }).collect::<Vec<_>>());
    assert!([0, 2, 256].into_iter().all(|weight| alike(weight) == alike(1)));
}

#[test]
fn weights_make_no_table_much_larger_and_leave_nobody_out() {
    for count in [2, 3, 10, 100, 1000] {
        let mut backends = backends(count);
        backends[1..].iter_mut().for_each(|backend| backend.weight = 256);
        let table = Maglev::for_backends(&backends);
        let most = default_slots(count as usize) * 4;
        assert!(table.slots() <= most.min(MAX_DEFAULT_SLOTS) as usize, "{count}: {}", table.slots());
        let shares = shares(&table, count as usize);
        let fair = table.slots() as f64 / (f64::from(count - 1) * 256.0 + 1.0);
        assert!(shares[0] >= 1 && (f64::from(shares[0]) - fair).abs() <= 1.0, "{count}: {} of {fair}", shares[0]);
    }
}

#[test]
fn weights_are_shares() {
    let mut backends = backends(4);
    for (backend, weight) in backends.iter_mut().zip([1, 2, 5, 0]) {
        backend.weight = weight;
    }
    let shares = shares(&Maglev::build(&backends, 8009), 4);
    for (share, expected) in shares.iter().zip([1001, 2002, 5005, 0]) {
        assert!(share.abs_diff(expected) <= 2, "{shares:?}");
    }
}

/// The part of all slots, in per cent, that move although their backend stays when `gone` backends go.
fn disruption(count: u32, slots: u32, gone: u32) -> f64 {
    let all = backends(count);
    let is_gone = |n: u32| n % (count / gone) == 1 && n / (count / gone) < gone;
    let left: Vec<Backend> = all.iter().filter(|backend| !is_gone(backend.id.0)).copied().collect();
    assert_eq!(left.len() as u32, count - gone);
    let (before, after) = (Maglev::build(&all, slots), Maglev::build(&left, slots));
    let moved = (0..slots as usize).filter(|slot| {
        let was = all[before.at(*slot).unwrap() as usize];
        !is_gone(was.id.0) && was.id != left[after.at(*slot).unwrap() as usize].id
    });
    moved.count() as f64 * 100.0 / f64::from(slots)
}

#[test]
fn few_slots_move_when_backends_go() {
    // The paper's sizes: 1,000 backends, a small and a large table. A few per cent of the slots at worst, about one per
    // cent in the large table.
    for (slots, gone, most) in [
        (65_537, 1, 0.8),
        (65_537, 10, 2.7),
        (65_537, 100, 4.0),
        (655_373, 1, 0.4),
        (655_373, 10, 0.8),
        (655_373, 100, 1.2),
    ] {
        let moved = disruption(1000, slots, gone);
        assert!(moved <= most, "{gone} of 1000 gone, {slots} slots: {moved:.2} % moved");
    }
    assert!(disruption(10, 1009, 1) <= 3.0);
    assert!(disruption(100, 10_007, 1) <= 2.0);
}

#[test]
fn default_sizes_are_primes_of_a_hundred_slots_a_backend() {
    for (backends, slots) in [
        (0, 3),
        (1, 101),
        (2, 211),
        (3, 307),
        (100, 10_007),
        (655, 65_519),
        (656, 65_537),
        (30_000, 65_537),
        (40_000, 80_021),
    ] {
        assert_eq!(default_slots(backends), slots, "{backends}");
    }
    let many = Maglev::for_backends(&backends(66_000));
    assert!(matches!(many.slots, Slots::Wide(_)));
    assert!(shares(&many, 66_000).iter().all(|share| (1..=3).contains(share)));
}

#[test]
fn no_backends_no_choice() {
    let table = Maglev::for_backends(&[]);
    assert_eq!((table.slots(), table.lookup(0), table.lookup(u64::MAX)), (0, None, None));
}
