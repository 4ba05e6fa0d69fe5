//! Very many TCP connections at once: `ringway-connections SERVER COUNT FILE ADDRESS...` opens COUNT from each address, says
//! `connected`, waits until FILE is there, then says something different on each and wants it back; `answered`. A process of
//! its own, since a process may have only so many files open.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The first port of each address.
const FIRST_PORT: u16 = 10_000;

/// Connections that wait for their answers at once: with a few packets for each of them no queue on the way is full, however
/// long one of its readers gets no CPU.
const AHEAD: usize = 256;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, count, file, addresses @ ..] = &*arguments else {
        eprintln!("usage: ringway-connections SERVER COUNT FILE ADDRESS...");
        return ExitCode::from(2);
    };
    match run(server, count, file.as_ref(), addresses) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-connections: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(server: &str, count: &str, file: &Path, addresses: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let (server, count): (SocketAddr, u16) = (server.parse()?, count.parse()?);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let mut connections = Vec::new();
    for address in addresses {
        let address: IpAddr = address.parse()?;
        for port in FIRST_PORT..FIRST_PORT + count {
            let from = SocketAddr::new(address, port);
            connections.push(open(from, server).map_err(|error| format!("{from}: {error}"))?);
        }
    }
    println!("connected");
    while !file.exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    for next in 0..connections.len() + AHEAD {
        if let Some(connection) = connections.get_mut(next) {
            connection.write_all(&(next as u32).to_be_bytes())?;
        }
        let Some(number) = next.checked_sub(AHEAD) else { continue };
        let Some(connection) = connections.get_mut(number) else { continue };
        let mut word = [0; 4];
        connection.read_exact(&mut word).map_err(|error| format!("connection {number}: {error}"))?;
        if word != (number as u32).to_be_bytes() {
            return Err(format!("connection {number} got {word:?} back").into());
        }
    }
    println!("answered");
    Ok(())
}

fn open(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(socket.into())
}
