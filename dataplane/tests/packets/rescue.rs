//! Clients whose first packet is not answered, and backends that seem to be dead.

use crate::bed::Bed;
use crate::bed::row::Row;

/// `10.0.1.50` has no neighbour.
const TWO: &str = "web tcp 172.30.0.41:80 external=198.51.100.1 -> 10.0.1.1:8080 10.0.1.2:8080";
const THREE: &str = "web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.0.1.2:8080 10.0.1.3:8080";
const TWO6: &str = "web tcp [fd00:172:30::41]:80 -> [fd00:10::1]:8080 [fd00:10::2]:8080";

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = rescues();
    rows.extend(stays());
    rows.extend(suspects());
    rows
}

fn rescues() -> Vec<Row> {
    vec![
        Row {
            name: "a SYN that nobody answers goes to the other endpoint when the client repeats it, and a late answer to nobody",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @400
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=700 ack=1001
                -> pass
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:B seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=6 forwarded=5 passed=1 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "a SYN stays with its endpoint while the other one has no way at all, and goes to one whose neighbour is asked for",
            bed: Bed::of(&["web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.99.0.1:8080"])
                .then("asked", &["web tcp 172.30.0.41:80 -> 10.0.1.1:8080 10.99.0.1:8080 10.0.1.50:8080"]),
            script: "
                outside tcp S 203.0.113.9:41000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:41000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                use asked
                @3000
                outside tcp S 203.0.113.9:41000 > 172.30.0.41:80 seq=1000
                -> held",
            ledger: "rx=3 held=1 forwarded=2 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "where sources are kept, too, and over IPv6",
            bed: Bed::of(&[TWO, TWO6]),
            script: "
                inside tcp S 10.0.1.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.8:40000 > 10.0.1.1:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::1]:8080
                @1000
                inside tcp S 10.0.1.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.8:40000 > 10.0.1.2:8080
                inside tcp S [fd00:10::8]:40000 > [fd00:172:30::41]:80 seq=1000
                -> forward inside [fd00:10::8]:40000 > [fd00:10::2]:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.1.8:40000 seq=700 ack=1001
                -> pass
                inside tcp SA 10.0.1.2:8080 > 10.0.1.8:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.8:40000
                inside tcp SA [fd00:10::2]:8080 > [fd00:10::8]:40000 seq=5000 ack=1001
                -> forward inside [fd00:172:30::41]:80 > [fd00:10::8]:40000",
            ledger: "rx=7 forwarded=6 passed=1 flowsOpened=4 flowsClosed=2 flowsRescued=2",
        },
        Row {
            name: "each repetition goes on to one that was not tried, and at last to the first again",
            bed: Bed::of(&[THREE]),
            script: "
                outside tcp S 203.0.113.4:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.4:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.3:8080
                @3000
                outside tcp S 203.0.113.4:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:C > 10.0.1.2:8080
                @7000
                outside tcp S 203.0.113.4:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:D > 10.0.1.1:8080",
            ledger: "rx=4 forwarded=4 flowsOpened=4 flowsClosed=3 flowsRescued=3",
        },
        Row {
            name: "an endpoint without a neighbour is dead as well, and one whose neighbour is known comes first",
            bed: Bed::of(&["web tcp 172.30.0.41:80 -> 10.0.1.50:8080 10.0.1.51:8080 10.0.1.2:8080"]),
            script: "
                outside tcp S 203.0.113.5:40000 > 172.30.0.41:80 seq=1000
                -> held
                asked inside 10.0.1.50
                @1001
                -> drop neighbor_unresolved
                outside tcp S 203.0.113.5:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.5:40000",
            ledger: "rx=3 forwarded=2 drop:neighbor_unresolved=1 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "an endpoint that is gone before it answered loses the client to another one, who hears of no reset",
            bed: Bed::of(&[TWO]).then("one", &["web tcp 172.30.0.41:80 -> 10.0.1.2:8080"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                use one
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=2 forwarded=2 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "a SYN with data (TCP Fast Open) is moved with its data",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000 data=question
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000 data=question
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=2 forwarded=2 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "an INIT is moved as a SYN is, and what its endpoint has acknowledged is not",
            bed: Bed::of(&["sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906 10.0.1.5:2906"]),
            script: "
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:A > 10.0.1.4:2906
                @1000
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:B > 10.0.1.5:2906
                inside sctp 10.0.1.5:2906 > 10.0.255.254:B hex=020000140000000900010000000a000a00000001
                -> forward outside 172.30.0.42:2905 > 203.0.113.9:5002
                @3000
                outside sctp 203.0.113.9:5002 > 172.30.0.42:2905 hex=010000140000000700010000000a000a00000001
                -> forward inside 10.0.255.254:B > 10.0.1.5:2906",
            ledger: "rx=4 forwarded=4 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "policy Local: only to another endpoint of this node",
            bed: Bed::of(&[
                "web tcp 172.30.0.41:80 external=198.51.100.1 etp=Local -> 10.0.1.1:8080/local 10.0.1.2:8080 \
                            10.0.1.3:8080 10.0.1.4:8080/local",
            ]),
            script: "
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=1000
                -> forward inside 203.0.113.5:40000 > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=1000
                -> forward inside 203.0.113.5:40000 > 10.0.1.4:8080
                @3000
                outside tcp S 203.0.113.5:40000 > 198.51.100.1:80 seq=1000
                -> forward inside 203.0.113.5:40000 > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=3 flowsClosed=2 flowsRescued=2",
        },
    ]
}

fn stays() -> Vec<Row> {
    vec![
        Row {
            name: "who was answered is never moved, whatever it repeats",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @3000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=4 forwarded=4 flowsOpened=1",
        },
        Row {
            name: "anything from the endpoint keeps the client there, even an answer to another SYN",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp A 10.0.1.1:8080 > 10.0.255.254:A seq=5000 ack=70000
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "another connection from the same port is no repetition, nor is a copy, or what its receiver throws away",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1499
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @3000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000 sum=wrong
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @5000
                outside tcp SF 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @7000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000 ttl=1
                -> reply ttl_expired outside icmp 11/0 192.168.0.2 > 203.0.113.9
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=77000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080",
            ledger: "rx=7 forwarded=6 replied=1 reply:ttl_expired=1 flowsOpened=2 flowsClosed=1 flowsRescued=1",
        },
        Row {
            name: "where there is nobody else, or it is switched off, the client stays",
            bed: Bed::of(&["one tcp 172.30.0.40:80 -> 10.0.1.1:8080", TWO])
                .set(|settings| settings.pipeline.rescue = false),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.40:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.40:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080",
            ledger: "rx=4 forwarded=4 flowsOpened=2",
        },
        Row {
            name: "alone in its set, an endpoint keeps who repeats",
            bed: Bed::of(&["one tcp 172.30.0.40:80 -> 10.0.1.1:8080"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.40:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.40:80 seq=1000
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "where no port is left towards the other endpoint, the client stays with the first",
            bed: Bed::of(&[TWO, "all tcp 172.30.0.43:80 -> 10.0.1.2:8080"]).ports(1),
            script: "
                outside tcp S 203.0.113.7:50000 > 172.30.0.43:80 seq=1
                -> forward inside 10.0.255.254:61000 > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:61000 seq=5000 ack=2
                -> forward outside 172.30.0.43:80 > 203.0.113.7:50000
                outside tcp A 203.0.113.7:50000 > 172.30.0.43:80 seq=2 ack=5001
                -> forward inside 10.0.255.254:61000 > 10.0.1.2:8080
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:61000 > 10.0.1.1:8080",
            ledger: "rx=5 forwarded=5 flowsOpened=3 flowsClosed=1 flowsRescued=1",
        },
    ]
}

fn suspects() -> Vec<Row> {
    vec![
        Row {
            name: "who left two connections unanswered that others completed gets probes, until it answers one",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
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
                outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000 tcpopt=020405b40402080a000000010000000001030307
                -> forward inside 10.0.255.254:D > 10.0.1.1:8080
                @2000
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:E > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000 tcpopt=020405b40402080a000003e90000000001030307
                -> forward inside 10.0.255.254:F > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:E seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.8:40000
                outside tcp A 203.0.113.8:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:E > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:F seq=6000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.7:40011
                @2100
                outside tcp S 203.0.113.7:40013 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:G > 10.0.1.1:8080
                outside tcp A 203.0.113.7:40011 > 172.30.0.41:80 seq=1001 ack=6001
                -> forward inside 10.0.255.254:F > 10.0.1.2:8080
                @2200
                outside tcp S 203.0.113.7:40016 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:H > 10.0.1.2:8080
                outside tcp A 203.0.113.7:40015 > 172.30.0.41:80 seq=1000 ack=9
                -> forward inside 10.0.255.254:I > 10.0.1.1:8080
                @7200
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:B > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40017 > 172.30.0.41:80 seq=1000 sum=wrong
                -> forward inside 10.0.255.254:J > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40018 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:K > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:K seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.7:40018",
            ledger: "rx=19 forwarded=19 flowsOpened=11 flowsClosed=3 flowsRescued=3",
        },
        Row {
            name: "who was sent what every host throws away, or some do, is no suspect, however often, and gets its share",
            bed: Bed::of(&[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000 sum=wrong
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000 sum=wrong
                -> forward inside 10.0.255.254:B > 10.0.1.1:8080
                @1000
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:C > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:C seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:C > 10.0.1.2:8080
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:D > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:D seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.8:40000
                outside tcp A 203.0.113.8:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:D > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000 ttl=3
                -> forward inside 10.0.255.254:E > 10.0.1.1:8080
                outside tcp S 203.0.113.7:40013 > 172.30.0.41:80 seq=1000 tcpopt=1312000000000000000000000000000000000101
                -> forward inside 10.0.255.254:F > 10.0.1.1:8080
                @2000
                outside tcp S 203.0.113.7:40011 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:G > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:G seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.7:40011
                outside tcp A 203.0.113.7:40011 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:G > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40013 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:H > 10.0.1.2:8080
                inside tcp SA 10.0.1.2:8080 > 10.0.255.254:H seq=5000 ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.7:40013
                outside tcp A 203.0.113.7:40013 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:H > 10.0.1.2:8080
                outside tcp S 203.0.113.7:40016 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.255.254:I > 10.0.1.1:8080",
            ledger: "rx=17 forwarded=17 flowsOpened=9 flowsClosed=4 flowsRescued=4",
        },
        Row {
            name: "session affinity follows a client that was moved only when it has completed the connection",
            bed: Bed::of(&["web tcp 172.30.0.41:80 affinity=60 -> 10.0.1.1:80 10.0.1.2:80"]),
            script: "
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.1:80
                @1000
                inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40000 > 10.0.1.2:80
                inside tcp S 10.0.1.9:40001 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40001 > 10.0.1.1:80
                inside tcp SA 10.0.1.2:80 > 10.0.1.9:40000 seq=5000 ack=1001
                -> forward inside 172.30.0.41:80 > 10.0.1.9:40000
                inside tcp S 10.0.1.9:40002 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40002 > 10.0.1.1:80
                inside tcp A 10.0.1.9:40000 > 172.30.0.41:80 seq=1001 ack=5001
                -> forward inside 10.0.1.9:40000 > 10.0.1.2:80
                inside tcp S 10.0.1.9:40003 > 172.30.0.41:80 seq=1000
                -> forward inside 10.0.1.9:40003 > 10.0.1.2:80",
            ledger: "rx=7 forwarded=7 flowsOpened=5 flowsClosed=1 flowsRescued=1",
        },
    ]
}
