use proptest::prelude::*;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::change::{DELAY, NOARP, PERMANENT, REACHABLE, USABLE};
use super::clients::{ASKED, WAITING};
use super::*;

const INCOMPLETE: u16 = 0x01;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

fn key() -> Key {
    (2, "10.0.0.9".parse().unwrap())
}

fn change(state: u16) -> Change {
    let mac = (state & USABLE != 0).then_some(MAC);
    Change { key: key(), mac, state }
}

/// One of many neighbours on the same link.
fn many(number: u32) -> Key {
    (2, IpAddr::V6((0xfd00_u128 << 112 | u128::from(number)).into()))
}

fn about(key: Key, state: u16) -> Change {
    Change { key, ..change(state) }
}

/// The neighbours to ask for now.
fn asked(neighbors: &mut Neighbors, now: Instant) -> Vec<Key> {
    let asked = |errand| if let Errand::Ask(key) = errand { Some(key) } else { None };
    neighbors.errands(now).into_iter().filter_map(asked).collect()
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn is_usable(neighbors: &Neighbors, now: Instant) -> bool {
    neighbors.usable(now).any(|found| found == (key(), MAC))
}

#[test]
fn messages_are_read_and_foreign_ones_are_not() {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 2;
    message.header.state = NeighbourState::Stale;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::Inet("10.0.0.9".parse().unwrap())),
        NeighbourAttribute::LinkLayerAddress(MAC.0.to_vec()),
    ];
    assert_eq!(Change::from_message(&message, false), Some(change(STALE)));
    assert_eq!(Change::from_message(&message, true).unwrap().usable(), None);
    for state in [REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT] {
        message.header.state = state.into();
        assert_eq!(Change::from_message(&message, false).unwrap().usable(), Some(MAC), "{state:#x}");
    }
    for state in [0, INCOMPLETE, FAILED] {
        message.header.state = state.into();
        assert_eq!(Change::from_message(&message, false).unwrap().usable(), None, "{state:#x}");
    }
    message.header.state = NeighbourState::Noarp;
    for mac in [vec![0; 6], vec![1, 0, 0x5e, 0, 0, 1], vec![1, 2, 3, 4]] {
        message.attributes[1] = NeighbourAttribute::LinkLayerAddress(mac.clone());
        assert_eq!(Change::from_message(&message, false).unwrap().usable(), None, "{mac:?}");
    }
    message.header.flags = NeighbourFlags::Proxy;
    assert_eq!(Change::from_message(&message, false), None);
    message.header.family = AddressFamily::Bridge;
    assert_eq!(Change::from_message(&message, false), None);
}

#[test]
fn an_endpoints_next_hop_is_asked_for_at_once_and_then_at_growing_intervals() {
    let (mut neighbors, mut now) = (Neighbors::default(), Instant::now());
    neighbors.keep(&[key()], &[], now);
    assert_eq!(asked(&mut neighbors, now), [key()]);
    assert_eq!(asked(&mut neighbors, now), []);
    let mut gaps = Vec::new();
    for _ in 0..7 {
        let next = neighbors.next_due().unwrap();
        gaps.push(next.duration_since(now).as_secs_f64());
        now = next;
        assert_eq!(asked(&mut neighbors, now), [key()]);
        // An answer that is none changes nothing about the interval.
        neighbors.apply(change(FAILED), now);
    }
    for (gap, expected) in gaps.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 16.0, 16.0]) {
        assert!(*gap >= expected && *gap <= expected * 1.25, "{gaps:?}");
    }
    neighbors.keep(&[], &[key()], now);
    assert_eq!(neighbors.next_due(), None);
}

#[test]
fn a_fresh_neighbour_costs_nothing_and_a_stale_one_a_question() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.keep(&[key()], &[], now);
    neighbors.apply(change(REACHABLE), now);
    assert!(is_usable(&neighbors, now));
    assert_eq!(neighbors.next_due(), None);
    neighbors.apply(change(STALE), now);
    assert!(is_usable(&neighbors, now));
    let due = neighbors.next_due().unwrap();
    assert!(due <= now + CONFIRM);
    assert_eq!(asked(&mut neighbors, due), [key()]);
    assert_eq!(asked(&mut neighbors, due + seconds(10)), []);
    assert_eq!(asked(&mut neighbors, due + CONFIRM_AGAIN), [key()]);
    neighbors.apply(change(DELAY), due);
    assert_eq!(neighbors.next_due(), None);
}

