//! Capture files, pcap and pcapng: packets with their timestamps and the interfaces that they arrived on.
//!
//! Own code, because a replay stands or falls with exact timestamps (pcapng gives each interface its own resolution),
//! and because a broken capture must be told with the packet and the byte where it breaks. Only Ethernet is understood.

mod read;
mod write;

use std::io;
use std::time::Duration;

pub use read::CaptureReader;
pub use write::{CaptureWriter, Format};

/// Magic number of pcap with microseconds, as the writer's byte order has it.
const PCAP_MICROS: u32 = 0xa1b2_c3d4;
/// Magic number of pcap with nanoseconds.
const PCAP_NANOS: u32 = 0xa1b2_3c4d;
/// pcapng block types.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// The byte-order mark in a pcapng section header.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// The link type of Ethernet.
const ETHERNET: u16 = 1;
/// No packet and no pcapng block is larger than this in a sane capture.
const MAX_BLOCK: u32 = 16 << 20;

/// How finely timestamps are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Microseconds, what most tools write.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// A packet of a capture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// When, since 1970.
    pub timestamp: Duration,
    /// Where it arrived: a number for [`CaptureReader::interface_name`].
    pub interface: usize,
    /// The bytes that were captured.
    pub data: Vec<u8>,
    /// How long the packet was; larger than `data` when the capture cut it off.
    pub original_length: u32,
}

/// Why a capture cannot be read on, and where.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error("reading failed at byte {offset}: {error}")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        error: io::Error,
    },
    /// It is no capture at all.
    #[error("not a pcap or pcapng file: it begins with {0}")]
    Unknown(String),
    /// It holds something else than Ethernet frames.
    #[error("the link type is {0}, not Ethernet (1){hint}", hint = link_type_hint(*.0))]
    LinkType(u16),
    /// It ends in the middle of something.
    #[error("the file ends at byte {offset}, inside packet {packet} (packets before it are whole)")]
    Truncated {
        /// The file's length.
        offset: u64,
        /// The packet that is cut off, counted from 1.
        packet: u64,
    },
    /// It says something impossible.
    #[error("corrupt at byte {offset}, after {packets} packets: {what}")]
    Corrupt {
        /// Where the record or block begins.
        offset: u64,
        /// How many packets came before it.
        packets: u64,
        /// What is wrong.
        what: String,
    },
}

fn link_type_hint(link_type: u16) -> &'static str {
    match link_type {
        113 | 276 => ": it was captured on all interfaces at once; capture on one, with tcpdump -i eth0",
        12 | 101 | 228 | 229 => ": it holds bare IP packets; capture on an Ethernet interface",
        _ => "; capture on an Ethernet interface",
    }
}

#[cfg(test)]
mod tests;
