//! A million mutated packets through one pipeline under changing snapshots and time: nothing panics, every packet has one
//! fate, frames are conserved, the ledger closes, and no packet leaves more right than it came.
//!
//! `NOISE_PACKETS` and `NOISE_SEED` make it another run, as long as there is time for:
//! `NOISE_PACKETS=100000000 NOISE_SEED=7 cargo test --release -p ringway-dataplane --test noise`.

mod bed;

use bed::random::Random;
use bed::wire::{Transport, Wire};
use bed::*;
use ringway_dataplane::clock::Time;
use ringway_dataplane::dispatch::Fate;
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::verdict::Verdict;
use ringway_dataplane::wire::transport::{ChecksumState, checksum_state};
use ringway_dataplane::wire::{Kind, Packet};
use ringway_shared::counters::Counter;
use ringway_shared::{Family, InterfaceId, Snapshot};

/// How many packets a run has, unless the environment says otherwise, and what it begins with.
const PACKETS: u64 = 1_000_000;
const SEED: u64 = 0x5eed;

fn asked(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |value| value.parse().expect("a number"))
}

/// Packets to start from: every protocol, both families, ours and others'.
const SEEDS: &[&str] = &[
    "outside tcp S 203.0.113.9:40000 > 172.30.0.41:80",
    "outside tcp AP 203.0.113.9:40000 > 192.168.0.2:30080 data=hello opt=0707040a00010100",
    "inside tcp S 10.0.1.9:40000 > 172.30.0.41:80 sum=partial",
    "inside tcp FA 10.0.1.1:40000 > 172.30.0.41:80",
    "outside tcp R 203.0.113.9:40000 > 172.30.0.41:80",
    "outside tcp S [2001:db8:c::9]:40000 > [fd00:172:30::41]:80",
    "inside tcp AP [fd00:10::9]:40000 > [fd00:172:30::41]:80 data=hello sum=partial",
    "outside udp 203.0.113.9:5000 > 172.30.0.53:53 data=query",
    "outside udp 203.0.113.9:5000 > 172.30.0.53:53 sum=none bytes=1400",
    "inside udp 10.0.1.9:5000 > 172.30.0.53:53 bytes=33 sum=partial",
    "outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=1400",
    "inside udp [fd00:10::3]:5000 > [fd00:172:30::53]:53 ext=0:00010400000000 ext=60:00010400000000 data=x",
    "inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 ext=43:00040100000000",
    "inside udp [fd00:10::9]:5000 > [fd00:172:30::53]:53 ext=60:00010400000000 \
     ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000 ext=60:00010400000000",
    "outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=1400 frag=0+ id=7",
    "outside udp 203.0.113.9:5000 > 172.30.0.53:53 bytes=99 frag=1480 id=7",
    "outside udp [2001:db8:c::9]:5000 > [fd00:172:30::53]:53 bytes=1200 frag=0+ id=7",
    "outside sctp 203.0.113.9:5000 > 172.30.0.42:2905 bytes=20",
    "inside sctp [fd00:10::9]:5000 > [fd00:172:30::42]:2905 bytes=300",
    "outside tcp S 203.0.113.9:40000 > 172.30.0.44:80",
    "outside udp 203.0.113.9:5000 > 172.30.0.44:53 bytes=700",
    "outside udp [2001:db8:c::9]:5000 > [fd00:172:30::44]:53 bytes=1300",
    "outside echo 203.0.113.9 > 172.30.0.41 bytes=56",
    "outside echo [2001:db8:c::9] > [fd00:172:30::41] bytes=56",
    "outside icmp 3/3 203.0.113.9 > 172.30.0.41 bytes=28",
    "outside icmp 2/0 [2001:db8:c::9] > [fd00:172:30::41] bytes=48",
    "outside proto 50 203.0.113.9 > 172.30.0.41 bytes=40",
    "outside tcp S 203.0.113.9:40000 > 172.30.9.9:80",
    "outside tcp S 203.0.113.9:40000 > 192.168.0.2:22",
    "outside udp 203.0.113.9:5000 > 172.30.0.60:80 bytes=1400 df",
    "narrow udp 10.5.0.1:5000 > 172.30.0.53:53 data=q",
    "outside tcp S 203.0.113.9:40000 > 198.51.100.7:80",
    "outside udp [2001:db8:c::9]:5000 > [2001:db8:7::7]:53 bytes=900",
    "outside tcp S 203.0.113.9:40000 > 172.30.0.45:80 opt=02040218",
    "outside tcp A [2001:db8:c::9]:40000 > [fd00:172:30::45]:80 data=hello",
    "outside udp 203.0.113.9:5000 > 172.30.0.46:53 bytes=1300",
    "outside udp 203.0.113.9:5000 > 172.30.0.46:53 bytes=1400 frag=0+ id=8",
    "outside udp 203.0.113.9:0 > 172.30.0.46:0 bytes=99 frag=1408 id=8",
    "outside udp [2001:db8:c::9]:5000 > [fd00:172:30::46]:53 bytes=900 sum=partial",
];

