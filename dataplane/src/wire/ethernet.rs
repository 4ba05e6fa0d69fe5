//! Ethernet II headers.

use ringway_shared::MacAddress;

/// Bytes of an untagged header.
pub const HEADER: usize = 14;
/// The offset of the EtherType, behind both addresses.
pub(super) const ETHER_TYPE: usize = 12;
/// Bytes of an address.
const ADDRESS: usize = 6;
/// The EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// The EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;

/// The fields of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where the frame goes.
    pub destination: MacAddress,
    /// Where it comes from.
    pub source: MacAddress,
    /// What follows; a length when below 1536.
    pub ether_type: u16,
}

impl Header {
    /// The header of `frame`, when there is a whole one.
    #[inline]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let header = frame.first_chunk::<HEADER>()?;
        let [destination, source] = macs(header);
        Some(Header { destination, source, ether_type: ether_type(header) })
    }
}

/// The EtherType of a header.
#[inline]
pub(super) fn ether_type(header: &[u8; HEADER]) -> u16 {
    u16::from_be_bytes([header[ETHER_TYPE], header[ETHER_TYPE + 1]])
}

/// Destination and source of a header.
#[inline]
pub(super) fn macs(header: &[u8; HEADER]) -> [MacAddress; 2] {
    let [destination, source] = *header.as_chunks::<ADDRESS>().0 else { return [MacAddress::default(); 2] };
    [MacAddress(destination), MacAddress(source)]
}

/// Writes both addresses. A frame too short for them stays as it is.
#[inline]
pub fn set_macs(frame: &mut [u8], destination: MacAddress, source: MacAddress) {
    if let Some(header) = frame.first_chunk_mut::<HEADER>() {
        let (first, rest) = header.split_at_mut(ADDRESS);
        first.copy_from_slice(&destination.0);
        rest[..ADDRESS].copy_from_slice(&source.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_written_and_read_back() {
        let (to, from) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let mut frame = [0x86; HEADER];
        set_macs(&mut frame, to, from);
        assert_eq!(Header::parse(&frame), Some(Header { destination: to, source: from, ether_type: 0x8686 }));
        let mut short = [7; HEADER - 1];
        set_macs(&mut short, to, from);
        assert_eq!(short, [7; HEADER - 1]);
        assert_eq!(Header::parse(&short), None);
    }
}
