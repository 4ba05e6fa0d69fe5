//! Frames of who forges: of each kind one, and very many that differ from it in a few words, whose checksums are right all the same.
//!
//! What one word gets more another one gets less, which leaves the sums of 16-bit words as they were (RFC 1071). So nothing is
//! summed up while a flood is sent.

mod headers;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ringway_dataplane::wire::checksum;
use ringway_shared::{MacAddress, Protocol};

use crate::failure::Failure;
use headers::Ip;

/// The longest frame of all kinds.
pub const LONGEST: usize = 192;
const SHORTEST: usize = 60;
const ETHERNET: usize = 14;
/// How many frames differ from one another in each of the two ways.
const VARIANTS: u32 = 65_535;
/// Fewer, where a port differs: the frontend's, or one of those that masqueraded flows have.
const PORTS: u32 = 4_096;
/// Bytes of each fragment.
const PIECE: usize = 32;
/// What a forger makes of a sequence number that he does not know.
const SEQUENCE: [u8; 4] = [0x70, 0, 0, 0];

/// A kind of forged frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forgery {
    /// The first segment of a TCP connection.
    Syn,
    /// A datagram of UDP.
    Datagram,
    /// A fragment of UDP that is not the first; there is no first one.
    LaterFragment,
    /// The first fragment of a datagram of UDP, to which no other one comes.
    FirstFragment,
    /// An ICMP error about a datagram that the frontend is said to have sent to somebody.
    Error,
    /// An ICMP error about a datagram that is said to have gone from a port of a masqueraded flow to an endpoint.
    ErrorFromInside,
    /// An ICMP error about a segment of a known TCP connection, with a number that it cannot have had.
    ErrorOutsideWindow,
    /// A datagram behind more extension headers than anybody needs.
    LongChain,
    /// A ping.
    Ping,
}

impl Forgery {
    /// All there are.
    pub const ALL: [Forgery; 9] = [
        Forgery::Syn,
        Forgery::Datagram,
        Forgery::LaterFragment,
        Forgery::FirstFragment,
        Forgery::Error,
        Forgery::ErrorFromInside,
        Forgery::ErrorOutsideWindow,
        Forgery::LongChain,
        Forgery::Ping,
    ];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Forgery::Syn => "syn",
            Forgery::Datagram => "datagram",
            Forgery::LaterFragment => "later-fragment",
            Forgery::FirstFragment => "first-fragment",
            Forgery::Error => "error",
            Forgery::ErrorFromInside => "error-from-inside",
            Forgery::ErrorOutsideWindow => "error-outside-window",
            Forgery::LongChain => "long-chain",
            Forgery::Ping => "ping",
        }
    }

    /// Whether it is about a packet to an address that has to be given.
    pub fn is_about(self) -> bool {
        matches!(self, Forgery::ErrorFromInside | Forgery::ErrorOutsideWindow)
    }

    /// The protocol of the packet, or of what it is about.
    pub fn protocol(self) -> Protocol {
        if matches!(self, Forgery::Syn | Forgery::ErrorOutsideWindow) { Protocol::Tcp } else { Protocol::Udp }
    }
}

impl Display for Forgery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for Forgery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Forgery::ALL.into_iter().find(|kind| kind.label() == text).ok_or_else(|| {
            format!("{text:?} is nothing to forge; allowed are {}", Forgery::ALL.map(Forgery::label).join(", "))
        })
    }
}

/// Whom a flood is for.
#[derive(Clone, Copy, Debug)]
pub struct Aim {
    /// The MAC address of the next hop.
    pub destination_mac: MacAddress,
    /// The MAC address that frames come from.
    pub source_mac: MacAddress,
    /// The first of the 65,535 sources, which count up from it.
    pub from: IpAddr,
    /// The frontend; of an error the sender of what it is about.
    pub to: SocketAddr,
    /// Where the packet went that an error is about, where that is not anybody.
    pub about: Option<SocketAddr>,
}

/// Which number is added to a word, or taken from it.
#[derive(Clone, Copy, Debug)]
enum Change {
    More(usize),
    Less(usize),
}

use Change::{Less, More};

/// A flood of one kind.
#[derive(Clone, Debug)]
pub struct Flood {
    frame: [u8; LONGEST],
    length: usize,
    /// The changes by the first number, which is below `variants`, and by how often that has come round.
    changes: [Vec<Change>; 2],
    variants: u32,
}

