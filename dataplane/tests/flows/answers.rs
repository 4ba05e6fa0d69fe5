//! What is counted of an endpoint's answers, and what is not.

use super::ports::open;
use super::*;
use ringway_shared::answers::{Answers, Silence};
use ringway_shared::counters::WorkerCounters;
use std::sync::Arc;

const BACKEND: BackendId = BackendId(5);

fn watched(ports: u16) -> (FlowTable, Arc<WorkerCounters>) {
    let mut table = FlowTable::new(&config(64, 61000..=60999 + ports));
    let counters = WorkerCounters::new(8);
    table.watch(counters.clone());
    (table, counters)
}

fn run(table: &mut FlowTable, to: u64) {
    (0..=to).for_each(|second| {
        table.expire(seconds(second), 64);
    });
}

fn answers(counters: &Arc<WorkerCounters>) -> (u64, u64, u64) {
    let Answers { answered, unanswered, refused, .. } = counters.backend(BACKEND).answers;
    (answered, unanswered, refused)
}

#[test]
fn every_syn_is_answered_refused_or_neither() {
    let (mut table, counters) = watched(8);
    let ids: Vec<_> = (1..=3).map(|client| open(&mut table, Protocol::Tcp, client, seconds(0)).0).collect();
    // The first client repeats its SYN, at once (which says nothing) and as TCP does.
    for at in [1, 1_000, 3_000] {
        table.advance(ids[0], Direction::Original, &syn(), millis(at));
    }
    assert_eq!(answers(&counters), (0, 2, 0));
    table.advance(ids[1], Direction::Reply, &endpoint(RST | ACK, 0, 0), millis(3_001));
    assert_eq!(answers(&counters), (0, 2, 1));
    let silence = WorkerCounters::silence(std::slice::from_ref(&counters), BACKEND);
    assert_eq!(silence, Silence { failed: 3, refused: 1, failed_at: millis(3_001).millis() });
    table.advance(ids[2], Direction::Reply, &syn_ack(), millis(3_020));
    table.advance(ids[2], Direction::Reply, &syn_ack(), millis(4_020));
    assert_eq!(answers(&counters), (1, 2, 1));
    assert_eq!(WorkerCounters::silence(std::slice::from_ref(&counters), BACKEND), Silence::default());
    let told = counters.backend(BACKEND).answers;
    assert_eq!((told.handshakes, told.handshake_millis), ([0, 0, 0, 0, 0, 0, 1], 3_020));
    // Then the first flow ends, its last SYN unanswered; that of the third, which was answered, is no failure.
    run(&mut table, 60);
    assert!(table.is_empty());
    assert_eq!(answers(&counters), (1, 3, 1));
    // An answer to one of several SYNs has no time.
    let (id, _) = open(&mut table, Protocol::Tcp, 4, seconds(70));
    table.advance(id, Direction::Original, &syn(), seconds(71));
    table.advance(id, Direction::Reply, &syn_ack(), seconds(71));
    assert_eq!(answers(&counters), (2, 4, 1));
    assert_eq!(counters.backend(BACKEND).answers.handshakes.iter().sum::<u64>(), 1);
}

#[test]
fn datagrams_are_answered_or_not() {
    let (mut table, counters) = watched(8);
    let (answered, _) = open(&mut table, Protocol::Udp, 1, seconds(0));
    open(&mut table, Protocol::Udp, 2, seconds(0));
    table.advance(answered, Direction::Reply, &Segment::default(), seconds(1));
    table.advance(answered, Direction::Reply, &Segment::default(), seconds(2));
    assert_eq!(answers(&counters), (1, 0, 0));
    run(&mut table, 200);
    assert!(table.is_empty());
    assert_eq!(answers(&counters), (1, 1, 0));
}

