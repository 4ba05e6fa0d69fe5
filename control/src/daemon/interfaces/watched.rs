//! Looking after the ports of a device: whether they send what they should, whether zero-copy carries, and whether the
//! device still has the queues that they are at and the MTU that they were opened for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Device as KernelDevice, UmemLayout};
use ringway_dataplane::io::port::{Progress, ProgressCell};
use ringway_dataplane::worker::Question;
use ringway_shared::MacAddress;
use tokio::sync::watch;

use super::Interfaces;
use super::carriers::Carrier;
use super::check::{self, Link, Moment, Next, Trial};
use crate::network::programs::Programs;
use crate::report::interfaces::{InterfaceCounters, PortReport};

/// How often ports are looked at.
const LOOK: Duration = Duration::from_millis(900);

/// What interfaces count themselves, by name.
pub(in crate::daemon) type CountersByName = watch::Receiver<Arc<BTreeMap<String, InterfaceCounters>>>;

/// What is known of ports beyond one device.
pub(super) struct Watch {
    /// When ports were looked at; `None`: they are to be looked at.
    last: Option<Instant>,
    /// Devices on which zero-copy does not carry, and why, by ifindex. A device that is made again gets another chance.
    distrusted: BTreeMap<u32, String>,
    /// The largest MTU that packet memory carries in zero-copy mode.
    zero_copy_mtu: u32,
    counters: Option<CountersByName>,
    programs: Option<Programs>,
}

impl Watch {
    pub(super) fn new(zero_copy_mtu: u32) -> Self {
        Watch { last: Some(Instant::now()), distrusted: BTreeMap::new(), zero_copy_mtu, counters: None, programs: None }
    }

    /// Ports are looked at with the next turn.
    pub(super) fn hurry(&mut self) {
        self.last = None;
    }

    /// What became of the program that was attached to a device with this number; `None` while it is there, or the device is not.
    fn taken_off(&mut self, index: u32, program: Option<u32>) -> Option<&'static str> {
        let ours = program?;
        if self.programs.is_none() {
            self.programs = Programs::open().ok();
        }
        match self.programs.as_mut()?.on(index) {
            Ok(Some(all)) if all.contains(&ours) => None,
            Ok(Some(all)) if all.is_empty() => Some("somebody took Ringway's XDP program off it"),
            Ok(Some(_)) => Some("somebody put another XDP program in the place of Ringway's"),
            Ok(None) => None,
            Err(_) => {
                // The next look opens another socket.
                self.programs = None;
                None
            }
        }
    }

    /// Why zero-copy is not to be used on a device, as a trial has shown.
    pub(super) fn distrust(&self, index: u32) -> Option<&String> {
        self.distrusted.get(&index)
    }
}

/// The ports of one device, and what their worker notes of each.
pub(super) struct Watched {
    pub(super) ports: Vec<(PortReport, Arc<ProgressCell>)>,
    queues: u32,
    /// Until it is clear that zero-copy carries; none in copy mode, and where the configuration insists.
    trial: Option<Trial>,
    link: Link,
    late: bool,
    stalled: bool,
    /// That packets may be larger than frames.
    pub(super) large: Option<String>,
    /// The number of the program on it, where the kernel tells.
    pub(super) program: Option<u32>,
}

impl Watched {
    /// `insists`: whether the configuration wants zero-copy or nothing.
    pub(super) fn new(
        device: &KernelDevice,
        queues: u32,
        ports: Vec<(PortReport, Arc<ProgressCell>)>,
        insists: bool,
    ) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let late = check::is_late(&device.driver(), &release);
        let mut watched = Watched {
            ports,
            queues,
            trial: None,
            link: Link::default(),
            late,
            stalled: false,
            large: None,
            program: None,
        };
        watched.trial = (watched.is_zero_copy() && !insists).then(Trial::default);
        watched
    }

    fn is_zero_copy(&self) -> bool {
        self.ports.iter().any(|(port, _)| port.copy == "zero-copy")
    }

    /// What `status` says.
    pub(super) fn reports(&self) -> impl Iterator<Item = PortReport> {
        self.ports.iter().map(|(port, _)| port.clone())
    }
}

/// A device's share in what interfaces do.
struct Use {
    up: bool,
    sends: bool,
    mac: MacAddress,
}

impl Interfaces {
    /// Interfaces count for themselves here, from now on.
    pub(in crate::daemon) fn count_by(&mut self, counters: CountersByName) {
        self.watch.counters = Some(counters);
    }

