//! Real and forged SCTP, for the virtual machines of `tests/scripts/machine`: associations by the kernel's sockets, and packets
//! of a sender who sees none of theirs. Every command ends with status 0 only when all of it held.
//!
//! ```text
//! ringway-sctp echo ADDRESS:PORT                     answers whatever comes, for ever
//! ringway-sctp together PORT ADDRESS:PORT ...        one association to each from the same port, all open at once
//! ringway-sctp steady PORT ADDRESS:PORT FILE         one association; says so in FILE, goes on while FILE is there
//! ringway-sctp forge init|abort PORT ADDRESS:PORT    one packet from our own address, by nobody's association
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_ipv6_v6only, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, connect, ipproto, listen, sendto, socket};

type Done = Result<(), Box<dyn Error>>;

/// Longer than any answer takes, and not for ever.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages on each association.
const MESSAGES: u32 = 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *words.as_slice() {
        ["echo", address] => echo(address),
        ["together", port, ref peers @ ..] if !peers.is_empty() => together(port, peers),
        ["steady", port, peer, file] => steady(port, peer, Path::new(file)),
        ["forge", kind, port, peer] => forge(kind, port, peer),
        _ => Err("what to do: echo, together, steady or forge".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-sctp {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn family(address: &SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// A socket on an address that others may have, too; of this family alone.
fn open(address: SocketAddr) -> Result<OwnedFd, Box<dyn Error>> {
    let opened = socket(family(&address), SocketType::STREAM, Some(ipproto::SCTP))?;
    if address.is_ipv6() {
        set_ipv6_v6only(&opened, true)?;
    }
    set_socket_reuseaddr(&opened, true)?;
    bind(&opened, &address)?;
    Ok(opened)
}

// One address: with several, an association would be told of all, and those are not the VIP.
fn echo(address: &str) -> Done {
    let address: SocketAddr = address.parse()?;
    let listener = open(address)?;
    listen(&listener, 128)?;
    // A one-to-one socket of SCTP is used like one of TCP.
    for association in TcpListener::from(listener).incoming() {
        let mut association = association?;
        thread::spawn(move || {
            let mut bytes = [0; 2048];
            while let Ok(length @ 1..) = association.read(&mut bytes) {
                if association.write_all(bytes.get(..length).unwrap_or_default()).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

fn associate(port: &str, peer: &str) -> Result<TcpStream, Box<dyn Error>> {
    let peer: SocketAddr = peer.parse()?;
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let opened = open(SocketAddr::new(any, port.parse()?))?;
    // Else `connect` would wait as long as the kernel likes.
    set_socket_timeout(&opened, Timeout::Send, Some(PATIENCE))?;
    connect(&opened, &peer).map_err(|error| format!("no association with {peer}: {error}"))?;
    let stream = TcpStream::from(opened);
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a message; the same must come back.
fn exchange(association: &mut TcpStream, text: &str) -> Done {
    association.write_all(text.as_bytes()).map_err(|error| format!("{text:?} is not sent: {error}"))?;
    let mut answer = vec![0; text.len()];
    association.read_exact(&mut answer).map_err(|error| format!("{text:?} is not answered: {error}"))?;
    match answer == text.as_bytes() {
        true => Ok(()),
        false => Err(format!("the answer to {text:?} is {:?}", String::from_utf8_lossy(&answer)).into()),
    }
}

fn together(port: &str, peers: &[&str]) -> Done {
    let mut associations = Vec::new();
    for peer in peers {
        associations.push(((*peer).to_owned(), associate(port, peer)?));
        for number in 0..MESSAGES {
            for (peer, association) in &mut associations {
                exchange(association, &format!("{number} to {peer}"))?;
            }
        }
    }
    Ok(())
}

fn steady(port: &str, peer: &str, file: &Path) -> Done {
    let mut association = associate(port, peer)?;
    exchange(&mut association, "the first")?;
    std::fs::write(file, peer)?;
    let mut number = 0u32;
    while file.exists() {
        number += 1;
        exchange(&mut association, &format!("{number} to {peer}"))?;
        thread::sleep(Duration::from_millis(100));
    }
    exchange(&mut association, "the last")
}

fn forge(kind: &str, port: &str, peer: &str) -> Done {
    let (source, peer): (u16, SocketAddr) = (port.parse()?, peer.parse()?);
    let (tag, chunk): (u32, Vec<u8>) = match kind {
        // Tag, window, streams out and in, first number: somebody begins anew.
        "init" => (0, [&[1, 0, 0, 20, 0xde, 0xad, 0xbe, 0xef, 0, 1, 0, 0, 0, 10, 0, 10][..], &[0, 0, 0, 7]].concat()),
        // With a tag that is a guess.
        "abort" => (0xdead_beef, vec![6, 0, 0, 4]),
        other => return Err(format!("{other:?} is neither init nor abort").into()),
    };
    let mut packet = [&source.to_be_bytes()[..], &peer.port().to_be_bytes(), &tag.to_be_bytes(), &[0; 4]].concat();
    packet.extend(chunk);
    let sum = crc32c(&packet).to_le_bytes();
    packet.splice(8..12, sum);
    let raw = socket(family(&peer), SocketType::RAW, Some(ipproto::SCTP))?;
    sendto(&raw, &packet, SendFlags::empty(), &SocketAddr::new(peer.ip(), 0))?;
    Ok(())
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_sctp() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
