//! TCP connections from their first packet to their last.

use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "a RST without a flow is dropped",
            bed: town(),
            script: "
                outside tcp R 203.0.113.9:40000 > 172.30.0.41:80
                -> drop rst_without_flow
                outside tcp RA [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> drop rst_without_flow",
            ledger: "rx=2 drop:rst_without_flow=2",
        },
        Row {
            name: "a packet in the middle is picked up",
            bed: town(),
            script: "
                inside tcp AP 10.0.1.9:40000 > 172.30.0.41:80 data=more
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "a SYN on a closed flow opens a new one, from another port",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp FA 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5002
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5002 ack=1002
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                inside tcp FA 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1002
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                @5000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B seq=100 ack=90001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                inside tcp FA 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1002
                -> pass",
            ledger: "rx=10 forwarded=9 passed=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "a source-kept SYN on a closed flow opens a new one with the same port",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.1.9:40000 seq=0 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @3000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=2000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "a closed flow lingers 10 s: late packets still go both ways, then it is over",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp RA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @5000
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                @15000
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> pass",
            ledger: "rx=5 forwarded=4 passed=1 flowsOpened=1 flowsClosed=1",
        },
        Row {
            name: "a forged RST closes nothing",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp R 10.0.1.9:40000 > 172.30.0.41:80 seq=3000000000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                @60000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=5 forwarded=5 flowsOpened=1",
        },
        Row {
            name: "segments with a wrong checksum end nothing",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp R 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 sum=wrong
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001 sum=wrong
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp FA 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001 sum=wrong
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1002 sum=wrong
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1002 ack=5002 sum=wrong
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                @7000000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=9 forwarded=9 flowsOpened=1",
        },
        Row {
            name: "a RST that its receiver asks back about is forgotten with the answer",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp R 10.0.1.9:40000 > 172.30.0.41:80 seq=1002
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp R 10.0.1.9:40000 > 172.30.0.41:80 seq=1002
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp R 10.0.1.1:8080 > 10.0.1.9:40000 seq=5900
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @7000000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=8 forwarded=8 flowsOpened=1",
        },
        Row {
            name: "a FIN outside the window closes nothing",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.9:40000 > 172.30.0.41:80 seq=3000000000 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40000 seq=1000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @7000000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=6 forwarded=6 flowsOpened=1",
        },
        Row {
            name: "a RST with a partial checksum is as good as any",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp R 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 sum=partial
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                @11000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> pass",
            ledger: "rx=5 forwarded=4 passed=1 flowsOpened=1 flowsClosed=1",
        },
        Row {
            name: "what a forger sends and the endpoint answers holds no flow",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp SA 203.0.113.9:40000 > 172.30.0.41:80 seq=1000 ack=1
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1000 ack=1
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                inside tcp R 10.0.1.1:8080 > 10.0.255.254:B seq=1
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001
                outside tcp A 203.0.113.9:40002 > 172.30.0.41:80 seq=1000 ack=1
                -> forward inside 10.0.255.254:C > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:C seq=3000000000 ack=2000000000
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40002
                @31000
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:B seq=5001 ack=1001
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:C seq=3000000000 ack=2000000000
                -> pass",
            ledger: "rx=10 forwarded=7 passed=3 flowsOpened=3 flowsClosed=3",
        },
        Row {
            // A host that asks whether its peer is alive does so after 2 h, and gives up 11 min 15 s later.
            name: "half-open flows end after 30 s, established ones stay",
            bed: town(),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:B seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @31000
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> pass
                @7876000
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:B seq=5001 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40001",
            ledger: "rx=6 forwarded=5 passed=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "UDP flows end after 60 s without a reply, after 120 s with one",
            bed: town(),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                outside udp 203.0.113.9:5001 > 172.30.0.53:53
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.255.254:B
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5001
                @61000
                inside udp 10.0.1.3:5353 > 10.0.255.254:A
                -> pass
                @119000
                inside udp 10.0.1.3:5353 > 10.0.255.254:B
                -> forward outside 172.30.0.53:53 > 203.0.113.9:5001
                @240000
                inside udp 10.0.1.3:5353 > 10.0.255.254:B
                -> pass",
            ledger: "rx=6 forwarded=4 passed=2 flowsOpened=2 flowsClosed=2",
        },
    ]
}
