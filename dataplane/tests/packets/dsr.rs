//! Direct server return: packets to the VIP reach the endpoint as they came, and nobody sees what it answers.

use std::sync::Arc;

use ringway_shared::BackendId;
use ringway_shared::counters::WorkerCounters;

use super::dsr_frames;
use crate::bed::row::Row;
use crate::bed::text::frame;
use crate::bed::{Bed, Neighbors, OUTSIDE, ms, worker_counted};

pub(super) const L2: &str = "web tcp 172.30.0.41:80 node=30080 lb=198.51.100.1 dsr=l2 -> 10.0.1.1:80";
pub(super) const L2_6: &str = "web tcp [fd00:172:30::41]:80 dsr=l2 -> [fd00:10::1]:80";
pub(super) const L2_DNS: &str = "dns udp 172.30.0.53:53 dsr=l2 -> 10.0.1.3:53";
pub(super) const L2_SIG: &str = "sig sctp 172.30.0.42:2905 dsr=l2 -> 10.0.1.4:2905";
pub(super) const IPIP: &str = "web tcp 172.30.0.41:80 node=30080 dsr=ipip -> 10.0.1.1:80";
pub(super) const IPIP6: &str = "web tcp [fd00:172:30::41]:80 dsr=ipip -> [fd00:10::1]:80";
pub(super) const IPIP_DNS: &str = "dns udp 172.30.0.53:53 dsr=ipip -> 10.0.1.3:53";

pub(crate) fn rows() -> Vec<Row> {
    [dsr_frames::by_mac(), dsr_frames::inside(), ways(), errors(), flows(), changes()].into_iter().flatten().collect()
}

fn ways() -> Vec<Row> {
    vec![
        Row {
            name: "dsr: where there is no way, why; a router will do for dsr-ipip alone",
            bed: Bed::of(&[
                "far tcp 172.30.0.43:80 dsr=l2 -> 203.0.113.7:80",
                "far tcp 172.30.0.44:80 dsr=ipip -> 203.0.113.7:80",
                "wg tcp 172.30.0.45:80 dsr=ipip -> 10.99.0.1:80",
                "wg tcp 172.30.0.46:80 dsr=l2 -> 10.99.0.1:80",
                "own tcp 172.30.0.47:80 dsr=l2 -> 10.97.0.1:80",
                "none tcp 172.30.0.48:80 dsr=ipip ->",
                "none udp 172.30.0.48:53 dsr=l2 ->",
                "down tcp 172.30.0.49:80 dsr=l2 -> 10.4.0.1:80",
                "narrow tcp 172.30.0.50:80 dsr=ipip -> 10.5.0.1:80",
                "narrow tcp [fd00:172:30::43]:80 dsr=ipip -> [fd00:5::1]:80",
                "narrow tcp [fd00:172:30::44]:80 dsr=ipip -> [fd00:7::1]:80",
                "narrow tcp [fd00:172:30::45]:80 dsr=l2 -> [fd00:5::1]:80",
            ]),
            script: "
                inside tcp S 10.0.1.9:5000 > 172.30.0.43:80
                -> drop endpoint_off_link
                inside tcp S 10.0.1.9:5000 > 172.30.0.44:80
                -> forward outside 10.0.1.9:5000 > 172.30.0.44:80 by=203.0.113.7 within=192.168.0.2>203.0.113.7
                inside tcp S 10.0.1.9:5000 > 172.30.0.45:80
                -> drop no_interface
                inside tcp S 10.0.1.9:5000 > 172.30.0.46:80
                -> drop no_interface
                inside tcp S 10.0.1.9:5000 > 172.30.0.47:80
                -> drop endpoint_refused
                inside tcp S 10.0.1.9:5000 > 172.30.0.48:80
                -> reply no_endpoint inside rst 172.30.0.48:80 > 10.0.1.9:5000 ack=1001
                inside udp 10.0.1.9:5000 > 172.30.0.48:53
                -> reply no_endpoint inside icmp 3/3 172.30.0.48 > 10.0.1.9
                inside tcp S 10.0.1.9:5000 > 172.30.0.49:80
                -> drop interface_down
                inside tcp R 10.0.1.9:5000 > 172.30.0.43:80
                -> drop rst_without_flow
                inside tcp S 10.0.1.9:5000 > 172.30.0.50:80
                -> forward narrow
                inside tcp S [fd00:10::9]:5000 > [fd00:172:30::43]:80
                -> drop endpoint_way_narrow
                inside tcp S [fd00:10::9]:5000 > [fd00:172:30::44]:80
                -> drop endpoint_way_narrow
                inside tcp S [fd00:10::9]:5000 > [fd00:172:30::45]:80
                -> forward narrow",
            ledger: "rx=13 forwarded=3 replied=2 reply:no_endpoint=2 drop:endpoint_off_link=1 drop:no_interface=2 \
                     drop:endpoint_refused=1 drop:interface_down=1 drop:rst_without_flow=1 drop:endpoint_way_narrow=2 \
                     flowsOpened=3",
        },
        Row {
            name: "dsr: no address of the node to send from is no way for dsr-ipip, and no matter for dsr-l2",
            bed: Bed::of(&[IPIP6, "l2 tcp [fd00:172:30::42]:80 dsr=l2 -> [fd00:20::1]:80"])
                .neighbors(Neighbors::AllWithoutAddress6)
                .then("far", &["web tcp [fd00:172:30::41]:80 dsr=ipip -> [fd00:20::1]:80"]),
            script: "
                bare tcp S [2001:db8:c::9]:5000 > [fd00:172:30::42]:80
                -> forward bare [2001:db8:c::9]:5000 > [fd00:172:30::42]:80 by=fd00:20::1
                use far
                bare tcp S [2001:db8:c::9]:5000 > [fd00:172:30::41]:80
                -> drop no_source_address",
            ledger: "rx=2 forwarded=1 drop:no_source_address=1 flowsOpened=1",
        },
        Row {
            name: "dsr: a packet waits for its endpoint's neighbour as it will leave",
            bed: Bed::of(&[L2, IPIP_DNS]).neighbors(Neighbors::Outside).then_neighbors("all", Neighbors::All),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> held
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=q
                -> held
                asked inside 10.0.1.1
                asked inside 10.0.1.3
                use all
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3",
            ledger: "rx=2 forwarded=2 flowsOpened=2",
        },
    ]
}

