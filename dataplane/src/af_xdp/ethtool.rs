//! What drivers tell of their NICs, and take, by ethtool's ioctls: queues, names, RSS, and what is hashed.
#![allow(unsafe_code)]

use std::fmt;
use std::fs;

use rustix::io::Errno;

use super::device::{Device, DeviceError};

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_SRXFH: u32 = 0x2a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GRSSH: u32 = 0x46;

/// The packets that a driver hashes by fields of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hashed {
    /// TCP over IPv4.
    Tcp4,
    /// UDP over IPv4.
    Udp4,
    /// SCTP over IPv4.
    Sctp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv6.
    Udp6,
    /// SCTP over IPv6.
    Sctp6,
}

impl Hashed {
    /// The kernel's number, `…_FLOW`.
    fn number(self) -> u32 {
        match self {
            Hashed::Tcp4 => 1,
            Hashed::Udp4 => 2,
            Hashed::Sctp4 => 3,
            Hashed::Tcp6 => 5,
            Hashed::Udp6 => 6,
            Hashed::Sctp6 => 7,
        }
    }

    /// Its name in `ethtool -N DEV rx-flow-hash`.
    pub fn label(self) -> &'static str {
        match self {
            Hashed::Tcp4 => "tcp4",
            Hashed::Udp4 => "udp4",
            Hashed::Sctp4 => "sctp4",
            Hashed::Tcp6 => "tcp6",
            Hashed::Udp6 => "udp6",
            Hashed::Sctp6 => "sctp6",
        }
    }
}

/// What of a packet is hashed: `RXH_…` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HashFields(pub u64);

impl HashFields {
    /// Source and destination address: `sd`.
    pub const ADDRESSES: HashFields = HashFields(1 << 4 | 1 << 5);
    /// These, and both ports: `sdfn`.
    pub const ADDRESSES_AND_PORTS: HashFields = HashFields(1 << 4 | 1 << 5 | 1 << 6 | 1 << 7);

    /// Whether both addresses are hashed.
    pub fn addresses(self) -> bool {
        self.has(Self::ADDRESSES)
    }

    /// Whether both ports are hashed.
    pub fn ports(self) -> bool {
        self.has(HashFields(1 << 6 | 1 << 7))
    }

    fn has(self, fields: HashFields) -> bool {
        self.0 & fields.0 == fields.0
    }
}

impl fmt::Display for HashFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (1, "destination MAC"),
            (2, "VLAN"),
            (3, "protocol"),
            (4, "source"),
            (5, "destination"),
            (6, "source port"),
            (7, "destination port"),
            (8, "tunnel"),
            (9, "flow label"),
        ];
        let names: Vec<&str> = names.into_iter().filter(|(bit, _)| self.0 & (1 << bit) != 0).map(|(_, n)| n).collect();
        match *self {
            HashFields(0) => f.write_str("nothing"),
            Self::ADDRESSES => f.write_str("addresses"),
            Self::ADDRESSES_AND_PORTS => f.write_str("addresses and ports"),
            _ => f.write_str(&names.join(", ")),
        }
    }
}

/// What a driver says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Information {
    /// Its name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The firmware's.
    pub firmware: String,
    /// Where the NIC is.
    pub bus: String,
}

/// RSS as `ETHTOOL_GRSSH` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RssAnswer {
    /// `ETH_RSS_HASH_…`: 1 Toeplitz, 2 XOR, 4 CRC-32.
    pub function: u8,
    /// What is done to the fields before: 0 nothing.
    pub transform: u8,
    /// The key; empty when the driver does not tell.
    pub key: Vec<u8>,
    /// The queue by the hash's low bits; empty when there is no table.
    pub table: Vec<u32>,
}

/// The text before the first zero.
fn text(bytes: &[u8]) -> String {
    bytes.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect()
}

impl Device {
    /// How many receive queues are in use now.
    pub fn queues(&self) -> Result<u32, DeviceError> {
        /// `struct ethtool_channels`.
        #[repr(C)]
        #[derive(Default)]
        struct Channels {
            command: u32,
            max: [u32; 4],
            receive: u32,
            transmit: u32,
            other: u32,
            combined: u32,
        }
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        // SAFETY: `Channels` is all of `struct ethtool_channels`, numbers only.
        let told = unsafe { self.ethtool(&mut channels, "read the number of queues") };
        match told {
            Ok(()) => Ok((channels.receive + channels.combined).max(1)),
            // A driver without this request has the queues that it shows in sysfs, mostly one.
            Err(DeviceError::Refused { errno: Errno::OPNOTSUPP, .. }) => {
                let queues = fs::read_dir(format!("/sys/class/net/{}/queues", self.name));
                let names = queues.into_iter().flatten().flatten().map(|entry| entry.file_name());
                Ok((names.filter(|name| name.to_string_lossy().starts_with("rx-")).count() as u32).max(1))
            }
            Err(error) => Err(error),
        }
    }

    /// The name of its driver; empty when the driver does not say.
    pub fn driver(&self) -> String {
        self.information().map(|information| information.driver).unwrap_or_default()
    }

