//! Errors about random packets: what a flow sent, quoted in whatever shape, comes back as what its sender sent, and no checksum
//! is wrong that was right.

use ringway_dataplane::verdict::Verdict;
use ringway_dataplane::wire::Packet;
use ringway_shared::{Family, InterfaceId};

use crate::bed::random::Random;
use crate::bed::text::{Names, packet};
use crate::bed::wire::{Transport, Wire};
use crate::bed::{INSIDE, OUTSIDE, ms, neighbor_mac, own_mac, sums, worker};
use crate::town::town;

const ROUNDS: u64 = 4_000;

/// A packet of a client: where it arrives, and the line that it is.
fn question(random: &mut Random) -> (InterfaceId, String) {
    let v6 = random.once_in(2);
    let (pod, port) = (random.once_in(2), 1024 + random.below(60_000));
    let last = 1 + random.below(9);
    let client = match (v6, pod) {
        (false, true) => format!("10.0.1.{last}:{port}"),
        (false, false) => format!("203.0.113.{last}:{port}"),
        (true, true) => format!("[fd00:10::{last}]:{port}"),
        (true, false) => format!("[2001:db8:c::{last}]:{port}"),
    };
    let node = if v6 { "[2001:db8::2]" } else { "192.168.0.2" };
    let by_node = !pod && random.once_in(3);
    let (protocol, service, port, node_port) =
        *random.pick(&[("tcp S", 41, 80, 30080), ("udp", 53, 53, 30053), ("sctp", 42, 2905, 32905)]);
    let vip = match (v6, by_node) {
        (_, true) => format!("{node}:{node_port}"),
        (false, _) => format!("172.30.0.{service}:{port}"),
        (true, _) => format!("[fd00:172:30::{service}]:{port}"),
    };
    let mut line = format!("{protocol} {client} > {vip} id={} bytes={}", random.below(65_536), random.below(300));
    if protocol == "udp" && !v6 && random.once_in(4) {
        line += " sum=none";
    }
    if !random.once_in(3) {
        line += if v6 { " ext=60:00010400000000" } else { " opt=94040000" };
    }
    (if pod { INSIDE } else { OUTSIDE }, line)
}

/// The frame with both ends exchanged: an answer to it, as far as the addresses go.
fn answer(random: &mut Random, sent: &[u8]) -> Wire {
    let tuple = Packet::parse(sent).unwrap().tuple;
    let (source, destination) =
        ((tuple.destination_address(), tuple.destination_port()), (tuple.source_address(), tuple.source_port()));
    let transport = match tuple.protocol() {
        ringway_shared::Protocol::Tcp => {
            Transport::Tcp { flags: "SA".into(), sequence: 77, acknowledgment: 1001, window: 9 }
        }
        ringway_shared::Protocol::Udp => Transport::Udp,
        ringway_shared::Protocol::Sctp => Transport::Sctp,
    };
    let mut wire = Wire::new(INSIDE, transport, source.into(), destination.into());
    wire.payload = (0..random.below(200)).map(|_| random.below(256) as u8).collect();
    wire
}

/// The error that says something about the packet in `frame`, which left by `out`: its frame, and how much it quotes.
fn error(random: &mut Random, frame: &[u8], out: InterfaceId) -> (Vec<u8>, usize) {
    let died = Packet::parse(frame).unwrap();
    let (source, destination) = (died.tuple.source_address(), died.tuple.destination_address());
    let v6 = died.tuple.family() == Family::V6;
    let kinds: &[(u8, u8)] =
        if v6 { &[(1, 4), (2, 0), (3, 0), (4, 1)] } else { &[(3, 3), (3, 4), (4, 0), (11, 0), (12, 0)] };
    let (kind, code) = *random.pick(kinds);
    let mut wire =
        Wire::new(out, Transport::Icmp { kind, code, rest: [0, 0, 5, 0] }, (destination, 0).into(), (source, 0).into());
    let (l3, l4, end) = (usize::from(died.l3), usize::from(died.l4), usize::from(died.end));
    let least = l4 + 8 - l3;
    let quoted = (least + random.below(end - l3 - least + 1)).min(500);
    wire.payload = frame[l3..l3 + quoted].to_vec();
    if random.once_in(4) && !v6 {
        wire.options = vec![1, 1, 1, 0];
    }
    (wire.build(), quoted)
}

