//! The flow table from outside: what its users rely on.

use std::net::SocketAddr;

use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::*;
use ringway_dataplane::wire::tcp::Flags;
use ringway_shared::{BackendId, FiveTuple, Protocol, ServicePortId};

const SYN: Segment = Segment { flags: Flags(Flags::SYN), sequence: 1000, acknowledgment: 0 };
const SYN_ACK: Segment = Segment { flags: Flags(Flags::SYN | Flags::ACK), sequence: 9000, acknowledgment: 1001 };
const ACK: Segment = Segment { flags: Flags(Flags::ACK), sequence: 1001, acknowledgment: 9001 };

fn seconds(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

fn table(capacity: u32) -> FlowTable {
    FlowTable::new(&FlowConfig { capacity, seed: 7, timeouts: Timeouts::default(), snat_ports: 61000..=61007 })
}

fn tuple(protocol: Protocol, client: &str) -> FiveTuple {
    let client: SocketAddr = client.parse().unwrap();
    let vip = if client.is_ipv4() { "172.30.0.41:80" } else { "[fd00::41]:80" };
    FiveTuple::new(protocol, client, vip.parse().unwrap())
}

fn masqueraded(protocol: Protocol, client: &str) -> NewFlow {
    let original = tuple(protocol, client);
    let v4 = original.source_address().is_ipv4();
    NewFlow {
        original,
        segment: if protocol == Protocol::Tcp { SYN } else { Segment::default() },
        endpoint: if v4 { "10.180.0.1" } else { "fd01::1" }.parse().unwrap(),
        endpoint_port: 8080,
        source: Source::Masquerade(if v4 { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap()),
        service_port: ServicePortId(3),
        backend: BackendId(5),
    }
}

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
        assert_eq!(flow.rewrite(Direction::Original).to, reply.reversed());
        assert_eq!(flow.rewrite(Direction::Reply).to, new.original.reversed());
        assert_eq!((flow.service_port(), flow.backend()), (ServicePortId(3), BackendId(5)));
        assert!(flow.masquerade() && flow.seen(Direction::Original) && !flow.seen(Direction::Reply));
        assert_eq!(table.lookup(&reply, seconds(1)), Some((opened.id, Direction::Reply)));
        assert_eq!(table.open(&new, seconds(1)), Err(OpenError::Exists(opened.id)));
        assert_eq!(table.advance(opened.id, Direction::Reply, &SYN_ACK, seconds(2)), State::SynReceived);
        assert_eq!(table.advance(opened.id, Direction::Original, &ACK, seconds(2)), State::Established);
        assert_eq!(table.flow(opened.id).packets(Direction::Original), 2);
        assert_eq!(table.expire(seconds(2 + 7199), 100), 0);
        assert_eq!(table.lookup(&reply, seconds(2 + 7200)), None);
        assert_eq!(table.expire(seconds(2 + 7201), 100), 1);
        assert_eq!(table.len(), 0);
    }
    assert_eq!(table.statistics(), FlowStatistics { opened: 2, closed: 2, evicted: 0 });
}