const ALL: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 external=198.51.100.1 -> 10.0.1.1:8080 10.0.1.2:8080",
    "web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080 [fd00:10::2]:8080",
    "dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:5353 10.0.1.4:5353 10.0.1.5:5353",
    "dns udp [fd00:172:30::53]:53 node=30053 -> [fd00:10::3]:5353",
    "sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906",
    "sig sctp [fd00:172:30::42]:2905 -> [fd00:10::4]:2906",
    "empty tcp 172.30.0.44:80 ->",
    "empty udp 172.30.0.44:53 ->",
    "empty udp [fd00:172:30::44]:53 ->",
    "big udp 172.30.0.60:80 -> 10.5.0.1:80",
    "kept tcp 172.30.0.47:80 lb=198.51.100.7 etp=Local -> 10.0.1.1:8080/local 10.0.1.2:8080/local",
    "kept udp [fd00:172:30::47]:53 lb=2001:db8:7::7 etp=Local -> [fd00:10::1]:5353/local",
    "link tcp 172.30.0.45:80 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80",
    "link tcp [fd00:172:30::45]:80 dsr=l2 -> [fd00:10::1]:80",
    "tunnel udp 172.30.0.46:53 dsr=ipip -> 10.0.1.3:53 10.0.1.4:53",
    "tunnel udp [fd00:172:30::46]:53 dsr=ipip -> [fd00:10::3]:53",
];

const LESS: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.2:8080",
    "web tcp [fd00:172:30::41]:80 -> [fd00:10::2]:8080",
    "dns udp 172.30.0.53:53 -> 10.0.1.4:5353 10.98.0.1:5353",
    "other udp [fd00:172:30::53]:53 -> [fd00:10::9]:5353",
    "sig sctp 172.30.0.42:2905 -> 10.99.0.1:2906 10.4.0.1:2906",
    "empty tcp 172.30.0.44:80 -> 10.0.1.9:80",
    "link tcp 172.30.0.45:80 -> 10.0.1.2:80",
    "tunnel udp 172.30.0.46:53 dsr=l2 -> 10.0.1.4:53",
    "tunnel udp [fd00:172:30::46]:53 -> [fd00:10::3]:53",
];

/// A packet with where it arrives.
#[derive(Clone)]
struct Seed {
    arrives: InterfaceId,
    bytes: Vec<u8>,
}

fn seeds() -> Vec<Seed> {
    let seed = |line: &&str| {
        let (name, text) = line.split_once(' ').unwrap();
        let arrives = text::interface(name).unwrap();
        Seed { arrives, bytes: text::frame(arrives, text) }
    };
    SEEDS.iter().map(seed).collect()
}

