//! Packets that somebody else than the endpoint may have sent, at a worker that has no flow for them.

use std::sync::Arc;

use ringway_dataplane::verdict::Verdict;
use ringway_shared::DropReason;
use ringway_shared::network::ReversePath;

use crate::bed::{INSIDE, OUTSIDE, ms, text};
use crate::{Team, snapshot, source_port};

#[test]
fn what_an_interface_refuses_is_refused_by_whoever_owns_its_port() {
    let mut team = Team::new(2);
    let network = (*team.snapshot.network).clone();
    team.snapshot.network = Arc::new(network.with_reverse_paths(vec![ReversePath::Strict]));
    for forged in ["udp 10.0.1.3:5353 > 10.0.255.254:65000", "tcp SA 10.0.1.1:8080 > 10.0.255.254:65000"] {
        let (at, verdict, _) = team.line(0, &format!("outside {forged}"), ms(1));
        assert_eq!((at, verdict), (1, Verdict::Drop(DropReason::ReversePath)), "{forged}");
        let (at, verdict, _) = team.line(0, &format!("inside {forged}"), ms(1));
        assert_eq!((at, verdict), (1, Verdict::Pass { arrived: INSIDE }), "{forged}");
    }
    // Answers of a flow go on, whichever queue they come to.
    let (_, _, sent) = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let reply = format!("outside udp 10.0.1.3:5353 > 10.0.255.254:{}", source_port(&sent.unwrap()));
    for worker in [0, 1] {
        let (at, verdict, _) = team.line(worker, &reply, ms(1));
        assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }), "{worker}");
    }
    // Where somebody has noted a flow, its packets go there, as those do that its own worker gets.
    assert_eq!(team.line(1, "outside tcp S 203.0.113.9:40000 > 198.51.100.7:80", ms(1)).0, 1);
    let (at, verdict, _) = team.line(0, "outside tcp SA 10.0.1.5:80 > 203.0.113.9:40000 ack=1001", ms(2));
    assert_eq!((at, verdict), (1, Verdict::Forward { out: OUTSIDE }));
    team.sum();
}

#[test]
fn what_comes_by_another_interface_than_its_source_is_handed_over_as_doubted() {
    let mut team = Team {
        snapshot: snapshot(&[
            "dns udp 172.30.0.53:53 -> 10.0.1.3:5353",
            "dns udp [fd00:172:30::53]:53 -> [fd00:10::3]:5353",
        ]),
        ..Team::new(2)
    };
    let v4 = team.line(1, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1));
    let v6 = team.line(1, "outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53", ms(1));
    let [v4, v6] = [v4, v6].map(|(_, _, sent)| source_port(&sent.unwrap()));
    for (interface, expected) in [(INSIDE, false), (OUTSIDE, true)] {
        for reply in
            [format!("udp 10.0.1.3:5353 > 10.0.255.254:{v4}"), format!("udp [fd00:10::3]:5353 > [fd00:10::fffe]:{v6}")]
        {
            let first = &mut team.workers[0];
            assert!(first.run(&text::frame(interface, &reply), interface, 1, &team.snapshot, ms(2)));
            let fate = first.collector.fates.pop().unwrap();
            assert_eq!(fate.verdict, Verdict::HandOver { worker: 1, arrived: interface, doubted: expected }, "{reply}");
        }
    }
}
