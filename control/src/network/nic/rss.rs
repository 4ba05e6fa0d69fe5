//! How a NIC chooses the queue of a packet: a hash with a key, and a table of queues.

use super::attributes::Attributes;

/// What makes the hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HashFunction {
    /// Toeplitz, as nearly everywhere.
    Toeplitz,
    /// A plain XOR.
    Xor,
    /// CRC-32.
    Crc32,
    /// The driver does not say.
    #[default]
    Unknown,
}

impl HashFunction {
    /// The bits that `ethtool` has for them.
    pub(super) fn of(bits: u32) -> Self {
        match bits {
            1 => HashFunction::Toeplitz,
            2 => HashFunction::Xor,
            4 => HashFunction::Crc32,
            _ => HashFunction::Unknown,
        }
    }

    /// Its name as `ethtool -x` has it.
    pub fn label(self) -> &'static str {
        match self {
            HashFunction::Toeplitz => "toeplitz",
            HashFunction::Xor => "xor",
            HashFunction::Crc32 => "crc32",
            HashFunction::Unknown => "unknown",
        }
    }
}

/// Receive side scaling of a NIC (`ethtool -x`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// What makes the hash.
    pub function: HashFunction,
    /// The key; empty when the driver does not tell it.
    pub key: Vec<u8>,
    /// The queue by the low bits of the hash; empty when there is no table.
    pub table: Vec<u32>,
    /// Both directions of a connection are made to hash alike (`rx_hash input_xfrm`), which is no plain Toeplitz.
    pub symmetric: bool,
}

impl Rss {
    pub(super) fn of(answer: Attributes<'_>) -> Self {
        const FUNCTION: u16 = 3;
        const TABLE: u16 = 4;
        const KEY: u16 = 5;
        const TRANSFORM: u16 = 6;
        let table = answer.value(TABLE).unwrap_or_default().chunks_exact(4);
        Rss {
            function: answer.u32(FUNCTION).map_or(HashFunction::Unknown, HashFunction::of),
            key: answer.value(KEY).unwrap_or_default().to_vec(),
            table: table.filter_map(|entry| entry.first_chunk().copied().map(u32::from_ne_bytes)).collect(),
            symmetric: answer.u32(TRANSFORM).is_some_and(|transform| transform != 0),
        }
    }

    /// How many entries of the table each queue has, by queue.
    pub fn spread(&self) -> Vec<usize> {
        let queues = self.table.iter().max().map_or(0, |most| *most as usize + 1).min(self.table.len().max(1) * 64);
        let mut spread = vec![0; queues];
        for queue in &self.table {
            if let Some(entries) = spread.get_mut(*queue as usize) {
                *entries += 1;
            }
        }
        spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::nic::attributes::{bytes, number};
    use rtnetlink::packet_core::DefaultNla;

    #[test]
    fn an_answer_has_key_table_and_function_or_lacks_them() {
        let table = [0u32, 1, 0, 1, 2].map(u32::to_ne_bytes).concat();
        let answer = bytes(&[number(3, 1), DefaultNla::new(4, table), DefaultNla::new(5, vec![7; 40])]);
        let rss = Rss::of(Attributes(&answer));
        assert_eq!((rss.function, rss.key.len(), &rss.table[..]), (HashFunction::Toeplitz, 40, &[0, 1, 0, 1, 2][..]));
        assert_eq!(rss.spread(), [2, 2, 1]);
        let rss = Rss::of(Attributes(&bytes(&[number(6, 1)])));
        assert_eq!(rss, Rss { symmetric: true, ..Rss::default() });
        assert!(rss.spread().is_empty());
        // A driver that says nonsense costs no memory.
        assert!(Rss { table: vec![u32::MAX], ..Rss::default() }.spread().len() <= 64);
    }
}
