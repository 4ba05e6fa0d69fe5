//! Packets of one line of text each.
//!
//! `tcp FLAGS SRC > DST …`, `udp SRC > DST …`, `sctp …`, `echo …`, `icmp TYPE/CODE …`, `proto NUMBER …`, and then any of
//! `ttl= tos= id= label= seq= ack= window= tag= data=TEXT bytes=N df sum=partial|none|wrong pad=N frag=OFFSET[+] opt=HEX
//! ext=NUMBER:HEX mss=N tcpopt=HEX to=MAC rest=HEX mtu=N poke=OFFSET:HEX cut=N mend`. A port may be a name in capitals that
//! an earlier packet that left has given a value. An ICMP error ends with `about` and the packet that it quotes, inside another one with
//! `within=SRC>DST`, all of it or `quote=N` bytes, followed by zeros up to `zeros=N` bytes and by `more=HEX`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use ringway_shared::InterfaceId;

use super::network::INTERFACES;
use super::wire::{Damage, Sum, Transport, Wire};

/// Ports by name.
pub type Names = HashMap<String, u16>;

/// The interface of a name.
pub fn interface(word: &str) -> Option<InterfaceId> {
    INTERFACES.iter().position(|name| *name == word).map(|at| InterfaceId(at as u16))
}

/// The packet of a line.
pub fn packet(arrives: InterfaceId, text: &str, names: &Names) -> Wire {
    let (text, quoted) = text.split_once(" about ").map_or((text, None), |(text, quoted)| (text, Some(quoted)));
    let words: Vec<&str> = text.split_whitespace().collect();
    let (transport, rest) = transport(&words);
    let [source, ">", destination, rest @ ..] = rest else { panic!("no SRC > DST in {text:?}") };
    let (source, destination) = (end(source, names).unwrap(), end(destination, names).unwrap());
    let transport = match transport {
        // Echo requests have a type in each family.
        Transport::Icmp { kind: 8, rest, .. } if source.is_ipv6() => Transport::Icmp { kind: 128, code: 0, rest },
        other => other,
    };
    let mut wire = Wire::new(arrives, transport, source, destination);
    rest.iter().for_each(|word| apply(&mut wire, word));
    if let Some(quoted) = quoted {
        quote(&mut wire, quoted, names);
    }
    wire
}

/// Makes the packet an error about another one.
pub fn quote(wire: &mut Wire, quoted: &str, names: &Names) {
    let about = |word: &&str| ["within=", "quote=", "zeros=", "more="].iter().any(|start| word.starts_with(start));
    let (how, words): (Vec<&str>, Vec<&str>) = quoted.split_whitespace().partition(about);
    let inner = packet(InterfaceId(0), &words.join(" "), names);
    let mut bytes = inner.ip();
    for word in how {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "within" => {
                let (source, destination) = value.split_once('>').unwrap();
                bytes = inner.within(source, destination).split_off(14);
            }
            "quote" => bytes.truncate(value.parse().unwrap()),
            "zeros" => bytes.resize(value.parse().unwrap(), 0),
            _ => bytes.extend(hex(value)),
        }
    }
    wire.payload = bytes;
}

/// The frame of a line.
pub fn frame(arrives: InterfaceId, text: &str) -> Vec<u8> {
    packet(arrives, text, &Names::new()).build()
}

fn transport<'w, 't>(words: &'w [&'t str]) -> (Transport, &'w [&'t str]) {
    let [protocol, rest @ ..] = words else { panic!("an empty packet") };
    match (*protocol, rest) {
        ("tcp", [flags, rest @ ..]) => {
            let acknowledgment = if flags.contains('A') { 5001 } else { 0 };
            let tcp = Transport::Tcp { flags: flags.to_string(), sequence: 1000, acknowledgment, window: 0xffff };
            (tcp, rest)
        }
        ("udp", rest) => (Transport::Udp, rest),
        ("sctp", rest) => (Transport::Sctp, rest),
        ("echo", rest) => (Transport::Icmp { kind: 8, code: 0, rest: [0, 7, 0, 1] }, rest),
        ("icmp", [type_and_code, rest @ ..]) => {
            let (kind, code) = type_and_code.split_once('/').unwrap();
            (Transport::Icmp { kind: kind.parse().unwrap(), code: code.parse().unwrap(), rest: [0; 4] }, rest)
        }
        ("proto", [number, rest @ ..]) => (Transport::Other(number.parse().unwrap()), rest),
        (other, _) => panic!("no protocol {other:?}"),
    }
}

