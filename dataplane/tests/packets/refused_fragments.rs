//! Fragments that are refused, mostly with all of their datagram.

use crate::bed::Bed;
use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "what the first is refused for, the others are, in silence",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.44:53 bytes=72 frag=0+ id=7
                -> reply no_endpoint outside icmp 3/3 172.30.0.44 > 203.0.113.9
                outside udp 203.0.113.9:0 > 172.30.0.44:0 bytes=5 frag=80 id=7
                -> drop no_endpoint
                outside tcp S 203.0.113.9:5000 > 172.30.0.44:80 bytes=60 frag=0+ id=8
                -> drop no_endpoint
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=9 ttl=1
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=9 ttl=1
                -> drop ttl_expired
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=10
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=80+ id=10 ttl=1
                -> drop ttl_expired
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=88 id=10 opt=830704c000020100
                -> drop source_routed
                outside udp 192.168.0.2:0 > 172.30.0.53:0 bytes=5 frag=80 id=11
                -> drop impossible_source
                outside udp 203.0.113.9:0 > 172.30.9.9:0 bytes=5 frag=80 id=7
                -> drop unallocated_cluster_ip",
            ledger: "rx=10 forwarded=1 replied=2 reply:no_endpoint=1 reply:ttl_expired=1 drop:no_endpoint=2 \
                drop:ttl_expired=2 drop:source_routed=1 drop:impossible_source=1 drop:unallocated_cluster_ip=1 \
                flowsOpened=1",
        },
        Row {
            name: "larger than the way out and not to be fragmented: the first is answered, the others never",
            bed: Bed::of(&["far udp 172.30.0.80:80 -> 10.5.0.1:80", "far udp [fd00:172:30::80]:80 -> [fd00:5::1]:80"]),
            script: "
                inside udp [fd00:10::9]:5000 > [fd00:172:30::80]:80 bytes=1400 frag=0+ id=7
                -> reply too_big inside icmp 2/0 fd00:10::fffe > fd00:10::9 mtu=1280
                inside udp [fd00:10::9]:0 > [fd00:172:30::80]:0 bytes=1400 frag=1408 id=7
                -> drop too_big
                inside udp [fd00:10::9]:5000 > [fd00:172:30::80]:80 bytes=72 frag=0+ id=8
                -> forward narrow [fd00:10::9]:5000 > [fd00:5::1]:80
                inside udp [fd00:10::9]:0 > [fd00:172:30::80]:0 bytes=1400 frag=80 id=8
                -> drop too_big
                inside udp 10.0.1.9:5000 > 172.30.0.80:80 bytes=72 frag=0+ id=8 df
                -> forward narrow 10.0.1.9:5000 > 10.5.0.1:80
                inside udp 10.0.1.9:0 > 172.30.0.80:0 bytes=1400 frag=80 id=8 df
                -> drop too_big",
            ledger: "rx=6 forwarded=2 replied=1 reply:too_big=1 drop:too_big=3 flowsOpened=2",
        },
        Row {
            name: "a datagram is no longer than 65,535 bytes, its headers among them",
            bed: town(),
            script: "
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=3 frag=65512 id=7
                -> held
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=4 frag=65512 id=8
                -> drop invalid_fragment
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=3 frag=65512 id=9 opt=07040400
                -> drop invalid_fragment
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=7 frag=65504 id=10 opt=07040400
                -> held
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=7 frag=65528 id=11
                -> held
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=8 frag=65528 id=12
                -> drop invalid_fragment
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=7 frag=65520 id=13 ext=0:00010400000000
                -> held
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=8 frag=65520 id=14 ext=0:00010400000000
                -> drop invalid_fragment
                @1001
                -> drop fragment_without_first times=4",
            ledger: "rx=8 drop:invalid_fragment=4 drop:fragment_without_first=4",
        },
        Row {
            name: "a first fragment that ends inside its L4 header, and all of its datagram",
            bed: town(),
            script: "
                outside proto 6 203.0.113.9 > 172.30.0.41 bytes=16 frag=0+ id=7
                -> drop tiny_fragment
                outside tcp A 203.0.113.9:0 > 172.30.0.41:0 bytes=8 frag=16+ id=7
                -> drop tiny_fragment
                outside tcp A 203.0.113.9:23 > 172.30.0.41:80 bytes=4 frag=0+ id=9
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside proto 6 203.0.113.9 > 172.30.0.41 hex=0017005000000001000000027010ffff0000000000000000 frag=0+ id=8
                -> drop tiny_fragment
                outside proto 17 [2001:db8:c::9] > [fd00:172:30::53] frag=0+ id=7
                -> drop tiny_fragment
                outside proto 60 [2001:db8:c::9] > [fd00:172:30::53] hex=1101000000000000 frag=0+ id=8
                -> drop tiny_fragment
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=8 frag=8 id=8
                -> drop tiny_fragment
                outside proto 132 203.0.113.9 > 192.168.0.2 hex=00170000807e0000 poke=36:8089 frag=0+ id=10
                -> drop tiny_fragment
                outside proto 6 203.0.113.9 > 192.168.0.2 hex=0017001600000001 frag=0+ id=11
                -> pass
                outside proto 6 203.0.113.9 > 192.168.0.2 bytes=16 frag=8 id=11
                -> pass",
            ledger: "rx=10 forwarded=1 passed=2 drop:tiny_fragment=7 flowsOpened=1",
        },
        Row {
            name: "a fragment that begins inside the TCP header ends its datagram, whenever it comes",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:5000 > 172.30.0.41:80 bytes=60 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:0 > 172.30.0.41:0 bytes=16 frag=8+ id=7
                -> drop tiny_fragment
                outside tcp S 203.0.113.9:0 > 172.30.0.41:0 bytes=16 frag=80 id=7
                -> drop tiny_fragment
                outside tcp S 203.0.113.9:0 > 172.30.0.41:0 bytes=16 frag=8+ id=8
                -> drop tiny_fragment
                outside tcp S 203.0.113.9:5000 > 172.30.0.41:80 bytes=60 frag=0+ id=8
                -> drop tiny_fragment
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=16 frag=8 id=8
                -> held
                @2
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 frag=0+ id=8
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                -> forward inside 10.0.255.254 > 10.0.1.3",
            ledger: "rx=7 forwarded=3 drop:tiny_fragment=4 flowsOpened=2",
        },
        Row {
            name: "overlapping fragments end their datagram, other first fragments among them",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=16 frag=72+ id=7
                -> drop fragment_overlap
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=16 frag=80 id=7
                -> drop fragment_overlap
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> drop fragment_overlap
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=8
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5001 > 172.30.0.53:53 bytes=72 frag=0+ id=8
                -> drop fragment_overlap
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=72 frag=0+ id=7
                -> forward inside [fd00:10::fffe]:B > [fd00:10::3]:5353
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=16 frag=8+ id=7
                -> drop fragment_overlap
                @3100
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353",
            ledger: "rx=9 forwarded=4 drop:fragment_overlap=5 flowsOpened=2",
        },
        Row {
            name: "fragments that no datagram can have",
            bed: town(),
            script: "
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=100 frag=65456 id=7
                -> drop invalid_fragment
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> drop invalid_fragment
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=73 frag=0+ id=8
                -> drop invalid_fragment
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=9
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=12 frag=80+ id=9
                -> drop invalid_fragment
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=10
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=96 id=10
                -> forward inside 10.0.255.254 > 10.0.1.3
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=8 frag=104 id=10
                -> drop invalid_fragment
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=8 frag=65528 id=7
                -> drop invalid_fragment
                outside udp 203.0.113.9:5000 > 192.168.0.2:9 bytes=73 frag=0+ id=8
                -> pass",
            ledger: "rx=10 forwarded=3 passed=1 drop:invalid_fragment=6 flowsOpened=1",
        },
        Row {
            name: "SCTP: only while ports stay what they are, or its chunks tell how long it is",
            bed: Bed::of(&["sig sctp 172.30.0.42:2905 lb=198.51.100.42 etp=Local -> 10.0.1.4:2905/local",
                "sig sctp 172.30.0.43:2905 -> 10.0.1.4:2906"]),
            script: "
                outside sctp 203.0.113.9:5000 > 198.51.100.42:2905 bytes=20
                -> forward inside 203.0.113.9:5000 > 10.0.1.4:2905
                outside sctp 203.0.113.9:5000 > 198.51.100.42:2905 bytes=68 frag=0+ id=7
                -> forward inside 203.0.113.9:5000 > 10.0.1.4:2905
                outside sctp 203.0.113.9:0 > 198.51.100.42:0 bytes=8 frag=80 id=7
                -> forward inside 203.0.113.9 > 10.0.1.4
                inside sctp 10.0.1.9:5000 > 172.30.0.43:2905 hex=0003001400000000000000000000000000000000 frag=0+ id=7
                -> drop sctp_fragment
                inside sctp 10.0.1.9:0 > 172.30.0.43:0 bytes=8 frag=32 id=7
                -> drop sctp_fragment
                inside sctp 10.0.1.9:5000 > 172.30.0.43:2905 hex=0003002400000000000000000000000000000000 frag=0+ id=8
                -> forward inside
                inside sctp 10.0.1.9:0 > 172.30.0.43:0 bytes=17 frag=32 id=8
                -> drop invalid_fragment
                inside sctp 10.0.1.9:0 > 172.30.0.43:0 bytes=16 frag=32 id=8
                -> drop invalid_fragment
                inside sctp 10.0.1.9:5000 > 172.30.0.43:2905 hex=0003002400000000000000000000000000000000 frag=0+ id=9
                -> forward inside
                inside sctp 10.0.1.9:0 > 172.30.0.43:0 bytes=16 frag=32 id=9
                -> forward inside 10.0.1.9 > 10.0.1.4",
            ledger: "rx=10 forwarded=6 drop:sctp_fragment=2 drop:invalid_fragment=2 flowsOpened=2",
        },
        Row {
            name: "of ICMP to a VIP none is answered",
            bed: town(),
            script: "
                outside echo 203.0.113.9 > 172.30.0.41 bytes=72 frag=0+ id=7
                -> drop icmp_fragment
                outside proto 1 203.0.113.9 > 172.30.0.41 bytes=8 frag=80 id=7
                -> drop icmp_fragment
                outside icmp 3/3 203.0.113.9 > 172.30.0.41 bytes=72 frag=0+ id=8
                -> drop icmp_fragment
                outside echo [2001:db8:c::9] > [fd00:172:30::41] bytes=72 frag=0+ id=7
                -> drop icmp_fragment
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside icmp 3/3 203.0.113.9 > 172.30.0.53 frag=0+ id=9 about udp 172.30.0.53:53 > 203.0.113.9:5000
                -> drop icmp_fragment
                outside proto 1 203.0.113.9 > 192.168.0.2 bytes=8 frag=80 id=7
                -> pass
                outside proto 58 [2001:db8:c::9] > [2001:db8::2] bytes=8 frag=80 id=7
                -> pass",
            ledger: "rx=8 forwarded=1 passed=2 drop:icmp_fragment=5 flowsOpened=1",
        },
    ]
}
