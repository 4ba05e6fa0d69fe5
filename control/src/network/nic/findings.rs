//! What is to be changed at a NIC, judged by its report: the worst first, each with the command that changes it.

mod taken;

use ringway_dataplane::af_xdp::UmemLayout;
use ringway_shared::drivers::{version, zero_copy_since};

use crate::config::{RssMode, XdpMode, ZeroCopy};
use crate::report::nic::{Finding, NicReport, Queues, Severity};

/// Receive descriptors below which a burst of a millisecond overflows a NIC of 10 Gbit/s.
const FEW_DESCRIPTORS: u32 = 1_024;
/// What is advised then.
const ENOUGH_DESCRIPTORS: u32 = 2_048;

/// What the configuration asks of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How XDP is to be attached.
    pub xdp: XdpMode,
    /// Whether frames may be, or must not be, copied.
    pub zero_copy: ZeroCopy,
    /// Whether Ringway may tell the NIC to hash the ports of UDP.
    pub rss: RssMode,
    /// The workers that are asked for.
    pub workers: Option<usize>,
    /// What an instance that runs has.
    pub running: Running,
}

/// An instance of Ringway that runs with this configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Running {
    /// Nobody asked.
    #[default]
    Unasked,
    /// Nobody answers.
    Nobody,
    /// It is attached to these devices.
    Attached(Vec<String>),
    /// It may not be asked.
    Denied,
}

/// Where it is judged.
struct Here<'h> {
    /// What `uname -r` says.
    release: &'h str,
    /// CPUs near the NIC that Ringway may use.
    near: &'h [u32],
}

/// What is to be changed.
fn of(nic: &NicReport, wish: &Wish, here: &Here<'_>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    if nic.lowers.is_empty() {
        findings.link(nic);
        findings.taken(nic, wish);
        findings.xdp(nic, wish, here);
        findings.mtu(nic, wish);
        findings.zero_copy(nic, wish);
        findings.queues(nic, wish, here);
        findings.offloads(nic, wish);
        findings.hash(nic, wish);
        findings.interrupts(nic);
    } else {
        // Whatever is below it: nothing arrives by it.
        if !nic.up && !nic.enabled {
            findings.is_down(nic);
        }
        let kind = nic.kind.as_deref().unwrap_or("device");
        let text = format!("a {kind}: what counts is below it, at {}", nic.lowers.join(", "));
        findings.note(text, Some(format!("ringway nic {}", nic.lowers.join(" "))));
    }
    findings.0.sort_by_key(|finding| finding.severity);
    findings.0
}

/// What is to be changed at a NIC that is described so, on a machine of this kernel with these CPUs near it.
pub fn judge(nic: &NicReport, wish: &Wish, release: &str, near: &[u32]) -> Vec<Finding> {
    of(nic, wish, &Here { release, near })
}

/// Adds what interfaces that are used together are short of.
pub fn together(nics: &mut [NicReport]) {
    let queues = |nic: &NicReport| nic.queues.map_or(1, |queues| queues.receive.min(queues.transmit));
    let own = |nic: &&mut NicReport| nic.lowers.is_empty();
    let most = nics.iter().filter(|nic| nic.lowers.is_empty()).map(queues).max().unwrap_or(0);
    for nic in nics.iter_mut().filter(own).filter(|nic| queues(nic) < most) {
        let now = queues(nic);
        let text =
            format!("{}, and another listed interface has {most}: the fewest make the workers", plural(now, "queue"));
        let command = nic.queues.filter(|queues| queues.receive_max.min(queues.transmit_max) >= most);
        let command = command.and_then(|queues| set_queues(nic, queues, most));
        nic.findings.push(Finding { severity: Severity::Slow, text, command });
        nic.findings.sort_by_key(|finding| finding.severity);
    }
}

/// What gives a device so many queues; nothing does from outside where a program makes them, one for each descriptor that it opens.
fn set_queues(nic: &NicReport, queues: Queues, number: u32) -> Option<String> {
    let name = &nic.name;
    (!is_held_open(nic)).then(|| match queues.combined {
        true => format!("ethtool -L {name} combined {number}"),
        false => format!("ethtool -L {name} rx {number} tx {number}"),
    })
}

