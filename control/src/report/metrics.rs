//! What Prometheus is told: the status and the drops as numbers, in the OpenMetrics text format or in its older own.
//!
//! Nothing is counted for it: a scrape reads what `status` and `drops` read. There are no series by endpoint, which a large
//! cluster has 100,000 of, but for the few that use the most SNAT ports, and by Service only those that are asked for;
//! `services` has the counts of all.

mod format;
mod network;
mod services;
mod shared_scrape;
mod snat;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use ringway_shared::DropReason;
use ringway_shared::answers::{Answers, HANDSHAKE_BOUNDS};
use ringway_shared::counters::{Counter, Tally};

use super::source::ResourceReport;
use super::status::{FrameReport, StatusReport};
pub use format::Format;
pub use services::ServiceSeries;
pub use shared_scrape::SharedScrape;

/// One metric with all its series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name without the prefix `ringway_` and, for counts, without the suffix `_total`.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The names of the labels that tell the series apart; none where there is one series.
    pub labels: Vec<&'static str>,
    /// The series: the labels' values and the number.
    pub series: Vec<(Vec<String>, Number)>,
}

/// A number, and how it behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Only grows while the process lives.
    Count(u64),
    /// Goes up and down.
    Gauge(f64),
    /// A histogram of the times from SYN to SYN-ACK.
    Handshakes(Answers),
}

impl Number {
    fn encode(self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Number::Count(count) => encoder.encode_counter::<NoLabelSet, u64, f64>(&count, None),
            Number::Gauge(gauge) => encoder.encode_gauge(&gauge),
            Number::Handshakes(Answers { handshakes, handshake_millis, .. }) => {
                let seconds = HANDSHAKE_BOUNDS.map(|millis| f64::from(millis) / 1e3);
                let bounds = seconds.into_iter().chain([f64::MAX]);
                let buckets: Vec<(f64, u64)> = bounds.zip(handshakes).collect();
                let sum = handshake_millis as f64 / 1e3;
                encoder.encode_histogram::<NoLabelSet>(sum, handshakes.iter().sum(), &buckets, None)
            }
        }
    }
}

impl Metric {
    /// The name as it is scraped.
    pub fn full_name(&self) -> String {
        let is_count = matches!(self.series.first(), Some((_, Number::Count(_))));
        format!("ringway_{}{}", self.name, if is_count { "_total" } else { "" })
    }
}

fn one(name: &'static str, help: &'static str, number: Number) -> Metric {
    Metric { name, help, labels: Vec::new(), series: vec![(Vec::new(), number)] }
}

fn gauge(name: &'static str, help: &'static str, number: usize) -> Metric {
    one(name, help, Number::Gauge(number as f64))
}

fn many<V: Into<String>>(
    name: &'static str,
    help: &'static str,
    label: &'static str,
    series: impl IntoIterator<Item = (V, Number)>,
) -> Metric {
    let series = series.into_iter().map(|(value, number)| (vec![value.into()], number)).collect();
    Metric { name, help, labels: vec![label], series }
}

fn flag(is: bool) -> Number {
    Number::Gauge(f64::from(u8::from(is)))
}

/// All metrics; `sum` is over the workers that `status` is about.
pub fn metrics(status: &StatusReport, sum: &Tally) -> Vec<Metric> {
    let mut all = packets(status, sum);
    all.extend(network::interfaces(status));
    all.extend(network::neighbors(status));
    all.extend(flows(status));
    all.extend(snat::ports(status));
    all.push(one(
        "packets_stateless",
        "UDP packets that were sent on without a flow because a table was full.",
        Number::Count(sum.get(Counter::Stateless)),
    ));
    all.extend(objects(status));
    all.extend(source(status));
    all.push(gauge("endpoints_drained", "What is drained by command.", status.drained.len()));
    all
}