    /// What its driver says of itself.
    pub fn information(&self) -> Result<Information, DeviceError> {
        /// `struct ethtool_drvinfo`.
        #[repr(C)]
        struct Answer {
            command: u32,
            driver: [u8; 32],
            version: [u8; 32],
            firmware: [u8; 32],
            bus: [u8; 32],
            rest: [u8; 64],
        }
        let none = [0; 32];
        let mut answer =
            Answer { command: ETHTOOL_GDRVINFO, driver: none, version: none, firmware: none, bus: none, rest: [0; 64] };
        // SAFETY: `Answer` is as long as `struct ethtool_drvinfo`, bytes only.
        unsafe { self.ethtool(&mut answer, "read the driver") }?;
        let [driver, version, firmware, bus] =
            [&answer.driver, &answer.version, &answer.firmware, &answer.bus].map(|bytes| text(bytes));
        Ok(Information { driver, version, firmware, bus })
    }

    /// What of these packets decides about their queue.
    pub fn flow_hash(&self, packets: Hashed) -> Result<HashFields, DeviceError> {
        let mut hash = FlowHash { command: ETHTOOL_GRXFH, packets: packets.number(), fields: 0 };
        // SAFETY: `FlowHash` is what this command reads and writes of `struct ethtool_rxnfc`, numbers only.
        unsafe { self.ethtool(&mut hash, "read what is hashed of packets") }?;
        Ok(HashFields(hash.fields))
    }

    /// Says what of these packets is to decide about their queue.
    pub fn set_flow_hash(&self, packets: Hashed, fields: HashFields) -> Result<(), DeviceError> {
        let mut hash = FlowHash { command: ETHTOOL_SRXFH, packets: packets.number(), fields: fields.0 };
        // SAFETY: `FlowHash` is what this command reads and writes of `struct ethtool_rxnfc`, numbers only.
        unsafe { self.ethtool(&mut hash, "set what is hashed of packets") }
    }

    /// Its RSS: function, key and table.
    pub fn rss(&self) -> Result<RssAnswer, DeviceError> {
        /// `struct ethtool_rxfh` in words: command, context, entries, bytes of the key, function and transform, reserved;
        /// then the table and the key.
        const HEAD: usize = 6;
        /// More than any NIC has.
        const MOST: usize = 1 << 16;
        let what = "read RSS";
        let mut sizes = [ETHTOOL_GRSSH, 0, 0, 0, 0, 0];
        // SAFETY: `sizes` is `struct ethtool_rxfh` without entries and key, of which it says that there are none.
        unsafe { self.ethtool(&mut sizes, what) }?;
        let [_, _, entries, bytes, ..] = sizes;
        let (in_table, in_key) = ((entries as usize).min(MOST), (bytes as usize).min(MOST));
        let mut answer = vec![0u32; HEAD + in_table + in_key.div_ceil(4)];
        for (to, from) in answer.iter_mut().zip([ETHTOOL_GRSSH, 0, in_table as u32, in_key as u32]) {
            *to = from;
        }
        // SAFETY: behind its head `answer` has room for as many entries and bytes of the key as the head says.
        unsafe { self.ethtool(answer.as_mut_slice(), what) }?;
        let [function, transform, ..] = answer.get(4).copied().unwrap_or_default().to_ne_bytes();
        let (_, rest) = answer.split_at_checked(HEAD).unwrap_or_default();
        let (table, key) = rest.split_at_checked(in_table).unwrap_or_default();
        let key = key.iter().flat_map(|word| word.to_ne_bytes()).take(in_key).collect();
        Ok(RssAnswer { function, transform, key, table: table.to_vec() })
    }
}

/// The start of `struct ethtool_rxnfc`: all of it that is read and written for hashes.
#[repr(C)]
struct FlowHash {
    command: u32,
    packets: u32,
    fields: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_one_queue_and_neither_rss_nor_hashes() {
        let device = Device::by_name("lo").unwrap();
        assert_eq!(device.queues().unwrap(), 1);
        for refused in [device.rss().map(|_| ()), device.flow_hash(Hashed::Udp4).map(|_| ())] {
            assert!(matches!(refused, Err(DeviceError::Refused { errno: Errno::OPNOTSUPP, .. })), "{refused:?}");
        }
        let refused = device.set_flow_hash(Hashed::Udp4, HashFields::ADDRESSES_AND_PORTS);
        assert!(matches!(refused, Err(DeviceError::Refused { .. })), "{refused:?}");
    }

    #[test]
    fn hashed_fields_are_told_as_people_say_it() {
        assert_eq!(HashFields::ADDRESSES.to_string(), "addresses");
        assert_eq!(HashFields::ADDRESSES_AND_PORTS.to_string(), "addresses and ports");
        assert_eq!(HashFields(1 << 4 | 1 << 3).to_string(), "protocol, source");
        assert_eq!(HashFields(0).to_string(), "nothing");
        assert!(HashFields::ADDRESSES_AND_PORTS.ports() && !HashFields::ADDRESSES.ports());
        assert!(HashFields(0xff).addresses() && !HashFields(1 << 4).addresses());
    }
}
