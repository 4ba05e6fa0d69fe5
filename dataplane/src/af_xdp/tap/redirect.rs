//! What comes in by the TAP device goes on as if the NIC had received it: rules that name the NIC (firewall, `ip rule iif`, VRF,
//! sockets bound to it, its reverse path filter) see it as they would without Ringway.
//!
//! A filter of traffic control at the device's ingress does it, with the action `mirred`. That marks packets, and generic XDP
//! leaves alone what is marked (`skb_is_redirected` in net/core/dev.c, since Linux 4.18), so the steering program does not see them
//! again; native XDP is long past.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

use crate::af_xdp::device::Device;

/// Messages and their flags (linux/netlink.h, linux/rtnetlink.h).
const NEW_QDISC: u16 = 36;
const NEW_FILTER: u16 = 44;
const ERROR: u16 = 2;
/// A request that wants an answer, and makes what is not there yet.
const MAKE: u16 = 0x1 | 0x4 | 0x200 | 0x400;
const HEADER: usize = 16;

/// Where packets come in (linux/pkt_sched.h).
const INGRESS: u32 = 0xffff_fff1;
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// The filters there, whoever made the queueing discipline: `ingress` or `clsact`.
const INGRESS_FILTERS: u32 = 0xffff_fff2;
/// The first priority, every protocol (ETH_P_ALL in network byte order).
const FIRST_OF_ALL: u32 = 1 << 16 | (3_u16.to_be() as u32);

/// Attributes (linux/rtnetlink.h, linux/pkt_cls.h, linux/tc_act/tc_mirred.h).
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
const NESTED: u16 = 0x8000;
const MATCHALL_ACTIONS: u16 = 2;
const U32_SELECTOR: u16 = 5;
const U32_ACTIONS: u16 = 7;
const MIRRED_PARAMETERS: u16 = 2;
const STOLEN: u32 = 4;
const TO_INGRESS: u32 = 3;

/// The handles of the filter, so that a second one is none.
const MATCHALL_HANDLE: u32 = 1;
const U32_HANDLE: u32 = 0x8000_0800;

/// The kind of filter that redirects. Kernels that are built for little have one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    Matchall,
    U32,
}

impl Filter {
    /// Has what comes in by `from` go on as if it had come in by `to`: with the first kind that the kernel has. An error says why it
    /// has none.
    pub(super) fn make(from: &Device, to: &Device) -> Result<Filter, Errno> {
        let by = |filter: Filter| filter.keep(from, to).map(|_| filter);
        by(Filter::Matchall).or_else(|errno| by(Filter::U32).map_err(|_| errno))
    }

    /// Makes this one where it is missing; whether it was. A kind that the kernel does not have is not to be asked for again and
    /// again: each time it looks for a module.
    pub(super) fn keep(self, from: &Device, to: &Device) -> Result<bool, Errno> {
        made(&message(NEW_QDISC, from, INGRESS_HANDLE, INGRESS, 0, |message| attribute(message, KIND, b"ingress\0")))?;
        made(&self.message(from, to))
    }

    fn message(self, from: &Device, to: &Device) -> Vec<u8> {
        let handle = match self {
            Filter::Matchall => MATCHALL_HANDLE,
            Filter::U32 => U32_HANDLE,
        };
        message(NEW_FILTER, from, handle, INGRESS_FILTERS, FIRST_OF_ALL, |message| match self {
            Filter::Matchall => {
                attribute(message, KIND, b"matchall\0");
                nest(message, OPTIONS, |message| actions(message, MATCHALL_ACTIONS, to));
            }
            Filter::U32 => {
                attribute(message, KIND, b"u32\0");
                nest(message, OPTIONS, |message| {
                    attribute(message, U32_SELECTOR, &every_packet());
                    actions(message, U32_ACTIONS, to);
                });
            }
        })
    }
}

/// `struct tc_u32_sel` with a key that all fit: one without bits.
fn every_packet() -> [u8; 32] {
    let (mut selector, terminal, keys) = ([0; 32], 1, 1);
    selector[0] = terminal;
    selector[2] = keys;
    selector
}

/// One action: `struct tc_mirred`, whose first five words are those of every action.
fn actions(message: &mut Vec<u8>, kind: u16, to: &Device) {
    let parameters: Vec<u8> =
        [0, 0, STOLEN, 0, 0, TO_INGRESS, to.index].iter().flat_map(|word| word.to_ne_bytes()).collect();
    nest(message, kind, |message| {
        let first = 1;
        nest(message, first, |message| {
            attribute(message, KIND, b"mirred\0");
            nest(message, OPTIONS, |message| attribute(message, MIRRED_PARAMETERS, &parameters));
        });
    });
}

/// A message about traffic control of a device: `struct nlmsghdr`, `struct tcmsg`, attributes.
fn message(
    kind: u16,
    device: &Device,
    handle: u32,
    parent: u32,
    info: u32,
    attributes: impl FnOnce(&mut Vec<u8>),
) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(kind.to_ne_bytes().into_iter().chain(MAKE.to_ne_bytes()));
    let (sequence, port, any_family) = (1_u32, 0, 0);
    for word in [sequence, port, any_family, device.index, handle, parent, info] {
        message.extend(word.to_ne_bytes());
    }
    attributes(&mut message);
    let length = message.len() as u32;
    message.splice(..4, length.to_ne_bytes());
    message
}

fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend((4 + value.len() as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn nest(message: &mut Vec<u8>, kind: u16, inner: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    inner(&mut value);
    attribute(message, kind | NESTED, &value);
}

/// Sends a message; whether it made something, or that was there.
fn made(message: &[u8]) -> Result<bool, Errno> {
    // The first protocol of that family is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    // A socket without an address sends to the kernel.
    send(&socket, message, SendFlags::empty())?;
    let mut answer = [0; 4096];
    loop {
        let (_, length) = recv(&socket, &mut answer, RecvFlags::empty())?;
        let answer = answer.get(..length).unwrap_or_default();
        let field = |at: usize| answer.get(at..).and_then(|rest| rest.first_chunk());
        if answer.get(4..).and_then(|rest| rest.first_chunk()).copied().map(u16::from_ne_bytes) != Some(ERROR) {
            continue;
        }
        return match field(HEADER).copied().map(i32::from_ne_bytes) {
            Some(0) => Ok(true),
            Some(code) if Errno::from_raw_os_error(-code) == Errno::EXIST => Ok(false),
            Some(code) => Err(Errno::from_raw_os_error(-code)),
            None => Err(Errno::PROTO),
        };
    }
}
