//! Answers about a NIC, as plain data.

use std::collections::BTreeMap;

use super::attributes::Attributes;

/// What a NIC's driver says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its name.
    pub name: String,
    /// Its version, mostly the kernel's.
    pub version: String,
    /// The NIC's firmware; empty when it has none or does not say.
    pub firmware: String,
    /// Where the NIC is, as `0000:3b:00.0`; empty for what is nowhere.
    pub bus: String,
}

/// What XDP and AF_XDP can do on a NIC (`netdev` family).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// XDP in the driver at all.
    pub basic: bool,
    /// XDP_REDIRECT, which AF_XDP takes.
    pub redirect: bool,
    /// Frames that other devices redirect to it.
    pub ndo_xmit: bool,
    /// AF_XDP without a copy.
    pub zero_copy: bool,
    /// The program can run in the NIC.
    pub hw_offload: bool,
    /// Frames in several buffers are received.
    pub rx_sg: bool,
    /// Frames in several buffers are sent.
    pub ndo_xmit_sg: bool,
    /// Of how many buffers a zero-copy frame may consist.
    pub zero_copy_segments: u32,
}

impl XdpFeatures {
    /// The bits of `enum netdev_xdp_act`.
    pub(super) fn of(bits: u64, segments: u32) -> Self {
        let has = |bit: u32| bits & (1 << bit) != 0;
        XdpFeatures {
            basic: has(0),
            redirect: has(1),
            ndo_xmit: has(2),
            zero_copy: has(3),
            hw_offload: has(4),
            rx_sg: has(5),
            ndo_xmit_sg: has(6),
            zero_copy_segments: segments,
        }
    }

    /// The kernel's words for what there is.
    pub fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.basic, "basic"),
            (self.redirect, "redirect"),
            (self.ndo_xmit, "ndo-xmit"),
            (self.zero_copy, "xsk-zerocopy"),
            (self.hw_offload, "hw-offload"),
            (self.rx_sg, "rx-sg"),
            (self.ndo_xmit_sg, "ndo-xmit-sg"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, word)| word).collect()
    }
}

/// Descriptors of each queue (`ethtool -g`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// For receiving.
    pub rx: u32,
    /// The most for receiving.
    pub rx_max: u32,
    /// For sending.
    pub tx: u32,
    /// The most for sending.
    pub tx_max: u32,
}

impl Rings {
    pub(super) fn of(answer: Attributes<'_>) -> Self {
        let [rx_max, tx_max, rx, tx] = [2, 5, 6, 9].map(|kind| answer.u32(kind).unwrap_or(0));
        Rings { rx, rx_max, tx, tx_max }
    }
}

/// Queues (`ethtool -l`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// That receive only.
    pub rx: u32,
    /// That send only.
    pub tx: u32,
    /// That receive and send.
    pub combined: u32,
    /// For what are no packets.
    pub other: u32,
    /// The most that receive only.
    pub rx_max: u32,
    /// The most that send only.
    pub tx_max: u32,
    /// The most that receive and send.
    pub combined_max: u32,
    /// The most for what are no packets.
    pub other_max: u32,
}

impl Channels {
    pub(super) fn of(answer: Attributes<'_>) -> Self {
        let number = |kind| answer.u32(kind).unwrap_or(0);
        Channels {
            rx_max: number(2),
            tx_max: number(3),
            other_max: number(4),
            combined_max: number(5),
            rx: number(6),
            tx: number(7),
            other: number(8),
            combined: number(9),
        }
    }

    /// How many queues receive.
    pub fn receive(&self) -> u32 {
        self.rx + self.combined
    }

    /// How many queues send.
    pub fn transmit(&self) -> u32 {
        self.tx + self.combined
    }

    /// How many queues may receive.
    pub fn receive_max(&self) -> u32 {
        self.rx_max.max(self.combined_max)
    }

    /// How many queues may send.
    pub fn transmit_max(&self) -> u32 {
        self.tx_max.max(self.combined_max)
    }
}

