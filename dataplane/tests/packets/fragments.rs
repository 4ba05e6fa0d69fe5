//! Fragments: all of a datagram go where the first one goes, in whatever order they come.

use crate::bed::row::Row;
use crate::bed::{Bed, Neighbors};
use crate::town::{DNS, town};

/// Sources are kept.
pub(crate) const KEPT: &str = "tftp udp 172.30.0.69:69 lb=198.51.100.69 etp=Local -> 10.0.1.6:69/local";
const KEPT6: &str = "tftp udp [fd00:172:30::69]:69 lb=2001:db8:1b::69 etp=Local -> [fd00:10::6]:69/local";

pub(crate) fn rows() -> Vec<Row> {
    [going(), waiting(), kernels()].into_iter().flatten().collect()
}

fn going() -> Vec<Row> {
    vec![
        Row {
            name: "in order, from both sides, over IPv4: only addresses, TTL and the first checksum change",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1472 frag=0+ id=7 tos=4 ttl=9
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=1480 frag=1480+ id=7 tos=4 ttl=9
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=2960 id=7 ttl=9 pad=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                inside udp 10.0.1.3:5353 > 10.0.255.254:A bytes=1472 frag=0+ id=7
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000
                inside udp 10.0.1.3:0 > 10.0.255.254:0 bytes=1000 frag=1480 id=7
                -> forward outside 172.30.0.53 > 203.0.113.9",
            ledger: "rx=5 forwarded=5 flowsOpened=1",
        },
        Row {
            name: "in order, from both sides, over IPv6, behind other extension headers and before them",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=1200 frag=0+ id=99999 ext=0:00010400000000
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=30 frag=1208 id=99999 ext=0:00010400000000
                -> forward inside fd00:10::fffe > fd00:10::3
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A bytes=1200 frag=0+ id=5
                -> forward outside [fd00:172:30::53]:53 > [2001:db8:c::9]:5000
                inside udp [fd00:10::3]:0 > [fd00:10::fffe]:0 bytes=9 frag=1208 id=5
                -> forward outside fd00:172:30::53 > 2001:db8:c::9
                inside proto 60 [fd00:10::3] > [fd00:10::fffe] frag=0+ id=6 \
                 hex=110001040000000014e9AAAA0018ffff0000000000000000
                -> pass
                inside proto 60 [fd00:10::3] > [fd00:10::fffe] frag=24 id=6 bytes=8
                -> pass",
            ledger: "rx=6 forwarded=4 passed=2 flowsOpened=1",
        },
        Row {
            name: "over IPv6 to a VIP with an extension header behind the fragment's",
            bed: town(),
            script: "
                outside proto 60 [2001:db8:c::9] > [fd00:172:30::53] frag=0+ id=6 \
                 hex=1100010400000000138800350018ffff0000000000000000
                -> forward inside
                outside proto 60 [2001:db8:c::9] > [fd00:172:30::53] frag=24 id=6 bytes=8
                -> forward inside fd00:10::fffe > fd00:10::3",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a flow that keeps its source, over IPv4 with options",
            bed: Bed::of(&[KEPT]),
            script: "
                outside udp 203.0.113.9:5000 > 198.51.100.69:69 bytes=992 frag=0+ id=7 opt=07040400
                -> forward inside 203.0.113.9:5000 > 10.0.1.6:69
                outside udp 203.0.113.9:0 > 198.51.100.69:0 bytes=8 frag=1000 id=7
                -> forward inside 203.0.113.9 > 10.0.1.6
                inside udp 10.0.1.6:69 > 203.0.113.9:5000 bytes=992 frag=0+ id=8
                -> forward outside 198.51.100.69:69 > 203.0.113.9:5000
                inside udp 10.0.1.6:0 > 203.0.113.9:0 bytes=8 frag=1000 id=8
                -> forward outside 198.51.100.69 > 203.0.113.9",
            ledger: "rx=4 forwarded=4 flowsOpened=1",
        },
        Row {
            name: "a flow over IPv6 that keeps its source",
            bed: Bed::of(&[KEPT6]),
            script: "
                outside udp [2001:db8:c::9]:5000 > [2001:db8:1b::69]:69 bytes=992 frag=0+ id=7
                -> forward inside [2001:db8:c::9]:5000 > [fd00:10::6]:69
                outside udp [2001:db8:c::9]:0 > [2001:db8:1b::69]:0 bytes=8 frag=1000 id=7
                -> forward inside 2001:db8:c::9 > fd00:10::6
                inside udp [fd00:10::6]:69 > [2001:db8:c::9]:5000 bytes=992 frag=0+ id=8
                -> forward outside [2001:db8:1b::69]:69 > [2001:db8:c::9]:5000
                inside udp [fd00:10::6]:0 > [2001:db8:c::9]:0 bytes=8 frag=1000 id=8
                -> forward outside 2001:db8:1b::69 > 2001:db8:c::9",
            ledger: "rx=4 forwarded=4 flowsOpened=1",
        },
        Row {
            name: "interleaved: what differs in source, number or protocol is another datagram",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1472 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.8:5000 > 172.30.0.53:53 bytes=1472 frag=0+ id=7
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=8
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside tcp A 203.0.113.9:5000 > 172.30.0.53:53 bytes=60 frag=0+ id=7
                -> drop no_service_port
                outside udp 203.0.113.8:0 > 172.30.0.53:0 bytes=5 frag=1480 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside tcp A 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> drop no_service_port
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=8
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=1480 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=8 forwarded=6 drop:no_service_port=2 flowsOpened=2",
        },
        Row {
            name: "each fragment twice: each goes on twice, until the next datagram of this number",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:5001 > 172.30.0.53:53 bytes=32 frag=0+ id=7
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=40 id=7
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=6 forwarded=6 flowsOpened=2",
        },
        Row {
            name: "without a flow, since the table is full, later ones follow all the same",
            bed: Bed::of(&[KEPT]).flows(1),
            script: "
                outside udp 203.0.113.9:5000 > 198.51.100.69:69
                -> forward inside 203.0.113.9:5000 > 10.0.1.6:69
                inside udp 10.0.1.6:69 > 203.0.113.9:5000
                -> forward outside 198.51.100.69:69 > 203.0.113.9:5000
                outside udp 203.0.113.9:5001 > 198.51.100.69:69 bytes=992 frag=0+ id=7
                -> forward inside 203.0.113.9:5001 > 10.0.1.6:69
                outside udp 203.0.113.9:0 > 198.51.100.69:0 bytes=8 frag=1000 id=7
                -> forward inside 203.0.113.9 > 10.0.1.6",
            ledger: "rx=4 forwarded=4 flowsOpened=2 flowsEvicted=1 flowsClosed=1",
        },
        Row {
            name: "while the neighbour is not known all wait for it",
            bed: Bed::of(&[DNS]).neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> held
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> held
                asked inside 10.0.1.3
                use known
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
    ]
}

fn waiting() -> Vec<Row> {
    vec![
        Row {
            name: "reversed: the others wait for the first, and go in the order in which they came",
            bed: town(),
            script: "
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=2960 id=7
                -> held
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=1480 frag=1480+ id=7
                -> held
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=30 frag=1208 id=7
                -> held
                @2
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1472 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                -> forward inside 10.0.255.254 > 10.0.1.3
                -> forward inside 10.0.255.254 > 10.0.1.3
                @3
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=1200 frag=0+ id=7
                -> forward inside [fd00:10::fffe]:B > [fd00:10::3]:5353
                -> forward inside fd00:10::fffe > fd00:10::3
                @4
                inside udp 10.0.1.3:0 > 10.0.255.254:0 bytes=1000 frag=1480 id=7
                -> held
                @5
                inside udp 10.0.1.3:5353 > 10.0.255.254:A bytes=1472 frag=0+ id=7
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000
                -> forward outside 172.30.0.53 > 203.0.113.9",
            ledger: "rx=7 forwarded=7 flowsOpened=2",
        },
        Row {
            name: "what waited for a second is dropped, and only then",
            bed: town(),
            script: "
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=2960 id=7
                -> held
                @1000
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=2952+ id=7
                -> held
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=2960 id=8
                -> held
                @1001
                -> drop fragment_without_first
                -> drop fragment_without_first
                @2000
                -> drop fragment_without_first",
            ledger: "rx=3 drop:fragment_without_first=3",
        },
        Row {
            name: "64 datagrams wait; the next takes the place of the one that waited for longest",
            bed: town(),
            script: &WAITING_65,
            ledger: "rx=65 drop:fragment_without_first=65",
        },
        Row {
            name: "a second after its last fragment a datagram is forgotten",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @900
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=80+ id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                @1800
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=88+ id=7
                -> forward inside 10.0.255.254 > 10.0.1.3
                @2801
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=96 id=7
                -> held
                @3801
                -> drop fragment_without_first",
            ledger: "rx=4 forwarded=3 drop:fragment_without_first=1 flowsOpened=1",
        },
    ]
}

fn kernels() -> Vec<Row> {
    vec![Row {
        name: "what is not ours on the node's addresses passes, all of it, in any order",
        bed: town(),
        script: "
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053 bytes=72 frag=0+ id=8
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=8
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:5000 > 192.168.0.2:53 bytes=72 frag=0+ id=9
                -> pass
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=72+ id=9
                -> pass
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=9
                -> pass
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=10
                -> held
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=11
                -> held
                outside udp [2001:db8:c::9]:0 > [2001:db8::2]:0 bytes=5 frag=80 id=11
                -> held
                @2
                outside udp 203.0.113.9:5000 > 192.168.0.2:53 bytes=72 frag=0+ id=10
                -> pass
                -> pass
                @1001
                -> pass
                -> pass",
        ledger: "rx=9 forwarded=2 passed=7 flowsOpened=1",
    }]
}

static WAITING_65: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    let fragment = |id: u16| format!("outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id={id}\n-> held\n");
    let drops = |count: usize| "-> drop fragment_without_first\n".repeat(count);
    let first: String = (0..64).map(fragment).collect();
    format!("{first}@2\n{}{}@1001\n{}@1002\n{}", fragment(64), drops(1), drops(63), drops(1))
});
