//! Silence, fullness and the clock's wrap.

use super::*;
use std::time::Duration;

use ringway_dataplane::flow::OpenError;

/// Milliseconds that the end of a flow may be late: the order of the queues is exact to a second.
const LATE: u64 = 1300;

/// Runs the clock from `from` to `to` milliseconds as a worker does.
fn run(table: &mut FlowTable, from: u64, to: u64) -> u32 {
    (from / 100..=to / 100).map(|tenth| table.expire(millis(tenth * 100), 64)).sum()
}

/// Makes a freshly opened UDP flow a conversation, last heard of 2 s after `from` milliseconds.
fn converse(table: &mut FlowTable, id: FlowId, from: u64) {
    table.advance(id, Direction::Reply, &Segment::default(), millis(from));
    let last = table.advance(id, Direction::Original, &Segment::default(), millis(from + 2_000));
    assert_eq!(last, State::UdpReplied);
}

#[test]
fn each_state_has_its_timeout() {
    type Prepare = fn(&mut FlowTable, FlowId);
    let rows: [(&str, Protocol, u64, Prepare); 11] = [
        ("half-open", Protocol::Tcp, 30, |_, _| {}),
        ("picked up and answered", Protocol::Tcp, 30, |table, id| {
            table.advance(id, Direction::Original, &client(ACK, 1, 1), seconds(0));
            table.advance(id, Direction::Reply, &endpoint(ACK, 9, 1), seconds(0));
        }),
        ("established", Protocol::Tcp, 8000, |table, id| establish(table, id, seconds(0))),
        ("closing", Protocol::Tcp, 120, |table, id| {
            establish(table, id, seconds(0));
            table.advance(id, Direction::Reply, &endpoint(FIN, 0, 0), seconds(0));
        }),
        ("doubted", Protocol::Tcp, 8000, |table, id| {
            establish(table, id, seconds(0));
            table.advance(id, Direction::Reply, &endpoint(RST, 1, 0), seconds(0));
        }),
        ("closed", Protocol::Tcp, 10, |table, id| {
            establish(table, id, seconds(0));
            close(table, id, seconds(0));
        }),
        ("unreplied UDP", Protocol::Udp, 60, |_, _| {}),
        ("answered UDP", Protocol::Udp, 120, |table, id| {
            table.advance(id, Direction::Reply, &Segment::default(), seconds(0));
        }),
        ("UDP", Protocol::Udp, 120, |table, id| converse(table, id, 0)),
        ("unreplied SCTP", Protocol::Sctp, 60, |_, _| {}),
        ("SCTP", Protocol::Sctp, 210, |table, id| associate(table, id, seconds(0))),
    ];
    for (name, protocol, timeout, prepare) in rows {
        // Whether or not anybody used it meanwhile.
        for again in [0, 4, 9] {
            let mut table = table(8);
            let new = masqueraded(protocol, "10.0.0.9:4000");
            let id = table.open(&new, seconds(0)).unwrap().id;
            prepare(&mut table, id);
            let state = table.flow(id).state();
            let again = again + u64::from(table.flow(id).last_seen() / 1000);
            assert_eq!(run(&mut table, 0, again * 1000), 0, "{name}");
            if again > u64::from(table.flow(id).last_seen() / 1000) {
                // A packet that is no news.
                let (direction, segment) = match state {
                    State::Doubted => (Direction::Reply, endpoint(RST, 1, 0)),
                    State::UdpAnswered => (Direction::Reply, Segment::default()),
                    State::SynSent => (Direction::Original, syn()),
                    _ => (Direction::Original, client(ACK, 1, 1)),
                };
                assert_eq!(table.advance(id, direction, &segment, seconds(again)), state, "{name}");
            }
            let end = (again + timeout) * 1000;
            assert!(table.lookup(&new.original, millis(end - 1)).is_some(), "{name}");
            // The end is exact for packets, and a little late for the record.
            assert_eq!(table.lookup(&new.original, millis(end)), None, "{name}");
            assert_eq!(run(&mut table, again * 1000, end - 1), 0, "{name}");
            assert_eq!(run(&mut table, end, end + LATE), 1, "{name}");
            assert_eq!(table.len(), 0, "{name}");
        }
    }
}

#[test]
fn a_packet_after_the_end_opens_a_new_flow_even_before_expiry() {
    let mut table = table(8);
    let new = masqueraded(Protocol::Udp, "10.0.0.9:4000");
    table.open(&new, seconds(0)).unwrap();
    assert!(matches!(table.open(&new, seconds(59)), Err(OpenError::Exists(_))));
    table.open(&new, seconds(60)).unwrap();
    assert_eq!((table.len(), table.statistics().opened), (1, 2));
}

