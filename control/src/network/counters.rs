//! The own counters of interfaces and of the devices that carry them, since the start: what the NIC, its driver and the kernel
//! lost before or behind Ringway.
//!
//! The kernel counts for as long as a device lives. Here each interface counts from where Ringway found it, by name: a
//! device that is made again starts at zero, and so does one whose driver forgets its counts; what was counted before stays.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::{LinkAttribute, Stats64};
use rtnetlink::{Handle, new_connection};
use tokio::sync::watch;

use crate::report::interfaces::{InterfaceCounters, InterfaceReport};
use crate::watch::heart;

/// How often the kernel is asked.
const EVERY: Duration = Duration::from_secs(1);

type Reports = watch::Receiver<Arc<[InterfaceReport]>>;
type Sums = BTreeMap<String, InterfaceCounters>;

/// What is said of interfaces, with their counters.
pub struct CountedInterfaces {
    reports: Reports,
    sums: watch::Receiver<Arc<Sums>>,
}

impl CountedInterfaces {
    /// The counters of each, by name.
    pub fn sums(&self) -> watch::Receiver<Arc<BTreeMap<String, InterfaceCounters>>> {
        self.sums.clone()
    }

    /// All interfaces now.
    pub fn now(&self) -> Vec<InterfaceReport> {
        let sums = self.sums.borrow().clone();
        let mut reports = self.reports.borrow().to_vec();
        for report in &mut reports {
            report.counters = sums.get(&report.name).copied();
            let wait = report.next_try.map(|due| due.saturating_duration_since(Instant::now()));
            report.next_try_seconds = wait.map(|wait| wait.as_secs_f64().ceil() as u64);
            report.lowers.iter_mut().for_each(|lower| lower.counters = sums.get(&lower.name).copied());
        }
        reports
    }
}

/// The interfaces of these reports with their counters, as long as the future runs.
pub fn count(reports: Reports) -> (CountedInterfaces, impl Future<Output = ()>) {
    let (sender, sums) = watch::channel(Arc::default());
    (CountedInterfaces { reports: reports.clone(), sums }, follow(reports, sender))
}

async fn follow(reports: Reports, sums: watch::Sender<Arc<Sums>>) {
    let heart = heart("interface counters");
    let mut counters = Counters::default();
    let mut kernel = None;
    let mut told = false;
    loop {
        heart.beat();
        let known = reports.borrow().clone();
        match read(&mut kernel, &known, &mut counters).await {
            Ok(()) => told = false,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("cannot read the interfaces' counters over netlink: {error}; trying again");
                }
                kernel = None;
            }
        }
        sums.send_replace(Arc::new(counters.sums()));
        heart.waiting(tokio::time::sleep(EVERY)).await;
    }
}

async fn read(kernel: &mut Option<Handle>, known: &[InterfaceReport], counters: &mut Counters) -> io::Result<()> {
    let handle = match kernel {
        Some(handle) => handle,
        None => {
            let (connection, handle, _) = new_connection()?;
            // It ends with its handles.
            tokio::spawn(connection);
            kernel.insert(handle)
        }
    };
    for (index, name) in devices(known) {
        let mut links = handle.link().get().match_index(index).execute();
        let message = match links.try_next().await {
            Ok(message) => message,
            // It went away just now.
            Err(rtnetlink::Error::NetlinkError(_)) => continue,
            Err(error) => return Err(io::Error::other(error)),
        };
        let statistics = message.into_iter().flat_map(|message| message.attributes).find_map(|attribute| {
            let LinkAttribute::Stats64(statistics) = attribute else { return None };
            Some(InterfaceCounters::from(&statistics))
        });
        if let Some(now) = statistics {
            counters.note(name, index, now);
        }
    }
    Ok(())
}

/// Interfaces and what carries them, each once.
fn devices(known: &[InterfaceReport]) -> BTreeMap<u32, &str> {
    let lowers = known.iter().flat_map(|report| report.lowers.iter().map(|lower| (lower.index, lower.name.as_str())));
    let themselves = known.iter().map(|report| (report.index, report.name.as_str()));
    lowers.chain(themselves).filter(|(index, _)| *index != 0).collect()
}

