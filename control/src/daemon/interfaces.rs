//! Attaching to interfaces and letting them go, while workers run.
//!
//! An interface is what the configuration lists; what carries its frames are devices ([`carriers`]), often the interface itself.
//! A device that several interfaces need is attached once, and let go of when none needs it. Which of a bond's members
//! receive and send changes without attaching anything.

mod carriers;
mod check;
pub(super) mod fit;
mod holders;
mod links;
mod meanwhile;
mod missing;
mod offload;
mod patience;
mod ports;
mod refused;
mod rings;
mod room;
mod starting;
mod steered;
mod tags;
mod taps;
mod vlans;
mod watched;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ringway_dataplane::af_xdp::program::SteeringProgram;
use ringway_dataplane::af_xdp::{Device as KernelDevice, RingSizes, Tap, UmemLayout};
use ringway_dataplane::io::port::Leftovers;
use ringway_dataplane::worker::{Question, WorkerHandle};
use ringway_shared::network::{Interface, Lowers};
use ringway_shared::{InterfaceId, MacAddress, Network};
use tokio::sync::watch;

use super::nic_settings::Changes;
use super::placement::Placement;
use crate::config::{InterfaceConfig, Poll};
use crate::network::Unattached;
use crate::report::interfaces::InterfaceReport;
use crate::watch::thread::Drivers;
use crate::watch::{Heart, heart};
use carriers::{Carrier, Kept, log_mode};
use links::{LinkLog, follow_link, why_gone};
use missing::Telling;
use offload::Offloads;
use patience::Patiences;
use refused::Refused;
use room::Room;
use starting::Starting;
use steered::Steered;
pub(super) use steered::Unsteered;
use taps::Looks;
use watched::Watch;

/// How many links that went and that only a glob means `status` goes on to tell of.
const MOST_GONE: usize = 16;

/// One lock for a short moment; a holder that panicked left nothing half done that matters here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An interface that Ringway is attached to.
struct Attached {
    device: KernelDevice,
    mac: MacAddress,
    mtu: u32,
    lowers: Lowers,
    tap: Option<Arc<Tap>>,
    report: InterfaceReport,
}

/// The interfaces that Ringway is attached to, or should be.
pub(super) struct Interfaces {
    listed: Vec<InterfaceConfig>,
    placement: Placement,
    busy_poll: bool,
    workers: Arc<Mutex<Vec<WorkerHandle>>>,
    steering: Arc<Mutex<SteeringProgram>>,
    attached: BTreeMap<InterfaceId, Attached>,
    /// By ifindex.
    carriers: BTreeMap<u32, Carrier>,
    /// Devices whose ports are about to be opened anew.
    kept: BTreeMap<u32, Kept>,
    /// Whether packets of ours are dropped on queues without a socket.
    drops: bool,
    refused: Refused,
    telling: Telling,
    /// That devices wait for the next turn.
    unfinished: bool,
    /// When they do that whatever else.
    until: Option<Instant>,
    starting: Option<Starting>,
    room: Room,
    steered: Steered,
    memory: UmemLayout,
    /// How large rings are where nothing else is to be reckoned with.
    pub(super) usual: RingSizes,
    failed: BTreeMap<InterfaceId, InterfaceReport>,
    gone: BTreeMap<InterfaceId, InterfaceReport>,
    reports: watch::Sender<Arc<[InterfaceReport]>>,
    unattached: Unattached,
    looks: Looks,
    links: LinkLog,
    watch: Watch,
    offloads: Arc<Mutex<Offloads>>,
    leftovers: Leftovers,
    patience: Patiences,
    latest: Option<watch::Receiver<Arc<Network>>>,
    drivers: Arc<Drivers>,
    pub(super) heart: Heart,
}

impl Interfaces {
    /// Nothing attached yet. `changes`: what is changed at NICs, with what an instance before this one left behind.
    pub(super) fn new(
        changes: Changes,
        listed: Vec<InterfaceConfig>,
        placement: Placement,
        poll: Poll,
        workers: Arc<Mutex<Vec<WorkerHandle>>>,
        steering: Arc<Mutex<SteeringProgram>>,
        memory: UmemLayout,
    ) -> Self {
        Interfaces {
            listed,
            placement,
            busy_poll: poll == Poll::Busy,
            workers,
            steering,
            attached: BTreeMap::new(),
            carriers: BTreeMap::new(),
            kept: BTreeMap::new(),
            drops: false,
            refused: Refused::default(),
            telling: Telling::default(),
            unfinished: false,
            until: None,
            starting: None,
            room: Room::default(),
            steered: Steered::default(),
            memory,
            usual: RingSizes::DEFAULT,
            failed: BTreeMap::new(),
            gone: BTreeMap::new(),
            reports: watch::channel(Arc::from([])).0,
            unattached: Unattached::default(),
            looks: Looks::new(Instant::now()),
            links: LinkLog::default(),
            watch: Watch::new(memory.zero_copy_mtu()),
            offloads: Arc::new(Mutex::new(Offloads::new(changes))),
            latest: None,
            drivers: Arc::default(),
            leftovers: Leftovers::default(),
            patience: Patiences::default(),
            heart: heart("interfaces"),
        }
    }

