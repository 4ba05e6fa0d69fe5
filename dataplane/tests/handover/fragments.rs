//! Fragments of a datagram that come by different queues, and what becomes of whole datagrams.

use ringway_dataplane::io::memory::Handed;
use ringway_dataplane::wire::transport::{ChecksumState, checksum_state};
use ringway_dataplane::wire::{Kind, Packet};

use super::*;

/// What left, and at which worker.
type Left = Vec<(usize, Sent)>;

/// A packet comes to a worker; its verdict, if there is one yet.
fn arrive(team: &mut Team, worker: usize, arrives: InterfaceId, bytes: &[u8], now: Time) -> Option<Verdict> {
    let worker = &mut team.workers[worker];
    let before = worker.collector.fates.len();
    assert!(worker.run(bytes, arrives, 1, &team.snapshot, now));
    worker.collector.fates.get(before).map(|fate| fate.verdict)
}

fn line(team: &mut Team, worker: usize, line: &str, now: Time) -> Option<Verdict> {
    let (name, text) = line.split_once(' ').unwrap();
    let arrives = text::interface(name).unwrap();
    arrive(team, worker, arrives, &text::frame(arrives, text), now)
}

/// What was handed over arrives, and every worker has a turn. What left since the last time.
fn turn(team: &mut Team, now: Time) -> Left {
    let handed: Vec<Handed> =
        team.workers.iter_mut().flat_map(|worker| std::mem::take(&mut worker.collector.handed)).collect();
    for handed in handed {
        assert!(team.workers[usize::from(handed.worker)].take_over(&handed, &team.snapshot, now));
    }
    let mut left = Left::new();
    for (number, worker) in team.workers.iter_mut().enumerate() {
        worker.tick(&team.snapshot, now);
        left.extend(worker.collector.sent.drain(..).map(|sent| (number, sent)));
        worker.collector.fates.clear();
    }
    left
}

const FIRST: &str = "outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=72 frag=0+ id=7";
const LATER: &str = "outside udp 203.0.113.9:0 > 172.30.0.53:0 bytes=9 frag=80 id=7";

/// Source and destination.
fn addresses(sent: &Sent) -> [u8; 8] {
    sent.bytes[26..34].try_into().unwrap()
}

#[test]
fn later_ones_that_come_elsewhere_go_to_the_worker_that_has_the_first() {
    let mut team = Team::new(3);
    assert!(matches!(line(&mut team, 2, FIRST, ms(1)), Some(Verdict::Forward { .. })));
    let arrived = text::interface("outside").unwrap();
    assert_eq!(line(&mut team, 0, LATER, ms(1)), Some(Verdict::HandOver { worker: 2, arrived, doubted: false }));
    let left = turn(&mut team, ms(1));
    let [(2, first), (2, later)] = &left[..] else { panic!("{left:?}") };
    assert_eq!(addresses(first), addresses(later));
    let sum = team.sum();
    let counts = [Counter::Rx, Counter::Forwarded, Counter::HandedOver, Counter::FlowsOpened];
    assert_eq!(counts.map(|counter| sum.get(counter)), [2, 2, 1, 1]);
}

/// The flow is one worker's, the first fragment comes to another, the later one to either.
#[test]
fn replies_follow_the_first_one_to_the_owner_of_the_flow() {
    for at in [0, 1] {
        let mut team = Team::new(3);
        assert!(line(&mut team, 2, "outside udp 203.0.113.9:5000 > 172.30.0.53:53", ms(1)).is_some());
        let left = turn(&mut team, ms(1));
        let port = source_port(&left[0].1);
        let arrived = INSIDE;
        let first = format!("inside udp 10.0.1.3:5353 > 10.0.255.254:{port} bytes=72 frag=0+ id=7");
        let later = "inside udp 10.0.1.3:0 > 10.0.255.254:0 bytes=9 frag=80 id=7";
        assert_eq!(line(&mut team, 0, &first, ms(2)), Some(Verdict::HandOver { worker: 2, arrived, doubted: false }));
        // It waits, since the owner has not seen the first yet.
        assert_eq!(line(&mut team, at, later, ms(2)), None);
        let mut left = turn(&mut team, ms(2));
        left.extend((0..2).flat_map(|_| turn(&mut team, ms(2))));
        let [(2, first), (2, later)] = &left[..] else { panic!("{left:?}") };
        assert_eq!(addresses(first), [172, 30, 0, 53, 203, 0, 113, 9]);
        assert_eq!(addresses(later), addresses(first));
        assert_eq!(team.sum().get(Counter::Forwarded), 3);
    }
}

