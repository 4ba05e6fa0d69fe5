//! Direct server return: fragments of packets that have no flow, and of SCTP, whose ports stay.

use crate::bed::Bed;
use crate::bed::row::Row;

pub(crate) fn rows() -> Vec<Row> {
    vec![
        Row {
            name: "dsr: without room for a flow, all fragments go to the endpoint that the first one goes to",
            bed: Bed::of(&[
                "nat tcp 172.30.0.42:80 -> 10.0.1.2:80",
                "l2 udp 172.30.0.54:53 dsr=l2 -> 10.0.1.3:53 10.0.1.4:53 10.0.1.5:53",
                "ipip udp 172.30.0.53:53 dsr=ipip -> 10.0.1.3:53",
            ])
            .flows(1),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.42:80
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                inside tcp SA 10.0.1.2:80 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside
                outside tcp A 203.0.113.9:40000 > 172.30.0.42:80 seq=1001 ack=5001
                -> forward inside
                @9000
                outside udp 203.0.113.9:5000 > 172.30.0.54:53 bytes=1472 frag=0+ id=7
                -> forward inside 203.0.113.9:5000 > 172.30.0.54:53 by=10.0.1.4
                outside udp 203.0.113.9:0 > 172.30.0.54:0 bytes=100 frag=1480 id=7
                -> forward inside 203.0.113.9 > 172.30.0.54 by=10.0.1.4
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=104 frag=1408 id=8
                -> held
                @9001
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 frag=0+ id=8
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3
                -> forward inside 203.0.113.9 > 172.30.0.53 by=10.0.1.3 within=10.0.255.254>10.0.1.3/5000:53",
            ledger: "rx=7 forwarded=7 stateless=2 flowsOpened=1",
        },
        Row {
            name: "a heartbeat on another path of an SCTP association opens no flow, unless there is but one endpoint that can know it",
            bed: Bed::of(&[
                "sig sctp 172.30.0.42:2905 node=32905 -> 10.0.1.4:2905 10.0.1.5:2905",
                "l2 sctp 172.30.0.43:2905 dsr=l2 -> 10.0.1.4:2905 10.0.1.5:2905",
                "one sctp 172.30.0.44:2905 -> 10.0.1.4:2906",
                "one sctp 172.30.0.45:2905 dsr=l2 -> 10.0.1.4:2905",
            ]),
            script: "
                inside sctp 10.0.1.9:5000 > 172.30.0.42:2905 tag=0 hex=0100001400001234
                -> forward inside
                inside sctp 10.0.1.9:5000 > 172.30.0.42:2905 tag=9 hex=0400000c0001000800000001
                -> forward inside
                inside sctp 10.0.1.8:5000 > 172.30.0.42:2905 tag=9 hex=0400000c0001000800000001
                -> drop heartbeat_without_flow
                outside sctp 203.0.113.9:5000 > 172.30.0.43:2905 tag=9 hex=0400000c0001000800000001
                -> drop heartbeat_without_flow
                outside sctp 203.0.113.9:5000 > 172.30.0.44:2905 tag=9 hex=0400000c0001000800000001
                -> drop heartbeat_without_flow
                inside sctp 10.0.1.8:5000 > 172.30.0.44:2905 tag=9 hex=0400000c0001000800000001
                -> forward inside 10.0.1.8:5000 > 10.0.1.4:2906
                outside sctp 203.0.113.9:5000 > 172.30.0.45:2905 tag=9 hex=0400000c0001000800000001
                -> forward inside 203.0.113.9:5000 > 172.30.0.45:2905 by=10.0.1.4
                inside sctp 10.0.1.8:5000 > 172.30.0.42:2905 tag=9 hex=0000001400001234
                -> forward inside",
            ledger: "rx=8 forwarded=5 drop:heartbeat_without_flow=3 flowsOpened=4",
        },
        Row {
            name: "fragments of SCTP open a flow whose ports stay as they are, and none whose ports change",
            bed: Bed::of(&[
                "l2 sctp 172.30.0.42:2905 dsr=l2 -> 10.0.1.4:2905",
                "kept sctp 172.30.0.43:2905 -> 10.0.1.5:2905",
                "again sctp 172.30.0.46:2905 -> 10.0.1.5:2905",
                "other sctp 172.30.0.44:2905 -> 10.0.1.4:2906",
                "none sctp 172.30.0.45:2905 ->",
            ]),
            script: "
                outside sctp 203.0.113.9:5000 > 172.30.0.42:2905 bytes=60 frag=0+ id=7
                -> forward inside 203.0.113.9:5000 > 172.30.0.42:2905 by=10.0.1.4
                outside sctp 203.0.113.9:0 > 172.30.0.42:0 bytes=30 frag=72 id=7
                -> forward inside 203.0.113.9 > 172.30.0.42 by=10.0.1.4
                inside sctp 10.0.1.9:5000 > 172.30.0.43:2905 bytes=60 frag=0+ id=7
                -> forward inside
                inside sctp 10.0.1.9:0 > 172.30.0.43:0 bytes=30 frag=72 id=7
                -> forward inside 10.0.1.9 > 10.0.1.5
                inside sctp 10.0.1.9:5000 > 172.30.0.46:2905 hex=0003001400000000000000000000000000000000 frag=0+ id=8
                -> drop sctp_fragment
                inside sctp 10.0.1.9:5000 > 172.30.0.44:2905 hex=0003001400000000000000000000000000000000 frag=0+ id=9
                -> drop sctp_fragment
                outside sctp 203.0.113.9:5000 > 172.30.0.43:2905 hex=0003001400000000000000000000000000000000 frag=0+ id=9
                -> drop sctp_fragment
                outside sctp 203.0.113.9:5000 > 172.30.0.45:2905 bytes=60 frag=0+ id=10
                -> reply no_endpoint outside",
            ledger: "rx=8 forwarded=4 replied=1 reply:no_endpoint=1 drop:sctp_fragment=3 flowsOpened=2",
        },
    ]
}
