//! RSS: which queue a NIC delivers a packet to, computed as the NIC does it.
//!
//! The NIC hashes addresses, or addresses and ports, under its key (Toeplitz), and looks the queue up in its indirection
//! table. The hash is linear: that of a packet is the sum (exclusive or) of what each of its bytes contributes. So the part
//! that many packets share is computed once, and a port adds two loads to it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::address::{Family, FiveTuple, Protocol};

/// Bytes that are hashed of an IPv6 packet: two addresses and two ports.
const INPUT: usize = 36;
/// Bits of a key beyond its input that count.
const WINDOW: usize = 4;

/// What a NIC hashes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashedFields {
    /// Source and destination address.
    Addresses,
    /// Both addresses and both ports.
    AddressesAndPorts,
}

/// What a NIC hashes, by family and protocol; `None` where that is not known, or neither of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldsByPacket([[Option<HashedFields>; 3]; 2]);

impl FieldsByPacket {
    /// The same for all packets.
    pub fn all(fields: HashedFields) -> Self {
        FieldsByPacket([[Some(fields); 3]; 2])
    }

    /// Sets what is hashed of these packets.
    pub fn set(&mut self, family: Family, protocol: Protocol, fields: Option<HashedFields>) {
        self.0[family as usize][column(protocol)] = fields;
    }

    /// What is hashed of these packets.
    #[inline]
    pub fn get(&self, family: Family, protocol: Protocol) -> Option<HashedFields> {
        self.0[family as usize][column(protocol)]
    }
}

#[inline]
fn column(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    }
}

/// What a NIC says of its RSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssSettings {
    /// The secret key.
    pub key: Vec<u8>,
    /// The queue of each value of the hash, taken modulo the size of the table.
    pub table: Vec<u32>,
    /// What is hashed.
    pub fields: FieldsByPacket,
}

/// Why queues cannot be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomputable {
    /// No indirection table.
    NoTable,
    /// A key of so many bytes: it is not told, or shorter than what is hashed.
    ShortKey(usize),
    /// A queue that no NIC has.
    Queue(u32),
}

impl fmt::Display for Incomputable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incomputable::NoTable => f.write_str("the driver tells no indirection table"),
            Incomputable::ShortKey(0) => f.write_str("the driver does not tell the hash key"),
            Incomputable::ShortKey(bytes) => {
                write!(f, "the driver tells a hash key of {bytes} bytes, and {} are needed", INPUT + WINDOW)
            }
            Incomputable::Queue(queue) => write!(f, "the indirection table names queue {queue}"),
        }
    }
}

/// What each value of either byte of a port adds to a hash.
pub type PortTable = [[u32; 256]; 2];

/// RSS of one device, ready to compute with.
pub struct Rss {
    settings: RssSettings,
    // Tells different settings apart; no two in a process are alike.
    stamp: u32,
    table: Box<[u16]>,
    // The size of the table minus one, where that is a power of two; else 0.
    mask: u32,
    // What each half of each byte of the input contributes.
    nibbles: Box<[[u32; 16]]>,
    // What the destination port contributes, by family.
    ports: Box<[PortTable; 2]>,
}

impl Rss {
    /// RSS as the device's settings say.
    pub fn new(settings: RssSettings) -> Result<Self, Incomputable> {
        static STAMPS: AtomicU32 = AtomicU32::new(1);
        if settings.table.is_empty() {
            return Err(Incomputable::NoTable);
        }
        let key = &settings.key;
        if key.len() < INPUT + WINDOW {
            return Err(Incomputable::ShortKey(key.len()));
        }
        let queue = |queue: &u32| u16::try_from(*queue).map_err(|_| Incomputable::Queue(*queue));
        let table = settings.table.iter().map(queue).collect::<Result<Box<[u16]>, _>>()?;
        let mask = if table.len().is_power_of_two() { table.len() as u32 - 1 } else { 0 };
        let nibbles: Box<[[u32; 16]]> = (0..2 * INPUT)
            .map(|place| std::array::from_fn(|value| contribution(key, 4 * place, value as u32, 4)))
            .collect();
        let of_port = |family| {
            let bit = 8 * destination_port_at(family);
            [0, 8].map(|more| std::array::from_fn(|value| contribution(key, bit + more, value as u32, 8)))
        };
        let ports = Box::new([Family::V4, Family::V6].map(of_port));
        Ok(Rss { stamp: STAMPS.fetch_add(1, Ordering::Relaxed), settings, table, mask, nibbles, ports })
    }

