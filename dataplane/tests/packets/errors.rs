//! Which ICMP errors are believed to say that an endpoint refuses, and what it takes for a datagram to be evidence.

use std::sync::Arc;

use ringway_dataplane::flow::Segment;
use ringway_dataplane::verdict::Verdict;
use ringway_dataplane::wire::Packet;
use ringway_shared::InterfaceId;
use ringway_shared::counters::WorkerCounters;

use crate::bed::text::frame;
use crate::bed::{INSIDE, OUTSIDE, ms, worker_counted};
use crate::town::town;

/// Every backend's number is below this in the town.
const BACKENDS: u32 = 64;

fn counted(counters: &Arc<WorkerCounters>) -> (u64, u64) {
    let each = (0..BACKENDS).map(|number| counters.backend(ringway_shared::BackendId(number)).answers);
    each.fold((0, 0), |(refused, unanswered), answers| (refused + answers.refused, unanswered + answers.unanswered))
}

#[test]
fn an_error_counts_only_when_it_goes_to_who_sent_and_comes_from_where_that_went() {
    let bed = town();
    let counters = WorkerCounters::new(1024);
    let mut worker = worker_counted(&bed.settings, counters.clone());
    let mut run = |arrives: InterfaceId, text: &str| {
        let tag = worker.collector.fates.len() as u64;
        assert!(worker.run(&frame(arrives, text), arrives, tag, bed.first(), ms(1)));
        worker.collector.sent.iter().find(|sent| sent.tag == tag).map(|sent| sent.bytes.clone())
    };
    let sent = run(INSIDE, "udp 10.0.1.9:5000 > 172.30.0.53:53").expect("it left");
    let quote: String = sent[14..42].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut error = |arrives, from: &str, to: &str, more: &str| {
        let before = counted(&counters).0;
        run(arrives, &format!("icmp 3/3 {from} > {to} hex={quote} {more}"));
        counted(&counters).0 - before
    };
    assert_eq!(error(INSIDE, "10.0.1.3", "10.0.1.8", ""), 0, "to somebody else");
    assert_eq!(error(INSIDE, "10.0.1.3", "8.8.8.8", ""), 0, "to the world");
    assert_eq!(error(INSIDE, "127.0.0.1", "10.0.1.9", ""), 0, "from nowhere");
    assert_eq!(error(OUTSIDE, "10.0.1.3", "10.0.1.9", ""), 0, "by another interface");
    assert_eq!(error(INSIDE, "10.0.1.3", "10.0.1.9", "sum=wrong"), 0, "broken");
    assert_eq!(error(INSIDE, "10.0.1.3", "10.0.1.9", ""), 1, "the endpoint's own");
}

