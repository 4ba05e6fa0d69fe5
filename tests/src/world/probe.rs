//! Many connections at once, and what became of each.

use super::{Place, World};
use ringway_shared::Protocol;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Connections under way at once in one place.
const WINDOW: usize = 48;

/// One connection that is to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where it is made.
    pub place: Place,
    /// The source address; each try takes a new port.
    pub source: IpAddr,
    /// Where it goes.
    pub destination: SocketAddr,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// An endpoint answered.
    Answered {
        /// Which one.
        endpoint: SocketAddr,
        /// The client's address as the endpoint saw it.
        seen: IpAddr,
    },
    /// An error said that nobody listens there: RST or port unreachable.
    Refused,
    /// An error said that there is no way. Only TCP tells; for UDP this is [`Outcome::Silent`].
    Unreachable,
    /// Nothing came back in time.
    Silent,
    /// Something else.
    Odd(String),
}

impl Outcome {
    fn of_error(errno: Errno) -> Outcome {
        match errno {
            Errno::CONNREFUSED => Outcome::Refused,
            Errno::NETUNREACH | Errno::HOSTUNREACH => Outcome::Unreachable,
            Errno::TIMEDOUT => Outcome::Silent,
            other => Outcome::Odd(other.to_string()),
        }
    }
}

impl World {
    /// Tries all of these, each place on its own thread; the outcomes are in their order. Who has not answered within
    /// `patience` is silent.
    pub fn probe(&self, probes: &[Probe], patience: Duration) -> Vec<Outcome> {
        let mut places: BTreeMap<Place, Vec<(usize, Probe, SocketAddr)>> = BTreeMap::new();
        for (index, probe) in probes.iter().enumerate() {
            places.entry(probe.place).or_default().push((index, *probe, self.source(probe.source)));
        }
        let mut outcomes = vec![Outcome::Silent; probes.len()];
        let found: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
            let threads: Vec<_> = places
                .into_iter()
                .map(|(place, probes)| {
                    let namespace = self.namespace(place);
                    scope.spawn(move || namespace.enter(|| run(&probes, patience)))
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic").expect("the namespace")).collect()
        });
        for (index, outcome) in found {
            outcomes[index] = outcome;
        }
        outcomes
    }
}

/// A connection under way.
struct Flight {
    index: usize,
    protocol: Protocol,
    socket: OwnedFd,
    connected: bool,
    deadline: Instant,
}

fn run(probes: &[(usize, Probe, SocketAddr)], patience: Duration) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    let mut flights: Vec<Flight> = Vec::new();
    let mut waiting = probes.iter();
    loop {
        while flights.len() < WINDOW
            && let Some((index, probe, source)) = waiting.next()
        {
            match open(probe, *source) {
                Ok(socket) => flights.push(Flight {
                    index: *index,
                    protocol: probe.protocol,
                    socket,
                    connected: probe.protocol == Protocol::Udp,
                    deadline: Instant::now() + patience,
                }),
                Err(errno) => outcomes.push((*index, Outcome::of_error(errno))),
            }
        }
        let Some(first) = flights.iter().map(|flight| flight.deadline).min() else { return outcomes };
        let left = first.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        let left = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let wanted = |flight: &Flight| if flight.connected { PollFlags::IN } else { PollFlags::OUT };
        let mut polled: Vec<_> = flights.iter().map(|flight| PollFd::new(&flight.socket, wanted(flight))).collect();
        let _ = poll(&mut polled, Some(&left));
        let ready: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        drop(polled);
        let now = Instant::now();
        let mut ready = ready.into_iter();
        flights.retain_mut(|flight| {
            let outcome = if ready.next() == Some(true) { advance(flight) } else { None };
            let outcome = outcome.or_else(|| (now >= flight.deadline).then_some(Outcome::Silent));
            let ends = outcome.is_some();
            outcomes.extend(outcome.map(|outcome| (flight.index, outcome)));
            !ends
        });
    }
}

