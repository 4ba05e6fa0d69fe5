//! One hop of a router: TTL, size, checksums.

use crate::bed::Bed;
use crate::bed::row::Row;
use crate::town::{WEB, town};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "TTL 1 towards an endpoint: the client is told; TTL 0 is dropped; TTL 2 goes on",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=1 id=99 tos=4
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=0
                -> drop ttl_expired
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=2
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 ttl=1 seq=1001 data=again
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 ttl=0 seq=1001 data=again
                -> drop ttl_expired",
            ledger: "rx=5 forwarded=1 replied=2 reply:ttl_expired=2 drop:ttl_expired=2 flowsOpened=1",
        },
        Row {
            name: "TTL 1 and 0 towards the client: the endpoint is told of the packet it sent",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ttl=1 ack=1001
                -> reply ttl_expired inside icmp 11/0 10.0.255.254 > 10.0.1.1
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ttl=0 ack=1001
                -> drop ttl_expired
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ttl=2 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000",
            ledger: "rx=4 forwarded=2 replied=1 reply:ttl_expired=1 drop:ttl_expired=1 flowsOpened=1",
        },
        Row {
            name: "hop limit 1 and 0, both directions",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ttl=1 data=q
                -> reply ttl_expired outside icmp 3/0 [2001:db8::2] > [2001:db8:c::9]
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 ttl=0 data=q
                -> drop ttl_expired
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=q
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A ttl=1 bytes=1400
                -> reply ttl_expired inside icmp 3/0 [fd00:10::fffe] > [fd00:10::3]
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A ttl=0
                -> drop ttl_expired",
            ledger: "rx=5 forwarded=1 replied=2 reply:ttl_expired=2 drop:ttl_expired=2 flowsOpened=1",
        },
        Row {
            name: "TTL 1 to a Service without endpoints, and with a RST or a wrong checksum",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80 ttl=1
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 ttl=1 sum=wrong
                -> drop ttl_expired
                outside tcp R 203.0.113.9:40000 > 172.30.0.44:80 ttl=1
                -> drop ttl_expired",
            ledger: "rx=3 replied=1 reply:ttl_expired=1 drop:ttl_expired=2",
        },
        Row {
            name: "larger than the way to the endpoint: told the MTU with DF and over IPv6, else fragmented; the rest goes",
            bed: Bed::of(&["web udp 172.30.0.41:80 -> 10.5.0.1:80", "web udp [fd00:172:30::41]:80 -> [fd00:5::1]:80"]),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.41:80 bytes=1253 df id=1
                -> reply too_big inside icmp 3/4 10.0.255.254 > 10.0.1.9 mtu=1280
                inside udp 10.0.1.9:5000 > 172.30.0.41:80 bytes=1253
                -> fragments 1280 narrow 10.0.1.9:5000 > 10.5.0.1:80
                inside udp 10.0.1.9:5000 > 172.30.0.41:80 bytes=1252 df
                -> forward narrow 10.0.1.9:5000 > 10.5.0.1:80
                inside udp 10.0.1.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big inside icmp 3/4 10.0.255.254 > 10.0.1.9 mtu=1280
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::41]:80 bytes=1233
                -> reply too_big outside icmp 2/0 [2001:db8::2] > [2001:db8:c::9] mtu=1280
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::41]:80 bytes=1232
                -> forward narrow [fd00:5::fffe]:A > [fd00:5::1]:80
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::41]:80 bytes=1300
                -> reply too_big outside icmp 2/0 [2001:db8::2] > [2001:db8:c::9] mtu=1280",
            ledger: "rx=7 forwarded=3 replied=4 reply:too_big=4 flowsOpened=2",
        },
        Row {
            name: "larger than the way to the client: the endpoint is told with DF, else the packet is fragmented",
            bed: Bed::of(&["web udp 172.30.0.41:80 -> 10.0.1.1:80"]),
            script: "
                narrow udp 10.5.0.1:5000 > 172.30.0.41:80 data=q
                -> forward inside 10.0.255.254:A > 10.0.1.1:80
                inside udp 10.0.1.1:80 > 10.0.255.254:A bytes=1300 df sum=partial
                -> reply too_big inside icmp 3/4 10.0.255.254 > 10.0.1.1 mtu=1280
                inside udp 10.0.1.1:80 > 10.0.255.254:A bytes=1300
                -> fragments 1280 narrow 172.30.0.41:80 > 10.5.0.1:5000
                inside udp 10.0.1.1:80 > 10.0.255.254:A bytes=1252
                -> forward narrow 172.30.0.41:80 > 10.5.0.1:5000",
            ledger: "rx=4 forwarded=3 replied=1 reply:too_big=1 flowsOpened=1",
        },
        Row {
            name: "a ping whose answer is larger than the way back",
            bed: Bed::of(&["web udp 172.30.0.41:80 -> 10.0.1.1:80", "web udp [fd00:172:30::41]:80 -> [fd00:10::1]:80"]),
            script: "
                narrow echo 10.5.0.1 > 172.30.0.41 bytes=1252 df
                -> reply echo_request narrow echo 172.30.0.41 > 10.5.0.1
                narrow echo 10.5.0.1 > 172.30.0.41 bytes=1253 df
                -> reply too_big narrow icmp 3/4 10.5.0.254 > 10.5.0.1 mtu=1280
                narrow echo 10.5.0.1 > 172.30.0.41 bytes=1253
                -> drop too_big
                narrow echo [fd00:5::1] > [fd00:172:30::41] bytes=1232
                -> reply echo_request narrow echo [fd00:172:30::41] > [fd00:5::1]
                narrow echo [fd00:5::1] > [fd00:172:30::41] bytes=1233
                -> reply too_big narrow icmp 2/0 [fd00:5::fffe] > [fd00:5::1] mtu=1280",
            ledger: "rx=5 replied=4 reply:echo_request=2 reply:too_big=2 drop:too_big=1",
        },
        Row {
            name: "the padding of a small frame does not make it too big",
            bed: Bed::of(&["web udp 172.30.0.41:80 -> 10.5.0.1:80"]),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.41:80 bytes=1252 df pad=100
                -> forward narrow 10.0.1.9:5000 > 10.5.0.1:80",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
        Row {
            name: "partial checksums are completed, IPv4, both directions",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 sum=partial
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 sum=partial ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside udp 10.0.1.9:5000 > 172.30.0.53:53 sum=partial data=odd pad=9
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000 sum=partial bytes=1400
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=partial data=even
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A sum=partial data=even
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000",
            ledger: "rx=6 forwarded=6 flowsOpened=3",
        },
        Row {
            name: "partial checksums are completed, IPv6, both directions",
            bed: town(),
            script: "
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::41]:80 sum=partial
                -> forward inside [fd00:10::9]:40000 > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::9]:40000 sum=partial ack=1001
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::9]:40000
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 sum=partial data=odd ext=60:00010400000000
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A sum=partial bytes=1400
                -> forward outside [fd00:172:30::53]:53 > [2001:db8:c::9]:5000",
            ledger: "rx=4 forwarded=4 flowsOpened=2",
        },
        Row {
            name: "partial checksums of SCTP are completed, and are as good as right when rejected",
            bed: town(),
            script: "
                inside sctp 10.0.1.9:5000 > 172.30.0.42:2905 sum=partial bytes=21
                -> forward inside 10.0.1.9:5000 > 10.0.1.4:2906
                inside tcp S 10.0.1.9:40000 > 172.30.0.44:80 sum=partial
                -> reply no_endpoint inside rst 172.30.0.44:80 > 10.0.1.9:40000 seq=0 ack=1001
                inside udp 10.0.1.9:5000 > 172.30.0.44:53 sum=partial data=query
                -> reply no_endpoint inside icmp 3/3 172.30.0.44 > 10.0.1.9
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::41]:80 sum=partial ttl=1
                -> reply ttl_expired inside icmp 3/0 [fd00:10::fffe] > [fd00:10::9]",
            ledger: "rx=4 forwarded=1 replied=3 reply:no_endpoint=2 reply:ttl_expired=1 flowsOpened=1",
        },
        Row {
            name: "UDP without a checksum stays without one",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=none data=query
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A sum=none data=answer
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a wrong checksum stays exactly as wrong",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 sum=wrong
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A sum=wrong ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 sum=wrong data=x
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353
                inside sctp 10.0.1.9:5000 > 172.30.0.42:2905 sum=wrong bytes=100
                -> forward inside 10.0.1.9:5000 > 10.0.1.4:2906",
            ledger: "rx=4 forwarded=4 flowsOpened=3",
        },
        Row {
            name: "padding behind a reply, an answer and a rejected packet goes",
            bed: Bed::of(&[WEB, "empty udp 172.30.0.44:53 ->"]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.44:53 data=x pad=17
                -> reply no_endpoint outside icmp 3/3 172.30.0.44 > 203.0.113.9
                outside echo 203.0.113.9 > 172.30.0.41 data=x pad=17
                -> reply echo_request outside echo 172.30.0.41 > 203.0.113.9",
            ledger: "rx=2 replied=2 reply:no_endpoint=1 reply:echo_request=1",
        },
    ]
}