/// A dead endpoint is seen long before the first of its flows times out, however clients go about it: each request from a
/// port of its own, or all from one.
#[test]
fn datagrams_are_unanswered_after_three_seconds() {
    let (mut table, counters) = watched(8);
    let (once, _) = open(&mut table, Protocol::Udp, 1, seconds(0));
    let (again, _) = open(&mut table, Protocol::Udp, 2, seconds(0));
    let mut counted = Vec::new();
    for at in (0..=10_000).step_by(100) {
        if at % 500 == 0 {
            table.advance(again, Direction::Original, &Segment::default(), millis(at));
        }
        table.expire(millis(at), 64);
        counted.push(answers(&counters).1);
    }
    let seen = |at: usize| counted[at / 100];
    assert_eq!([seen(2_900), seen(3_000), seen(4_000), seen(7_500), seen(10_000)], [0, 1, 2, 3, 4], "{counted:?}");
    // What comes later than that is an answer, and there is another question after it.
    table.advance(once, Direction::Reply, &Segment::default(), millis(10_001));
    assert_eq!(table.flow(once).state(), State::UdpAnswered);
    assert_eq!(WorkerCounters::silence(std::slice::from_ref(&counters), BACKEND), Silence::default());
    assert_eq!(answers(&counters), (1, 4, 0));
    // The end of a flow that is judged already is nothing new; that of another is.
    run(&mut table, 400);
    assert!(table.is_empty());
    assert_eq!(answers(&counters), (1, 5, 0));
}

#[test]
fn a_question_after_an_unanswered_one_is_another() {
    let (mut table, counters) = watched(8);
    let (id, _) = open(&mut table, Protocol::Udp, 1, seconds(0));
    for (at, unanswered) in [(2, 0), (3, 1), (20, 1)] {
        table.expire(seconds(at), 64);
        assert_eq!(answers(&counters), (0, unanswered, 0), "{at} s");
    }
    assert_eq!(table.flow(id).state(), State::UdpUnanswered);
    assert_eq!(table.advance(id, Direction::Original, &Segment::default(), seconds(20)), State::UdpUnreplied);
    // Its time begins with the first of its datagrams.
    table.advance(id, Direction::Original, &Segment::default(), seconds(21));
    for (at, unanswered) in [(23, 1), (24, 2), (80, 2)] {
        table.expire(seconds(at), 64);
        assert_eq!(answers(&counters), (0, unanswered, 0), "{at} s");
    }
    assert_eq!(table.len(), 1, "its time is the client's last datagram's");
    run(&mut table, 90);
    assert_eq!((table.len(), answers(&counters)), (0, (0, 2, 0)));
}

#[test]
fn an_association_is_refused_by_abort_and_unanswered_when_its_init_comes_again() {
    let (mut table, counters) = watched(8);
    let init = Segment { chunk: 1, acknowledgment: 7, ..Segment::default() };
    let abort = Segment { chunk: 6, sequence: 7, ..Segment::default() };
    let [refused, silent, copied, erring, answering] = [1, 2, 3, 4, 5].map(|client| {
        let new = NewFlow { segment: init, ..masqueraded(Protocol::Sctp, &format!("10.0.0.9:{client}")) };
        table.open(&new, seconds(0)).unwrap().id
    });
    table.advance(refused, Direction::Reply, &abort, seconds(0));
    assert_eq!(answers(&counters), (0, 0, 1));
    for at in [3, 9] {
        table.advance(silent, Direction::Original, &init, seconds(at));
    }
    assert_eq!(answers(&counters), (0, 2, 1));
    // What did not begin with an INIT may be anybody's.
    let (unasked, _) = open(&mut table, Protocol::Sctp, 6, seconds(9));
    table.refuse(unasked, seconds(9));
    table.advance(unasked, Direction::Reply, &abort, seconds(9));
    assert_eq!(answers(&counters), (0, 2, 1));
    // A copy at once says nothing, an INIT that is acknowledged may be repeated, and an error tells of one INIT.
    let acknowledged = Segment { chunk: 2, sequence: 7, acknowledgment: 9, ..Segment::default() };
    table.advance(copied, Direction::Original, &init, millis(100));
    table.advance(answering, Direction::Reply, &acknowledged, seconds(0));
    table.advance(answering, Direction::Original, &init, seconds(3));
    assert_eq!(answers(&counters), (0, 2, 1));
    (0..2).for_each(|_| table.refuse(erring, seconds(0)));
    table.advance(erring, Direction::Original, &init, seconds(3));
    assert_eq!(answers(&counters), (0, 2, 2));
    table.advance(erring, Direction::Original, &init, seconds(9));
    assert_eq!(answers(&counters), (0, 3, 2));
}

