//! SNAT ports: who gets which one, and when again.

use super::*;
use proptest::prelude::*;
use ringway_dataplane::flow::QUARANTINE;
use std::collections::HashSet;

pub(super) fn port_of(table: &FlowTable, id: FlowId) -> u16 {
    table.flow(id).reply().destination_port()
}

pub(super) fn open(table: &mut FlowTable, protocol: Protocol, client: u16, at: Time) -> (FlowId, u16) {
    let opened = table.open(&masqueraded(protocol, &format!("10.0.0.9:{client}")), at).unwrap();
    (opened.id, port_of(table, opened.id))
}

#[test]
fn never_used_ports_come_first_and_then_the_oldest() {
    let mut table = FlowTable::new(&config(16, 61000..=61003));
    let now = seconds(1);
    let flows: Vec<_> = (1..=4).map(|client| open(&mut table, Protocol::Tcp, client, now)).collect();
    let ports: HashSet<_> = flows.iter().map(|(_, port)| *port).collect();
    assert_eq!(ports, HashSet::from([61000, 61001, 61002, 61003]));
    flows.iter().for_each(|(id, _)| establish(&mut table, *id, now));
    let exhausted = table.open(&masqueraded(Protocol::Tcp, "10.0.0.9:5"), now);
    assert_eq!(exhausted, Err(OpenError::PortsExhausted));
    let order = [2, 0, 3, 1];
    for n in order {
        table.remove(flows[n].0, now);
    }
    for (client, n) in (10..).zip(order) {
        let (id, port) = open(&mut table, Protocol::Tcp, client, now);
        assert_eq!(port, flows[n].1);
        establish(&mut table, id, now);
    }
}

#[test]
fn a_never_used_port_comes_before_one_given_back() {
    let mut table = table(16);
    let (id, first) = open(&mut table, Protocol::Udp, 1, seconds(1));
    table.remove(id, seconds(4));
    for client in 2..=8 {
        assert_ne!(open(&mut table, Protocol::Udp, client, seconds(4)).1, first);
    }
    assert_eq!(open(&mut table, Protocol::Udp, 9, seconds(4)).1, first);
}

/// A UDP flow that ends while its answer may be under way: nobody gets the port for as long as that takes at most.
#[test]
fn the_port_of_a_datagram_that_may_be_answered_rests() {
    let mut table = FlowTable::new(&config(16, 61000..=61001));
    let flows = [1, 2].map(|client| open(&mut table, Protocol::Udp, client, seconds(1)));
    table.remove(flows[0].0, millis(2_500));
    let exhausted = table.open(&masqueraded(Protocol::Udp, "10.0.0.9:3"), millis(3_900));
    assert_eq!(exhausted, Err(OpenError::PortsExhausted));
    // The other was not answered for 3 s, before the port has rested for as long.
    assert_eq!(open(&mut table, Protocol::Udp, 4, seconds(4)).1, flows[1].1);
    assert!(table.open(&masqueraded(Protocol::Udp, "10.0.0.9:3"), millis(5_400)).is_err());
    assert_eq!(open(&mut table, Protocol::Udp, 5, millis(6_500)).1, flows[0].1);
}

#[test]
fn a_closed_tcp_port_rests_while_another_is_free() {
    let mut table = FlowTable::new(&config(16, 61000..=61001));
    let (closed, resting) = open(&mut table, Protocol::Tcp, 1, seconds(0));
    let (_, other) = open(&mut table, Protocol::Tcp, 2, seconds(0));
    establish(&mut table, closed, seconds(0));
    close(&mut table, closed, seconds(0));
    // The closed flow ends after 10 s, the one that nobody answered after 30 s: yet that one's port is taken first.
    for second in 0..=32 {
        table.expire(seconds(second), 8);
    }
    assert!(table.is_empty());
    let (id, port) = open(&mut table, Protocol::Tcp, 3, seconds(40));
    assert_eq!(port, other);
    // Nothing else is free: the resting one has to do.
    assert_eq!(open(&mut table, Protocol::Tcp, 4, seconds(41)).1, resting);
    let _ = id;
}

