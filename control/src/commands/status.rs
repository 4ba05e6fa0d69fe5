//! `ringway status`: is the running instance well, and if not, what is wrong.

mod interfaces;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use ringway_shared::DropReason;

use super::ask::{self, Instance};
use super::reload::{configuration, failure};
use super::table::Table;
use crate::outcome::{Failure, ReportOutput};
use crate::plain;
use crate::report::LedgerReport;
use crate::report::drained::DrainedReport;
use crate::report::drops::{InterfaceLosses, KernelLosses, PortCounts};
use crate::report::neighbors::{NeighborReport, SilentReport};
use crate::report::ports::EndpointPorts;
use crate::report::snat::SnatReport;
use crate::report::source::{KubernetesReport, SourceReport};
use crate::report::status::{StatusReport, WorkerReport};
pub(super) use interfaces::interface_losses;

/// What `ringway status` is asked.
#[derive(Debug, Args)]
#[command(after_help = "Exit status 0 when it is ready, 3 when it is not, 1 when nobody answers.")]
pub struct Arguments {
    #[command(flatten)]
    instance: Instance,
    /// Wait until it is ready, for so long at most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    wait: Option<u64>,
    /// How to answer
    #[arg(long, short, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportOutput,
}

/// How often is asked while it is waited for.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Asks and prints. Fails when it is not ready, so that a script need not read the answer.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let began = Instant::now();
    let patience = Duration::from_secs(arguments.wait.unwrap_or(0));
    let (answer, report) = loop {
        let asked = arguments.instance.get("/status").and_then(|answer| {
            let report: StatusReport = ask::read(&answer)?;
            Ok((answer, report))
        });
        match asked {
            Ok(asked) if asked.1.ready || began.elapsed() >= patience => break asked,
            // What was asked for wrongly is wrong however long it is waited.
            Err(failure) if failure.status() == 2 || began.elapsed() >= patience => return Err(failure),
            _ => thread::sleep(ASK_EVERY),
        }
    };
    ask::print::<StatusReport, _>(&answer, arguments.output, out, |report| Text(report).to_string())?;
    out.flush()?;
    if report.ready { Ok(()) } else { Err(Failure::not_ready(readiness(&report))) }
}

fn readiness(status: &StatusReport) -> String {
    match &status.reasons[..] {
        [] if status.ready => "ready".to_owned(),
        // An instance of another version.
        [] => "not ready".to_owned(),
        reasons => format!("not ready: {}", reasons.join("; ")),
    }
}

/// The report for a person.
struct Text<'r>(&'r StatusReport);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let ready = readiness(status);
        let up = duration(status.uptime_seconds);
        writeln!(f, "ringway {} on {}: {ready}, up {up}, process {}\n", status.version, status.node, status.pid)?;
        self.overview(f)?;
        writeln!(f, "\n{}", interfaces::table(&status.interfaces))?;
        write!(f, "{}", workers(&status.workers))?;
        self.wrong(f)
    }
}

