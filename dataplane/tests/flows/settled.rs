//! UDP ports: whose answer may be under way keeps its port, and so do conversations, as far as there is room.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};

fn datagram(table: &mut FlowTable, id: FlowId, direction: Direction, now: u64) -> State {
    table.advance(id, direction, &Segment::default(), millis(now))
}

fn client_of(number: u32) -> NewFlow {
    masqueraded(Protocol::Udp, &format!("10.{}.0.9:{}", number / 60_000, 1 + number % 60_000))
}

/// An endpoint that answers datagrams late, and clients who get the answers, or do not.
struct Exchange {
    table: FlowTable,
    // What comes when: the reply's tuple, and who asked.
    answers: BTreeMap<(u64, u32), (FiveTuple, FiveTuple)>,
    asked: u32,
    delay: u64,
    // Of which an answer consists.
    datagrams: u32,
    now: u64,
}

impl Exchange {
    fn new(capacity: u32, ports: std::ops::RangeInclusive<u16>, delay: u64, unreplied: u64) -> Self {
        let mut config = config(capacity, ports);
        config.timeouts.udp_unreplied = std::time::Duration::from_millis(unreplied);
        Exchange {
            table: FlowTable::new(&config),
            answers: BTreeMap::new(),
            asked: 0,
            delay,
            datagrams: 1,
            now: 1_000_000,
        }
    }

    /// Time goes on; answers reach the flows that have their tuples, which must be those that asked.
    fn wait(&mut self, time: u64) {
        let until = self.now + time;
        while let Some(entry) = self.answers.first_entry()
            && entry.key().0 <= until
        {
            self.now = entry.key().0;
            let (reply, original) = entry.remove();
            if let Some((id, direction)) = self.table.lookup(&reply, millis(self.now)) {
                assert_eq!(direction, Direction::Reply);
                assert_eq!(self.table.flow(id).original(), original, "an answer reaches somebody else at {}", self.now);
                datagram(&mut self.table, id, direction, self.now);
            }
        }
        self.now = until;
    }

    fn ask(&mut self, id: FlowId, answered: bool) {
        let (flow, at) = (self.table.flow(id), self.now + self.delay);
        for _ in 0..if answered { self.datagrams } else { 0 } {
            self.asked += 1;
            self.answers.insert((at, self.asked), (flow.reply(), flow.original()));
        }
    }

    fn open(&mut self, number: u32, answered: bool) -> Result<Option<State>, OpenError> {
        let opened = open_as_told(&mut self.table, &client_of(number), millis(self.now))?;
        self.ask(opened.id, answered);
        Ok(opened.reclaimed)
    }

    /// The flow of this client, if it has one, sends again.
    fn go_on(&mut self, number: u32, answered: bool) {
        if let Some((id, _)) = self.table.lookup(&client_of(number).original, millis(self.now)) {
            datagram(&mut self.table, id, Direction::Original, self.now);
            self.ask(id, answered);
        }
    }

    fn state(&self, number: u32) -> Option<State> {
        let found = self.table.lookup(&client_of(number).original, millis(self.now));
        found.map(|(id, _)| self.table.flow(id).state())
    }
}

/// More clients than ports, at an endpoint that takes a second.
#[test]
fn a_slow_answer_reaches_whoever_asked() {
    let mut exchange = Exchange::new(64, 1000..=1009, 1_000, 60_000);
    let opened = |exchange: &mut Exchange| (0..15).filter(|n| exchange.open(*n, true).is_ok()).count();
    assert_eq!(opened(&mut exchange), 10, "five have to ask again");
    exchange.wait(1_300);
    let states: Vec<_> = (0..15).map(|number| exchange.state(number)).collect();
    assert_eq!(states.iter().filter(|state| **state == Some(State::UdpAnswered)).count(), 10, "{states:?}");
    // Whoever was answered needs the port no more.
    assert_eq!((10..15).filter(|number| exchange.open(*number, true).is_ok()).count(), 5);
    exchange.wait(1_300);
    assert_eq!((10..15).filter(|number| exchange.state(*number) == Some(State::UdpAnswered)).count(), 5);
}

