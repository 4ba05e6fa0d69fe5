//! Session affinity while the set of endpoints changes: rule 19 of the Service semantics.

use std::sync::LazyLock;

use ringway_dataplane::affinity::Affinities;

use crate::bed::Bed;
use crate::bed::row::Row;

const ONE: &[&str] =
    &["web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80", "web tcp 172.30.0.41:81 affinity=60 -> 10.0.1.1:81"];
const FIVE: &[&str] = &[
    "web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
    "web tcp 172.30.0.41:81 affinity=60 -> 10.0.1.1:81 10.0.1.2:81 10.0.1.3:81 10.0.1.4:81 10.0.1.5:81",
];

const ONE_DSR: &[&str] = &[
    "web tcp 172.30.0.41:80 affinity=600 dsr=l2 -> 10.0.1.1:80",
    "dns udp 172.30.0.53:53 affinity=600 dsr=l2 -> 10.0.1.1:53",
    "sig sctp 172.30.0.42:2905 affinity=600 dsr=l2 -> 10.0.1.1:2905",
];
const FIVE_DSR: &[&str] = &[
    "web tcp 172.30.0.41:80 affinity=600 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
    "dns udp 172.30.0.53:53 affinity=600 dsr=l2 -> 10.0.1.1:53 10.0.1.2:53 10.0.1.3:53 10.0.1.4:53 10.0.1.5:53",
    "sig sctp 172.30.0.42:2905 affinity=600 dsr=l2 -> 10.0.1.1:2905 10.0.1.2:2905 10.0.1.3:2905 10.0.1.4:2905",
];

/// Packets of this client of the DSR Service over TCP: a SYN, and so many that acknowledge its answer.
fn tcp(last: u32, acknowledgments: usize) -> String {
    let after = format!(
        "inside tcp A 10.0.1.{last}:40000 > 172.30.0.41:80 seq=1001 ack=5001
        -> forward inside by=10.0.1.1\n"
    );
    format!(
        "inside tcp S 10.0.1.{last}:40000 > 172.30.0.41:80 seq=1000
        -> forward inside by=10.0.1.1
        {}",
        after.repeat(acknowledgments)
    )
}

/// A client that goes on, eight that send less, and eight that go on, too.
static WENT_ON: LazyLock<String> = LazyLock::new(|| {
    let [less, others] = [(20, 2), (40, 3)]
        .map(|(from, acknowledgments)| (from..from + 8).map(|last| tcp(last, acknowledgments)).collect::<String>());
    format!(
        "{}@1000
        {less}
        use five
        inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
        -> forward inside by=10.0.1.1
        use one
        @2000
        {others}
        use five
        inside tcp S 10.0.1.9:40002 > 172.30.0.41:80
        -> forward inside by=10.0.1.5",
        tcp(9, 3)
    )
});