/// A router between us and the endpoint answers by the way that it likes.
#[test]
fn an_error_by_another_interface_is_believed_for_what_it_quotes() {
    let bed = town();
    let counters = WorkerCounters::new(1024);
    let mut worker = worker_counted(&bed.settings, counters.clone());
    let mut run = |arrives: InterfaceId, text: &str| {
        let tag = worker.collector.fates.len() as u64;
        assert!(worker.run(&frame(arrives, text), arrives, tag, bed.first(), ms(1)));
        let sent = worker.collector.sent.iter().find(|sent| sent.tag == tag);
        (sent.map(|sent| sent.bytes.clone()), worker.collector.fates.last().unwrap().verdict)
    };
    let error = |quoted: &str| format!("icmp 3/1 192.168.0.254 > 10.0.255.254 about {quoted}");
    let forwarded = Verdict::Forward { out: OUTSIDE };
    let passed = Verdict::Pass { arrived: OUTSIDE };
    let port = |sent: Option<Vec<u8>>| sent.map(|bytes| u16::from_be_bytes([bytes[34], bytes[35]])).expect("it left");

    let at = port(run(OUTSIDE, "tcp S 203.0.113.9:40000 > 172.30.0.41:80 seq=1000").0);
    let quoted = |number: u32| error(&format!("tcp S 10.0.255.254:{at} > 10.0.1.1:8080 seq={number}"));
    assert_eq!(run(OUTSIDE, &quoted(1_000)).1, forwarded);
    assert_eq!(run(OUTSIDE, &quoted(900_001_000)).1, passed, "a guess");

    let at = port(run(OUTSIDE, "sctp 203.0.113.9:40000 > 172.30.0.42:2905 tag=0 hex=0100001400001234").0);
    let init = error(&format!("sctp 10.0.255.254:{at} > 10.0.1.4:2906 tag=0 hex=0100001400001234"));
    let quoted = |tag: u32| error(&format!("sctp 10.0.255.254:{at} > 10.0.1.4:2906 tag={tag}"));
    assert_eq!(run(OUTSIDE, &init).1, passed, "there is no tag of the endpoint yet");
    assert_eq!(run(OUTSIDE, &quoted(22_136)).1, passed);
    run(INSIDE, &format!("sctp 10.0.1.4:2906 > 10.0.255.254:{at} tag=4660 hex=0200001400005678"));
    assert_eq!(run(OUTSIDE, &quoted(22_136)).1, forwarded);
    assert_eq!(run(OUTSIDE, &quoted(22_137)).1, passed);

    let at = port(run(OUTSIDE, "udp 203.0.113.9:5000 > 172.30.0.53:53").0);
    assert_eq!(run(OUTSIDE, &error(&format!("udp 10.0.255.254:{at} > 10.0.1.3:5353"))).1, passed);
    assert_eq!(counted(&counters).0, 0, "the endpoint has refused nothing");
}

/// Whether the datagram is ever whole, and its checksum right, is not known yet.
#[test]
fn a_first_fragment_turns_nothing() {
    for flags in ["F", "FA", "R", "RA", "S", "SA"] {
        for (more, void) in [("", false), ("sum=wrong", true), ("frag=0+", true), ("frag=0+ sum=wrong", true)] {
            let bytes = frame(OUTSIDE, &format!("tcp {flags} 203.0.113.9:40000 > 172.30.0.41:80 bytes=64 {more}"));
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!(Segment::believed(&bytes, &packet).void, void, "{flags} {more}");
            assert_eq!(Segment::one_way(&bytes, &packet).void, void, "{flags} {more}");
        }
    }
    let bytes = frame(OUTSIDE, "tcp A 203.0.113.9:40000 > 172.30.0.41:80 bytes=64 frag=0+");
    assert!(!Segment::believed(&bytes, &Packet::parse(&bytes).unwrap()).void);
}

#[test]
fn what_an_endpoint_throws_away_is_no_question() {
    let bed = town();
    for (text, unanswered) in [
        ("udp 203.0.113.9:{} > 172.30.0.53:53 sum=wrong data=x", 0),
        ("udp 203.0.113.9:{} > 172.30.0.53:53 data=x", 3),
        ("tcp SF 203.0.113.9:{} > 172.30.0.41:80", 0),
        ("tcp S 203.0.113.9:{} > 172.30.0.41:80", 3),
    ] {
        let counters = WorkerCounters::new(1024);
        let mut worker = worker_counted(&bed.settings, counters.clone());
        for (tag, port) in [41_001, 41_002, 41_003].into_iter().enumerate() {
            let text = text.replace("{}", &port.to_string());
            assert!(worker.run(&frame(OUTSIDE, &text), OUTSIDE, tag as u64, bed.first(), ms(1)));
            // Twice: a datagram that goes on asking is judged, too.
            assert!(worker.run(&frame(OUTSIDE, &text), OUTSIDE, 100 + tag as u64, bed.first(), ms(2)));
        }
        for second in 1..=70 {
            worker.tick(bed.first(), ms(second * 1_000));
        }
        assert_eq!(counted(&counters).1, unanswered, "{text}");
    }
}
