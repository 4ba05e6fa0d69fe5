//! The steering program: which frames come up to the workers' sockets.
//!
//! The object is built from `bpf/steer.bpf.c` and committed, so nobody needs clang. Links belong to this process: when it
//! ends, however it ends, the kernel detaches the program.

mod entries;
mod left_fragments;
mod portless;

use std::collections::{HashMap as StdHashMap, HashSet};
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::{EbpfError, EbpfLoader};
use ringway_shared::MacAddress;

pub use entries::SteeringEntry;
pub use left_fragments::LeftFragments;
use portless::Portless;

pub use super::attacher::{Attached, Attacher};
pub use super::attachment::{AttachedMode, XdpMode};
use super::claims::Claims;
pub use super::program_error::SteeringError;
use super::program_keys::{AddressKey, LinkKey, SocketKey, link_key, queue_key};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/steer.bpf.o");

/// Ports of all workers together.
const SOCKETS: u32 = 1024;

/// Interfaces, counted once for each device that carries them.
const LINKS: u32 = 4096;

/// How many entries the maps take. They use memory as entries are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// VIP addresses.
    pub vips: u32,
    /// Service CIDRs.
    pub service_cidrs: u32,
    /// Frontends on the node's own addresses.
    pub frontends: u32,
    /// SNAT addresses.
    pub snat: u32,
    /// Endpoints.
    pub endpoints: u32,
    /// Addresses of frontends and endpoints.
    pub portless: u32,
    /// Fragments to the node's own addresses that go up on a CPU in 17 ms.
    pub fragments: u64,
}

impl Default for Capacities {
    fn default() -> Self {
        Capacities {
            vips: 131_072,
            service_cidrs: 1024,
            frontends: 262_144,
            snat: 4096,
            endpoints: 524_288,
            portless: 262_144,
            fragments: left_fragments::MOST,
        }
    }
}

/// The loaded program and what it steers.
pub struct SteeringProgram {
    attacher: Attacher,
    sockets: XskMap<MapData>,
    queues: HashMap<MapData, [u8; 8], u32>,
    links: HashMap<MapData, LinkKey, [u8; 8]>,
    vips: HashMap<MapData, AddressKey, u8>,
    cidrs: LpmTrie<MapData, AddressKey, u8>,
    frontends: HashMap<MapData, SocketKey, u8>,
    snat: HashMap<MapData, AddressKey, u8>,
    snat_ports: Array<MapData, u64>,
    endpoints: HashMap<MapData, SocketKey, u8>,
    portless: Portless,
    left_fragments: Arc<LeftFragments>,
    claims: Arc<Claims>,
    without_socket: Array<MapData, u32>,
    capacities: Capacities,
    entries: HashSet<SteeringEntry>,
    attached: StdHashMap<u32, Attached>,
    // (interface, queue) by place in `sockets`.
    places: Vec<Option<(u32, u32)>>,
}

impl SteeringProgram {
    /// Loads the program. Packets that are ours go to the kernel on queues without a socket.
    pub fn load() -> Result<Self, SteeringError> {
        Self::load_with(Capacities::default())
    }

    /// Loads the program with maps of other sizes.
    pub fn load_with(capacities: Capacities) -> Result<Self, SteeringError> {
        Self::try_load(capacities).map_err(SteeringError::Load)
    }

