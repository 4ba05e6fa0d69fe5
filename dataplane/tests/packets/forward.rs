//! Packets that go to an endpoint and back.

use crate::bed::Bed;
use crate::bed::row::Row;
use crate::town::{WEB, town};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "TCP to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 192.168.0.2:30080 tos=184 id=77 df
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ack=1001
                -> forward outside 192.168.0.2:30080 > 203.0.113.9:40000
                outside tcp AP 203.0.113.9:40000 > 192.168.0.2:30080 seq=1001 data=hello
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "TCP over IPv6 to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [2001:db8::2]:30080 tos=3 label=70001
                -> forward inside [fd00:10::fffe]:A > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::fffe]:A ack=1001
                -> forward outside [2001:db8::2]:30080 > [2001:db8:c::9]:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "UDP from outside to a ClusterIP is masqueraded and answered",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=query
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A data=answer
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "UDP over IPv6 from outside to a ClusterIP is masqueraded and answered",
            bed: town(),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 data=odd
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A bytes=1200
                -> forward outside [fd00:172:30::53]:53 > [2001:db8:c::9]:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "SCTP to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside sctp 203.0.113.9:5000 > 192.168.0.2:32905 bytes=20
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                inside sctp 10.0.1.4:2906 > 10.0.255.254:A bytes=333
                -> forward outside 192.168.0.2:32905 > 203.0.113.9:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "SCTP over IPv6 to a NodePort is masqueraded and answered",
            bed: town(),
            script: "
                outside sctp [2001:db8:c::9]:5000 > [2001:db8::2]:32905 bytes=20
                -> forward inside [fd00:10::fffe]:A > [fd00:10::4]:2906
                inside sctp [fd00:10::4]:2906 > [fd00:10::fffe]:A bytes=1
                -> forward outside [2001:db8::2]:32905 > [2001:db8:c::9]:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a pod's TCP to a ClusterIP keeps its source, and leaves by the interface it came on",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a pod's TCP over IPv6 to a ClusterIP keeps its source",
            bed: town(),
            script: "
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::41]:80
                -> forward inside [fd00:10::9]:40000 > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::9]:40000 ack=1001
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::9]:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a pod's UDP to a ClusterIP keeps its source",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000 data=x
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a pod's UDP and SCTP over IPv6 to ClusterIPs keep their sources",
            bed: town(),
            script: "
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::9]:5000 data=x
                -> forward inside [fd00:172:30::53]:53 > [fd00:10::9]:5000
                inside sctp [fd00:10::9]:5000 > [fd00:172:30::42]:2905 bytes=40
                -> forward inside [fd00:10::9]:5000 > [fd00:10::4]:2906",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "hairpin: the client is the endpoint, so the source changes too",
            bed: town(),
            script: "
                inside tcp S 10.0.1.1:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.1:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "hairpin over UDP and IPv6",
            bed: town(),
            script: "
                inside udp [fd00:10::3]:40000 > [fd00:172:30::53]:53 data=ab
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::fffe]:A data=cd
                -> forward inside [fd00:172:30::53]:53 > [fd00:10::3]:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "an external IP masquerades pods too",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 198.51.100.1:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 192.168.0.77:40000 > 198.51.100.1:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B ack=1001
                -> forward outside 198.51.100.1:80 > 192.168.0.77:40000",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "externalTrafficPolicy Local keeps the source; the reply finds its flow by the endpoint",
            bed: Bed::of(&["web tcp 172.30.0.41:80 lb=198.51.100.7 etp=Local -> 10.0.1.1:8080 10.0.1.2:8080/local"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 198.51.100.7:80
                -> forward inside 203.0.113.9:40000 > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 203.0.113.9:40000 ack=1001
                -> forward outside 198.51.100.7:80 > 203.0.113.9:40000
                inside tcp SA 10.0.1.1:8080 > 203.0.113.9:40000 ack=1001
                -> pass",
            ledger: "rx=3 forwarded=2 passed=1 flowsOpened=1",
        },
        Row {
            name: "masqueradeAll rewrites a pod's source",
            bed: town().with(|services| services.masquerade_all = true),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
        Row {
            name: "without pod CIDRs everybody keeps the source towards a ClusterIP",
            bed: town().with(|services| services.node.pod_cidrs.clear()),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 203.0.113.9:5000 > 10.0.1.3:5353",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
        Row {
            name: "configured SNAT addresses are used for their family only",
            bed: town().set(|settings| settings.pipeline.snat_addresses = vec!["192.168.0.99".parse().unwrap()]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 192.168.0.99:A > 10.0.1.3:5353
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53
                -> forward inside [fd00:10::fffe]:B > [fd00:10::3]:5353",
            ledger: "rx=2 forwarded=2 flowsOpened=2",
        },
        Row {
            name: "session affinity: all ports of a client choose by its address alone",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
                "web tcp 172.30.0.41:81 affinity=60 -> 10.0.1.1:81 10.0.1.2:81 10.0.1.3:81 10.0.1.4:81 10.0.1.5:81",
            ]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.5:80
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.5:80
                inside tcp S 10.0.1.9:40002 > 172.30.0.41:81
                -> forward inside 10.0.1.9:40002 > 10.0.1.5:81",
            ledger: "rx=3 forwarded=3 flowsOpened=3",
        },
        Row {
            name: "IPv4 options are carried along, padding is not",
            bed: Bed::of(&[WEB]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 opt=0707040a00010100 pad=6
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 opt=94040000 pad=18 tos=7
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "IPv6 extension headers are carried along, eight of them too",
            bed: town(),
            script: "
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 ext=0:00010400000000 ext=60:00010400000000 pad=4
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353
                inside udp [fd00:10::3]:5353 > [fd00:10::9]:5000 data=x ext=60:00010400000000 ext=60:00010400000000 \
                 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 \
                 ext=60:00010400000000 ext=60:00010400000000
                -> forward inside [fd00:172:30::53]:53 > [fd00:10::9]:5000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a whole packet with an IPv6 fragment header is no fragment",
            bed: town(),
            script: "
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 frag=0 id=99 data=x
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
    ]
}