fn errors() -> Vec<Row> {
    vec![Row {
        name: "dsr: an ICMP error to the VIP about what the endpoint sent reaches it as packets of the flow do",
        bed: Bed::of(&[L2, IPIP6, IPIP_DNS]),
        script: "
            outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
            -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
            outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=7001
            -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
            outside icmp 3/4 192.0.2.1 > 172.30.0.41 mtu=1280 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=7001 bytes=900 quote=28
            -> forward inside 192.0.2.1 > 172.30.0.41 by=10.0.1.1
            outside icmp 3/4 192.0.2.1 > 172.30.0.41 mtu=1280 about tcp A 172.30.0.41:80 > 203.0.113.9:40000 seq=900007001 quote=28
            -> drop icmp_outside_window
            outside icmp 3/4 192.0.2.1 > 172.30.0.41 mtu=1280 about tcp A 172.30.0.41:80 > 203.0.113.9:40001 seq=7001 quote=28
            -> drop icmp_without_flow
            outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80
            -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
            outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 seq=1001 ack=7001
            -> forward inside [2001:db8:c::9]:40000 > [fd00:172:30::41]:80 by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
            outside icmp 2/0 [2001:db8:c::1] > [fd00:172:30::41] mtu=1280 about tcp A [fd00:172:30::41]:80 > [2001:db8:c::9]:40000 seq=7001 bytes=900
            -> forward inside [2001:db8:c::1] > [fd00:172:30::41] by=fd00:10::1 within=fd00:10::fffe>fd00:10::1
            outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=q
            -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3
            outside icmp 3/3 203.0.113.9 > 172.30.0.53 about udp 172.30.0.53:53 > 203.0.113.9:5000 data=answer
            -> forward inside 203.0.113.9 > 172.30.0.53 by=10.0.1.3 within=10.0.255.254>10.0.1.3",
        ledger: "rx=10 forwarded=8 drop:icmp_outside_window=1 drop:icmp_without_flow=1 flowsOpened=3",
    }]
}