/// Address and port; the name of a port that has no value yet is an error.
pub fn end(word: &str, names: &Names) -> Result<SocketAddr, (IpAddr, String)> {
    if let Ok(address) = word.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, 0));
    }
    let (address, port) = word.rsplit_once(':').unwrap_or_else(|| panic!("no port in {word:?}"));
    let address: IpAddr = address.trim_matches(['[', ']']).parse().unwrap_or_else(|_| panic!("no address in {word:?}"));
    match (port.parse(), names.get(port)) {
        (Ok(number), _) | (Err(_), Some(&number)) => Ok(SocketAddr::new(address, number)),
        (Err(_), None) => Err((address, port.to_owned())),
    }
}

/// One word of what a packet is like.
pub fn apply(wire: &mut Wire, word: &str) {
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let number = || value.parse::<u32>().unwrap_or_else(|_| panic!("{word:?} has no number"));
    match (key, &mut wire.transport) {
        ("ttl", _) => wire.ttl = number() as u8,
        ("tos", _) => wire.tos = number() as u8,
        ("id", _) => wire.id = number(),
        ("label", _) => wire.flow_label = number(),
        ("df", _) => wire.dont_fragment = true,
        ("seq", Transport::Tcp { sequence, .. }) => *sequence = number(),
        ("ack", Transport::Tcp { acknowledgment, .. }) => *acknowledgment = number(),
        ("window", Transport::Tcp { window, .. }) => *window = number() as u16,
        ("rest", Transport::Icmp { rest, .. }) => *rest = hex(value).try_into().unwrap(),
        ("mtu", Transport::Icmp { rest, .. }) => *rest = number().to_be_bytes(),
        ("tag", Transport::Sctp) => wire.tag = number(),
        ("data", _) => wire.payload = value.into(),
        ("bytes", _) => wire.payload = (0..number()).map(|at| (at * 7) as u8).collect(),
        ("hex", _) => wire.payload = hex(value),
        ("pad", _) => wire.padding = number() as usize,
        ("to", _) => wire.destination_mac = value.parse().unwrap(),
        ("opt", _) => wire.options = hex(value),
        ("mss", Transport::Tcp { .. }) => wire.tcp_options = [&[2, 4][..], &(number() as u16).to_be_bytes()].concat(),
        ("tcpopt", Transport::Tcp { .. }) => wire.tcp_options = hex(value),
        ("ext", _) => {
            let (header, bytes) = value.split_once(':').unwrap();
            wire.extensions.push((header.parse().unwrap(), hex(bytes)));
        }
        ("frag", _) => {
            let (offset, more) = value.strip_suffix('+').map_or((value, false), |offset| (offset, true));
            wire.fragment = Some((offset.parse().unwrap(), more));
        }
        ("sum", _) => {
            wire.sum = match value {
                "partial" => Sum::Partial,
                "none" => Sum::Absent,
                "wrong" => Sum::Wrong,
                "right" => Sum::Right,
                other => panic!("no sum {other:?}"),
            }
        }
        ("poke", _) => {
            let (at, bytes) = value.split_once(':').unwrap();
            wire.damage.push(Damage::Poke(at.parse().unwrap(), hex(bytes)));
        }
        ("cut", _) => wire.damage.push(Damage::Cut(number() as usize)),
        ("mend", _) => wire.damage.push(Damage::Mend),
        _ => panic!("{word:?} says nothing about {:?}", wire.transport),
    }
}

/// The bytes of hexadecimal digits.
pub fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits:?}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