    /// Looks at all ports; `status` tells. Ports of some devices may be closed, to be opened anew.
    pub(super) fn look_after_ports(&mut self) {
        if self.watch.last.is_some_and(|last| last.elapsed() < LOOK) {
            return;
        }
        let now = Instant::now();
        self.watch.last = Some(now);
        // Of ports that were closed before this look: a queue that is about to be bound again is better not asked about.
        self.reclaim();
        let uses: Vec<(u32, Use)> =
            self.carriers.keys().filter_map(|index| Some((*index, self.use_of(*index)?))).collect();
        let (mut anew, mut probed, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for (index, used) in uses {
            self.heart.beat();
            let Some(carrier) = self.carriers.get_mut(&index) else { continue };
            if let Some(reason) = self.watch.taken_off(index, carrier.watched.program) {
                tracing::warn!("{}: {reason}: attaching anew", carrier.device);
                bare.push(index);
                continue;
            }
            if let Some(reason) = changed(carrier, self.watch.zero_copy_mtu) {
                anew.push((index, reason));
                continue;
            }
            note_large(carrier, self.memory);
            let counters = self.watch.counters.as_ref();
            let counters = counters.and_then(|counters| counters.borrow().get(&carrier.device.name).copied());
            match look(carrier, &used, counters, now) {
                Next::Nothing => {}
                Next::Probe => probed.push((index, carrier.device.name.clone(), check::probe(used.mac))),
                Next::Fails(reason) => {
                    self.watch.distrusted.insert(index, reason.clone());
                    anew.push((index, format!("{reason}; it goes on in copy mode")));
                }
            }
        }
        for (index, name, frame) in probed {
            for (_, answer) in self.ask_all(|_| Some(Question::probe(index, frame))) {
                if let Err(error) = answer {
                    tracing::warn!("{name}: {error}");
                }
            }
        }
        // There is no program whose place could be kept.
        bare.into_iter().for_each(|index| self.detach(index));
        for (index, reason) in &anew {
            if let Some(carrier) = self.carriers.get(index) {
                tracing::warn!("{}: {reason}: attaching anew", carrier.device);
            }
            self.release(*index);
        }
    }

    /// What interfaces do by a device that carries them.
    fn use_of(&self, index: u32) -> Option<Use> {
        let mut used: Option<Use> = None;
        for attached in self.attached.values() {
            for lower in attached.lowers.devices.iter().filter(|lower| lower.index == index) {
                let is_used = lower.sends || lower.receives;
                let used = used.get_or_insert(Use { up: false, sends: false, mac: attached.mac });
                used.up |= attached.report.up && is_used;
                used.sends |= attached.report.up && lower.sends;
            }
        }
        used
    }
}

/// Why a device is to be attached anew: it has other queues, or an MTU that its driver would split packets for.
fn changed(carrier: &Carrier, zero_copy_mtu: u32) -> Option<String> {
    let (device, watched) = (&carrier.device, &carrier.watched);
    // What cannot be asked is about to go away.
    let queues = device.queues().ok()?;
    if queues != watched.queues {
        return Some(format!("it has {queues} queues, and had {}", watched.queues));
    }
    let mtu = device.mtu().ok()?;
    (watched.is_zero_copy() && mtu > zero_copy_mtu)
        .then(|| format!("its MTU is {mtu} now, and packet memory carries {zero_copy_mtu} in zero-copy mode"))
}

/// Notes whether somebody raised the MTU beyond what frames hold, and says so. It goes on: shorter packets are served.
fn note_large(carrier: &mut Carrier, memory: UmemLayout) {
    let native = carrier.is_native();
    let (device, watched) = (&carrier.device, &mut carrier.watched);
    let Ok(mtu) = device.mtu() else { return };
    let large = too_large(&device.name, mtu, memory, native);
    match (&large, &watched.large) {
        (Some(now), before) if before.as_ref() != Some(now) => tracing::warn!("{device}: {now}"),
        (None, Some(_)) => tracing::info!("{device}: its MTU is {mtu} now, which frames hold"),
        _ => {}
    }
    watched.large = large;
}

fn too_large(name: &str, mtu: u32, memory: UmemLayout, native: bool) -> Option<String> {
    let most = UmemLayout::largest_mtu(native, false);
    let held = memory.mtu().min(most);
    (mtu > held).then(|| {
        let restart = if mtu <= most {
            format!(", or restart Ringway, whose frames then hold up to {most}")
        } else if mtu <= UmemLayout::largest_mtu(false, false) {
            "; after a restart Ringway could attach to it in generic mode at best".to_owned()
        } else {
            let more = if most > held { format!(", or {most} and restart Ringway") } else { String::new() };
            format!("{more}; with {mtu} it could not be attached to after a restart")
        };
        format!(
            "its MTU is {mtu} now, and frames hold {held}: of longer packets TCP is cut and all others are lost (\"larger than a \
             frame and not to be cut\" among what ports lost): ip link set {name} mtu {held}{restart}"
        )
    })
}

fn look(carrier: &mut Carrier, used: &Use, counters: Option<InterfaceCounters>, now: Instant) -> Next {
    let (device, watched) = (&carrier.device, &mut carrier.watched);
    watched.link.note(used.up, now);
    let mut progress: Vec<(u32, Progress)> = Vec::new();
    for (port, cell) in &mut watched.ports {
        let noted = cell.read();
        (port.in_receive, port.in_transmit) = (noted.in_receive, noted.in_transmit);
        port.stalled_seconds = check::stalled(&noted, watched.link, watched.late, now).map(|waits| waits.as_secs());
        progress.push((port.queue, noted));
    }
    let stall = watched.ports.iter().find_map(|(port, _)| Some((port.queue, port.stall()?)));
    match (&stall, watched.stalled) {
        (Some((queue, stall)), false) => tracing::warn!("{device} queue {queue} is {stall}"),
        (None, true) => tracing::info!("{device} sends again"),
        _ => {}
    }
    watched.stalled = stall.is_some();
    let (link, late) = (watched.link, watched.late);
    let moment = Moment { now, link, sends: used.sends, late, ports: &progress, counters };
    watched.trial.as_mut().map_or(Next::Nothing, |trial| trial.look(&moment))
}

#[cfg(test)]
mod tests {
    use ringway_shared::InterfaceId;
    use ringway_shared::network::Lower;