fn flows() -> Vec<Row> {
    vec![
        Row {
            name: "dsr: fragments go where the first one goes, each inside a packet of its own",
            bed: Bed::of(&["l2 udp 172.30.0.54:53 dsr=l2 -> 10.0.1.4:53", IPIP_DNS, "v6 udp [fd00:172:30::53]:53 dsr=ipip -> [fd00:10::3]:53"]),
            script: "
                outside udp 203.0.113.9:5000 > 172.30.0.54:53 bytes=1472 frag=0+ id=7
                -> forward inside 203.0.113.9:5000 > 172.30.0.54:53 by=10.0.1.4
                outside udp 203.0.113.9:0 > 172.30.0.54:0 bytes=100 frag=1480 id=7 pad=7
                -> forward inside 203.0.113.9 > 172.30.0.54 by=10.0.1.4
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 frag=0+ id=8
                -> forward inside 203.0.113.9:5000 > 172.30.0.53:53 by=10.0.1.3 within=10.0.255.254>10.0.1.3
                outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=104 frag=1408 id=8
                -> forward inside 203.0.113.9 > 172.30.0.53 by=10.0.1.3 within=10.0.255.254>10.0.1.3/5000:53
                outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=1200 frag=0+ id=99
                -> forward inside [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 by=fd00:10::3 within=fd00:10::fffe>fd00:10::3
                outside udp [2001:db8:c::9]:0 > [fd00:172:30::53]:0 bytes=30 frag=1208 id=99
                -> forward inside",
            ledger: "rx=6 forwarded=6 flowsOpened=3",
        },
        Row {
            name: "dsr: whoever goes on is kept for longer than who only opens, and gives way after it",
            bed: Bed::of(&[L2, "nat tcp 172.30.0.42:80 -> 10.0.1.2:80"]).flows(2),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside
                @1000
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside
                @5000
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40002 > 172.30.0.41:80 seq=1001
                -> forward inside
                @100000
                outside tcp S 203.0.113.9:40003 > 172.30.0.42:80
                -> forward inside
                outside tcp R 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> drop rst_without_flow
                outside tcp R 203.0.113.9:40002 > 172.30.0.41:80 seq=1001
                -> forward inside 203.0.113.9:40002 > 172.30.0.41:80 by=10.0.1.1
                @111000
                outside tcp R 203.0.113.9:40002 > 172.30.0.41:80 seq=1001
                -> drop rst_without_flow",
            ledger: "rx=9 forwarded=7 drop:rst_without_flow=2 flowsOpened=4 flowsClosed=3 flowsEvicted=2",
        },
        Row {
            name: "dsr: with a full table its packets go the same way without a flow, of TCP as well",
            bed: Bed::of(&[L2, "nat tcp 172.30.0.42:80 -> 10.0.1.2:80"]).flows(1),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.42:80
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                inside tcp SA 10.0.1.2:80 > 10.0.255.254:A seq=5000 ack=1001
                -> forward outside 172.30.0.42:80 > 203.0.113.9:40000
                outside tcp A 203.0.113.9:40000 > 172.30.0.42:80 seq=1001 ack=5001
                -> forward inside 10.0.255.254:A > 10.0.1.2:80
                @9000
                outside tcp S 203.0.113.9:41000 > 172.30.0.41:80
                -> forward inside 203.0.113.9:41000 > 172.30.0.41:80 by=10.0.1.1
                outside tcp AP 203.0.113.9:41000 > 172.30.0.41:80 seq=1001 data=x
                -> forward inside 203.0.113.9:41000 > 172.30.0.41:80 by=10.0.1.1",
            ledger: "rx=5 forwarded=5 stateless=2 flowsOpened=1",
        },
        Row {
            name: "dsr: half-open TCP is over after 30 s, UDP after 60 s, who said FIN after 120 s, who goes on stays",
            bed: Bed::of(&[L2, L2_DNS]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001
                -> forward inside
                outside tcp S 203.0.113.9:40002 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40002 > 172.30.0.41:80 seq=1001
                -> forward inside
                outside tcp FA 203.0.113.9:40002 > 172.30.0.41:80 seq=1001 data=bye
                -> forward inside
                outside tcp A 203.0.113.9:40002 > 172.30.0.41:80 seq=1005
                -> forward inside
                outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=q
                -> forward inside
                @29000
                outside tcp R 203.0.113.9:40000 > 172.30.0.41:80 seq=77
                -> forward inside
                @59500
                outside tcp R 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> drop rst_without_flow
                @119000
                outside tcp R 203.0.113.9:40002 > 172.30.0.41:80 seq=77
                -> forward inside
                @240000
                outside tcp R 203.0.113.9:40002 > 172.30.0.41:80 seq=1005
                -> drop rst_without_flow
                @7990000
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001
                -> forward inside",
            ledger: "rx=13 forwarded=11 drop:rst_without_flow=2 flowsOpened=4 flowsClosed=3",
        },
        Row {
            name: "dsr: a FIN and a RST that somebody guessed change nothing for longer than the client is silent",
            bed: Bed::of(&[L2]),
            script: "
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40001 > 172.30.0.41:80 seq=1001
                -> forward inside
                outside tcp FA 203.0.113.9:40001 > 172.30.0.41:80 seq=90000
                -> forward inside
                outside tcp R 203.0.113.9:40001 > 172.30.0.41:80 seq=1001
                -> forward inside
                outside tcp AP 203.0.113.9:40001 > 172.30.0.41:80 seq=1001 data=x
                -> forward inside
                @1000000
                outside tcp R 203.0.113.9:40001 > 172.30.0.41:80 seq=5
                -> forward inside",
            ledger: "rx=6 forwarded=6 flowsOpened=1",
        },
    ]
}

fn changes() -> Vec<Row> {
    const TWO: &str = "web tcp 172.30.0.41:80 dsr=l2 -> 10.0.1.1:80/unready 10.0.1.2:80";
    vec![
        Row {
            name: "dsr: a flow keeps its endpoint while a slice names it, and its forwarding; then its client is told",
            bed: Bed::of(&[L2])
                .then("two", &[TWO])
                .then("nat", &["web tcp 172.30.0.41:80 -> 10.0.1.1:80 10.0.1.2:80"])
                .then("other", &["web tcp 172.30.0.41:80 dsr=ipip -> 10.0.1.2:80"]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                use two
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                outside tcp S 203.0.113.9:40001 > 172.30.0.41:80
                -> forward inside 203.0.113.9:40001 > 172.30.0.41:80 by=10.0.1.2
                use nat
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.1
                use other
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001 ack=9
                -> reply endpoint_deleted outside rst 172.30.0.41:80 > 203.0.113.9:40000 seq=9
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.2 within=10.0.255.254>10.0.1.2",
            ledger: "rx=7 forwarded=6 replied=1 reply:endpoint_deleted=1 flowsOpened=3 flowsClosed=1",
        },
        Row {
            name: "dsr: a client's port that it uses again is another connection, to whoever is chosen now",
            bed: Bed::of(&[L2]).then("two", &[TWO]),
            script: "
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80
                -> forward inside
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside
                outside tcp FA 203.0.113.9:40000 > 172.30.0.41:80 seq=1001
                -> forward inside
                use two
                outside tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=9000
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.2
                outside tcp A 203.0.113.9:40000 > 172.30.0.41:80 seq=9001
                -> forward inside 203.0.113.9:40000 > 172.30.0.41:80 by=10.0.1.2",
            ledger: "rx=5 forwarded=5 flowsOpened=2 flowsClosed=1",
        },
    ]
}

#[test]
fn nobody_is_said_to_leave_unanswered_what_is_answered_elsewhere() {
    let bed = Bed::of(&[L2, L2_DNS, L2_SIG]);
    let counters = WorkerCounters::new(1024);
    let mut worker = worker_counted(&bed.settings, Arc::clone(&counters));
    let mut tag = 0;
    for text in [
        "tcp S 203.0.113.9:40000 > 172.30.0.41:80",
        "udp 203.0.113.9:5000 > 172.30.0.53:53 data=q",
        "sctp 203.0.113.9:5000 > 172.30.0.42:2905 hex=0100001400000001000010000001000100000007",
    ] {
        for second in [1, 3, 9] {
            assert!(worker.run(&frame(OUTSIDE, text), OUTSIDE, tag, bed.first(), ms(second * 1_000)), "{text}");
            tag += 1;
        }
    }
    for second in 10..=200 {
        worker.tick(bed.first(), ms(second * 1_000));
    }
    let answers = (0..8).map(|number| counters.backend(BackendId(number)).answers);
    let said = answers.fold(0, |sum, answers| sum + answers.unanswered + answers.refused + answers.answered);
    assert_eq!((said, worker.tally().closes()), (0, true));
    assert_eq!((0..8).map(|number| counters.backend(BackendId(number)).packets).sum::<u64>(), 9);
}