#[test]
fn a_rested_port_is_the_oldest_again() {
    let mut table = FlowTable::new(&config(16, 61000..=61001));
    let (closed, rested) = open(&mut table, Protocol::Tcp, 1, seconds(0));
    let (unanswered, _) = open(&mut table, Protocol::Tcp, 2, seconds(0));
    establish(&mut table, closed, seconds(0));
    close(&mut table, closed, seconds(0));
    table.remove(closed, seconds(0));
    table.remove(unanswered, seconds(20));
    assert_eq!(open(&mut table, Protocol::Tcp, 3, seconds(u64::from(QUARANTINE) + 1)).1, rested);
}

#[test]
fn endpoints_protocols_and_addresses_do_not_share() {
    let mut table = FlowTable::new(&config(64, 61000..=61000));
    let now = seconds(1);
    let base = masqueraded(Protocol::Tcp, "10.0.0.9:1");
    let other_port = NewFlow { endpoint_port: 8081, original: tuple(Protocol::Tcp, "10.0.0.9:2"), ..base };
    let other_endpoint =
        NewFlow { endpoint: "10.180.0.2".parse().unwrap(), original: tuple(Protocol::Tcp, "10.0.0.9:3"), ..base };
    let other_address = NewFlow {
        source: Source::Masquerade("192.0.2.2".parse().unwrap()),
        original: tuple(Protocol::Tcp, "10.0.0.9:4"),
        ..base
    };
    let other_protocol = masqueraded(Protocol::Udp, "10.0.0.9:1");
    let other_family = masqueraded(Protocol::Tcp, "[2001:db8::9]:1");
    for new in [base, other_port, other_endpoint, other_address, other_protocol, other_family] {
        let id = table.open(&new, now).unwrap().id;
        assert_eq!(port_of(&table, id), 61000);
        if new.original.protocol() == Protocol::Tcp {
            establish(&mut table, id, now);
        }
    }
    let again = NewFlow { original: tuple(Protocol::Tcp, "10.0.0.9:9"), ..base };
    assert_eq!(table.open(&again, now), Err(OpenError::PortsExhausted));
    let uses: Vec<_> = table.port_uses().collect();
    assert_eq!(uses.len(), 6);
    assert!(uses.iter().all(|port_use| (port_use.used, port_use.high_water, port_use.total) == (1, 1, 1)));
}

