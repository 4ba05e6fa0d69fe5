//! Rows: a bed, a script of packets with what becomes of each, and the whole ledger at the end.
//!
//! A script has one event a line:
//!
//! ```text
//! outside tcp S 203.0.113.9:40000 > 172.30.0.41:80     a packet arrives (see `text`); `times=N`: N of them, whose source
//!                                                      ports count up
//! -> forward inside 10.0.255.254:A > 10.0.1.1:8080     what becomes of it: the frame that leaves, byte for byte; what is
//!                                                      not said is as it came, TTL less one, MACs of the way out;
//!                                                      without addresses the frame is not looked at; `by=ADDRESS`: its
//!                                                      MAC is this one's; `within=SRC>DST`: inside such an IP packet
//! -> fragments 1280 inside 10.0.255.254:A > 10.0.1.1:8080   the same, but it leaves as fragments of at most 1,280 bytes
//! -> error outside icmp 3/4 SRC > DST … about …        or: another error, byte for byte, than the one that came
//! -> reply REASON outside rst|icmp|echo SRC > DST …    or: an answer, byte for byte
//! -> drop REASON | pass | held                         or: a drop, the packet unchanged for the kernel, not known yet
//! @1500                                                time passes, to 1500 ms
//! use NAME                                             a new snapshot is published
//! asked inside 10.0.1.1                                the control thread was asked for this neighbour
//! ```
//!
//! After `@` and `use`, `->` lines tell of packets held before, oldest first. Every row is run twice: each packet alone in
//! its batch, then as many in one batch as stand between `@` and `use` lines.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringway_dataplane::clock::Time;
use ringway_dataplane::io::memory::MemoryWorker;
use ringway_dataplane::resolver::Resolver;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::counters::{Counter, Tally};
use ringway_shared::{DropReason, Family, InterfaceId, Snapshot};

use super::text::{Names, apply, end, interface, packet, quote};
use super::wire::{Damage, Sum, Transport, Wire};
use super::{Bed, ledger, ms, neighbor_mac, own_mac, worker_with};

/// A row of the table.
pub struct Row {
    pub name: &'static str,
    pub bed: Bed,
    pub script: &'static str,
    /// `counter=value …`, all that are not zero.
    pub ledger: &'static str,
}

/// Runs rows; tells of every one that fails.
pub fn run_all(rows: Vec<Row>) {
    let mut failed = Vec::new();
    for row in &rows {
        let run = || {
            let mut names = Names::new();
            run(row, &mut names, Batching::Alone);
            run(row, &mut names, Batching::Together);
        };
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
            eprintln!("=== FAILED: {}\n", row.name);
            failed.push(row.name);
        }
    }
    let (count, all) = (failed.len(), rows.len());
    assert!(failed.is_empty(), "{count} of {all} rows failed:\n  {}", failed.join("\n  "));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Batching {
    Alone,
    Together,
}

/// A packet that came in.
#[derive(Clone, Debug)]
struct Input {
    wire: Wire,
    bytes: Vec<u8>,
}

struct Run<'r> {
    names: &'r mut Names,
    worker: MemoryWorker,
    resolver: Arc<Resolver>,
    snapshot: Snapshot,
    now: Time,
    /// By tag.
    inputs: Vec<Input>,
    /// Tags of packets whose expectation is still to be read.
    fresh: VecDeque<u64>,
    held: VecDeque<u64>,
    asked: bool,
}

fn run(row: &Row, names: &mut Names, batching: Batching) {
    let resolver = Resolver::new().unwrap();
    let mut run = Run {
        names,
        worker: worker_with(&row.bed.settings, resolver.clone()),
        resolver,
        snapshot: row.bed.first().clone(),
        now: ms(1),
        inputs: Vec::new(),
        fresh: VecDeque::new(),
        held: VecDeque::new(),
        asked: false,
    };
    let lines: Vec<&str> = row.script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_packet = |line: &str| interface(line.split(' ').next().unwrap()).is_some();
    let is_control = |line: &str| line.starts_with('@') || line.starts_with("use ");
    let mut at = 0;
    while at < lines.len() {
        if batching == Batching::Together && !is_control(lines[at]) {
            let end = lines[at..].iter().position(|line| is_control(line)).map_or(lines.len(), |more| at + more);
            let section = &lines[at..end];
            let packets: Vec<_> =
                section.iter().filter(|line| is_packet(line)).flat_map(|line| run.read(line)).collect();
            run.receive(&packets, 64);
            let mut taken = std::mem::take(&mut run.fresh);
            for line in section {
                if is_packet(line) {
                    run.fresh = taken.drain(..run.read(line).len()).collect();
                } else {
                    run.check(line);
                }
            }
            at = end;
            continue;
        }
        let line = lines[at];
        if is_packet(line) {
            assert!(run.fresh.is_empty(), "nothing is expected of a packet before {line:?}");
            let packets = run.read(line);
            run.receive(&packets, 1);
        } else if let Some(time) = line.strip_prefix('@') {
            run.now = ms(time.parse().unwrap());
            run.worker.tick(&run.snapshot, run.now);
        } else if let Some(name) = line.strip_prefix("use ") {
            run.snapshot = row.bed.snapshot(name).clone();
            run.worker.tick(&run.snapshot, run.now);
        } else {
            run.check(line);
        }
        at += 1;
    }
    assert!(run.fresh.is_empty(), "nothing is expected of the last packet");
    run.finish(row, batching);
}