/// How long an unanswered flow keeps its port from others is learned from the endpoint.
#[test]
fn a_quick_endpoint_frees_ports_sooner() {
    let mut exchange = Exchange::new(64, 1000..=1003, 10, 60_000);
    (0..4).for_each(|number| assert_eq!(exchange.open(number, false), Ok(None)));
    exchange.wait(2_900);
    assert_eq!(exchange.open(4, true), Err(OpenError::PortsExhausted));
    exchange.wait(100);
    assert_eq!(exchange.open(4, true), Ok(Some(State::UdpUnreplied)));
    exchange.wait(50);
    assert_eq!(exchange.state(4), Some(State::UdpAnswered));
    // Now it is known to answer within 10 ms.
    assert_eq!(exchange.open(5, false), Ok(Some(State::UdpUnreplied)));
    assert_eq!(exchange.open(6, false), Ok(Some(State::UdpUnreplied)));
    exchange.wait(240);
    (7..10).for_each(|number| assert!(exchange.open(number, false).is_err() == (number > 8), "{number}"));
}

/// A resolver answers what it knows at once, and its clients repeat what takes longer: the slow answers count all the same.
#[test]
fn an_answer_to_a_repeated_question_may_be_one_to_the_first() {
    let mut exchange = Exchange::new(64, 1000..=1001, 2, 60_000);
    assert_eq!(exchange.open(0, true), Ok(None));
    exchange.wait(1_000);
    exchange.delay = 2_500;
    exchange.open(1, true).unwrap();
    exchange.wait(1_000);
    exchange.go_on(1, true);
    exchange.wait(10_000);
    // Now it is known how long that can take.
    exchange.open(2, true).unwrap();
    exchange.wait(1_000);
    exchange.go_on(2, true);
    exchange.open(3, false).unwrap();
    exchange.wait(400);
    assert_eq!(exchange.open(4, false), Err(OpenError::PortsExhausted));
    exchange.wait(10_000);
}

/// As many datagrams as there were questions are no answer to each of them.
#[test]
fn an_answer_of_two_datagrams_is_one_answer() {
    let mut exchange = Exchange::new(64, 1000..=1000, 1_000, 60_000);
    exchange.datagrams = 2;
    assert_eq!(exchange.open(0, true), Ok(None));
    exchange.wait(600);
    exchange.go_on(0, true);
    exchange.wait(700);
    assert_eq!(exchange.open(1, true), Err(OpenError::PortsExhausted));
    exchange.wait(3_000);
    assert_eq!(exchange.open(1, true), Ok(Some(State::UdpAnswered)));
}

/// A flow that goes on and on at the front of its list keeps nobody out.
#[test]
fn one_flow_that_goes_on_hides_no_others() {
    let mut exchange = Exchange::new(64, 1000..=1007, 1, 60_000);
    exchange.now = 1024 * 1000;
    assert_eq!(exchange.open(0, true), Ok(None));
    exchange.wait(10);
    for number in 1..8 {
        assert_eq!(exchange.open(number, false), Ok(None));
    }
    for _ in 0..9 {
        exchange.wait(100);
        (1..3).for_each(|number| exchange.go_on(number, false));
    }
    for number in 20..25 {
        exchange.open(number, false).unwrap();
    }
    assert_eq!([1, 2].map(|number| exchange.state(number)), [Some(State::UdpUnreplied); 2]);
}

/// Whatever opens, and however much: half of the ports are safe for conversations with pauses; and no more than that, or they
/// would keep all others out.
#[test]
fn conversations_with_pauses_keep_their_ports_in_a_flood() {
    for answered in [false, true] {
        let mut exchange = Exchange::new(8192, 1000..=1999, 1, 60_000);
        for number in 0..500 {
            exchange.open(number, true).unwrap();
        }
        for _ in 0..3 {
            exchange.wait(1_500);
            (0..500).for_each(|number| exchange.go_on(number, true));
        }
        // Three times as many openings a second as there are ports left, for ten times as long as a pause.
        let mut failed = 0;
        for number in 1_000..31_000 {
            failed += u32::from(exchange.open(number, answered).is_err());
            if number % 3 == 0 {
                exchange.wait(2);
            }
        }
        assert!((0..500).all(|number| exchange.state(number) == Some(State::UdpReplied)), "answered: {answered}");
        assert_eq!(failed, 0, "500 ports for 1,500 openings a second, 250 ms each; answered: {answered}");
    }
    let mut exchange = Exchange::new(8192, 1000..=1007, 1, 60_000);
    (0..8).for_each(|number| assert_eq!(exchange.open(number, true), Ok(None)));
    for _ in 0..2 {
        exchange.wait(2_500);
        (0..8).for_each(|number| exchange.go_on(number, true));
    }
    exchange.wait(1_000);
    let taken: Vec<_> = (8..16).map(|number| exchange.open(number, false)).collect();
    let mut expected = vec![Ok(Some(State::UdpReplied)); 4];
    expected.extend([Err(OpenError::PortsExhausted); 4]);
    assert_eq!(taken, expected);
}

