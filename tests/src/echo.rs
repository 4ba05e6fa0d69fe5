//! UDP for tests: a server that says who it is and whom it sees, and a client that asks.

use crate::netns::Namespace;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Answers every datagram with `NAME PEER-ADDRESS PEER-PORT PAYLOAD`.
#[derive(Debug)]
pub struct EchoServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl EchoServer {
    /// Starts one in a namespace, on all its addresses.
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> EchoServer {
        EchoServer::start_at(namespace, name, ([0_u16; 8], port).into())
    }

    /// Starts one on one address, which its answers come from.
    pub fn start_at(namespace: &Namespace, name: &str, address: SocketAddr) -> EchoServer {
        let socket = namespace
            .enter(|| UdpSocket::bind(address))
            .and_then(|socket| socket)
            .unwrap_or_else(|error| panic!("UDP {address} in {}: {error}", namespace.name()));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a read timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, name) = (Arc::clone(&stop), name.to_owned());
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while !seen.load(Ordering::Relaxed) {
                // A timeout, or an ICMP error about an earlier answer.
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                let payload = buffer.get(..length).unwrap_or_default();
                let mut answer = format!("{name} {} {} ", peer.ip().to_canonical(), peer.port()).into_bytes();
                answer.extend_from_slice(payload);
                let _ = socket.send_to(&answer, peer);
            }
            Ok(())
        });
        EchoServer { stop, thread: Some(thread) }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A UDP client in a namespace: one socket, so one five-tuple.
#[derive(Debug)]
pub struct EchoClient {
    socket: UdpSocket,
    server: SocketAddr,
}

impl EchoClient {
    /// Connects a new socket, so that only answers from `server` itself are taken.
    pub fn new(namespace: &Namespace, server: SocketAddr) -> EchoClient {
        let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
        let socket = namespace
            .enter(|| UdpSocket::bind(any).and_then(|socket| socket.connect(server).map(|()| socket)))
            .and_then(|socket| socket)
            .unwrap_or_else(|error| panic!("a UDP socket towards {server} in {}: {error}", namespace.name()));
        EchoClient { socket, server }
    }

    /// Sends one datagram and waits up to a second for the answer.
    pub fn ask(&self, payload: &[u8]) -> Result<Answer, String> {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).map_err(|error| error.to_string())?;
        self.socket.send(payload).map_err(|error| format!("sending to {}: {error}", self.server))?;
        let mut buffer = [0; 65_536];
        let length =
            self.socket.recv(&mut buffer).map_err(|error| format!("no answer from {}: {error}", self.server))?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let mut words = text.splitn(4, ' ');
        let mut word = || words.next().map(str::to_owned).ok_or_else(|| format!("an odd answer: {text}"));
        Ok(Answer { backend: word()?, client: word()?, port: word()?, payload: word()? })
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the backend that answered.
    pub backend: String,
    /// The client's address as the backend saw it.
    pub client: String,
    /// The client's port as the backend saw it.
    pub port: String,
    /// What had been asked (UDP only).
    pub payload: String,
}
