//! Nothing left: flow records, SNAT ports.

use crate::bed::Bed;
use crate::bed::row::Row;
use crate::town::{DNS, WEB, town};

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "a full table evicts half-open flows, the oldest first",
            bed: town().flows(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @2000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @4000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ack=1001
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001",
            ledger: "rx=5 forwarded=4 passed=1 flowsOpened=3 flowsClosed=1 flowsEvicted=1",
        },
        Row {
            name: "an established flow is never evicted: newcomers are dropped, but for source-kept UDP, which goes stateless",
            bed: town().flows(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp S 10.0.1.9:5000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:5000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:5000 seq=7000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:5000
                inside tcp A 10.0.1.9:5000 > 172.30.0.41:80 seq=1001 ack=7001
                -> forward inside 10.0.1.9:5000 > 10.0.1.1:8080
                @5000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> drop flow_table_full
                outside udp 203.0.113.9:5001 > 172.30.0.53:53
                -> drop flow_table_full
                inside tcp S 10.0.1.8:40000 > 172.30.0.41:80
                -> drop flow_table_full
                inside tcp AP 10.0.1.8:40000 > 172.30.0.41:80 data=x
                -> drop flow_table_full
                inside sctp 10.0.1.8:40000 > 172.30.0.42:2905 bytes=20
                -> drop flow_table_full
                inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 data=x
                -> forward inside [fd00:10::9]:5000 > [fd00:10::3]:5353
                inside udp 10.0.1.8:5000 > 172.30.0.53:53 sum=partial pad=3
                -> forward inside 10.0.1.8:5000 > 10.0.1.3:5353
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=14 forwarded=9 drop:flow_table_full=5 stateless=2 flowsOpened=2",
        },
        Row {
            name: "closed flows go before half-open ones, unreplied UDP by age among those",
            bed: town().flows(3),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @2000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @4000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.255.254:C seq=0 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40002
                @6000
                outside udp 203.0.113.9:5001 > 172.30.0.53:53
                -> forward inside 10.0.255.254:D > 10.0.1.3:5353
                inside tcp RA 10.0.1.1:8080 > 10.0.255.254:C seq=0 ack=1001
                -> pass
                outside udp 203.0.113.9:5002 > 172.30.0.53:53
                -> forward inside 10.0.255.254:E > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:A
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001",
            ledger: "rx=9 forwarded=7 passed=2 flowsOpened=5 flowsClosed=2 flowsEvicted=2",
        },
        Row {
            name: "a SYN flood costs an established flow nothing",
            bed: town().flows(8),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp S 10.0.1.9:20000 > 172.30.0.41:80 times=200
                -> forward inside
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=204 forwarded=204 flowsOpened=201 flowsClosed=193 flowsEvicted=193",
        },
        Row {
            name: "SNAT ports run out per endpoint: two endpoints use the same port at once",
            bed: Bed::of(&[
                WEB,
                DNS,
                "web tcp 172.30.0.45:80 -> 10.0.1.2:8080",
                "dns udp 172.30.0.45:80 -> 10.0.1.1:8080",
            ])
            .ports(1),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:61000 seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> drop snat_ports_exhausted
                outside tcp S 203.0.113.9:40001 > 172.30.0.45:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.2:8080
                outside udp 203.0.113.9:40001 > 172.30.0.45:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:61000 ack=1001
                -> forward outside 172.30.0.45:80 > 203.0.113.9:40001
                inside udp 10.0.1.1:8080 > 10.0.255.254:61000
                -> forward outside 172.30.0.45:80 > 203.0.113.9:40001
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:8080",
            ledger: "rx=9 forwarded=8 drop:snat_ports_exhausted=1 flowsOpened=4",
        },
        Row {
            name: "where one SNAT address has no port left, the next one is taken, before anybody gives a port up",
            bed: Bed::of(&[WEB]).ports(1).set(|settings| {
                let addresses = ["192.168.0.98", "2001:db8::98", "192.168.0.99"];
                settings.pipeline.snat_addresses = addresses.map(|address| address.parse().unwrap()).to_vec();
            }),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 192.168.0.99:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 192.168.0.98:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 192.168.0.99:61000 seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 192.168.0.99:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 192.168.0.98:61000 seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 192.168.0.98:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> drop snat_ports_exhausted",
            ledger: "rx=7 forwarded=6 drop:snat_ports_exhausted=1 flowsOpened=2",
        },
        Row {
            name: "SNAT ports are reused, the one free for longest first",
            bed: Bed::of(&[DNS]).ports(3),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @3000
                outside udp 203.0.113.9:5001 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                @6000
                outside udp 203.0.113.9:5002 > 172.30.0.53:53
                -> forward inside 10.0.255.254:C > 10.0.1.3:5353
                @61000
                @64000
                @67000
                outside udp 203.0.113.9:5004 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5005 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                outside udp 203.0.113.9:5006 > 172.30.0.53:53
                -> forward inside 10.0.255.254:C > 10.0.1.3:5353",
            ledger: "rx=6 forwarded=6 flowsOpened=6 flowsClosed=3",
        },
        Row {
            name: "the port of a closed TCP flow rests 60 s while another is free",
            bed: Bed::of(&[WEB]).ports(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.255.254:A seq=0 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @11000
                @32000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40003 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=5 forwarded=5 flowsOpened=4 flowsClosed=2",
        },
        Row {
            name: "with nothing else free, the port of a flow that lingers closed is taken, never an established one's",
            bed: Bed::of(&[WEB, "web tcp 172.30.0.45:80 -> 10.0.1.2:8080"]).ports(1),
            script: "
                outside tcp S 203.0.113.8:40000 > 172.30.0.45:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.2:8080
                inside tcp RA 10.0.1.2:8080 > 10.0.255.254:61000 seq=0 ack=1001
                -> forward outside 172.30.0.45:80 > 203.0.113.8:40000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.255.254:61000 seq=0 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:61000 seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> drop snat_ports_exhausted",
            ledger: "rx=8 forwarded=7 drop:snat_ports_exhausted=1 flowsOpened=3 flowsClosed=1",
        },
        Row {
            name: "with no port free, the half-open flow to that endpoint that was silent for longest goes",
            bed: Bed::of(&[WEB, "web tcp 172.30.0.45:80 -> 10.0.1.2:8080"]).ports(3),
            script: "
                outside tcp S 203.0.113.8:1000 > 172.30.0.45:80
                -> forward inside 10.0.255.254:X > 10.0.1.2:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @2000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @4000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                @6000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40003 > 172.30.0.41:80 seq=7000
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:C seq=6000 ack=7001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40003
                outside tcp A 203.0.113.9:40003 > 172.30.0.41:80 seq=7001 ack=6001
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40004 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:X seq=9000 ack=1001
                -> forward outside 172.30.0.45:80 > 203.0.113.8:1000",
            ledger: "rx=13 forwarded=13 flowsOpened=6 flowsClosed=2 flowsEvicted=2",
        },
        Row {
            name: "with no port free, UDP gives its port up when no answer can be under way, so that none reaches another client",
            bed: Bed::of(&[DNS]).ports(2),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @1000
                inside udp 10.0.1.3:5353 > 10.0.255.254:A
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5000
                outside udp 203.0.113.9:6000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                outside udp 203.0.113.9:6001 > 172.30.0.53:53
                -> drop snat_ports_exhausted
                @1250
                outside udp 203.0.113.9:6001 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                @2900
                outside udp 203.0.113.9:6002 > 172.30.0.53:53
                -> drop snat_ports_exhausted
                inside udp 10.0.1.3:5353 > 10.0.255.254:B
                -> forward outside 172.30.0.53:53 > 203.0.113.9:6000
                @3200
                outside udp 203.0.113.9:6002 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353",
            ledger: "rx=8 forwarded=6 drop:snat_ports_exhausted=2 flowsOpened=4 flowsClosed=2 flowsEvicted=2",
        },
        Row {
            name: "a port that a half-open flow gave up: the endpoint's answer to that flow establishes nothing",
            bed: Bed::of(&[WEB]).ports(1),
            script: "
                outside tcp S 203.0.113.8:1000 > 172.30.0.41:80 seq=10
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=900000000
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:61000 seq=5000 ack=11
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp R 203.0.113.9:40000 > 172.30.0.41:80 seq=11
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=900000000
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:61000 seq=7000 ack=900000001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=900000001 ack=7001
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080",
            ledger: "rx=7 forwarded=7 flowsOpened=2 flowsClosed=1 flowsEvicted=1",
        },
        Row {
            name: "after 60 s the port of a closed TCP flow is the oldest again",
            bed: Bed::of(&[WEB]).ports(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.255.254:A seq=0 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @11000
                @32000
                @72000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=4 forwarded=4 flowsOpened=3 flowsClosed=2",
        },
        Row {
            name: "one client port to two VIPs with one backend: the later flow gets another source port",
            bed: Bed::of(&[WEB, "alias tcp 172.30.0.45:80 -> 10.0.1.1:8080"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40000 > 172.30.0.45:80
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:A ack=1001
                -> forward inside 172.30.0.45:80 > 10.0.1.9:40000",
            ledger: "rx=4 forwarded=4 flowsOpened=2",
        },
    ]
}
