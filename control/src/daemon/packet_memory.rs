//! The packet memory of a worker: how many frames, and how large, so that every port it will have finds enough.

use std::collections::{BTreeMap, BTreeSet};

use ringway_dataplane::af_xdp::{Device as KernelDevice, RingSizes, UmemLayout};
use ringway_shared::Network;
use ringway_shared::network::Interface;

use super::nics::NicFacts;
use crate::config::{Config, XdpMode, ZeroCopy};

/// Frames of a worker besides those in rings: batches, held packets, packets it makes itself.
pub(super) const SPARE_FRAMES: u32 = 2048;

/// The most frames that the rings of a worker's ports hold together, as many as 32 ports have, unless these rings are as small as
/// they get. For each port the kernel keeps notes of all frames of the memory, used by it or not: its own memory, and the time
/// to open a port, would grow with the square of the number of ports.
const MOST: u32 = 32 * 8192;
/// The fewest packets of a ring: a few batches.
const FEWEST: u32 = 256;

/// How large the rings of ports are where a worker has so many: with more than 32 they are halved, with more than 64 again.
pub(super) fn usual(ports: u32) -> RingSizes {
    let mut sizes = RingSizes::DEFAULT;
    while ports.saturating_mul(sizes.frames()) > MOST
        && let Some(halved) = sizes.halved().filter(|halved| halved.receive >= FEWEST)
    {
        sizes = halved;
    }
    sizes
}

/// A device that a port will be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carrier {
    mtu: u32,
    /// Whether its driver may work on the memory directly.
    zero_copy: bool,
    /// So many ports of the worker are at it at the start, with these rings.
    ports: u32,
    rings: RingSizes,
}

/// The memory of one worker with `ports` ports at the devices of these interfaces. `at_start`: how many of them are at which device.
pub(super) fn layout(config: &Config, network: &Network, ports: u32, at_start: &BTreeMap<&str, u32>) -> UmemLayout {
    let usual = usual(ports);
    let mut counted = BTreeSet::new();
    let mut all = Vec::new();
    for interface in network.interfaces() {
        for (name, carrier) in carriers(config, interface, usual) {
            // Several interfaces may share a device.
            let is_new = counted.insert(name.clone());
            let ports = at_start.get(&*name).copied().filter(|_| is_new).unwrap_or_default();
            all.push(Carrier { ports, ..carrier });
        }
    }
    of(ports, &all)
}

/// What carries an interface, by the names of devices, and what is known of it itself.
fn carriers(config: &Config, interface: &Interface, usual: RingSizes) -> Vec<(String, Carrier)> {
    let listed = config.interfaces.iter().find(|listed| listed.name.matches(&interface.name));
    let asked = listed.is_none_or(|listed| listed.zero_copy != ZeroCopy::Off && listed.xdp != XdpMode::Generic);
    let lower = |name: &str| {
        let device = KernelDevice::by_name(name).ok()?;
        let nic = NicFacts::of(&device);
        let (mtu, zero_copy) = (device.mtu().ok()?, asked && nic.zero_copy);
        Some((name.to_owned(), Carrier { mtu, zero_copy, ports: 0, rings: nic.rings(asked, usual) }))
    };
    let itself = Carrier { mtu: interface.mtu, zero_copy: false, ports: 0, rings: usual };
    let devices = &interface.lowers.devices;
    // A configured network does not know what carries its interfaces: they do it themselves.
    let own = devices.is_empty().then(|| lower(&interface.name)).flatten();
    let lowers = devices.iter().filter_map(|device| lower(&device.name));
    lowers.chain(own).chain([(interface.name.to_string(), itself)]).collect()
}

fn of(ports: u32, carriers: &[Carrier]) -> UmemLayout {
    let known: u32 = carriers.iter().map(|carrier| carrier.ports).sum();
    let held: u32 = carriers.iter().map(|carrier| carrier.ports * carrier.rings.frames()).sum();
    // Which device a later port is at is not known.
    let of_a_port = carriers.iter().map(|carrier| carrier.rings.frames()).max().unwrap_or(usual(ports).frames());
    let frames = held + ports.saturating_sub(known) * of_a_port + SPARE_FRAMES;
    let largest = |direct: bool| {
        carriers.iter().filter(|carrier| carrier.zero_copy || !direct).map(|carrier| carrier.mtu).max().unwrap_or(0)
    };
    let (copy, direct) =
        (UmemLayout::for_mtu(frames, largest(false)), UmemLayout::for_zero_copy(frames, largest(true)));
    if copy.chunk_size < direct.chunk_size { direct } else { copy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ports_have_smaller_rings_so_that_memory_is_bounded() {
        let receive = [1, 32, 33, 64, 65, 104, 129, 600].map(|ports| usual(ports).receive);
        assert_eq!(receive, [2048, 2048, 1024, 1024, 512, 512, 256, 256]);
        assert!([32, 64, 104, 256].iter().all(|ports| of(*ports, &[]).frames <= MOST + SPARE_FRAMES));
    }

    #[test]
    fn frames_are_large_where_a_driver_may_work_on_them_or_packets_are() {
        let size = |carriers: &[(u32, bool)]| {
            let carriers: Vec<Carrier> = carriers
                .iter()
                .map(|&(mtu, zero_copy)| Carrier { mtu, zero_copy, ports: 0, rings: RingSizes::DEFAULT })
                .collect();
            of(2, &carriers).chunk_size
        };
        assert_eq!(size(&[(1500, false), (1774, false)]), 2048);
        assert_eq!(size(&[(1500, false), (1500, true)]), 4096);
        assert_eq!(size(&[(1775, false), (1000, true)]), 4096);
        assert_eq!(size(&[(1500, false), (1000, true)]), 2048);
        assert_eq!(size(&[]), 2048);
        assert_eq!(of(2, &[]).frames, 2 * 8192 + 2048);
        let nic = Carrier { mtu: 1500, zero_copy: true, ports: 0, rings: RingSizes::for_nic(4096) };
        assert_eq!(of(2, &[nic]).frames, 2 * (8192 + 2048 + 4096) + 2048);
    }

    #[test]
    fn links_beside_a_nic_have_no_memory_for_rings_like_its_own() {
        let large = RingSizes::for_nic(4096);
        let nic = Carrier { mtu: 1500, zero_copy: true, ports: 1, rings: large };
        let link = Carrier { mtu: 1500, zero_copy: false, ports: 20, rings: RingSizes::DEFAULT };
        let frames = of(23, &[nic, link]).frames;
        // Of two more it is not known which they are.
        assert_eq!(frames, 3 * large.frames() + 20 * RingSizes::DEFAULT.frames() + SPARE_FRAMES);
    }
}