#[test]
fn a_flushed_neighbour_is_asked_for_at_once_and_used_meanwhile() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.keep(&[key()], &[], now);
    neighbors.apply(change(REACHABLE), now);
    // `ip neigh flush`: failed, then deleted.
    neighbors.apply(change(FAILED), now);
    neighbors.apply(change(0), now);
    assert_eq!(asked(&mut neighbors, now), [key()]);
    assert!(is_usable(&neighbors, now));
    neighbors.apply(change(INCOMPLETE), now);
    assert!(is_usable(&neighbors, now), "still lingers");
    assert!(!is_usable(&neighbors, now + LINGER), "but not for long");
    neighbors.apply(change(REACHABLE), now);
    assert!(is_usable(&neighbors, now + LINGER));
}

#[test]
fn a_neighbour_that_does_not_answer_is_removed_at_once() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.keep(&[key()], &[], now);
    for state in [REACHABLE, STALE, PROBE, FAILED] {
        neighbors.apply(change(state), now);
    }
    assert!(!is_usable(&neighbors, now));
    assert_eq!(asked(&mut neighbors, now), [key()]);
}

#[test]
fn what_a_worker_asks_for_is_asked_once_and_leaves_nothing_behind() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.request(key(), now);
    neighbors.request(key(), now);
    assert_eq!(neighbors.errands(now), [Errand::Ask(key())]);
    neighbors.request(key(), now + seconds(1));
    assert_eq!(neighbors.errands(now + seconds(1)), [], "the kernel is still asking");
    neighbors.apply(about(key(), FAILED), now + seconds(3));
    assert_eq!(neighbors.errands(now + seconds(3)), [Errand::Forget(key())]);
    assert_eq!(neighbors.next_due(), None);
    // A packet that comes again asks again; when the kernel says nothing, the question ends by itself.
    neighbors.request(key(), now + seconds(6));
    assert_eq!(asked(&mut neighbors, now + seconds(6)), [key()]);
    assert_eq!(neighbors.errands(now + seconds(11)), [Errand::Forget(key())]);
    assert_eq!(neighbors.overview(now).unanswered, 2);
    // One that answers is none that is wanted for that.
    neighbors.request(key(), now + seconds(12));
    assert_eq!(asked(&mut neighbors, now + seconds(12)), [key()]);
    assert!(neighbors.apply(change(REACHABLE), now + seconds(12)));
    neighbors.request(key(), now + seconds(13));
    assert_eq!(neighbors.errands(now + seconds(20)), []);
    neighbors.apply(change(STALE), now + seconds(20));
    assert_eq!(neighbors.next_due(), None);
}

#[test]
fn a_next_hop_in_use_is_confirmed_with_the_next_packet_however_old_the_flow_is() {
    let (mut neighbors, start) = (Neighbors::default(), Instant::now());
    neighbors.apply(change(STALE), start);
    for hour in 0..3 {
        let now = start + seconds(3600 * hour);
        assert_eq!(asked(&mut neighbors, now), [], "nothing left by it");
        neighbors.note_use(key(), now);
        assert_eq!(asked(&mut neighbors, now), [key()]);
        for second in 1..5 {
            neighbors.note_use(key(), now + seconds(second));
            assert_eq!(asked(&mut neighbors, now + seconds(second)), [], "asked already");
        }
        neighbors.apply(change(REACHABLE), now + seconds(5));
        neighbors.note_use(key(), now + seconds(6));
        assert_eq!(asked(&mut neighbors, now + seconds(6)), []);
        neighbors.apply(change(STALE), now + seconds(36));
    }
    // Somebody says that it is stale while the kernel still waits to probe it: it is asked for again.
    let now = start + seconds(15_000);
    neighbors.note_use(key(), now);
    assert_eq!(asked(&mut neighbors, now), [key()]);
    neighbors.apply(change(STALE), now + seconds(1));
    neighbors.note_use(key(), now + seconds(2));
    assert_eq!(asked(&mut neighbors, now + seconds(2)), [key()]);
    neighbors.apply(change(STALE), now + seconds(60));
    // It has another MAC address now: the kernel's probes fail, and it is asked for as if it were new.
    let now = start + seconds(20_000);
    neighbors.note_use(key(), now);
    assert_eq!(asked(&mut neighbors, now), [key()]);
    assert!(!neighbors.apply(change(PROBE), now + seconds(5)));
    assert!(neighbors.apply(change(FAILED), now + seconds(8)));
    assert_eq!(asked(&mut neighbors, now + seconds(8)), [key()]);
    let silent = neighbors.overview(now + seconds(12)).silent;
    assert_eq!(silent, [(key(), Role::Client, now + seconds(8))]);
    // Who still has packets for it is heard; when nobody is left it is forgotten.
    neighbors.request(key(), now + seconds(30));
    asked(&mut neighbors, now + seconds(30));
    neighbors.errands(now + seconds(30) + USE_KEPT);
    assert_eq!((neighbors.next_due(), neighbors.overview(now + seconds(99)).silent_count), (None, 0));
}