/// ICMP errors about what the client sent: each counts once, and not as silence, too.
#[test]
fn what_an_error_refuses_is_refused_and_not_unanswered() {
    let (mut table, counters) = watched(8);
    let (udp, _) = open(&mut table, Protocol::Udp, 1, seconds(0));
    let (tcp, _) = open(&mut table, Protocol::Tcp, 2, seconds(0));
    for _ in 0..3 {
        table.refuse(udp, seconds(0));
        table.refuse(tcp, seconds(0));
    }
    assert_eq!(answers(&counters), (0, 0, 2));
    table.advance(tcp, Direction::Original, &syn(), seconds(1));
    table.expire(seconds(3), 64);
    assert_eq!(answers(&counters), (0, 0, 2));
    // The next question of both is another.
    table.advance(tcp, Direction::Original, &syn(), seconds(3));
    table.advance(udp, Direction::Original, &Segment::default(), seconds(4));
    table.expire(seconds(7), 64);
    assert_eq!(answers(&counters), (0, 2, 2));
    // Also where the client goes on all the time, so that it is never silent for three seconds.
    let (busy, _) = open(&mut table, Protocol::Udp, 3, seconds(7));
    table.refuse(busy, seconds(7));
    for (at, unanswered) in [(8, 2), (9, 2), (10, 2), (11, 2), (12, 2), (13, 3)] {
        table.advance(busy, Direction::Original, &Segment::default(), seconds(at));
        assert_eq!(answers(&counters), (0, unanswered, 3), "{at} s");
    }
    establish(&mut table, tcp, seconds(14));
    table.refuse(tcp, seconds(15));
    assert_eq!(table.flow(tcp).state(), State::Established);
    assert_eq!(answers(&counters), (1, 3, 3));
}

/// Anybody can write an error who knows or guesses the ports.
#[test]
fn an_error_says_nothing_of_a_conversation() {
    let (mut table, counters) = watched(8);
    let (id, _) = open(&mut table, Protocol::Udp, 1, seconds(0));
    let original = table.flow(id).original();
    table.advance(id, Direction::Reply, &Segment::default(), seconds(0));
    table.refuse(id, seconds(1));
    assert_eq!((table.flow(id).state(), answers(&counters)), (State::UdpAnswered, (1, 0, 0)));
    for at in 1..4 {
        table.advance(id, Direction::Original, &Segment::default(), seconds(at));
    }
    for at in 4..100 {
        table.refuse(id, seconds(at));
        table.expire(seconds(at), 64);
        assert_eq!((table.flow(id).state(), answers(&counters)), (State::UdpReplied, (1, 0, 0)));
    }
    assert_eq!(WorkerCounters::silence(std::slice::from_ref(&counters), BACKEND), Silence::default());
    run(&mut table, 3 + 119);
    assert!(table.lookup(&original, seconds(3 + 119)).is_some());
    run(&mut table, 3 + 121);
    assert!(table.lookup(&original, seconds(3 + 121)).is_none(), "an error keeps nothing alive");
}

/// Forged SYNs push each other out before anybody could have answered: the endpoint is not to blame.
#[test]
fn what_gives_way_young_is_not_counted() {
    let (mut table, counters) = watched(2);
    for client in 1..1000 {
        open(&mut table, Protocol::Tcp, client, millis(u64::from(client)));
    }
    assert_eq!(table.statistics().ports_reclaimed, 997);
    assert_eq!(answers(&counters), (0, 0, 0));
    assert_eq!(WorkerCounters::silence(&[counters], BACKEND), Silence::default());
}
