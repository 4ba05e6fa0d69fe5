//! The Internet checksum (RFC 1071, RFC 1624), its pseudo-headers, and the CRC32c of SCTP (RFC 9260).
//!
//! Sums here are folded, *not* complemented, and in host byte order, unless a name says checksum. A folded sum of
//! anything that is not all zeros lies in 1..=0xffff, never 0: that makes equal sums equal numbers.

use ringway_shared::FiveTuple;

/// Folds a sum of 16, 32 or 64-bit words to 16 bits. Adding a word to itself with its halves exchanged leaves the folded
/// sum, with its end-around carry, in the upper half.
#[inline]
pub fn fold(sum: u64) -> u16 {
    fold_short((sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32)
}

/// [`fold`] of a sum of few words.
#[inline]
pub(crate) fn fold_short(sum: u32) -> u16 {
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The folded sum of `bytes`; an odd last byte counts as the high byte of a word.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // One's complement addition does not care about byte order: add native words and swap the folded result once.
    // The words are halved so that no carry is ever lost: 2^32 additions would be needed.
    let mut total = 0u64;
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        total += halves(u64::from_ne_bytes(*chunk));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total += halves(u64::from_ne_bytes(last));
    u16::from_be(fold(total))
}

/// Whether the header of IPv4 without options adds up to what a right one does: [`sum`] says 0xffff of it.
#[inline]
pub(crate) fn is_right(header: &[u8; 20]) -> bool {
    let ([first, second], last) = header.as_chunks::<8>() else { return false };
    let (first, second) = (u64::from_ne_bytes(*first), u64::from_ne_bytes(*second));
    let last = last.first_chunk().map_or(0, |last| u32::from_ne_bytes(*last));
    // Carries come back at the low end.
    let (total, carry) = first.overflowing_add(second);
    let (total, more) = total.overflowing_add(u64::from(last) + u64::from(carry));
    fold(total.wrapping_add(u64::from(more))) == 0xffff
}

/// The checksum to write over `bytes`, whose checksum field must hold 0 (or a partial checksum).
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// The two halves of a word, added.
#[inline]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// The sum of the two addresses of a tuple, not folded. The prefix of an IPv4-mapped address is 0xffff, which is zero to
/// a one's complement sum, so one formula serves both families.
#[inline]
fn addresses(tuple: &FiveTuple) -> u64 {
    halves(tuple.source[0]) + halves(tuple.source[1]) + halves(tuple.destination[0]) + halves(tuple.destination[1])
}

/// The sum of the pseudo-header of `protocol` with `length` bytes of L4 between the addresses of `tuple`. This is what
/// a sender with checksum offload leaves in the checksum field: a *partial* checksum.
#[inline]
pub fn pseudo_header(tuple: &FiveTuple, protocol: u8, length: u16) -> u16 {
    fold(addresses(tuple) + u64::from(protocol) + u64::from(length))
}

/// [`pseudo_header`] between two IPv4 addresses.
#[inline]
pub fn pseudo_header_v4(source: u32, destination: u32, protocol: u8, length: u16) -> u16 {
    fold(u64::from(source) + u64::from(destination) + u64::from(protocol) + u64::from(length))
}

/// What a change of addresses and ports adds to the sums they are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// By the addresses: for the IPv4 header and for ICMPv6.
    pub addresses: u16,
    /// By addresses and ports: for TCP and UDP.
    pub all: u16,
}

impl Delta {
    /// The change from one tuple to another of the same family and protocol.
    #[inline]
    pub fn between(from: &FiveTuple, to: &FiveTuple) -> Self {
        // A multiple of 0xffff, so zero to the sum, and larger than what is taken from it.
        const ZERO: u64 = 0xffff << 20;
        let addresses = ZERO + addresses(to) - addresses(from);
        // The low half of the ports' word is the same in both tuples.
        let ports = ZERO + (to.ports >> 32) - (from.ports >> 32);
        Delta { addresses: fold(addresses), all: fold(addresses + ports) }
    }

