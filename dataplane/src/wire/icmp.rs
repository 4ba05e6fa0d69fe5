//! ICMP (RFC 792) and ICMPv6 (RFC 4443) headers.

use ringway_shared::{DropReason, Family};

use super::Kind;

/// Bytes of a header: type, code, checksum and the four bytes whose meaning the type gives.
pub const HEADER: usize = 8;
/// The offset of the checksum.
pub(crate) const CHECKSUM: usize = 2;
/// The protocol number of ICMP.
pub const V4: u8 = 1;
/// The protocol number of ICMPv6.
pub const V6: u8 = 58;

/// What a message asks of Ringway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A ping.
    EchoRequest,
    /// An error, which quotes the packet it is about.
    Error,
    /// IPv6 neighbour discovery: the kernel's, whomever it is about, if it comes from a neighbour.
    Discovery,
    /// Anything else.
    Other,
}

/// Judges the header at the start of `message`.
#[inline]
pub(super) fn parse(message: &[u8], family: Family) -> Result<Kind, DropReason> {
    let header = message.first_chunk::<HEADER>().ok_or(DropReason::TruncatedIcmp)?;
    let (icmp_type, code) = (header[0], header[1]);
    Ok(Kind::Icmp { class: class(icmp_type, code, family), icmp_type, code })
}

/// The class of a type in its family.
#[inline]
fn class(icmp_type: u8, code: u8, family: Family) -> Class {
    match (family, icmp_type) {
        (Family::V4, 8) | (Family::V6, 128) if code == 0 => Class::EchoRequest,
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        (Family::V4, 3 | 4 | 5 | 11 | 12) | (Family::V6, 0..128) => Class::Error,
        (Family::V6, 133..=137) => Class::Discovery,
        _ => Class::Other,
    }
}

/// Whether RFC 1122 3.2.2 or RFC 4443 2.4 forbid to answer a message of this type with an error. Unknown ICMP types are
/// among them, as in Linux: they may be errors of a later standard. So is an ICMPv6 redirect.
#[inline]
pub(crate) fn silences(icmp_type: u8, code: u8, family: Family) -> bool {
    class(icmp_type, code, family) == Class::Error
        || match family {
            Family::V4 => icmp_type > 18,
            Family::V6 => icmp_type == 137,
        }
}
