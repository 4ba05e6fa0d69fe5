//! Looking after the TAP devices: others can take them down, rename or delete them like any device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::{Tap, TapError};
use ringway_dataplane::worker::Question;
use ringway_shared::{InterfaceId, MacAddress};

use super::{Attached, Interfaces};

/// How often the devices are looked at.
const LOOK: Duration = Duration::from_millis(900);
/// Every so many looks their settings are looked at too.
const THOROUGH: u32 = 5;

/// When the devices were looked at.
pub(super) struct Looks {
    last: Instant,
    number: u32,
}

impl Looks {
    pub(super) fn new(now: Instant) -> Self {
        Looks { last: now, number: 0 }
    }
}

/// What a look found.
enum Found {
    Right,
    /// Put right in place, or another device is to be used from now on.
    Mended(String, Option<Arc<Tap>>),
    Problem(String),
    /// It is there and in use, and cannot be put right.
    Unmended(String),
}

impl Interfaces {
    /// Looks whether every interface has its TAP device as it should be, and puts right what is not; and looks at the ports.
    /// `status` tells. Whether devices were let go of, to be attached anew.
    pub(in crate::daemon) fn look_after(&mut self) -> bool {
        let before = self.carriers.len();
        self.tell_links();
        self.look_after_taps();
        self.look_after_ports();
        self.tell();
        self.carriers.len() < before
    }

    /// The same, as something changed at a NIC just now.
    pub(in crate::daemon) fn look_at_once(&mut self) -> bool {
        self.watch.hurry();
        self.look_after()
    }

    /// Whether there was anything to tell.
    pub(super) fn look_after_taps(&mut self) -> bool {
        if self.looks.last.elapsed() < LOOK {
            return false;
        }
        self.looks.last = Instant::now();
        self.looks.number = self.looks.number.wrapping_add(1);
        let thorough = self.looks.number.is_multiple_of(THOROUGH);
        let mut changed = thorough && self.look_after_offloads();
        let ids: Vec<InterfaceId> = self.attached.keys().copied().collect();
        for id in ids {
            self.heart.beat();
            let Some(attached) = self.attached.get_mut(&id) else { continue };
            match look(attached, thorough) {
                Found::Right => changed |= attached.note_right(),
                Found::Mended(what, tap) => {
                    changed = true;
                    attached.note_mended(&what);
                    if let Some(tap) = tap {
                        attached.use_tap(&tap);
                        self.hand_out(id, &tap);
                    }
                }
                Found::Problem(problem) => {
                    attached.report.tap = None;
                    changed |= attached.note_problem(problem);
                }
                Found::Unmended(problem) => changed |= attached.note_problem(problem),
            }
        }
        changed
    }

    /// Every worker may have to give back what came by this interface: others hand packets over.
    pub(super) fn hand_out(&mut self, id: InterfaceId, tap: &Arc<Tap>) {
        for (_, answer) in self.ask_all(|_| Some(Question::tap(id, Some(tap.clone())))) {
            if let Err(error) = answer {
                tracing::warn!("the TAP device {}: {error}", tap.device());
            }
        }
    }
}

fn look(attached: &Attached, thorough: bool) -> Found {
    let device = &attached.device;
    // An interface that is going away is let go of elsewhere.
    let Ok(mac) = device.mac() else { return Found::Right };
    let follows = attached.tap.as_ref().is_some_and(|tap| is_behind(tap, attached, mac));
    let gone = match attached.tap.as_ref().map(|tap| tap.mend(device, thorough)) {
        Some(Ok(mended)) if mended.is_empty() || follows => return Found::Right,
        Some(Ok(mended)) => return Found::Mended(mended.join(", "), None),
        Some(Err(TapError::Gone { how, .. })) => how,
        Some(Err(error)) => return Found::Unmended(error.to_string()),
        None => "there was none".to_owned(),
    };
    match Tap::open(device) {
        Ok(tap) => Found::Mended(gone, Some(Arc::new(tap))),
        Err(error) => Found::Problem(error.to_string()),
    }
}

/// Whether a TAP device is as its interface was before that changed just now, which the network has not told yet: nobody else
/// changed anything about it. `mac`: the interface's now.
fn is_behind(tap: &Tap, attached: &Attached, mac: MacAddress) -> bool {
    let other_mtu = attached.device.mtu().is_ok_and(|mtu| mtu != attached.mtu);
    mac != attached.mac && tap.device().mac() == Ok(attached.mac) || other_mtu && tap.device().mtu() == Ok(attached.mtu)
}