impl Text<'_> {
    fn overview(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let snapshot = &status.snapshot;
        let force = match (snapshot.in_force, snapshot.took_micros) {
            (true, Some(micros)) => format!("in force on all workers {:.1} ms after its cause", micros as f64 / 1e3),
            (true, None) => "in force on all workers".into(),
            (false, _) => "not in force on all workers yet".into(),
        };
        writeln!(f, "snapshot   generation {}, {force}", snapshot.generation)?;
        let counted = |number: usize, one, many| counted(number as u64, one, many);
        writeln!(f, "config     {}", configuration(&status.configuration))?;
        writeln!(f, "objects    {}", objects(&status.source))?;
        writeln!(
            f,
            "services   {} on {} and {}, {}, {}",
            counted(snapshot.service_ports, "service port", "service ports"),
            counted(snapshot.frontends, "frontend", "frontends"),
            counted(snapshot.vips, "VIP", "VIPs"),
            counted(snapshot.endpoints, "endpoint", "endpoints"),
            counted(snapshot.adjacencies, "next hop", "next hops")
        )?;
        let entries: Vec<String> =
            status.steering.entries.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "steering   {}", entries.join(", "))?;
        let flows = &status.flows;
        writeln!(
            f,
            "flows      {} of {} ({} half-open); {} opened, {} closed, {} evicted",
            flows.open, flows.capacity, flows.half_open, flows.opened, flows.closed, flows.evicted
        )?;
        snat(&status.snat, status.workers.len()).iter().try_for_each(|line| writeln!(f, "{line}"))?;
        writeln!(f, "neighbours {}", neighbors(&status.neighbors))?;
        writeln!(f, "packets    {}", ledger(&status.ledger))?;
        writeln!(f, "interfaces {}", interface_losses(&InterfaceLosses::of_attached(&status.interfaces)))?;
        writeln!(f, "AF_XDP     {}", losses(&status.kernel))?;
        writeln!(f, "ports      {}", port_losses(&status.ports))
    }

    /// Everything that is not as it should be.
    fn wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let mut wrong: Vec<String> = Vec::new();
        wrong.extend(status.snapshot.problem.clone());
        let configuration = &status.configuration;
        wrong.extend(configuration.failure.as_ref().map(|of| failure(of, configuration)));
        let waiting = status.configuration.waiting.iter();
        wrong.extend(first_of(waiting.map(|change| format!("configuration: {change}")), 0));
        wrong.extend(first_of(status.metrics_problems.iter().cloned(), 0));
        wrong.extend(first_of(status.snapshot.not_followed.iter().cloned(), 0));
        wrong.extend(first_of(status.limits.iter().cloned(), 0));
        wrong.extend(status.snat.notes.iter().cloned());
        wrong.extend(status.steering.problem.as_ref().map(|problem| format!("steering: {problem}")));
        wrong.extend(interfaces::wrong(&status.interfaces, status.workers.len()));
        wrong.extend(status.source.kubernetes.iter().flat_map(troubles));
        let problems = status.source.problems.iter().map(ToString::to_string);
        wrong.extend(first_of(problems, status.source.problems_beyond()));
        // Of the node's own addresses the warnings of the objects tell.
        let refused = DropReason::EndpointRefused.label();
        let unreachable: Vec<_> = status.unreachable.iter().filter(|u| u.reason != refused).collect();
        let unreachable = unreachable.into_iter();
        let unreachable = unreachable.map(|u| format!("endpoint {} ({}): {}", u.endpoint, u.reason, u.text));
        wrong.extend(first_of(unreachable, 0));
        let unanswering = status.unanswering.iter();
        let told = unanswering.map(|u| format!("{} {} does not answer: {}", u.service, u.endpoint, u.sentence()));
        wrong.extend(first_of(told, status.unanswering_count.saturating_sub(status.unanswering.len())));
        wrong.extend(first_of(status.drained.iter().map(drained), 0));
        let silent = &status.neighbors.silent;
        let more = status.neighbors.silent_count.saturating_sub(silent.len());
        wrong.extend(first_of(silent.iter().map(SilentReport::sentence), more));
        if wrong.is_empty() { Ok(()) } else { writeln!(f, "\nto be known:\n  {}", wrong.join("\n  ")) }
    }
}

/// The first few of a list that a big cluster can make very long. `beyond`: how many more there are than the report lists.
fn first_of(all: impl ExactSizeIterator<Item = String>, beyond: usize) -> Vec<String> {
    const FEW: usize = 20;
    let more = all.len().saturating_sub(FEW);
    let listed = if beyond == 0 { "them all".to_owned() } else { format!("{more} of them") };
    let more = more + beyond;
    let mut first: Vec<String> = all.take(FEW).collect();
    if more > 0 {
        first.push(format!("and {more} more of these; --output json lists {listed}"));
    }
    first
}

/// That somebody drained it, lest it be forgotten.
fn drained(one: &DrainedReport) -> String {
    let DrainedReport { endpoint, seconds, services, .. } = one;
    let (services, note) = (services.join(", "), one.note());
    let what = if note.is_empty() { "it gets no new connections" } else { &note };
    format!(
        "{endpoint} ({}) is drained for {}: {what}; ringway undrain {endpoint} takes it back",
        if services.is_empty() { "no Service" } else { &services },
        duration(*seconds)
    )
}

/// How many, where from, and how old they are.
fn objects(source: &SourceReport) -> String {
    let services = counted(source.services as u64, "Service", "Services");
    let Some(KubernetesReport { server, complete, age_seconds, resources }) = &source.kubernetes else {
        let files = if source.files.is_empty() { "nowhere".into() } else { source.files.join(", ") };
        let files = plain::line(&files);
        let looked =
            source.age_seconds.map_or("not looked at yet".into(), |age| format!("looked at {} ago", duration(age)));
        return format!("{services} from {files}, {looked}");
    };
    let heard = age_seconds.map_or("never heard of".to_owned(), |age| format!("heard of {} ago", duration(age)));
    if *complete {
        return format!("{services} from {server}, {heard}");
    }
    let missing = resources.iter().filter(|resource| !resource.listed && resource.unserved.is_none());
    let missing: Vec<&str> = missing.map(|resource| &*resource.kind).collect();
    format!("waiting for the first full list of {} from {server}", missing.join(", "))
}

/// What is wrong with the API server. What all kinds share is told once.
fn troubles(kubernetes: &KubernetesReport) -> Vec<String> {
    let mut troubles: BTreeMap<&str, (Vec<&str>, u64)> = BTreeMap::new();
    for resource in &kubernetes.resources {
        if let Some(problem) = &resource.problem {
            let (kinds, lasts) = troubles.entry(problem).or_default();
            kinds.push(&resource.kind);
            *lasts = (*lasts).max(resource.problem_seconds.unwrap_or(0));
        }
    }
    let told = |(problem, (kinds, lasts)): (&str, (Vec<&str>, u64))| {
        format!("for {}: {problem} ({})", duration(lasts), kinds.join(", "))
    };
    troubles.into_iter().map(told).collect()
}