    /// Goes on with these. What is attached stays as it is, until the network says that it is gone.
    pub(super) fn list(&mut self, listed: Vec<InterfaceConfig>) {
        self.listed = listed;
        self.refused.hurry(Instant::now());
        let carriers = &self.carriers;
        self.room.begin_anew(|name| carriers.values().any(|carrier| carrier.device.name == name));
    }

    /// What `status` says about the interfaces.
    pub(super) fn reports(&self) -> watch::Receiver<Arc<[InterfaceReport]>> {
        self.reports.subscribe()
    }

    /// Attaches to what is there and not attached, lets go of what is gone. False when something could not be attached:
    /// it is tried again with a later call.
    pub(super) fn follow(&mut self, network: &Network) -> bool {
        self.failed.clear();
        self.gone.clear();
        for interface in network.interfaces() {
            let Some(attached) = self.attached.get(&interface.id) else { continue };
            let is_listed = self.listed.iter().any(|listed| listed.name.matches(&interface.name));
            if is_other(attached, interface) {
                let why = why_gone(&attached.device, interface, is_listed);
                self.let_go(interface.id, &why);
            } else if !unable(interface).is_empty() {
                self.let_go(interface.id, &format!("it {}", unable(interface).join("; it ")));
            }
        }
        // What changed hands among devices that are attached comes first: a bond's other member is active already.
        let mut waiting = Vec::new();
        for interface in network.interfaces() {
            let Some(attached) = self.attached.get_mut(&interface.id) else { continue };
            attached.report.up = interface.up;
            attached.report.notes = interface.lowers.notes.to_vec();
            follow_link(attached, interface);
            if !self.go_on(interface) {
                waiting.push(interface);
            }
        }
        self.tell_links();
        self.steer();
        // What this lets go of is attached below.
        self.look_after_taps();
        self.look_after_ports();
        self.detach_lost();
        self.attach_missing(network);
        for interface in waiting {
            self.go_on_all_the_same(interface);
        }
        self.steer();
        // What the new ones replace goes after them, so that nothing reaches the kernel in between.
        let freed = self.detach_unneeded(network);
        if freed && !self.refused.is_empty() {
            self.refused.hurry(Instant::now());
            self.attach_missing(network);
        }
        self.tell_refusals();
        for interface in network.interfaces() {
            self.settle(interface);
        }
        self.bound_gone();
        // By now it may be others that carry what was attached.
        self.keep_up();
        self.tell();
        !self.unfinished && self.failed.is_empty() && self.refused.is_empty() && self.steered.is_complete()
    }

    /// Attaches an interface whose devices are, or says why not.
    fn settle(&mut self, interface: &Interface) {
        let is_listed = self.listed.iter().any(|listed| listed.name.matches(&interface.name));
        if self.attached.contains_key(&interface.id) {
            // What was in its way a moment ago was let go of.
            self.failed.remove(&interface.id);
            return;
        }
        if !is_there(interface) {
            // An answer to those who ask; nothing to try again, since its return is an event of its own.
            if is_listed {
                let gone = "it is gone; Ringway attaches to it again when it comes back";
                self.gone.insert(interface.id, unattached(interface, gone.to_owned()));
            }
            return;
        }
        let why = unable(interface).join("; ");
        if !why.is_empty() {
            self.failed.insert(interface.id, unattached(interface, why));
            return;
        }
        self.failed.remove(&interface.id);
        if let Err(problem) = self.attach(interface) {
            let next_try = self.refused.next_try(&interface.lowers);
            let report = InterfaceReport { next_try, ..unattached(interface, problem) };
            self.failed.insert(interface.id, report);
        }
    }

    /// Pods' links have a new name each: of those that only a glob means, the last ones to come are told of.
    fn bound_gone(&mut self) {
        let is_named = |name: &str| self.listed.iter().any(|listed| listed.name.as_str() == name);
        let meant = self.gone.iter().filter(|(_, report)| !is_named(&report.name)).map(|(id, _)| *id);
        let meant: Vec<InterfaceId> = meant.collect();
        for id in meant.iter().rev().skip(MOST_GONE) {
            self.gone.remove(id);
        }
    }