#[test]
fn expiry_is_bounded() {
    let mut table = FlowTable::new(&config(10_000, 1024..=65535));
    for n in 0..10_000 {
        let client = format!("10.0.{}.{}:4000", n / 250, n % 250);
        let id = table.open(&masqueraded(Protocol::Udp, &client), seconds(1)).unwrap().id;
        if n % 2 == 0 {
            table.advance(id, Direction::Reply, &Segment::default(), seconds(1));
        }
    }
    let mut left = 10_000;
    let mut calls = 0;
    while left > 0 {
        let ended = table.expire(seconds(1000), 37);
        assert!(ended <= 37);
        left -= ended;
        assert_eq!(table.len(), left);
        calls += 1;
    }
    assert_eq!(calls, 10_000_u32.div_ceil(37));
    assert_eq!(table.expire(seconds(1000), 0), 0);
}

/// A stream that nobody answers keeps coming; it must neither end nor keep others from ending.
#[test]
fn a_one_way_stream_holds_nobody_up() {
    let mut table = table(8);
    let stream = kept(Protocol::Udp, "10.0.0.1:1");
    let id = table.open(&stream, seconds(0)).unwrap().id;
    for n in 0..200u64 {
        let now = millis(n * 800);
        table.expire(now, 8);
        if n == 1 {
            table.open(&kept(Protocol::Udp, "10.0.0.2:2"), now).unwrap();
        }
        table.advance(id, Direction::Original, &Segment::default(), now);
        match n {
            1..76 => assert_eq!(table.len(), 2, "at {now:?}"),
            76..80 => {}
            _ => assert_eq!(table.len(), 1, "at {now:?}"),
        }
    }
    assert!(table.lookup(&stream.original, seconds(160)).is_some());
}

#[test]
fn the_clock_may_wrap_and_jump() {
    // Milliseconds of records wrap after 49.7 days.
    let wrap = 1u64 << 32;
    for start in [wrap - 5_000, 3 * wrap - 40_000, wrap / 2 - 10_000, 7 * wrap + 123_456_789] {
        let mut table = table(8);
        let replied = masqueraded(Protocol::Udp, "10.0.0.9:4000");
        let id = table.open(&replied, millis(start)).unwrap().id;
        converse(&mut table, id, start - 2_000);
        table.open(&masqueraded(Protocol::Tcp, "10.0.0.9:4001"), millis(start)).unwrap();
        assert_eq!(run(&mut table, start, start + 29_999), 0);
        assert_eq!(run(&mut table, start + 30_000, start + 119_900), 1);
        assert_eq!(run(&mut table, start + 120_000, start + 120_000 + LATE), 1);
        // A capture with a gap: days later everything is due at once.
        let id = table.open(&replied, millis(start + 130_000)).unwrap().id;
        converse(&mut table, id, start + 128_000);
        assert_eq!(table.expire(millis(start + 130_000 + 5 * 86_400_000), 100), 1);
    }
}

#[test]
fn a_full_table_lets_go_of_the_least_useful() {
    let mut table = table(6);
    let open =
        |table: &mut FlowTable, n: u32, at: u64| table.open(&kept(Protocol::Tcp, &format!("10.0.0.9:{n}")), millis(at));
    let established = open(&mut table, 1, 0).unwrap().id;
    establish(&mut table, established, millis(0));
    let old_half_open = open(&mut table, 2, 0).unwrap().id;
    let unreplied = table.open(&kept(Protocol::Udp, "10.0.0.9:3"), millis(2000)).unwrap().id;
    let picked_up = NewFlow { segment: client(ACK, 5, 5), ..kept(Protocol::Tcp, "10.0.0.9:4") };
    let picked_up = table.open(&picked_up, millis(4000)).unwrap().id;
    let closing = open(&mut table, 5, 4500).unwrap().id;
    establish(&mut table, closing, millis(4500));
    table.advance(closing, Direction::Reply, &endpoint(FIN, 0, 0), millis(4500));
    let closed = open(&mut table, 6, 5000).unwrap().id;
    establish(&mut table, closed, millis(5000));
    close(&mut table, closed, millis(5000));
    // The old half-open one repeats its SYN: now it is the youngest of its kind.
    table.advance(old_half_open, Direction::Original, &syn(), millis(6000));
    assert_eq!(table.half_open_len(), 3);
    // Newcomers take their places one after the other, and get established.
    let expected = [State::Closed, State::UdpUnreplied, State::PickedUp, State::SynSent];
    for (n, expected) in (10..).zip(expected) {
        let opened = open(&mut table, n, 8000).unwrap();
        assert_eq!(opened.evicted, Some(expected));
        assert_eq!(table.len(), 6);
        establish(&mut table, opened.id, millis(8000));
    }
    assert_eq!(open(&mut table, 20, 8000), Err(OpenError::TableFull));
    assert_eq!(table.statistics().evicted, 4);
    assert_eq!(table.flow(established).original().source_port(), 1);
    assert_eq!(table.flow(closing).original().source_port(), 5);
    let _ = (unreplied, picked_up);
}