    /// The change back.
    #[inline]
    pub fn inverse(self) -> Self {
        Delta { addresses: !self.addresses, all: !self.all }
    }
}

/// `checksum` after its data changed by `delta`: RFC 1624 equation 3.
#[inline]
pub fn adjust(checksum: u16, delta: u16) -> u16 {
    !fold_short(u32::from(!checksum) + u32::from(delta))
}

const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

/// `CRC_TABLES[k][b]`: the register after byte `b` and `k` zero bytes.
static CRC_TABLES: [[u32; 256]; 8] = crc_tables();

/// `ZEROS[k][n][v]`: what the nibble `v` at place `n` of the register becomes after 2^k zero bytes.
static ZEROS: [[[u32; 16]; 8]; 16] = zero_tables();

const fn crc_tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut register = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            register = if register & 1 == 1 { (register >> 1) ^ CRC32C_POLYNOMIAL } else { register >> 1 };
            bit += 1;
        }
        tables[0][byte] = register;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

const fn zero_tables() -> [[[u32; 16]; 8]; 16] {
    let bytes = crc_tables();
    let mut tables = [[[0; 16]; 8]; 16];
    let mut power = 0;
    while power < 16 {
        let mut nibble = 0;
        while nibble < 8 {
            let mut value = 0;
            while value < 16 {
                let register = (value as u32) << (4 * nibble);
                tables[power][nibble][value] = if power == 0 {
                    (register >> 8) ^ bytes[0][(register & 0xff) as usize]
                } else {
                    // Twice as many zeros: the step before, applied twice.
                    shift(&tables[power - 1], shift(&tables[power - 1], register))
                };
                value += 1;
            }
            nibble += 1;
        }
        power += 1;
    }
    tables
}

/// Applies one of the tables of [`ZEROS`] to a register.
#[inline]
const fn shift(table: &[[u32; 16]; 8], register: u32) -> u32 {
    let mut result = 0;
    let mut nibble = 0;
    while nibble < 8 {
        result ^= table[nibble][((register >> (4 * nibble)) & 0xf) as usize];
        nibble += 1;
    }
    result
}

/// The register after `bytes`.
fn crc32c_register(mut register: u32, bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk) ^ u64::from(register);
        let [a, b, c, d, e, f, g, h] = word.to_le_bytes().map(usize::from);
        register = CRC_TABLES[7][a]
            ^ CRC_TABLES[6][b]
            ^ CRC_TABLES[5][c]
            ^ CRC_TABLES[4][d]
            ^ CRC_TABLES[3][e]
            ^ CRC_TABLES[2][f]
            ^ CRC_TABLES[1][g]
            ^ CRC_TABLES[0][h];
    }
    for byte in rest {
        register = (register >> 8) ^ CRC_TABLES[0][((register ^ u32::from(*byte)) & 0xff) as usize];
    }
    register
}

/// The CRC32c of the concatenated `parts`.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    !parts.iter().fold(!0, |register, part| crc32c_register(register, part))
}