impl Attached {
    fn use_tap(&mut self, tap: &Arc<Tap>) {
        self.report.tap = Some(tap.device().name.clone());
        self.report.tap_notes = tap.notes().to_vec();
        self.tap = Some(tap.clone());
    }

    /// Whether that is news.
    fn note_right(&mut self) -> bool {
        let report = &mut self.report;
        let Some(tap) = self.tap.as_ref().filter(|_| report.tap_problem.is_some()) else { return false };
        report.tap_problem = None;
        tracing::info!("{}: the TAP device {} is as it should be again", report.name, tap.device().name);
        true
    }

    fn note_mended(&mut self, what: &str) {
        let report = &mut self.report;
        report.tap_problem = None;
        report.tap_mended += 1;
        report.tap_last_mend = Some(what.to_owned());
        // Who does it again and again is told of at 1, 2, 4, 8 …
        let (name, times) = (&report.name, report.tap_mended);
        if times.is_power_of_two() {
            tracing::warn!(
                "{name}: set the TAP device up again, the way of packets back to the kernel: {what} (time {times})"
            );
        }
    }

    /// Whether it is a new one.
    fn note_problem(&mut self, problem: String) -> bool {
        let report = &mut self.report;
        let is_new = report.tap_problem.as_ref() != Some(&problem);
        if is_new {
            let lost = if report.tap.is_none() { "are" } else { "may be" };
            tracing::warn!("{}: packets that are not ours but reach a worker {lost} lost: {problem}", report.name);
            report.tap_problem = Some(problem);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use ringway_dataplane::af_xdp::Device;
    use ringway_shared::network::Lowers;

    use super::*;
    use crate::demo::netns::{End, Namespace, veth};
    use crate::report::interfaces::InterfaceReport;

    #[test]
    fn a_bridge_without_ports_keeps_its_tap_device_and_no_alarm() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return eprintln!("SKIPPED: needs root to make network namespaces");
        }
        let namespace = Namespace::create("taps", "bridge").unwrap();
        let end = |link| End { namespace: &namespace, link, mac: None };
        veth(end("port0"), end("peer0"), 1).unwrap();
        namespace.bridge("br0").unwrap();
        namespace.join("port0", "br0").unwrap();
        let test = || {
            let device = Device::by_name("br0").unwrap();
            let tap = Arc::new(Tap::open(&device).unwrap());
            namespace.ip(&["link", "set", "port0", "nomaster"]).unwrap();
            let mac = device.mac().unwrap();
            assert_eq!(mac, MacAddress([0; 6]));
            let (lowers, report) = (Lowers::itself(device.index, "br0".into()), InterfaceReport::default());
            let mut attached = Attached { device, mac, mtu: 1500, lowers, tap: None, report };
            attached.use_tap(&tap);
            assert!(matches!(look(&attached, true), Found::Right));
            assert!(tap.set_mac(mac).is_ok());
            // What could not be put right is told until it is.
            attached.note_problem("cannot set the MTU".to_owned());
            assert_eq!(attached.report.tap.as_ref(), Some(&tap.device().name), "it is in use");
            assert!(attached.note_right() && attached.report.tap_problem.is_none() && !attached.note_right());
        };
        namespace.enter(test).unwrap();
    }

    #[test]
    fn a_tap_device_that_follows_its_interface_was_changed_by_nobody() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            return eprintln!("SKIPPED: needs root to make network namespaces");
        }
        let namespace = Namespace::create("taps", "follows").unwrap();
        let end = |link| End { namespace: &namespace, link, mac: None };
        veth(end("nic0"), end("peer0"), 1).unwrap();
        let test = || {
            let device = Device::by_name("nic0").unwrap();
            let (tap, mac) = (Arc::new(Tap::open(&device).unwrap()), device.mac().unwrap());
            let lowers = Lowers::itself(device.index, "nic0".into());
            let report = InterfaceReport::default();
            let mut attached = Attached { device, mac, mtu: 1500, lowers, tap: None, report };
            attached.use_tap(&tap);
            // Sooner than the network tells.
            namespace.ip(&["link", "set", "nic0", "mtu", "1400", "address", "02:00:00:00:00:09"]).unwrap();
            assert!(matches!(look(&attached, true), Found::Right));
            assert_eq!((tap.device().mtu(), tap.device().mac()), (Ok(1400), Ok(MacAddress([2, 0, 0, 0, 0, 9]))));
            (attached.mac, attached.mtu) = (MacAddress([2, 0, 0, 0, 0, 9]), 1400);
            tap.device().set_mtu(1300).unwrap();
            let found = look(&attached, true);
            assert!(matches!(&found, Found::Mended(what, None) if what == "its MTU was 1300"));
        };
        namespace.enter(test).unwrap();
    }
}
