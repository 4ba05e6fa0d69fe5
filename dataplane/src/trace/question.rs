//! The packet that a user asks about: `PROTO:SRC[:SPORT]->DST:PORT`, `icmp:SRC->DST` for a ping, and
//! `icmp:SRC->DST about PROTO:SRC:SPORT->DST:PORT` for an ICMP error and the packet that it quotes.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ringway_shared::{Family, FiveTuple, Protocol};

/// The source port of packets that name none: the first dynamic port (RFC 6335).
pub const DEFAULT_SOURCE_PORT: u16 = 49_152;

/// A packet to explain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// As the user wrote it.
    pub text: String,
    /// What it means.
    pub tuple: FiveTuple,
    /// Whether the user named the source port: only then can there be a flow of this packet.
    pub has_source_port: bool,
    /// What kind of packet it is.
    pub kind: Asked,
}

/// What kind of packet is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The first one of a connection.
    Connection,
    /// An echo request. The tuple has no ports, and says nothing of the protocol.
    Ping,
    /// An ICMP error about this packet. The tuple around it has no ports, and says nothing of the protocol.
    Error(FiveTuple),
}

impl Question {
    /// The flow that the packet would belong to, or be about, has this tuple, in either direction.
    pub fn flow_tuple(&self) -> Option<FiveTuple> {
        match self.kind {
            Asked::Connection => self.has_source_port.then_some(self.tuple),
            Asked::Ping => None,
            Asked::Error(quoted) if self.tuple.destination_address() == quoted.source_address() => {
                Some(quoted.reversed())
            }
            // About a packet inside another one, whose sender it goes to: such flows have the client's tuple alone.
            Asked::Error(quoted) => Some(quoted),
        }
    }
}

/// Why a text is no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write PROTO:SRC[:SPORT]->DST:PORT, as tcp:10.0.0.2->172.30.0.41:80 or udp:[2001:db8::1]:4242->[fd00::a]:53, or for \
     a ping icmp:10.0.0.2->172.30.0.41"
)]
pub struct NoPacket(String);

impl FromStr for Question {
    type Err = NoPacket;

    fn from_str(text: &str) -> Result<Self, NoPacket> {
        if let Some(rest) = text.strip_prefix("icmp:") {
            return icmp(text, rest);
        }
        let wrong = |what: String| NoPacket(what);
        let (protocol, rest) = text.split_once(':').ok_or_else(|| wrong("no protocol".into()))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(wrong(format!("the protocol {other:?} is not tcp, udp, sctp or icmp"))),
        };
        let ((source, source_port), (destination, port)) = ends(rest)?;
        let port = port.ok_or_else(|| wrong("the destination has no port".into()))?;
        // Never the destination's port: that could make a packet from a host to itself look like a forgery.
        let other_port = DEFAULT_SOURCE_PORT + u16::from(port == DEFAULT_SOURCE_PORT);
        let number = source_port.unwrap_or(other_port);
        let tuple = FiveTuple::from_parts(protocol, source, number, destination, port);
        Ok(Question { text: text.to_owned(), tuple, has_source_port: source_port.is_some(), kind: Asked::Connection })
    }
}

/// Address and port.
type End = (IpAddr, Option<u16>);

/// Both ends, of one family.
fn ends(text: &str) -> Result<(End, End), NoPacket> {
    let (source, destination) = text.split_once("->").ok_or_else(|| {
        // Without quotes a shell takes `>` and the rest for a file to write into.
        let shell = if text.ends_with('-') { " (it ends where a shell sees a >: put it in quotes)" } else { "" };
        NoPacket(format!("no -> between the two ends{shell}"))
    })?;
    let (source, destination) = (end("source", source)?, end("destination", destination)?);
    let families = (Family::of(source.0), Family::of(destination.0));
    if families.0 != families.1 {
        return Err(NoPacket(format!("the source is {}, but the destination is {}", families.0, families.1)));
    }
    Ok((source, destination))
}

