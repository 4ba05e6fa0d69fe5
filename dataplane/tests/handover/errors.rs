//! ICMP errors that the NIC gives to another worker than the one that has the flow.

use ringway_dataplane::verdict::Verdict;
use ringway_shared::DropReason;
use ringway_shared::counters::Counter;

use crate::bed::{INSIDE, OUTSIDE, ms};
use crate::{Team, snapshot, source_port};

/// Errors about one tuple that a worker hands over within 0.1 s, and about all of one kind.
const LIMIT: u64 = 4;
const OF_A_KIND: usize = 1_024;

#[test]
fn an_error_finds_the_flow_it_is_about_from_either_side() {
    let mut team = Team::new(3);
    for owner in 0..3 {
        let from = format!("203.0.113.9:{}", 40_000 + owner);
        let ask = team.line(owner, &format!("outside udp {from} > 172.30.0.53:53"), ms(1));
        let port = source_port(&ask.2.unwrap());
        team.line(owner, &format!("outside tcp S {from} > 198.51.100.7:80"), ms(1));
        for worker in 0..3 {
            for (line, out) in [
                (
                    format!("inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:{port} > 10.0.1.3:5353"),
                    OUTSIDE,
                ),
                (format!("outside icmp 3/3 203.0.113.9 > 172.30.0.53 about udp 172.30.0.53:53 > {from}"), INSIDE),
                (format!("inside icmp 11/0 10.0.1.8 > 203.0.113.9 about tcp S {from} > 10.0.1.5:80"), OUTSIDE),
            ] {
                let (at, verdict, _) = team.line(worker, &line, ms(2));
                assert_eq!((at, verdict), (owner, Verdict::Forward { out }), "{line}");
            }
        }
    }
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Forwarded, Counter::HandedOver].map(|counter| sum.get(counter));
    assert_eq!(counts, [33, 33, 18]);
}

#[test]
fn one_about_a_packet_inside_another_finds_the_flow_of_that_inside() {
    let mut team = Team { snapshot: snapshot(&["dns udp 172.30.0.54:53 dsr=ipip -> 10.0.1.3:53"]), ..Team::new(2) };
    team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.54:53", ms(1));
    let line = "inside icmp 3/4 10.0.1.254 > 10.0.255.254 mtu=1400 about udp 203.0.113.9:5000 > 172.30.0.54:53 bytes=1400 df \
                within=10.0.255.254>10.0.1.3";
    for admitted in 0..LIMIT {
        let (at, verdict, _) = team.line(0, line, ms(2));
        assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }), "{admitted}");
    }
    let (at, verdict, _) = team.line(0, line, ms(2));
    assert_eq!((at, verdict), (0, Verdict::Drop(DropReason::IcmpHandoverLimited)));
    let other = line.replace(":5000", ":5001");
    let (at, verdict, _) = team.line(0, &other, ms(2));
    assert_eq!((at, verdict), (0, Verdict::Pass { arrived: INSIDE }));
}

#[test]
fn one_about_no_flow_is_dealt_with_once() {
    let mut team = Team::new(2);
    // The port is the other worker's.
    let line = "inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:65000 > 10.0.1.3:5353";
    let (at, verdict, _) = team.line(0, line, ms(1));
    assert_eq!((at, verdict), (1, Verdict::Pass { arrived: INSIDE }));
    // A VIP's port is nobody's, whatever its number.
    let line = "outside icmp 3/3 203.0.113.9 > 172.30.0.53 about udp 172.30.0.53:65000 > 203.0.113.9:53";
    let (at, verdict, _) = team.line(0, line, ms(1));
    assert_eq!((at, verdict), (0, Verdict::Drop(DropReason::IcmpWithoutFlow)));
}

#[test]
fn a_flood_of_them_leaves_the_queues_to_others() {
    let mut team = Team::new(2);
    let ask = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let port = source_port(&ask.2.unwrap());
    let line = format!("inside icmp 3/3 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:{port} > 10.0.1.3:5353");
    for (second, flood) in [(0, LIMIT + 1_500), (1, LIMIT + 1)] {
        for number in 0..flood {
            let (at, verdict, _) = team.line(0, &line, ms(1 + 1_000 * second));
            let expected = match number < LIMIT {
                true => (1, Verdict::Forward { out: OUTSIDE }),
                false => (0, Verdict::Drop(DropReason::IcmpHandoverLimited)),
            };
            assert_eq!((at, verdict), expected, "{number} in second {second}");
        }
        // Replies are no errors.
        let reply = team.line(0, &format!("inside udp 10.0.1.3:5353 > 10.0.255.254:{port}"), ms(2 + 1_000 * second));
        assert_eq!((reply.0, reply.1), (1, Verdict::Forward { out: OUTSIDE }));
    }
    assert_eq!(team.sum().drops(DropReason::IcmpHandoverLimited), 1_501);
}

/// Whatever a flood quotes: one real flow, or ports that are perhaps somebody's.
#[test]
fn a_flood_of_them_takes_nothing_from_errors_about_others() {
    let mut team = Team::new(2);
    let [own, other] = [5_000, 5_001].map(|client| {
        let ask = team.line(1, &format!("outside udp 203.0.113.9:{client} > 172.30.0.53:53"), ms(1));
        source_port(&ask.2.unwrap())
    });
    team.line(1, "outside tcp S 203.0.113.9:40000 > 198.51.100.7:80", ms(1));
    let masqueraded =
        |port| format!("inside icmp 3/4 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:{port} > 10.0.1.3:5353");
    let kept = "inside icmp 3/4 10.0.1.8 > 203.0.113.9 about tcp S 203.0.113.9:40000 > 10.0.1.5:80";
    let forwarded = (1, Verdict::Forward { out: OUTSIDE });
    for _ in 0..2_000 {
        team.line(0, &masqueraded(own), ms(2));
    }
    let (at, verdict, _) = team.line(0, &masqueraded(other), ms(2));
    assert_eq!((at, verdict), forwarded, "about another client's flow");
    let mut handed = 0;
    for port in 49_152..65_000 {
        handed += usize::from(team.line(0, &masqueraded(port), ms(200)).0 == 1);
    }
    assert!((OF_A_KIND / 2..=OF_A_KIND).contains(&handed), "{handed}");
    let (at, verdict, _) = team.line(0, kept, ms(200));
    assert_eq!((at, verdict), forwarded, "about a flow that is noted");
}

/// Who forges errors from where clients are takes nothing from those that come by the way to their endpoint.
#[test]
fn a_flood_from_elsewhere_leaves_room_for_errors_by_their_own_way() {
    let mut team = Team::new(2);
    let ask = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let port = source_port(&ask.2.unwrap());
    let about = |arrives, port| {
        format!("{arrives} icmp 3/4 10.0.1.3 > 10.0.255.254 about udp 10.0.255.254:{port} > 10.0.1.3:5353")
    };
    let handed = (49_152..65_000).filter(|port| team.line(0, &about("outside", *port), ms(2)).0 == 1).count();
    assert!((OF_A_KIND / 2..=OF_A_KIND).contains(&handed), "{handed}");
    let (at, verdict, _) = team.line(0, &about("outside", port), ms(2));
    assert_eq!((at, verdict), (0, Verdict::Drop(DropReason::IcmpHandoverLimited)), "the flood's room is used up");
    let (at, verdict, _) = team.line(0, &about("inside", port), ms(2));
    assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }), "a router behind which the endpoint is");
}
