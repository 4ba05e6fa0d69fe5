//! Next hop objects (`ip nexthop`), which routes can name instead of saying where they lead.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use rtnetlink::MulticastGroup;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::questions::{Asker, number, word};
use super::routes::NextHop;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_GETNEXTHOP: u16 = 106;
// The attributes of a message.
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const NHA_ENCAP_TYPE: u16 = 7;
/// The netlink header and `struct nhmsg`.
const BODY: usize = 16 + 8;

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Object {
    One(NextHop),
    /// Others, with their weights.
    Group(Vec<(u32, u16)>),
    Nowhere,
}

/// All of them by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NextHopObjects(HashMap<u32, Object>);

impl NextHopObjects {
    /// Those that the kernel has now.
    pub(super) fn read(asker: &mut Asker) -> io::Result<Self> {
        let messages = asker.dump(RTM_GETNEXTHOP, &[0; 8])?;
        Ok(NextHopObjects(messages.iter().filter_map(|message| parse(message)).collect()))
    }

    /// The ways that an object stands for: none if it leads nowhere.
    pub(super) fn ways(&self, number: u32) -> Vec<NextHop> {
        match self.0.get(&number) {
            None | Some(Object::Nowhere) => Vec::new(),
            Some(Object::One(way)) => vec![way.clone()],
            Some(Object::Group(members)) => {
                let one = |(number, weight): &(u32, u16)| match self.0.get(number)? {
                    Object::One(way) => Some(NextHop { weight: *weight, ..way.clone() }),
                    // Groups have no groups in them.
                    Object::Group(_) | Object::Nowhere => None,
                };
                members.iter().filter_map(one).collect()
            }
        }
    }
}

/// Hears of changes. Of what changed nothing is understood: everything is read again.
pub(super) struct Changes(TokioSocket);

impl Changes {
    /// From here on no change is missed.
    pub(super) fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        // A kernel without such objects has no such group either, and nothing to hear.
        let _ = socket.socket_mut().add_membership(MulticastGroup::Nexthop as u32);
        Ok(Changes(socket))
    }

    /// Waits for a change; also when some were lost.
    pub(super) async fn next(&mut self) {
        let _ = self.0.recv_from_full().await;
    }
}

fn parse(message: &[u8]) -> Option<(u32, Object)> {
    const RTNH_F_DEAD: u32 = 1;
    const RTNH_F_LINKDOWN: u32 = 16;
    if word(message, 4)? != RTM_NEWNEXTHOP {
        return None;
    }
    let dead = number(message, 16 + 4)? & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0;
    let mut way = NextHop { dead, ..NextHop::default() };
    let (mut id, mut group, mut nowhere) = (None, None, false);
    let mut rest = message.get(BODY..)?;
    while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        match kind {
            NHA_ID => id = number(value, 0),
            NHA_GROUP => {
                let member = |entry: &[u8]| {
                    let weight = u16::from(*entry.get(4)?) | u16::from(*entry.get(5)?) << 8;
                    Some((number(entry, 0)?, weight.saturating_add(1)))
                };
                group = Some(value.chunks_exact(8).filter_map(member).collect());
            }
            NHA_BLACKHOLE => nowhere = true,
            NHA_OIF => way.link = number(value, 0)?,
            NHA_GATEWAY => way.via = gateway(value),
            NHA_ENCAP_TYPE => way.encapsulated = true,
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let object = match group {
        Some(members) => Object::Group(members),
        None if nowhere => Object::Nowhere,
        None => Object::One(way),
    };
    Some((id?, object))
}

fn gateway(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}
