use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use ringway_shared::{DropReason, Family, FiveTuple};

use super::*;
use crate::flow::Direction;
use crate::fragments::Follow;

fn key(number: u32) -> Key {
    Key::new([0, 1], [0, 2], Family::V4, 17, number)
}

/// Few buckets, so that they are long.
fn hash(number: u32) -> u64 {
    u64::from(number % 7) << 32 | u64::from(number)
}

fn forward() -> Fate {
    let to = FiveTuple { source: [0, 3], destination: [0, 4], ports: 17 };
    let forwarding = ringway_shared::service::ForwardingMode::Nat;
    let direction = Direction::Original;
    let arrived = ringway_shared::InterfaceId(1);
    Fate::Forward(Follow { to, ports: 5, direction, arrived, hash: 0, service_port: None, backend: None, forwarding })
}

fn piece(start: u16, length: u16, more: bool) -> Piece {
    Piece { bytes: start..start + length, more }
}

fn ms(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

/// A table that datagrams are opened in one after the other.
struct Bed {
    datagrams: Datagrams,
    next: u32,
}

impl Bed {
    fn new() -> Self {
        Bed { datagrams: Datagrams::default(), next: 0 }
    }

    fn open(&mut self, certain: bool, now: Time) -> u32 {
        self.next += 1;
        // Each between other addresses, as long as it can be.
        let pair = certain.then_some(u64::from(self.next) << 32);
        let id = self.datagrams.open(hash(self.next), key(self.next), forward(), pair, now);
        self.datagrams.add(id, Some(&piece(0, 8, true)), now);
        self.next
    }

    fn has(&mut self, number: u32, now: Time) -> bool {
        self.datagrams.find(hash(number), &key(number), now).is_some()
    }
}

#[test]
fn forged_ones_push_out_each_other_and_none_that_is_certain() {
    let mut bed = Bed::new();
    let certain: Vec<u32> = (0..512).map(|_| bed.open(true, ms(1))).collect();
    let forged: Vec<u32> = (0..5000).map(|_| bed.open(false, ms(1))).collect();
    assert_eq!(bed.datagrams.len(), MOST_DATAGRAMS);
    assert!(certain.iter().all(|number| bed.has(*number, ms(1))));
    let kept: Vec<bool> = forged.iter().map(|number| bed.has(*number, ms(1))).collect();
    assert!(kept[4488..].iter().all(|kept| *kept) && !kept[..4488].contains(&true), "the newest 512 stay");
    // Certain ones take no more than half either, once others ask for theirs.
    let more: Vec<u32> = (0..600).map(|_| bed.open(true, ms(1))).collect();
    assert!(more[88..].iter().all(|number| bed.has(*number, ms(1))));
    assert_eq!(forged.iter().filter(|number| bed.has(**number, ms(1))).count(), 512);
}

#[test]
fn who_has_one_answered_flow_pushes_out_his_own_alone() {
    let mut bed = Bed::new();
    let others: Vec<u32> = (0..100).map(|_| bed.open(true, ms(1))).collect();
    let late = bed.open(false, ms(1));
    let mut number = 10_000;
    let mut flood = |bed: &mut Bed| {
        for _ in 0..5000 {
            number += 1;
            // The small hash of none of the others.
            bed.datagrams.open(hash(number), key(number), forward(), Some(1000 << 32), ms(1));
        }
        number
    };
    // Its flow is answered after all.
    let id = bed.datagrams.find(hash(late), &key(late), ms(1)).unwrap();
    assert!(bed.datagrams.is_uncertain(id));
    bed.datagrams.make_certain(id, 999 << 32);
    assert!(!bed.datagrams.is_uncertain(id));
    for _ in 0..2 {
        let last = flood(&mut bed);
        assert!(others.iter().chain([&late]).all(|number| bed.has(*number, ms(1))));
        assert!((last - 850..=last).all(|number| bed.has(number, ms(1))), "all other room is theirs");
        // No more of them are certain because some were.
        let certain = |number: &u32| {
            let id = bed.datagrams.find(hash(*number), &key(*number), ms(1));
            id.is_some_and(|id| !bed.datagrams.is_uncertain(id))
        };
        assert_eq!((10_001..=last).filter(certain).count(), usize::from(MOST_OF_PAIR));
    }
    // One that ends makes room for another.
    let first = bed.datagrams.find(hash(10_001), &key(10_001), ms(1)).unwrap();
    bed.datagrams.remove(first);
    let next = bed.datagrams.open(hash(9_999), key(9_999), forward(), Some(1000 << 32), ms(1));
    assert!(!bed.datagrams.is_uncertain(next));
}

#[test]
fn complete_ones_go_first() {
    let mut bed = Bed::new();
    let done = bed.open(true, ms(1));
    let waits = bed.open(false, ms(1));
    let id = bed.datagrams.find(hash(done), &key(done), ms(1)).unwrap();
    assert_eq!(bed.datagrams.add(id, Some(&piece(8, 3, false)), ms(1)), Next::Share(forward()));
    assert!(bed.datagrams.is_done(id));
    for _ in 0..MOST_DATAGRAMS - 1 {
        bed.open(false, ms(1));
    }
    assert!(!bed.has(done, ms(1)) && bed.has(waits, ms(1)));
    bed.open(false, ms(1));
    assert!(!bed.has(waits, ms(1)), "then the oldest");
}

#[test]
fn of_a_complete_one_only_what_came_before_is_known() {
    let mut bed = Bed::new();
    let number = bed.open(false, ms(1));
    let id = bed.datagrams.find(hash(number), &key(number), ms(1)).unwrap();
    let last = piece(8, 3, false);
    for _ in 0..2 {
        assert_eq!(bed.datagrams.add(id, Some(&last), ms(1)), Next::Share(forward()));
    }
    assert_eq!(bed.datagrams.add(id, Some(&piece(8, 8, true)), ms(1)), Next::Other);
    assert_eq!(bed.datagrams.add(id, None, ms(1)), Next::Other);
    assert!(bed.has(number, ms(100)));
    assert!(!bed.has(number, ms(101)), "and not for long");
}

#[test]
fn what_is_wrong_ends_a_datagram_that_goes_on_and_none_that_passes() {
    let mut bed = Bed::new();
    for (wrong, reason) in
        [(Some(piece(0, 16, true)), DropReason::FragmentOverlap), (None, DropReason::InvalidFragment)]
    {
        for (fate, expected) in [(forward(), Fate::Drop(reason)), (Fate::Pass, Fate::Pass)] {
            let number = bed.open(false, ms(1));
            let id = bed.datagrams.find(hash(number), &key(number), ms(1)).unwrap();
            bed.datagrams.set_fate(id, fate);
            assert_eq!(bed.datagrams.add(id, wrong.as_ref(), ms(1)), Next::Share(expected));
            assert_eq!(bed.datagrams.add(id, Some(&piece(8, 8, true)), ms(1)), Next::Share(expected));
        }
    }
}

#[test]
fn more_of_a_dropped_one_leaves_it_where_it_is_in_its_queue() {
    for evicted in [false, true] {
        let mut bed = Bed::new();
        let dropped = bed.open(false, ms(1));
        let next = bed.open(false, ms(2));
        let id = bed.datagrams.find(hash(dropped), &key(dropped), ms(2)).unwrap();
        let fate = Fate::Drop(DropReason::TinyFragment);
        bed.datagrams.set_fate(id, fate);
        assert_eq!(bed.datagrams.add(id, Some(&piece(8, 8, true)), ms(500)), Next::Share(fate));
        if evicted {
            (2..=MOST_DATAGRAMS).for_each(|_| _ = bed.open(false, ms(500)));
        } else {
            bed.datagrams.expire(ms(1001), 1);
        }
        // Nobody looked for it, which would have forgotten it as well.
        assert_eq!(bed.datagrams.len(), if evicted { MOST_DATAGRAMS } else { 1 });
        assert!(bed.has(next, ms(1001)), "evicted: {evicted}");
    }
}

#[test]
fn the_directory_knows_who_has_a_datagram_until_it_is_forgotten() {
    let directory = FlowDirectory::new(1024);
    let mut bed = Bed::new();
    bed.datagrams.share(directory.clone(), 3);
    let number = bed.open(false, ms(1));
    assert_eq!(directory.owner(hash(number)), Some(3));
    bed.datagrams.expire(ms(1000), 8);
    assert_eq!(directory.owner(hash(number)), Some(3));
    bed.datagrams.expire(ms(1001), 8);
    assert_eq!((directory.owner(hash(number)), bed.datagrams.len()), (None, 0));
    // Of one that is dropped nobody has to bring the rest.
    bed.datagrams.open(hash(2), key(2), Fate::Drop(DropReason::TinyFragment), None, ms(2000));
    assert_eq!((directory.owner(hash(2)), bed.datagrams.len()), (None, 1));
}

#[test]
fn a_step_of_forgetting_is_bounded() {
    let mut bed = Bed::new();
    for _ in 0..20 {
        bed.open(false, ms(1));
    }
    for left in [12, 4, 0] {
        bed.datagrams.expire(ms(2000), 8);
        assert_eq!(bed.datagrams.len(), left);
    }
}

#[test]
fn a_kind_that_has_less_than_its_half_takes_the_place_of_the_other() {
    for certain in [false, true] {
        let mut bed = Bed::new();
        let own = bed.open(certain, ms(1));
        let others: Vec<u32> = (1..MOST_DATAGRAMS).map(|_| bed.open(!certain, ms(1))).collect();
        let next = bed.open(certain, ms(1));
        assert!(bed.has(own, ms(1)) && bed.has(next, ms(1)));
        assert!(!bed.has(others[0], ms(1)) && bed.has(others[1], ms(1)));
    }
}

proptest! {
    /// Against a map, with fewer datagrams than there is room for.
    #[test]
    fn datagrams_are_found_until_their_time_is_up(
        steps in proptest::collection::vec((0u32..40, 0u8..5, 0u64..900), 1..200),
    ) {
        let mut datagrams = Datagrams::default();
        // Since when, and which pieces: only one that is new keeps a datagram longer.
        let mut known: HashMap<u32, (u64, HashSet<u64>)> = HashMap::new();
        let mut now = 0;
        for (number, what, later) in steps {
            now += later;
            known.retain(|_, (since, _)| now - *since < LIFE / 1_000_000);
            let found = datagrams.find(hash(number), &key(number), ms(now));
            prop_assert_eq!(found.is_some(), known.contains_key(&number));
            match (found, what) {
                (None, _) => {
                    datagrams.open(hash(number), key(number), forward(), (what == 0).then_some(0), ms(now));
                    known.insert(number, (now, HashSet::new()));
                }
                (Some(id), 0 | 1) => {
                    datagrams.remove(id);
                    known.remove(&number);
                }
                (Some(id), _) => {
                    let place = now % 8000;
                    let next = piece(place as u16 * 8, 8, true);
                    let shared = datagrams.add(id, Some(&next), ms(now));
                    let (since, pieces) = known.get_mut(&number).unwrap();
                    if pieces.insert(place) {
                        *since = now;
                    } else if now - *since >= STALE / 1_000_000 {
                        prop_assert_eq!(shared, Next::Other);
                        known.remove(&number);
                        continue;
                    }
                    prop_assert_eq!(shared, Next::Share(forward()));
                }
            }
            datagrams.expire(ms(now), 1);
            prop_assert!(datagrams.len() <= 40);
        }
        datagrams.expire(ms(now + 1000), 100);
        prop_assert!(datagrams.is_empty());
    }
}
