//! Attaching to interfaces and letting them go, while workers run.

mod taps;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ringway_dataplane::af_xdp::program::{AttachedMode, Attachment, SteeringProgram};
use ringway_dataplane::af_xdp::{CopyMode, Device as KernelDevice, RingSizes, SocketOptions, Tap};
use ringway_dataplane::worker::WorkerHandle;
use ringway_shared::network::{Interface, Lowers};
use ringway_shared::{InterfaceId, MacAddress, Network};
use tokio::sync::watch;

use super::placement::{Device, Placement};
use crate::config::{InterfaceConfig, Poll, XdpMode, ZeroCopy};
use crate::report::interfaces::{InterfaceReport, PortReport};
use crate::watch::{Heart, heart};
use taps::Looks;

/// One lock for a short moment; a holder that panicked left nothing half done that matters here.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An interface that Ringway is attached to.
struct Attached {
    device: KernelDevice,
    mac: MacAddress,
    mtu: u32,
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
    failed: BTreeMap<InterfaceId, InterfaceReport>,
    gone: BTreeMap<InterfaceId, InterfaceReport>,
    reports: watch::Sender<Arc<[InterfaceReport]>>,
    looks: Looks,
    pub(super) heart: Heart,
}

impl Interfaces {
    /// Nothing attached yet.
    pub(super) fn new(
        listed: Vec<InterfaceConfig>,
        placement: Placement,
        poll: Poll,
        workers: Arc<Mutex<Vec<WorkerHandle>>>,
        steering: Arc<Mutex<SteeringProgram>>,
    ) -> Self {
        Interfaces {
            listed,
            placement,
            busy_poll: poll == Poll::Busy,
            workers,
            steering,
            attached: BTreeMap::new(),
            failed: BTreeMap::new(),
            gone: BTreeMap::new(),
            reports: watch::channel(Arc::from([])).0,
            looks: Looks::new(Instant::now()),
            heart: heart("interfaces"),
        }
    }

    /// Goes on with these. What is attached stays as it is, until the network says that it is gone.
    pub(super) fn list(&mut self, listed: Vec<InterfaceConfig>) {
        self.listed = listed;
    }

    /// What `status` says about the interfaces.
    pub(super) fn reports(&self) -> watch::Receiver<Arc<[InterfaceReport]>> {
        self.reports.subscribe()
    }

    /// Attaches to what is there and not attached, lets go of what is gone. False when something could not be attached:
    /// it is tried again with the next call.
    pub(super) fn follow(&mut self, network: &Network) -> bool {
        self.failed.clear();
        self.gone.clear();
        for interface in network.interfaces() {
            self.heart.beat();
            let known = self.attached.get(&interface.id);
            let gone = known.is_some_and(|attached| is_other(attached, interface));
            if gone {
                self.detach(interface.id);
            }
            match self.attached.get_mut(&interface.id) {
                Some(attached) => {
                    attached.report.up = interface.up;
                    follow_link(attached, interface, &self.steering);
                }
                None if is_there(interface) => self.attach_or_note(interface),
                // An answer to those who ask; nothing to try again, since its return is an event of its own.
                None if !self.listed.iter().any(|listed| listed.name.matches(&interface.name)) => {}
                None => {
                    let gone = "it is gone; Ringway attaches to it again when it comes back";
                    self.gone.insert(interface.id, unattached(interface, gone.to_owned()));
                }
            }
        }
        self.look_after_taps();
        self.tell();
        self.failed.is_empty()
    }