#[test]
fn what_is_quoted_comes_back_as_what_was_sent() {
    let bed = town();
    let mut random = Random::new(29);
    let mut told = 0;
    for _ in 0..ROUNDS {
        // Flows of their own, so that every round may use any port.
        let mut worker = worker(&bed.settings);
        let mut tag = 0;
        let mut run = |bytes: &[u8], arrives: InterfaceId| {
            tag += 1;
            assert!(worker.run(bytes, arrives, tag, bed.first(), ms(tag)));
            let fate = worker.collector.fates.pop().expect("a fate").verdict;
            let sent = worker.collector.sent.pop().map(|sent| sent.bytes);
            match fate {
                Verdict::Forward { out } => (out, sent.expect("it left")),
                other => panic!("{other:?}"),
            }
        };
        let (arrives, line) = question(&mut random);
        let asked = packet(arrives, &line, &Names::new()).build();
        let (out, question) = run(&asked, arrives);
        let answered = answer(&mut random, &question).build();
        let (back, reply) = run(&answered, out);
        for (came, left, arrived) in [(&asked, &question, out), (&answered, &reply, back)] {
            let (error, quoted) = error(&mut random, left, arrived);
            let (towards, forwarded) = run(&error, arrived);
            let sender = Packet::parse(came).unwrap();
            let told_of = Packet::parse(&forwarded).expect("a whole packet with a right header");
            assert_eq!(told_of.tuple.destination_address(), sender.tuple.source_address(), "{line}");
            assert_eq!(forwarded[..6], neighbor_mac(towards, sender.tuple.source_address()).0, "{line}");
            assert_eq!(forwarded[6..12], own_mac(towards).0, "{line}");
            assert_eq!(told_of.ttl, 63, "{line}");
            if came == &asked {
                assert_eq!(told_of.tuple.source_address(), sender.tuple.destination_address(), "the VIP");
            }
            let message = told_of.transport(&forwarded).unwrap();
            assert!(is_right(&forwarded, &told_of), "the error's own checksum: {line}");
            // As it was sent, less one hop.
            let (l3, l4) = (usize::from(sender.l3), usize::from(sender.l4) - usize::from(sender.l3));
            let mut expected = came[l3..l3 + quoted].to_vec();
            let mut actual = message[8..].to_vec();
            if sender.family() == Family::V6 {
                expected[7] -= 1;
            } else {
                expected[8] -= 1;
                expected[10..12].fill(0);
                let sum = !sums::sum(&[&expected[..l4]]);
                expected[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            // Half a checksum says nothing, and is left alone.
            let sums_end = match sender.tuple.protocol() {
                ringway_shared::Protocol::Tcp => l4 + 18,
                ringway_shared::Protocol::Udp => l4 + 8,
                ringway_shared::Protocol::Sctp => l4 + 12,
            };
            let width = if sums_end == l4 + 12 { 4 } else { 2 };
            if quoted < sums_end && quoted > sums_end - width {
                expected.truncate(sums_end - width);
                actual.truncate(sums_end - width);
            }
            assert_eq!(actual, expected, "{line}");
            told += 1;
        }
    }
    assert_eq!(told, 2 * ROUNDS);
}

/// Whether the ICMP checksum fits.
fn is_right(frame: &[u8], packet: &Packet) -> bool {
    let message = packet.transport(frame).unwrap();
    let pseudo = match packet.family() {
        Family::V4 => 0,
        Family::V6 => sums::sum(&[&frame[22..54], &[0, 58], &(message.len() as u16).to_be_bytes()]),
    };
    sums::add(pseudo, sums::sum(&[message])) == 0xffff
}
