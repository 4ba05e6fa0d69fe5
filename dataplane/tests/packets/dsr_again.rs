//! Direct server return: SYNs under the tuple of a flow, after its endpoint has left those that are chosen.

use crate::bed::Bed;
use crate::bed::row::Row;

const ONE: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80/unready";
const TWO: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80/unready 10.0.1.2:80";
const BOTH: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80";
const NONE: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80/unready 10.0.1.2:80/unready";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "what waits for an endpoint on the link is not sent to a router that the endpoint is behind by then",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.50:80",
                "web tcp [fd00:172:30::41]:80 dsr=l2 -> [fd00:10::50]:80",
                "nat tcp 172.30.0.42:80 -> 10.0.1.50:80",
            ])
            .then_behind("behind"),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> held
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
                -> held
                outside tcp S 203.0.113.9:40000 > 172.30.0.42:80
                -> held
                use behind
                -> drop endpoint_off_link
                -> drop endpoint_off_link
                -> forward inside 10.0.255.254:A > 10.0.1.50:80 by=10.0.1.1",
            ledger: "rx=3 forwarded=1 drop:endpoint_off_link=2 flowsOpened=3",
        },
        Row {
            name: "dsr: a SYN that nobody has gone on with goes to whoever is chosen now, another one at once and the same when repeated",
            bed: Bed::of(&[ONE]).then("two", &[TWO]).then("one", &[ONE]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                use two
                @400
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=7000 sum=wrong
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=7000
                -> forward inside by=10.0.1.2
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                @1000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.2",
            ledger: "rx=7 forwarded=7 flowsOpened=4 flowsClosed=2",
        },
        Row {
            name: "dsr: of a connection that is in use a SYN moves nothing, and of one that was left it goes to whoever is chosen",
            bed: Bed::of(&[ONE]).then("two", &[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=1
                -> forward inside by=10.0.1.1
                use two
                @9999
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=1
                -> forward inside by=10.0.1.1
                @19000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside by=10.0.1.1
                @19999
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=90000
                -> forward inside by=10.0.1.2
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=90001 ack=1
                -> forward inside by=10.0.1.2",
            ledger: "rx=7 forwarded=7 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "dsr: a FIN and a SYN that somebody guessed give a live connection away to nobody while its endpoint may be chosen",
            bed: Bed::of(&["web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80"])
                .then("more", &["web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.1.4:80"])
                .then("ipip", &["web tcp 172.30.0.41:80 dsr=ipip -> 10.0.1.1:80"]),
            script: "
                outside tcp S 203.0.113.9:41001 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:41001 > 172.30.0.41:80 seq=1001 ack=1
                -> forward inside by=10.0.1.1
                use more
                outside tcp FA 203.0.113.9:41001 > 172.30.0.41:80 seq=90000 ack=1
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:41001 > 172.30.0.41:80 seq=700000000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:41001 > 172.30.0.41:80 seq=1001 ack=1
                -> forward inside by=10.0.1.1
                use ipip
                outside tcp FA 203.0.113.9:41001 > 172.30.0.41:80 seq=1001 ack=1
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:41001 > 172.30.0.41:80 seq=9000
                -> forward inside by=10.0.1.1 within=10.0.255.254>10.0.1.1
                use more
                outside tcp S 203.0.113.9:41001 > 172.30.0.41:80 seq=20000
                -> forward inside by=10.0.1.2",
            ledger: "rx=8 forwarded=8 flowsOpened=4 flowsClosed=3",
        },
        Row {
            name: "dsr: a FIN counts only with a number of the endpoint that the client may acknowledge",
            bed: Bed::of(&[ONE]).then("two", &[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=500001
                -> forward inside by=10.0.1.1
                use two
                outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=900000001
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=9000
                -> forward inside by=10.0.1.1
                outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=500001
                -> forward inside by=10.0.1.1
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=9000
                -> forward inside by=10.0.1.2",
            ledger: "rx=6 forwarded=6 flowsOpened=2 flowsClosed=1",
        },
        Row {
            name: "dsr: while its endpoint is one of several a SYN moves nothing, and where there is none left it is refused",
            bed: Bed::of(&[ONE]).then("both", &[BOTH]).then("none", &[NONE]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside by=10.0.1.1
                use both
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=7000
                -> forward inside by=10.0.1.1
                use none
                @2000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=9000
                -> reply no_endpoint outside rst 172.30.0.41:80 > 203.0.113.9:40000 ack=9001",
            ledger: "rx=3 forwarded=2 replied=1 reply:no_endpoint=1 flowsOpened=1 flowsClosed=1",
        },
    ]
}