    fn try_load(capacities: Capacities) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("vips", capacities.vips)
            .map_max_entries("cidrs", capacities.service_cidrs)
            .map_max_entries("frontends", capacities.frontends)
            .map_max_entries("snat", capacities.snat)
            .map_max_entries("endpoints", capacities.endpoints)
            .map_max_entries("portless", capacities.portless)
            .load(OBJECT)
            .map_err(boxed::<EbpfError>)?;
        let mut take = |name: &str| ebpf.take_map(name).ok_or_else(|| format!("the object has no map {name}"));
        let sockets = XskMap::try_from(take("sockets")?)?;
        let queues = HashMap::try_from(take("queues")?)?;
        let links = HashMap::try_from(take("links")?)?;
        let vips = HashMap::try_from(take("vips")?)?;
        let cidrs = LpmTrie::try_from(take("cidrs")?)?;
        let frontends = HashMap::try_from(take("frontends")?)?;
        let snat = HashMap::try_from(take("snat")?)?;
        let snat_ports = Array::try_from(take("snat_ports")?)?;
        let endpoints = HashMap::try_from(take("endpoints")?)?;
        let portless = Portless::new(HashMap::try_from(take("portless")?)?);
        let mut left_fragments = LeftFragments::new(PerCpuArray::try_from(take("fragments")?)?);
        left_fragments.allow(capacities.fragments)?;
        let Map::Array(claims) = take("claims")? else { return Err("the map claims is no array".into()) };
        let claims = Arc::new(Claims::of_map(claims.fd())?);
        let mut without_socket: Array<_, u32> = Array::try_from(take("without_socket")?)?;
        without_socket.set(0, XDP_PASS, 0)?;
        let program: &mut Xdp = ebpf.program_mut("steer").ok_or("the object has no program steer")?.try_into()?;
        program.load()?;
        Ok(SteeringProgram {
            attacher: Attacher::new(ebpf),
            sockets,
            queues,
            links,
            vips,
            cidrs,
            frontends,
            snat,
            snat_ports,
            endpoints,
            portless,
            left_fragments: Arc::new(left_fragments),
            claims,
            without_socket,
            capacities,
            entries: HashSet::new(),
            attached: StdHashMap::new(),
            places: Vec::new(),
        })
    }

    /// Which tuples at endpoints are taken: packets straight to an endpoint come up only under these.
    pub fn claims(&self) -> Arc<Claims> {
        self.claims.clone()
    }

    /// How many fragments to the node's own addresses were left to the kernel, being too many in a moment.
    pub fn left_fragments(&self) -> Arc<LeftFragments> {
        self.left_fragments.clone()
    }

    /// Says what becomes of our packets on a queue without a socket: dropped, or passed to the kernel.
    pub fn drop_without_socket(&mut self, drop: bool) -> Result<(), SteeringError> {
        let action = if drop { XDP_DROP } else { XDP_PASS };
        let what = || format!("set the action {action}");
        self.without_socket.set(0, action, 0).map_err(|error| map_error("without_socket", what(), 1, 1, error))
    }

    /// What attaches the program to devices.
    pub fn attacher(&self) -> Attacher {
        self.attacher.clone()
    }

    /// Attaches the program to a device. Of its frames those are looked at for which there is an address
    /// ([`Self::set_link`]).
    pub fn attach(&mut self, interface: &str, index: u32, how: XdpMode) -> Result<AttachedMode, SteeringError> {
        let (mode, attached) = self.attacher.attach(interface, index, how)?;
        self.keep(index, attached);
        Ok(mode)
    }

    /// Keeps the program attached to a device until it is detached.
    pub fn keep(&mut self, index: u32, attached: Attached) {
        self.attached.insert(index, attached);
    }

    /// Says which MAC address frames of a device are looked at for that are untagged, or of a VLAN.
    pub fn set_link(&mut self, index: u32, vlan: Option<u16>, mac: MacAddress) -> Result<(), SteeringError> {
        let [a, b, c, d, e, f] = mac.0;
        let (key, value) = (link_key(index, vlan), [a, b, c, d, e, f, 0, 0]);
        let used = self.links.keys().count();
        self.links.insert(key, value, 0).map_err(|error| {
            let vlan = vlan.map_or_else(String::new, |vlan| format!("VLAN {vlan} of "));
            map_error("links", format!("add {vlan}interface {index}"), used, LINKS, error)
        })
    }

    /// Has frames of a device pass that are untagged, or of a VLAN.
    pub fn remove_link(&mut self, index: u32, vlan: Option<u16>) {
        // Removing what is not there is no failure worth telling.
        let _ = self.links.remove(&link_key(index, vlan));
    }

    /// Forgets the addresses and sockets of a device, whose frames pass from here on. The program is detached when what is
    /// returned is dropped, for which some drivers take seconds.
    pub fn detach(&mut self, index: u32) -> Option<Attached> {
        self.remove_sockets(index);
        let keys = self.links.keys().flatten().filter(|key| key.starts_with(&index.to_ne_bytes()));
        for key in keys.collect::<Vec<_>>() {
            let _ = self.links.remove(&key);
        }
        self.attached.remove(&index)
    }

    /// Forgets the sockets of a device; the program stays.
    pub fn remove_sockets(&mut self, index: u32) {
        let gone: Vec<(u32, u32)> =
            self.places.iter().flatten().filter(|(other, _)| *other == index).copied().collect();
        for (interface, queue) in gone {
            self.remove_socket(interface, queue);
        }
    }

    /// The interfaces that it is attached to.
    pub fn attached(&self) -> impl Iterator<Item = u32> {
        self.attached.keys().copied()
    }

    /// The number that the kernel gave the program on a device; `None` where it is not attached, or the kernel does not tell.
    pub fn program_on(&self, index: u32) -> Option<u32> {
        self.attached.get(&index)?.program()
    }

    /// Sends what is ours on a queue to this socket.
    pub fn set_socket(&mut self, index: u32, queue: u32, socket: BorrowedFd<'_>) -> Result<(), SteeringError> {
        self.remove_socket(index, queue);
        let place = self.places.iter().position(Option::is_none).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        let used = self.places.iter().flatten().count();
        let failed =
            |error| map_error("sockets", format!("add queue {queue} of interface {index}"), used, SOCKETS, error);
        self.sockets.set(place as u32, socket.as_raw_fd(), 0).map_err(failed)?;
        self.queues.insert(queue_key(index, queue), place as u32, 0).map_err(failed)?;
        if let Some(slot) = self.places.get_mut(place) {
            *slot = Some((index, queue));
        }
        Ok(())
    }

    fn remove_socket(&mut self, index: u32, queue: u32) {
        if let Some(place) = self.places.iter().position(|place| *place == Some((index, queue))) {
            let _ = self.queues.remove(&queue_key(index, queue));
            let _ = self.sockets.unset(place as u32);
            if let Some(slot) = self.places.get_mut(place) {
                *slot = None;
            }
        }
    }
}

pub(super) fn boxed<E: std::error::Error + Send + Sync + 'static>(
    error: E,
) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}

fn map_error(map: &'static str, what: String, used: usize, room: u32, error: MapError) -> SteeringError {
    SteeringError::Map { map, what, used, room, source: Box::new(error) }
}

/// The kernel's XDP_DROP.
const XDP_DROP: u32 = 1;

/// The kernel's XDP_PASS.
const XDP_PASS: u32 = 2;
