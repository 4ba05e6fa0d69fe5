//! The fragments of an IPv4 packet, put together field by field: what fragmenting must give.

use etherparse::{IpFragOffset, Ipv4Header, Ipv4Options};

/// The frames of the fragments of `whole`, each with an IP packet of at most `mtu` bytes.
pub fn of(whole: &[u8], mtu: usize) -> Vec<Vec<u8>> {
    let (ethernet, packet) = whole.split_at(14);
    let (header, data) = Ipv4Header::from_slice(packet).unwrap();
    let room = mtu - header.header_len();
    let mut frames = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let left = data.len() - at;
        let length = if left <= room { left } else { room / 8 * 8 };
        let mut header = header.clone();
        if at > 0 {
            header.options = Ipv4Options::try_from(&*copied(&header.options)).unwrap();
        }
        header.total_len = (header.header_len() + length) as u16;
        header.more_fragments |= length < left;
        header.fragment_offset = IpFragOffset::try_new(header.fragment_offset.value() + (at / 8) as u16).unwrap();
        header.header_checksum = header.calc_header_checksum();
        frames.push([ethernet, &header.to_bytes(), &data[at..at + length]].concat());
        at += length;
    }
    frames
}

/// The frame of the packet that these are all the fragments of, in order. It is a fragment itself if the last of them says so,
/// or the first.
pub fn joined<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Vec<u8> {
    let mut whole: Option<(Vec<u8>, Ipv4Header)> = None;
    let mut data = Vec::new();
    let mut more = true;
    for frame in frames {
        let (ethernet, packet) = frame.split_at(14);
        let (header, payload) = Ipv4Header::from_slice(packet).unwrap();
        let first = whole.as_ref().map_or(header.fragment_offset, |(_, first)| first.fragment_offset);
        let place = usize::from(header.fragment_offset.value() - first.value()) * 8;
        assert!(more && place == data.len(), "a fragment out of its place");
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        more = header.more_fragments;
        data.extend(payload);
        whole.get_or_insert_with(|| (ethernet.to_vec(), header));
    }
    let (ethernet, mut header) = whole.unwrap();
    (header.more_fragments, header.total_len) = (more, (header.header_len() + data.len()) as u16);
    header.header_checksum = header.calc_header_checksum();
    [&*ethernet, &*header.to_bytes(), &*data].concat()
}

/// Options with those overwritten that later fragments do not have.
fn copied(options: &[u8]) -> Vec<u8> {
    let mut left = options.to_vec();
    let mut at = 0;
    while at < options.len() && options[at] != 0 {
        let length = if options[at] == 1 { 1 } else { usize::from(options[at + 1]) };
        if options[at] < 0x80 {
            left[at..at + length].fill(1);
        }
        at += length;
    }
    left
}
