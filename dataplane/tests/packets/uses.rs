//! Which next hops are marked as used: those that packets leave by, and no others.

use std::net::IpAddr;

use ringway_shared::InterfaceId;

use crate::bed::text::frame;
use crate::bed::{INSIDE, Neighbors, OUTSIDE, ms, worker};
use crate::town::town;

#[test]
fn every_packet_of_a_flow_marks_its_own_next_hop_in_both_directions() {
    let bed = town().then_neighbors("again", Neighbors::All);
    let mut worker = worker(&bed.settings);
    let families = [
        ("203.0.113.9:40000", "172.30.0.41:80", "10.0.1.1:8080", "192.168.0.254", "10.0.1.1"),
        ("[2001:db8:c::9]:40000", "[fd00:172:30::41]:80", "[fd00:10::1]:8080", "2001:db8::fe", "fd00:10::1"),
    ];
    for (client, vip, endpoint, router, next_hop) in families {
        let mut run = |arrives: InterfaceId, text: &str, snapshot: &str| {
            let snapshot = bed.snapshot(snapshot);
            let tag = worker.collector.fates.len() as u64;
            assert!(worker.run(&frame(arrives, text), arrives, tag, snapshot, ms(1)));
            let mut used: Vec<(InterfaceId, IpAddr)> = snapshot.network.take_used().collect();
            used.sort();
            let sent = worker.collector.sent.iter().find(|sent| sent.tag == tag).expect("it left");
            (sent.bytes.clone(), used)
        };
        let (outside, inside) = ((OUTSIDE, router.parse().unwrap()), (INSIDE, next_hop.parse().unwrap()));
        // The way back is looked for with the first packet.
        let (opened, used) = run(OUTSIDE, &format!("tcp S {client} > {vip}"), "start");
        assert_eq!(used, [outside, inside]);
        let port = etherparse::SlicedPacket::from_ethernet(&opened).ok().and_then(|packet| match packet.transport {
            Some(etherparse::TransportSlice::Tcp(tcp)) => Some(tcp.source_port()),
            _ => None,
        });
        let node = if client.starts_with('[') { "[fd00:10::fffe]" } else { "10.0.255.254" };
        let source = format!("{node}:{}", port.unwrap());
        assert_eq!(run(INSIDE, &format!("tcp SA {endpoint} > {source} ack=1001"), "start").1, [outside]);
        assert_eq!(run(OUTSIDE, &format!("tcp A {client} > {vip} seq=1001 data=a"), "start").1, [inside]);
        assert_eq!(run(INSIDE, &format!("tcp A {endpoint} > {source} data=b"), "start").1, [outside]);
        // Numbers of another generation mark nobody else.
        assert_eq!(run(INSIDE, &format!("tcp A {endpoint} > {source} data=b"), "again").1, [outside]);
        assert_eq!(run(OUTSIDE, &format!("tcp A {client} > {vip} seq=1001 data=a"), "again").1, [inside]);
        // What is answered or dropped here leaves no mark but the answer's.
        let refused = if client.starts_with('[') { "[fd00:172:30::44]:80" } else { "172.30.0.44:80" };
        assert_eq!(run(OUTSIDE, &format!("tcp S {client} > {refused}"), "again").1, [outside]);
    }
}
