//! Floods from forged addresses of endpoints to the node itself: each that passes costs a system call, so they have a bound.

use ringway_dataplane::verdict::Verdict;
use ringway_shared::{DropReason, InterfaceId};

use crate::bed::row::Row;
use crate::bed::text::frame;
use crate::bed::{INSIDE, OUTSIDE, ms, worker};
use crate::town::town;

/// Of one source in a moment, and of all who send more than what is kept for each.
const OF_ONE: usize = 1_677;
const HALF: usize = 3_355;
/// Fragments of one datagram that wait for its first one, to pass in a later moment.
const OF_ONE_DATAGRAM: usize = 64;

pub(crate) fn rows() -> Vec<Row> {
    vec![Row {
        name: "from an endpoint's address, but not from where it is, so many reach the node itself in a moment",
        bed: town(),
        script: "
            outside udp 10.0.1.3:5000 > 192.168.0.2:161 times=1677
            -> pass
            outside udp 10.0.1.3:5353 > 192.168.0.2:161
            -> drop stray_limited
            outside udp 10.0.1.4:5353 > 192.168.0.2:161
            -> pass
            inside udp 10.0.1.3:5353 > 192.168.0.2:161
            -> pass
            @150
            outside udp 10.0.1.3:5353 > 192.168.0.2:161
            -> pass",
        ledger: "rx=1681 passed=1680 drop:stray_limited=1",
    }]
}

/// How many of `times` packets pass, where all others have to be dropped for being too many.
fn passed(times: usize, arrives: InterfaceId, texts: &[String]) -> usize {
    let bed = town();
    let mut worker = worker(&bed.settings);
    let frames: Vec<_> = texts.iter().map(|text| frame(arrives, text)).collect();
    for frame in frames.iter().cycle().take(times) {
        assert!(worker.run(frame, arrives, 1, bed.first(), ms(1)));
    }
    worker.tick(bed.first(), ms(1_200));
    let fates = worker.collector.fates.iter().map(|fate| fate.verdict);
    let passed = fates.clone().filter(|verdict| *verdict == Verdict::Pass { arrived: arrives }).count();
    let limited = fates.filter(|verdict| *verdict == Verdict::Drop(DropReason::StrayLimited)).count();
    assert_eq!(passed + limited, times, "{texts:?}");
    passed
}

#[test]
fn so_many_of_an_endpoint_pass_that_come_from_elsewhere() {
    for (text, waiting) in [
        ("udp 10.0.1.3:5353 > 192.168.0.2:161", 0),
        ("udp [fd00:10::3]:5353 > [2001:db8::2]:161", 0),
        ("udp 10.0.1.3:0 > 192.168.0.2:0 bytes=8 frag=1480 id=7", OF_ONE_DATAGRAM),
        ("udp [fd00:10::3]:0 > [2001:db8::2]:0 bytes=8 frag=1480 id=7", OF_ONE_DATAGRAM),
    ] {
        let texts = [text.to_owned()];
        assert_eq!(passed(3_000, OUTSIDE, &texts), OF_ONE + waiting, "{text}");
        assert_eq!(passed(3_000, INSIDE, &texts), 3_000, "{text}: by the endpoint's own way");
    }
    // The way to them is none of those that are listed.
    let pod = ["udp 10.99.0.5:5353 > 192.168.0.2:161".to_owned()];
    assert_eq!(passed(3_000, OUTSIDE, &pod), OF_ONE);
    // From whoever they say they are.
    let texts: Vec<_> = (1..=200).map(|last| format!("udp 10.0.2.{last}:5353 > 192.168.0.2:161")).collect();
    assert_eq!(passed(10_000, OUTSIDE, &texts), HALF);
    // A client's packets come by the way that leads to it.
    let client = ["udp 203.0.113.9:5353 > 192.168.0.2:161".to_owned()];
    assert_eq!(passed(3_000, OUTSIDE, &client), 3_000);
}
