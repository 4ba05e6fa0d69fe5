use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

/// What a ring is: entries written, entries the consumer may see, entries the producer may overwrite.
#[derive(Default)]
struct Oracle {
    pushed: VecDeque<u64>,
    submitted: VecDeque<u64>,
    unreleased: u32,
}

#[test]
fn sizes_must_be_powers_of_two() {
    for size in [0, 3, 100] {
        assert_eq!(pair::<u64>(size, 0).unwrap_err(), Errno::INVAL);
    }
    assert!(pair::<Descriptor>(1, 0).is_ok());
}

#[test]
fn indices_wrap_around() {
    let (mut producer, mut consumer) = pair::<Descriptor>(8, u32::MAX - 3).unwrap();
    for round in 0..100u64 {
        for entry in 0..8 {
            assert!(producer.push(Descriptor { address: round * 8 + entry, length: 60, options: 0 }));
        }
        assert!(!producer.push(Descriptor::default()));
        assert_eq!(consumer.available(8), 0);
        producer.submit();
        assert!(!producer.is_drained());
        assert_eq!(consumer.available(8), 8);
        for entry in 0..8 {
            assert_eq!(consumer.pop().unwrap().address, round * 8 + entry);
        }
        assert_eq!(consumer.pop(), None);
        assert_eq!(producer.room(8), 0);
        consumer.release();
        assert!(producer.is_drained());
    }
}

#[test]
fn the_wakeup_flag_crosses() {
    let (producer, consumer) = pair::<u64>(8, 0).unwrap();
    assert!(!producer.needs_wakeup());
    consumer.ask_wakeup(true);
    assert!(producer.needs_wakeup());
    consumer.ask_wakeup(false);
    assert!(!producer.needs_wakeup());
}

#[test]
fn a_producer_that_lies_is_not_believed() {
    let (producer, mut consumer) = pair::<u64>(8, 0).unwrap();
    producer.ring.producer().store(1000, Ordering::Relaxed);
    assert_eq!(consumer.available(1), 8);
    assert_eq!(consumer.available(1), 8);
}

#[test]
fn entries_cross_between_threads_in_order() {
    const COUNT: u64 = 200_000;
    let (mut producer, mut consumer) = pair::<u64>(64, u32::MAX - 1000).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut next = 0;
            while next < COUNT {
                while next < COUNT && producer.push(next) {
                    next += 1;
                }
                producer.submit();
                std::thread::yield_now();
            }
        });
        let mut expected = 0;
        while expected < COUNT {
            while let Some(entry) = consumer.pop() {
                assert_eq!(entry, expected);
                expected += 1;
            }
            consumer.release();
            std::thread::yield_now();
        }
    });
}

proptest! {
    /// Random operations on both ends against queues, from indices on both sides of the wrap.
    #[test]
    fn a_ring_is_a_bounded_queue(
        log_size in 0u32..6,
        start in prop_oneof![Just(0), (u32::MAX - 70)..=u32::MAX, any::<u32>()],
        operations in proptest::collection::vec(0u8..12, 0..400),
    ) {
        let size = 1 << log_size;
        let (mut producer, mut consumer) = pair::<u64>(size, start).unwrap();
        let mut oracle = Oracle::default();
        let mut next = 0;
        for operation in operations {
            let in_use = (oracle.pushed.len() + oracle.submitted.len()) as u32 + oracle.unreleased;
            match operation {
                0..5 => {
                    let fits = producer.push(next);
                    prop_assert_eq!(fits, in_use < size);
                    if fits {
                        oracle.pushed.push_back(next);
                        next += 1;
                    }
                }
                5 | 6 => {
                    producer.submit();
                    oracle.submitted.append(&mut oracle.pushed);
                }
                7..10 => {
                    let popped = consumer.pop();
                    prop_assert_eq!(popped, oracle.submitted.pop_front());
                    oracle.unreleased += u32::from(popped.is_some());
                }
                10 => {
                    consumer.release();
                    oracle.unreleased = 0;
                }
                _ => {
                    prop_assert_eq!(producer.room(size), size - in_use);
                    prop_assert_eq!(consumer.available(size), oracle.submitted.len() as u32);
                }
            }
        }
    }
}
