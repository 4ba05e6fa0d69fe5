//! A client's port that is used through a VIP and straight to the same endpoint: both work, whichever comes first.

use crate::bed::row::Row;
use crate::town::town;

pub(crate) fn rows() -> Vec<Row> {
    [later(), earlier(), unseen()].into_iter().flatten().collect()
}

/// The direct connection comes second: it gets another port at the endpoint.
fn later() -> Vec<Row> {
    vec![
        Row {
            name: "a direct connection beside a flow gets another port, and its own answers",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40000 > 10.0.1.1:8080 seq=70000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:A seq=90000 ack=70001
                -> forward inside 10.0.1.1:8080 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 10.0.1.1:8080 seq=70001 ack=90001
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001 data=flow
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:A seq=90001 ack=70001 data=direct
                -> forward inside 10.0.1.1:8080 > 10.0.1.9:40000",
            ledger: "rx=8 forwarded=8 flowsOpened=2",
        },
        Row {
            name: "over IPv6 too",
            bed: town(),
            script: "
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::9]:40000 > [fd00:10::1]:8080
                inside tcp S [fd00:10::9]:40000 > [fd00:10::1]:8080 seq=70000
                -> forward inside [fd00:10::9]:A > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::9]:A seq=90000 ack=70001
                -> forward inside [fd00:10::1]:8080 > [fd00:10::9]:40000",
            ledger: "rx=3 forwarded=3 flowsOpened=2",
        },
        Row {
            name: "so do direct UDP and an SCTP association; one that goes on passes",
            bed: town(),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 10.0.1.9:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:A
                -> forward inside 10.0.1.3:5353 > 10.0.1.9:5000
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000
                inside sctp 10.0.1.9:5000 > 172.30.0.42:2905 hex=01000014
                -> forward inside 10.0.1.9:5000 > 10.0.1.4:2906
                inside sctp 10.0.1.9:5000 > 10.0.1.4:2906 hex=00000014
                -> pass
                inside sctp 10.0.1.9:5000 > 10.0.1.4:2906 hex=01000014
                -> forward inside 10.0.1.9:B > 10.0.1.4:2906
                inside sctp 10.0.1.4:2906 > 10.0.1.9:B hex=02000014
                -> forward inside 10.0.1.4:2906 > 10.0.1.9:5000",
            ledger: "rx=8 forwarded=7 passed=1 flowsOpened=4",
        },
        Row {
            name: "a direct connection lives on when its Service is gone, and when the flow is",
            bed: town().then("gone", &[]),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                inside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 10.0.1.9:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:A
                -> forward inside 10.0.1.3:5353 > 10.0.1.9:5000
                use gone
                inside udp 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 10.0.1.9:A > 10.0.1.3:5353
                inside udp 10.0.1.3:5353 > 10.0.1.9:A
                -> forward inside 10.0.1.3:5353 > 10.0.1.9:5000",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
        Row {
            name: "without a way out for another port, and in the middle of a connection, it passes",
            bed: town().flows(1),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp A 10.0.1.9:40000 > 10.0.1.1:8080 seq=70000
                -> pass
                inside tcp S 10.0.1.9:40000 > 10.0.1.1:8080 seq=70000
                -> pass",
            ledger: "rx=5 forwarded=3 passed=2 flowsOpened=1",
        },
    ]
}

