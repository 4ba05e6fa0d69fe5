//! Whether ports carry what they should: frames that wait for too long, and the trial of zero-copy after it was bound.
//!
//! A driver may take the bind and then send nothing, or give the NIC no buffers (both were seen). So a device that was
//! bound in zero-copy mode is tried once its link is up: a frame is sent by each of its ports, and what the NIC itself
//! counts is looked at. When the trial fails, the device goes on in copy mode.
//!
//! The frame is one of the Ethernet configuration test protocol (type 0x9000), from the interface's own MAC address to that
//! same address, as switches send it to see whether a link is looped. It tells the switch no address that it does not know by
//! that link, so it disturbs neither its tables nor port security nor the filters of virtual functions; and no switch passes
//! it on, since its destination is where it came from. A gratuitous ARP or an LLDP frame would be read by others.

use std::time::{Duration, Instant};

use ringway_dataplane::io::port::Progress;
use ringway_shared::MacAddress;
use ringway_shared::drivers::version;

use crate::report::interfaces::InterfaceCounters;

/// How long frames may wait without one being sent.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long they may in a trial, once the driver has taken them.
const LONG_PATIENCE: Duration = Duration::from_secs(5);
/// How long a link must be up before its ports are judged: what waited for it has gone out by then.
const SETTLED: Duration = Duration::from_secs(2);
/// Packets that a NIC must have lost, and not one received, before its receiving is judged.
const LOSSES: u64 = 8;

/// Since when a link is up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Link(Option<Instant>);

impl Link {
    pub(super) fn note(&mut self, up: bool, now: Instant) {
        self.0 = up.then(|| self.0.unwrap_or(now));
    }

    fn is_settled(&self, now: Instant) -> bool {
        self.0.is_some_and(|since| now.saturating_duration_since(since) >= SETTLED)
    }
}

/// For how long a port has been stalled: frames wait to be sent, and none was for a second. `late`: the driver tells of
/// sent frames only when others follow.
pub(super) fn stalled(progress: &Progress, link: Link, late: bool, now: Instant) -> Option<Duration> {
    let waits = Duration::from_millis(progress.waits);
    let judged = !late || progress.untaken > 0;
    (judged && link.is_settled(now) && waits >= PATIENCE).then_some(waits)
}

/// Whether this driver, of a kernel of this release, tells of sent frames only when others follow: ice before Linux 6.1.
pub(super) fn is_late(driver: &str, release: &str) -> bool {
    driver == "ice" && version(release) < Some((6, 1))
}

/// The frame that a trial sends.
pub(super) fn probe(mac: MacAddress) -> [u8; 60] {
    let mut frame = [0; 60];
    let (destination, rest) = frame.split_at_mut(6);
    destination.copy_from_slice(&mac.0);
    let (source, rest) = rest.split_at_mut(6);
    source.copy_from_slice(&mac.0);
    // The type; skip count 0; function 1 (reply), little endian, with receipt number 0: nobody is to answer.
    for (to, from) in rest.iter_mut().zip([0x90, 0, 0, 0, 1, 0, 0, 0]) {
        *to = from;
    }
    frame
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait, or nothing any more.
    Nothing,
    /// Send [`probe`] by every port.
    Probe,
    /// Zero-copy does not carry, for this reason.
    Fails(String),
}

/// The trial of one device's ports.
#[derive(Debug, Default)]
pub(super) struct Trial {
    probed: bool,
    transmits: bool,
    receives: bool,
    /// What the NIC had counted when its link was up.
    before: Option<InterfaceCounters>,
}

/// A device at one moment.
pub(super) struct Moment<'a> {
    pub(super) now: Instant,
    pub(super) link: Link,
    /// Whether frames may be sent by it: a bond's backup member must not show its address to the switch.
    pub(super) sends: bool,
    pub(super) late: bool,
    /// By queue.
    pub(super) ports: &'a [(u32, Progress)],
    pub(super) counters: Option<InterfaceCounters>,
}