/// A ping, or an error.
fn icmp(text: &str, rest: &str) -> Result<Question, NoPacket> {
    let (rest, quoted) = rest.split_once(" about ").map_or((rest, None), |(rest, quoted)| (rest, Some(quoted)));
    let ((source, source_port), (destination, port)) = ends(rest)?;
    if source_port.or(port).is_some() {
        return Err(NoPacket("ICMP has no ports".into()));
    }
    let kind = match quoted.map(str::parse::<Question>).transpose()? {
        None => Asked::Ping,
        Some(Question { tuple, has_source_port: true, kind: Asked::Connection, .. }) => {
            if tuple.family() != Family::of(source) {
                return Err(NoPacket("the error and the packet that it is about are of two families".into()));
            }
            Asked::Error(tuple)
        }
        Some(_) => return Err(NoPacket("an error is about tcp, udp or sctp with both ports".into())),
    };
    let tuple = FiveTuple::from_parts(Protocol::Udp, source, 0, destination, 0);
    Ok(Question { text: text.to_owned(), tuple, has_source_port: false, kind })
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `IP`, `IP:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn end(which: &str, text: &str) -> Result<(IpAddr, Option<u16>), NoPacket> {
    let (address, port): (Option<IpAddr>, _) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or_else(|| NoPacket(format!("the {which} {text:?} has no ]")))?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or(port)) };
        (address.parse::<Ipv6Addr>().ok().map(IpAddr::from), port)
    } else if text.parse::<Ipv6Addr>().is_ok() {
        return Err(NoPacket(format!("the {which} {text:?} is IPv6, which stands in brackets")));
    } else {
        let (address, port) = text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port)));
        (address.parse().ok().filter(IpAddr::is_ipv4), port)
    };
    let address = address.ok_or_else(|| NoPacket(format!("the {which} {text:?} has no IP address")))?;
    let port = port.map(|port| self::port(which, port)).transpose()?;
    Ok((address, port))
}

fn port(which: &str, text: &str) -> Result<u16, NoPacket> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| NoPacket(format!("the {which}'s port {text:?} is not a number from 1 to 65535")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_with_and_without_source_port() {
        let tuple = |text: &str| text.parse::<Question>().map(|question| question.tuple.to_string()).unwrap();
        assert_eq!(tuple("tcp:10.0.0.2->172.30.0.41:80"), "tcp:10.0.0.2:49152->172.30.0.41:80");
        assert_eq!(tuple("udp:[2001:db8::1]:4242->[fd00::a]:53"), "udp:[2001:db8::1]:4242->[fd00::a]:53");
        assert_eq!(tuple("sctp:[2001:DB8:0::1]->[fd00::a]:53"), "sctp:[2001:db8::1]:49152->[fd00::a]:53");
        assert_eq!(tuple("tcp:10.0.0.2->10.0.0.2:49152"), "tcp:10.0.0.2:49153->10.0.0.2:49152");
        assert_eq!("tcp:1.2.3.4:007->1.2.3.4:8".parse::<Question>().unwrap().text, "tcp:1.2.3.4:007->1.2.3.4:8");
    }

    #[test]
    fn what_is_no_packet_is_told_precisely() {
        let cases = [
            ("", "no protocol"),
            ("tcp", "no protocol"),
            ("gre:1.2.3.4->1.2.3.4:5", "the protocol \"gre\" is not tcp, udp, sctp or icmp"),
            ("icmp:1.2.3.4->1.2.3.4:5", "ICMP has no ports"),
            ("icmp:1.2.3.4->[fd00::2]", "the source is IPv4, but the destination is IPv6"),
            (
                "icmp:1.2.3.4->1.2.3.5 about tcp:1.2.3.5->1.2.3.6:7",
                "an error is about tcp, udp or sctp with both ports",
            ),
            ("icmp:1.2.3.4->1.2.3.5 about icmp:1.2.3.5->1.2.3.6", "an error is about tcp, udp or sctp with both ports"),
            (
                "icmp:1.2.3.4->1.2.3.5 about tcp:[fd00::1]:1->[fd00::2]:2",
                "the error and the packet that it is about are of two families",
            ),
            ("TCP:1.2.3.4->1.2.3.4:5", "the protocol \"TCP\" is not tcp, udp, sctp or icmp"),
            ("tcp:1.2.3.4-1.2.3.4:5", "no -> between the two ends"),
            ("tcp:1.2.3.4:5-", "no -> between the two ends (it ends where a shell sees a >: put it in quotes)"),
            ("tcp:1.2.3.4->1.2.3.4", "the destination has no port"),
            ("tcp:1.2.3.4->1.2.3.4:", "the destination's port \"\" is not a number from 1 to 65535"),
            ("tcp:1.2.3.4:0->1.2.3.4:5", "the source's port \"0\" is not a number from 1 to 65535"),
            ("tcp:1.2.3.4:+7->1.2.3.4:5", "the source's port \"+7\" is not a number from 1 to 65535"),
            ("tcp:1.2.3.4->1.2.3.4:65536", "the destination's port \"65536\" is not a number from 1 to 65535"),
            ("tcp:1.2.3->1.2.3.4:5", "the source \"1.2.3\" has no IP address"),
            ("tcp:1.2.3.4->[1.2.3.4]:5", "the destination \"[1.2.3.4]:5\" has no IP address"),
            ("tcp:fd00::1->[fd00::2]:5", "the source \"fd00::1\" is IPv6, which stands in brackets"),
            ("tcp:[fd00::1->[fd00::2]:5", "the source \"[fd00::1\" has no ]"),
            ("tcp:[fd00::1]x->[fd00::2]:5", "the source's port \"x\" is not a number from 1 to 65535"),
            ("tcp: 1.2.3.4->1.2.3.4:5", "the source \" 1.2.3.4\" has no IP address"),
            ("tcp:1.2.3.4->[fd00::2]:5", "the source is IPv4, but the destination is IPv6"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Question>().unwrap_err().to_string();
            assert_eq!(error.split(';').next(), Some(expected), "{text}");
        }
    }
}
