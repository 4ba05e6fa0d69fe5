//! Checksums written as plainly as their definitions, to judge the fast ones by.

/// RFC 1071 over the concatenation of `parts`, of which all but the last have even length. Not complemented.
pub fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            total += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            total = (total & 0xffff) + (total >> 16);
        }
    }
    total as u16
}

/// One's complement addition.
pub fn add(a: u16, b: u16) -> u16 {
    let total = u32::from(a) + u32::from(b);
    ((total & 0xffff) + (total >> 16)) as u16
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = if register & 1 == 1 { (register >> 1) ^ 0x82f6_3b78 } else { register >> 1 };
        }
    }
    !register
}

/// Whether the TCP, UDP or ICMP checksum of an untagged frame without extension headers fits.
pub fn is_right(frame: &[u8]) -> bool {
    let (addresses, protocol, l4, end) = if frame[12] == 8 {
        let l4 = 14 + usize::from(frame[14] & 15) * 4;
        (&frame[26..34], frame[23], l4, 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]])))
    } else {
        (&frame[22..54], frame[20], 54, 54 + usize::from(u16::from_be_bytes([frame[18], frame[19]])))
    };
    let segment = &frame[l4..end];
    let pseudo =
        if protocol == 1 { 0 } else { sum(&[addresses, &[0, protocol], &(segment.len() as u16).to_be_bytes()]) };
    add(pseudo, sum(&[segment])) == 0xffff
}
