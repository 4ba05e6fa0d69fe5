//! Packets that wait for a neighbour.

use std::sync::LazyLock;

use super::dsr;
use crate::bed::row::Row;
use crate::bed::{Bed, Neighbors};
use crate::town::{EMPTY, EMPTY6, town};

/// Somebody twice, and 254 others on the link, so that there is no room left; then two more, and one behind the router.
static CROWD: LazyLock<String> = LazyLock::new(|| {
    let v4 = |last: u32| format!("outside tcp S 192.168.0.{last}:40000 > 172.30.0.44:80\n-> held\n");
    let v6 = |last: u32| format!("outside tcp S [2001:db8::1:{last}]:40000 > [fd00:172:30::44]:80\n-> held\n");
    let crowd: String = (100..227).flat_map(|last| [v4(last), v6(last)]).collect();
    format!(
        "outside tcp S 192.168.0.77:40000 > 172.30.0.44:80 times=2
        -> held
        {crowd}@2
        outside tcp S 192.168.0.230:40000 > 172.30.0.44:80
        -> held
        -> drop neighbor_unresolved
        outside tcp S [2001:db8::1:230]:40000 > [fd00:172:30::44]:80
        -> held
        -> drop neighbor_unresolved
        outside tcp S 203.0.113.9:40000 > 172.30.0.44:80 times=2
        -> held
        -> drop neighbor_unresolved times=2
        use known
        -> held times=254
        -> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.9:40000 seq=0 ack=1001
        -> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.9:40001 seq=0 ack=1001"
    )
});

/// 240 packets that wait each for the client that it answers, then 16 for clients behind the router; and 14 more of the former.
static SINGLES: LazyLock<String> = LazyLock::new(|| {
    let v4 = |last: u32| format!("outside tcp S 192.168.0.{last}:40000 > 172.30.0.44:80\n-> held\n");
    let v6 = |last: u32| format!("outside tcp S [2001:db8::1:{last}]:40000 > [fd00:172:30::44]:80\n-> held\n");
    let routed = |last: u32| format!("outside tcp S 203.0.113.{last}:40000 > 172.30.0.44:80\n-> held\n");
    let reset = |last: u32| {
        format!("-> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.{last}:40000 seq=0 ack=1001\n")
    };
    let [first, more] =
        [100..220, 220..227].map(|range| range.flat_map(|last| [v4(last), v6(last)]).collect::<Vec<String>>());
    let (routed, resets): (String, String) = ((1..17).map(routed).collect(), (1..17).map(reset).collect());
    let (first, more) = (first.concat(), more.join("-> drop neighbor_unresolved\n"));
    format!(
        "{first}{routed}@2
        {more}-> drop neighbor_unresolved
        use known
        -> held times=226
        {resets}"
    )
});