fn open(probe: &Probe, source: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if probe.protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    bind(&socket, &source)?;
    match connect(&socket, &probe.destination) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    if probe.protocol == Protocol::Udp {
        match send(&socket, b"?", SendFlags::empty()) {
            // The node's own filter drops silently, and it rejects with an error that comes next.
            Ok(_) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(socket)
}

/// Takes a ready socket further; its outcome once it is known.
fn advance(flight: &mut Flight) -> Option<Outcome> {
    if !flight.connected {
        match socket_error(&flight.socket) {
            Ok(Ok(())) => flight.connected = true,
            Ok(Err(errno)) | Err(errno) => return Some(Outcome::of_error(errno)),
        }
    }
    let mut buffer = [0; 256];
    match recv(&flight.socket, &mut buffer, RecvFlags::empty()) {
        Ok((_, 0)) => Some(Outcome::Odd("closed without an answer".into())),
        Ok((_, length)) => Some(read(&String::from_utf8_lossy(&buffer[..length]))),
        Err(Errno::AGAIN) => None,
        // A way that is closed to UDP is reported late or never, depending on the error.
        Err(Errno::NETUNREACH | Errno::HOSTUNREACH) if flight.protocol == Protocol::Udp => Some(Outcome::Silent),
        Err(errno) => Some(Outcome::of_error(errno)),
    }
}

fn read(text: &str) -> Outcome {
    let mut words = text.split_whitespace().map(str::parse::<SocketAddr>);
    match (words.next(), words.next()) {
        (Some(Ok(endpoint)), Some(Ok(seen))) => Outcome::Answered { endpoint, seen: seen.ip() },
        _ => Outcome::Odd(format!("an odd answer: {text}")),
    }
}

/// A connection that stays open and asks again and again.
#[derive(Debug)]
pub struct Held {
    probe: Probe,
    socket: OwnedFd,
    endpoint: SocketAddr,
}

impl World {
    /// Opens a connection that stays.
    pub fn hold(&self, probe: Probe) -> Result<Held, Outcome> {
        let source = self.source(probe.source);
        let opened = self.namespace(probe.place).enter(|| {
            let deadline = Instant::now() + ANSWER;
            let socket = open(&probe, source).map_err(Outcome::of_error)?;
            let connected = probe.protocol == Protocol::Udp;
            let mut flight = Flight { index: 0, protocol: probe.protocol, socket, connected, deadline };
            let outcome = answer(&mut flight);
            Ok((flight.socket, outcome))
        });
        match opened.unwrap_or_else(|error| panic!("{error}"))? {
            (socket, Outcome::Answered { endpoint, .. }) => Ok(Held { probe, socket, endpoint }),
            (_, other) => Err(other),
        }
    }
}

/// How long a held connection waits for an answer: TCP may have to send again.
const ANSWER: Duration = Duration::from_secs(5);

impl Held {
    /// Who answers it.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Asks once more. It is an error when there is no answer, or one of another endpoint.
    pub fn ask(&self) -> Result<(), String> {
        let Probe { protocol, source, destination, .. } = self.probe;
        let what = format!("{protocol:?} {source} -> {destination}, held by {}", self.endpoint);
        send(&self.socket, b"?", SendFlags::NOSIGNAL).map_err(|errno| format!("{what}: {errno}"))?;
        let socket = self.socket.try_clone().map_err(|error| format!("{what}: {error}"))?;
        let deadline = Instant::now() + ANSWER;
        match answer(&mut Flight { index: 0, protocol, socket, connected: true, deadline }) {
            Outcome::Answered { endpoint, .. } if endpoint == self.endpoint => Ok(()),
            other => Err(format!("{what}: {other:?}")),
        }
    }
}

/// Waits for the answer on one socket.
fn answer(flight: &mut Flight) -> Outcome {
    let pause = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    while Instant::now() < flight.deadline {
        let wanted = if flight.connected { PollFlags::IN } else { PollFlags::OUT };
        let ready = poll(&mut [PollFd::new(&flight.socket, wanted)], Some(&pause));
        if matches!(ready, Ok(count) if count > 0)
            && let Some(outcome) = advance(flight)
        {
            return outcome;
        }
    }
    Outcome::Silent
}
