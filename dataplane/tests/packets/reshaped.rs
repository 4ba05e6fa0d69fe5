//! Services whose type, ports, policies and addresses change under flows: rules 20 and 21 of the Service semantics. A flow
//! stays while its frontend still leads to its endpoint, and never goes to an endpoint of another Service or port.

use crate::bed::Bed;
use crate::bed::row::Row;

const NODE_PORT: &str = "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.1:8080";
const BALANCER: &str = "web tcp 172.30.0.41:80 node=30080 lb=198.51.100.7 -> 10.0.1.1:8080";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "NodePort to LoadBalancer and back: flows by the NodePort stay, those by the address that went are reset",
            bed: Bed::of(&[NODE_PORT]).then("balancer", &[BALANCER]).then("back", &[NODE_PORT]),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 198.51.100.7:80
                -> pass
                use balancer
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 198.51.100.7:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                use back
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp A 203.0.113.9:40001 > 198.51.100.7:80 seq=1001
                -> reply endpoint_deleted outside rst 198.51.100.7:80 > 203.0.113.9:40001 seq=5001
                outside tcp A 203.0.113.9:40001 > 198.51.100.7:80 seq=1001
                -> pass",
            ledger: "rx=7 forwarded=4 replied=1 passed=2 reply:endpoint_deleted=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "the Service's port is renumbered: flows to the old number end, and no port of the VIP leads elsewhere",
            bed: Bed::of(&[NODE_PORT, "dns udp 172.30.0.53:53 -> 10.0.1.3:53"])
                .then("other", &["web tcp 172.30.0.41:81 -> 10.0.1.1:8080", "dns udp 172.30.0.53:54 -> 10.0.1.3:53"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:53
                use other
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=5001
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> reply no_service_port inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=0 ack=1001
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> reply no_service_port inside icmp 3/3 172.30.0.53 > 10.0.1.9
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:81
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:54
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:53",
            ledger: "rx=7 forwarded=4 replied=3 reply:endpoint_deleted=1 reply:no_service_port=2 flowsOpened=4 \
                     flowsClosed=2",
        },
        Row {
            name: "the endpoint's port is renumbered: TCP is reset, UDP moves to the new number",
            bed: Bed::of(&[NODE_PORT, "dns udp 172.30.0.53:53 -> 10.0.1.3:53"])
                .then("other", &["web tcp 172.30.0.41:80 -> 10.0.1.1:9090", "dns udp 172.30.0.53:53 -> 10.0.1.3:5353"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:53
                use other
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=5001
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353",
            ledger: "rx=4 forwarded=3 replied=1 reply:endpoint_deleted=1 flowsOpened=3 flowsClosed=2",
        },
        Row {
            name: "two ports of a Service change places: no flow goes on to the other one's endpoint",
            bed: Bed::of(&["web tcp 172.30.0.41:80 -> 10.0.1.1:8080", "web tcp 172.30.0.41:81 -> 10.0.1.1:9090"]).then(
                "crossed",
                &["web tcp 172.30.0.41:80 -> 10.0.1.1:9090", "web tcp 172.30.0.41:81 -> 10.0.1.1:8080"],
            ),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:81
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:9090
                use crossed
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.41:80 > 10.0.1.9:40000 seq=5001
                inside tcp A 10.0.1.9:40001 > 172.30.0.41:81 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.41:81 > 10.0.1.9:40001 seq=5001",
            ledger: "rx=4 forwarded=2 replied=2 reply:endpoint_deleted=2 flowsOpened=2 flowsClosed=2",
        },
        Row {
            name: "the nodePort is renumbered: flows by the ClusterIP stay, the old number is the node's again",
            bed: Bed::of(&[NODE_PORT]).then("other", &["web tcp 172.30.0.41:80 node=30081 -> 10.0.1.1:8080"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                use other
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001
                -> reply endpoint_deleted outside rst 192.168.0.2:30080 > 203.0.113.9:40000 seq=5001
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080
                -> pass
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40002 > 192.168.0.2:30081
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080",
            ledger: "rx=6 forwarded=4 replied=1 passed=1 reply:endpoint_deleted=1 flowsOpened=3 flowsClosed=1",
        },
        Row {
            name: "a nodePort that another Service took over: TCP is reset, UDP goes to the new owner's endpoint",
            bed: Bed::of(&[NODE_PORT, "dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:53"]).then(
                "taken",
                &[
                    "shop tcp 172.30.0.50:80 node=30080 -> 10.0.1.6:80",
                    "ntp udp 172.30.0.51:123 node=30053 -> 10.0.1.7:123",
                ],
            ),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053
                -> forward inside 10.0.255.254:B > 10.0.1.3:53
                use taken
                outside tcp A 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001
                -> reply endpoint_deleted outside rst 192.168.0.2:30080 > 203.0.113.9:40000 seq=5001
                outside udp 203.0.113.9:5000 > 192.168.0.2:30053
                -> forward inside 10.0.255.254:C > 10.0.1.7:123
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 seq=9000
                -> forward inside 10.0.255.254:D > 10.0.1.6:80",
            ledger: "rx=5 forwarded=4 replied=1 reply:endpoint_deleted=1 flowsOpened=4 flowsClosed=2",
        },
        Row {
            name: "a ClusterIP that another Service took over with the same endpoint: the flow goes on",
            bed: Bed::of(&[NODE_PORT]).then("renamed", &["shop tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                use renamed
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a port changes its protocol: the TCP flow is reset, and the number is UDP's alone",
            bed: Bed::of(&["dns tcp 172.30.0.53:53 -> 10.0.1.3:53"])
                .then("udp", &["dns udp 172.30.0.53:53 -> 10.0.1.3:53"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:40000 > 10.0.1.3:53
                use udp
                inside tcp A 10.0.1.9:40000 > 172.30.0.53:53 seq=1001
                -> reply endpoint_deleted inside rst 172.30.0.53:53 > 10.0.1.9:40000 seq=5001
                inside tcp S 10.0.1.9:40001 > 172.30.0.53:53
                -> reply no_service_port inside rst 172.30.0.53:53 > 10.0.1.9:40001 seq=0 ack=1001
                inside udp 10.0.1.9:40000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:40000 > 10.0.1.3:53",
            ledger: "rx=4 forwarded=2 replied=2 reply:endpoint_deleted=1 reply:no_service_port=1 flowsOpened=2 \
                     flowsClosed=1",
        },
        Row {
            name: "externalTrafficPolicy becomes Local: an established flow keeps its endpoint elsewhere, new ones are dropped",
            bed: Bed::of(&[BALANCER])
                .then("local", &["web tcp 172.30.0.41:80 node=30080 lb=198.51.100.7 etp=Local -> 10.0.1.1:8080"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.7:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use local
                outside tcp A 203.0.113.9:40000 > 198.51.100.7:80 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 198.51.100.7:80
                -> drop no_local_endpoint",
            ledger: "rx=3 forwarded=2 drop:no_local_endpoint=1 flowsOpened=1",
        },
        Row {
            name: "source ranges that no longer admit a client let its flow go on, and its new ones not in",
            bed: Bed::of(&[BALANCER]).then(
                "guarded",
                &["web tcp 172.30.0.41:80 node=30080 lb=198.51.100.7 ranges=192.0.2.0/24 -> 10.0.1.1:8080"],
            ),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.7:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use guarded
                outside tcp A 203.0.113.9:40000 > 198.51.100.7:80 seq=1001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 198.51.100.7:80
                -> drop source_not_allowed",
            ledger: "rx=3 forwarded=2 drop:source_not_allowed=1 flowsOpened=1",
        },
        Row {
            name: "over IPv6: the nodePort goes, the ClusterIP's flows stay",
            bed: Bed::of(&["web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080"])
                .then("cluster", &["web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080"]),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:8080
                outside tcp S [2001:db8:c::9]:40001 > [2001:db8::2]:30080
                -> forward inside [fd00:10::fffe]:B > [fd00:10::1]:8080
                use cluster
                outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:8080
                outside tcp A [2001:db8:c::9]:40001 > [2001:db8::2]:30080 seq=1001
                -> reply endpoint_deleted outside rst [2001:db8::2]:30080 > [2001:db8:c::9]:40001 seq=5001",
            ledger: "rx=4 forwarded=3 replied=1 reply:endpoint_deleted=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "endpoint deleted: an SCTP association moves with its next packet",
            bed: Bed::of(&["sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906"])
                .then("moved", &["sig sctp 172.30.0.42:2905 -> 10.0.1.5:2906"]),
            script: "
                inside sctp 10.0.1.9:2905 > 172.30.0.42:2905
                -> forward inside 10.0.1.9:2905 > 10.0.1.4:2906
                use moved
                inside sctp 10.0.1.9:2905 > 172.30.0.42:2905
                -> forward inside 10.0.1.9:2905 > 10.0.1.5:2906",
            ledger: "rx=2 forwarded=2 flowsOpened=2 flowsClosed=1",
        },
    ]
}
