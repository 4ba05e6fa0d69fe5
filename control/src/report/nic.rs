//! A NIC as `ringway nic` tells of it. What could not be read is `null`, and `unread` says why.

use serde::{Deserialize, Serialize};

/// Everything that is known of an interface's hardware.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NicReport {
    /// The interface's name.
    pub name: String,
    /// Its ifindex.
    pub index: u32,
    /// `vlan`, `bond`, `bridge`, `veth`, …; `null` for a NIC.
    pub kind: Option<String>,
    /// The devices that carry its frames, where it does not itself.
    pub lowers: Vec<String>,
    /// The VLAN devices above it.
    pub vlans: Vec<String>,
    /// Administratively up, with a carrier.
    pub up: bool,
    /// Administratively up, with a carrier or without.
    #[serde(default)]
    pub enabled: bool,
    /// The largest IP packet.
    pub mtu: u32,
    /// Megabits a second.
    pub speed_mbit: Option<u32>,
    /// The driver's name.
    pub driver: Option<String>,
    /// Its version.
    pub driver_version: Option<String>,
    /// The NIC's firmware.
    pub firmware: Option<String>,
    /// Where it is.
    pub bus: Option<String>,
    /// The NUMA node that it is plugged into.
    pub numa_node: Option<u32>,
    /// Its queues.
    pub queues: Option<Queues>,
    /// Descriptors of each.
    pub rings: Option<RingSizes>,
    /// How a steering or other XDP program is attached now: `native` or `generic`.
    pub xdp_attached: Option<String>,
    /// The queues that an AF_XDP socket has now; `null` where that could not be asked, none before Linux 6.15.
    #[serde(default)]
    pub held_queues: Option<Vec<u32>>,
    /// What XDP can do, in the kernel's words.
    pub xdp_features: Option<Vec<String>>,
    /// Whether AF_XDP can do without a copy.
    pub zero_copy: ZeroCopyVerdict,
    /// What it does to packets, as far as that matters.
    pub offloads: Vec<Offload>,
    /// How it chooses queues.
    pub rss: Option<RssReport>,
    /// What it hashes.
    pub hashes: Vec<HashReport>,
    /// Its interrupts.
    pub interrupts: Vec<InterruptReport>,
    /// CPUs for `workers.cpus`, the best first, one a queue at most.
    pub cpus: Vec<u32>,
    /// What Ringway has changed here and not changed back.
    #[serde(default)]
    pub changed: Vec<ChangedSetting>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
    /// What is to be changed, the worst first.
    pub findings: Vec<Finding>,
}

/// Queues now, and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    /// That receive.
    pub receive: u32,
    /// The most that may receive.
    pub receive_max: u32,
    /// That send.
    pub transmit: u32,
    /// The most that may send.
    pub transmit_max: u32,
    /// Whether a queue receives and sends (`combined`).
    pub combined: bool,
}

/// Descriptors of each queue now, and the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RingSizes {
    /// For receiving.
    pub receive: u32,
    /// The most for receiving.
    pub receive_max: u32,
    /// For sending.
    pub transmit: u32,
    /// The most for sending.
    pub transmit_max: u32,
}

/// Whether AF_XDP can do without a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZeroCopyVerdict {
    /// `null` where nobody knows before it is tried.
    pub possible: Option<bool>,
    /// Why, in words.
    pub reason: String,
}

/// Something that a NIC does to packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Offload {
    /// The kernel's name.
    pub name: String,
    /// It does.
    pub on: bool,
    /// It cannot be changed.
    pub fixed: bool,
}

/// How a NIC chooses the queue of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RssReport {
    /// The hash function.
    pub function: String,
    /// Length of the key; 0 when the driver does not tell it.
    pub key_bytes: usize,
    /// Entries of the table by queue.
    pub entries: Vec<usize>,
    /// Both directions hash alike.
    pub symmetric: bool,
}

/// What is hashed of some packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HashReport {
    /// `tcp4`, `udp4`, `tcp6`, `udp6`.
    pub packets: String,
    /// In words.
    pub fields: String,
    /// Both ports are among them.
    pub ports: bool,
}

/// An interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterruptReport {
    /// Its number.
    pub number: u32,
    /// What its driver calls it.
    pub name: String,
    /// The CPUs that take it.
    pub cpus: Vec<u32>,
    /// It is that of a queue.
    pub queue: bool,
}

/// A setting that Ringway has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedSetting {
    /// `rx-vlan-hw-parse`, `udp4` or `udp6` (what UDP is hashed by).
    pub setting: String,
    /// As Ringway found it.
    pub was: String,
    /// As Ringway set it.
    pub set_to: String,
    /// Whether it is so now; `null` where that could not be read.
    pub is_so: Option<bool>,
}

impl NicReport {
    /// Notes what stands in a state folder as changed.
    pub fn note_changed(&mut self, setting: &str, was: &str) {
        let offload = self.offloads.iter().find(|offload| offload.name == setting);
        let hash = self.hashes.iter().find(|hash| hash.packets == setting);
        let (set_to, is_so) = match was {
            "on" => ("off", offload.map(|offload| !offload.on)),
            _ => ("addresses and ports", hash.map(|hash| hash.ports)),
        };
        let (setting, was, set_to) = (setting.to_owned(), was.to_owned(), set_to.to_owned());
        self.changed.push(ChangedSetting { setting, was, set_to, is_so });
    }
}

/// How bad something is; the worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Packets are lost, or Ringway does not start.
    Wrong,
    /// Packets take a slower way.
    Slow,
    /// To be known.
    #[default]
    Note,
}

impl Severity {
    /// A word for it.
    pub fn label(self) -> &'static str {
        match self {
            Severity::Wrong => "WRONG",
            Severity::Slow => "SLOW",
            Severity::Note => "NOTE",
        }
    }
}

/// Something to be changed or known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, in a sentence.
    pub text: String,
    /// The command that changes it; `null` where none does.
    pub command: Option<String>,
}
