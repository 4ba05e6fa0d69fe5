//! The frames that a story's packets are, given what left before.

use std::net::SocketAddr;

use ringway_dataplane::io::memory::Sent;
use ringway_dataplane::wire::{Kind, Packet};
use ringway_shared::{Family, InterfaceId};

use crate::bed::text::apply;
use crate::bed::wire::{Transport, Wire, mend};
use crate::story::{Arrival, Change, What};

/// What a frame of a worker has room for.
pub(crate) const ROOM: usize = 1792;

/// The frames of an arrival with where they come in; none when what it is about never left.
pub(crate) fn of(arrival: &Arrival, left: &[Sent]) -> Vec<(InterfaceId, Vec<u8>)> {
    let ago = |age: usize| left.len().checked_sub(age + 1).map(|at| &left[at]);
    let (arrives, frame) = match &arrival.what {
        What::Line { arrives, frame, .. } => (*arrives, frame.to_vec()),
        What::Answer { age, words } => match ago(*age).and_then(|sent| answer(sent, words)) {
            Some(answer) => answer,
            None => return Vec::new(),
        },
        What::Error { age, kind, code, words } => match ago(*age).and_then(|sent| error(sent, *kind, *code, words)) {
            Some(error) => error,
            None => return Vec::new(),
        },
    };
    let mut frames = vec![frame];
    for change in &arrival.changes {
        if let Change::Pieces(size, order) = change {
            frames = frames.iter().flat_map(|frame| pieces(frame, *size, order)).take(64).collect();
        } else {
            frames.iter_mut().for_each(|frame| make(frame, change));
        }
    }
    frames.into_iter().map(|frame| (arrives, frame)).collect()
}

/// Whether the bed understands this word of such a packet.
fn fits(word: &str, wire: &Wire) -> bool {
    let key = word.split_once('=').map_or(word, |(key, _)| key);
    match key {
        "seq" | "ack" | "window" | "mss" | "tcpopt" => matches!(wire.transport, Transport::Tcp { .. }),
        "rest" | "mtu" => matches!(wire.transport, Transport::Icmp { .. }),
        "tag" => wire.transport == Transport::Sctp,
        "opt" => wire.family() == Family::V4,
        "ext" => wire.family() == Family::V6,
        _ => true,
    }
}