fn packets(status: &StatusReport, sum: &Tally) -> Vec<Metric> {
    use Number::{Count, Gauge};
    let workers = |number: fn(&super::LedgerReport) -> Number| {
        status.workers.iter().map(move |worker| (worker.id.to_string(), number(&worker.ledger))).collect::<Vec<_>>()
    };
    // What never happened is 0: a rate needs something to start from.
    let dropped = |reason: DropReason| status.ledger.drops.get(reason.label()).copied().unwrap_or_default();
    let reasons =
        |count: &dyn Fn(DropReason) -> u64| DropReason::ALL.map(|reason| (reason.label(), Count(count(reason))));
    let (kernel, ports) = (&status.kernel, &status.ports);
    let lost = [
        ("rx_ring_full", kernel.rx_ring_full),
        ("fill_ring_empty", kernel.fill_ring_empty),
        ("rx_dropped", kernel.rx_dropped),
        ("rx_invalid", kernel.rx_invalid),
        ("tx_invalid", kernel.tx_invalid),
        ("large_lost", ports.large_lost),
        ("outside_umem", ports.outside_umem),
    ];
    let frames = |number: fn(&FrameReport) -> u64| {
        let frames = status.workers.iter().map(|w| (w.id.to_string(), Gauge(number(&w.frames) as f64)));
        frames.collect::<Vec<_>>()
    };
    vec![
        many("worker_frames", "Frames of the worker's packet memory.", "worker", frames(|frames| frames.total)),
        many("worker_frames_free", "Frames that are free now.", "worker", frames(|frames| frames.free)),
        many("packets_received", "Packets that workers received.", "worker", workers(|ledger| Count(ledger.rx))),
        many("packets_forwarded", "Packets that were sent on.", "worker", workers(|ledger| Count(ledger.forwarded))),
        many("packets_replied", "Packets that Ringway answered itself.", "worker", workers(|l| Count(l.replied))),
        many("packets_passed", "Packets that were given to the kernel.", "worker", workers(|l| Count(l.passed))),
        many(
            "packets_held",
            "Packets that wait for a neighbour or for another worker now.",
            "worker",
            workers(|ledger| Gauge(ledger.held as f64)),
        ),
        one(
            "fragments_left_to_kernel",
            "Fragments to the node's own addresses that were too many to look at, and passed.",
            Count(status.steering.fragments_left),
        ),
        many("packets_dropped", "Packets that were dropped, by drop reason.", "reason", reasons(&dropped)),
        many(
            "packets_answered",
            "Packets that Ringway answered, by reason.",
            "reason",
            reasons(&|reason| sum.replies(reason)),
        ),
        many(
            "packets_lost",
            "Packets lost before they were received; not part of the ledger.",
            "where",
            lost.map(|(at, count)| (at, Count(count))),
        ),
    ]
}

fn flows(status: &StatusReport) -> Vec<Metric> {
    let flows = &status.flows;
    vec![
        one("flows", "Flows in the tables now.", Number::Gauge(flows.open as f64)),
        one("flows_half_open", "Of these, half-open and unreplied.", Number::Gauge(flows.half_open as f64)),
        one("flows_capacity", "Room in all flow tables.", Number::Gauge(flows.capacity as f64)),
        one("flows_opened", "Flows opened.", Number::Count(flows.opened)),
        one("flows_closed", "Flows ended.", Number::Count(flows.closed)),
        one(
            "flows_evicted",
            "Flows ended early because a table was full or no SNAT port was free.",
            Number::Count(flows.evicted),
        ),
        one(
            "flows_rescued",
            "Flows moved to another endpoint because the first one did not answer.",
            Number::Count(flows.rescued),
        ),
    ]
}

