//! What is known of datagrams that come in fragments: for how long, and against whom.

use std::sync::LazyLock;

use crate::bed::row::Row;
use crate::town::town;

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
