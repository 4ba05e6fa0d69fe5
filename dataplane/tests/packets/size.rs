//! What is larger than the way out: fragments of IPv4 packets, and the segment size that TCP is told before.

use crate::bed::row::Row;
use crate::bed::{Bed, Neighbors};

const NARROW: [&str; 4] = [
    "far udp 172.30.0.41:80 -> 10.5.0.1:80",
    "far tcp 172.30.0.41:80 -> 10.5.0.1:80",
    "far sctp 172.30.0.41:80 -> 10.5.0.1:80",
    "far tcp [fd00:172:30::41]:80 -> [fd00:5::1]:80",
];
const WIDE: [&str; 2] = ["web tcp 172.30.0.41:80 -> 10.0.1.1:80", "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:80"];

pub(crate) fn rows() -> Vec<Row> {
    [fragments(), segment_sizes(), routes()].into_iter().flatten().collect()
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

/// Behind routes that carry 1,280 bytes, by interfaces that carry 1,500.
const ROUTED: [&str; 3] = [
    "far udp 172.30.0.41:80 -> 10.7.0.1:80",
    "far tcp 172.30.0.41:80 -> 10.7.0.1:80",
    "far tcp [fd00:172:30::41]:80 -> [fd00:7::1]:80",
];

fn routes() -> Vec<Row> {
    vec![
        Row {
            name: "an endpoint behind a route that carries less than its interface: told, fragmented, offered no larger segments",
            bed: Bed::of(&ROUTED),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1252 df
                -> forward inside 10.0.255.254:A > 10.7.0.1:80
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1280
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=7
                -> fragments 1280 inside 10.0.255.254:A > 10.7.0.1:80
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:B > 10.7.0.1:80 mss=1240
                inside tcp SA 10.7.0.1:80 > 10.0.255.254:B ack=1001 mss=1460
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000 mss=1240
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 mss=1440
                -> forward inside [fd00:10::fffe]:C > [fd00:7::1]:80 mss=1220
                inside tcp SA [fd00:7::1]:80 > [fd00:10::fffe]:C ack=1001 mss=1440
                -> forward outside [fd00:172:30::41]:80 > [2001:db8:c::9]:40000 mss=1220
                outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ack=900000001 bytes=1221
                -> reply too_big outside icmp 2/0 2001:db8::2 > 2001:db8:c::9 mtu=1280",
            ledger: "rx=8 forwarded=6 replied=2 reply:too_big=2 flowsOpened=3",
        },
        Row {
            name: "who is told that a packet is too large waits for no one who pings or is refused",
            bed: Bed::of(&ROUTED).set(|settings| settings.pipeline.replies_per_second = 1),
            script: "
                outside echo 203.0.113.77 > 172.30.0.41
                -> reply echo_request outside echo 172.30.0.41 > 203.0.113.77
                outside echo 203.0.113.77 > 172.30.0.41
                -> drop echo_request
                outside tcp S 203.0.113.77:40000 > 172.30.0.41:99
                -> drop no_service_port
                outside tcp R 203.0.113.77:40000 > 172.30.0.41:99
                -> drop no_service_port
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1280
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 mss=1440
                -> forward inside [fd00:10::fffe]:C > [fd00:7::1]:80 mss=1220
                inside tcp SA [fd00:7::1]:80 > [fd00:10::fffe]:C ack=1001 mss=1440
                -> forward outside [fd00:172:30::41]:80 > [2001:db8:c::9]:40000 mss=1220
                outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ack=900000001 bytes=1221
                -> reply too_big outside icmp 2/0 2001:db8::2 > 2001:db8:c::9 mtu=1280",
            ledger: "rx=8 forwarded=2 replied=3 reply:echo_request=1 reply:too_big=2 drop:echo_request=1 \
                     drop:no_service_port=2 flowsOpened=1 repliesLimited=2",
        },
        Row {
            name: "a client behind such a route: the same",
            bed: Bed::of(&WIDE),
            script: "
                outside tcp S 198.18.7.9:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:A > 10.0.1.1:80 mss=1240
                inside tcp SA 10.0.1.1:80 > 10.0.255.254:A ack=1001 mss=1460
                -> forward outside 172.30.0.41:80 > 198.18.7.9:40000 mss=1240
                inside tcp A 10.0.1.1:80 > 10.0.255.254:A seq=1 ack=1001 bytes=1241 df
                -> reply too_big inside icmp 3/4 10.0.255.254 > 10.0.1.1 mtu=1280
                outside tcp S [2001:db8:7::9]:40000 > [fd00:172:30::41]:80 mss=1440
                -> forward inside [fd00:10::fffe]:B > [fd00:10::1]:80 mss=1220
                inside tcp SA [fd00:10::1]:80 > [fd00:10::fffe]:B ack=1001 mss=1440
                -> forward outside [fd00:172:30::41]:80 > [2001:db8:7::9]:40000 mss=1220",
            ledger: "rx=5 forwarded=4 replied=1 reply:too_big=1 flowsOpened=2",
        },
        Row {
            name: "what waits for the neighbour of such a route is too large for the same reason, and fragmented to the same size",
            bed: Bed::of(&ROUTED).neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> held
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1280
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1472 id=7
                -> held
                use known
                -> forward inside 10.0.255.254:A > 10.7.0.1:80 mss=1240
                -> fragments 1280 inside 10.0.255.254:B > 10.7.0.1:80",
            ledger: "rx=3 forwarded=2 replied=1 reply:too_big=1 flowsOpened=2",
        },
    ]
}

fn segment_sizes() -> Vec<Row> {
    vec![
        Row {
            name: "an endpoint behind a smaller MTU: SYN and SYN-ACK offer what the way carries, again and again",
            bed: Bed::of(&NARROW),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80 mss=1240
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80 mss=1240
                narrow tcp SA 10.5.0.1:80 > 10.5.0.254:A ack=1001 mss=1460
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000 mss=1240
                narrow tcp SA 10.5.0.1:80 > 10.5.0.254:A ack=1001 mss=1460
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000 mss=1240
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 mss=1460
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 mss=1440
                -> forward narrow [fd00:5::fffe]:B > [fd00:5::1]:80 mss=1220
                narrow tcp SA [fd00:5::1]:80 > [fd00:5::fffe]:B ack=1001 mss=9000
                -> forward outside [fd00:172:30::41]:80 > [2001:db8:c::9]:40000 mss=1220",
            ledger: "rx=7 forwarded=7 flowsOpened=2",
        },
        Row {
            name: "a client behind a smaller MTU: the same",
            bed: Bed::of(&WIDE),
            script: "
                narrow tcp S 10.5.0.1:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:A > 10.0.1.1:80 mss=1240
                inside tcp SA 10.0.1.1:80 > 10.0.255.254:A ack=1001 mss=1460
                -> forward narrow 172.30.0.41:80 > 10.5.0.1:40000 mss=1240
                narrow tcp S [fd00:5::1]:40000 > [fd00:172:30::41]:80 mss=1220
                -> forward inside [fd00:10::fffe]:B > [fd00:10::1]:80 mss=1220
                inside tcp SA [fd00:10::1]:80 > [fd00:10::fffe]:B ack=1001 mss=1440
                -> forward narrow [fd00:172:30::41]:80 > [fd00:5::1]:40000 mss=1220",
            ledger: "rx=4 forwarded=4 flowsOpened=2",
        },
        Row {
            name: "after a change of the network too: the way back is looked up anew",
            bed: Bed::of(&WIDE).then_neighbors("again", Neighbors::All),
            script: "
                narrow tcp S 10.5.0.1:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:A > 10.0.1.1:80 mss=1240
                use again
                narrow tcp S 10.5.0.1:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:A > 10.0.1.1:80 mss=1240",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a size is never raised nor put in, and one that fits stays; a checksum stays as right or wrong as it was",
            bed: Bed::of(&NARROW),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=536
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80 mss=536
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward narrow 10.5.0.254:B > 10.5.0.1:80
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80 mss=1240
                -> forward narrow 10.5.0.254:C > 10.5.0.1:80 mss=1240
                outside tcp S 203.0.113.9:40003 > 172.30.0.41:80 mss=1241 sum=partial
                -> forward narrow 10.5.0.254:D > 10.5.0.1:80 mss=1240
                outside tcp S 203.0.113.9:40004 > 172.30.0.41:80 mss=1460 sum=wrong
                -> forward narrow 10.5.0.254:E > 10.5.0.1:80 mss=1240
                outside tcp S 203.0.113.9:40005 > 172.30.0.41:80 tcpopt=010303070100020405b40402
                -> forward narrow 10.5.0.254:F > 10.5.0.1:80 tcpopt=010303070100020405b40402
                outside tcp S 203.0.113.9:40006 > 172.30.0.41:80 tcpopt=01030307010204ffff040200
                -> forward narrow 10.5.0.254:G > 10.5.0.1:80 tcpopt=0103030701020404d8040200
                outside tcp S 203.0.113.9:40007 > 172.30.0.41:80 tcpopt=0205ffffffff0100
                -> forward narrow 10.5.0.254:H > 10.5.0.1:80 tcpopt=0205ffffffff0100",
            ledger: "rx=8 forwarded=8 flowsOpened=8",
        },
        Row {
            name: "where all ways carry as much, nothing changes",
            bed: Bed::of(&WIDE),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 10.0.255.254:A > 10.0.1.1:80 mss=1460
                inside tcp SA 10.0.1.1:80 > 10.0.255.254:A ack=1001 mss=1460
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000 mss=1460
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80 mss=8960
                -> forward inside 10.0.255.254:B > 10.0.1.1:80 mss=1460",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "neighbours that are not known yet carry what their interfaces do",
            bed: Bed::of(&NARROW).neighbors(Neighbors::None).then_neighbors("known", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> held
                use known
                -> forward narrow 10.5.0.254:A > 10.5.0.1:80 mss=1240",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
    ]
}
