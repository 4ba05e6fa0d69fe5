//! Plays a story: two workers, what each packet becomes, and what must hold of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use ringway_dataplane::affinity::Affinities;
use ringway_dataplane::clock::Time;
use ringway_dataplane::config::PipelineConfig;
use ringway_dataplane::directory::FlowDirectory;
use ringway_dataplane::io::memory::{Collector, MemoryWorker, Sent};
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::{Counter, Tally};
use ringway_shared::{DropReason, InterfaceId, PortSet, Snapshot};

use crate::bed::*;
use crate::story::{Event, Story};
use crate::{frames, judge};

const ALL: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 external=198.51.100.1 -> 10.0.1.1:8080 10.0.1.2:8080",
    "web tcp [fd00:172:30::41]:80 node=30080 -> [fd00:10::1]:8080 [fd00:10::2]:8080",
    "dns udp 172.30.0.53:53 node=30053 -> 10.0.1.3:5353 10.0.1.4:5353 10.0.1.5:5353",
    "dns udp [fd00:172:30::53]:53 node=30053 -> [fd00:10::3]:5353",
    "sig sctp 172.30.0.42:2905 -> 10.0.1.4:2906",
    "sig sctp [fd00:172:30::42]:2905 -> [fd00:10::4]:2906",
    "empty tcp 172.30.0.44:80 ->",
    "empty udp 172.30.0.44:53 ->",
    "empty udp [fd00:172:30::44]:53 ->",
    "big udp 172.30.0.60:80 -> 10.5.0.1:80",
    "big tcp 172.30.0.60:80 -> 10.5.0.1:80",
    "kept tcp 172.30.0.47:80 lb=198.51.100.7 etp=Local -> 10.0.1.1:8080/local 10.0.1.2:8080/local",
    "kept udp [fd00:172:30::47]:53 lb=2001:db8:7::7 etp=Local -> [fd00:10::1]:5353/local",
    "again tcp 172.30.0.48:80 lb=198.51.100.8 etp=Local -> 10.0.1.1:8080/local",
    "loyal tcp 172.30.0.49:80 affinity=60 -> 10.0.1.1:8080 10.0.1.2:8080",
    "link tcp 172.30.0.45:80 affinity=60 dsr=l2 -> 10.0.1.1:80 10.0.1.2:80",
    "link tcp [fd00:172:30::45]:80 dsr=l2 -> [fd00:10::1]:80",
    "tunnel udp 172.30.0.46:53 dsr=ipip -> 10.0.1.3:53 10.0.1.4:53",
    "tunnel udp [fd00:172:30::46]:53 dsr=ipip -> [fd00:10::3]:53",
    "tunnel tcp 172.30.0.46:80 dsr=ipip -> 10.0.1.3:80",
];

const LESS: &[&str] = &[
    "web tcp 172.30.0.41:80 node=30080 -> 10.0.1.2:8080",
    "web tcp [fd00:172:30::41]:80 -> [fd00:10::2]:8080",
    "dns udp 172.30.0.53:53 -> 10.0.1.4:5353 10.98.0.1:5353",
    "other udp [fd00:172:30::53]:53 -> [fd00:10::9]:5353",
    "sig sctp 172.30.0.42:2905 -> 10.99.0.1:2906 10.4.0.1:2906",
    "empty tcp 172.30.0.44:80 -> 10.0.1.9:80",
    "link tcp 172.30.0.45:80 -> 10.0.1.2:80",
    "tunnel udp 172.30.0.46:53 dsr=l2 -> 10.0.1.4:53",
    "tunnel udp [fd00:172:30::46]:53 -> [fd00:10::3]:53",
];

/// The snapshots that a story may use.
pub(crate) const SNAPSHOTS: &[&str] = &["start", "less", "flushed", "all", "nobody", "known", "none", "again"];

/// What plays stories.
pub(crate) struct Stage {
    bed: Bed,
}

/// What came of a story.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Played {
    pub(crate) packets: u64,
    /// What happened, as numbers: which counters have which order of magnitude, which verdict followed which.
    pub(crate) features: Vec<u32>,
    /// Everything that came out, in order.
    pub(crate) digest: u64,
}

struct Input {
    bytes: Vec<u8>,
    arrives: InterfaceId,
    handed: bool,
    fate: Option<Verdict>,
}