/// One of the things that a NIC can be told to do (`ethtool -k`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feature {
    /// It does.
    pub on: bool,
    /// It was told to; differs from `on` where something else stands against it.
    pub wanted: bool,
    /// It cannot be changed.
    pub fixed: bool,
}

/// All of them, by the kernel's names (`rx-vlan-hw-parse`, `rx-gro-hw`, `rx-lro`, …).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(pub BTreeMap<String, Feature>);

impl Features {
    /// The feature of this name; `None` when the kernel has none such.
    pub fn get(&self, name: &str) -> Option<Feature> {
        self.0.get(name).copied()
    }

    /// Whether a NIC does this.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|feature| feature.on)
    }

    pub(super) fn of(answer: Attributes<'_>) -> Self {
        const ALL: u16 = 2;
        const WANTED: u16 = 3;
        const ACTIVE: u16 = 4;
        const NEVER: u16 = 5;
        let mut features: BTreeMap<String, Feature> = BTreeMap::new();
        for (name, changeable) in bits(answer.nested(ALL)) {
            features.insert(name, Feature { fixed: !changeable, ..Feature::default() });
        }
        for (name, _) in bits(answer.nested(WANTED)) {
            features.entry(name).or_default().wanted = true;
        }
        for (name, _) in bits(answer.nested(ACTIVE)) {
            features.entry(name).or_default().on = true;
        }
        for (name, _) in bits(answer.nested(NEVER)) {
            features.entry(name).or_default().fixed = true;
        }
        Features(features)
    }
}

/// The named bits of a set, and whether each is set. One without a mask lists only those that are.
fn bits(set: Attributes<'_>) -> impl Iterator<Item = (String, bool)> {
    const NO_MASK: u16 = 1;
    const BITS: u16 = 3;
    const NAME: u16 = 2;
    const VALUE: u16 = 3;
    let all_set = set.value(NO_MASK).is_some();
    let bits = set.nested(BITS).iter().map(|(_, bit)| Attributes(bit));
    bits.filter_map(move |bit| Some((bit.text(NAME)?, all_set || bit.value(VALUE).is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::nic::attributes::{bytes, flag, nested, text};

    #[test]
    fn features_tell_what_is_on_what_is_wanted_and_what_cannot_change() {
        let bit = |name: &str, set: bool| {
            let value = set.then(|| flag(3));
            nested(1, &[text(2, name)].into_iter().chain(value).collect::<Vec<_>>())
        };
        let only = |kind, names: &[&str]| {
            let bits: Vec<_> = names.iter().map(|name| bit(name, false)).collect();
            nested(kind, &[flag(1), nested(3, &bits)])
        };
        let all = nested(2, &[nested(3, &[bit("rx-lro", true), bit("rx-vlan-hw-parse", false), bit("rx-gro", true)])]);
        let answer =
            bytes(&[all, only(3, &["rx-gro", "rx-lro"]), only(4, &["rx-gro", "rx-vlan-hw-parse"]), only(5, &[])]);
        let features = Features::of(Attributes(&answer));
        assert_eq!(features.get("rx-lro"), Some(Feature { on: false, wanted: true, fixed: false }));
        assert_eq!(features.get("rx-vlan-hw-parse"), Some(Feature { on: true, wanted: false, fixed: true }));
        assert_eq!(features.get("rx-gro"), Some(Feature { on: true, wanted: true, fixed: false }));
        assert_eq!(features.get("rwnosuch"), None);
        assert!(features.is_on("rx-gro") && !features.is_on("rx-lro"));
    }

    #[test]
    fn the_bits_of_xdp_have_the_kernels_words() {
        let features = XdpFeatures::of(0x2b, 1);
        assert_eq!(features.words(), ["basic", "redirect", "xsk-zerocopy", "rx-sg"]);
        assert!(features.zero_copy && !features.ndo_xmit && !features.hw_offload);
    }
}