/// The owner's inbox is full: nobody has the datagram, and nobody would ever forget a hint about it.
#[test]
fn a_first_one_that_its_owner_never_gets_leaves_no_hint() {
    let mut team = Team::new(2);
    assert!(line(&mut team, 1, FIRST, ms(1)).is_some());
    let sent = turn(&mut team, ms(1));
    let port = source_port(&sent[0].1);
    let first = format!("inside udp 10.0.1.3:5353 > 10.0.255.254:{port} bytes=72 frag=0+ id=7");
    let verdict = line(&mut team, 0, &first, ms(2));
    assert_eq!(verdict, Some(Verdict::HandOver { worker: 1, arrived: INSIDE, doubted: false }));
    team.workers[0].collector.handed.clear();
    assert_eq!(line(&mut team, 0, "inside udp 10.0.1.3:0 > 10.0.255.254:0 bytes=9 frag=80 id=7", ms(2)), None);
    assert!(turn(&mut team, ms(3)).is_empty());
    assert_eq!(team.workers[0].tally().get(Counter::FragmentsWaiting), 1);
    turn(&mut team, ms(2000));
    assert_eq!(team.workers[0].tally().get(Counter::FragmentsWaiting), 0);
}

/// A later one waits where it came, until another worker has the first.
#[test]
fn what_waited_is_handed_over_and_counted_once() {
    let mut team = Team::new(2);
    assert_eq!(line(&mut team, 1, LATER, ms(1)), None);
    // Who deals with it counts it, since what was counted once never goes down.
    let counts = |team: &mut Team| {
        let tally = team.workers[1].tally();
        assert!(tally.closes(), "{tally:?}");
        [Counter::Rx, Counter::RxBytes, Counter::Held, Counter::FragmentsWaiting].map(|counter| tally.get(counter))
    };
    assert_eq!(counts(&mut team), [0, 0, 0, 1]);
    // An idle worker looks often for what it waits for, but not for as long as it waits.
    assert!(team.workers[1].pipeline.waits_for_others(ms(10)));
    assert!(!team.workers[1].pipeline.waits_for_others(ms(11)));
    assert!(turn(&mut team, ms(2)).is_empty());
    assert!(matches!(line(&mut team, 0, FIRST, ms(3)), Some(Verdict::Forward { .. })));
    let mut left = turn(&mut team, ms(3));
    // Handed over in the first turn, and taken over in the second.
    left.extend(turn(&mut team, ms(4)));
    let [(0, first), (0, later)] = &left[..] else { panic!("{left:?}") };
    assert_eq!(addresses(first), addresses(later));
    let tallies = [0, 1].map(|worker: usize| team.workers[worker].tally());
    assert_eq!(tallies.each_ref().map(|tally| tally.get(Counter::Rx)), [2, 0]);
    assert_eq!(tallies.each_ref().map(|tally| tally.get(Counter::Held)), [0, 0]);
    assert_eq!(tallies[0].get(Counter::RxBytes), left.iter().map(|(_, sent)| sent.bytes.len() as u64).sum::<u64>());
    assert_eq!(tallies[1].get(Counter::RxBytes), 0);
    assert!(!team.workers[1].pipeline.waits_for_others(ms(4)));
    assert_eq!(counts(&mut team), [0; 4]);
    // What nobody takes is counted where it waited.
    assert_eq!(line(&mut team, 1, LATER.replace("id=7", "id=8").as_str(), ms(5)), None);
    assert_eq!(counts(&mut team), [0, 0, 0, 1]);
    turn(&mut team, ms(1005));
    let [rx, bytes, held, waiting] = counts(&mut team);
    assert_eq!((rx, bytes > 0, held, waiting), (1, true, 0, 0));
    // And so is what still waits at the end.
    assert_eq!(line(&mut team, 1, LATER.replace("id=7", "id=9").as_str(), ms(1006)), None);
    let worker = &mut team.workers[1];
    worker.pipeline.drop_held(&mut worker.umem);
    let [rx, twice, held, waiting] = counts(&mut team);
    assert_eq!((rx, twice, held, waiting), (2, 2 * bytes, 0, 0));
    team.sum();
}