/// 255 packets that wait each for the client that it answers, then two for an endpoint that gets them inside others; and two more of the
/// former.
static INSIDE: LazyLock<String> = LazyLock::new(|| {
    let single = |n: u32| match n % 2 {
        0 => format!("outside tcp S 192.168.0.{}:40000 > 172.30.0.44:80\n-> held\n", 100 + n / 2),
        _ => format!("outside tcp S [2001:db8::1:{}]:40000 > [fd00:172:30::44]:80\n-> held\n", 100 + n / 2),
    };
    let many: String = (0..255).map(single).collect();
    format!(
        "{many}outside tcp S 203.0.113.1:40000 > 172.30.0.41:80
        -> held
        @2
        outside tcp S 203.0.113.2:40000 > 172.30.0.41:80
        -> held
        -> drop neighbor_unresolved
        {}-> drop neighbor_unresolved
        {}-> drop neighbor_unresolved
        use known
        -> held times=252
        -> forward inside 203.0.113.1:40000 > 172.30.0.41:80 by=10.0.1.1 within=10.0.255.254>10.0.1.1
        -> forward inside 203.0.113.2:40000 > 172.30.0.41:80 by=10.0.1.1 within=10.0.255.254>10.0.1.1
        -> held times=2",
        single(255),
        single(256),
    )
});

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "dsr-ipip: what waits for an endpoint is not given up for what waits each for its own client",
            bed: Bed::of(&[dsr::IPIP, EMPTY, EMPTY6])
                .neighbors(Neighbors::None)
                .then_neighbors("known", Neighbors::All)
                .set(|settings| settings.frames = 512),
            script: INSIDE.as_str(),
            ledger: "rx=259 held=254 drop:neighbor_unresolved=3 forwarded=2 flowsOpened=2",
        },
        Row {
            name: "dsr-ipip: a client with fewer packets takes the place of one with more",
            bed: Bed::of(&[dsr::IPIP]).neighbors(Neighbors::None),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 times=16
                -> held
                @2
                outside tcp S 203.0.113.8:40000 > 172.30.0.41:80
                -> held
                -> drop neighbor_unresolved",
            ledger: "rx=17 held=16 drop:neighbor_unresolved=1 flowsOpened=17",
        },
        Row {
            name: "what waits for the router of many is not given up for what waits each for its own client",
            bed: town()
                .neighbors(Neighbors::None)
                .then_neighbors("known", Neighbors::Outside)
                .set(|settings| settings.frames = 512),
            script: SINGLES.as_str(),
            ledger: "rx=270 held=240 drop:neighbor_unresolved=14 replied=16 reply:no_endpoint=16",
        },
        Row {
            name: "a client with fewer packets takes the place of one with more, where as many wait for one neighbour as may",
            bed: town().neighbors(Neighbors::None),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80 times=15
                -> held
                outside tcp S 203.0.113.7:40000 > 172.30.0.44:80
                -> held
                @2
                outside tcp S 203.0.113.8:40000 > 172.30.0.44:80
                -> held
                -> drop neighbor_unresolved
                @3
                outside tcp S 203.0.113.9:50000 > 172.30.0.44:80
                -> drop neighbor_unresolved
                outside tcp S 203.0.113.8:40001 > 172.30.0.44:80
                -> held
                -> drop neighbor_unresolved",
            ledger: "rx=19 held=16 drop:neighbor_unresolved=3",
        },
        Row {
            name: "over IPv6 those of one network are one client in this",
            bed: town().neighbors(Neighbors::None),
            script: "
                outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::44]:80 times=16
                -> held
                @2
                outside tcp S [2001:db8:c::8]:40000 > [fd00:172:30::44]:80
                -> drop neighbor_unresolved
                outside tcp S [2001:db8:c:1::9]:40000 > [fd00:172:30::44]:80
                -> held
                -> drop neighbor_unresolved",
            ledger: "rx=18 held=16 drop:neighbor_unresolved=2",
        },
        Row {
            name: "a packet waits for its endpoint's neighbour and leaves when it is known",
            bed: town().neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> held
                asked inside 10.0.1.1
                @500
                use known
                -> forward inside 10.0.255.254:A > 10.0.1.1:8080
                inside tcp SA 10.0.1.1:8080 > 10.0.255.254:A ack=1001
                -> forward outside 172.30.0.41:80 > 203.0.113.9:40000",
            ledger: "rx=2 forwarded=2 flowsOpened=1",
        },
        Row {
            name: "a packet over IPv6 waits for its endpoint's neighbour and leaves when it is known",
            bed: town().neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 sum=partial data=x pad=5
                -> held
                asked inside fd00:10::3
                use known
                -> forward inside [fd00:10::fffe]:A > [fd00:10::3]:5353",
            ledger: "rx=1 forwarded=1 flowsOpened=1",
        },
        Row {
            name: "a packet that waited a second is dropped",
            bed: town().neighbors(Neighbors::Outside),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> held
                @1000
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> held
                @1001
                -> drop neighbor_unresolved
                @2000
                -> drop neighbor_unresolved",
            ledger: "rx=2 drop:neighbor_unresolved=2 flowsOpened=2",
        },
        Row {
            name: "sixteen packets wait for one neighbour, the seventeenth is dropped; another neighbour has its own room",
            bed: town().neighbors(Neighbors::Outside).then_neighbors("known", Neighbors::All),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 times=16
                -> held
                outside udp 203.0.113.9:5100 > 172.30.0.53:53
                -> drop neighbor_unresolved
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> held
                asked inside 10.0.1.3
                asked inside 10.0.1.1
                use known
                -> forward inside 10.0.255.254:A > 10.0.1.3:5353
                -> forward inside 10.0.255.254:B > 10.0.1.3:5353
                -> forward inside 10.0.255.254:C > 10.0.1.3:5353
                -> forward inside 10.0.255.254:D > 10.0.1.3:5353
                -> forward inside 10.0.255.254:E > 10.0.1.3:5353
                -> forward inside 10.0.255.254:F > 10.0.1.3:5353
                -> forward inside 10.0.255.254:G > 10.0.1.3:5353
                -> forward inside 10.0.255.254:H > 10.0.1.3:5353
                -> forward inside 10.0.255.254:I > 10.0.1.3:5353
                -> forward inside 10.0.255.254:J > 10.0.1.3:5353
                -> forward inside 10.0.255.254:K > 10.0.1.3:5353
                -> forward inside 10.0.255.254:L > 10.0.1.3:5353
                -> forward inside 10.0.255.254:M > 10.0.1.3:5353
                -> forward inside 10.0.255.254:N > 10.0.1.3:5353
                -> forward inside 10.0.255.254:O > 10.0.1.3:5353
                -> forward inside 10.0.255.254:P > 10.0.1.3:5353
                -> forward inside 10.0.255.254:Q > 10.0.1.1:8080",
            ledger: "rx=18 forwarded=17 drop:neighbor_unresolved=1 flowsOpened=18",
        },
        Row {
            name: "a reply waits for the client's neighbour, which was asked for with the first packet",
            bed: town().neighbors(Neighbors::None).then_neighbors("outside", Neighbors::Outside),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> held
                asked outside 192.168.0.254
                asked inside 10.0.1.3
                @1001
                -> drop neighbor_unresolved
                inside udp 10.0.1.3:5353 > 10.0.255.254:63012
                -> pass
                use outside
                outside udp 203.0.113.9:5000 > 172.30.0.53:53
                -> held
                asked inside 10.0.1.3",
            ledger: "rx=3 passed=1 held=1 drop:neighbor_unresolved=1 flowsOpened=1",
        },
        Row {
            name: "an answer waits for the client's neighbour",
            bed: town().neighbors(Neighbors::None).then_neighbors("known", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.44:80
                -> held
                outside udp 192.168.0.77:5000 > 172.30.0.44:53 data=x
                -> held
                outside echo 203.0.113.9 > 172.30.0.41 data=x
                -> held
                asked outside 192.168.0.254
                asked outside 192.168.0.77
                use known
                -> reply no_endpoint outside rst 172.30.0.44:80 > 203.0.113.9:40000 seq=0 ack=1001
                -> reply no_endpoint outside icmp 3/3 172.30.0.44 > 192.168.0.77
                -> reply echo_request outside echo 172.30.0.41 > 203.0.113.9",
            ledger: "rx=3 replied=3 reply:no_endpoint=2 reply:echo_request=1",
        },
        Row {
            name: "a packet whose neighbour is asked for takes the place of the oldest one of many for another neighbour",
            bed: town().neighbors(Neighbors::None).set(|settings| settings.frames = 512),
            script: "
                outside tcp S 192.168.0.100:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.101:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.102:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.103:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.104:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.105:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.106:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.107:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.108:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.109:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.110:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.111:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.112:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.113:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.114:40000 > 172.30.0.44:80 times=16
                -> held
                outside tcp S 192.168.0.115:40000 > 172.30.0.44:80 times=16
                -> held
                @2
                outside tcp S 192.168.0.99:40000 > 172.30.0.44:80
                -> held
                -> drop neighbor_unresolved
                asked outside 192.168.0.100
                asked outside 192.168.0.101
                asked outside 192.168.0.102
                asked outside 192.168.0.103
                asked outside 192.168.0.104
                asked outside 192.168.0.105
                asked outside 192.168.0.106
                asked outside 192.168.0.107
                asked outside 192.168.0.108
                asked outside 192.168.0.109
                asked outside 192.168.0.110
                asked outside 192.168.0.111
                asked outside 192.168.0.112
                asked outside 192.168.0.113
                asked outside 192.168.0.114
                asked outside 192.168.0.115
                asked outside 192.168.0.99",
            ledger: "rx=257 held=256 drop:neighbor_unresolved=1",
        },
        Row {
            name: "of many neighbours that one packet each waits for the oldest is given up, and before it of one that several wait for",
            bed: town()
                .neighbors(Neighbors::None)
                .then_neighbors("known", Neighbors::Outside)
                .set(|settings| settings.frames = 512),
            script: CROWD.as_str(),
            ledger: "rx=260 held=254 drop:neighbor_unresolved=4 replied=2 reply:no_endpoint=2",
        },
        Row {
            name: "a flow whose neighbour is forgotten waits and goes on",
            bed: town().then_neighbors("flushed", Neighbors::None).then_neighbors("known", Neighbors::All),
            script: "
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                use flushed
                inside udp 10.0.1.9:5000 > 172.30.0.53:53
                -> held
                inside udp 10.0.1.3:5353 > 10.0.1.9:5000
                -> held
                asked inside 10.0.1.3
                asked inside 10.0.1.9
                use known
                -> forward inside 10.0.1.9:5000 > 10.0.1.3:5353
                -> forward inside 172.30.0.53:53 > 10.0.1.9:5000",
            ledger: "rx=3 forwarded=3 flowsOpened=1",
        },
        Row {
            name: "too big is told before the neighbour is known",
            bed: crate::bed::Bed::of(&["web udp 172.30.0.41:80 -> 10.5.0.1:80"]).neighbors(Neighbors::Outside),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1280
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1252 df
                -> held
                outside udp 203.0.113.9:5000 > 172.30.0.41:80 bytes=1253 df
                -> reply too_big outside icmp 3/4 192.168.0.2 > 203.0.113.9 mtu=1280",
            ledger: "rx=3 held=1 replied=2 reply:too_big=2 flowsOpened=1",
        },
    ]
}