    /// Why interfaces could not be attached.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.failed.values().filter_map(|report| Some((&*report.name, report.problem.as_deref()?)))
    }

    /// Whether Ringway is attached to nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.attached.is_empty()
    }

    /// Lets go of everything: what is ours goes to the kernel from here on.
    pub(super) fn detach_all(&mut self) {
        // First of all no packet is steered any more.
        for attached in self.attached.values() {
            lock(&self.steering).detach(attached.device.index);
        }
        let attached: Vec<InterfaceId> = self.attached.keys().copied().collect();
        attached.into_iter().for_each(|id| self.detach(id));
        self.tell();
    }

    fn tell(&self) {
        let attached = self.attached.iter().map(|(id, attached)| (id, &attached.report));
        let all: BTreeMap<_, _> = attached.chain(&self.failed).chain(&self.gone).collect();
        self.reports.send_replace(all.into_values().cloned().collect());
    }

    fn attach_or_note(&mut self, interface: &Interface) {
        match self.attach(interface) {
            Ok(attached) => {
                log_mode(&attached.report);
                if let Some(tap) = &attached.tap {
                    self.hand_out(interface.id, tap);
                }
                self.attached.insert(interface.id, attached);
            }
            Err(problem) => {
                tracing::warn!("cannot attach to {}: {problem}", interface.name);
                // What was done so far is undone.
                lock(&self.steering).detach(interface.index);
                self.carry(interface.id, &Lowers::default());
                lock(&self.workers).iter_mut().for_each(|worker| drop(worker.detach(interface.index)));
                let report = unattached(interface, problem);
                self.failed.insert(interface.id, report);
            }
        }
    }

    fn attach(&self, interface: &Interface) -> Result<Attached, String> {
        if interface.lowers.devices.is_empty() && !interface.lowers.notes.is_empty() {
            return Err(interface.lowers.notes.join("; "));
        }
        let device = KernelDevice::by_name(&interface.name).map_err(|error| error.to_string())?;
        let listed = self.listed.iter().find(|listed| listed.name.matches(&interface.name));
        let (xdp, zero_copy) = listed.map_or_else(Default::default, |listed| (listed.xdp, listed.zero_copy));
        let queues = device.queues().map_err(|error| error.to_string())?;
        let placed = Device::read("/sys".as_ref(), &device.name, device.index, queues);
        let queues = self.placement.queues(&placed).map_err(|error| error.to_string())?;
        // A configured network does not know what carries its interfaces: they do it themselves.
        let lowers = match interface.lowers.devices.is_empty() {
            true => Lowers::itself(device.index, interface.name.clone()),
            false => interface.lowers.clone(),
        };
        self.carry(interface.id, &lowers);
        let (tap, tap_problem) = match Tap::open(&device) {
            Ok(tap) => (Some(Arc::new(tap)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let how = match xdp {
            XdpMode::Auto => Attachment::Auto,
            XdpMode::Native => Attachment::Native,
            XdpMode::Generic => Attachment::Generic,
        };
        let mut steering = lock(&self.steering);
        let mode =
            steering.attach(&device.name, device.index, interface.mac, how).map_err(|error| error.to_string())?;
        let (mode, mode_reason) = match mode {
            AttachedMode::Native => ("native", None),
            AttachedMode::Generic { because } => ("generic", Some(because)),
        };
        let socket = SocketOptions {
            rings: RingSizes::DEFAULT,
            zero_copy: match zero_copy {
                ZeroCopy::Auto => ringway_dataplane::af_xdp::ZeroCopy::Auto,
                ZeroCopy::On => ringway_dataplane::af_xdp::ZeroCopy::On,
                ZeroCopy::Off => ringway_dataplane::af_xdp::ZeroCopy::Off,
            },
            generic: mode == "generic",
            busy_poll: self.busy_poll,
        };
        let mut ports = Vec::new();
        for (worker, queues) in lock(&self.workers).iter_mut().zip(queues) {
            for queue in queues {
                self.heart.beat();
                let attached =
                    worker.attach(&device, queue, socket).map_err(|error| format!("queue {queue}: {error}"))?;
                steering.set_socket(device.index, queue, attached.fd.as_fd()).map_err(|error| error.to_string())?;
                let (copy, copy_reason) = match attached.mode {
                    CopyMode::ZeroCopy => ("zero-copy", None),
                    CopyMode::Copy { because } => ("copy", Some(because)),
                };
                ports.push(PortReport { queue, worker: worker.id, copy: copy.to_owned(), copy_reason });
            }
        }
        ports.sort_by_key(|port| port.queue);
        let report = InterfaceReport {
            name: device.name.clone(),
            index: device.index,
            up: interface.up,
            mode: Some(mode.to_owned()),
            mode_reason,
            ports,
            tap: tap.as_ref().map(|tap| tap.device().name.clone()),
            tap_notes: tap.as_ref().map(|tap| tap.notes().to_vec()).unwrap_or_default(),
            tap_problem,
            tap_mended: 0,
            tap_last_mend: None,
            problem: None,
            counters: None,
        };
        Ok(Attached { device, mac: interface.mac, mtu: interface.mtu, tap, report })
    }

    /// Has every worker send by these devices what leaves by the interface, and take from them what arrives by it.
    fn carry(&self, id: InterfaceId, lowers: &Lowers) {
        for worker in lock(&self.workers).iter_mut() {
            if let Err(error) = worker.carry(id, lowers.clone()) {
                tracing::warn!("{error}");
            }
        }
    }

    fn detach(&mut self, id: InterfaceId) {
        let Some(attached) = self.attached.remove(&id) else { return };
        lock(&self.steering).detach(attached.device.index);
        self.carry(id, &Lowers::default());
        for worker in lock(&self.workers).iter_mut() {
            if let Err(error) = worker.set_tap(id, None).and_then(|()| worker.detach(attached.device.index)) {
                tracing::warn!("letting go of {}: {error}", attached.device);
            }
        }
        tracing::info!("let go of {}", attached.device);
    }
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

/// Whether the device that was attached is not this interface any more.
fn is_other(attached: &Attached, interface: &Interface) -> bool {
    if interface.index == 0 { !interface.up } else { interface.index != attached.device.index }
}

/// Follows a change of the interface's MAC address or MTU. What fails is tried again when the TAP devices are looked after.
fn follow_link(attached: &mut Attached, interface: &Interface, steering: &Mutex<SteeringProgram>) {
    let Interface { mac, mtu, .. } = *interface;
    if attached.mac != mac {
        if let Err(error) = lock(steering).set_mac(attached.device.index, mac) {
            tracing::warn!("{error}");
        }
        if let Some(Err(error)) = attached.tap.as_ref().map(|tap| tap.set_mac(mac)) {
            tracing::warn!("{error}");
        }
        attached.mac = mac;
    }
    if attached.mtu != mtu && mtu != 0 {
        if let Some(Err(error)) = attached.tap.as_ref().map(|tap| tap.set_mtu(mtu)) {
            tracing::warn!("{error}");
        }
        attached.mtu = mtu;
    }
}

fn log_mode(report: &InterfaceReport) {
    let mode = report.mode.as_deref().unwrap_or_default();
    let because = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    tracing::info!("attached to {}: {mode} XDP{}", report.name, because(&report.mode_reason));
    for port in &report.ports {
        let (queue, worker) = (port.queue, port.worker);
        tracing::info!("{} queue {queue}: worker {worker}, {}{}", report.name, port.copy, because(&port.copy_reason));
    }
    if let Some(problem) = &report.tap_problem {
        tracing::warn!("{}: packets that are not ours but reach a worker are lost: {problem}", report.name);
    }
    for note in &report.tap_notes {
        tracing::warn!("{}: {note}", report.name);
    }
}
