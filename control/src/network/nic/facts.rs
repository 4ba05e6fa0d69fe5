//! Everything about an interface in one report.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::cpus::Cpus;
use super::findings::{Wish, judge};
use super::links::{NicLink, links};
use super::zero_copy::{Circumstances, verdict};
use super::{HashFields, Hashed, Interrupt, Nic, NicError, driver, flow_hash, interrupts, numa_node, telling};
use crate::network::listing::Listing;
use crate::report::nic::{
    Finding, HashReport, InterruptReport, NicReport, Offload, Queues, RingSizes, RssReport, Severity,
};

/// Features that matter to who takes packets before the kernel does.
const OFFLOADS: [&str; 7] =
    ["rx-vlan-hw-parse", "rx-lro", "rx-gro-hw", "rx-gro", "rx-hashing", "rx-ntuple-filter", "rx-udp-gro-forwarding"];

/// The packets whose hashes are asked for.
const HASHED: [Hashed; 4] = [Hashed::Tcp4, Hashed::Udp4, Hashed::Tcp6, Hashed::Udp6];

/// Asks about interfaces of the calling thread's network namespace.
pub struct Surveyor {
    nic: Nic,
    links: Vec<NicLink>,
    listing: Listing,
    /// The CPUs that take queues' interrupts, by ifindex: asked once, however many interfaces are reported of.
    busy: OnceCell<BTreeMap<u32, Vec<u32>>>,
    cpus: Cpus,
    release: String,
}

impl Surveyor {
    /// Opens what is asked. `allowed`: the CPUs that this process may use.
    pub fn open(allowed: Vec<u32>) -> Result<Self, NicError> {
        let links = links().map_err(NicError::Socket)?;
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let listing = Listing::read().map_err(NicError::Socket)?;
        Ok(Surveyor { nic: Nic::open()?, links, listing, busy: OnceCell::new(), cpus: Cpus::read(allowed), release })
    }

    /// The Ethernet devices, but for Ringway's own.
    pub fn names(&self) -> Vec<String> {
        let mut links: Vec<&NicLink> = self.links.iter().filter(|link| link.ethernet && !link.is_own_tap()).collect();
        links.sort_by_key(|link| link.index);
        links.iter().map(|link| link.name.clone()).collect()
    }

    /// Everything about one of them, with what is to be changed for who wishes this.
    pub fn report(&mut self, name: &str, wish: &Wish) -> Result<NicReport, NicError> {
        let missing = || NicError::Missing { name: name.to_owned() };
        let link = self.links.iter().find(|link| link.name == name).ok_or_else(missing)?.clone();
        let names = |links: Vec<&NicLink>| links.iter().map(|link| link.name.clone()).collect::<Vec<_>>();
        let mut report = NicReport {
            name: link.name.clone(),
            index: link.index,
            kind: link.kind.clone(),
            lowers: names(link.lowers(&self.links)),
            vlans: names(link.vlans(&self.links)),
            up: link.up,
            enabled: link.enabled,
            mtu: link.mtu,
            xdp_attached: link.xdp.map(str::to_owned),
            ..NicReport::default()
        };
        self.ask(&mut report);
        self.sort_out(&mut report, wish);
        Ok(report)
    }