/// Two workers in the midst of a story, or of several one after the other.
pub(crate) struct Scene<'s> {
    stage: &'s Stage,
    workers: [MemoryWorker; 2],
    snapshot: &'s Snapshot,
    now: Time,
    /// By tag.
    inputs: Vec<Input>,
    /// Tags for each worker's next batch.
    next: [Vec<u64>; 2],
    /// Frames that left.
    left: Vec<Sent>,
    digest: DefaultHasher,
    /// Packets of earlier stories.
    earlier: usize,
    /// The books at the end of the story before.
    books: Tally,
    features: Vec<u32>,
    last: u32,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let bed = Bed::of(ALL)
            .then("less", LESS)
            .then_neighbors("flushed", Neighbors::Outside)
            .then("all", ALL)
            .then_neighbors("nobody", Neighbors::None)
            .then_neighbors("known", Neighbors::All)
            .then("none", &[])
            .then("again", ALL);
        Stage { bed }
    }

    /// Plays a story to new workers; panics when something does not hold.
    pub(crate) fn play(&self, story: &Story) -> Played {
        self.scene().play(story)
    }

    /// New workers.
    pub(crate) fn scene(&self) -> Scene<'_> {
        let directory = FlowDirectory::new(256);
        let affinities = Affinities::new(64, 1);
        let worker_of = |number| {
            let single = PipelineConfig::single();
            let snat_ports = PortSet::from(61_000..=61_015);
            let pipeline = PipelineConfig { worker: number, workers: 2, snat_ports, replies_per_second: 4, ..single };
            worker(&Settings {
                pipeline,
                flows: 24,
                frames: 1024,
                directory: Some(directory.clone()),
                affinities: Some(affinities.clone()),
                ..Settings::default()
            })
        };
        Scene {
            stage: self,
            workers: [0, 1].map(worker_of),
            snapshot: self.bed.first(),
            now: ms(1),
            inputs: Vec::new(),
            next: [Vec::new(), Vec::new()],
            left: Vec::new(),
            digest: DefaultHasher::new(),
            earlier: 0,
            books: Tally::default(),
            features: Vec::new(),
            last: 0,
        }
    }
}

/// What stands between two stories for the same workers when they are written as one.
pub(crate) fn between() -> Vec<Event> {
    vec![Event::Wait(1_100), Event::Wait(1_100), Event::Wait(1_100), Event::Use(SNAPSHOTS[0])]
}

