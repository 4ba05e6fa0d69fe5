//! Services and endpoints that come and go under flows.

use crate::bed::Bed;
use crate::bed::row::Row;

const TWO: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080";
const FIRST: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080";
const SECOND: &str = "web tcp 172.30.0.41:80 -> 10.0.1.2:8080";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "endpoint deleted: the TCP client is reset on its next packet and then served by another",
            bed: Bed::of(&[FIRST]).then("moved", &[SECOND]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                use moved
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp AP 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001 data=hello
                -> reply endpoint_deleted outside rst 172.30.0.41:80 > 203.0.113.9:40000 seq=5001
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> pass
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=9000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=6 forwarded=4 replied=1 passed=1 reply:endpoint_deleted=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "endpoint deleted: a SYN is the connection that a reset would ask for; a RST of the client ends here",
            bed: Bed::of(&[FIRST]).then("moved", &[SECOND]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:8080
                use moved
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.2:8080
                inside tcp R 10.0.1.9:40001 > 172.30.0.41:80
                -> drop endpoint_deleted",
            ledger: "rx=4 forwarded=3 drop:endpoint_deleted=1 flowsOpened=3 flowsClosed=2",
        },
        Row {
            name: "endpoint deleted: a client that comes again from the port of an old connection is served at once",
            bed: Bed::of(&[FIRST]).then("moved", &[SECOND]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use moved
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=900000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=4 forwarded=4 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "endpoint deleted: a UDP flow moves with its next packet",
            bed: Bed::of(&["dns udp 172.30.0.53:53 -> 10.0.1.3:53"])
                .then("moved", &["dns udp 172.30.0.53:53 -> 10.0.1.4:53"]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:53
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:53
                use moved
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.4:53
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.4:53
                inside udp 10.0.1.4:53 > 10.0.255.254:B
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000
                inside udp 10.0.1.3:53 > 10.0.255.254:A
                -> pass",
            ledger: "rx=6 forwarded=5 passed=1 flowsOpened=4 flowsClosed=2",
        },
        Row {
            name: "the last endpoint deleted: UDP is rejected",
            bed: Bed::of(&["dns udp 172.30.0.53:53 -> 10.0.1.3:53"]).then("empty", &["dns udp 172.30.0.53:53 ->"]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:53
                use empty
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> reply no_endpoint outside icmp 3/3 172.30.0.53 > 203.0.113.9",
            ledger: "rx=2 forwarded=1 replied=1 reply:no_endpoint=1 flowsOpened=1 flowsClosed=1",
        },
        Row {
            name: "an endpoint that is no longer ready keeps its flows and gets no new ones",
            bed: Bed::of(&[FIRST]).then("unready", &["web tcp 172.30.0.41:80 -> 10.0.1.1:8080/unready 10.0.1.2:8080"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                use unready
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.2:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "an endpoint more, or other Services, leave a flow where it is",
            bed: Bed::of(&[FIRST]).then("more", &[TWO, "new tcp 172.30.0.50:80 -> 10.0.1.5:80"]).then("less", &[FIRST]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use more
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use less
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "Service deleted: TCP is reset, UDP is no longer ours, the VIP is dropped",
            bed: Bed::of(&[FIRST, "dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:53"]).then("gone", &[]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053
                -> forward inside 10.0.255.254:B > 10.0.1.3:53
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:C > 10.0.1.3:53
                use gone
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> reply endpoint_deleted outside rst 172.30.0.41:80 > 203.0.113.9:40000 seq=5001
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> drop unallocated_cluster_ip
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053
                -> pass
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> drop unallocated_cluster_ip",
            ledger: "rx=7 forwarded=3 replied=1 passed=1 reply:endpoint_deleted=1 drop:unallocated_cluster_ip=2 \
                     flowsOpened=3 flowsClosed=3",
        },
        Row {
            name: "a ClusterIP that another Service took over never leads to the old one's endpoint",
            bed: Bed::of(&[FIRST, "dns udp 172.30.0.53:53 -> 10.0.1.3:53"])
                .then("other", &["shop tcp 172.30.0.41:80 -> 10.0.1.6:80", "ntp udp 172.30.0.53:53 -> 10.0.1.7:123"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:53
                use other
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=5001
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.7:123
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=9000
                -> forward inside 10.0.1.9:40000 > 10.0.1.6:80",
            ledger: "rx=5 forwarded=4 replied=1 reply:endpoint_deleted=1 flowsOpened=4 flowsClosed=2",
        },
        Row {
            name: "emptied and filled again: reject and forward take turns",
            bed: Bed::of(&["web tcp 172.30.0.41:80 ->"])
                .then("filled", &[FIRST])
                .then("empty", &["web tcp 172.30.0.41:80 ->"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> reply no_endpoint inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=0 ack=1001
                use filled
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                use empty
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> reply no_endpoint inside rst 172.30.0.41:80 > 10.0.1.9:40001 seq=0 ack=1001
                use filled
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:8080",
            ledger: "rx=4 forwarded=2 replied=2 reply:no_endpoint=2 flowsOpened=2",
        },
        Row {
            name: "over IPv6: the TCP client is reset, UDP moves",
            bed: Bed::of(&[
                "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:80",
                "dns udp [fd00:172:30::53]:53 -> [fd00:10::3]:53",
            ])
            .then(
                "moved",
                &["web tcp [fd00:172:30::41]:80 -> [fd00:10::2]:80", "dns udp [fd00:172:30::53]:53 -> [fd00:10::4]:53"],
            ),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:80
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::fffe]:B > [fd00:10::3]:53
                use moved
                outside tcp FA [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ack=5001
                -> reply endpoint_deleted outside rst [fd00:172:30::41]:80 > [2001:db8:c::9]:40000 seq=5001
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::fffe]:C > [fd00:10::4]:53",
            ledger: "rx=4 forwarded=3 replied=1 reply:endpoint_deleted=1 flowsOpened=3 flowsClosed=2",
        },
    ]
}