/// Of the flows that an endpoint has answered, those that may be forged go before conversations, and of these the one that
/// has been silent for long.
#[test]
fn a_full_table_lets_go_of_conversations_last() {
    let mut table = table(40);
    let mut client = 0;
    let mut open = |table: &mut FlowTable, protocol, at| {
        client += 1;
        let opened = table.open(&kept(protocol, &format!("10.0.0.9:{client}")), millis(at)).unwrap();
        (opened.id, opened.evicted)
    };
    let conversations: Vec<_> = (0..30)
        .map(|_| {
            let id = open(&mut table, Protocol::Udp, 0).0;
            converse(&mut table, id, 0);
            id
        })
        .collect();
    let answered = open(&mut table, Protocol::Udp, 2_000).0;
    table.advance(answered, Direction::Reply, &Segment::default(), millis(2_000));
    let doubted = open(&mut table, Protocol::Tcp, 2_500).0;
    establish(&mut table, doubted, millis(2_500));
    assert_eq!(table.advance(doubted, Direction::Reply, &endpoint(RST, 1, 0), millis(2_500)), State::Doubted);
    for _ in 0..8 {
        let id = open(&mut table, Protocol::Tcp, 3_000).0;
        establish(&mut table, id, millis(3_000));
    }
    // All but the third are used again.
    for (n, id) in conversations.iter().enumerate().filter(|(n, _)| *n != 2) {
        table.advance(*id, Direction::Reply, &Segment::default(), millis(3_000 + n as u64));
    }
    let silent = *table.flow(conversations[2]);
    for n in 0..32 {
        let (id, evicted) = open(&mut table, Protocol::Tcp, 7_000);
        let expected = [State::Doubted, State::UdpAnswered].get(n).copied().unwrap_or(State::UdpReplied);
        assert_eq!(evicted, Some(expected), "newcomer {n}");
        assert_eq!(table.lookup(&silent.original(), millis(7_000)).is_some(), n < 2, "newcomer {n}");
        establish(&mut table, id, millis(7_000));
    }
    let full = table.open(&kept(Protocol::Tcp, "10.0.0.9:999"), millis(7_000));
    assert_eq!(full, Err(OpenError::TableFull));
}

#[test]
fn a_syn_flood_costs_established_flows_nothing() {
    let mut table = FlowTable::new(&config(1000, 1024..=65535));
    let established: Vec<_> = (0..500)
        .map(|n| {
            let new = masqueraded(Protocol::Tcp, &format!("10.0.{}.{}:4000", n / 250, n % 250));
            let id = table.open(&new, millis(0)).unwrap().id;
            establish(&mut table, id, millis(0));
            (new.original, id)
        })
        .collect();
    for n in 0..50_000u32 {
        let flood = masqueraded(Protocol::Tcp, &format!("198.18.{}.{}:{}", n / 200 % 256, n % 200, 1000 + n % 60_000));
        table.open(&flood, millis(1 + u64::from(n) / 100)).unwrap();
        table.expire(millis(1 + u64::from(n) / 100), 8);
    }
    for (original, id) in established {
        assert_eq!(table.lookup(&original, millis(600)), Some((id, Direction::Original)));
    }
    assert_eq!((table.len(), table.half_open_len()), (1000, 500));
}

#[test]
fn other_timeouts_hold_for_the_flows_there_are() {
    let opened = |table: &mut FlowTable| {
        let tcp = table.open(&masqueraded(Protocol::Tcp, "10.0.0.9:4000"), seconds(0)).unwrap().id;
        establish(table, tcp, seconds(0));
        let udp = table.open(&masqueraded(Protocol::Udp, "10.0.0.9:4000"), seconds(0)).unwrap().id;
        table.advance(udp, Direction::Reply, &Segment::default(), seconds(0));
    };
    let all = |timeout: u64| Timeouts {
        tcp_established: Duration::from_secs(timeout),
        udp: Duration::from_secs(timeout),
        ..Timeouts::default()
    };
    // Shorter: what is over by them ends at once, the rest at its new end. A wheel's turn is 262 s.
    for (timeout, changed) in [(5, 10), (20, 10), (300, 10)] {
        let mut table = table(8);
        opened(&mut table);
        assert_eq!(run(&mut table, 0, changed * 1000), 0, "{timeout}");
        table.set_timeouts(&all(timeout), seconds(changed));
        let end = changed.max(timeout) * 1000;
        assert_eq!(run(&mut table, changed * 1000, end - 100), 0, "{timeout}");
        assert_eq!(run(&mut table, end, end + LATE), 2, "{timeout}");
    }
    // Longer: nothing ends at its old end.
    let mut table = table(8);
    table.set_timeouts(&all(30), seconds(0));
    opened(&mut table);
    assert_eq!(run(&mut table, 0, 29_900), 0);
    table.set_timeouts(&all(90), millis(29_900));
    assert_eq!(run(&mut table, 29_900, 89_900), 0);
    assert_eq!(run(&mut table, 90_000, 90_000 + LATE), 2);
}