#[test]
fn a_router_is_asked_for_like_an_endpoint_once_packets_wait_for_it() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.set_routers([key()].into());
    assert_eq!(neighbors.next_due(), None);
    neighbors.request(key(), now);
    assert_eq!(neighbors.errands(now), [Errand::Ask(key())]);
    neighbors.request(key(), now + REQUEST_AGAIN / 2);
    assert_eq!(neighbors.errands(now + REQUEST_AGAIN / 2), []);
    neighbors.request(key(), now + REQUEST_AGAIN);
    assert_eq!(neighbors.errands(now + REQUEST_AGAIN), [Errand::Ask(key())]);
    neighbors.apply(change(FAILED), now + seconds(3));
    assert_eq!(neighbors.errands(now + seconds(3)), [Errand::Ask(key())]);
    assert_eq!(neighbors.overview(now + seconds(9)).silent, [(key(), Role::Router, now + seconds(3))]);
    // One that only endpoints have is theirs.
    neighbors.keep(&[key()], &[], now + seconds(3));
    assert_eq!(neighbors.overview(now + seconds(9)).silent[0].1, Role::Endpoints);
    assert!(neighbors.apply(change(REACHABLE), now + seconds(4)));
    assert_eq!(neighbors.overview(now + seconds(9)).silent, []);
}

/// 333,000 packets from forged sources in 20 s; meanwhile an endpoint, a router and a client in use are served at once.
#[test]
fn a_flood_of_questions_is_bounded_here_and_in_the_kernel() {
    let (mut neighbors, start) = (Neighbors::default(), Instant::now());
    let (endpoint, router, client) = (many(1), many(2), many(3));
    neighbors.keep(&[endpoint], &[], start);
    neighbors.set_routers([router].into());
    neighbors.apply(about(client, STALE), start);
    let mut kernel: BTreeMap<Key, Instant> = BTreeMap::new();
    let (mut asked, mut most) = (0, 0);
    for step in 0..2000_u32 {
        let now = start + Duration::from_millis(10) * step;
        (0..167).for_each(|number| neighbors.request(many(10 + step * 167 + number), now));
        if step == 1000 {
            neighbors.note_use(client, now);
            neighbors.request(router, now);
        }
        for errand in neighbors.errands(now) {
            match errand {
                Errand::Ask(key) => {
                    asked += 1;
                    kernel.insert(key, now);
                }
                Errand::Forget(key) => _ = kernel.remove(&key),
            }
        }
        if step == 1000 {
            assert!([endpoint, router, client].iter().all(|key| kernel.contains_key(key)), "asked at once");
        }
        // The kernel gives up after 3 s.
        let failed: Vec<Key> =
            kernel.iter().filter(|(_, since)| now >= **since + seconds(3)).map(|(key, _)| *key).collect();
        for key in failed {
            neighbors.apply(about(key, FAILED), now);
        }
        most = most.max(kernel.len());
        if step % 100 == 0 {
            check(&neighbors);
        }
    }
    assert!(most <= ASKED + 3, "{most} entries in the kernel's table");
    assert!(asked < 20 * 600, "{asked} questions in 20 s");
    let after = start + seconds(25);
    neighbors.errands(after);
    neighbors.errands(after);
    let overview = neighbors.overview(after);
    assert_eq!((overview.waiting, overview.asked), (0, 0), "over with the flood");
    assert!(overview.questions_gave_way > 300_000);
}