    /// What kernel and driver tell.
    fn ask(&mut self, report: &mut NicReport) {
        let name = report.name.clone();
        let mut unread = Vec::new();
        let nic = &mut self.nic;
        if let Some(driver) = note(&mut unread, driver(&name)) {
            let some = |text: String| Some(text).filter(|text| !text.is_empty() && text != "N/A");
            report.driver = some(driver.name);
            (report.driver_version, report.firmware, report.bus) =
                (some(driver.version), some(driver.firmware), some(driver.bus));
        }
        report.speed_mbit = note(&mut unread, nic.link_speed(&name)).flatten();
        report.numa_node = numa_node(&name);
        report.queues = note(&mut unread, nic.channels(&name)).map(|channels| Queues {
            receive: channels.receive(),
            receive_max: channels.receive_max(),
            transmit: channels.transmit(),
            transmit_max: channels.transmit_max(),
            combined: channels.combined_max > 0,
        });
        report.rings = note(&mut unread, nic.rings(&name)).map(|rings| RingSizes {
            receive: rings.rx,
            receive_max: rings.rx_max,
            transmit: rings.tx,
            transmit_max: rings.tx_max,
        });
        // A device that is down has no queues to be told of.
        let queues = report.queues.map_or(1, |queues| queues.receive);
        report.held_queues = nic.held_queues(report.index, &name, queues).ok();
        let xdp = note(&mut unread, nic.xdp_features(report.index, &name));
        report.xdp_features = xdp.map(|xdp| xdp.words().into_iter().map(str::to_owned).collect());
        if let Some(features) = note(&mut unread, nic.features(&name)) {
            let offload = |name: &&str| {
                features.get(name).map(|one| Offload { name: (*name).to_owned(), on: one.on, fixed: one.fixed })
            };
            report.offloads = OFFLOADS.iter().filter_map(offload).collect();
        }
        report.rss = note(&mut unread, nic.rss(&name)).map(|rss| RssReport {
            function: rss.function.label().to_owned(),
            key_bytes: rss.key.len(),
            entries: rss.spread(),
            symmetric: rss.symmetric,
        });
        for packets in HASHED {
            match flow_hash(&name, packets) {
                // A driver that says nothing is hashed says nothing.
                Ok(HashFields(0)) => {}
                Ok(fields) => report.hashes.push(HashReport {
                    packets: packets.label().to_owned(),
                    fields: fields.to_string(),
                    ports: fields.ports(),
                }),
                // Said once, for all packets.
                Err(error) if packets == Hashed::Tcp4 => {
                    note::<()>(&mut unread, Err(error));
                    break;
                }
                Err(_) => {}
            }
        }
        report.interrupts = interrupts(&name).into_iter().map(interrupt).collect();
        let virtio = telling::folder(&name).and_then(|folder| fs::read_to_string(folder.join("device/features")).ok());
        report.zero_copy = verdict(Circumstances {
            driver: report.driver.as_deref().unwrap_or_default(),
            release: &self.release,
            announced: xdp.map(|xdp| xdp.zero_copy),
            virtio: virtio.as_deref().map(str::trim),
            carried: !report.lowers.is_empty(),
        });
        report.unread = unread;
    }

    fn busy(&self) -> &BTreeMap<u32, Vec<u32>> {
        let of = |link: &NicLink| {
            let queues = interrupts(&link.name).into_iter().filter(Interrupt::is_queue);
            let cpus: Vec<u32> = queues.flat_map(|interrupt| interrupt.cpus).collect();
            (!cpus.is_empty()).then_some((link.index, cpus))
        };
        self.busy.get_or_init(|| self.links.iter().filter(|link| link.ethernet).filter_map(of).collect())
    }

    /// Which CPUs, and what is to be changed.
    fn sort_out(&self, report: &mut NicReport, wish: &Wish) {
        let others = self.busy().iter().filter(|(index, _)| **index != report.index);
        let busy: BTreeSet<u32> = others.flat_map(|(_, cpus)| cpus).copied().collect();
        let queues = report.queues.map_or(1, |queues| queues.receive.min(queues.transmit).max(1));
        report.cpus = self.cpus.suggest(report.numa_node, &busy, queues as usize);
        // What carries a bond or a bridge is attached to all the same.
        let why_not = self.listing.why_not(&report.name).filter(|_| !self.listing.is_member(&report.name));
        report.findings = match why_not {
            // Nothing else matters of it then.
            Some(why) => vec![Finding { severity: Severity::Wrong, text: format!("it {why}"), command: None }],
            None => judge(report, wish, &self.release, &self.cpus.near(report.numa_node)),
        };
    }
}

fn interrupt(of: Interrupt) -> InterruptReport {
    InterruptReport { queue: of.is_queue(), number: of.number, name: of.name, cpus: of.cpus }
}

/// The answer; or why there is none. What a driver has no answer to is no news of software devices, and is told by what is
/// missing: only what may be had otherwise is noted.
fn note<T>(unread: &mut Vec<String>, answer: Result<T, NicError>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) => {
            let text = error.to_string();
            if !matches!(error, NicError::Unsupported { .. }) && !unread.contains(&text) {
                unread.push(text);
            }
            None
        }
    }
}