    /// What the device said.
    pub fn settings(&self) -> &RssSettings {
        &self.settings
    }

    /// A number that no other RSS of this process has; never 0.
    #[inline]
    pub fn stamp(&self) -> u32 {
        self.stamp
    }

    /// The hash of a packet with this tuple; `None` where it is not known what is hashed.
    pub fn hash(&self, tuple: &FiveTuple) -> Option<u32> {
        let base = self.base(tuple)?;
        Some(match self.ports(tuple) {
            Some(ports) => base ^ port_hash(ports, tuple.destination_port()),
            None => base,
        })
    }

    /// The queue of a packet with this tuple; `None` where it is not known what is hashed.
    pub fn queue(&self, tuple: &FiveTuple) -> Option<u16> {
        self.hash(tuple).map(|hash| self.queue_of(hash))
    }

    /// The hash of a packet but for its destination port.
    pub fn base(&self, tuple: &FiveTuple) -> Option<u32> {
        let fields = self.settings.fields.get(tuple.family(), tuple.protocol())?;
        let mut hash = 0;
        let mut place = 0;
        let mut add = |word: u64, nibbles: usize| {
            for step in (0..nibbles).rev() {
                let value = (word >> (4 * step)) as usize & 15;
                hash ^= self.nibbles.get(place).map_or(0, |table| table[value]);
                place += 1;
            }
        };
        for [high, low] in [tuple.source, tuple.destination] {
            match tuple.family() {
                Family::V4 => add(low, 8),
                Family::V6 => {
                    add(high, 16);
                    add(low, 16);
                }
            }
        }
        if fields == HashedFields::AddressesAndPorts {
            add(u64::from(tuple.source_port()), 4);
        }
        Some(hash)
    }

    /// For computing what destination ports add to [`Self::base`]; `None` where ports are not hashed.
    #[inline]
    pub fn ports(&self, tuple: &FiveTuple) -> Option<&PortTable> {
        let fields = self.settings.fields.get(tuple.family(), tuple.protocol())?;
        (fields == HashedFields::AddressesAndPorts).then(|| &self.ports[tuple.family() as usize])
    }

    /// The queue of packets with this hash.
    #[inline]
    pub fn queue_of(&self, hash: u32) -> u16 {
        let place = if self.mask > 0 { hash & self.mask } else { hash % self.table.len() as u32 };
        self.table.get(place as usize).copied().unwrap_or(0)
    }

    /// Whether any packet comes to a queue that `owns` admits.
    pub fn reaches(&self, owns: impl Fn(u16) -> bool) -> bool {
        self.table.iter().any(|queue| owns(*queue))
    }
}

/// What a destination port adds to a hash; the table is of [`Rss::ports`].
#[inline]
pub fn port_hash(ports: &PortTable, port: u16) -> u32 {
    let [high, low] = port.to_be_bytes();
    ports[0][usize::from(high)] ^ ports[1][usize::from(low)]
}

fn destination_port_at(family: Family) -> usize {
    match family {
        Family::V4 => 10,
        Family::V6 => 34,
    }
}

/// What `bits` bits of the input, from `first` on and with this value, add to the hash: the key's 32 bits from each
/// set bit on.
fn contribution(key: &[u8], first: usize, value: u32, bits: usize) -> u32 {
    let set = (0..bits).filter(|bit| value >> (bits - 1 - bit) & 1 == 1);
    set.map(|bit| window(key, first + bit)).fold(0, |sum, window| sum ^ window)
}

/// The key's 32 bits from bit `first` on.
fn window(key: &[u8], first: usize) -> u32 {
    let byte = |place: usize| u64::from(key.get(place).copied().unwrap_or(0));
    let bytes = (0..5).fold(0, |word, step| word << 8 | byte(first / 8 + step));
    (bytes >> (8 - first % 8)) as u32
}

/// Two are equal when the device would do the same.
impl PartialEq for Rss {
    fn eq(&self, other: &Self) -> bool {
        self.stamp == other.stamp || self.settings == other.settings
    }
}

impl Eq for Rss {}

/// The key is left out: it is a secret.
impl fmt::Debug for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RssSettings { table, fields, .. } = &self.settings;
        f.debug_struct("Rss").field("table", table).field("fields", fields).finish_non_exhaustive()
    }
}