/// How many SNAT ports there are and how many are in use. The limit is that of all workers together: each has its share, and
/// what matters of that is how full it was.
fn snat(snat: &SnatReport, workers: usize) -> Vec<String> {
    let SnatReport { ports, total, per_worker, high_water, reclaimed, .. } = snat;
    let most = match workers {
        0 | 1 => format!("at most {high_water} in use at once"),
        // Above nothing is one percent at least.
        _ => format!("a share was full to {} % at most", (high_water * 100).div_ceil((*per_worker).max(1))),
    };
    let split = if workers > 1 { format!(", shared out to {workers} workers") } else { String::new() };
    let mut lines = vec![format!(
        "snat       {total} ports towards each endpoint ({ports}){split}; {most}, {reclaimed} taken back"
    )];
    if let Some(fullest) = snat.endpoints.first().filter(|fullest| fullest.used > 0) {
        let EndpointPorts { endpoint, protocol, used, fullest_worker_percent, .. } = fullest;
        let share =
            if workers > 1 { format!(", {fullest_worker_percent} % of a worker's share") } else { String::new() };
        lines.push(format!("           now {used} in use to {protocol}:{endpoint}{share}"));
    }
    lines
}

fn neighbors(neighbors: &NeighborReport) -> String {
    let NeighborReport { known, waiting, asked, unanswered, last_unanswered, .. } = neighbors;
    let mut text = format!("{known} known; {} asked for", waiting + asked);
    if *unanswered > 0 {
        let last = last_unanswered.as_deref().unwrap_or("?");
        text.push_str(&format!(", {unanswered} never answered (the last: {last})"));
    }
    if neighbors.questions_gave_way > 0 {
        text.push_str(&format!(", {} not asked because there were too many", neighbors.questions_gave_way));
    }
    if neighbors.known_gave_way > 0 {
        text.push_str(&format!("; {} gave way to newer ones", neighbors.known_gave_way));
    }
    text
}

fn ledger(ledger: &LedgerReport) -> String {
    let dropped: u64 = ledger.drops.values().sum();
    let LedgerReport { rx, forwarded, replied, passed, held, closes, .. } = ledger;
    let sign = if *closes { "=" } else { "≠ (this is a defect)" };
    format!(
        "{rx} received {sign} {forwarded} forwarded + {replied} replied + {passed} passed + {held} held + {dropped} dropped"
    )
}

/// What AF_XDP lost before Ringway received it.
pub(super) fn losses(kernel: &KernelLosses) -> String {
    let counts = [
        ("receive ring full", kernel.rx_ring_full),
        ("no free frame, or not received for other reasons", kernel.rx_dropped),
        ("invalid receive descriptors", kernel.rx_invalid),
        ("invalid transmit descriptors", kernel.tx_invalid),
    ];
    // In copy mode each such packet is among the former; in zero-copy mode the driver asks again, and none need be lost.
    let empty = match kernel.fill_ring_empty {
        0 => String::new(),
        many => format!("; the fill ring was found empty {}", counted(many, "time", "times")),
    };
    format!("{}{empty}", lost(&counts))
}

/// What ports lost after the kernel had delivered it, and what they cut.
pub(super) fn port_losses(ports: &PortCounts) -> String {
    let counts = [
        ("larger than a frame and not to be cut", ports.large_lost),
        ("descriptors outside the packet memory", ports.outside_umem),
    ];
    let cut = match ports.large_cut {
        0 => String::new(),
        many => format!("; cut {}", counted(many, "large packet", "large packets")),
    };
    format!("{}{cut}", lost(&counts))
}

fn lost(counts: &[(&str, u64)]) -> String {
    let lost: Vec<String> = counts.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {n}")).collect();
    if lost.is_empty() { "lost nothing".into() } else { format!("lost packets: {}", lost.join(", ")) }
}

fn workers(workers: &[WorkerReport]) -> Table {
    let headings =
        ["WORKER", "CPU", "QUEUES", "FREE", "FLOWS", "RX", "FORWARDED", "REPLIED", "PASSED", "HELD", "DROPPED"];
    let mut table = Table::new(headings).dispensable(&["QUEUES", "FREE", "REPLIED", "HELD", "PASSED", "FLOWS", "CPU"]);
    for worker in workers {
        let LedgerReport { rx, forwarded, replied, passed, held, drops, .. } = &worker.ledger;
        let dropped: u64 = drops.values().sum();
        let flows = worker.counters.get("flows").copied().unwrap_or(0);
        let numbers = [flows, *rx, *forwarded, *replied, *passed, *held, dropped].map(|number| number.to_string());
        let [flows, rx, forwarded, replied, passed, held, dropped] = numbers;
        let cpu = worker.cpu.map_or("any".into(), |cpu| cpu.to_string());
        let queues = worker.queues.join(",");
        let free = format!("{}/{}", worker.frames.free, worker.frames.total);
        table.row([worker.id.to_string(), cpu, queues, free, flows, rx, forwarded, replied, passed, held, dropped]);
    }
    table
}

/// A number and what it counts.
pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// As kubectl prints ages.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{}m", minutes % 60),
        (days, hours, _) => format!("{days}d{}h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
