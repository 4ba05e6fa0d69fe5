//! Generic netlink: families of questions that the kernel's parts have, each with a number that is asked for by name.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::packet_core::{DefaultNla, NLM_F_ACK, NLM_F_REQUEST};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use super::attributes::{self, Attributes};
use crate::network::questions::{number, split, word};

/// The family that knows the others.
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FAMILY_OPERATIONS: u16 = 6;
const FAMILY_GROUPS: u16 = 7;
const OPERATION_ID: u16 = 1;
const GROUP_NAME: u16 = 1;
const GROUP_ID: u16 = 2;

const ERROR: u16 = 2;
const ERROR_TEXT: u16 = 1;
/// A netlink header; behind it the command, a version, and two bytes that mean nothing.
const HEADER: usize = 16;
pub(super) const BODY: usize = HEADER + 4;
/// What an error repeats of the question.
const REPEATED: usize = HEADER + 4 + HEADER;
/// No answer is longer.
const LONGEST: usize = 1 << 20;

/// A family of questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Family {
    /// Its number on this machine.
    pub(super) id: u16,
    /// The commands that this kernel knows.
    commands: BTreeSet<u32>,
    /// Its multicast groups by name.
    groups: Vec<(String, u32)>,
}

impl Family {
    pub(super) fn knows(&self, command: u8) -> bool {
        self.commands.contains(&u32::from(command))
    }

    pub(super) fn group(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(other, _)| other == name).map(|(_, id)| *id)
    }
}

/// What the kernel refused: its error number, and its words if it has any.
#[derive(Debug)]
pub(super) enum Refusal {
    Errno(i32, Option<String>),
    Socket(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Refusal::Socket(error)
    }
}

/// A socket for questions.
pub(super) struct Asker {
    socket: Socket,
    sequence: u32,
}

impl Asker {
    /// Opens it in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The answers are there when the call that asks is back.
        socket.set_non_blocking(true)?;
        // Errors with the kernel's words and without our question; an old kernel that has neither is understood, too.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Asker { socket, sequence: 0 })
    }

    /// The family of this name; `None` where the kernel has none.
    pub(super) fn family(&mut self, name: &str) -> io::Result<Option<Family>> {
        match self.ask(CONTROLLER, GET_FAMILY, &[attributes::text(FAMILY_NAME, name)]) {
            Ok(answer) => Ok(family(Attributes(&answer))),
            Err(Refusal::Errno(..)) => Ok(None),
            Err(Refusal::Socket(error)) => Err(error),
        }
    }

    /// The attributes of the one answer to a question.
    pub(super) fn ask(&mut self, family: u16, command: u8, question: &[DefaultNla]) -> Result<Vec<u8>, Refusal> {
        self.send(family, command, question, NLM_F_REQUEST)?;
        self.receive(false)
    }

    /// Tells the kernel something.
    pub(super) fn tell(&mut self, family: u16, command: u8, what: &[DefaultNla]) -> Result<(), Refusal> {
        self.send(family, command, what, NLM_F_REQUEST | NLM_F_ACK)?;
        self.receive(true).map(|_| ())
    }

    fn send(&mut self, family: u16, command: u8, attributes: &[DefaultNla], flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let attributes = attributes::bytes(attributes);
        let mut request = Vec::with_capacity(BODY + attributes.len());
        request.extend(((BODY + attributes.len()) as u32).to_ne_bytes());
        request.extend(family.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend(0u32.to_ne_bytes());
        request.extend([command, 1, 0, 0]);
        request.extend(attributes);
        self.socket.send(&request, 0).map(|_| ())
    }

    fn receive(&mut self, until_ack: bool) -> Result<Vec<u8>, Refusal> {
        loop {
            let mut bytes = Vec::with_capacity(LONGEST);
            self.socket.recv(&mut bytes, 0)?;
            for message in split(&bytes) {
                if number(message, 8) != Some(self.sequence) {
                    continue;
                }
                match (word(message, 4), number(message, HEADER)) {
                    (Some(ERROR), Some(0)) => return Ok(Vec::new()),
                    (Some(ERROR), Some(error)) => {
                        let told = Attributes(message.get(REPEATED..).unwrap_or_default()).text(ERROR_TEXT);
                        return Err(Refusal::Errno((error as i32).wrapping_neg(), told));
                    }
                    _ if until_ack => {}
                    _ => return Ok(message.get(BODY..).unwrap_or_default().to_vec()),
                }
            }
        }
    }
}

/// The family that an answer describes.
fn family(answer: Attributes<'_>) -> Option<Family> {
    let inside = |kind| answer.nested(kind).iter().map(|(_, one)| Attributes(one));
    let groups = inside(FAMILY_GROUPS).filter_map(|group| Some((group.text(GROUP_NAME)?, group.u32(GROUP_ID)?)));
    let commands = inside(FAMILY_OPERATIONS).filter_map(|operation| operation.u32(OPERATION_ID));
    Some(Family { id: answer.u16(FAMILY_ID)?, commands: commands.collect(), groups: groups.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_its_families_and_what_it_does_not_know() {
        let mut asker = Asker::open().unwrap();
        let ethtool = asker.family("ethtool").unwrap().unwrap();
        assert!(ethtool.id > CONTROLLER && ethtool.knows(1) && !ethtool.knows(250), "{ethtool:?}");
        assert!(ethtool.group("monitor").is_some() && ethtool.group("rwnosuch").is_none(), "{ethtool:?}");
        assert!(asker.family("rwnosuch").unwrap().is_none());
        let refused = asker.ask(ethtool.id, 250, &[]).unwrap_err();
        assert!(matches!(refused, Refusal::Errno(95, _)), "{refused:?}");
    }
}
