//! Noise and damaged packets through everything that reads or changes a packet: nothing panics.

use std::net::IpAddr;

use ringway_shared::{Family, FiveTuple};

use super::Packet;
use super::sample::{L4, Sample};
use super::tests::{CLIENT, CLIENT6, VIP, VIP6, fix};
use crate::forward::nat::{Rewrite, complete_partial, rewrite};
use crate::forward::{ANSWER_ROOM, echo, icmp_error, reject};

/// xorshift64: cheap, and the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// Does everything that can be done to `packet` to a buffer of its own and to one it was not parsed from.
fn exercise(frame: &[u8], packet: &Packet, noise: &mut Noise) {
    let [a, b, c, d, e] = std::array::from_fn(|_| noise.next());
    let to = FiveTuple { source: [a, b], destination: [c, d], ports: (e & !0x1ff) | (packet.tuple.ports & 0x1ff) };
    let router: IpAddr = match packet.family() {
        Family::V4 => [192, 0, 2, 1].into(),
        Family::V6 => [0x20; 16].into(),
    };
    let rewritten = Rewrite::new(&packet.tuple, to);
    let mut roomy = [0; ANSWER_ROOM + 300];
    let length = frame.len().min(roomy.len());
    let other = noise.below(frame.len() + 1);
    for length in [roomy.len(), length, other.min(length)] {
        type Act<'a> = &'a dyn Fn(&mut [u8]) -> Option<usize>;
        let acts: [Act<'_>; 6] = [
            &|bytes| {
                rewrite(bytes, packet, &rewritten);
                None
            },
            &|bytes| complete_partial(bytes, packet).then_some(0),
            &|bytes| reject::reject(bytes, packet),
            &|bytes| echo::reply(bytes, packet),
            &|bytes| icmp_error::time_exceeded(bytes, packet, router),
            &|bytes| icmp_error::too_big(bytes, packet, router, 1280),
        ];
        for act in acts {
            let known = frame.len().min(roomy.len());
            roomy[..known].copy_from_slice(&frame[..known]);
            assert!(act(&mut roomy[..length]).is_none_or(|answer| answer <= length));
        }
    }
}

#[test]
fn noise_and_damage_never_panic() {
    let mut noise = Noise(0x5eed_5eed_5eed_5eed);
    let seeds: Vec<Vec<u8>> = [L4::Tcp(0x02), L4::Tcp(0x18), L4::Udp, L4::Sctp, L4::Echo]
        .into_iter()
        .flat_map(|l4| {
            (0..32).step_by(5).flat_map(move |extras| {
                [(CLIENT, VIP), (CLIENT6, VIP6)].map(|(source, destination)| {
                    Sample { extras, padding: 6, ..Sample::new(l4, source, destination, &[3; 40]) }.frame()
                })
            })
        })
        .collect();
    let mut parsed = 0;
    for case in 0..250_000 {
        let mut frame = seeds[noise.below(seeds.len())].clone();
        if case % 5 == 0 {
            // Noise behind an EtherType and a version that are plausible.
            let length = 14 + noise.below(120);
            frame = std::iter::repeat_with(|| noise.next() as u8).take(length).collect();
            frame[12..14].copy_from_slice(if case % 2 == 0 { &[8, 0] } else { &[0x86, 0xdd] });
            if let Some(version) = frame.get_mut(14) {
                *version = if case % 2 == 0 { 0x45 + (*version & 3) } else { 0x60 };
            }
        } else {
            for _ in 0..noise.below(4) {
                let at = 12 + noise.below(frame.len() - 12);
                frame[at] = if case % 3 == 0 { noise.next() as u8 } else { frame[at] ^ (1 << noise.below(8)) };
            }
            if case % 7 == 0 {
                frame.truncate(noise.below(frame.len()));
            }
        }
        // Most damage would end at the header checksum.
        if case % 4 != 0 && frame.len() >= 34 && frame[12..14] == [8, 0] {
            fix(&mut frame);
        }
        if let Ok(packet) = Packet::parse(&frame) {
            parsed += 1;
            assert!(packet.l3 < packet.l4 && packet.l4 <= packet.end && usize::from(packet.end) <= frame.len());
            exercise(&frame, &packet, &mut noise);
        }
    }
    assert!(parsed > 50_000, "the damage is too great to reach the rest: {parsed}");
}