    /// Why interfaces could not be attached, or are attached by none of their devices any more.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let failed = self.failed.values().filter_map(|report| Some((&*report.name, report.problem.as_deref()?.into())));
        let lost = self.attached.values();
        failed.chain(lost.filter_map(|its| Some((&*its.device.name, self.without_carrier(its)?.into()))))
    }

    /// Whether Ringway is attached to nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Lets go of everything: what is ours goes to the kernel from here on.
    pub(super) fn detach_all(&mut self) {
        // First of all no packet is steered any more. Programs go after the ports that rely on them.
        self.stop_steering();
        let attached: Vec<InterfaceId> = self.attached.keys().copied().collect();
        attached.into_iter().for_each(|id| self.let_go(id, "Ringway ends"));
        self.detach_devices();
        self.tell();
    }

    fn tell(&self) {
        let attached = self.attached.iter().map(|(id, attached)| (id, self.report(attached)));
        let others = self.failed.iter().chain(&self.gone).map(|(id, report)| (id, report.clone()));
        let all: BTreeMap<_, _> = attached.chain(others).collect();
        self.reports.send_replace(all.into_values().collect());
        let lost = self.attached.iter().filter(|(_, attached)| self.is_lost(attached)).map(|(id, _)| *id);
        self.unattached.tell(lost.chain(self.failed.keys().copied()).collect());
    }

    /// Attaches an interface, by those of its devices that are.
    fn attach(&mut self, interface: &Interface) -> Result<(), String> {
        let lowers = lowers_of(interface)?;
        if !lowers.devices.iter().any(|lower| self.carriers.contains_key(&lower.index)) {
            let why = self.refused.why(&interface.name, &lowers);
            return Err(if why.is_empty() { "it has to wait for its turn".to_owned() } else { why });
        }
        let device = KernelDevice::by_name(&interface.name).map_err(|error| error.to_string())?;
        let (tap, tap_problem) = match Tap::open(&device) {
            Ok(tap) => (Some(Arc::new(tap)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        if let Some(tap) = &tap {
            self.hand_out(interface.id, tap);
        }
        let report = InterfaceReport {
            name: device.name.clone(),
            index: device.index,
            up: interface.up,
            tap: tap.as_ref().map(|tap| tap.device().name.clone()),
            tap_notes: tap.as_ref().map(|tap| tap.notes().to_vec()).unwrap_or_default(),
            tap_problem,
            notes: lowers.notes.to_vec(),
            ..InterfaceReport::default()
        };
        let Interface { id, mac, mtu, .. } = *interface;
        self.carry(id, &lowers);
        let attached = Attached { device, mac, mtu, lowers: lowers.clone(), tap, report };
        log_mode(&self.report(&attached));
        self.attached.insert(id, attached);
        self.steer();
        let problems = self.steered.problems(&lowers).cloned().collect::<Vec<_>>().join("; ");
        if problems.is_empty() {
            return Ok(());
        }
        self.let_go(id, &problems);
        Err(problems)
    }

    /// Lets go of an interface, for a reason. Its devices stay attached until somebody sees that nobody needs them.
    fn let_go(&mut self, id: InterfaceId, why: &str) {
        let Some(attached) = self.attached.remove(&id) else { return };
        self.steer();
        self.carry(id, &Lowers::default());
        for (_, answer) in self.ask_all(|_| Some(Question::tap(id, None))) {
            if let Err(error) = answer {
                tracing::warn!("letting go of {}: {error}", attached.device);
            }
        }
        tracing::info!("let go of {}: {why}", attached.device);
    }
}

/// What carries an interface. A configured network does not know: its interfaces do it themselves.
fn lowers_of(interface: &Interface) -> Result<Lowers, String> {
    if !interface.lowers.devices.is_empty() {
        return Ok(interface.lowers.clone());
    }
    let device = KernelDevice::by_name(&interface.name).map_err(|error| error.to_string())?;
    Ok(Lowers::itself(device.index, interface.name.clone()))
}

/// The report about an interface that Ringway is not attached to.
fn unattached(interface: &Interface, problem: String) -> InterfaceReport {
    InterfaceReport {
        name: interface.name.to_string(),
        index: interface.index,
        up: interface.up,
        problem: Some(problem),
        ..InterfaceReport::default()
    }
}

/// Whether the interface exists. One of a configured network has no ifindex to tell by.
fn is_there(interface: &Interface) -> bool {
    interface.index != 0 || interface.up
}

/// Why nothing can carry an interface that exists.
fn unable(interface: &Interface) -> &[String] {
    if interface.lowers.devices.is_empty() { &interface.lowers.notes } else { &[] }
}

/// Whether the device that was attached is not this interface any more.
fn is_other(attached: &Attached, interface: &Interface) -> bool {
    if interface.index == 0 { !interface.up } else { interface.index != attached.device.index }
}