/// The same where the table is full: whatever opens, and as long as there are more others.
#[test]
fn conversations_with_pauses_keep_their_places_in_a_full_table() {
    let mut exchange = Exchange::new(64, 1000..=50_000, 1, 60_000);
    for _ in 0..3 {
        (0..30).for_each(|number| match exchange.state(number) {
            None => assert_eq!(exchange.open(number, true), Ok(None)),
            Some(_) => exchange.go_on(number, true),
        });
        exchange.wait(2_500);
    }
    exchange.wait(10_000);
    for number in 100..10_000 {
        exchange.open(number, false).unwrap();
        exchange.wait(number as u64 % 2);
    }
    assert!((0..30).all(|number| exchange.state(number) == Some(State::UdpReplied)));
}

/// The same where ports are looked for without a pool: those of clients whose source is kept.
#[test]
fn kept_ports_do_not_change_hands_while_an_answer_may_be_under_way() {
    let original = |port| {
        let vip = SocketAddr::from(([172, 30, 0, 7], 53));
        FiveTuple::new(Protocol::Udp, SocketAddr::from(([10, 0, 0, 9], port)), vip)
    };
    let mut table = FlowTable::new(&config(4096, 61000..=61000));
    let ids: Vec<_> = (600..=1023u16)
        .map(|port| {
            let new = NewFlow { original: original(port), ..kept(Protocol::Udp, "10.0.0.9:1") };
            table.open(&new, seconds(1)).unwrap().id
        })
        .collect();
    let other = kept(Protocol::Udp, "10.0.0.9:700");
    assert_eq!(table.open(&other, millis(3_999)), Err(OpenError::PortsExhausted));
    // Fewer conversations than others among the ports looked at keep theirs.
    ids.iter().for_each(|id| {
        datagram(&mut table, *id, Direction::Reply, 3_999);
    });
    ids.iter().step_by(4).for_each(|id| {
        assert_eq!(datagram(&mut table, *id, Direction::Original, 6_000), State::UdpReplied);
    });
    ids.iter().skip(1).step_by(4).for_each(|id| {
        datagram(&mut table, *id, Direction::Original, 5_900);
    });
    let opened = table.open(&other, seconds(9)).unwrap();
    assert_eq!(opened.reclaimed, Some(State::UdpAnswered));
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Open { answered: bool },
    GoOn { which: u32, answered: bool },
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => any::<bool>().prop_map(|answered| Event::Open { answered }),
        4 => (0u32..12, any::<bool>()).prop_map(|(which, answered)| Event::GoOn { which, answered }),
        3 => prop_oneof![0..100u64, 0..1_000u64, 0..5_000u64].prop_map(Event::Wait),
    ];
    proptest::collection::vec(event, 1..200)
}

proptest! {
    /// Of an endpoint that answers every question or never does, and always takes as long, no answer reaches anybody but who
    /// asked; and while the table has room, conversations that are no more than half of a pool end by their timeouts alone.
    #[test]
    fn answers_and_conversations_stay_with_whoever_has_them(
        capacity in prop_oneof![4u32..12, Just(64)],
        ports in 1u16..10,
        delay in prop_oneof![0..300u64, 0..2_900u64],
        unreplied in prop_oneof![Just(300u64), Just(60_000)],
        datagrams in 1u32..3,
        events in events(),
    ) {
        let mut exchange = Exchange::new(capacity, 1000..=999 + ports, delay, unreplied);
        exchange.datagrams = datagrams;
        let mut opened = 0u32;
        for event in events {
            let before: HashMap<u32, Option<State>> =
                (0..opened).map(|number| (number, exchange.state(number))).collect();
            match event {
                Event::Open { answered } => {
                    let evictable = exchange.table.len() == capacity;
                    let converse = before.values().filter(|state| **state == Some(State::UdpReplied)).count();
                    let result = exchange.open(opened, answered);
                    opened += 1;
                    if result == Ok(Some(State::UdpReplied)) {
                        prop_assert!(converse > usize::from(ports) / 2, "{converse} of {ports} ports");
                    }
                    if !evictable {
                        let stays = |number: &u32| exchange.state(*number) == before[number];
                        let gone = before.keys().filter(|number| !stays(number)).count();
                        let reclaimed = matches!(result, Ok(Some(_)));
                        prop_assert!(gone <= usize::from(reclaimed), "{gone} ended for {result:?}");
                    }
                }
                Event::GoOn { which, answered } => exchange.go_on(opened.saturating_sub(which), answered),
                Event::Wait(time) => {
                    exchange.wait(time);
                    exchange.table.expire(millis(exchange.now), 1000);
                }
            }
        }
    }
}