impl Flood {
    /// The frames of a kind for whom they are.
    pub fn new(kind: Forgery, aim: &Aim) -> Result<Self, Failure> {
        check(kind, aim)?;
        let ip = Ip { source: aim.from, destination: aim.to.ip() };
        let (l4, is_v6) = (ETHERNET + ip.header(), ip.is_v6());
        // The last word of the source is in the sum of the header of IPv4, and in that of each pseudo-header.
        let source = if is_v6 { ETHERNET + 22 } else { ETHERNET + 14 };
        let mut by_first = vec![More(source)];
        by_first.extend((!is_v6).then_some(Less(ETHERNET + 4)));
        let mut by_second = Vec::new();
        let mut variants = VARIANTS;
        let packet = match kind {
            Forgery::Syn => {
                by_first.push(Less(l4 + 6));
                by_second = vec![More(l4), Less(l4 + 4)];
                ip.packet(Protocol::Tcp.number(), &segment(&ip, aim.to.port()))
            }
            Forgery::Datagram => {
                if is_v6 {
                    by_first.push(Less(l4 + 8));
                }
                by_second = vec![More(l4), Less(l4 + 10)];
                ip.packet(Protocol::Udp.number(), &datagram(&ip, aim.to.port()))
            }
            Forgery::LaterFragment | Forgery::FirstFragment => {
                let place = if kind == Forgery::LaterFragment { PIECE as u16 } else { 0 };
                if is_v6 {
                    by_first.push(More(l4 + 6));
                    by_second = vec![More(l4 + 4)];
                }
                ip.fragment(Protocol::Udp.number(), place, place == 0, &piece(aim.to.port()))
            }
            Forgery::Error | Forgery::ErrorFromInside | Forgery::ErrorOutsideWindow => {
                let inner = l4 + 8;
                let quoted = inner + ip.header();
                // The error's checksum has all of the quote, and over IPv6 the pseudo-header.
                match (kind, is_v6) {
                    (Forgery::Error, false) => by_first.extend([More(inner + 18), Less(inner + 4)]),
                    (Forgery::Error, true) => by_first.extend([More(inner + 38), Less(quoted + 2), Less(quoted + 6)]),
                    (Forgery::ErrorFromInside, _) => {
                        variants = PORTS;
                        by_first.extend([More(quoted), Less(quoted + 6)]);
                        // The flow label has a sum of no other.
                        by_first.extend(is_v6.then_some(Less(inner + 2)));
                    }
                    (_, true) => by_first.push(Less(inner + 2)),
                    (_, false) => {}
                }
                let about = aim.about.unwrap_or(SocketAddr::new(aim.from, 40_000));
                ip.error(kind.protocol(), aim.to, about)
            }
            Forgery::LongChain => {
                by_first.push(Less(l4 + headers::CHAIN * 8 + 8));
                ip.chain(&datagram(&ip, aim.to.port()))
            }
            Forgery::Ping => {
                by_first.extend(is_v6.then_some(Less(l4 + 6)));
                ip.ping()
            }
        };
        let mut frame = [0; LONGEST];
        let ethernet = [&aim.destination_mac.0[..], &aim.source_mac.0, &ip.ether_type()].concat();
        for (place, byte) in frame.iter_mut().zip(ethernet.iter().chain(&packet)) {
            *place = *byte;
        }
        let length = (ETHERNET + packet.len()).max(SHORTEST);
        Ok(Flood { frame, length, changes: [by_first, by_second], variants })
    }

    /// Writes the frame with this number; its length.
    #[inline]
    pub fn write(&self, number: u32, frame: &mut [u8]) -> usize {
        let Some(frame) = frame.get_mut(..self.length) else { return 0 };
        for (place, byte) in frame.iter_mut().zip(&self.frame) {
            *place = *byte;
        }
        let numbers = [number % self.variants, number / self.variants];
        for (changes, number) in self.changes.iter().zip(numbers) {
            for change in changes {
                let (at, number) = match change {
                    More(at) => (*at, number as u16),
                    Less(at) => (*at, !(number as u16)),
                };
                if let Some(word) = frame.get_mut(at..at + 2).and_then(|bytes| bytes.as_mut_array::<2>()) {
                    let sum = u64::from(u16::from_be_bytes(*word)) + u64::from(number);
                    *word = checksum::fold(sum).to_be_bytes();
                }
            }
        }
        self.length
    }
}

fn check(kind: Forgery, aim: &Aim) -> Result<(), Failure> {
    let is_v6 = aim.to.is_ipv6();
    for (what, address) in [("source", Some(aim.from)), ("other end", aim.about.map(|about| about.ip()))] {
        if let Some(address) = address.filter(|address| address.is_ipv6() != is_v6) {
            return Err(Failure(format!("the {what} {address} and the frontend {} are of two families", aim.to)));
        }
    }
    match (kind, aim.about) {
        (Forgery::LongChain, _) if !is_v6 => {
            Err(Failure(format!("{kind} to {}: IPv4 has no extension headers; give a frontend of IPv6", aim.to)))
        }
        (kind, None) if kind.is_about() => Err(Failure(format!(
            "{kind} is about a packet of {} to an address that you have to give (--about ADDRESS:PORT)",
            aim.to
        ))),
        _ => Ok(()),
    }
}

/// A port that is nobody's.
const SOURCE_PORT: [u8; 2] = 40_000_u16.to_be_bytes();

fn segment(ip: &Ip, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    let mut segment = vec![SOURCE_PORT[0], SOURCE_PORT[1], high, low];
    segment.extend([0x10, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    ip.sum_up(Protocol::Tcp.number(), &mut segment, 16);
    segment
}

fn datagram(ip: &Ip, port: u16) -> Vec<u8> {
    let mut datagram = piece(port)[..12].to_vec();
    datagram[4..6].copy_from_slice(&12_u16.to_be_bytes());
    datagram[6..8].fill(0);
    // Over IPv4 it is optional.
    if ip.is_v6() {
        ip.sum_up(Protocol::Udp.number(), &mut datagram, 6);
    }
    datagram
}

/// The first bytes of a datagram of two pieces. Its checksum is of both, so none that gets one of them can say that it is wrong.
fn piece(port: u16) -> [u8; PIECE] {
    let mut piece = [0; PIECE];
    piece[..2].copy_from_slice(&SOURCE_PORT);
    piece[2..4].copy_from_slice(&port.to_be_bytes());
    piece[4..6].copy_from_slice(&(2 * PIECE as u16).to_be_bytes());
    piece[6..8].copy_from_slice(&[0x12, 0x34]);
    piece[8..12].copy_from_slice(&[0x20, 0, 0x20, 0]);
    piece
}

#[cfg(test)]
mod tests;
