//! Sources that the kernel would refuse.

use ringway_shared::network::ReversePath;

use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "what claims to come from the node itself does not come by a wire",
            bed: town(),
            script: "
                outside tcp S 192.168.0.2:40000 > 172.30.0.41:80
                -> drop impossible_source
                inside tcp S 192.168.0.2:40000 > 192.168.0.2:30080
                -> drop impossible_source
                outside udp 10.0.255.254:5000 > 172.30.0.53:53
                -> drop impossible_source
                outside udp [fd00:10::fffe]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside tcp S 10.97.0.1:40000 > 172.30.0.41:81
                -> drop impossible_source
                outside echo 192.168.0.2 > 172.30.0.41
                -> drop impossible_source
                outside proto 50 192.168.0.2 > 172.30.0.41 bytes=40
                -> drop impossible_source
                outside tcp S 192.168.0.2:40000 > 192.168.0.2:22
                -> pass",
            ledger: "rx=8 passed=1 drop:impossible_source=7",
        },
        Row {
            name: "an address of the link is nobody's whose packets are sent on, but for a router's errors and neighbour discovery",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside icmp 2/0 [fe80::8] > [fd00:10::fffe] mtu=1280 about udp [fd00:10::fffe]:A > [fd00:10::3]:5353
                -> forward outside [fd00:172:30::53] > [2001:db8:c::9] about udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53
                outside icmp 3/0 [fe80::9:1] > [fd00:172:30::53] about udp [fd00:172:30::53]:53 > [2001:db8:c::9]:5000
                -> forward inside [fd00:10::fffe] > [fd00:10::3] about udp [fd00:10::3]:5353 > [fd00:10::fffe]:A
                outside icmp 3/0 [fe80::9:1] > [fd00:172:30::53] about udp [fd00:172:30::53]:53 > [2001:db8:c::9]:5001
                -> drop icmp_without_flow
                outside udp [fe80::9]:5000 > [fd00:172:30::53]:53
                -> drop impossible_source
                outside tcp S [fe80::9]:40000 > [2001:db8::2]:30080
                -> drop impossible_source
                outside udp [fe80::9]:0 > [fd00:172:30::53]:0 bytes=16 frag=72+ id=7
                -> drop impossible_source
                outside echo [fe80::9] > [fd00:172:30::53]
                -> drop impossible_source
                outside icmp 135/0 [fe80::9] > [fd00:172:30::53] ttl=255 bytes=16
                -> pass
                outside tcp S [fe80::9]:40000 > [2001:db8::2]:22
                -> pass
                outside udp [fec0::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::fffe]:B > [fd00:10::3]:5353",
            ledger: "rx=11 forwarded=4 passed=2 drop:icmp_without_flow=1 drop:impossible_source=4 flowsOpened=2",
        },
        Row {
            name: "an interface that filters strictly takes what it would answer by, and flows that are open go on",
            bed: town().reverse_paths(&[ReversePath::Strict]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> drop reverse_path
                outside tcp S 10.99.0.1:40000 > 172.30.0.41:80
                -> drop reverse_path
                outside tcp S 10.98.0.1:40000 > 172.30.0.41:80
                -> drop reverse_path
                outside tcp S 198.18.0.1:40000 > 172.30.0.44:80
                -> drop reverse_path
                outside echo 10.0.1.9 > 172.30.0.41
                -> drop reverse_path
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353
                outside udp 10.0.1.9:5000 > 203.0.113.9:53
                -> drop reverse_path
                inside udp 10.0.1.9:5000 > 203.0.113.9:53
                -> pass",
            ledger: "rx=11 forwarded=4 passed=1 flowsOpened=3 drop:reverse_path=6",
        },
        Row {
            name: "what an interface refuses is no direct connection beside a flow",
            bed: town().reverse_paths(&[ReversePath::Strict]),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> drop reverse_path
                inside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 10.0.1.9:A > 10.0.1.3:5353",
            ledger: "rx=3 forwarded=2 flowsOpened=2 drop:reverse_path=1",
        },
        Row {
            name: "what an interface refuses ends no datagram that comes by another one",
            bed: town().reverse_paths(&[ReversePath::Strict]),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp 10.0.1.9:0 > 172.30.0.53:0 bytes=16 frag=72+ id=7
                -> drop reverse_path
                outside udp 10.0.1.9:5001 > 172.30.0.53:53 bytes=72 frag=0+ id=7
                -> drop reverse_path
                outside proto 17 10.0.1.9 > 172.30.0.53 bytes=0 frag=0+ id=7
                -> drop tiny_fragment
                inside udp 10.0.1.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=7
                -> forward inside 10.0.1.9 > 10.0.1.3
                outside tcp S 10.0.1.9:0 > 172.30.0.41:0 bytes=16 frag=8+ id=8
                -> drop reverse_path
                inside tcp S 10.0.1.9:5000 > 172.30.0.41:80 bytes=60 frag=0+ id=8
                -> forward inside 10.0.1.9:5000 > 10.0.1.1:8080
                outside udp 10.0.1.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=9
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp 10.0.1.9:0 > 172.30.0.53:0 bytes=5 frag=80 id=9
                -> forward inside 10.0.1.9 > 10.0.1.3",
            ledger: "rx=9 forwarded=5 flowsOpened=2 drop:reverse_path=3 drop:tiny_fragment=1",
        },
        Row {
            name: "nor does the kernel get past its own filter what is its own, in fragments or whole",
            bed: town().reverse_paths(&[ReversePath::Strict]),
            script: "
                outside tcp S 10.0.1.1:8080 > 192.168.0.2:10250
                -> drop reverse_path
                outside udp 10.0.1.9:5 > 192.168.0.2:161 bytes=72 frag=0+ id=7
                -> drop reverse_path
                outside udp 10.0.1.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=7
                -> held
                outside proto 17 10.0.1.9 > 192.168.0.2 bytes=4 frag=0+ id=8
                -> drop reverse_path
                inside udp 10.0.1.9:5 > 192.168.0.2:161 bytes=72 frag=0+ id=9
                -> pass
                outside udp 10.0.1.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=9
                -> drop reverse_path
                inside udp 10.0.1.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=9
                -> pass
                outside icmp 3/3 10.0.1.9 > 192.168.0.2 bytes=28
                -> drop reverse_path
                outside udp [fd00:10::9]:5 > [2001:db8::2]:161
                -> pass
                outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=10
                -> held
                outside udp 10.0.1.9:0 > 192.168.0.2:0 bytes=5 frag=80 id=11
                -> held
                @1100
                -> drop reverse_path
                -> pass
                -> drop reverse_path",
            ledger: "rx=11 passed=4 drop:reverse_path=7",
        },
        Row {
            name: "one that filters loosely takes whatever there is a route for",
            bed: town().reverse_paths(&[ReversePath::Loose]),
            script: "
                outside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside tcp S 198.18.0.1:40000 > 172.30.0.41:80
                -> drop reverse_path
                inside udp 198.18.0.1:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353",
            ledger: "rx=3 forwarded=2 flowsOpened=2 drop:reverse_path=1",
        },
        Row {
            name: "answers that come by an interface which does not lead to the endpoint are no evidence of a connection",
            bed: town().flows(1),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                outside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                outside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp S [fd00:10::9]:40001 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::9]:40001 > [fd00:10::1]:8080
                outside tcp SA [fd00:10::1]:8080 > [fd00:10::9]:40001 seq=5000 ack=1001
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::9]:40001
                inside tcp A [fd00:10::9]:40001 > [fd00:172:30::41]:80 seq=1001 ack=5001
                -> forward inside [fd00:10::9]:40001 > [fd00:10::1]:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                outside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000
                @61000
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> pass",
            ledger: "rx=10 forwarded=9 passed=1 flowsOpened=3 flowsClosed=3 flowsEvicted=2",
        },
        Row {
            name: "nor do they end one",
            bed: town().flows(1),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                outside tcp S 10.0.1.1:8080 > 10.0.1.9:40000 seq=123456789
                -> pass
                outside tcp R 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80 seq=1000
                -> drop flow_table_full
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001 data=more
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=7 forwarded=5 passed=1 flowsOpened=1 drop:flow_table_full=1",
        },
    ]
}
