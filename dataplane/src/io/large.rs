//! Large packets: what a sender's or a NIC's offload merged, cut to packets that a link carries.
//!
//! In generic mode the kernel delivers TCP as its offloads left it: up to 64 KiB in one packet, spread over several
//! descriptors. A worker knows no such packets, so the port cuts them here. The size that the sender had cut to is not
//! known any more; pieces of at most [`PIECE`] bytes get through everywhere.
//!
//! Refused, and counted: anything but TCP directly in IPv4 or IPv6, because datagrams cannot be cut without knowing
//! where; fragments; a TCP checksum that is wrong; packets of more than [`CHAIN`] chunks or 64 KiB.

use arrayvec::ArrayVec;
use ringway_shared::{FiveTuple, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::af_xdp::rings::{CONTINUES, Descriptor};
use crate::af_xdp::umem::Holder;
use crate::af_xdp::{Frame, Umem};
use crate::wire::{checksum, vlan};

/// The largest IP packet that pieces become, MTU permitting: what every IPv6 link carries, and in practice every IPv4 link.
pub(super) const PIECE: u32 = 1280;

/// The most descriptors one packet may have: 64 KiB in chunks of 1792 bytes, and some.
const CHAIN: usize = 48;

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const TCP: usize = 20;
/// Ethernet with a tag, IPv4 with options, TCP with options.
const LONGEST_HEADERS: usize = ETHERNET + vlan::TAG + 60 + 60;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// What became of descriptors.
#[derive(Debug)]
pub(super) enum Gathered {
    /// More is to come, or pieces are ready.
    Taken,
    /// It is larger than the link's packets, but one frame holds it and it cannot be cut: it goes on as it is.
    Whole(Frame),
    /// It cannot be cut; this many chunks were freed.
    Refused(u32),
}

/// A large packet on its way to pieces. Its chunks stay the port's.
#[derive(Debug)]
pub(super) struct Large {
    holder: Holder,
    /// The largest IP packet that a piece becomes.
    piece: usize,
    chain: ArrayVec<Descriptor, CHAIN>,
    /// The packet has more descriptors than `chain` takes: they are freed as they come.
    is_too_long: bool,
    cut: Option<Cut>,
}

/// How a packet is cut.
#[derive(Debug)]
struct Cut {
    headers: ArrayVec<u8, LONGEST_HEADERS>,
    /// Where the IP header starts: behind the tag, when there is one.
    ip: usize,
    /// Where the TCP header starts.
    tcp: usize,
    tuple: FiveTuple,
    /// Payload bytes in all, and those already in pieces.
    payload: usize,
    done: usize,
    /// Pieces made.
    pieces: u16,
    /// Where the next payload byte is: the place in the chain, and the offset in that descriptor's bytes.
    place: usize,
    offset: usize,
}

impl Large {
    pub(super) fn new(holder: Holder, piece: u32) -> Self {
        Large { holder, piece: piece as usize, chain: ArrayVec::new(), is_too_long: false, cut: None }
    }

    /// Whether a packet is being gathered or cut.
    #[inline]
    pub(super) fn is_busy(&self) -> bool {
        !self.chain.is_empty() || self.is_too_long
    }

    /// Adds the next descriptor of a large packet.
    #[cold]
    pub(super) fn gather(&mut self, umem: &mut Umem, descriptor: Descriptor) -> Gathered {
        let ends = descriptor.options & CONTINUES == 0;
        if self.is_too_long || self.chain.try_push(descriptor).is_err() {
            umem.complete(descriptor.address);
            self.is_too_long = !ends;
            return Gathered::Refused(1 + self.free(umem));
        }
        if !ends {
            return Gathered::Taken;
        }
        self.cut = self.plan(umem);
        if self.cut.is_some() {
            return Gathered::Taken;
        }
        if self.chain.len() == 1 {
            self.chain.clear();
            if let Some(frame) = umem.adopt(descriptor.address, descriptor.length) {
                return Gathered::Whole(frame);
            }
        }
        Gathered::Refused(self.free(umem))
    }

    /// Frees the chain; how many chunks.
    fn free(&mut self, umem: &mut Umem) -> u32 {
        self.cut = None;
        let count = self.chain.len() as u32;
        for descriptor in self.chain.drain(..) {
            umem.complete(descriptor.address);
        }
        count
    }

    /// The next piece, and how many chunks became free: all when it is the last. `Err` when there is no piece to be had:
    /// with chunks freed, the UMEM is exhausted and the rest of the packet lost; with none, no packet is complete.
    #[cold]
    pub(super) fn next(&mut self, umem: &mut Umem) -> Result<(Frame, u32), u32> {
        if self.cut.is_none() {
            return Err(0);
        }
        let Some(mut frame) = umem.allocate() else { return Err(self.free(umem)) };
        match self.write_piece(umem, &mut frame) {
            Some(true) => Ok((frame, self.free(umem))),
            Some(false) => Ok((frame, 0)),
            None => {
                umem.free(frame);
                Err(self.free(umem))
            }
        }
    }

    /// Writes the next piece; whether it is the last.
    fn write_piece(&mut self, umem: &mut Umem, frame: &mut Frame) -> Option<bool> {
        let cut = self.cut.as_mut()?;
        let headers = cut.headers.len();
        let size = (self.piece + cut.ip).saturating_sub(headers).min(cut.payload - cut.done);
        if size == 0 || !umem.resize(frame, headers + size) {
            return None;
        }
        let mut written = headers;
        while written < headers + size {
            let descriptor = *self.chain.get(cut.place)?;
            let source = umem.adopt(descriptor.address, descriptor.length)?;
            let (from, to) = umem.packet_pair(&source, frame);
            let from = from.get(cut.offset..).unwrap_or_default();
            let to = to.get_mut(written..).unwrap_or_default();
            let count = from.len().min(to.len());
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
            let is_used_up = count == from.len();
            let _ = umem.hand_to(source, self.holder);
            written += count;
            (cut.place, cut.offset) = if is_used_up { (cut.place + 1, 0) } else { (cut.place, cut.offset + count) };
        }
        let is_first = cut.done == 0;
        let is_last = cut.done + size == cut.payload;
        cut.write_headers(umem.packet_mut(frame), size, is_first, is_last)?;
        cut.done += size;
        cut.pieces = cut.pieces.wrapping_add(1);
        Some(is_last)
    }

    /// Reads the headers and judges whether the packet can be cut.
    fn plan(&self, umem: &mut Umem) -> Option<Cut> {
        let total: usize = self.chain.iter().map(|descriptor| descriptor.length as usize).sum();
        let first = *self.chain.first()?;
        let frame = umem.adopt(first.address, first.length)?;
        let cut = Cut::of(umem.packet(&frame), total);
        let _ = umem.hand_to(frame, self.holder);
        let cut = cut?;
        let end = cut.headers.len() + cut.payload;
        let stored = read_u16(&cut.headers, cut.tcp + 16)?;
        let pseudo = checksum::pseudo_header(&cut.tuple, Protocol::Tcp.number(), (end - cut.tcp) as u16);
        (stored == pseudo || self.sum(umem, cut.tcp, end, pseudo) == 0xffff).then_some(cut)
    }

    /// The folded sum of the packet's bytes from `start` to `end`, added to `initial`.
    fn sum(&self, umem: &mut Umem, start: usize, end: usize, initial: u16) -> u16 {
        let mut total = u64::from(initial);
        let mut position = 0;
        for descriptor in &self.chain {
            let length = descriptor.length as usize;
            let (from, to) = (start.max(position), end.min(position + length));
            if from < to
                && let Some(frame) = umem.adopt(descriptor.address, descriptor.length)
            {
                let sum = checksum::sum(umem.packet(&frame).get(from - position..to - position).unwrap_or_default());
                // Bytes at odd distance from the start count in the other half of a word.
                total += u64::from(if (from - start).is_multiple_of(2) { sum } else { sum.swap_bytes() });
                let _ = umem.hand_to(frame, self.holder);
            }
            position += length;
        }
        checksum::fold(total)
    }
}

impl Cut {
    /// How to cut the packet of `total` bytes that starts with `start`; `None` when it is not one that can be.
    fn of(start: &[u8], total: usize) -> Option<Cut> {
        let (at, ether_type) = match start.get(12..14)? {
            [0x81, 0x00] => (ETHERNET + vlan::TAG, start.get(16..18)?),
            untagged => (ETHERNET, untagged),
        };
        let ip = start.get(at..)?;
        let (ip_header, length, source, destination): (usize, usize, IpAddr, IpAddr) = match ether_type {
            [0x08, 0x00] => {
                let header: &[u8; IPV4] = ip.first_chunk()?;
                let is_fragment = read_u16(header, 6)? & 0x3fff != 0;
                if header[0] >> 4 != 4 || header[9] != Protocol::Tcp.number() || is_fragment {
                    return None;
                }
                let source: Ipv4Addr = (*header.get(12..)?.first_chunk::<4>()?).into();
                let destination: Ipv4Addr = (*header.get(16..)?.first_chunk::<4>()?).into();
                let ip_header = usize::from(header[0] & 15) * 4;
                // What a wrong header checksum says must not be made right.
                if ip_header < IPV4 || checksum::sum(ip.get(..ip_header)?) != 0xffff {
                    return None;
                }
                (ip_header, usize::from(read_u16(header, 2)?), source.into(), destination.into())
            }
            [0x86, 0xdd] => {
                let header: &[u8; IPV6] = ip.first_chunk()?;
                if header[0] >> 4 != 6 || header[6] != Protocol::Tcp.number() {
                    return None;
                }
                let source: Ipv6Addr = (*header.get(8..)?.first_chunk::<16>()?).into();
                let destination: Ipv6Addr = (*header.get(24..)?.first_chunk::<16>()?).into();
                (IPV6, IPV6 + usize::from(read_u16(header, 4)?), source.into(), destination.into())
            }
            _ => return None,
        };
        let tcp = at + ip_header;
        let tcp_header = usize::from(start.get(tcp + 12)? >> 4) * 4;
        let headers = start.get(..tcp + tcp_header)?;
        let payload = (at + length).checked_sub(headers.len())?;
        if tcp_header < TCP || payload == 0 || at + length > total {
            return None;
        }
        let tuple = FiveTuple::from_parts(Protocol::Tcp, source, 0, destination, 0);
        let headers_kept: ArrayVec<u8, LONGEST_HEADERS> = headers.try_into().ok()?;
        let (place, offset) = (0, headers.len());
        Some(Cut { headers: headers_kept, ip: at, tcp, tuple, payload, done: 0, pieces: 0, place, offset })
    }

    /// Writes the headers of a piece of `size` payload bytes: lengths, identification, sequence number, flags, the IPv4
    /// checksum, and a partial TCP checksum, which whoever sends the packet on completes.
    fn write_headers(&self, piece: &mut [u8], size: usize, is_first: bool, is_last: bool) -> Option<()> {
        let headers = piece.get_mut(..self.headers.len())?;
        headers.copy_from_slice(&self.headers);
        let length = self.headers.len() - self.ip + size;
        if self.tuple.family() == ringway_shared::Family::V4 {
            write_u16(headers, self.ip + 2, length as u16)?;
            let identification = read_u16(headers, self.ip + 4)?.wrapping_add(self.pieces);
            write_u16(headers, self.ip + 4, identification)?;
            write_u16(headers, self.ip + 10, 0)?;
            let sum = checksum::checksum(headers.get(self.ip..self.tcp)?);
            write_u16(headers, self.ip + 10, sum)?;
        } else {
            write_u16(headers, self.ip + 4, (length - IPV6) as u16)?;
        }
        let sequence: &mut [u8; 4] = headers.get_mut(self.tcp + 4..)?.first_chunk_mut()?;
        *sequence = u32::from_be_bytes(*sequence).wrapping_add(self.done as u32).to_be_bytes();
        let flags = headers.get_mut(self.tcp + 13)?;
        if !is_last {
            *flags &= !FIN_PSH;
        }
        if !is_first {
            *flags &= !CWR;
        }
        let tcp_length = self.headers.len() - self.tcp + size;
        let partial = checksum::pseudo_header(&self.tuple, Protocol::Tcp.number(), tcp_length as u16);
        write_u16(headers, self.tcp + 16, partial)
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn write_u16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    *bytes.get_mut(at..)?.first_chunk_mut()? = value.to_be_bytes();
    Some(())
}

#[cfg(test)]
mod tests;