/// What the other side would answer: addresses, ports and MACs exchanged, which leaves every checksum as it is.
fn answer(sent: &[u8], out: InterfaceId) -> Option<Seed> {
    let packet = Packet::parse(sent).ok()?;
    let mut bytes = sent.to_vec();
    let swap = |bytes: &mut [u8], at: usize, length: usize| {
        let (first, second) = bytes[at..at + 2 * length].split_at_mut(length);
        first.swap_with_slice(second);
    };
    swap(&mut bytes, 0, 6);
    if sent[12] == 8 {
        swap(&mut bytes, 26, 4)
    } else {
        swap(&mut bytes, 22, 16)
    }
    if usize::from(packet.l4) + 4 <= bytes.len() {
        swap(&mut bytes, usize::from(packet.l4), 2);
    }
    Some(Seed { arrives: out, bytes })
}

/// What a router or the other side might say about it.
fn complaint(random: &mut Random, sent: &[u8], out: InterfaceId) -> Option<Seed> {
    let packet = Packet::parse(sent).ok()?;
    let kinds: &[(u8, u8)] = match packet.family() {
        Family::V4 => &[(3, 3), (3, 4), (5, 1), (11, 0), (12, 0)],
        Family::V6 => &[(1, 4), (2, 0), (3, 0), (4, 1)],
    };
    let (kind, code) = *random.pick(kinds);
    let rest = *random.pick(&[[0; 4], [0, 0, 5, 0], [16, 32, 0, 0]]);
    let [from, to] = [packet.tuple.destination_address(), packet.tuple.source_address()];
    let mut wire = Wire::new(out, Transport::Icmp { kind, code, rest }, (from, 0).into(), (to, 0).into());
    wire.payload = sent[14..].to_vec();
    wire.payload.truncate(28 + random.below(600));
    Some(Seed { arrives: out, bytes: wire.build() })
}

/// Changes a packet a little, or a lot.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>, others: &[Seed]) {
    const TELLING: [u8; 12] = [0, 1, 2, 4, 6, 17, 44, 0x45, 0x60, 0x7f, 0x80, 0xff];
    for _ in 0..random.below(4) {
        if bytes.is_empty() {
            bytes.push(0);
        }
        let headers = bytes.len().min(80);
        match random.below(9) {
            0 => {
                let (at, bit) = (random.below(bytes.len()), random.below(8));
                bytes[at] ^= 1 << bit;
            }
            1 | 2 => {
                let at = random.below(headers);
                bytes[at] = *random.pick(&TELLING);
            }
            3 => bytes.truncate(random.below(bytes.len() + 1)),
            4 => bytes.resize(bytes.len() + random.below(80), random.next() as u8),
            5 => bytes.resize(random.below(2000), random.next() as u8),
            6 => {
                let other = &random.pick(others).bytes;
                let at = random.below(bytes.len().min(other.len()).max(1));
                bytes.truncate(at);
                bytes.extend(&other[at.min(other.len())..]);
            }
            7 => {
                let (at, length) = (random.below(headers), 1 + random.below(8));
                bytes.iter_mut().skip(at).take(length).for_each(|byte| *byte = random.next() as u8);
            }
            // Another client port: another flow.
            _ if bytes.len() > 56 => {
                let at = if bytes[12] == 8 { 34 } else { 54 };
                bytes[at] = random.next() as u8;
                bytes[at + 1] = random.next() as u8;
            }
            _ => {}
        }
    }
    // Most damage would never get past the header checksum.
    let is_ipv4 = bytes.len() >= 34 && bytes[12..14] == [8, 0];
    if is_ipv4 && !random.once_in(4) && bytes.len() >= 14 + usize::from(bytes[14] & 15) * 4 && bytes[14] & 15 >= 5 {
        wire::mend(bytes);
    }
}

