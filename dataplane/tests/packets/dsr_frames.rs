//! Direct server return: how frames leave, bare and inside an outer header.

use super::dsr::{IPIP, IPIP_DNS, IPIP6, L2, L2_6, L2_DNS, L2_SIG};
use crate::bed::Bed;
use crate::bed::row::Row;

pub(super) fn by_mac() -> Vec<Row> {
    vec![
        Row {
            name: "dsr-l2: only MAC addresses and the TTL change, whatever the protocol and the traffic policy",
            bed: Bed::of(&[L2, L2_6, L2_DNS, L2_SIG]),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.1:80 tos=185 id=77 df opt=94040000
                -> forward inside 203.0.113.9:40000 > 198.51.100.1:80 by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 198.51.100.1:80 seq=1001 pad=6
                -> forward inside 203.0.113.9:40000 > 198.51.100.1:80 by=10.0.1.1
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 label=9 sum=partial
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=none data=q
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=wrong data=q
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3
                outside sctp 203.0.113.9:5000 > 172.30.0.42:2905 bytes=20
                -> forward inside 203.0.113.9:5000 > 172.30.0.42:2905 by=10.0.1.4
                inside tcp S 10.0.1.9:5000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:5000 > 172.30.0.41:80 by=10.0.1.1
                outside tcp S 203.0.113.9:41000 > 198.51.100.1:80 ttl=1
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9",
            ledger: "rx=8 forwarded=7 replied=1 reply:ttl_expired=1 flowsOpened=5",
        },
        Row {
            name: "dsr: a NodePort is the node's own address, so it goes by NAT",
            bed: Bed::of(&[L2]),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080
                -> forward inside 10.0.255.254:A > 10.0.1.1:80
                inside tcp SA 10.0.1.1:80 > 10.0.255.254:A ack=1001
                -> forward outside 192.168.0.2:30080 > 203.0.113.9:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "dsr: what the endpoint sends to the client under its own address, or in the VIP's name, is the kernel's",
            bed: Bed::of(&[L2]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                inside tcp SA 172.30.0.41:80 > 203.0.113.9:40000 ack=1001
                -> pass
                inside tcp A 10.0.1.1:80 > 203.0.113.9:40000
                -> pass",
            ledger: "rx=3 forwarded=1 passed=2 flowsOpened=1",
        },
    ]
}

pub(super) fn inside() -> Vec<Row> {
    vec![
        Row {
            name: "dsr-ipip: the packet goes inside another one, with its class of service and nothing else of it",
            bed: Bed::of(&[IPIP, IPIP6, IPIP_DNS]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 tos=185 id=77 df
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1 within=10.0.255.254>10.0.1.1
                outside tcp AP 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 data=GET tos=3
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1 within=10.0.255.254>10.0.1.1
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 tos=185 label=9
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
                outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ext=0:00010400000000
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=q pad=9 sum=partial
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3",
            ledger: "rx=5 forwarded=5 flowsOpened=3",
        },
        Row {
            name: "dsr-ipip: the segment size of a SYN stays, which is for what the endpoint sends past the gateway",
            bed: Bed::of(&[IPIP, IPIP6]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 mss=1460
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1 within=10.0.255.254>10.0.1.1
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 mss=1440
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1",
            ledger: "rx=2 forwarded=2 flowsOpened=2",
        },
        Row {
            name: "dsr: what may be fragmented leaves as fragments, with dsr-ipip of the outer packet",
            bed: Bed::of(&[
                "l2 udp 172.30.0.54:53 dsr=l2 -> 10.5.0.1:53",
                "ipip udp 172.30.0.53:53 dsr=ipip -> 10.0.1.3:53",
            ]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.54:53 bytes=1400 id=9
                -> fragments 1280 narrow 203.0.113.9:5000 > 172.30.0.54:53 by=10.5.0.1
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1460 id=9
                -> fragments 1500 inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3",
            ledger: "rx=2 forwarded=2 flowsOpened=2",
        },
        Row {
            name: "dsr-ipip: the outer header counts in what is too large, and the client is told what is left for it",
            bed: Bed::of(&[IPIP_DNS, IPIP6, L2]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1453 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 rest=000005c8
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1452 df
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1453 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 rest=000005c8
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 bytes=1401
                -> reply too_big outside icmp 2/0 [2001:db8::2] > [2001:db8:c::9] mtu=1460
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 bytes=1400
                -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
                outside tcp S 203.0.113.9:40000 > 198.51.100.1:80 bytes=1460 df
                -> forward inside 203.0.113.9:40000 > 198.51.100.1:80 by=10.0.1.1",
            ledger: "rx=6 forwarded=3 replied=3 reply:too_big=3 flowsOpened=3",
        },
    ]
}
