use ringway_shared::Family;

use super::*;

fn key(number: u32) -> Key {
    Key::new([0, 1], [0, 2], Family::V6, 0, number)
}

fn ms(millis: u64) -> Time {
    Time(millis * 1_000_000)
}

fn push(waiting: &mut Waiting<u32>, number: u32, piece: u32, now: u64) -> Result<(), u32> {
    waiting.push(u64::from(number), key(number), piece, ms(now))
}

fn taken(waiting: &mut Waiting<u32>) -> Vec<(u32, Why)> {
    std::iter::from_fn(|| waiting.take()).collect()
}

#[test]
fn a_datagram_goes_in_its_order_when_its_first_came() {
    let mut waiting = Waiting::default();
    for piece in 0..6 {
        assert_eq!(push(&mut waiting, piece % 2, piece, 1), Ok(()));
    }
    waiting.settle(9, &key(0));
    waiting.settle(0, &key(9));
    assert!(!waiting.is_ready(), "neither the hash alone nor the key alone");
    waiting.settle(1, &key(1));
    assert_eq!(taken(&mut waiting), [1, 3, 5].map(|piece| (piece, Why::FirstCame)));
    assert_eq!((waiting.len(), waiting.waits()), (3, true));
    waiting.look_elsewhere(|hash| (hash == 0).then_some(7));
    assert_eq!(taken(&mut waiting), [0, 2, 4].map(|piece| (piece, Why::Elsewhere(7))));
    assert!(waiting.is_empty() && !waiting.waits());
}

#[test]
fn who_waits_for_a_second_waits_no_more() {
    let mut waiting = Waiting::default();
    assert_eq!(push(&mut waiting, 1, 10, 5), Ok(()));
    assert_eq!(push(&mut waiting, 2, 20, 300), Ok(()));
    assert_eq!(push(&mut waiting, 1, 11, 1004), Ok(()));
    waiting.expire(ms(1004));
    assert!(!waiting.is_ready());
    waiting.expire(ms(1005));
    assert_eq!(taken(&mut waiting), [(10, Why::TooLate), (11, Why::TooLate)]);
    waiting.expire(ms(1299));
    assert!(!waiting.is_ready());
    waiting.expire(ms(1300));
    assert_eq!(taken(&mut waiting), [(20, Why::TooLate)]);
    // The next one begins anew.
    assert_eq!(push(&mut waiting, 1, 12, 1500), Ok(()));
    waiting.expire(ms(2499));
    assert!(!waiting.is_ready());
    waiting.end();
    assert_eq!(taken(&mut waiting), [(12, Why::TooLate)]);
}

#[test]
fn the_oldest_gives_way_and_no_bound_is_passed() {
    let mut waiting = Waiting::default();
    let most = MOST_WAITING as u32;
    for number in 0..most {
        assert_eq!(push(&mut waiting, number, number, 1), Ok(()));
    }
    // One that has more does not get older.
    assert_eq!(push(&mut waiting, 0, 1000, 2), Ok(()));
    assert_eq!(push(&mut waiting, most, most, 2), Ok(()));
    assert_eq!(taken(&mut waiting), [(0, Why::TooLate), (1000, Why::TooLate)]);
    assert_eq!(waiting.len(), MOST_WAITING);

    let mut waiting = Waiting::default();
    let of_one = u32::from(MOST_OF_ONE);
    for piece in 0..of_one {
        assert_eq!(push(&mut waiting, 1, piece, 1), Ok(()));
    }
    assert_eq!(push(&mut waiting, 1, 99, 1), Err(99));
    for number in 2..=8 {
        for piece in 0..of_one {
            assert_eq!(push(&mut waiting, number, piece, 1), Ok(()));
        }
    }
    assert_eq!(waiting.len(), MOST_PIECES);
    // Those that go first have to leave.
    assert_eq!(push(&mut waiting, 9, 0, 1), Err(0));
    assert_eq!(push(&mut waiting, 9, 0, 1), Err(0));
    assert_eq!(waiting.len(), MOST_PIECES);
    assert_eq!(taken(&mut waiting).len(), of_one as usize, "one datagram only");
    assert_eq!(push(&mut waiting, 9, 0, 1), Ok(()));
}

#[test]
fn places_are_used_again() {
    let mut waiting = Waiting::default();
    for round in 0..3000u32 {
        for number in 0..3 {
            assert_eq!(push(&mut waiting, round + number, round, u64::from(round)), Ok(()));
        }
        for number in 0..3 {
            waiting.settle(u64::from(round + number), &key(round + number));
        }
        assert_eq!(taken(&mut waiting).len(), 3);
    }
    assert!(waiting.is_empty());
}