/// Whether it is a tun or tap device.
fn is_held_open(nic: &NicReport) -> bool {
    nic.driver.as_deref() == Some("tun")
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, text: String, command: Option<String>) {
        self.0.push(Finding { severity, text, command });
    }

    fn wrong(&mut self, text: String, command: Option<String>) {
        self.add(Severity::Wrong, text, command);
    }

    fn slow(&mut self, text: String, command: Option<String>) {
        self.add(Severity::Slow, text, command);
    }

    fn note(&mut self, text: String, command: Option<String>) {
        self.add(Severity::Note, text, command);
    }

    fn is_down(&mut self, nic: &NicReport) {
        self.wrong("it is down".into(), Some(format!("ip link set {} up", nic.name)));
    }

    fn link(&mut self, nic: &NicReport) {
        match (nic.up, nic.enabled) {
            (true, _) => {}
            (false, true) => {
                self.wrong("it is up, but has no carrier: see to its cable and the other end".into(), None)
            }
            (false, false) => self.is_down(nic),
        }
        if nic.driver.as_deref() == Some("igb") {
            self.note("igb restarts its link for about 3 s whenever Ringway starts and ends".into(), None);
        }
    }

    fn xdp(&mut self, nic: &NicReport, wish: &Wish, here: &Here<'_>) {
        let (name, driver) = (&nic.name, nic.driver.as_deref().unwrap_or("its driver"));
        let lacks = |word: &str| nic.xdp_features.as_ref().is_some_and(|has| !has.iter().any(|one| one == word));
        let generic = wish.xdp == XdpMode::Generic;
        if driver == "hv_netvsc" {
            let why = "what its virtual function receives (accelerated networking) passes a native program by";
            match wish.xdp {
                XdpMode::Native => self.wrong(format!("hv_netvsc with xdp: native: {why}; write xdp: auto"), None),
                XdpMode::Auto | XdpMode::Generic => {
                    self.note(format!("hv_netvsc runs XDP in generic mode: {why}"), None)
                }
            }
        } else if lacks("basic") || lacks("redirect") {
            match wish.xdp {
                XdpMode::Native => {
                    self.wrong(
                        format!("{driver} has no native XDP, and xdp: native asks for it; write xdp: auto"),
                        None,
                    );
                }
                _ => self
                    .slow(format!("{driver} has no native XDP: generic mode, which is slower and always copies"), None),
            }
        }
        let merges = nic
            .offloads
            .iter()
            .any(|offload| offload.on && ["rx-gro", "rx-lro", "rx-gro-hw"].contains(&&*offload.name));
        let (major, minor) = version(here.release).unwrap_or((7, 0));
        if generic && merges && (major, minor) < (6, 6) {
            let text =
                format!("generic XDP before Linux 6.6 (here {major}.{minor}) loses packets that are merged on receipt");
            self.wrong(text, Some(format!("ethtool -K {name} gro off lro off rx-gro-hw off")));
        }
    }

    fn mtu(&mut self, nic: &NicReport, wish: &Wish) {
        let has = |word: &str| nic.xdp_features.as_ref().is_none_or(|has| has.iter().any(|one| one == word));
        let native = match wish.xdp {
            XdpMode::Native => true,
            XdpMode::Auto => has("basic") && has("redirect") && nic.driver.as_deref() != Some("hv_netvsc"),
            XdpMode::Generic => false,
        };
        let direct = native && wish.zero_copy != ZeroCopy::Off && nic.zero_copy.possible == Some(true);
        let most = UmemLayout::largest_mtu(native, direct);
        if nic.mtu <= most {
            return;
        }
        let why = match (native, direct) {
            (_, true) => "frames hold without a copy, where drivers count their room in whole KiB",
            (true, _) => "native XDP takes, where a packet is one buffer",
            _ => "a frame of Ringway holds",
        };
        let text = format!("MTU {} is more than the {most} that {why}", nic.mtu);
        let command = Some(format!("ip link set {} mtu {most}", nic.name));
        // What is too long for that only is copied.
        let copies = direct && wish.zero_copy != ZeroCopy::On && nic.mtu <= UmemLayout::largest_mtu(native, false);
        if copies { self.slow(text, command) } else { self.wrong(text, command) }
    }

    fn zero_copy(&mut self, nic: &NicReport, wish: &Wish) {
        if nic.zero_copy.possible != Some(false) || wish.zero_copy == ZeroCopy::Off || wish.xdp == XdpMode::Generic {
            return;
        }
        let text = format!("no zero-copy: {}", nic.zero_copy.reason);
        match wish.zero_copy {
            ZeroCopy::On => {
                self.wrong(format!("{text}; zeroCopy: on does not start with it, write zeroCopy: auto"), None)
            }
            _ if zero_copy_since(nic.driver.as_deref().unwrap_or_default()).is_some() => self.slow(text, None),
            // Nothing helps.
            _ => self.note(text, None),
        }
    }

    fn queues(&mut self, nic: &NicReport, wish: &Wish, here: &Here<'_>) {
        let name = &nic.name;
        let Some(queues) = nic.queues else { return };
        let set = |number: u32| set_queues(nic, queues, number);
        let (now, most) = (queues.receive.min(queues.transmit), queues.receive_max.min(queues.transmit_max));
        let cpus = here.near.len() as u32;
        if now == 0 && is_held_open(nic) {
            // Whatever else is said of its queues comes with the program.
            let text = "no program holds it open: a tun or tap device has queues, and a carrier, only while one does";
            return self.note(text.into(), None);
        }
        if nic.driver.as_deref() == Some("ena") && now > most / 2 && wish.xdp != XdpMode::Generic {
            let half = (most / 2).max(1);
            self.wrong(
                format!("ena has native XDP only with half of its queues in use: {now} of {most} are"),
                set(half),
            );
        } else if let Some(workers) = wish.workers.map(|workers| workers as u32) {
            if workers > now {
                let command = if workers <= most { set(workers) } else { None };
                let more = if command.is_none() {
                    format!("; name at most {} in workers.cpus", plural(most, "CPU"))
                } else {
                    String::new()
                };
                self.wrong(
                    format!("{} for {workers} workers: Ringway does not start{more}", plural(now, "queue")),
                    command,
                );
            } else if workers < now {
                self.note(format!("{now} queues for {}: each polls several", plural(workers, "worker")), set(workers));
            }
        } else if now > cpus {
            self.slow(
                format!("{now} queues for {}: workers take turns on them", plural(cpus, "CPU")),
                set(cpus.max(1)),
            );
        } else if now < most.min(cpus) {
            let more = most.min(cpus);
            let text = format!("{} for {cpus} CPUs, and it may have {most}: one worker a queue", plural(now, "queue"));
            if nic.kind.is_some() { self.note(text, set(more)) } else { self.slow(text, set(more)) }
        }
        if nic.driver.as_deref() == Some("virtio_net")
            && wish.xdp != XdpMode::Generic
            && queues.transmit_max < now + cpus
        {
            let wanted = now + cpus;
            self.note(
                format!(
                    "the kernel logs \"XDP request {wanted} queues but max is {}\": it sends under a lock what other NICs \
                     redirect; Ringway does not need that",
                    queues.transmit_max
                ),
                None,
            );
        }
        if let Some(rings) = nic.rings
            && (1..FEW_DESCRIPTORS).contains(&rings.receive)
            && rings.receive_max > rings.receive
        {
            let more = rings.receive_max.min(ENOUGH_DESCRIPTORS);
            self.slow(
                format!(
                    "{} receive descriptors a queue, of {} possible: bursts are lost",
                    rings.receive, rings.receive_max
                ),
                Some(format!("ethtool -G {name} rx {more}")),
            );
        }
    }

    fn offloads(&mut self, nic: &NicReport, wish: &Wish) {
        let name = &nic.name;
        let on = |feature: &str| nic.offloads.iter().find(|offload| offload.name == feature && offload.on);
        if on("rx-vlan-hw-parse").is_some_and(|strips| strips.fixed) && nic.kind.is_none() {
            let text = "it takes VLAN tags off before XDP sees them (rx-vlan-hw-parse), and cannot be told not to";
            match nic.vlans.is_empty() {
                true => self.note(format!("{text}: a tagged frame looks untagged"), None),
                false => self.wrong(format!("{text}, and {} is above", nic.vlans.join(", ")), None),
            }
        } else if on("rx-vlan-hw-parse").is_some() && nic.kind.is_none() {
            self.note(
                "it takes VLAN tags off now (rx-vlan-hw-parse): Ringway switches that off when it attaches, and on again when it lets go"
                    .into(),
                None,
            );
        }
        if on("rx-lro").is_some() && wish.xdp != XdpMode::Generic {
            self.slow(
                "it merges packets (rx-lro), for which most drivers refuse native XDP".into(),
                Some(format!("ethtool -K {name} lro off")),
            );
        }
        if on("rx-gro-hw").is_some_and(|offload| offload.fixed) && nic.driver.as_deref() == Some("virtio_net") {
            self.slow(
                "virtio_net refuses native XDP while the hypervisor merges packets, and it may not be told to stop: have the \
                 hypervisor offer ctrl_guest_offloads=on, or guest_tso4=off guest_tso6=off"
                    .into(),
                None,
            );
        }
    }

    fn hash(&mut self, nic: &NicReport, wish: &Wish) {
        let name = &nic.name;
        if nic.queues.is_none_or(|queues| queues.receive < 2) {
            return;
        }
        for hash in nic.hashes.iter().filter(|hash| !hash.ports) {
            let packets = &hash.packets;
            let text =
                format!("{packets} is spread over queues by {} only now: one pair of hosts is one queue", hash.fields);
            let command = format!("ethtool -N {name} rx-flow-hash {packets} sdfn");
            match packets.starts_with("udp") && wish.rss == RssMode::Auto {
                true => self.note(
                    format!("{text}; with several workers Ringway tells it to hash ports when it attaches (rss: auto)"),
                    None,
                ),
                false => self.slow(text, Some(command)),
            }
        }
        let Some(rss) = &nic.rss else {
            // Software devices hash in a way of their own.
            if nic.kind.is_none() {
                self.note("its RSS cannot be read: replies are handed over between workers".into(), None);
            }
            return;
        };
        let (least, most) =
            (rss.entries.iter().min().copied().unwrap_or(0), rss.entries.iter().max().copied().unwrap_or(0));
        let queues = nic.queues.map_or(0, |queues| queues.receive);
        let idle = (queues as usize).saturating_sub(rss.entries.iter().filter(|entries| **entries > 0).count());
        if !rss.entries.is_empty() && (idle > 0 || most > 2 * least) {
            let text = match idle {
                0 => format!("the RSS table is uneven: {least} entries of one queue, {most} of another"),
                idle => format!("the RSS table leaves {} without packets", plural(idle as u32, "queue")),
            };
            self.slow(text, Some(format!("ethtool -X {name} equal {queues}")));
        }
        if rss.key_bytes == 0 {
            self.note("its driver does not tell the RSS key: replies are handed over between workers".into(), None);
        } else if rss.function != "toeplitz" || rss.symmetric {
            let how = if rss.symmetric { "symmetric" } else { &rss.function };
            self.note(format!("its RSS hash is {how}: queues are not computed, and replies handed over"), None);
        }
    }

    fn interrupts(&mut self, nic: &NicReport) {
        let queues: Vec<_> = nic.interrupts.iter().filter(|interrupt| interrupt.queue).collect();
        let Some(first) = queues.first() else { return };
        let several = nic.queues.is_some_and(|queues| queues.receive > 1);
        if several && queues.len() > 1 && first.cpus.len() == 1 && queues.iter().all(|one| one.cpus == first.cpus) {
            let cpu = first.cpus.first().copied().unwrap_or_default();
            let to = nic.cpus.iter().find(|other| **other != cpu);
            let command = queues.get(1).zip(to);
            self.slow(
                format!("all its queues' interrupts are on CPU {cpu}"),
                command.map(|(second, to)| format!("echo {to} > /proc/irq/{}/smp_affinity_list", second.number)),
            );
        }
    }
}

fn plural(number: u32, word: &str) -> String {
    format!("{number} {word}{}", if number == 1 { "" } else { "s" })
}
