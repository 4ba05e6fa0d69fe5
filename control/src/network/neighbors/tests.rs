use super::*;

const FAILED: u16 = 0x20;
const MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);

fn key() -> Key {
    (2, "10.0.0.9".parse().unwrap())
}

fn change(state: u16) -> Change {
    let mac = (state & USABLE != 0).then_some(MAC);
    Change { key: key(), mac, state }
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
    assert_eq!(neighbors.due(now), [key()]);
    assert_eq!(neighbors.due(now), []);
    let mut gaps = Vec::new();
    for _ in 0..7 {
        let next = neighbors.next_due().unwrap();
        gaps.push(next.duration_since(now).as_secs_f64());
        now = next;
        assert_eq!(neighbors.due(now), [key()]);
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
    assert_eq!(neighbors.due(due), [key()]);
    assert_eq!(neighbors.due(due + seconds(10)), []);
    assert_eq!(neighbors.due(due + CONFIRM_AGAIN), [key()]);
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
    assert_eq!(neighbors.due(now), [key()]);
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
    assert_eq!(neighbors.due(now), [key()]);
}

#[test]
fn a_worker_is_heard_but_not_every_time() {
    let (mut neighbors, now) = (Neighbors::default(), Instant::now());
    neighbors.request(key(), now);
    assert_eq!(neighbors.due(now), [key()]);
    neighbors.request(key(), now + Duration::from_millis(10));
    assert_eq!(neighbors.due(now + Duration::from_millis(10)), []);
    neighbors.request(key(), now + REQUEST_AGAIN);
    assert_eq!(neighbors.due(now + REQUEST_AGAIN), [key()]);
    neighbors.apply(change(REACHABLE), now);
    neighbors.request(key(), now + seconds(2));
    assert_eq!(neighbors.due(now + seconds(2)), []);
    neighbors.due(now + seconds(3) + REQUEST_KEPT);
    neighbors.apply(change(STALE), now);
    assert_eq!(neighbors.next_due(), None, "not kept any more");
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