#[test]
fn the_kernels_pass_wherever_they_come() {
    let mut team = Team::new(2);
    let arrived = text::interface("outside").unwrap();
    let first = "outside udp 203.0.113.9:5000 > 192.168.0.2:9 bytes=72 frag=0+ id=7";
    let later = "outside udp 203.0.113.9:0 > 192.168.0.2:0 bytes=9 frag=80 id=7";
    assert_eq!(line(&mut team, 0, first, ms(1)), Some(Verdict::Pass { arrived }));
    assert_eq!(line(&mut team, 1, later, ms(1)), Some(Verdict::HandOver { worker: 0, arrived, doubted: false }));
    turn(&mut team, ms(1));
    assert_eq!(team.sum().get(Counter::Passed), 2);
}

/// The fragments of a frame over IPv6.
fn cut6(whole: &[u8], mtu: usize, id: u32) -> Vec<Vec<u8>> {
    let data = &whole[54..];
    let each = (mtu - 48) / 8 * 8;
    let count = data.len().div_ceil(each);
    let fragment = |(number, data): (usize, &[u8])| {
        let place = (number * each) as u16 | u16::from(number + 1 < count);
        let mut header = whole[..54].to_vec();
        header[18..20].copy_from_slice(&(data.len() as u16 + 8).to_be_bytes());
        header[20] = 44;
        [&*header, &[whole[20], 0], &place.to_be_bytes(), &id.to_be_bytes(), data].concat()
    };
    data.chunks(each).enumerate().map(fragment).collect()
}

fn joined6(fragments: &[&[u8]]) -> Vec<u8> {
    let data: Vec<u8> = fragments.iter().flat_map(|fragment| fragment[62..].to_vec()).collect();
    let mut whole = fragments[0][..54].to_vec();
    whole[18..20].copy_from_slice(&(data.len() as u16).to_be_bytes());
    whole[20] = fragments[0][54];
    [whole, data].concat()
}

/// Puts together what left, and takes it for the datagram that came: the oracle knows nothing of fragments.
#[test]
fn datagrams_in_fragments_are_what_they_are_when_whole() {
    let mut random = Random::new(22);
    let mut times = 1;
    for round in 0..400u32 {
        let mut team = Team::new(1 + random.below(3) as u16);
        let (v6, mtu) = (random.once_in(2), 600 + 8 * random.below(100));
        let workers = team.workers.len();
        let (client, vip) = if v6 { ("[2001:db8:c::9]", "[fd00:172:30::53]") } else { ("203.0.113.9", "172.30.0.53") };
        let ask = |port: usize, bytes: usize| format!("udp {client}:{port} > {vip}:53 bytes={bytes} id={port}");
        let asked: Vec<Vec<u8>> =
            (1..=1 + random.below(3)).map(|port| text::frame(OUTSIDE, &ask(port, 1400 + random.below(4000)))).collect();
        let left = shuffled_through(&mut team, &mut random, OUTSIDE, &asked, mtu, &mut times, workers);
        assert_eq!(left.len(), asked.len(), "round {round}");
        let mut answers: Vec<(u16, Vec<u8>, &[u8])> = Vec::new();
        for (before, after) in asked.iter().zip(&left) {
            let packet = same_datagram(before, after);
            assert_eq!(packet.tuple.destination_port(), 5353);
            let (snat, endpoint) = if v6 { ("[fd00:10::fffe]", "[fd00:10::3]") } else { ("10.0.255.254", "10.0.1.3") };
            let port = packet.tuple.source_port();
            let bytes = 1400 + random.below(4000);
            let answer = format!("udp {endpoint}:5353 > {snat}:{port} bytes={bytes} id={port}");
            answers.push((port, text::frame(INSIDE, &answer), before));
        }
        answers.sort();
        let frames: Vec<Vec<u8>> = answers.iter().map(|(_, frame, _)| frame.clone()).collect();
        let back = shuffled_through(&mut team, &mut random, INSIDE, &frames, mtu, &mut times, workers);
        assert_eq!(back.len(), asked.len());
        for ((_, before, asked), after) in answers.iter().zip(&back) {
            let packet = same_datagram(before, after);
            assert_eq!(packet.tuple, Packet::parse(asked).unwrap().tuple.reversed());
        }
        let sum = team.sum();
        assert_eq!((sum.get(Counter::Held), sum.dropped()), (0, 0), "{sum:?}");
    }
}