/// The frame that was wrapped for an endpoint that answers by itself, with the MAC addresses of the outer one.
fn unwrapped(bytes: &[u8]) -> Option<Vec<u8>> {
    const ETHERTYPES: [[u8; 2]; 2] = [[8, 0], [0x86, 0xdd]];
    let outer = Packet::parse(bytes).ok()?;
    let inner = match outer.kind {
        Kind::Other(4) => 0,
        Kind::Other(41) => 1,
        _ => return None,
    };
    let to_pod = ["10.0.1.3", "10.0.1.4", "fd00:10::3"].map(|pod| pod.parse::<std::net::IpAddr>().unwrap());
    if !to_pod.contains(&outer.tuple.destination_address()) {
        return None;
    }
    Some([&bytes[..12], &ETHERTYPES[inner], &bytes[usize::from(outer.l4)..]].concat())
}

fn state(bytes: &[u8]) -> ChecksumState {
    Packet::parse(bytes).map_or(ChecksumState::Unknown, |packet| checksum_state(bytes, &packet))
}

/// Every packet of a batch has one fate, and is no better than before.
fn judge(worker: &MemoryWorker, inputs: &[Seed], first: u64) {
    let collector = &worker.collector;
    let mut passed = collector.passed.iter();
    for fate in &collector.fates {
        let Verdict::Pass { .. } = fate.verdict else { continue };
        let bytes = passed.next().expect("a passed packet");
        let Some(input) = fate.tag.checked_sub(first).and_then(|at| inputs.get(at as usize)) else { continue };
        if state(&input.bytes) != ChecksumState::Partial {
            assert!(*bytes == input.bytes, "a packet for the kernel is changed");
        }
    }
    for sent in collector.sent.chunk_by(|one, next| one.tag == next.tag) {
        // What is too large leaves as fragments.
        let bytes = match sent {
            [whole] => whole.bytes.clone(),
            fragments => bed::fragments::joined(fragments.iter().map(|sent| &*sent.bytes)),
        };
        let sent = &sent[0];
        let bytes = unwrapped(&bytes).unwrap_or(bytes);
        let packet = Packet::parse(&bytes).expect("what leaves can be read");
        let after = checksum_state(&bytes, &packet);
        assert_eq!(usize::from(packet.end), bytes.len(), "padding left");
        let reply =
            collector.fates.iter().any(|fate| fate.tag == sent.tag && matches!(fate.verdict, Verdict::Reply { .. }));
        if reply {
            assert_eq!(after, ChecksumState::Right, "an answer is wrong");
            continue;
        }
        let Some(input) = sent.tag.checked_sub(first).and_then(|at| inputs.get(at as usize)) else { continue };
        let fragment = Packet::parse(&input.bytes).map(|packet| packet.fragment);
        assert_eq!(Ok(packet.fragment), fragment, "another part of its datagram, or not all of it");
        let good = match state(&input.bytes) {
            ChecksumState::Partial => after == ChecksumState::Right,
            // It may happen to look partial now.
            ChecksumState::Wrong => after != ChecksumState::Right,
            before => after == before,
        };
        assert!(good, "{:02x?} became {bytes:02x?}", input.bytes);
    }
}

