//! Connections that a client begins again: after a flood, from a port that was used before, and where answers come by another
//! interface.

use std::sync::LazyLock;

use crate::bed::Bed;
use crate::bed::row::Row;

const TWO: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080";
const SIG: &str = "sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906 10.0.1.5:2906";
const OTHER: &str = "sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906/unready 10.0.1.5:2906";
const L2: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80";

/// 4,800 others, of which half ask the accused backend, which has to answer them, between a SYN and its repetition.
static FLOODED: LazyLock<String> = LazyLock::new(|| {
    let flood = |host: u32| format!("inside tcp S 10.0.1.{host}:20000 > 172.30.0.41:80 times=200\n-> forward inside\n");
    let flood: String = (20..44).map(flood).collect();
    format!(
        "outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @1000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:B seq=5000 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080
        outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:C > 10.0.1.1:8080
        outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:D > 10.0.1.1:8080
        {flood}@2000
        outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:E > 10.0.1.2:8080
        outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:F > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:E seq=5000 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.8:40000
        outside tcp A 203.0.113.8:40000 > 172.30.0.41:80 seq=1001 ack=5001
        -> forward inside 10.0.255.254:E > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:F seq=6000 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.7:40011
        outside tcp A 203.0.113.7:40011 > 172.30.0.41:80 seq=1001 ack=6001
        -> forward inside 10.0.255.254:F > 10.0.1.2:8080
        @2100
        outside tcp S 203.0.113.7:40013 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:G > 10.0.1.2:8080
        outside tcp S 203.0.113.7:40016 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:H > 10.0.1.2:8080"
    )
});

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = unanswered();
    rows.extend(ports_used_before());
    rows.extend(super::deserted::rows());
    rows
}

fn unanswered() -> Vec<Row> {
    vec![
        Row {
            name: "who leaves connections unanswered becomes a suspect however many others open meanwhile",
            bed: Bed::of(&[TWO]).flows(8192),
            script: FLOODED.as_str(),
            ledger: "rx=4814 forwarded=4814 flowsOpened=4808 flowsClosed=3 flowsRescued=3",
        },
        Row {
            name: "a SYN-ACK that comes by another interface keeps its client at the endpoint, and one that acknowledges something else does not",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                bare tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=700 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                bare tcp SA 10.0.1.1:8080 > 10.0.255.254:B seq=700 ack=1002
                -> forward outside 172.30.0.41:80 > 203.0.113.8:40000
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:C > 10.0.1.2:8080",
            ledger: "rx=6 forwarded=6 flowsOpened=3 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "an INIT ACK that comes by another interface with the client's tag keeps its client as well",
            bed: Bed::of(&[SIG]),
            script: "
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                bare sctp 10.0.1.4:2906 > 10.0.255.254:A tag=7 hex=020000140000000900010000000a000a00000001
                -> forward outside 172.30.0.42:2905 > 203.0.113.9:5002
                @1000
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
    ]
}

fn ports_used_before() -> Vec<Row> {
    vec![
        Row {
            name: "dsr: of a new connection from a port whose former one was left without an end, errors arrive and nothing that is not near it",
            bed: Bed::of(&[L2]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=7001
                -> forward inside by=10.0.1.1
                @9000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=500000001 ack=900000001
                -> forward inside by=10.0.1.1
                outside icmp 3/4 10.0.9.9 > 172.30.0.41 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=900000001
                -> drop icmp_outside_window
                @60000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=900000000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=900000001 ack=500000001
                -> forward inside by=10.0.1.1
                outside icmp 3/4 10.0.9.9 > 172.30.0.41 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=500001461
                -> forward inside by=10.0.1.1
                @120000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1700000001 ack=1500000001
                -> forward inside by=10.0.1.1
                outside icmp 3/4 10.0.9.9 > 172.30.0.41 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=1500001461
                -> forward inside by=10.0.1.1",
            ledger: "rx=9 forwarded=8 drop:icmp_outside_window=1 flowsOpened=1",
        },
        Row {
            name: "an INIT after an ABORT begins anew with whoever is chosen, but not one that its receiver throws away",
            bed: Bed::of(&[SIG]).then("other", &[OTHER]),
            script: "
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                inside sctp 10.0.1.4:2906 > 10.0.255.254:A tag=7 hex=06000004
                -> forward outside 172.30.0.42:2905 > 203.0.113.9:5002
                use other
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000800010000000a000a00000001 sum=wrong
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000800010000000a000a00000001
                -> forward inside 10.0.255.254:B > 10.0.1.5:2906",
            ledger: "rx=4 forwarded=4 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "an INIT of another association leaves an endpoint that is no choice once nothing was heard for longer than a heartbeat",
            bed: Bed::of(&[SIG]).then("other", &[OTHER]),
            script: "
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                inside sctp 10.0.1.4:2906 > 10.0.255.254:A tag=7 hex=020000140000000900010000000a000a00000001
                -> forward outside 172.30.0.42:2905 > 203.0.113.9:5002
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=9 hex=0a000004
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                use other
                @20000
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000800010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                @40000
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 tag=0 hex=010000140000000800010000000a000a00000001
                -> forward inside 10.0.255.254:B > 10.0.1.5:2906",
            ledger: "rx=5 forwarded=5 flowsOpened=2 flowsClosed=1",
        },
    ]
}