impl Scene<'_> {
    /// Plays a story to these workers; panics when something does not hold.
    pub(crate) fn play(&mut self, story: &Story) -> Played {
        for event in &story.events {
            self.happen(event);
        }
        self.flush();
        for event in between() {
            self.happen(&event);
        }
        self.close_books()
    }

    fn happen(&mut self, event: &Event) {
        let arrival = match event {
            Event::Wait(millis) => return self.wait(u64::from(*millis)),
            Event::Use(name) => {
                self.flush();
                self.snapshot = self.stage.bed.snapshot(name);
                return self.wait(0);
            }
            Event::Packet(arrival) => arrival,
        };
        if !arrival.together {
            self.flush();
        }
        for (arrives, mut bytes) in frames::of(arrival, &self.left) {
            bytes.truncate(frames::ROOM);
            if self.next[arrival.worker].len() == 64 {
                self.flush();
            }
            self.next[arrival.worker].push(self.inputs.len() as u64);
            self.inputs.push(Input { bytes, arrives, handed: false, fate: None });
        }
    }

    /// Time passes.
    fn wait(&mut self, millis: u64) {
        self.flush();
        self.now.0 += millis * 1_000_000;
        for at in 0..2 {
            self.workers[at].tick(self.snapshot, self.now);
            self.collect(at);
        }
        self.take_over();
    }

    /// Runs what waits for its batch.
    fn flush(&mut self) {
        for at in 0..2 {
            if self.next[at].is_empty() {
                continue;
            }
            self.now.0 += 1_000;
            let tags = std::mem::take(&mut self.next[at]);
            let inputs = &self.inputs;
            let frames = tags.iter().map(|tag| {
                let input = &inputs[*tag as usize];
                (&*input.bytes, input.arrives, *tag)
            });
            let taken = self.workers[at].run_all(frames, self.snapshot, self.now);
            assert_eq!(taken, tags.len(), "no room");
            self.collect(at);
        }
        self.take_over();
    }

    /// Runs what one worker handed to the other, until nothing is under way.
    fn take_over(&mut self) {
        while let Some(at) = (0..2).find(|at| !self.workers[*at].collector.handed.is_empty()) {
            for handed in std::mem::take(&mut self.workers[at].collector.handed) {
                let owner = usize::from(handed.worker);
                assert!(owner < 2 && owner != at, "handed over to worker {owner}");
                let input = &mut self.inputs[handed.tag as usize];
                assert!(!std::mem::replace(&mut input.handed, true), "handed on");
                assert!(input.bytes == handed.bytes, "changed before it was handed over");
                assert_eq!(input.arrives, handed.arrived);
                assert!(self.workers[owner].take_over(&handed, self.snapshot, self.now), "no room");
                self.collect(owner);
            }
        }
    }

    /// Judges what became of packets.
    fn collect(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let held = worker.pipeline.held();
        assert_eq!(worker.umem.free_frames() as usize + held, worker.umem.total() as usize, "a frame is missing");
        let handed = std::mem::take(&mut worker.collector.handed);
        let Collector { sent, passed, fates, .. } =
            std::mem::replace(&mut worker.collector, Collector { handed, ..Collector::default() });
        let mut passed = passed.iter();
        let mut departures = 0;
        for fate in &fates {
            let input = &mut self.inputs[fate.tag as usize];
            let of = |sent: &&Sent| sent.tag == fate.tag;
            let first = sent.iter().position(|sent| of(&sent)).unwrap_or(0);
            let own = &sent[first..first + sent[first..].iter().take_while(of).count()];
            departures += own.len();
            let class = match fate.verdict {
                Verdict::HandOver { .. } => continue,
                Verdict::Pass { arrived } => {
                    assert_eq!(arrived, input.arrives);
                    judge::passed(&input.bytes, passed.next().expect("a passed packet"));
                    1
                }
                Verdict::Forward { out } => {
                    judge::forwarded(&input.bytes, out, own);
                    2 + own.len().min(3) as u32
                }
                Verdict::Reply { reason, .. } => {
                    judge::replied(&input.bytes, own);
                    0x100 | reason as u32
                }
                Verdict::Drop(reason) => {
                    assert!(own.is_empty(), "a packet that was dropped left");
                    0x200 | reason as u32
                }
                Verdict::Fragment { .. } => panic!("not the last word"),
            };
            assert_eq!(input.fate.replace(fate.verdict), None, "two fates");
            self.features.push(1 << 24 | self.last << 12 | class);
            self.last = class;
            (fate.tag, class).hash(&mut self.digest);
        }
        assert_eq!(departures, sent.len(), "a frame left that nothing tells of");
        assert!(passed.next().is_none(), "a packet was passed that nothing tells of");
        for sent in &sent {
            (sent.out.0, sent.tag, &sent.bytes).hash(&mut self.digest);
        }
        self.left.extend(sent);
        let old = self.left.len().saturating_sub(64);
        self.left.drain(..old);
    }

    /// Nothing is held any more: every packet has its fate, and the books say so.
    fn close_books(&mut self) -> Played {
        let mut sum = Tally::default();
        for worker in &mut self.workers {
            assert_eq!(worker.pipeline.held(), 0, "held for ever");
            let tally = worker.tally();
            assert!(tally.closes(), "the ledger does not close: {tally:?}");
            sum.merge(&tally);
        }
        let fates = self.inputs[self.earlier..].iter().map(|input| input.fate.expect("a packet without a fate"));
        let [mut forwarded, mut replied, mut passed] = [0; 3];
        let mut drops = [0u64; DropReason::ALL.len()];
        let packets = fates.len() as u64;
        for fate in fates {
            match fate {
                Verdict::Forward { .. } => forwarded += 1,
                Verdict::Reply { .. } => replied += 1,
                Verdict::Pass { .. } => passed += 1,
                Verdict::Drop(reason) => drops[reason as usize] += 1,
                other => panic!("{other:?} is no fate"),
            }
        }
        let grown = |counter| sum.get(counter) - self.books.get(counter);
        assert_eq!(grown(Counter::Rx), packets, "received");
        assert_eq!(grown(Counter::Forwarded), forwarded, "forwarded");
        assert_eq!(grown(Counter::Replied), replied, "replied");
        assert_eq!(grown(Counter::Passed), passed, "passed");
        let magnitude = |count: u64| 64 - count.leading_zeros();
        for reason in DropReason::ALL {
            let count = drops[reason as usize];
            assert_eq!(sum.drops(reason) - self.books.drops(reason), count, "drops: {}", reason.label());
            if count > 0 {
                self.features.push(2 << 24 | (reason as u32) << 8 | magnitude(count));
            }
        }
        let counters = [
            Counter::HandedOver,
            Counter::FlowsOpened,
            Counter::FlowsClosed,
            Counter::FlowsEvicted,
            Counter::FlowsRescued,
            Counter::Stateless,
            Counter::RepliesLimited,
        ];
        for counter in counters {
            self.features.push(3 << 24 | (counter as u32) << 8 | magnitude(grown(counter)));
        }
        self.books = sum;
        self.earlier = self.inputs.len();
        self.last = 0;
        let digest = self.digest.finish();
        Played { packets, features: std::mem::take(&mut self.features), digest }
    }
}