impl Run<'_> {
    /// The packets of a line.
    fn read(&self, line: &str) -> Vec<(InterfaceId, Input)> {
        let (name, text) = line.split_once(' ').unwrap();
        let arrives = interface(name).unwrap();
        if let Some(raw) = text.strip_prefix("raw ") {
            let wire = packet(arrives, "udp 0.0.0.0:0 > 0.0.0.0:0", self.names);
            let mut bytes = [own_mac(arrives).0, wire.source_mac.0].concat();
            bytes.extend(super::text::hex(&raw.replace(' ', "")));
            return vec![(arrives, Input { wire, bytes })];
        }
        let (text, times) = match text.split_once(" times=") {
            Some((before, after)) => (before, after.parse::<u16>().unwrap()),
            None => (text, 1),
        };
        let first = packet(arrives, text, self.names);
        (0..times)
            .map(|step| {
                let mut wire = first.clone();
                wire.source.set_port(first.source.port() + step);
                let bytes = wire.build();
                (arrives, Input { wire, bytes })
            })
            .collect()
    }

    fn receive(&mut self, packets: &[(InterfaceId, Input)], batch: usize) {
        for packets in packets.chunks(batch) {
            let first = self.inputs.len() as u64;
            let frames = (first..).zip(packets).map(|(tag, (arrives, input))| (&*input.bytes, *arrives, tag));
            assert_eq!(self.worker.run_all(frames, &self.snapshot, self.now), packets.len(), "no room");
            self.fresh.extend(first..first + packets.len() as u64);
            self.inputs.extend(packets.iter().map(|(_, input)| input.clone()));
        }
    }

    /// Checks what a line says of the oldest packet that nothing is known of yet.
    fn check(&mut self, line: &str) {
        if let Some(question) = line.strip_prefix("asked ") {
            let (name, neighbor) = question.split_once(' ').unwrap();
            let expected = (interface(name).unwrap(), neighbor.parse().unwrap());
            assert_eq!(self.resolver.next_question(), Some(expected), "{line}");
            self.asked = true;
            return;
        }
        let text = line.strip_prefix("-> ").unwrap_or_else(|| panic!("{line:?} is no event"));
        let (text, times) = text.split_once(" times=").map_or((text, None), |(text, times)| (text, Some(times)));
        let mut from_held = self.fresh.is_empty();
        let mut count = times.map_or(1, |times| times.parse().unwrap());
        if !from_held {
            // All packets of one line share its expectation unless it counts them itself.
            count = if times.is_some() { count } else { self.fresh.len() };
        }
        for _ in 0..count {
            from_held |= self.fresh.is_empty();
            let tag = if from_held { self.held.pop_front() } else { self.fresh.pop_front() };
            let tag = tag.unwrap_or_else(|| panic!("no packet for {line:?}"));
            if text == "held" {
                assert!(self.fate(tag).is_none(), "not held: {:?}", self.fate(tag));
                self.held.push_back(tag);
            } else {
                self.check_fate(tag, text);
            }
        }
    }

    fn fate(&self, tag: u64) -> Option<Verdict> {
        self.worker.collector.fates.iter().find(|fate| fate.tag == tag).map(|fate| fate.verdict)
    }

    fn check_fate(&mut self, tag: u64, text: &str) {
        let input = self.inputs[tag as usize].clone();
        let verdict = self.fate(tag).unwrap_or_else(|| panic!("held, but expected: {text}"));
        let words: Vec<&str> = text.split_whitespace().collect();
        let sent = self.worker.collector.sent.iter().find(|sent| sent.tag == tag).cloned();
        match (verdict, &words[..]) {
            (Verdict::Drop(reason), ["drop", expected]) => assert_eq!(reason.label(), *expected),
            (Verdict::Pass { .. }, ["pass"]) => {
                let at = self.worker.collector.fates.iter().filter(|fate| matches!(fate.verdict, Verdict::Pass { .. }));
                let at = at.take_while(|fate| fate.tag != tag).count();
                let partial = input.wire.sum == Sum::Partial;
                let whole = Wire { sum: if partial { Sum::Right } else { input.wire.sum }, ..input.wire };
                let expected = if partial { whole.build() } else { input.bytes };
                assert_eq!(self.worker.collector.passed[at], expected, "a packet for the kernel is changed");
            }
            (Verdict::Forward { out }, ["forward", name, expected @ ..]) => {
                assert_eq!(interface(name), Some(out), "the way out");
                let sent = sent.expect("a forwarded packet left");
                let pieces = self.worker.collector.sent.iter().filter(|sent| sent.tag == tag).count();
                assert_eq!(pieces, 1, "it left as fragments");
                if expected.is_empty() {
                    return;
                }
                let expected = self.forwarded(&input.wire, out, expected, &sent.bytes);
                same(&sent.bytes, &expected);
            }
            (Verdict::Forward { out }, ["error", name, kind, error @ ..]) => {
                assert_eq!(interface(name), Some(out), "the way out");
                let mut wire = packet(out, &format!("{kind} {}", error.join(" ")), self.names);
                (wire.source_mac, wire.tos) = (own_mac(out), 0xc0);
                wire.destination_mac = neighbor_mac(out, wire.destination.ip());
                same(&sent.expect("it left").bytes, &wire.build());
            }
            (Verdict::Forward { out }, ["fragments", mtu, name, expected @ ..]) => {
                assert_eq!(interface(name), Some(out), "the way out");
                let sent = self.worker.collector.sent.iter().filter(|sent| sent.tag == tag);
                let sent: Vec<_> = sent.map(|sent| sent.bytes.clone()).collect();
                let whole = self.forwarded(&input.wire, out, expected, &sent[0]);
                let fragments = super::fragments::of(&whole, mtu.parse().unwrap());
                assert!(fragments.len() > 1, "nothing to cut");
                assert_eq!(sent.len(), fragments.len(), "fragments");
                sent.iter().zip(&fragments).for_each(|(sent, expected)| same(sent, expected));
            }
            (Verdict::Reply { out, reason }, ["reply", expected, name, answer @ ..]) => {
                assert_eq!((reason.label(), interface(name)), (*expected, Some(out)));
                let sent = sent.expect("an answer left");
                if !answer.is_empty() {
                    same(&sent.bytes, &self.answer(&input, out, answer));
                }
            }
            (verdict, _) => panic!("{verdict:?}, but expected: {text}"),
        }
    }

    /// The frame that is forwarded.
    fn forwarded(&mut self, input: &Wire, out: InterfaceId, words: &[&str], sent: &[u8]) -> Vec<u8> {
        assert!(!input.damage.iter().any(|damage| matches!(damage, Damage::Cut(_))), "a cut packet is not forwarded");
        let mut wire = input.clone();
        wire.ttl -= 1;
        wire.padding = 0;
        if wire.sum == Sum::Partial {
            wire.sum = Sum::Right;
        }
        let rest = if let [source, ">", destination, rest @ ..] = words {
            wire.source = self.learn(source, sent, 0, &wire);
            wire.destination = self.learn(destination, sent, 2, &wire);
            rest
        } else {
            words
        };
        wire.source_mac = own_mac(out);
        wire.destination_mac = neighbor_mac(out, wire.destination.ip());
        let about = rest.iter().position(|word| *word == "about").unwrap_or(rest.len());
        let (tunnel, words): (Vec<&str>, Vec<&str>) =
            rest[..about].iter().partition(|word| word.starts_with("within="));
        for word in words {
            match word.strip_prefix("by=") {
                Some(endpoint) => wire.destination_mac = neighbor_mac(out, endpoint.parse().unwrap()),
                None => apply(&mut wire, word),
            }
        }
        if let Some(quoted) = rest.get(about + 1..) {
            quote(&mut wire, &quoted.join(" "), self.names);
        }
        match tunnel.first().and_then(|word| word["within=".len()..].split_once('>')) {
            Some((source, destination)) => wire.within(source, destination),
            None => wire.build(),
        }
    }

    /// An end of a packet that left; gives its port the name that stands there, when it has no value yet.
    fn learn(&mut self, word: &str, sent: &[u8], at: usize, wire: &Wire) -> std::net::SocketAddr {
        match end(word, self.names) {
            Ok(end) => end,
            Err((address, name)) => {
                let l4 = match wire.family() {
                    Family::V4 => 34 + wire.options.len(),
                    Family::V6 => {
                        let fragment = if wire.fragment.is_some() { 8 } else { 0 };
                        54 + wire.extensions.iter().map(|(_, bytes)| bytes.len() + 1).sum::<usize>() + fragment
                    }
                };
                let port = u16::from_be_bytes([sent[l4 + at], sent[l4 + at + 1]]);
                self.names.insert(name, port);
                std::net::SocketAddr::new(address, port)
            }
        }
    }

    /// The frame that answers.
    fn answer(&self, input: &Input, out: InterfaceId, words: &[&str]) -> Vec<u8> {
        let [kind, rest @ ..] = words else { panic!("no answer") };
        let (kind, rest) = match (*kind, rest) {
            ("icmp", [code, rest @ ..]) => (format!("icmp {code}"), rest),
            ("rst", rest) if rest.iter().any(|word| word.starts_with("ack=")) => ("tcp RA".into(), rest),
            ("rst", rest) => ("tcp R".into(), rest),
            (other, rest) => (other.to_owned(), rest),
        };
        let (ends, rest) = rest.split_at(3);
        let mut wire = packet(out, &format!("{kind} {}", ends.join(" ")), self.names);
        wire.source_mac = own_mac(out);
        wire.destination_mac = neighbor_mac(out, wire.destination.ip());
        match &mut wire.transport {
            Transport::Tcp { sequence, window, .. } => {
                (*sequence, *window) = (0, 0);
                wire.dont_fragment = wire.source.is_ipv4();
            }
            Transport::Icmp { kind: kind @ (8 | 128), rest, .. } => {
                let Transport::Icmp { rest: asked, .. } = input.wire.transport else { panic!("answers no echo") };
                (*kind, *rest) = (if *kind == 8 { 0 } else { 129 }, asked);
                (wire.payload, wire.tos, wire.id) = (input.wire.payload.clone(), input.wire.tos, input.wire.id);
            }
            _ => {
                // The quote is the packet as its sender meant it, as much as fits.
                let whole = if input.wire.sum == Sum::Partial { Sum::Right } else { input.wire.sum };
                let mut quote = Wire { sum: whole, padding: 0, ..input.wire.clone() }.ip();
                let headers = if wire.source.is_ipv4() { 20 + 8 } else { 40 + 8 };
                quote.truncate(if wire.source.is_ipv4() { 576 } else { 1280 } - headers);
                (wire.payload, wire.tos) = (quote, 0xc0);
                wire.id = input.wire.id;
            }
        }
        rest.iter().for_each(|word| apply(&mut wire, word));
        wire.build()
    }

    fn finish(mut self, row: &Row, batching: Batching) {
        assert!(!self.asked || self.resolver.next_question().is_none(), "more was asked for");
        let tally = self.worker.tally();
        let expected: BTreeMap<String, u64> = row
            .ledger
            .split_whitespace()
            .map(|word| word.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
            .collect();
        assert_eq!(ledger(&tally), expected, "the ledger, {batching:?}");
        let bytes = |packets: &mut dyn Iterator<Item = usize>| packets.sum::<usize>() as u64;
        assert_eq!(tally.get(Counter::RxBytes), bytes(&mut self.inputs.iter().map(|input| input.bytes.len())));
        let sent = &self.worker.collector.sent;
        assert_eq!(tally.get(Counter::Tx), sent.len() as u64);
        assert_eq!(tally.get(Counter::TxBytes), bytes(&mut sent.iter().map(|sent| sent.bytes.len())));
        let held = self.worker.pipeline.held();
        assert_eq!(self.worker.collector.fates.len() + held, self.inputs.len());
        // The worker ends.
        self.worker.pipeline.drop_held(&mut self.worker.umem);
        assert_eq!(self.worker.umem.free_frames(), self.worker.umem.total());
        let after = self.worker.tally();
        let dropped = |tally: &Tally| tally.drops(DropReason::NeighborUnresolved);
        assert_eq!((dropped(&after), after.closes()), (dropped(&tally) + held as u64, true));
    }
}

fn same(sent: &[u8], expected: &[u8]) {
    if sent != expected {
        let at = sent.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(sent.len().min(expected.len()));
        panic!("frames differ from byte {at} on\n     left {}\n expected {}", dump(sent), dump(expected));
    }
}

fn dump(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(160).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{} bytes: {shown}", bytes.len())
}