/// What whoever got this frame answers.
fn answer(sent: &Sent, words: &[String]) -> Option<(InterfaceId, Vec<u8>)> {
    let frame = unwrapped(&sent.bytes).unwrap_or_else(|| sent.bytes.clone());
    let packet = Packet::parse(&frame).ok()?;
    let segment = packet.transport(&frame)?;
    let number = |at: usize| segment.get(at..at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
    let (transport, tag) = match packet.kind {
        Kind::Tcp { flags, .. } => {
            let header = segment.get(12).map_or(20, |byte| usize::from(byte >> 4) * 4);
            let length = segment.len().saturating_sub(header) as u32 + u32::from(flags.0 & 3 != 0);
            let first = if flags.0 & 0x10 == 0 { 5000 } else { number(8) };
            let said = words.iter().find_map(|word| word.strip_prefix("flags=")).unwrap_or("A");
            let acknowledgment = number(4).wrapping_add(length);
            let flags = said.chars().filter(|flag| "SAFRP".contains(*flag)).collect();
            (Transport::Tcp { flags, sequence: first, acknowledgment, window: 0xffff }, 0)
        }
        Kind::Udp => (Transport::Udp, 0),
        Kind::Sctp => (Transport::Sctp, number(4)),
        Kind::Icmp { icmp_type: kind @ (8 | 128), .. } => {
            let kind = if kind == 8 { 0 } else { 129 };
            (Transport::Icmp { kind, code: 0, rest: number(4).to_be_bytes() }, 0)
        }
        Kind::Icmp { .. } | Kind::LaterFragment { .. } => return None,
        Kind::Other(protocol) => (Transport::Other(protocol), 0),
    };
    let tuple = packet.tuple;
    let [source, destination] = [
        SocketAddr::new(tuple.destination_address(), tuple.destination_port()),
        SocketAddr::new(tuple.source_address(), tuple.source_port()),
    ];
    let mut wire = Wire::new(sent.out, transport, source, destination);
    wire.tag = tag;
    for word in words.iter().filter(|word| !word.starts_with("flags=") && fits(word, &wire)).collect::<Vec<_>>() {
        apply(&mut wire, word);
    }
    Some((sent.out, wire.build()))
}

/// What a router beyond the way out says about this frame, or the host that it is for.
fn error(sent: &Sent, kind: u8, code: u8, words: &[String]) -> Option<(InterfaceId, Vec<u8>)> {
    let packet = Packet::parse(&sent.bytes).ok()?;
    let [mut from, to] = [packet.tuple.destination_address(), packet.tuple.source_address()];
    let mut quote = sent.bytes[14..].to_vec();
    quote.truncate(if from.is_ipv4() { 548 } else { 1232 });
    let mut others = Vec::new();
    for word in words {
        match word.split_once('=') {
            Some(("quote", length)) => quote.truncate(length.parse().unwrap()),
            Some(("zeros", length)) => quote.resize(length.parse().unwrap(), 0),
            Some(("more", bytes)) => quote.extend(crate::bed::text::hex(bytes)),
            Some(("from", address)) => {
                let address = address.parse().unwrap();
                from = if Family::of(address) == packet.family() { address } else { from };
            }
            _ => others.push(word),
        }
    }
    let mut wire = Wire::new(sent.out, Transport::Icmp { kind, code, rest: [0; 4] }, (from, 0).into(), (to, 0).into());
    wire.payload = quote;
    for word in others {
        if fits(word, &wire) && !word.starts_with("bytes") && !word.starts_with("data") && !word.starts_with("flags") {
            apply(&mut wire, word);
        }
    }
    Some((sent.out, wire.build()))
}

/// The frame inside one that was wrapped for an endpoint that answers by itself, with the MAC addresses of the outer one.
pub(crate) fn unwrapped(bytes: &[u8]) -> Option<Vec<u8>> {
    let outer = Packet::parse(bytes).ok()?;
    let inner = match outer.kind {
        Kind::Other(4) => [8, 0],
        Kind::Other(41) => [0x86, 0xdd],
        _ => return None,
    };
    let to_pod = ["10.0.1.3", "10.0.1.4", "fd00:10::3"].map(|pod| pod.parse::<std::net::IpAddr>().unwrap());
    if outer.ttl != 64 || !to_pod.contains(&outer.tuple.destination_address()) {
        return None;
    }
    Some([&bytes[..12], &inner, &bytes[usize::from(outer.l4)..]].concat())
}

fn make(frame: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Poke(at, bytes) => {
            let room = frame.get_mut(*at..).unwrap_or_default();
            room.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        }
        Change::Cut(length) => frame.truncate(*length),
        Change::Grow(length) => frame.resize(frame.len().max((*length).min(ROOM)), 0xee),
        Change::Mend => {
            let header = frame.get(14).map_or(0, |first| usize::from(first & 15) * 4);
            if header >= 20 && frame.len() >= 14 + header && frame[12..14] == [8, 0] {
                mend(frame);
            }
        }
        Change::Pieces(..) => {}
    }
}

/// The fragments of a packet as `order` asks for them: each with `size` bytes of it, rounded down to eights.
fn pieces(frame: &[u8], size: usize, order: &[u8]) -> Vec<Vec<u8>> {
    let is_ipv4 = frame.len() > 34 && frame[12..14] == [8, 0] && frame[14] == 0x45;
    let is_ipv6 = frame.len() > 54 && frame[12..14] == [0x86, 0xdd];
    if !is_ipv4 && !is_ipv6 {
        return vec![frame.to_vec()];
    }
    let (headers, rest) = frame.split_at(if is_ipv4 { 34 } else { 54 });
    let size = (size / 8 * 8).max(8);
    let count = rest.len().div_ceil(size);
    let piece = |digit: &u8| {
        let number = usize::from(*digit) % count;
        let data = &rest[number * size..rest.len().min((number + 1) * size)];
        let offset = (number * size) as u16;
        let more = number + 1 < count;
        let mut piece = headers.to_vec();
        if is_ipv4 {
            let before = u16::from_be_bytes([headers[20], headers[21]]);
            let flags = (before + offset / 8) & 0x1fff | before & 0xa000 | u16::from(more) << 13;
            piece[20..22].copy_from_slice(&flags.to_be_bytes());
            piece[16..18].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
            mend(&mut piece);
        } else {
            // The flow label of the packet is also its identification.
            let id = [&[0, headers[15] & 15], &headers[16..18]].concat();
            let next = std::mem::replace(&mut piece[20], 44);
            piece[18..20].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
            piece.extend([next, 0]);
            piece.extend((offset | u16::from(more)).to_be_bytes());
            piece.extend(id);
        }
        piece.extend(data);
        piece
    };
    order.iter().map(piece).collect()
}