/// The direct connection comes first: the flow gets another port.
fn earlier() -> Vec<Row> {
    vec![
        Row {
            name: "a flow beside a direct connection gets another port",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 10.0.1.1:8080 seq=70000
                -> pass
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=90000 ack=70001
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:A seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=90001 ack=70001
                -> pass",
            ledger: "rx=5 forwarded=2 passed=3 flowsOpened=1",
        },
        Row {
            name: "the endpoint's answers alone tell of it, in both families and every protocol",
            bed: town(),
            script: "
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::9]:40000 seq=90000 ack=70001
                -> pass
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> pass
                inside sctp [fd00:10::4]:2906 > [fd00:10::9]:5000 hex=02000014
                -> pass
                inside tcp S [fd00:10::9]:40000 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::9]:A > [fd00:10::1]:8080
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:B > 10.0.1.3:5353
                inside sctp [fd00:10::9]:5000 > [fd00:172:30::42]:2905 hex=01000014
                -> forward inside [fd00:10::9]:C > [fd00:10::4]:2906
                inside udp 10.0.1.3:5353 > 10.0.1.9:B
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> pass",
            ledger: "rx=8 forwarded=4 passed=4 flowsOpened=3",
        },
        Row {
            name: "it is remembered while it goes on, once both sides have shown it, and not for long when it is over",
            bed: town(),
            script: "
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=90000 ack=70001
                -> pass
                inside tcp A 10.0.1.9:40000 > 10.0.1.1:8080 seq=70001 ack=90001 data=ask
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=90001 ack=70004
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40001 seq=90000 ack=70001
                -> pass
                inside tcp A 10.0.1.9:40001 > 10.0.1.1:8080 seq=70001 ack=90001 data=ask
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40001 seq=90001 ack=70004
                -> pass
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40001 seq=90001 ack=70004
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40001 seq=90002 ack=70005
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40002 seq=90000 ack=70001
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40003 seq=90001 ack=70001
                -> pass
                @7900000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40002 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40002 > 10.0.1.1:8080
                inside tcp S 10.0.1.9:40003 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40003 > 10.0.1.1:8080",
            ledger: "rx=14 forwarded=4 passed=10 flowsOpened=4",
        },
        Row {
            name: "a connection that is picked up keeps the port that the endpoint knows",
            bed: town(),
            script: "
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001
                -> pass
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080",
            ledger: "rx=2 forwarded=1 passed=1 flowsOpened=1",
        },
    ]
}

/// The client's packets of the direct connection go another way: the numbers tell.
fn unseen() -> Vec<Row> {
    vec![
        Row {
            name: "a closed flow has no answers but its own, and what passes does not keep it",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1002
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1002 ack=5002
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                @5000
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000 ack=1700000001
                -> pass
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1002
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @9000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000001 ack=1700000001 data=direct
                -> pass
                inside tcp RA 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000007 ack=1700000001
                -> pass
                @10000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080",
            ledger: "rx=11 forwarded=8 passed=3 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "a SYN-ACK for another SYN ends the flow that it finds there",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000 ack=1700000001
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000001 ack=1700000001 data=direct
                -> pass
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:A seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=5 forwarded=3 passed=2 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "a SYN in the endpoint's name ends no connection: its next segment goes on, whoever sends it and when",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp S 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000
                -> pass
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000 sum=wrong
                -> pass
                inside tcp S 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000
                -> pass
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000001 ack=1700000001 data=direct
                -> pass
                @30000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001 data=flow
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @60000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5005
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080",
            ledger: "rx=9 forwarded=5 passed=4 flowsOpened=1",
        },
        Row {
            name: "nor is one that ends later more than over",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp S 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000
                -> pass
                inside tcp FA 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp FA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1002
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1002 ack=5002
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5002 ack=1002
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside 10.0.1.9:A > 10.0.1.1:8080",
            ledger: "rx=9 forwarded=8 passed=1 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "nor one that was picked up: the client's next segment picks it up again",
            bed: town(),
            script: "
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=1900000000 ack=1700000001
                -> pass
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5001 ack=1001 data=flow
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                @60000
                inside tcp A 10.0.1.1:8080 > 10.0.1.9:40000 seq=5005 ack=1001 data=more
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=5 forwarded=4 passed=1 flowsOpened=1",
        },
        Row {
            name: "a refusal of another SYN is none of this one",
            bed: town(),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:8080
                inside tcp RA 10.0.1.1:8080 > 10.0.1.9:40000 seq=0 ack=1700000001
                -> pass
                inside tcp SA 10.0.1.1:8080 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000",
            ledger: "rx=3 forwarded=2 passed=1 flowsOpened=1",
        },
    ]
}
