//! What is known of datagrams that come in fragments: for how long, and against whom.

use std::sync::LazyLock;

use ringway_shared::counters::WorkerCounters;

use crate::bed::row::Row;
use crate::bed::text::frame;
use crate::bed::{Bed, INSIDE, Neighbors, OUTSIDE, ms, worker_counted};
use crate::fragments::KEPT;
use crate::town::{DNS, town};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "a first fragment that comes again and is refused ends nothing",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7 ttl=1
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=3 forwarded=2 replied=1 reply:ttl_expired=1 flowsOpened=1",
        },
        Row {
            name: "an identification that comes round: other ports end a datagram, and begin one when nothing came for long",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=8
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @200
                outside udp 203.0.113.9:5001 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> drop fragment_overlap
                @201
                outside udp 203.0.113.9:5001 > 172.30.0.53:53 bytes=32 frag=0+ id=8
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=40 id=8
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=5 forwarded=4 drop:fragment_overlap=1 flowsOpened=2",
        },
        Row {
            name: "an identification that comes round, later one first: none goes where the one before went",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=80+ id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                @200
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=80+ id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                @201
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=80+ id=7
                -> held
                @202
                outside udp 203.0.113.9:5001 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
        Row {
            name: "more of a datagram that is dropped keeps its identification no longer",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=16 frag=72+ id=7
                -> drop fragment_overlap
                @900
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=16 frag=160+ id=7
                -> drop fragment_overlap
                @1001
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353",
            ledger: "rx=4 forwarded=2 drop:fragment_overlap=2 flowsOpened=1",
        },
        Row {
            name: "who has one answered flow pushes out no datagrams of other answered ones",
            bed: town(),
            script: &FLOOD_OF_ONE,
            ledger: "rx=1306 forwarded=1306 flowsOpened=2",
        },
        Row {
            name: "a datagram whose flow is answered meanwhile stays in a flood of others",
            bed: town(),
            script: &FLOOD_OF_OTHERS,
            ledger: "rx=1304 forwarded=1304 flowsOpened=2",
        },
        Row {
            name: "a datagram whose first fragment comes again, its flow answered meanwhile, stays in a flood of others",
            bed: town(),
            script: &FLOOD_AFTER_REPETITION,
            ledger: "rx=1304 forwarded=1304 flowsOpened=2",
        },
        Row {
            name: "where the first waits for a neighbour and has no flow, the others end",
            bed: Bed::of(&["web tcp 172.30.0.42:80 -> 10.0.1.2:80", KEPT])
                .flows(1)
                .then_neighbors("lost", Neighbors::Outside)
                .then_neighbors("known", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.42:80
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                inside tcp SA 10.0.1.2:80 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.42:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.42:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                use lost
                outside udp 203.0.113.9:5000 > 198.51.100.69:69 bytes=992 frag=0+ id=7
                -> held
                outside udp 203.0.113.9:0 > 198.51.100.69:0 bytes=8 frag=1000 id=7
                -> drop neighbor_unresolved
                use known
                -> forward inside 203.0.113.9:5000 > 10.0.1.6:69",
            ledger: "rx=5 forwarded=4 drop:neighbor_unresolved=1 stateless=1 flowsOpened=1",
        },
        Row {
            name: "two fragment headers make no packet",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=72 ext=44:00000000000007 frag=0+ id=7
                -> drop invalid_ipv6_header
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=8 ext=44:00000100000007 ext=44:00000000000007
                -> drop invalid_ipv6_header
                outside udp [2001:db8:c::9]:5000 > [2001:db8::2]:30053 bytes=8 ext=44:00000000000007 ext=44:00000000000007
                -> pass
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=8 ext=44:00000000000007
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353",
            ledger: "rx=4 forwarded=1 passed=1 drop:invalid_ipv6_header=2 flowsOpened=1",
        },
    ]
}

const ANSWERED: &str = "
    outside udp 203.0.113.8:5000 > 172.30.0.53:53
    -> forward inside 10.0.255.254:A > 10.0.1.3:5353
    inside udp 10.0.1.3:5353 > 10.0.255.254:A
    -> forward outside 172.30.0.53:53 > 203.0.113.8:5000
    outside udp 203.0.113.8:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
    -> forward inside 10.0.255.254:A > 10.0.1.3:5353\n";