fn objects(status: &StatusReport) -> Vec<Metric> {
    use Number::Gauge;
    let snapshot = &status.snapshot;
    let acks = status.workers.iter().filter_map(|worker| Some((worker.id.to_string(), Gauge(worker.ack? as f64))));
    let up = status.interfaces.iter().map(|i| (i.name.clone(), flag(i.up && i.problem.is_none())));
    let entries = status.steering.entries.iter().map(|(map, count)| (map.clone(), Gauge(*count as f64)));
    let took = snapshot.took_micros.map(|micros| (Vec::new(), Gauge(micros as f64 / 1e6)));
    vec![
        one(
            "ready",
            "Whether the first full list of objects was in force on all workers, everything makes progress and packets can leave.",
            flag(status.ready),
        ),
        one("snapshot_generation", "The newest snapshot.", Gauge(snapshot.generation as f64)),
        one("snapshot_in_force", "Whether all workers use the newest snapshot.", flag(snapshot.in_force)),
        Metric {
            name: "snapshot_delay_seconds",
            help: "From the change until all workers used the newest snapshot.",
            labels: Vec::new(),
            series: took.into_iter().collect(),
        },
        many("worker_snapshot_generation", "The snapshot that a worker uses.", "worker", acks),
        gauge("services", "Services that were read.", status.source.services),
        gauge("service_ports", "Service ports in the snapshot, by family.", snapshot.service_ports),
        gauge("frontends", "Addresses with port and protocol that are balanced.", snapshot.frontends),
        gauge("vips", "VIPs.", snapshot.vips),
        gauge("endpoints", "Endpoints, eligible or not.", snapshot.endpoints),
        gauge("endpoints_unreachable", "Endpoints that no packet can be sent to.", status.unreachable.len()),
        gauge("endpoints_silent", "Endpoints that do not answer.", status.unanswering_count),
        gauge("endpoints_suspected", "Endpoints suspected of being dead.", status.suspected_count),
        many("steering_entries", "What the steering program's maps hold.", "map", entries),
        one("steering_complete", "Whether it holds all that it should.", flag(status.steering.problem.is_none())),
        many("interface_up", "Whether the interface is attached and up.", "interface", up),
    ]
}

fn source(status: &StatusReport) -> Vec<Metric> {
    use Number::{Count, Gauge};
    let counts = status.source.problem_counts;
    let problems = [("warning", counts.warning), ("refused", counts.refused)];
    let problems = problems.map(|(severity, count)| (severity, Gauge(count as f64)));
    let mut all = vec![many("object_problems", "What is wrong with objects and files now.", "severity", problems)];
    let age = status.source.age_seconds.map(|seconds| (Vec::new(), Gauge(seconds as f64)));
    all.push(Metric {
        name: "source_age_seconds",
        help: "How long ago all files were looked at, or the API server was last heard of, by the kind that has waited longest.",
        labels: Vec::new(),
        series: age.into_iter().collect(),
    });
    let Some(kubernetes) = &status.source.kubernetes else { return all };
    let kinds = |number: fn(&ResourceReport) -> Option<Number>| {
        kubernetes.resources.iter().filter_map(move |r| Some((r.kind.clone(), number(r)?))).collect::<Vec<_>>()
    };
    all.extend([
        many(
            "source_kind_age_seconds",
            "How long ago the API server was last heard of about this kind.",
            "kind",
            kinds(|kind| kind.age_seconds.map(|seconds| Gauge(seconds as f64))),
        ),
        many("source_lists", "Full lists that have arrived.", "kind", kinds(|kind| Some(Count(kind.lists)))),
        many("source_events", "Changes that have arrived.", "kind", kinds(|kind| Some(Count(kind.events)))),
        many("source_refused", "Objects that were refused.", "kind", kinds(|kind| Some(Count(kind.refused)))),
        many(
            "source_failing",
            "Whether listing or watching this kind fails now.",
            "kind",
            kinds(|kind| Some(flag(kind.problem.is_some()))),
        ),
    ]);
    all
}

