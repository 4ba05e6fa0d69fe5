//! The fate of each packet, as `--verdicts` writes it: in the order of the capture, also when a fate is known late.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use ringway_dataplane::dispatch::Fate;
use ringway_dataplane::verdict::Verdict;
use ringway_shared::{DropReason, Services};
use serde::Serialize;

/// Packets whose line is not written yet, oldest first.
pub(super) struct Verdicts<W> {
    waiting: VecDeque<Line>,
    /// The number of the first one that waits.
    first: u64,
    to: Option<W>,
}

/// What is known about one packet.
struct Line {
    timestamp: Duration,
    known: Option<(&'static str, Option<DropReason>, Option<String>)>,
    out: Vec<u64>,
}

/// A line as it is written.
#[derive(Serialize)]
struct Written<'l> {
    n: u64,
    verdict: &'l str,
    reason: Option<&'l str>,
    service: Option<&'l str>,
    out: &'l [u64],
}

impl<W: Write> Verdicts<W> {
    pub(super) fn new(to: Option<W>) -> Self {
        Verdicts { waiting: VecDeque::new(), first: 1, to }
    }

    /// Numbers the next packet, from 1.
    pub(super) fn arrive(&mut self, timestamp: Duration) -> u64 {
        self.waiting.push_back(Line { timestamp, known: None, out: Vec::new() });
        self.first + self.waiting.len() as u64 - 1
    }

    /// Notes a packet of OUT, by its number there, and says when its cause arrived.
    pub(super) fn caused(&mut self, number: u64, out: u64) -> Duration {
        let Some(line) = self.line(number) else { return Duration::ZERO };
        line.out.push(out);
        line.timestamp
    }

    /// Notes a fate.
    pub(super) fn decide(&mut self, fate: &Fate, services: &Services) {
        let (verdict, reason) = match fate.verdict {
            Verdict::Forward { .. } | Verdict::Fragment { .. } => ("forward", None),
            Verdict::Reply { reason, .. } => ("reply", Some(reason)),
            Verdict::Pass { .. } => ("pass", None),
            Verdict::Drop(reason) => ("drop", Some(reason)),
            // A single worker hands nothing over.
            Verdict::HandOver { .. } => return,
        };
        let port = fate.service_port.filter(|_| verdict != "pass").and_then(|id| services.service_port(id));
        let service = port.map(|port| port.service.to_string());
        if let Some(line) = self.line(fate.tag) {
            line.known = Some((verdict, reason, service));
        }
    }

    /// Writes the lines of packets up to the first whose fate is not known.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while let Some(Line { known: Some((verdict, reason, service)), out, .. }) = self.waiting.front() {
            if let Some(to) = &mut self.to {
                let (reason, service) = (reason.map(DropReason::label), service.as_deref());
                serde_json::to_writer(&mut *to, &Written { n: self.first, verdict, reason, service, out })?;
                to.write_all(b"\n")?;
            }
            self.waiting.pop_front();
            self.first += 1;
        }
        Ok(())
    }

    /// Writes what is still in memory.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), Write::flush)
    }

    fn line(&mut self, number: u64) -> Option<&mut Line> {
        self.waiting.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}