/// A datagram and a packet of SCTP in each of four seconds, then eight others by TCP, and one more of each.
static OTHER_PROTOCOLS: LazyLock<String> = LazyLock::new(|| {
    let seconds: String = (0..4)
        .map(|second| {
            format!(
                "@{}
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside by=10.0.1.1
                inside sctp 10.0.1.9:5002 > 172.30.0.42:2905 tag=9 hex=0a000004
                -> forward inside by=10.0.1.1\n",
                10 + second * 1_100
            )
        })
        .collect();
    let others: String = (20..28).map(|last| tcp(last, 2)).collect();
    format!(
        "{seconds}@5000
        {others}
        use five
        inside udp 10.0.1.9:5001 > 172.30.0.53:53
        -> forward inside by=10.0.1.1
        inside sctp 10.0.1.9:5003 > 172.30.0.42:2905 tag=0 hex=010000140000000700010000000a000a00000001
        -> forward inside by=10.0.1.1"
    )
});

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "session affinity with dsr: who goes on is pushed out by nobody who only begins, and by others who go on",
            bed: Bed::of(ONE_DSR)
                .then("one", ONE_DSR)
                .then("five", FIVE_DSR)
                .set(|settings| settings.affinities = Some(Affinities::new(8, 1))),
            script: WENT_ON.as_str(),
            ledger: "rx=62 forwarded=62 flowsOpened=19",
        },
        Row {
            name: "session affinity with dsr: over UDP and SCTP who goes on in several seconds",
            bed: Bed::of(ONE_DSR)
                .then("five", FIVE_DSR)
                .set(|settings| settings.affinities = Some(Affinities::new(8, 1))),
            script: OTHER_PROTOCOLS.as_str(),
            ledger: "rx=34 forwarded=34 flowsOpened=12",
        },
        Row {
            name: "session affinity: endpoints are added, and a client stays for 60 s after its last new connection",
            bed: Bed::of(ONE).then("five", FIVE),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                use five
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:81
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:81
                @59000
                inside tcp S 10.0.1.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40002 > 10.0.1.1:80
                @118500
                inside tcp S 10.0.1.9:40003 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40003 > 10.0.1.1:80
                @179000
                inside tcp S 10.0.1.9:40004 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40004 > 10.0.1.5:80",
            ledger: "rx=5 forwarded=5 flowsOpened=5 flowsClosed=4",
        },
        Row {
            name: "session affinity: packets of a connection do not prolong it",
            bed: Bed::of(ONE).then("five", FIVE),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                inside tcp SA 10.0.1.1:80 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                use five
                @59000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                @61000
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.5:80",
            ledger: "rx=5 forwarded=5 flowsOpened=2",
        },
        Row {
            name: "session affinity: an endpoint that is no longer eligible keeps nobody and wins nobody back",
            bed: Bed::of(ONE)
                .then("unready", &["web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80/unready 10.0.1.2:80"])
                .then("five", FIVE),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                use unready
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.2:80
                use five
                inside tcp S 10.0.1.9:40002 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40002 > 10.0.1.2:80",
            ledger: "rx=3 forwarded=3 flowsOpened=3",
        },
        Row {
            name: "session affinity: clients that somebody may have made up push out none that has heard its endpoint",
            // One bucket of eight clients, and two connections.
            bed: Bed::of(ONE).then("five", FIVE).set(|settings| settings.affinities = Some(Affinities::new(8, 1))),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                inside tcp SA 10.0.1.1:80 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                @1000
                inside tcp S 10.0.1.20:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.20:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.21:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.21:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.22:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.22:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.23:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.23:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.24:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.24:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.25:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.25:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.26:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.26:40000 > 10.0.1.1:80
                inside tcp S 10.0.1.27:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.27:40000 > 10.0.1.1:80
                use five
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:80",
            ledger: "rx=12 forwarded=12 flowsOpened=10",
        },
        Row {
            name: "session affinity: also of connections that have no flow, since the table is full",
            bed: Bed::of(&[
                "nat tcp 172.30.0.50:80 -> 10.0.1.2:80",
                "web tcp 172.30.0.41:80 affinity=60 dsr=l2 -> 10.0.1.1:80",
                "dns udp 172.30.0.53:53 affinity=60 -> 10.0.1.1:80",
            ])
            .then(
                "five",
                &[
                    "web tcp 172.30.0.41:80 affinity=60 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
                    "dns udp 172.30.0.53:53 affinity=60 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
                ],
            )
            .flows(1),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.50:80
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                inside tcp SA 10.0.1.2:80 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.50:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.50:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                @9000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside by=10.0.1.1
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.1:80
                use five
                @60000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside by=10.0.1.1
                inside udp 10.0.1.9:5001 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5001 > 10.0.1.1:80
                @70000
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside by=10.0.1.5
                inside udp 10.0.1.9:5002 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5002 > 10.0.1.1:80",
            ledger: "rx=9 forwarded=9 stateless=6 flowsOpened=1",
        },
        Row {
            name: "session affinity: Services do not share their clients",
            bed: Bed::of(ONE).then(
                "five",
                &[
                    "web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
                    "api tcp 172.30.0.42:80 affinity=60 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80 10.0.1.5:80",
                ],
            ),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                use five
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:80
                inside tcp S 10.0.1.9:40001 > 172.30.0.42:80
                -> forward inside 10.0.1.9:40001 > 10.0.1.5:80",
            ledger: "rx=3 forwarded=3 flowsOpened=3",
        },
    ]
}