/// Messages of SCTP that their sender's kernel cuts: one chunk each, which tells how long it is.
#[test]
fn messages_of_sctp_in_fragments_are_what_they_are_when_whole() {
    let mut random = Random::new(23);
    let mut times = 1;
    for round in 0..200u32 {
        let mut team = Team::new(1 + random.below(3) as u16);
        let (v6, mtu) = (random.once_in(2), 600 + 8 * random.below(100));
        let workers = team.workers.len();
        let (client, vip) = if v6 { ("[2001:db8:c::9]", "[fd00:172:30::42]") } else { ("203.0.113.9", "172.30.0.42") };
        let length = 1400 + random.below(4000);
        let chunk = format!("0003{length:04x}{}", "c7".repeat(length.next_multiple_of(4) - 4));
        let asked = [text::frame(OUTSIDE, &format!("sctp {client}:5000 > {vip}:2905 id=7 hex={chunk}"))];
        let left = shuffled_through(&mut team, &mut random, OUTSIDE, &asked, mtu, &mut times, workers);
        assert_eq!(left.len(), 1, "round {round}");
        let packet = same_datagram(&asked[0], &left[0]);
        let (snat, endpoint) = if v6 { ("[fd00:10::fffe]", "[fd00:10::4]") } else { ("10.0.255.254", "10.0.1.4") };
        let answer = format!("sctp {endpoint}:2906 > {snat}:{} id=8 hex={chunk}", packet.tuple.source_port());
        let answer = [text::frame(INSIDE, &answer)];
        let back = shuffled_through(&mut team, &mut random, INSIDE, &answer, mtu, &mut times, workers);
        assert_eq!(back.len(), 1, "round {round}");
        assert_eq!(same_datagram(&answer[0], &back[0]).tuple, Packet::parse(&asked[0]).unwrap().tuple.reversed());
        let sum = team.sum();
        assert_eq!((sum.get(Counter::Held), sum.dropped()), (0, 0), "{sum:?}");
    }
}

/// What becomes of datagrams whose fragments come to any worker in any order, some of them twice: whole ones, by their port.
fn shuffled_through(
    team: &mut Team,
    random: &mut Random,
    arrives: InterfaceId,
    datagrams: &[Vec<u8>],
    mtu: usize,
    time: &mut u64,
    workers: usize,
) -> Vec<Vec<u8>> {
    let mut fragments: Vec<(u64, Vec<u8>)> = Vec::new();
    for (number, datagram) in datagrams.iter().enumerate() {
        let pieces = match datagram[12] {
            8 => fragments::of(datagram, mtu),
            _ => cut6(datagram, mtu, number as u32),
        };
        assert!(pieces.len() > 1);
        fragments.extend(pieces.into_iter().map(|piece| (random.next(), piece)));
    }
    if random.once_in(3) {
        let (_, again) = random.pick(&fragments).clone();
        fragments.push((random.next(), again));
    }
    fragments.sort();
    let mut left = Left::new();
    for (_, fragment) in &fragments {
        arrive(team, random.below(workers), arrives, fragment, ms(*time));
        if random.once_in(2) {
            left.extend(turn(team, ms(*time)));
        }
        *time += 1;
    }
    for _ in 0..3 {
        left.extend(turn(team, ms(*time)));
    }
    let mut sent: Vec<Vec<u8>> = left.into_iter().map(|(_, sent)| sent.bytes).collect();
    sent.sort_by_key(|bytes| (id(bytes), place(bytes)));
    sent.dedup();
    sent.chunk_by(|one, other| id(one) == id(other))
        .map(|pieces| {
            let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &**piece).collect();
            if pieces[0][12] == 8 { fragments::joined(pieces) } else { joined6(&pieces) }
        })
        .collect()
}

fn id(fragment: &[u8]) -> Vec<u8> {
    if fragment[12] == 8 { fragment[18..20].to_vec() } else { fragment[58..62].to_vec() }
}

fn place(fragment: &[u8]) -> u16 {
    let at = if fragment[12] == 8 { 20 } else { 56 };
    let word = u16::from_be_bytes([fragment[at], fragment[at + 1]]);
    if fragment[12] == 8 { word & 0x1fff } else { word >> 3 }
}

/// The packet that left: the same data, and a checksum that is right over all of it.
fn same_datagram(before: &[u8], after: &[u8]) -> Packet {
    let [was, is] = [before, after].map(|frame| Packet::parse(frame).unwrap());
    assert!(was.fragment.is_none() && is.fragment.is_none());
    let header = if was.kind == Kind::Sctp { 12 } else { 8 };
    assert_eq!(before[usize::from(was.l4) + header..], after[usize::from(is.l4) + header..]);
    assert_eq!(checksum_state(after, &is), ChecksumState::Right);
    assert_eq!(is.ttl, was.ttl - 1);
    is
}
