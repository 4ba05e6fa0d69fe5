//! What a pod runs: on each of its ports, TCP and UDP, it says which endpoint it is and whom it sees. A TCP connection is
//! told so when it opens and for everything it sends, until the client closes it.

use crate::netns::Namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// The servers of one pod, on one thread.
#[derive(Debug)]
pub(super) struct PodServer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PodServer {
    pub(super) fn start(namespace: &Namespace, addresses: [IpAddr; 2], ports: &[u16]) -> PodServer {
        let open = || {
            let tcp: std::io::Result<Vec<_>> = ports.iter().map(|port| TcpListener::bind(("::", *port))).collect();
            let udp: std::io::Result<Vec<_>> = ports.iter().map(|port| UdpSocket::bind(("::", *port))).collect();
            Ok::<_, std::io::Error>((tcp?, udp?))
        };
        let sockets = namespace.enter(open).and_then(|sockets| sockets);
        let (tcp, udp) = sockets.unwrap_or_else(|error| panic!("servers in {}: {error}", namespace.name()));
        tcp.iter().for_each(|socket| socket.set_nonblocking(true).expect("not blocking"));
        udp.iter().for_each(|socket| socket.set_nonblocking(true).expect("not blocking"));
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&tcp, &udp, addresses, &seen));
        PodServer { stop, thread: Some(thread) }
    }
}

impl Drop for PodServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(tcp: &[TcpListener], udp: &[UdpSocket], addresses: [IpAddr; 2], stop: &AtomicBool) {
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    let mut streams: Vec<(TcpStream, String)> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut waiting: Vec<PollFd<'_>> = tcp.iter().map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
        waiting.extend(udp.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        waiting.extend(streams.iter().map(|(stream, _)| PollFd::new(stream, PollFlags::IN)));
        if !matches!(poll(&mut waiting, Some(&pause)), Ok(ready) if ready > 0) {
            continue;
        }
        streams.retain_mut(|(stream, answer)| {
            let mut buffer = [0; 64];
            match stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(_) => stream.write_all(answer.as_bytes()).is_ok(),
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            }
        });
        for listener in tcp {
            while let Ok((mut stream, peer)) = listener.accept() {
                let port = listener.local_addr().map_or(0, |local| local.port());
                let answer = answer(addresses, port, peer);
                // A client that has gone is none of our business.
                if stream.write_all(answer.as_bytes()).and_then(|()| stream.set_nonblocking(true)).is_ok() {
                    streams.push((stream, answer));
                }
            }
        }
        for socket in udp {
            let mut buffer = [0; 16];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let port = socket.local_addr().map_or(0, |local| local.port());
                let _ = socket.send_to(answer(addresses, port, peer).as_bytes(), peer);
            }
        }
    }
}

/// `ENDPOINT PEER`, a line.
fn answer(addresses: [IpAddr; 2], port: u16, peer: SocketAddr) -> String {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let own = SocketAddr::new(addresses[usize::from(peer.is_ipv6())], port);
    format!("{own} {peer}\n")
}
