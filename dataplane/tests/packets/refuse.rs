//! Packets that are rejected or dropped because of what the Services say.

use crate::bed::row::Row;
use crate::bed::{Bed, Neighbors};
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "a Service without endpoints resets TCP: a SYN, data, and data with ACK",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80
                -> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.9:40000 seq=0 ack=1001
                outside tcp - 203.0.113.9:40001 > 172.30.0.44:80 data=hello
                -> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.9:40001 seq=0 ack=1005
                outside tcp FA 203.0.113.9:40002 > 192.168.0.2:30044 ack=777 data=hello
                -> reply no_endpoint outside rst 192.168.0.2:30044 > 203.0.113.9:40002 seq=777",
            ledger: "rx=3 replied=3 reply:no_endpoint=3",
        },
        Row {
            name: "a Service without endpoints resets TCP over IPv6",
            bed: town(),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::44]:80 tos=5 label=9 pad=3
                -> reply no_endpoint outside rst [fd00:172:30::44]:80 > [2001:db8:c::9]:40000 seq=0 ack=1001",
            ledger: "rx=1 replied=1 reply:no_endpoint=1",
        },
        Row {
            name: "a Service without endpoints says port unreachable to UDP, quoting what fits",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.44:53 data=query id=4711
                -> reply no_endpoint outside icmp 3/3 172.30.0.44 > 203.0.113.9
                outside udp 203.0.113.9:5000 > 172.30.0.44:53 bytes=1400
                -> reply no_endpoint outside icmp 3/3 172.30.0.44 > 203.0.113.9",
            ledger: "rx=2 replied=2 reply:no_endpoint=2",
        },
        Row {
            name: "a Service without endpoints says port unreachable to UDP over IPv6, quoting what fits",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::44]:53 data=query
                -> reply no_endpoint outside icmp 1/4 [fd00:172:30::44] > [2001:db8:c::9]
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::44]:53 bytes=1400
                -> reply no_endpoint outside icmp 1/4 [fd00:172:30::44] > [2001:db8:c::9]",
            ledger: "rx=2 replied=2 reply:no_endpoint=2",
        },
        Row {
            name: "a Service without endpoints says port unreachable to SCTP",
            bed: Bed::of(&["sig sctp 172.30.0.42:2905 ->"]),
            script: "
                outside sctp 203.0.113.9:5000 > 172.30.0.42:2905 bytes=20
                -> reply no_endpoint outside icmp 3/3 172.30.0.42 > 203.0.113.9",
            ledger: "rx=1 replied=1 reply:no_endpoint=1",
        },
        Row {
            name: "a port that no Service has is rejected on every VIP",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:81
                -> reply no_service_port inside rst 172.30.0.41:81 > 10.0.1.9:40000 seq=0 ack=1001
                outside udp 203.0.113.9:5000 > 198.51.100.1:53
                -> reply no_service_port outside icmp 3/3 198.51.100.1 > 203.0.113.9
                inside udp 10.0.1.9:5000 > 172.30.0.41:80
                -> reply no_service_port inside icmp 3/3 172.30.0.41 > 10.0.1.9",
            ledger: "rx=3 replied=3 reply:no_service_port=3",
        },
        Row {
            name: "an unallocated ClusterIP is dropped, whatever the protocol",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.9.9:80
                -> drop unallocated_cluster_ip
                inside udp [fd00:10::9]:5000 > [fd00:172:30::99]:53
                -> drop unallocated_cluster_ip
                inside echo 10.0.1.9 > 172.30.9.9 data=ping
                -> drop unallocated_cluster_ip
                inside proto 50 10.0.1.9 > 172.30.9.9 bytes=40
                -> drop unallocated_cluster_ip",
            ledger: "rx=4 drop:unallocated_cluster_ip=4",
        },
        Row {
            name: "a VIP that the host owns: Service ports are balanced, the rest is the node's",
            bed: Bed::of(&["web tcp 172.30.0.41:80 external=192.168.0.2 -> 10.0.1.1:8080"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:22
                -> pass
                outside echo 203.0.113.9 > 192.168.0.2 data=ping
                -> pass
                outside proto 50 203.0.113.9 > 192.168.0.2 bytes=40
                -> pass",
            ledger: "rx=4 forwarded=1 passed=3 flowsOpened=1",
        },
        Row {
            name: "LB source ranges guard the LB IP only, before anything is said of endpoints",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 node=30080 lb=198.51.100.7 ranges=203.0.113.0/25 -> 10.0.1.1:8080",
                "gone tcp 172.30.0.45:80 lb=198.51.100.8 ranges=203.0.113.0/25 ->",
            ]),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.7:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.200:40000 > 198.51.100.7:80
                -> drop source_not_allowed
                inside tcp S 10.0.1.9:40000 > 198.51.100.7:80
                -> drop source_not_allowed
                outside tcp S 203.0.113.200:40000 > 198.51.100.8:80
                -> drop source_not_allowed
                outside tcp S 203.0.113.200:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                outside tcp S 203.0.113.200:40001 > 192.168.0.2:30080
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080",
            ledger: "rx=6 forwarded=3 drop:source_not_allowed=3 flowsOpened=3",
        },
        Row {
            name: "policy Local without a local endpoint drops",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 lb=198.51.100.7 etp=Local -> 10.0.1.1:8080",
                "dns udp 172.30.0.53:53 itp=Local -> 10.0.1.3:5353",
            ]),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.7:80
                -> drop no_local_endpoint
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> drop no_local_endpoint
                inside tcp S 10.0.1.9:40000 > 198.51.100.7:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=1 drop:no_local_endpoint=2 flowsOpened=1",
        },
        Row {
            name: "an endpoint that is refused drops",
            bed: Bed::of(&["web tcp 172.30.0.41:80 -> 192.168.0.2:6443/refused"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> drop endpoint_refused",
            ledger: "rx=1 drop:endpoint_refused=1",
        },
        Row {
            name: "endpoints that cannot be reached, each with its reason",
            bed: Bed::of(&[
                "a tcp 172.30.0.1:80 -> 172.16.0.1:80",
                "b tcp 172.30.0.2:80 -> 10.98.0.1:80",
                "c tcp 172.30.0.3:80 -> 10.99.0.1:80",
                "d tcp 172.30.0.4:80 -> 10.4.0.1:80",
                "e tcp 172.30.0.5:80 -> 10.97.0.1:80",
                "f tcp [fd00:172:30::1]:80 -> [fd00:20::1]:80",
            ]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.1:80
                -> drop no_route
                inside tcp S 10.0.1.9:40000 > 172.30.0.2:80
                -> drop no_route
                inside tcp S 10.0.1.9:40000 > 172.30.0.3:80
                -> drop no_interface
                inside tcp S 10.0.1.9:40000 > 172.30.0.4:80
                -> drop interface_down
                inside tcp S 10.0.1.9:40000 > 172.30.0.5:80
                -> drop endpoint_refused
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::1]:80
                -> forward bare [fd00:10::9]:40000 > [fd00:20::1]:80",
            ledger: "rx=6 forwarded=1 drop:no_route=2 drop:no_interface=1 drop:interface_down=1 \
                     drop:endpoint_refused=1 flowsOpened=1",
        },
        Row {
            name: "an interface without an address borrows the source of masqueraded flows from another",
            bed: Bed::of(&["f tcp [fd00:172:30::1]:80 -> [fd00:20::1]:80"]),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::1]:80
                -> forward bare [fd00:10::fffe]:A > [fd00:20::1]:80
                bare tcp SA [fd00:20::1]:80 > [fd00:10::fffe]:A
                -> forward outside [fd00:172:30::1]:80 > [2001:db8:c::9]:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "where no interface has one there is no source",
            bed: Bed::of(&["f tcp [fd00:172:30::1]:80 -> [fd00:20::1]:80"]).neighbors(Neighbors::AllWithoutAddress6),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::1]:80
                -> drop no_source_address",
            ledger: "rx=1 drop:no_source_address=1",
        },
        Row {
            name: "a client that cannot be reached gets no answer, and its reply no way",
            bed: Bed::of(&["web tcp 172.30.0.41:80 -> 10.0.1.1:8080", "empty tcp 172.30.0.44:80 ->"]),
            script: "
                outside tcp S 172.16.0.9:40000 > 172.30.0.44:80
                -> drop no_endpoint
                outside tcp S 10.99.0.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A
                -> drop no_interface
                outside tcp S 172.16.0.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B
                -> drop no_route",
            ledger: "rx=5 forwarded=2 drop:no_endpoint=1 drop:no_interface=1 drop:no_route=1 flowsOpened=2",
        },
        Row {
            name: "nothing answers a RST, a wrong checksum, or an ICMP error",
            bed: town(),
            script: "
                outside tcp R 203.0.113.9:40000 > 172.30.0.44:80
                -> drop no_endpoint
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80 sum=wrong
                -> drop no_endpoint
                outside udp 203.0.113.9:5000 > 172.30.0.44:53 sum=wrong data=x
                -> drop no_endpoint
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::44]:53 sum=none data=x
                -> drop no_endpoint
                outside echo 203.0.113.9 > 172.30.0.41 sum=wrong
                -> drop echo_request
                outside icmp 3/3 203.0.113.9 > 172.30.0.44 bytes=28
                -> drop icmp_without_flow
                outside icmp 1/4 [2001:db8:c::9] > [fd00:172:30::44] bytes=48
                -> drop icmp_without_flow",
            ledger: "rx=7 drop:no_endpoint=4 drop:echo_request=1 drop:icmp_without_flow=2",
        },
        Row {
            name: "answers are limited; what is over the limit drops under the reject's reason",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:20000 > 172.30.0.44:80 times=1000
                -> reply no_endpoint outside
                outside tcp S 203.0.113.9:30000 > 172.30.0.44:80 times=3
                -> drop no_endpoint
                outside udp 203.0.113.9:5000 > 172.30.0.41:99
                -> drop no_service_port
                @998
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80
                -> drop no_endpoint
                @1002
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80 times=1000
                -> reply no_endpoint outside
                outside tcp S 203.0.113.9:40010 > 172.30.0.44:80
                -> drop no_endpoint",
            ledger: "rx=2006 replied=2000 reply:no_endpoint=2000 drop:no_endpoint=5 drop:no_service_port=1 \
                     repliesLimited=6",
        },
        Row {
            name: "a limit of nothing answers nothing",
            bed: town().set(|settings| settings.pipeline.replies_per_second = 0),
            script: "
                outside tcp S 203.0.113.9:20000 > 172.30.0.44:80
                -> drop no_endpoint
                outside echo 203.0.113.9 > 172.30.0.41
                -> drop echo_request",
            ledger: "rx=2 drop:no_endpoint=1 drop:echo_request=1 repliesLimited=2",
        },
        Row {
            name: "a ping to a VIP is answered when a Service there has an endpoint and lets the sender in",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 -> 10.0.1.1:8080",
                "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080",
                "empty tcp 172.30.0.44:80 ->",
                "guarded tcp 172.30.0.45:80 lb=198.51.100.7 ranges=203.0.113.0/25 -> 10.0.1.1:8080",
            ]),
            script: "
                inside echo 10.0.1.9 > 172.30.0.41 data=ping tos=16 id=8
                -> reply echo_request inside echo 172.30.0.41 > 10.0.1.9
                outside echo [2001:db8:c::9] > [fd00:172:30::41] bytes=56
                -> reply echo_request outside echo [fd00:172:30::41] > [2001:db8:c::9]
                outside echo 203.0.113.9 > 172.30.0.44
                -> drop echo_without_endpoint
                outside echo 203.0.113.9 > 198.51.100.7
                -> reply echo_request outside echo 198.51.100.7 > 203.0.113.9
                outside echo 203.0.113.200 > 198.51.100.7
                -> drop echo_without_endpoint
                outside echo 203.0.113.200 > 172.30.0.45
                -> reply echo_request outside echo 172.30.0.45 > 203.0.113.200",
            ledger: "rx=6 replied=4 reply:echo_request=4 drop:echo_without_endpoint=2",
        },
        Row {
            name: "a ping of zeros has an answer of zeros, whose sum is the other zero",
            bed: town(),
            script: "
                outside echo 203.0.113.9 > 172.30.0.41 rest=00000000
                -> reply echo_request outside echo 172.30.0.41 > 203.0.113.9
                outside echo 203.0.113.9 > 172.30.0.41 rest=00000000 hex=000000
                -> reply echo_request outside echo 172.30.0.41 > 203.0.113.9
                outside echo [2001:db8:c::9] > [fd00:172:30::41] rest=00000000 hex=0000
                -> reply echo_request outside echo [fd00:172:30::41] > [2001:db8:c::9]",
            ledger: "rx=3 replied=3 reply:echo_request=3",
        },
        Row {
            name: "neighbour discovery passes, on a VIP too: neighbours of a node that announces one ask for it there",
            bed: town(),
            script: "
                outside icmp 135/0 [2001:db8:c::9] > [fd00:172:30::41] ttl=255 bytes=16
                -> pass
                outside icmp 136/0 [2001:db8:c::9] > [fd00:172:30::41] ttl=255 bytes=16
                -> pass",
            ledger: "rx=2 passed=2",
        },
        Row {
            name: "other messages of ICMP to a VIP end here in silence, what is no neighbour's discovery among them",
            bed: town(),
            script: "
                outside icmp 135/0 [2001:db8:c::9] > [fd00:172:30::41] bytes=16
                -> drop other_protocol
                outside icmp 137/0 [2001:db8:c::9] > [fd00:172:30::41] ttl=254 bytes=32
                -> drop other_protocol
                outside icmp 13/0 203.0.113.9 > 172.30.0.41 bytes=12
                -> drop other_protocol
                outside icmp 0/0 203.0.113.9 > 198.51.100.1 bytes=4
                -> drop other_protocol
                outside icmp 129/0 [2001:db8:c::9] > [fd00:172:30::41] bytes=4
                -> drop other_protocol
                outside icmp 13/0 203.0.113.9 > 192.168.0.2 bytes=12
                -> pass",
            ledger: "rx=6 passed=1 drop:other_protocol=5",
        },
        Row {
            name: "a protocol that Services do not have is unreachable at a VIP",
            bed: town(),
            script: "
                outside proto 50 203.0.113.9 > 172.30.0.41 bytes=40
                -> reply other_protocol outside icmp 3/2 172.30.0.41 > 203.0.113.9
                outside proto 136 203.0.113.9 > 198.51.100.1 bytes=40 ttl=1
                -> reply other_protocol outside icmp 3/2 198.51.100.1 > 203.0.113.9
                outside proto 47 [2001:db8:c::9] > [fd00:172:30::41] bytes=40
                -> reply other_protocol outside icmp 4/1 [fd00:172:30::41] > [2001:db8:c::9] rest=00000006
                outside proto 47 [2001:db8:c::9] > [fd00:172:30::41] ext=0:00010400000000 ext=60:00010400000000 bytes=4
                -> reply other_protocol outside icmp 4/1 [fd00:172:30::41] > [2001:db8:c::9] rest=00000030
                outside proto 59 [2001:db8:c::9] > [fd00:172:30::41]
                -> drop other_protocol
                outside proto 50 224.0.0.9 > 172.30.0.41 bytes=40
                -> drop impossible_source
                outside proto 50 203.0.113.9 > 172.30.9.9 bytes=40
                -> drop unallocated_cluster_ip",
            ledger: "rx=7 replied=4 reply:other_protocol=4 drop:other_protocol=1 drop:impossible_source=1 \
                drop:unallocated_cluster_ip=1",
        },
        Row {
            name: "of its fragments the first is answered, and none passes",
            bed: town(),
            script: "
                outside proto 50 203.0.113.9 > 172.30.0.41 bytes=64 frag=0+
                -> reply other_protocol outside icmp 3/2 172.30.0.41 > 203.0.113.9
                outside proto 50 203.0.113.9 > 172.30.0.41 bytes=64 frag=64
                -> drop other_protocol
                outside proto 50 203.0.113.9 > 192.168.0.2 bytes=64 frag=64
                -> pass",
            ledger: "rx=3 replied=1 passed=1 reply:other_protocol=1 drop:other_protocol=1",
        },
    ]
}
