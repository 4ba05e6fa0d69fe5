//! What is larger than the way out: fragments of IPv4 packets.

use crate::bed::row::Row;
use crate::bed::{Bed, Neighbors};

const NARROW: [&str; 3] = [
    "far udp 172.30.0.41:80 -> 10.5.0.1:80",
    "far tcp 172.30.0.41:80 -> 10.5.0.1:80",
    "far sctp 172.30.0.41:80 -> 10.5.0.1:80",
];
pub(crate) fn rows() -> Vec<Row> {
    fragments()
}

fn fragments() -> Vec<Row> {
    vec![
        Row {
            name: "a packet for an endpoint behind a smaller MTU is one forwarded packet, in as many fragments as it takes",
            bed: Bed::of(&NARROW),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1252 id=6
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 id=7
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=8 tos=5
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=9 sum=partial pad=3
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=10 sum=none
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=11 sum=wrong
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80",
            ledger: "rx=6 forwarded=6 flowsOpened=1",
        },
        Row {
            name: "a flow may begin with a packet that is fragmented, and so may its answers be",
            bed: Bed::of(&["dns udp 172.30.0.53:53 -> 10.0.1.3:53"]),
            script: "
                narrow udp 10.5.0.1:5000 > 172.30.0.53:53 bytes=1472
                -> forward inside 10.0.255.254:A > 10.0.1.3:53
                inside udp 10.0.1.3:53 > 10.0.255.254:A bytes=1472 id=70
                -> fragments 1280 narrow 172.30.0.53:53 > 10.5.0.1:5000
                inside udp 10.0.1.3:53 > 10.0.255.254:A bytes=1472 id=71 df
                -> reply too_big inside icmp 3/4 10.0.255.254 > 10.0.1.3 mtu=1280",
            ledger: "rx=3 forwarded=2 replied=1 reply:too_big=1 flowsOpened=1",
        },
        Row {
            name: "TCP and SCTP are fragmented as well, when their senders allow it",
            bed: Bed::of(&NARROW),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 bytes=1460 id=5
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside sctp 203.0.113.9:40001 > 172.30.0.41:80 bytes=1400 id=6
                -> fragments 1280 narrow 10.5.0.254:B > 10.5.0.1:80",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            // A router alert is copied; a record of the route and a timestamp are not.
            name: "options that are not to be copied stand in the first fragment alone",
            bed: Bed::of(&NARROW),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1400 id=7 opt=9404000007070400000000440405000101010100
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1232 id=8 opt=9404000007070400000000440405000101010100
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1233 id=9 opt=9404000007070400000000440405000101010100
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "what waits for a neighbour is one packet, and fragmented when it leaves",
            bed: Bed::of(&NARROW).neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=7
                -> held
                use known
                -> fragments 1280 narrow 10.5.0.254:A > 10.5.0.1:80",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
    ]
}