/// What the CRC32c of a message changes by when its first four bytes change by `difference` (old xor new) and `rest`
/// bytes follow them. A CRC is linear, so neither the message nor its length need be touched: about 50 table lookups.
pub fn crc32c_change(difference: [u8; 4], rest: u16) -> u32 {
    let mut register = crc32c_register(0, &difference);
    for (power, table) in ZEROS.iter().enumerate() {
        if rest & (1 << power) != 0 {
            register = shift(table, register);
        }
    }
    register
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringway_shared::Protocol;
    use std::net::SocketAddr;

    /// The definition of RFC 1071, word by word.
    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn known_sums() {
        // RFC 1071, section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xff; 3000]), 0xffff);
        assert_eq!(sum(&[1]), 0x0100);
        assert_eq!(fold(u64::MAX), 0xffff);
    }

    #[test]
    fn known_crcs() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&ascending]), 0x46dd_794e);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
    }

    fn socket() -> impl Strategy<Value = ([u8; 16], u16)> {
        (any::<[u8; 16]>(), any::<u16>())
    }

    fn tuple(v6: bool, ends: [([u8; 16], u16); 2]) -> FiveTuple {
        let [source, destination] = ends.map(|(address, port)| {
            if v6 {
                SocketAddr::new(address.into(), port)
            } else {
                let [a, b, c, d, ..] = address;
                SocketAddr::new([a, b, c, d].into(), port)
            }
        });
        FiveTuple::new(Protocol::Udp, source, destination)
    }

    fn tuple_bytes(tuple: &FiveTuple) -> Vec<u8> {
        let mut bytes = Vec::new();
        for address in [tuple.source_address(), tuple.destination_address()] {
            match address {
                std::net::IpAddr::V4(v4) => bytes.extend(v4.octets()),
                std::net::IpAddr::V6(v6) => bytes.extend(v6.octets()),
            }
        }
        bytes.extend(tuple.source_port().to_be_bytes());
        bytes.extend(tuple.destination_port().to_be_bytes());
        bytes
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_sum(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
        }

        #[test]
        fn a_header_is_right_when_its_sum_is(header: [u8; 20], kind in 0..3, mend in any::<bool>()) {
            let mut header = if kind == 1 { header.map(|byte| byte | 0xf0) } else { header };
            if kind == 2 {
                // The first sixteen bytes add up to no carry, but with the last ones to one.
                let first = u64::from_ne_bytes(*header.first_chunk().unwrap());
                let less = u64::from(u32::from_ne_bytes(*header.last_chunk().unwrap()) / 2);
                header[8..16].copy_from_slice(&(!first).wrapping_sub(less).to_ne_bytes());
            }
            if mend {
                header[10..12].fill(0);
                let sum = checksum(&header).to_be_bytes();
                header[10..12].copy_from_slice(&sum);
            }
            prop_assert_eq!(is_right(&header), sum(&header) == 0xffff);
            prop_assert!(is_right(&header) || !mend);
        }

        #[test]
        fn the_pseudo_header_is_the_sum_of_its_bytes(v6: bool, a in socket(), b in socket(), length: u16) {
            let tuple = tuple(v6, [a, b]);
            let mut bytes = tuple_bytes(&tuple);
            bytes.truncate(bytes.len() - 4);
            bytes.extend([0, 17]);
            bytes.extend(length.to_be_bytes());
            prop_assert_eq!(pseudo_header(&tuple, 17, length), slow_sum(&bytes));
        }

        #[test]
        fn an_adjusted_checksum_is_the_full_one(
            v6: bool, from in [socket(), socket()], to in [socket(), socket()],
            data in proptest::collection::vec(any::<u8>(), 1..64),
        ) {
            let (from, to) = (tuple(v6, from), tuple(v6, to));
            let message = |tuple: &FiveTuple| [tuple_bytes(tuple), vec![0, 17], data.clone()].concat();
            let delta = Delta::between(&from, &to);
            let before = checksum(&message(&from));
            let after = adjust(before, delta.all);
            prop_assert_eq!(after, checksum(&message(&to)));
            prop_assert_eq!(adjust(after, delta.inverse().all), before);

            let message = |tuple: &FiveTuple| {
                let mut bytes = tuple_bytes(tuple);
                bytes.truncate(bytes.len() - 4);
                [bytes, vec![0, 17], data.clone()].concat()
            };
            prop_assert_eq!(adjust(checksum(&message(&from)), delta.addresses), checksum(&message(&to)));
        }

        #[test]
        fn a_changed_crc_is_the_full_one(
            mut message in proptest::collection::vec(any::<u8>(), 4..2000), new: [u8; 4], cut in 0usize..4,
        ) {
            let before = crc32c(&[&message]);
            let (old, rest) = message.split_first_chunk_mut::<4>().unwrap();
            let difference = std::array::from_fn(|index| old[index] ^ new[index]);
            *old = new;
            let rest = rest.len() as u16;
            let (left, right) = message.split_at(cut);
            prop_assert_eq!(before ^ crc32c_change(difference, rest), crc32c(&[left, right]));
        }
    }
}
