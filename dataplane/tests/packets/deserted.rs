//! New connections from ports whose last ones were never ended, to endpoints that are dead; and SYNs that bring data.

use std::sync::LazyLock;

use crate::bed::Bed;
use crate::bed::row::Row;

const TWO: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080";
const TWO6: &str = "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080 [fd00:10::2]:8080";
const KEPT: &str = "web tcp 172.30.0.41:80 external=198.51.100.1 etp=Local -> 10.0.1.1:8080/local 10.0.1.2:8080/local";
const UNREADY: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080/unready 10.0.1.2:8080";

/// A connection of 203.0.113.9:40000 that both ends take part in, then these lines.
fn connected(more: &str) -> String {
    format!(
        "outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        {more}"
    )
}

static DEAD: LazyLock<String> = LazyLock::new(|| {
    connected(
        "@60000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @60499
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @61000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @63000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:B seq=9000 ack=77001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000",
    )
});

static LIVE: LazyLock<String> = LazyLock::new(|| {
    connected(
        "@60000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        @61000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        bare tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        @63000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        bare tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        @63500
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @64000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=78000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @65000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=78000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @66000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=78000 sum=wrong
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=78000 tcpopt=13120000000000000000000000000000000000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=78000 ttl=15
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
    )
});

/// Somebody who knows the tuple sends three SYNs. The endpoint answers the first, and the second not, which comes within half a
/// second after it (as Linux does).
static FORGED: LazyLock<String> = LazyLock::new(|| {
    connected(
        "@60000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=76000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        @60001
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @60501
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        @61501
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @7260000
        outside tcp PA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001 data=x
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5001 ack=1002
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000",
    )
});

/// The client sent a FIN that nobody acknowledged.
static UNREADY_AND_LEFT: LazyLock<String> = LazyLock::new(|| {
    connected(
        "outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80 seq=1500 ack=5001
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        use unready
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @1000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        @3000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
    )
});

/// Two clients that both have to leave the same endpoint, and a new connection that would go to it.
static BOTH_LEAVE: LazyLock<String> = LazyLock::new(|| {
    let other = connected("").replace("203.0.113.9:", "203.0.113.8:").replace("254:A", "254:C");
    connected(&format!(
        "{other}
        @60000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:C > 10.0.1.1:8080
        @61000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:A > 10.0.1.1:8080
        outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:C > 10.0.1.1:8080
        @63000
        outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:B seq=9000 ack=77001
        -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
        outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=77001 ack=9001
        -> forward inside 10.0.255.254:B > 10.0.1.2:8080
        outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=77000
        -> forward inside 10.0.255.254:D > 10.0.1.2:8080
        inside tcp SA 10.0.1.2:8080 > 10.0.255.254:D seq=9000 ack=77001
        -> forward outside 172.30.0.41:80 > 203.0.113.8:40000
        outside tcp A 203.0.113.8:40000 > 172.30.0.41:80 seq=77001 ack=9001
        -> forward inside 10.0.255.254:D > 10.0.1.2:8080
        outside tcp S 203.0.113.7:40016 > 172.30.0.41:80 seq=1000
        -> forward inside 10.0.255.254:E > 10.0.1.2:8080"
    ))
});

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "who is left by two clients that begin anew is a suspect, and a new connection goes elsewhere",
            bed: Bed::of(&[TWO]),
            script: BOTH_LEAVE.as_str(),
            ledger: "rx=17 forwarded=17 flowsOpened=5 flowsClosed=2 flowsRescued=2",
        },
        Row {
            name: "a SYN that comes again on a connection whose endpoint says nothing any more goes to another one",
            bed: Bed::of(&[TWO]),
            script: DEAD.as_str(),
            ledger: "rx=8 forwarded=8 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "so it does where sources are kept, and over IPv6",
            bed: Bed::of(&[KEPT, TWO6]),
            script: "
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=1000
                -> forward inside 203.0.113.5:40000 > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 203.0.113.5:40000 seq=5000 ack=1001
                -> forward outside 198.51.100.1:80 > 203.0.113.5:40000
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::8]:40000 seq=5000 ack=1001
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::8]:40000
                inside tcp A [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1001 ack=5001
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @3000
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=77000
                -> forward inside 203.0.113.5:40000 > 10.0.1.2:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=77000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @4000
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=77000
                -> forward inside 203.0.113.5:40000 > 10.0.1.2:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=77000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @6000
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=77000
                -> forward inside 203.0.113.5:40000 > 10.0.1.1:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=77000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::2]:8080",
            ledger: "rx=11 forwarded=11 flowsOpened=4 flowsClosed=2 flowsRescued=2",
        },
        Row {
            name: "whatever the endpoint says in between keeps the connection, and a SYN that its receiver may throw away moves none",
            bed: Bed::of(&[TWO]),
            script: LIVE.as_str(),
            ledger: "rx=16 forwarded=16 flowsOpened=1",
        },
        Row {
            name: "three SYNs that somebody forges end no connection that is silent, since its endpoint answers the last at the latest",
            bed: Bed::of(&[TWO]),
            script: FORGED.as_str(),
            ledger: "rx=11 forwarded=11 flowsOpened=1",
        },
        Row {
            name: "without rescue as well, where the endpoint is no choice any more",
            bed: Bed::of(&[TWO]).then("unready", &[UNREADY]).set(|settings| settings.pipeline.rescue = false),
            script: UNREADY_AND_LEFT.as_str(),
            ledger: "rx=7 forwarded=7 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "an answer that acknowledges a SYN with its data establishes a flow, which makes no room for others",
            bed: Bed::of(&[TWO, TWO6]).flows(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000 data=question
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1009
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1009 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1000 data=question
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @1000
                inside tcp SA [fd00:10::1]:8080 > [fd00:10::8]:40000 seq=5000 ack=1009
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::8]:40000
                inside tcp A [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1009 ack=5001
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @9000
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80
                -> drop flow_table_full",
            ledger: "rx=7 forwarded=6 drop:flow_table_full=1 flowsOpened=2",
        },
    ]
}