#[test]
fn the_use_of_ports_is_told() {
    let mut table = table(16);
    let flows: Vec<_> = (1..=5).map(|client| open(&mut table, Protocol::Udp, client, seconds(1)).0).collect();
    let reply = table.flow(flows[0]).reply();
    flows.iter().skip(2).for_each(|id| assert!(table.remove(*id, seconds(1))));
    let port_use = table.port_use(&reply).unwrap();
    assert_eq!((port_use.used, port_use.high_water, port_use.total), (2, 5, 8));
    assert_eq!(port_use.reply.source_address(), "10.180.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(table.port_high_water(), 5);
    assert_eq!(table.port_use(&reply.reversed()), None);
}

#[test]
fn without_a_port_range_nothing_is_masqueraded() {
    #[expect(clippy::reversed_empty_ranges)]
    let mut table = FlowTable::new(&config(16, 5..=4));
    assert_eq!(table.open(&masqueraded(Protocol::Udp, "10.0.0.9:1"), seconds(1)), Err(OpenError::PortsExhausted));
    assert!(table.open(&kept(Protocol::Udp, "10.0.0.9:1"), seconds(1)).is_ok());
}

/// The node itself, as a client whose source is kept, may sit on a port of the SNAT range.
#[test]
fn a_port_that_a_kept_source_occupies_is_not_handed_out() {
    let mut table = FlowTable::new(&config(16, 61000..=61002));
    let now = seconds(1);
    let node = table.open(&kept(Protocol::Tcp, "192.0.2.1:61001"), now).unwrap().id;
    assert_eq!(port_of(&table, node), 61001);
    let got = [1, 2].map(|client| open(&mut table, Protocol::Tcp, client, now));
    assert_eq!(HashSet::from(got.map(|(_, port)| port)), HashSet::from([61000, 61002]));
    got.iter().for_each(|(id, _)| establish(&mut table, *id, now));
    let exhausted = table.open(&masqueraded(Protocol::Tcp, "10.0.0.9:3"), now);
    assert_eq!(exhausted, Err(OpenError::PortsExhausted));
    table.remove(node, now);
    assert_eq!(open(&mut table, Protocol::Tcp, 4, now).1, 61001);
}

/// A port that rests is found behind one that a source-kept flow sits on.
#[test]
fn an_occupied_port_hides_no_resting_one() {
    let mut table = FlowTable::new(&config(16, 61000..=61001));
    let now = seconds(1);
    table.open(&kept(Protocol::Tcp, "192.0.2.1:61001"), now).unwrap();
    let (id, port) = open(&mut table, Protocol::Tcp, 1, now);
    establish(&mut table, id, now);
    close(&mut table, id, now);
    table.remove(id, now);
    assert_eq!(open(&mut table, Protocol::Tcp, 2, now).1, port);
}

/// A hairpin through a frontend within the SNAT port range: the reply tuple must not be the original one.
#[test]
fn no_flow_answers_itself() {
    let now = seconds(1);
    for range in [61000..=61000, 61000..=61001] {
        let mut table = FlowTable::new(&config(16, range.clone()));
        let original =
            FiveTuple::new(Protocol::Udp, "10.180.0.1:8080".parse().unwrap(), SocketAddr::new(snat(true), 61000));
        let opened = table.open(&new_flow(original, "10.180.0.1:8080", Source::Masquerade(snat(true))), now);
        assert_eq!(opened.map(|opened| port_of(&table, opened.id)).ok(), (*range.end() == 61001).then_some(61001));
    }
    // Source and destination alike: nothing that has a Service, but nothing to stumble over either.
    let mut table = table(16);
    let original = FiveTuple::new(Protocol::Udp, "10.0.0.1:53".parse().unwrap(), "10.0.0.1:53".parse().unwrap());
    let id = table.open(&new_flow(original, "10.0.0.1:53", Source::Kept), now).unwrap().id;
    assert_ne!(table.flow(id).reply(), original);
}

#[test]
fn two_kept_sources_never_look_alike_to_the_endpoint() {
    let mut table = FlowTable::new(&config(2000, 61000..=61002));
    let now = seconds(1);
    for (client, low, high) in [("10.0.0.9:4000", 1024, 65535), ("10.0.0.9:700", 600, 1023), ("10.0.0.9:80", 1, 511)] {
        let mut seen = HashSet::new();
        for vip in 1..=100u8 {
            let vip = SocketAddr::from(([172, 30, 0, vip], 80));
            let original = FiveTuple::new(Protocol::Tcp, client.parse().unwrap(), vip);
            let id = table.open(&NewFlow { original, ..kept(Protocol::Tcp, client) }, now).unwrap().id;
            let reply = table.flow(id).reply();
            assert!(!table.flow(id).masquerade());
            assert_eq!(reply.destination_address(), original.source_address());
            if vip.ip() == IpAddr::from([172, 30, 0, 1]) {
                assert_eq!(reply.destination_port(), original.source_port());
            }
            assert!((low..=high).contains(&reply.destination_port()));
            assert!(seen.insert(reply.destination_port()));
            assert_eq!(table.lookup(&reply, now), Some((id, Direction::Reply)));
        }
    }
}

/// More endpoints than pools: nothing fails, ports are just not remembered.
#[test]
fn running_out_of_pools_and_memory_fails_nobody() {
    let mut table = FlowTable::new(&config(4000, 1024..=65535));
    let mut live = Vec::new();
    let mut n = 0u32;
    let mut open = |table: &mut FlowTable, endpoint: u32, at: Time| {
        n += 1;
        let original = FiveTuple::new(
            Protocol::Tcp,
            SocketAddr::from(([10, 0, (n >> 16) as u8, (n >> 8) as u8], 1 + n as u16 % 60_000)),
            SocketAddr::from(([172, 30, 0, n as u8], 80)),
        );
        let endpoint = SocketAddr::from(([10, 180, (endpoint >> 8) as u8, endpoint as u8], 80));
        let new = new_flow(original, &endpoint.to_string(), Source::Masquerade(snat(true)));
        table.open(&new, at).unwrap().id
    };
    for endpoint in 0..3000 {
        live.push(open(&mut table, endpoint, seconds(1)));
    }
    assert_eq!(table.port_uses().count(), 1024);
    // Flows that end faster than their ports come to rest, towards endpoints whose pools all are in use.
    for n in 0..300_000u64 {
        let id = open(&mut table, n as u32 % 300, millis(1000 + n / 10));
        establish(&mut table, id, millis(1000 + n / 10));
        table.remove(id, millis(1000 + n / 10));
    }
    for id in live {
        assert!(table.remove(id, seconds(40)));
    }
    // Once nobody uses them, pools make room for others.
    for endpoint in 5000..7000 {
        let id = open(&mut table, endpoint, seconds(200));
        let reply = table.flow(id).reply();
        assert_eq!(table.port_use(&reply).map(|port_use| port_use.used), Some(1));
        table.remove(id, seconds(200));
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Port {
    New,
    Used,
    // Freed then, and whether it has to rest since some moment.
    Free(u64, Option<u64>),
}

proptest! {
    /// Which port a new flow gets, against a plain list of all ports.
    #[test]
    fn ports_follow_the_rule(
        tcp in any::<bool>(),
        operations in proptest::collection::vec((0u8..4, 0usize..8, 0u64..15_000), 1..300),
    ) {
        let (protocol, lasts) = if tcp { (Protocol::Tcp, 60_000) } else { (Protocol::Udp, 3_000) };
        let mut table = FlowTable::new(&config(64, 100..=107));
        let mut ports = [Port::New; 8];
        let mut flows: Vec<FlowId> = Vec::new();
        let mut now = 1_000_000u64;
        for (client, (operation, which, wait)) in (1..).zip(operations) {
            match operation {
                0 | 1 => {
                    let new = masqueraded(protocol, &format!("10.0.0.9:{client}"));
                    let quarantined = |rest: Option<u64>| rest.is_some_and(|since| now.saturating_sub(since) < lasts);
                    // Resting is counted in whole seconds, rounded up.
                    let late = |rest: Option<u64>| quarantined(rest.map(|since| since + 1000));
                    let has_none = |port: &Port| match *port {
                        Port::Used => true,
                        Port::Free(_, rest) => !tcp && late(rest),
                        Port::New => false,
                    };
                    let waits = |id: &FlowId| {
                        let flow = table.flow(*id);
                        flow.state().eviction_rank().is_some() && (tcp || flow.idle(millis(now).millis()) >= 3_000)
                    };
                    let waiting = flows.iter().filter(|id| waits(id)).count();
                    let Ok(opened) = open_as_told(&mut table, &new, millis(now)) else {
                        prop_assert!(ports.iter().all(has_none) && waiting == 0);
                        continue;
                    };
                    let chosen = usize::from(port_of(&table, opened.id)) - 100;
                    if opened.reclaimed.is_some() {
                        prop_assert!(ports.iter().all(has_none) && waiting > 0);
                        // Its record went to the newcomer, too.
                        flows.retain(|id| *id != opened.id);
                        ports[chosen] = Port::New;
                    }
                    flows.push(opened.id);
                    match ports[chosen] {
                        Port::Used => prop_assert!(false, "port {chosen} is in use"),
                        Port::New => {}
                        Port::Free(freed, rest) => {
                            prop_assert!(!ports.contains(&Port::New));
                            prop_assert!(tcp || !quarantined(rest), "{chosen} of {ports:?} at {now}");
                            for other in ports {
                                let Port::Free(other_freed, other_rest) = other else { continue };
                                if quarantined(rest) && !late(other_rest) {
                                    prop_assert!(false, "{chosen} of {ports:?} at {now}");
                                }
                                if quarantined(rest) == quarantined(other_rest) && rest.is_some() == other_rest.is_some() {
                                    prop_assert!(freed <= other_freed, "{chosen} of {ports:?} at {now}");
                                }
                            }
                        }
                    }
                    ports[chosen] = Port::Used;
                    if tcp && client % 3 > 0 {
                        establish(&mut table, opened.id, millis(now));
                    }
                }
                2 if !flows.is_empty() => {
                    let id = flows.remove(which % flows.len());
                    let flow = table.flow(id);
                    let rests = if tcp { flow.seen(Direction::Reply) } else { flow.idle(millis(now).millis()) < 3_000 };
                    let rest = rests.then_some(now);
                    ports[usize::from(port_of(&table, id)) - 100] = Port::Free(now, rest);
                    table.remove(id, millis(now));
                }
                _ => now += wait,
            }
            let used = ports.iter().filter(|port| **port == Port::Used).count() as u32;
            prop_assert_eq!(table.port_uses().map(|port_use| port_use.used).sum::<u32>(), used);
        }
    }
}