#[derive(Debug)]
struct Scrape(Vec<Metric>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in self.0.iter().filter(|metric| !metric.series.is_empty()) {
            let kind = match metric.series.first() {
                Some((_, Number::Count(_))) => MetricType::Counter,
                Some((_, Number::Handshakes(_))) => MetricType::Histogram,
                _ => MetricType::Gauge,
            };
            let mut encoder = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for (values, number) in &metric.series {
                if values.is_empty() {
                    number.encode(&mut encoder)?;
                    continue;
                }
                let values = values.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
                number.encode(&mut encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// The metrics as Prometheus reads them.
pub fn render(metrics: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringway");
    registry.register_collector(Box::new(Scrape(metrics)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::report::LedgerReport;
    use crate::report::interfaces::{InterfaceCounters, InterfaceReport};
    use crate::report::source::{KubernetesReport, ProblemCounts, SourceReport};
    use crate::report::status::{SnapshotReport, WorkerReport};

    fn status(sum: &Tally) -> StatusReport {
        let worker = WorkerReport { ack: Some(7), ledger: LedgerReport::from(sum), ..WorkerReport::default() };
        let node = ResourceReport { kind: "Node".into(), age_seconds: Some(3), lists: 2, ..ResourceReport::default() };
        let counters = Some(InterfaceCounters { rx_dropped: 4, ..InterfaceCounters::default() });
        let interface = InterfaceReport { name: "eth0".into(), counters, ..InterfaceReport::default() };
        StatusReport {
            ready: true,
            ledger: LedgerReport::from(sum),
            source: SourceReport {
                kubernetes: Some(KubernetesReport {
                    age_seconds: Some(3),
                    resources: vec![node],
                    ..KubernetesReport::default()
                }),
                problem_counts: ProblemCounts { warning: 0, refused: 1 },
                age_seconds: Some(3),
                ..SourceReport::default()
            },
            snapshot: SnapshotReport { generation: 7, took_micros: Some(1_500), ..SnapshotReport::default() },
            workers: vec![worker],
            interfaces: vec![interface],
            ..StatusReport::default()
        }
    }

    fn sum() -> Tally {
        let mut sum = Tally::default();
        sum.add(Counter::Rx, 5);
        sum.add(Counter::Forwarded, 3);
        sum.add_drop(DropReason::NoEndpoint);
        sum.add_drop(DropReason::NoEndpoint);
        sum
    }

    #[test]
    fn a_scrape_has_counts_gauges_and_an_end() {
        let text = render(metrics(&status(&sum()), &sum())).unwrap();
        for line in [
            "# TYPE ringway_packets_received counter",
            "ringway_packets_received_total{worker=\"0\"} 5",
            "ringway_packets_forwarded_total{worker=\"0\"} 3",
            "ringway_packets_dropped_total{reason=\"no_endpoint\"} 2",
            "ringway_packets_dropped_total{reason=\"no_route\"} 0",
            "# TYPE ringway_source_age_seconds gauge",
            "ringway_source_age_seconds 3.0",
            "ringway_source_kind_age_seconds{kind=\"Node\"} 3.0",
            "ringway_source_lists_total{kind=\"Node\"} 2",
            "ringway_object_problems{severity=\"refused\"} 1.0",
            "ringway_snapshot_delay_seconds 0.0015",
            "ringway_worker_snapshot_generation{worker=\"0\"} 7.0",
            "ringway_interface_rx_dropped_total{interface=\"eth0\"} 4",
            "ringway_ready 1.0",
            "# EOF",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is missing:\n{text}");
        }
        assert!(!text.contains(".."), "{text}");
    }

    #[test]
    fn drops_and_verdicts_are_the_ledger() {
        let all = metrics(&status(&sum()), &sum());
        let total = |name: &str| {
            let metric = all.iter().find(|metric| metric.name == name).unwrap();
            metric
                .series
                .iter()
                .map(|(_, number)| if let Number::Count(count) = number { *count } else { 0 })
                .sum::<u64>()
        };
        assert_eq!(total("packets_received"), total("packets_forwarded") + total("packets_dropped"));
    }

    #[test]
    fn every_metric_is_documented_and_has_one_name() {
        let page = include_str!("../../../docs/admin-api.md");
        let mut names = HashSet::new();
        for metric in metrics(&status(&sum()), &sum()) {
            let name = metric.full_name();
            assert!(names.insert(name.clone()), "{name} is there twice");
            let row = format!("| `{name}`");
            assert!(page.contains(&row), "docs/admin-api.md has no row for {name}: {}", metric.help);
        }
    }
}
