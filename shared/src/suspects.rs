//! Backends that seem to be dead although they are still listed, for all workers.
//!
//! **Evidence** is a connection whose client had to ask again, which was then moved to another backend and completed there,
//! while the first one answered nobody, in any worker, from the time on when it was asked. Who only forges addresses gives
//! none: he never sees the numbers by which a client completes a connection. But the first packet of such a connection need
//! not be like its repetition, and one that every host throws away proves nothing. To look at all first packets would be too
//! dear. So a connection whose first packet nobody looked at makes no more than a **doubt**: from then on first packets to that
//! backend are looked at, and connections count whose first packet it had to answer.
//!
//! [`LEAST_EVIDENCE`] connections without an answer in between make a suspect. It gets one new flow in [`PROBE_EVERY`]
//! milliseconds, of all workers together, until it answers one: that ends the suspicion at once. Without fresh evidence, as
//! where nobody asks, it ends after [`FORGOTTEN_AFTER`] milliseconds, so that nobody who takes all probes can keep a backend
//! from coming back.
//!
//! A cell is written when evidence comes, when a probe is sent, and when the backend answers after either: never for a packet
//! of a flow, and not for a new flow either where nothing is wrong.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::address::{address_words, fold};
use crate::counters::WorkerCounters;
use crate::endpoint::{Backend, BackendId};

/// Connections that make a suspect. Those behind a mere doubt do not count.
pub const LEAST_EVIDENCE: u32 = 2;
/// Milliseconds from one new flow to a suspect to the next.
pub const PROBE_EVERY: u32 = 5_000;
/// Milliseconds without fresh evidence after which a backend is none any more.
pub const FORGOTTEN_AFTER: u32 = 30_000;

/// What is known against one backend; zeros for nothing.
#[derive(Default)]
struct Cell {
    // The endpoint's mark, never 0, how many connections, none for a doubt, and since when it did not answer: 16, 16 and 32
    // bits.
    evidence: AtomicU64,
    // When the last evidence came, and when the next probe may be sent: 32 bits each.
    times: AtomicU64,
}

/// A backend that left a connection unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accused {
    backend: BackendId,
    mark: u16,
    asked: u32,
    owed: bool,
}

impl Accused {
    /// The backend with this number, address and port was asked at this time of the workers' clock. `owed` says whether it is
    /// known that it had to answer what it was asked.
    pub fn new(backend: BackendId, address: IpAddr, port: u16, asked: u32, owed: bool) -> Self {
        Accused { backend, mark: mark(address, port), asked, owed }
    }
}

/// A backend's suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// Since when it has answered nobody, by the workers' clock in milliseconds.
    pub since: u32,
    /// Connections that it left unanswered and others completed.
    pub connections: u32,
    /// When the next new flow may go to it.
    pub probe: u32,
}

/// All suspects.
#[derive(Default)]
pub struct Suspects {
    cells: Box<[Cell]>,
    // Where it is written when backends answered.
    workers: Box<[Arc<WorkerCounters>]>,
}

/// Tells an endpoint from another one that gets its number later.
fn mark(address: IpAddr, port: u16) -> u16 {
    let [high, low] = address_words(address);
    fold(high ^ 0x2d35_8dcc_aa6c_78a5, low ^ 0x8bb8_4b93_962e_acc9 ^ u64::from(port)) as u16 | 1
}

fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn unpack(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

/// How long ago `then` was; no time when it lies ahead, as with a worker whose batch began later.
fn age(now: u32, then: u32) -> u32 {
    let age = now.wrapping_sub(then);
    if age > i32::MAX as u32 { 0 } else { age }
}

impl Suspects {
    /// Nobody is suspected. `workers` have the counters of all of them; backends with numbers from `backends` on are never
    /// suspected.
    pub fn new(backends: usize, workers: impl IntoIterator<Item = Arc<WorkerCounters>>) -> Arc<Self> {
        let cells = (0..backends).map(|_| Cell::default()).collect();
        Arc::new(Suspects { cells, workers: workers.into_iter().collect() })
    }

    fn cell(&self, backend: BackendId) -> Option<&Cell> {
        self.cells.get(backend.0 as usize)
    }

    /// Whether there is anything against this backend, a doubt too, or was: if not, nothing else needs to be asked.
    #[inline]
    pub fn is_noted(&self, backend: BackendId) -> bool {
        self.cell(backend).is_some_and(|cell| cell.evidence.load(Ordering::Relaxed) != 0)
    }

    /// Whether, and how, a backend is suspected.
    pub fn suspicion(&self, backend: &Backend, now: u32) -> Option<Suspicion> {
        let cell = self.cell(backend.id)?;
        let (evidence, times) = (cell.evidence.load(Ordering::Relaxed), cell.times.load(Ordering::Relaxed));
        let ([what, since], [last, probe]) = (unpack(evidence), unpack(times));
        let (marked, connections) = ((what >> 16) as u16, what & 0xffff);
        let holds = marked == mark(backend.address, backend.port) && age(now, last) < FORGOTTEN_AFTER;
        (connections >= LEAST_EVIDENCE && holds).then_some(Suspicion { since, connections, probe })
    }

    /// Whether a new flow may go to this suspect now; it counts if so.
    pub fn take_probe(&self, backend: BackendId, now: u32) -> bool {
        let Some(cell) = self.cell(backend) else { return false };
        let times = cell.times.load(Ordering::Relaxed);
        let [last, probe] = unpack(times);
        let taken = pack(last, now.wrapping_add(PROBE_EVERY));
        // Of several workers one gets it.
        is_due(probe, now) && cell.times.compare_exchange(times, taken, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// A connection that this backend left unanswered was completed by another one.
    pub fn accuse(&self, accused: &Accused, now: u32) {
        let Accused { backend, mark, asked, owed } = *accused;
        let Some(cell) = self.cell(backend) else { return };
        if WorkerCounters::answered_since(&self.workers, backend, asked) {
            return;
        }
        let (evidence, times) = (cell.evidence.load(Ordering::Relaxed), cell.times.load(Ordering::Relaxed));
        let ([what, since], [last, probe]) = (unpack(evidence), unpack(times));
        let (marked, before) = ((what >> 16) as u16, what & 0xffff);
        let is_first = marked != mark || age(now, last) >= FORGOTTEN_AFTER;
        let (before, since) = if is_first { (0, asked) } else { (before, since) };
        // What may have been void renews no suspicion.
        if !owed && before > 0 {
            return;
        }
        let connections = (before + u32::from(owed)).min(0xffff);
        let probe = if connections <= LEAST_EVIDENCE { now.wrapping_add(PROBE_EVERY) } else { probe };
        cell.times.store(pack(now, probe), Ordering::Relaxed);
        let next = pack(u32::from(mark) << 16 | connections, since);
        // When another worker was faster, or the backend has answered: that counts, and this does not.
        let _ = cell.evidence.compare_exchange(evidence, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A backend has answered somebody.
    #[inline]
    pub fn clear(&self, backend: BackendId) {
        if let Some(cell) = self.cell(backend)
            && cell.evidence.load(Ordering::Relaxed) != 0
        {
            cell.evidence.store(0, Ordering::Relaxed);
        }
    }
}

/// Whether a time has come.
pub fn is_due(time: u32, now: u32) -> bool {
    now.wrapping_sub(time) <= i32::MAX as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 1));

    fn backend(id: u32, port: u16) -> Backend {
        Backend { id: BackendId(id), address: ADDRESS, port, weight: 1 }
    }

    fn accused(asked: u32) -> Accused {
        Accused::new(BackendId(0), ADDRESS, 80, asked, true)
    }

    #[test]
    fn several_connections_without_an_answer_make_a_suspect_and_one_answer_ends_it() {
        let worker = WorkerCounters::new(2);
        let suspects = Suspects::new(2, [worker.clone(), WorkerCounters::new(2)]);
        let web = backend(0, 80);
        suspects.accuse(&accused(1_000), 2_000);
        assert_eq!((suspects.is_noted(web.id), suspects.suspicion(&web, 2_000)), (true, None), "one is not enough");
        suspects.accuse(&accused(1_500), 2_500);
        let suspicion = Suspicion { since: 1_000, connections: 2, probe: 7_500 };
        assert_eq!(suspects.suspicion(&web, 2_500), Some(suspicion));
        assert_eq!(suspects.suspicion(&backend(0, 81), 2_500), None, "another endpoint with that number");
        assert!(!suspects.is_noted(BackendId(1)));
        suspects.clear(web.id);
        assert_eq!((suspects.is_noted(web.id), suspects.suspicion(&web, 2_500)), (false, None));
        // Whoever was answered meanwhile, and by whichever worker, speaks for it.
        worker.answered(web.id, None, 3_000);
        for asked in [2_900, 3_000] {
            suspects.accuse(&accused(asked), 4_000);
            assert!(!suspects.is_noted(web.id), "{asked}");
        }
        suspects.accuse(&accused(3_001), 4_000);
        assert!(suspects.is_noted(web.id));
    }

    #[test]
    fn connections_whose_first_packet_nobody_looked_at_make_a_doubt_and_renew_nothing() {
        let suspects = Suspects::new(1, []);
        let web = backend(0, 80);
        let doubted = |asked| Accused::new(BackendId(0), ADDRESS, 80, asked, false);
        (1..9).for_each(|n| suspects.accuse(&doubted(n * 1_000), n * 1_000 + 500));
        assert_eq!((suspects.is_noted(web.id), suspects.suspicion(&web, 9_000)), (true, None));
        suspects.accuse(&accused(9_000), 9_500);
        assert_eq!(suspects.suspicion(&web, 9_500), None);
        suspects.accuse(&accused(9_000), 10_000);
        let suspicion = Suspicion { since: 1_000, connections: 2, probe: 15_000 };
        assert_eq!(suspects.suspicion(&web, 10_000), Some(suspicion));
        (10..39).for_each(|n| suspects.accuse(&doubted(n * 1_000), n * 1_000 + 500));
        assert_eq!(suspects.suspicion(&web, 39_999), Some(suspicion));
        assert_eq!(suspects.suspicion(&web, 40_000), None);
    }

    #[test]
    fn a_suspect_gets_one_probe_at_a_time_and_is_forgotten_without_fresh_evidence() {
        // The clock goes round.
        let start = u32::MAX - 6_000;
        let at = |millis: u32| start.wrapping_add(millis);
        let suspects = Suspects::new(1, []);
        let web = backend(0, 80);
        (0..2).for_each(|_| suspects.accuse(&accused(at(0)), at(1_000)));
        let probes = (1_000..36_000).step_by(100).filter(|millis| {
            suspects.suspicion(&web, at(*millis)).is_some() && suspects.take_probe(web.id, at(*millis))
        });
        assert_eq!(probes.collect::<Vec<_>>(), [6_000, 11_000, 16_000, 21_000, 26_000]);
        assert!(suspects.suspicion(&web, at(30_999)).is_some());
        assert_eq!(suspects.suspicion(&web, at(31_000)), None);
        suspects.accuse(&accused(at(31_500)), at(32_000));
        assert_eq!(suspects.suspicion(&web, at(32_000)), None, "it begins anew");
        suspects.accuse(&accused(at(31_500)), at(32_500));
        assert_eq!(suspects.suspicion(&web, at(32_500)).map(|suspicion| suspicion.since), Some(at(31_500)));
        // Each one renews it, and delays no probe.
        suspects.accuse(&accused(at(36_000)), at(37_000));
        let suspicion = suspects.suspicion(&web, at(66_000));
        assert_eq!(suspicion.map(|s| (s.connections, s.probe)), Some((3, at(37_500))));
    }
}