impl From<&Stats64> for InterfaceCounters {
    fn from(of: &Stats64) -> Self {
        InterfaceCounters {
            rx_packets: of.rx_packets,
            tx_packets: of.tx_packets,
            rx_errors: of.rx_errors,
            rx_crc: of.rx_crc_errors,
            rx_length: of.rx_length_errors,
            rx_dropped: of.rx_dropped,
            rx_missed: of.rx_missed_errors,
            rx_over: of.rx_over_errors,
            rx_fifo: of.rx_fifo_errors,
            tx_errors: of.tx_errors,
            tx_dropped: of.tx_dropped,
            tx_fifo: of.tx_fifo_errors,
            tx_carrier: of.tx_carrier_errors,
        }
    }
}

/// The counts of one name, and where its device was when it was looked at last.
#[derive(Debug)]
struct Counted {
    index: u32,
    last: InterfaceCounters,
    sum: InterfaceCounters,
}

#[derive(Debug, Default)]
struct Counters(BTreeMap<String, Counted>);

impl Counters {
    fn note(&mut self, name: &str, index: u32, now: InterfaceCounters) {
        let counted = self.0.entry(name.to_owned());
        let counted = counted.or_insert(Counted { index, last: now, sum: InterfaceCounters::default() });
        if counted.index != index {
            counted.last = InterfaceCounters::default();
        }
        counted.sum.add_since(&counted.last, &now);
        (counted.index, counted.last) = (index, now);
    }

    fn sums(&self) -> Sums {
        self.0.iter().map(|(name, counted)| (name.clone(), counted.sum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::drops::InterfaceLosses;
    use crate::report::interfaces::LowerReport;

    #[test]
    fn what_carries_an_interface_is_counted_too() {
        let lower = |index, name: &str| LowerReport { index, name: name.into(), ..LowerReport::default() };
        let interface = |index, name: &str, lowers| InterfaceReport {
            index,
            name: name.into(),
            lowers,
            ..InterfaceReport::default()
        };
        let reports = [
            interface(5, "bond0", vec![lower(2, "eth0"), lower(3, "eth1")]),
            interface(6, "bond0.7", vec![lower(2, "eth0"), lower(3, "eth1")]),
            interface(4, "eth2", vec![lower(4, "eth2")]),
            interface(0, "gone", Vec::new()),
        ];
        let all = [(2, "eth0"), (3, "eth1"), (4, "eth2"), (5, "bond0"), (6, "bond0.7")];
        assert_eq!(devices(&reports), BTreeMap::from(all));
        let lost = |rx_missed| InterfaceCounters { rx_missed, ..InterfaceCounters::default() };
        let sums = ["bond0", "eth0", "eth2"].map(str::to_owned).into_iter().zip([lost(0), lost(9), lost(1)]);
        let (reports, sums) = (watch::channel(Arc::from(reports)).1, watch::channel(Arc::new(sums.collect())).1);
        let now = CountedInterfaces { reports, sums }.now();
        assert_eq!(now[0].lowers[0].counters, Some(lost(9)));
        assert_eq!(now[0].lowers[1].counters, None);
        let rows: Vec<_> =
            InterfaceLosses::of(&now).into_iter().map(|row| (row.name, row.counters.rx_missed)).collect();
        assert_eq!(rows, [("bond0".to_owned(), 0), ("eth2".to_owned(), 1), ("eth0".to_owned(), 9)]);
    }

    #[test]
    fn counts_begin_where_the_interface_was_found_and_go_on_through_resets_and_new_devices() {
        let mut counters = Counters::default();
        let mut note = |name: &str, index, rx_dropped, tx_dropped| {
            counters.note(name, index, InterfaceCounters { rx_dropped, tx_dropped, ..InterfaceCounters::default() });
            let sum = counters.sums()[name];
            (sum.rx_dropped, sum.tx_dropped)
        };
        assert_eq!(note("eth0", 2, 100, 7), (0, 0), "before us");
        assert_eq!(note("eth0", 2, 105, 7), (5, 0));
        assert_eq!(note("eth1", 3, 50, 0), (0, 0));
        assert_eq!(note("eth0", 2, 3, 9), (8, 2), "its driver forgot");
        assert_eq!(note("eth0", 9, 4, 9), (12, 11), "another device of that name");
        assert_eq!(note("eth0", 9, 4, 9), (12, 11));
        assert_eq!(note("eth1", 3, 51, 0), (1, 0));
    }
}