/// How a device chooses the queue of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChoice {
    /// By an RSS that can be computed.
    Computed(Arc<Rss>),
    /// In a way that cannot be computed, and why: a sentence's end.
    Unknown(Arc<str>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// The key, tuples and hashes that Microsoft publishes for verifying an implementation.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];
    const PUBLISHED: [(&str, &str, u32, u32); 8] = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0f0c_461c, 0xdde5_1bbf),
        ("[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x4b61_e985, 0x02d1_feef),
    ];

    fn rss(table: &[u32], fields: HashedFields) -> Rss {
        Rss::new(RssSettings { key: KEY.to_vec(), table: table.to_vec(), fields: FieldsByPacket::all(fields) }).unwrap()
    }

    fn tuple(protocol: Protocol, source: &str, destination: &str) -> FiveTuple {
        let [source, destination] = [source, destination].map(|text| text.parse::<SocketAddr>().unwrap());
        FiveTuple::new(protocol, source, destination)
    }

    #[test]
    fn hashes_are_those_that_are_published() {
        let addresses = rss(&[0], HashedFields::Addresses);
        let ports = rss(&[0], HashedFields::AddressesAndPorts);
        for (source, destination, without, with) in PUBLISHED {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
                let tuple = tuple(protocol, source, destination);
                assert_eq!(addresses.hash(&tuple), Some(without), "{tuple}");
                assert_eq!(ports.hash(&tuple), Some(with), "{tuple}");
                let base = ports.base(&tuple).unwrap();
                let port = port_hash(ports.ports(&tuple).unwrap(), tuple.destination_port());
                assert_eq!(base ^ port, with);
                assert_eq!(addresses.ports(&tuple), None);
            }
        }
    }

    #[test]
    fn the_queue_stands_in_the_table_at_the_hash() {
        let (source, destination, _, hash) = PUBLISHED[0];
        let tuple = tuple(Protocol::Tcp, source, destination);
        for size in [1usize, 3, 96, 128, 1000, 2048] {
            let table: Vec<u32> = (0..size as u32).map(|place| place * 7 % 61).collect();
            let queue = rss(&table, HashedFields::AddressesAndPorts).queue(&tuple).unwrap();
            assert_eq!(u32::from(queue), table[hash as usize % size], "of {size}");
        }
        let table = rss(&[1, 2, 1], HashedFields::Addresses);
        assert!(table.reaches(|queue| queue == 2));
        assert!(!table.reaches(|queue| queue == 0));
    }

    #[test]
    fn what_is_hashed_differs_by_family_and_protocol() {
        let mut fields = FieldsByPacket::default();
        fields.set(Family::V4, Protocol::Tcp, Some(HashedFields::AddressesAndPorts));
        fields.set(Family::V4, Protocol::Udp, Some(HashedFields::Addresses));
        let rss = Rss::new(RssSettings { key: KEY.to_vec(), table: vec![0], fields }).unwrap();
        let (source, destination, without, with) = PUBLISHED[1];
        assert_eq!(rss.hash(&tuple(Protocol::Tcp, source, destination)), Some(with));
        assert_eq!(rss.hash(&tuple(Protocol::Udp, source, destination)), Some(without));
        assert_eq!(rss.hash(&tuple(Protocol::Sctp, source, destination)), None);
        let (source, destination, ..) = PUBLISHED[5];
        assert_eq!(rss.queue(&tuple(Protocol::Tcp, source, destination)), None);
    }

    #[test]
    fn equal_settings_are_equal_and_keep_their_own_stamps() {
        let [one, other] = [0, 0].map(|_| rss(&[0, 1], HashedFields::Addresses));
        assert_eq!(one, other);
        assert_ne!(one.stamp(), other.stamp());
        assert_ne!(one, rss(&[1, 0], HashedFields::Addresses));
        assert!(!format!("{one:?}").contains("109"), "the key is a secret");
    }

    #[test]
    fn what_cannot_be_computed_says_why() {
        let told = |key: &[u8], table: &[u32]| {
            let fields = FieldsByPacket::all(HashedFields::Addresses);
            let settings = RssSettings { key: key.to_vec(), table: table.to_vec(), fields };
            Rss::new(settings).unwrap_err().to_string()
        };
        assert_eq!(told(&KEY, &[]), "the driver tells no indirection table");
        assert_eq!(told(&[], &[0]), "the driver does not tell the hash key");
        assert_eq!(told(&KEY[..39], &[0]), "the driver tells a hash key of 39 bytes, and 40 are needed");
        assert_eq!(told(&KEY, &[70_000]), "the indirection table names queue 70000");
    }
}