const ASKED: &str = "
    outside udp 203.0.113.8:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
    -> forward inside 10.0.255.254:A > 10.0.1.3:5353
    inside udp 10.0.1.3:5353 > 10.0.255.254:A
    -> forward outside 172.30.0.53:53 > 203.0.113.8:5000
    outside udp 203.0.113.8:0 > 172.30.0.53:0 bytes=8 frag=80+ id=7
    -> forward inside 10.0.255.254 > 10.0.1.3\n";
const ATTACKER_ANSWERED: &str = "
    outside udp 203.0.113.9:5000 > 172.30.0.53:53
    -> forward inside 10.0.255.254:B > 10.0.1.3:5353
    inside udp 10.0.1.3:5353 > 10.0.255.254:B
    -> forward outside 172.30.0.53:53 > 203.0.113.9:5000\n";
const LAST: &str = "
    outside udp 203.0.113.8:0 > 172.30.0.53:0 bytes=5 frag=88 id=7
    -> forward inside 10.0.255.254 > 10.0.1.3";

/// First fragments of one flow, each of another datagram.
fn firsts() -> String {
    let first = |id: u16| {
        format!(
            "outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id={id}\n\
             -> forward inside 10.0.255.254:B > 10.0.1.3:5353\n"
        )
    };
    (0..1300).map(first).collect()
}

static FLOOD_OF_ONE: LazyLock<String> = LazyLock::new(|| format!("{ANSWERED}{ATTACKER_ANSWERED}{}{LAST}", firsts()));

static FLOOD_OF_OTHERS: LazyLock<String> = LazyLock::new(|| format!("{ASKED}{}{LAST}", firsts()));

/// The same, but for what else comes of it before the flood: its first fragment again.
static FLOOD_AFTER_REPETITION: LazyLock<String> = LazyLock::new(|| {
    let (asked, _) = ASKED.split_once("    outside udp 203.0.113.8:0").unwrap();
    let (first, _) = asked.split_once("    inside").unwrap();
    format!("{asked}{first}{}{LAST}", firsts())
});

#[test]
fn every_fragment_counts_for_its_endpoint() {
    let bed = Bed::of(&[DNS]);
    let counters = WorkerCounters::new(1024);
    let mut worker = worker_counted(&bed.settings, counters.clone());
    let backend = bed.first().services.service_ports.iter().flatten().next().unwrap().endpoints[0].backend.id;
    let pieces = [
        (OUTSIDE, "udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1472 frag=0+ id=7", 1),
        (OUTSIDE, "udp 203.0.113.9:0 > 172.30.0.53:0 bytes=80 frag=1480+ id=7", 2),
        (OUTSIDE, "udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=1560 id=7 pad=7", 3),
        // What is dropped never got there.
        (OUTSIDE, "udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=1560 id=7 ttl=1", 3),
    ];
    let (mut packets, mut bytes) = (0, 0);
    for (tag, (arrives, text, expected)) in (0..).zip(pieces) {
        let sent = frame(arrives, text);
        assert!(worker.run(&sent, arrives, tag, bed.first(), ms(1)));
        if expected > packets {
            bytes += sent.len() as u64 - if text.ends_with("pad=7") { 7 } else { 0 };
        }
        packets = expected;
        let tally = counters.backend(backend);
        assert_eq!((tally.flows, tally.packets, tally.bytes), (1, packets, bytes), "after {text}");
    }
    // Its answers are packets of its flows as well.
    let asked = &worker.collector.sent[0].bytes;
    let port = u16::from_be_bytes([asked[34], asked[35]]);
    for (tag, text) in [
        (10, format!("udp 10.0.1.3:5353 > 10.0.255.254:{port} bytes=1472 frag=0+ id=7")),
        (11, "udp 10.0.1.3:0 > 10.0.255.254:0 bytes=5 frag=1480 id=7".to_owned()),
    ] {
        assert!(worker.run(&frame(INSIDE, &text), INSIDE, tag, bed.first(), ms(1)));
        packets += 1;
        assert_eq!(counters.backend(backend).packets, packets, "after {text}");
    }
}
