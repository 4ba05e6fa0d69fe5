//! What the log says of links: one line when a link goes down, one when it is up again, and why an interface is let go of.
//!
//! Told of are the interfaces that Ringway is attached to and the devices that carry them, so that of a bond each member is. A
//! link that goes up and down all the time is told of a few times, and then every so often with how many changes there were.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ringway_dataplane::af_xdp::Device as KernelDevice;
use ringway_shared::network::Interface;

use super::{Attached, Interfaces};
use crate::network::listing::Listing;

/// The kernel's IFF_UP and IFF_RUNNING.
const UP: u16 = 1;
const RUNNING: u16 = 0x40;
/// Lines that a link may have at once.
const LINES: u32 = 4;
/// How long it takes until it may have one more.
const MORE: Duration = Duration::from_secs(15);

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    /// It is not set up. A device that is deleted is so for a moment.
    Disabled,
    NoCarrier,
}

impl State {
    /// `None` for a link that is not there; another may have its name.
    fn of(device: &KernelDevice) -> Option<Self> {
        KernelDevice::by_name(&device.name).ok().filter(|now| now.index == device.index)?;
        device.flags().ok().map(|flags| match (flags & UP != 0, flags & RUNNING != 0) {
            (false, _) => State::Disabled,
            (true, false) => State::NoCarrier,
            (true, true) => State::Up,
        })
    }

    fn reason(self, name: &str, is_new: bool) -> String {
        match self {
            State::Disabled if is_new => format!("it is not set up; ip link set {name} up"),
            State::Disabled => format!("it was taken down; ip link set {name} up"),
            _ => "it has no carrier; see to its cable, the switch, or whatever its other end is".to_owned(),
        }
    }
}

/// What was told of a link.
struct Told {
    state: State,
    since: Instant,
    /// Changes that were not told of.
    untold: u32,
    lines: u32,
    filled: Instant,
    /// Whether what was told last is how it is.
    is_told: bool,
}

/// What was told of links, by ifindex.
#[derive(Default)]
pub(super) struct LinkLog(BTreeMap<u32, Told>);

impl LinkLog {
    /// What is to be said of a link that is like this now.
    fn note(&mut self, index: u32, name: &str, state: State, now: Instant) -> Option<String> {
        let is_new = !self.0.contains_key(&index);
        let new = Told { state, since: now, untold: 0, lines: LINES, filled: now, is_told: state == State::Up };
        let told = self.0.entry(index).or_insert(new);
        while told.lines < LINES && now.saturating_duration_since(told.filled) >= MORE {
            (told.lines, told.filled) = (told.lines + 1, told.filled + MORE);
        }
        if told.lines == LINES {
            told.filled = now;
        }
        let lasted = now.saturating_duration_since(told.since);
        if told.state != state {
            told.untold += u32::from(!told.is_told);
            (told.state, told.since, told.is_told) = (state, now, false);
        }
        if told.is_told || told.lines == 0 {
            return None;
        }
        let more = match std::mem::take(&mut told.untold) {
            0 => String::new(),
            many => format!(" (it changed {many} more times since the last line)"),
        };
        (told.is_told, told.lines) = (true, told.lines - 1);
        Some(match (state, is_new) {
            (State::Up, _) if more.is_empty() => format!("{name}: its link is up again after {} s", lasted.as_secs()),
            (State::Up, _) => format!("{name}: its link is up{more}"),
            (down, true) => format!("{name}: its link is down: {}", down.reason(name, true)),
            (down, false) => format!("{name}: its link went down: {}{more}", down.reason(name, false)),
        })
    }
}

/// Why Ringway lets go of an interface that is not what it was attached to. `is_listed`: the configuration names it.
pub(super) fn why_gone(device: &KernelDevice, interface: &Interface, is_listed: bool) -> String {
    if !is_listed {
        return "the configuration lists it no more".to_owned();
    }
    let listing = Listing::read().unwrap_or_default();
    let name = listing.names().find(|(index, _)| *index == device.index).map(|(_, name)| name);
    match name {
        Some(name) if name != device.name => format!("it was renamed to {name}"),
        _ if interface.index != 0 => "another device has its name now".to_owned(),
        _ => "it was deleted, or moved to another network namespace".to_owned(),
    }
}

impl Interfaces {
    /// Says which links went down or came up.
    pub(super) fn tell_links(&mut self) {
        let interfaces = self.attached.values().map(|attached| &attached.device);
        let carriers = self.carriers.values().map(|carrier| &carrier.device);
        let devices: BTreeMap<u32, &KernelDevice> =
            interfaces.chain(carriers).map(|device| (device.index, device)).collect();
        self.links.0.retain(|index, _| devices.contains_key(index));
        let now = Instant::now();
        for (index, device) in devices {
            let Some(state) = State::of(device) else { continue };
            match self.links.note(index, &device.name, state, now) {
                Some(line) if state == State::Up => tracing::info!("{line}"),
                Some(line) => tracing::warn!("{line}"),
                None => {}
            }
        }
    }
}

/// Follows a change of the interface's MAC address or MTU. What fails is tried again when the TAP devices are looked after.
pub(super) fn follow_link(attached: &mut Attached, interface: &Interface) {
    let Interface { mac, mtu, .. } = *interface;
    if attached.mac != mac {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_told_of_when_it_goes_down_and_when_it_is_up_again() {
        let (mut log, start) = (LinkLog::default(), Instant::now());
        let mut note =
            |second, state| log.note(7, "eth0", state, start + Duration::from_secs(second)).unwrap_or_default();
        assert_eq!(note(0, State::Up), "", "it is as it should be");
        assert_eq!(
            note(10, State::NoCarrier),
            "eth0: its link went down: it has no carrier; see to its cable, the switch, or whatever its other end is"
        );
        assert_eq!(note(11, State::NoCarrier), "");
        assert_eq!(note(12, State::Disabled), "eth0: its link went down: it was taken down; ip link set eth0 up");
        assert_eq!(note(20, State::Up), "eth0: its link is up again after 8 s");
        assert_eq!(note(21, State::Up), "");
        let mut of_a_start = LinkLog::default();
        let told = of_a_start.note(7, "eth0", State::NoCarrier, start).unwrap();
        assert!(told.starts_with("eth0: its link is down: it has no carrier"), "{told}");
        // Nobody need have taken it down.
        let told = LinkLog::default().note(7, "eth0", State::Disabled, start).unwrap();
        assert_eq!(told, "eth0: its link is down: it is not set up; ip link set eth0 up");
    }

    #[test]
    fn a_link_that_flaps_is_told_of_now_and_then() {
        let (mut log, start) = (LinkLog::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..100 {
            let state = if second % 2 == 0 { State::Up } else { State::NoCarrier };
            told.extend(log.note(7, "eth0", state, start + Duration::from_secs(second)).map(|line| (second, line)));
        }
        let seconds: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [1, 2, 3, 4, 16, 31, 46, 61, 76, 91]);
        assert!(told[4].1.ends_with("(it changed 11 more times since the last line)"), "{told:?}");
        // What it ended with is told when it may be, with nothing more to happen.
        assert_eq!(log.note(7, "eth0", State::NoCarrier, start + Duration::from_secs(104)), None);
        let last = log.note(7, "eth0", State::NoCarrier, start + Duration::from_secs(106)).unwrap();
        assert!(last.contains("its link went down") && last.contains("(it changed 7 more times"), "{last}");
    }
}
