//! A client's port that is used through a VIP and straight to the same backend at once: both connections work, whichever
//! comes first, and also after the first has ended.

use ringway_tests::can_run;
use ringway_tests::netns::Namespace;
use ringway_tests::topology::{Bed, CLUSTER_IPS, ECHO, HTTP, Options, at};
use rustix::net::sockopt::{Timeout, set_socket_reuseaddr, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, recv, send, socket_with};
use rustix::net::{RecvFlags, SendFlags};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A connection from a port that another may have too.
struct Connection {
    socket: rustix::fd::OwnedFd,
    tcp: bool,
    what: String,
}

impl Connection {
    #[track_caller]
    fn open(client: &Namespace, port: u16, server: SocketAddr, tcp: bool) -> Connection {
        let what = format!("{} from port {port} to {server}", if tcp { "TCP" } else { "UDP" });
        let own = SocketAddr::new(["192.168.0.1", "fd00:168::1"][usize::from(server.is_ipv6())].parse().unwrap(), port);
        let open = || {
            let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let kind = if tcp { SocketType::STREAM } else { SocketType::DGRAM };
            let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
            set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &own)?;
            for way in [Timeout::Send, Timeout::Recv] {
                set_socket_timeout(&socket, way, Some(Duration::from_secs(5)))?;
            }
            connect(&socket, &server)?;
            Ok::<_, rustix::io::Errno>(socket)
        };
        let socket = client.enter(open).expect("the namespace").unwrap_or_else(|error| panic!("{what}: {error}"));
        Connection { socket, tcp, what }
    }

    /// Asks who is seen: the port that the backend knows this connection by.
    #[track_caller]
    fn ask(&self) -> u16 {
        let question: &[u8] = if self.tcp { b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" } else { b"?" };
        send(&self.socket, question, SendFlags::NOSIGNAL).unwrap_or_else(|error| panic!("{}: {error}", self.what));
        let mut bytes = [0; 4096];
        let (length, _) =
            recv(&self.socket, &mut bytes, RecvFlags::empty()).unwrap_or_else(|error| panic!("{}: {error}", self.what));
        let text = String::from_utf8_lossy(&bytes[..length]);
        let words: Vec<&str> = text.lines().last().unwrap_or_default().split_whitespace().collect();
        assert_eq!(words.first(), Some(&"backend0"), "{}: {text}", self.what);
        words[2].parse().unwrap_or_else(|_| panic!("{}: {text}", self.what))
    }
}

fn both_work(queues: u32, tcp: bool) {
    if !can_run("a port used through a VIP and straight", &["ip", "nginx", "curl"]) {
        return;
    }
    let mut bed = Bed::start(Options { queues, backends: 1, ..Options::default() });
    let mut next = 40_000;
    for (family, vip) in CLUSTER_IPS.into_iter().enumerate() {
        let backend: IpAddr = bed.backend_ip(0, family == 1);
        let (through, straight) = match tcp {
            true => (at(vip, HTTP.port), SocketAddr::new(backend, HTTP.target)),
            false => (at(vip, ECHO.port), SocketAddr::new(backend, ECHO.target)),
        };
        for _ in 0..4 {
            for order in [[through, straight], [straight, through]] {
                next += 1;
                let first = Connection::open(&bed.client, next, order[0], tcp);
                assert_eq!(first.ask(), next, "{}: nobody else has this port", first.what);
                let second = Connection::open(&bed.client, next, order[1], tcp);
                let moved = second.ask();
                assert_ne!(moved, next, "{}: the backend would mistake it for the first", second.what);
                for _ in 0..3 {
                    assert_eq!((first.ask(), second.ask()), (next, moved));
                }
                drop(first);
                // Who came second goes on, and a third is as good as the first.
                assert_eq!(second.ask(), moved);
                drop(second);
                let third = Connection::open(&bed.client, next + 1000, order[1], tcp);
                third.ask();
                third.ask();
            }
            // One after the other, with nothing open any more.
            next += 1;
            Connection::open(&bed.client, next, through, tcp).ask();
            let after = Connection::open(&bed.client, next, straight, tcp);
            after.ask();
            after.ask();
        }
    }
    let ledger = bed.ledger();
    assert_eq!(ledger.dropped(), 0, "{ledger:?}");
    assert!(ledger.passed > 0, "{ledger:?}");
}

#[test]
fn tcp() {
    both_work(1, true);
}

#[test]
fn udp() {
    both_work(1, false);
}

#[test]
fn tcp_with_two_workers() {
    both_work(2, true);
}

#[test]
fn udp_with_two_workers() {
    both_work(2, false);
}