#[test]
fn a_million_mutated_packets() {
    let (packets, seed) = (asked("NOISE_PACKETS", PACKETS), asked("NOISE_SEED", SEED));
    let mut random = Random::new(seed);
    let bed = Bed::of(ALL)
        .then("less", LESS)
        .then_neighbors("flushed", Neighbors::Outside)
        .then("all", ALL)
        .then_neighbors("nobody", Neighbors::None)
        .then_neighbors("known", Neighbors::All)
        .then("none", &[])
        .then("again", ALL);
    let snapshots: Vec<Snapshot> = bed.snapshots().cloned().collect();
    let settings = bed
        .flows(600)
        .ports(100)
        .set(|settings| {
            settings.pipeline.replies_per_second = 20;
            // Held packets need frames of their own.
            settings.frames = 512;
        })
        .settings;
    let mut worker = worker(&settings);
    let mut corpus = seeds();
    let originals = corpus.len();
    let (mut now, mut snapshot) = (0u64, 0);
    let (mut pushed, mut fates, mut next_checkpoint) = (0u64, 0u64, 0u64);
    let mut told = 0u64;
    let mut inputs: Vec<Seed> = Vec::new();
    while pushed < packets {
        if random.once_in(200) {
            snapshot = random.below(snapshots.len());
        } else if random.once_in(40) {
            snapshot = 0;
        }
        now += match random.below(400) {
            0 => 31_000_000_000,
            1 => 100_000_000_000,
            2..20 => 1_000_000_000,
            _ => random.below(3_000_000) as u64,
        };
        inputs.clear();
        for _ in 0..1 + random.below(64) {
            let mut seed = random.pick(&corpus).clone();
            mutate(&mut random, &mut seed.bytes, &corpus);
            // As much as a frame holds.
            seed.bytes.truncate(1792);
            if random.once_in(50) {
                seed.arrives = InterfaceId(random.below(7) as u16);
            }
            inputs.push(seed);
        }
        let tagged = (pushed..).zip(&inputs).map(|(tag, input)| (&*input.bytes, input.arrives, tag));
        assert_eq!(worker.run_all(tagged, &snapshots[snapshot], Time(now)), inputs.len());
        judge(&worker, &inputs, pushed);
        pushed += inputs.len() as u64;
        worker.tick(&snapshots[snapshot], Time(now));
        fates += worker.collector.fates.len() as u64;
        assert_eq!(fates + worker.pipeline.held() as u64, pushed, "a packet without a fate, or with two");
        for sent in std::mem::take(&mut worker.collector.sent) {
            let forwarded = |fate: &Fate| fate.tag == sent.tag && matches!(fate.verdict, Verdict::Forward { .. });
            let is_icmp = Packet::parse(&sent.bytes).is_ok_and(|packet| matches!(packet.kind, Kind::Icmp { .. }));
            told += u64::from(is_icmp && worker.collector.fates.iter().any(forwarded));
            let seed = match random.below(8) {
                0 | 1 => answer(&sent.bytes, sent.out),
                2 => complaint(&mut random, &sent.bytes, sent.out),
                _ => None,
            };
            if let Some(seed) = seed {
                if corpus.len() < originals + 60 {
                    corpus.push(seed);
                } else {
                    let at = originals + random.below(60);
                    corpus[at] = seed;
                }
            }
        }
        worker.collector = Default::default();
        if pushed >= next_checkpoint {
            next_checkpoint += packets / 100;
            assert!(worker.tally().closes(), "{:?}", worker.tally());
        }
    }
    worker.pipeline.drop_held(&mut worker.umem);
    assert_eq!(worker.umem.free_frames(), worker.umem.total());
    let tally = worker.tally();
    assert!(tally.closes());
    let ledger = ledger(&tally);
    // The noise reaches everything that it should.
    let seen = |name: &str| ledger.get(name).copied().unwrap_or(0);
    let reached = [
        "forwarded",
        "replied",
        "passed",
        "flowsOpened",
        "flowsEvicted",
        "reply:no_endpoint",
        "reply:no_service_port",
        "reply:ttl_expired",
        "reply:endpoint_deleted",
        "reply:too_big",
        "reply:echo_request",
        "repliesLimited",
        "drop:truncated_ipv4",
        "drop:truncated_ipv6",
        "drop:invalid_tcp_header",
        "drop:invalid_udp_length",
        "drop:impossible_source",
        "drop:fragment_without_first",
        "drop:tiny_fragment",
        "drop:fragment_overlap",
        "flowsRescued",
        "drop:neighbor_unresolved",
        "drop:unallocated_cluster_ip",
        "drop:rst_without_flow",
        "drop:no_route",
        "drop:extension_chain_too_long",
        "drop:source_routed",
        "drop:icmp_without_flow",
        "drop:icmp_outside_window",
    ];
    assert!(told > 1_000, "only {told} errors were sent on");
    for name in reached {
        assert!(seen(name) > 0, "{name} was never reached: {ledger:#?}");
    }
    assert_eq!(tally.get(Counter::Rx), pushed);
}