impl Trial {
    /// Looks at the device again.
    pub(super) fn look(&mut self, at: &Moment<'_>) -> Next {
        if !at.link.is_settled(at.now) {
            return Next::Nothing;
        }
        if let Some(reason) = self.transmit(at).or_else(|| self.receive(at)) {
            return Next::Fails(reason);
        }
        if self.transmits || self.probed || !at.sends {
            return Next::Nothing;
        }
        self.probed = true;
        Next::Probe
    }

    fn transmit(&mut self, at: &Moment<'_>) -> Option<String> {
        self.transmits |= !at.ports.is_empty() && at.ports.iter().all(|(_, port)| port.completed > 0);
        let fails = |port: &Progress| {
            let patience = match (port.untaken, at.late) {
                (1.., _) => PATIENCE,
                (0, false) => LONG_PATIENCE,
                (0, true) => return false,
            };
            port.completed == 0 && Duration::from_millis(port.waits) >= patience
        };
        let (queue, port) = at.ports.iter().find(|(_, port)| fails(port)).filter(|_| !self.transmits)?;
        let (count, seconds) = (port.in_transmit, port.waits / 1000);
        Some(format!("zero-copy did not transmit: of {count} frames on queue {queue} none was sent in {seconds} s"))
    }

    fn receive(&mut self, at: &Moment<'_>) -> Option<String> {
        let now = at.counters?;
        let before = *self.before.get_or_insert(now);
        self.receives |= now.rx_packets != before.rx_packets || at.ports.iter().any(|(_, port)| port.received > 0);
        let lost = |counters: InterfaceCounters| counters.rx_missed + counters.rx_over + counters.rx_fifo;
        let lost = lost(now).saturating_sub(lost(before));
        let fails = !self.receives && lost >= LOSSES;
        fails.then(|| {
            format!("zero-copy did not receive: the NIC lost {lost} packets for want of buffers, and none came in")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with one port whose trial is looked at every second from the moment that its link is up.
    struct Bed {
        trial: Trial,
        start: Instant,
        up: Instant,
        sends: bool,
        late: bool,
        port: Progress,
        counters: Option<InterfaceCounters>,
    }

    impl Bed {
        fn new() -> Self {
            let start = Instant::now();
            let (trial, port) = (Trial::default(), Progress::default());
            Bed {
                trial,
                start,
                up: start,
                sends: true,
                late: false,
                port,
                counters: Some(InterfaceCounters::default()),
            }
        }

        fn look(&mut self, second: u64) -> Next {
            let now = self.start + Duration::from_secs(second);
            let link = Link((self.up <= now).then_some(self.up));
            let ports = [(3, self.port)];
            let Bed { sends, late, counters, .. } = *self;
            self.trial.look(&Moment { now, link, sends, late, ports: &ports, counters })
        }
    }

    fn waiting(untaken: u32, waits: u64) -> Progress {
        Progress { in_transmit: 5, untaken, waits, ..Progress::default() }
    }

    #[test]
    fn a_port_that_transmits_is_asked_once_and_left_alone() {
        let mut bed = Bed::new();
        bed.up += Duration::from_secs(3);
        assert_eq!(
            (bed.look(1), bed.look(4)),
            (Next::Nothing, Next::Nothing),
            "the link is not up, or has just come up"
        );
        assert_eq!((bed.look(5), bed.look(6)), (Next::Probe, Next::Nothing));
        bed.port = Progress { completed: 1, ..Progress::default() };
        assert_eq!(bed.look(7), Next::Nothing);
        // What stalls later is told, and is no matter of the trial any more.
        bed.port = Progress { completed: 1, ..waiting(5, 60_000) };
        assert_eq!(bed.look(8), Next::Nothing);
    }

    #[test]
    fn frames_that_stay_in_the_ring_end_the_trial() {
        let mut bed = Bed::new();
        assert_eq!(bed.look(2), Next::Probe);
        bed.port = waiting(5, 999);
        assert_eq!(bed.look(3), Next::Nothing);
        bed.port = waiting(5, 1_500);
        let why = "zero-copy did not transmit: of 5 frames on queue 3 none was sent in 1 s";
        assert_eq!(bed.look(4), Next::Fails(why.into()));
        // While the link is down nothing is sent, and nobody is to blame.
        let mut bed = Bed::new();
        bed.up += Duration::from_secs(100);
        bed.port = waiting(5, 60_000);
        assert_eq!((bed.look(60), bed.look(101)), (Next::Nothing, Next::Nothing));
    }

    #[test]
    fn frames_that_the_driver_took_have_longer_and_with_a_late_driver_for_ever() {
        for (late, waits, fails) in [(false, 4_900, false), (false, 5_000, true), (true, 60_000, false)] {
            let mut bed = Bed { late, port: waiting(0, waits), ..Bed::new() };
            assert_eq!(matches!(bed.look(9), Next::Fails(_)), fails, "{late} {waits}");
        }
        assert!(is_late("ice", "5.19.0-2-amd64") && is_late("ice", "6.0.12"));
        assert!(!is_late("ice", "6.1.0") && !is_late("ice", "7.3.4") && !is_late("igb", "5.19.0"));
    }

    #[test]
    fn a_member_that_must_not_send_is_not_made_to() {
        let mut bed = Bed { sends: false, ..Bed::new() };
        assert_eq!((bed.look(2), bed.look(3)), (Next::Nothing, Next::Nothing));
        bed.sends = true;
        assert_eq!(bed.look(4), Next::Probe, "it is active now");
    }

    #[test]
    fn a_nic_that_loses_everything_it_gets_ends_the_trial() {
        let counters = |rx_packets, rx_missed, rx_fifo| {
            Some(InterfaceCounters { rx_packets, rx_missed, rx_fifo, ..InterfaceCounters::default() })
        };
        let mut bed = Bed { counters: counters(100, 40, 40), ..Bed::new() };
        assert_eq!(bed.look(2), Next::Probe);
        bed.counters = counters(100, 43, 44);
        assert_eq!(bed.look(3), Next::Nothing, "few");
        bed.counters = counters(100, 44, 44);
        let why = "zero-copy did not receive: the NIC lost 8 packets for want of buffers, and none came in";
        assert_eq!(bed.look(4), Next::Fails(why.into()));
        // What receives at all may lose in a burst.
        for (rx_packets, received) in [(101, 0), (100, 1)] {
            let mut bed = Bed { counters: counters(100, 0, 0), ..Bed::new() };
            bed.look(2);
            bed.port.received = received;
            bed.counters = counters(rx_packets, 10_000, 10_000);
            assert_eq!(bed.look(3), Next::Nothing);
        }
    }

    #[test]
    fn a_port_is_stalled_after_a_second_of_an_up_link() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut link = Link::default();
        let told = |link, progress: &Progress, late, second| stalled(progress, link, late, at(second)).is_some();
        assert!(!told(link, &waiting(5, 9_000), false, 9), "the link is down");
        link.note(true, at(9));
        assert!(!told(link, &waiting(5, 9_000), false, 10), "it has just come up");
        link.note(true, at(10));
        assert!(told(link, &waiting(5, 9_000), false, 11));
        assert!(told(link, &waiting(0, 1_000), false, 11));
        assert!(!told(link, &waiting(5, 999), false, 11));
        assert!(!told(link, &waiting(0, 60_000), true, 11), "its driver tells late");
        assert!(told(link, &waiting(1, 60_000), true, 11));
        link.note(false, at(12));
        assert!(!told(link, &waiting(5, 9_000), false, 60));
    }

    #[test]
    fn the_probe_goes_from_the_nic_to_itself() {
        let frame = probe(MacAddress([2, 0, 0, 0, 0, 9]));
        assert_eq!(frame[..22], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 9, 0x90, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    }
}
