//! What `ip route get` asks, many at once: the kernel's own answer to where a packet goes.
//!
//! A blocking socket of its own: the kernel answers within the call that asks, some hundred thousand questions a second.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

/// Questions in one call. Their answers must fit the socket's buffer, also those of routes with many ways.
const AT_ONCE: usize = 16;
/// Room for the answers.
const BUFFER: u32 = 4 << 20;
/// The longest answer: a route with a thousand ways.
const LONGEST: usize = 128 << 10;

/// A packet whose way is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) destination: IpAddr,
    pub(super) source: Option<IpAddr>,
    /// The ifindex that it arrives by; without one it is the machine's own.
    pub(super) input: Option<u32>,
    /// The ifindex that it has to leave by.
    pub(super) output: Option<u32>,
    /// The whole route that matches is wanted, and not one of its ways.
    pub(super) matching: bool,
}

impl Question {
    pub(super) fn to(destination: IpAddr) -> Self {
        Question { destination, source: None, input: None, output: None, matching: true }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let (family, length) = match self.destination {
            IpAddr::V4(_) => (AddressFamily::Inet, 32),
            IpAddr::V6(_) => (AddressFamily::Inet6, 128),
        };
        message.header.address_family = family;
        message.header.destination_prefix_length = length;
        message.attributes.push(RouteAttribute::Destination(self.destination.into()));
        if let Some(source) = self.source {
            message.header.source_prefix_length = length;
            message.attributes.push(RouteAttribute::Source(source.into()));
        }
        message.attributes.extend(self.input.map(RouteAttribute::Iif));
        message.attributes.extend(self.output.map(RouteAttribute::Oif));
        if self.matching {
            message.header.flags = RouteFlags::FibMatch;
        }
        message
    }
}

/// The route, or the error number that says why there is none.
pub(super) type Answer = Result<RouteMessage, i32>;

/// Asks the kernel of the network namespace that it was opened in.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
}

impl Asker {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Smaller than asked for is no failure: fewer answers would fit, and a lost one is an error that is tried again.
        let _ = socket.set_rx_buf_sz(BUFFER);
        // The answers are there when the call that asks is back.
        socket.set_non_blocking(true)?;
        Ok(Asker { socket, sequence: 0 })
    }

    /// The answers, in the order of the questions.
    pub(super) fn ask(&mut self, questions: &[Question]) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(questions.len());
        for some in questions.chunks(AT_ONCE) {
            let mut request = Vec::new();
            let first = self.sequence.wrapping_add(1);
            for question in some {
                self.sequence = self.sequence.wrapping_add(1);
                let mut header = NetlinkHeader::default();
                header.flags = NLM_F_REQUEST;
                header.sequence_number = self.sequence;
                let payload = NetlinkPayload::from(RouteNetlinkMessage::GetRoute(question.message()));
                let mut message = NetlinkMessage::new(header, payload);
                message.finalize();
                let at = request.len();
                request.resize(at + message.buffer_len().next_multiple_of(4), 0);
                message.serialize(request.get_mut(at..).unwrap_or_default());
            }
            self.socket.send(&request, 0)?;
            let mut got: Vec<Option<Answer>> = vec![None; some.len()];
            while got.iter().any(Option::is_none) {
                for (header, payload) in self.receive()? {
                    let place = header.sequence_number.wrapping_sub(first) as usize;
                    let Some(place) = got.get_mut(place) else { continue };
                    *place = match payload {
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => Some(Ok(route)),
                        NetlinkPayload::Error(error) => Some(Err(-error.raw_code())),
                        _ => continue,
                    };
                }
            }
            answers.extend(got.into_iter().flatten());
        }
        Ok(answers)
    }

    fn receive(&mut self) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)>> {
        let bytes = self.receive_bytes()?;
        let mut messages = Vec::new();
        for message in split(&bytes) {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(io::Error::other)?;
            messages.push(message.into_parts());
        }
        Ok(messages)
    }

    fn receive_bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(LONGEST);
        self.socket.recv(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// One link, by its ifindex; `None` when there is none.
    pub(super) fn link(&mut self, index: u32) -> io::Result<Option<LinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = LinkMessage::default();
        message.header.index = index;
        let mut header = NetlinkHeader::default();
        (header.flags, header.sequence_number) = (NLM_F_REQUEST, self.sequence);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(message)));
        message.finalize();
        let mut request = vec![0; message.buffer_len()];
        message.serialize(&mut request);
        self.socket.send(&request, 0)?;
        loop {
            for (header, payload) in self.receive()? {
                match payload {
                    _ if header.sequence_number != self.sequence => {}
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => return Ok(Some(link)),
                    NetlinkPayload::Error(error) if error.raw_code() == -Errno::NODEV.raw_os_error() => {
                        return Ok(None);
                    }
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// Every message of a dump, header included, of a kind that has no words here.
    pub(super) fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        const DONE: u16 = 3;
        const ERROR: u16 = 2;
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        request.extend((16 + body.len() as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0u32.to_ne_bytes());
        request.extend(body);
        self.socket.send(&request, 0)?;
        let mut all = Vec::new();
        loop {
            let bytes = self.receive_bytes()?;
            for message in split(&bytes) {
                match (word(message, 4), number(message, 8)) {
                    (_, Some(sequence)) if sequence != self.sequence => {}
                    (Some(DONE), _) => return Ok(all),
                    // A kernel that does not know what is asked for has none of it.
                    (Some(ERROR), _) => return Ok(Vec::new()),
                    _ => all.push(message.to_vec()),
                }
            }
        }
    }
}

/// The messages in what one call received.
pub(super) fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = number(bytes, 0)? as usize;
        let message = bytes.get(..length).filter(|message| message.len() >= 16)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A number of two bytes at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// A number of four bytes at `at`.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