#[test]
fn neighbours_that_nobody_uses_give_way_first() {
    let (mut neighbors, now) = (Neighbors { known: Known::new(10), ..Neighbors::default() }, Instant::now());
    let (endpoint, router, client) = (many(1), many(2), many(3));
    neighbors.keep(&[endpoint], &[], now);
    neighbors.set_routers([router].into());
    for key in [endpoint, router, client, many(4)] {
        assert!(neighbors.apply(about(key, REACHABLE), now));
    }
    neighbors.note_use(client, now);
    for number in 10..1000 {
        neighbors.apply(about(many(number), STALE), now);
    }
    let left: Vec<Key> = {
        let mut left: Vec<Key> = neighbors.usable(now).map(|(key, _)| key).collect();
        left.sort_unstable();
        left
    };
    let newest = (993..1000).map(many);
    assert_eq!(left, [endpoint, router, client].into_iter().chain(newest).collect::<Vec<_>>());
    assert_eq!(neighbors.overview(now).known_gave_way, 984);
    check(&neighbors);
}

#[test]
fn what_the_kernel_says_of_strangers_without_a_mac_address_is_not_kept() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    for number in 0..10_000 {
        for state in [INCOMPLETE, FAILED, 0] {
            assert!(!neighbors.apply(about(many(number), state), now), "nothing to publish");
        }
    }
    assert_eq!((neighbors.overview(now), neighbors.next_due()), (Overview::default(), None));
}

/// What is kept twice agrees, and limits hold.
fn check(neighbors: &Neighbors) {
    let overview = neighbors.overview(Instant::now());
    assert!(overview.waiting <= 4 * WAITING && overview.asked <= 2 * ASKED);
    assert!(neighbors.in_use.len() <= IN_USE);
    for (key, wanted) in &neighbors.wanted {
        assert!(wanted.endpoint != wanted.used.is_some(), "{key:?}: {wanted:?}");
        assert!(wanted.used.is_none_or(|used| neighbors.in_use.contains(&(used, *key))));
        let (mine, other) = match neighbors.is_vouched_for(key) {
            true => (&neighbors.vouched_lane, &neighbors.in_use_lane),
            false => (&neighbors.in_use_lane, &neighbors.vouched_lane),
        };
        assert!(wanted.due.is_none_or(|due| mine.contains(due, *key) && !other.contains(due, *key)), "{wanted:?}");
    }
    let due = neighbors.wanted.values().filter(|wanted| wanted.due.is_some()).count();
    assert_eq!(due, neighbors.vouched_lane.len() + neighbors.in_use_lane.len());
    assert_eq!(neighbors.in_use.len(), neighbors.wanted.values().filter(|wanted| wanted.used.is_some()).count());
    assert!(neighbors.silent.keys().all(|key| neighbors.wanted.contains_key(key)));
    neighbors.known.check(|key| neighbors.is_protected(key));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: what is kept twice agrees, wanted ones never give way, and when there is nothing
    /// due there is nothing to do.
    #[test]
    fn any_order_of_events_keeps_the_books(
        steps in prop::collection::vec((0..10u8, 0..24u32, 0..3000u64, any::<u8>()), 1..150),
    ) {
        let mut neighbors = Neighbors { known: Known::new(8), ..Neighbors::default() };
        let mut now = Instant::now();
        for (event, number, millis, which) in steps {
            let key = many(number);
            match event {
                0..3 => {
                    let states = [0, INCOMPLETE, REACHABLE, STALE, DELAY, PROBE, FAILED, PERMANENT];
                    neighbors.apply(about(key, states[usize::from(which) % states.len()]), now);
                }
                3 => neighbors.keep(&[key], &[], now),
                4 => neighbors.keep(&[], &[key], now),
                5 => neighbors.set_routers((0..u32::from(which % 4)).map(|other| many(number + other)).collect()),
                6 => neighbors.note_use(key, now),
                7 => neighbors.request(key, now),
                8 => _ = neighbors.expire(now),
                _ => _ = neighbors.errands(now),
            }
            check(&neighbors);
            now += Duration::from_millis(millis);
        }
        // In the end everything comes to rest but for what is asked for again and again.
        neighbors.expire(now);
        neighbors.errands(now);
        neighbors.errands(now);
        prop_assert!(neighbors.next_due().is_none_or(|due| due > now), "nothing is left undone");
    }
}

#[test]
fn a_new_table_replaces_the_old_one() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.apply(change(REACHABLE), now);
    neighbors.replace([], now);
    assert!(!is_usable(&neighbors, now));
    neighbors.keep(&[key()], &[], now);
    neighbors.replace([change(PERMANENT)], now);
    assert!(is_usable(&neighbors, now));
    assert_eq!(neighbors.next_due(), None);
}