    use super::super::meanwhile::tests::interfaces;
    use super::*;

    #[test]
    fn an_mtu_beyond_what_frames_hold_is_told_with_both_numbers() {
        let told = |mtu, memory, native| too_large("eth0", mtu, memory, native).unwrap_or_default();
        let (usual, large) = (UmemLayout::of_frames(8), UmemLayout::for_mtu(8, 3000));
        assert_eq!((told(1774, usual, true), told(3498, large, true), told(3822, large, false)), Default::default());
        let small = told(3800, usual, false);
        assert!(small.starts_with("its MTU is 3800 now, and frames hold 1774: "), "{small}");
        // A restart is advised only where it helps.
        let set = |mtu| format!("ip link set eth0 mtu {mtu}");
        let could_not = "; with 9000 it could not be attached to after a restart";
        for (mtu, memory, native, advice) in [
            (3800, usual, false, format!("{}, or restart Ringway, whose frames then hold up to 3822", set(1774))),
            (3498, usual, true, format!("{}, or restart Ringway, whose frames then hold up to 3498", set(1774))),
            (
                3499,
                usual,
                true,
                format!("{}; after a restart Ringway could attach to it in generic mode at best", set(1774)),
            ),
            (9000, usual, true, format!("{}, or 3498 and restart Ringway{could_not}", set(1774))),
            (9000, usual, false, format!("{}, or 3822 and restart Ringway{could_not}", set(1774))),
            (9000, large, false, format!("{}{could_not}", set(3822))),
            (9000, large, true, format!("{}{could_not}", set(3498))),
        ] {
            let said = told(mtu, memory, native);
            assert!(said.ends_with(&advice), "{said}");
            let is_refused = mtu > UmemLayout::for_mtu(8, mtu).mtu();
            assert_eq!(said.contains("could not be attached"), is_refused, "{said}");
        }
    }

    #[test]
    fn a_device_with_other_queues_or_an_mtu_beyond_zero_copy_is_attached_anew() {
        let device = KernelDevice::by_name("lo").unwrap();
        let (queues, mtu) = (device.queues().unwrap(), device.mtu().unwrap());
        let with = |queues, copy: &str| {
            let port = PortReport { copy: copy.to_owned(), ..PortReport::default() };
            let mut carrier = Carrier::bare(device.clone());
            carrier.watched = Watched::new(&device, queues, vec![(port, Arc::default())], false);
            carrier
        };
        assert_eq!(changed(&with(queues, "zero-copy"), mtu), None);
        assert_eq!(changed(&with(queues, "copy"), mtu - 1), None);
        let told = format!("its MTU is {mtu} now, and packet memory carries {} in zero-copy mode", mtu - 1);
        assert_eq!(changed(&with(queues, "zero-copy"), mtu - 1), Some(told));
        let told = format!("it has {queues} queues, and had {}", queues + 1);
        assert_eq!(changed(&with(queues + 1, "copy"), mtu), Some(told));
    }

    #[test]
    fn a_backup_member_is_no_port_that_ought_to_do_something() {
        let Some((mut all, _latest)) = interfaces(&[1]) else { return };
        let mut uses = |up, receives, sends| {
            let attached = all.attached.get_mut(&InterfaceId(0)).unwrap();
            attached.report.up = up;
            let lower = Lower { receives, sends, ..attached.lowers.devices[0].clone() };
            attached.lowers.devices = Arc::from([lower]);
            all.use_of(1).map(|used| (used.up, used.sends))
        };
        assert_eq!(uses(true, true, true), Some((true, true)));
        assert_eq!(uses(true, true, false), Some((true, false)));
        assert_eq!(uses(true, false, false), Some((false, false)));
        assert_eq!(uses(false, true, true), Some((false, false)));
        assert!(all.use_of(2).is_none());
    }
}
