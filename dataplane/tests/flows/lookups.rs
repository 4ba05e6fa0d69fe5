//! Both tuples of a flow, the stages of a lookup, memory.

use super::*;
use ringway_dataplane::flow::{Candidate, FlowStatistics, OpenError};

#[test]
fn a_flow_is_found_from_both_sides() {
    let mut table = table(16);
    for client in ["10.0.0.9:4000", "[2001:db8::9]:4000"] {
        let new = masqueraded(Protocol::Tcp, client);
        let opened = table.open(&new, seconds(1)).unwrap();
        assert_eq!(table.lookup(&new.original, seconds(1)), Some((opened.id, Direction::Original)));
        let flow = table.flow(opened.id);
        let reply = flow.reply();
        assert_eq!(flow.original(), new.original);
        assert_eq!(flow.tuple(Direction::Reply), reply);
        assert_eq!(flow.rewrite(Direction::Original).to, reply.reversed());
        assert_eq!(flow.rewrite(Direction::Reply).to, new.original.reversed());
        assert_eq!((flow.service_port(), flow.backend()), (ServicePortId(3), BackendId(5)));
        assert!(flow.masquerade() && flow.seen(Direction::Original) && !flow.seen(Direction::Reply));
        assert_eq!(table.lookup(&reply, seconds(1)), Some((opened.id, Direction::Reply)));
        assert_eq!(table.open(&new, seconds(1)), Err(OpenError::Exists(opened.id)));
        establish(&mut table, opened.id, seconds(2));
        let flow = table.flow(opened.id);
        assert_eq!((flow.packets(Direction::Original), flow.packets(Direction::Reply)), (2, 1));
        // Only that endpoint may use the way back.
        let mut stranger = reply;
        stranger.source[1] ^= 1;
        assert_eq!(table.lookup(&stranger, seconds(2)), None);
        assert!(table.remove(opened.id, seconds(2)));
        assert!(!table.remove(opened.id, seconds(2)));
        assert_eq!(table.lookup(&reply, seconds(2)), None);
    }
    assert_eq!(table.statistics(), FlowStatistics { opened: 2, closed: 2, ..FlowStatistics::default() });
}

/// Candidates are hints: stale or wrong ones cost time, not truth.
#[test]
fn a_stale_candidate_is_no_lie() {
    let mut table = table(64);
    let now = seconds(1);
    let news: Vec<_> = (0..40).map(|n| masqueraded(Protocol::Udp, &format!("10.0.0.{n}:4000"))).collect();
    let mut endpoints = (0..).map(|n: u32| IpAddr::from([10, 180, (n / 8) as u8, 1]));
    let news: Vec<_> = news.into_iter().map(|new| NewFlow { endpoint: endpoints.next().unwrap(), ..new }).collect();
    for new in &news {
        table.open(new, now).unwrap();
    }
    let prepared: Vec<_> = news
        .iter()
        .map(|new| {
            let hash = table.hash(&new.original);
            let candidate = table.guess(hash, table.probe(hash));
            table.touch(candidate);
            (hash, candidate)
        })
        .collect();
    // Every other flow goes, and others take their records.
    for new in news.iter().step_by(2) {
        let (id, _) = table.lookup(&new.original, now).unwrap();
        assert!(table.remove(id, now));
    }
    for n in 0..20 {
        table.open(&kept(Protocol::Udp, &format!("10.1.0.{n}:4000")), now).unwrap();
    }
    for (n, (new, (hash, candidate))) in news.iter().zip(&prepared).enumerate() {
        let found = table.find(*hash, *candidate, &new.original, now).ok();
        assert_eq!(found.is_some(), n % 2 == 1, "flow {n}");
        assert_eq!(found, table.lookup(&new.original, now));
        assert_eq!(found, table.find(*hash, Candidate::default(), &new.original, now).ok());
        if let Some((id, direction)) = found {
            assert_eq!((table.flow(id).original(), direction), (new.original, Direction::Original));
        }
    }
}

#[test]
fn a_million_flows_fit_into_192_mebibytes() {
    let table = FlowTable::new(&config(1 << 20, 1024..=65535));
    assert_eq!(table.capacity(), 1 << 20);
    let bytes = table.memory_bytes();
    assert!(bytes > 160 << 20 && bytes <= 192 << 20, "{bytes}");
    // Both families cost the same: a record has room for two tuples of either.
    assert_eq!(size_of::<ringway_dataplane::flow::Flow>(), 128);
}

#[test]
fn a_scan_shows_every_flow_once() {
    let mut table = table(100);
    for n in 0..50 {
        table.open(&kept(Protocol::Udp, &format!("10.0.0.{n}:4000")), seconds(1)).unwrap();
    }
    let mut shown = Vec::new();
    let mut cursor = Some(0);
    while let Some(from) = cursor {
        cursor = table.scan(from, 7, |id, flow| shown.push((id, flow.original())));
    }
    assert_eq!(shown.len(), 50);
    for (id, original) in shown {
        assert_eq!(table.lookup(&original, seconds(1)), Some((id, Direction::Original)));
    }
    assert_eq!(table.scan(u32::MAX, 7, |_, _| panic!("nothing is there")), None);
}

/// One step says that nothing is there, or that nothing more is, however much room the table has.
#[test]
fn a_scan_walks_what_is_used() {
    let mut table = table(1 << 17);
    assert_eq!(table.scan(0, 256, |_, _| panic!("nothing is there")), None);
    let ids: Vec<_> = (0..1000)
        .map(|n| {
            let client = format!("10.0.{}.{}:4000", n / 250, n % 250);
            table.open(&kept(Protocol::Udp, &client), seconds(1)).unwrap().id
        })
        .collect();
    ids[..997].iter().for_each(|id| assert!(table.remove(*id, seconds(1))));
    let mut shown = Vec::new();
    assert_eq!(table.scan(0, 2, |id, _| shown.push(id)), Some(ids[999].0));
    assert_eq!(table.scan(ids[999].0, 2, |id, _| shown.push(id)), None);
    assert_eq!(shown, ids[997..]);
}

#[test]
fn a_number_that_is_no_flow_does_nothing() {
    let mut table = table(4);
    let nobody = FlowId(u32::MAX);
    assert_eq!(table.flow(nobody).state(), State::Free);
    assert_eq!(table.advance(nobody, Direction::Reply, &syn(), seconds(1)), State::Free);
    assert_eq!(table.advance(FlowId(2), Direction::Reply, &syn(), seconds(1)), State::Free);
    assert!(!table.remove(nobody, seconds(1)));
    assert!(table.is_empty());
}
