//! Metrics by Service and service port, for the few that `metrics.services` names.
//!
//! Endpoints come and go, and what they got goes with them, but a count that falls is a restart to Prometheus, which would
//! count everything anew. So what a service port got is added up from scrape to scrape; what an endpoint gets between the
//! last scrape and its end is not in it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use ringway_shared::answers::Answers;
use ringway_shared::counters::BackendTally;
use ringway_shared::service::{ServiceName, ServicePort};
use ringway_shared::snapshot::Services;
use ringway_shared::{BackendId, Family, Protocol};

use super::{Metric, Number, gauge};
use crate::config::ServicePattern;
use crate::report::answers::AnswerView;

/// The most service ports, each address family on its own, that have series.
const MOST: usize = 256;

const LABELS: &[&str] = &["service", "port", "protocol", "family"];

type Key = (ServiceName, u16, Protocol, Family);

fn key(port: &ServicePort) -> Key {
    (port.service.clone(), port.port, port.protocol, port.family)
}

/// Remembers from scrape to scrape.
#[derive(Default)]
pub struct ServiceSeries {
    // With what it was made from.
    selection: Option<(Weak<Services>, Vec<ServicePattern>, Arc<Selection>)>,
    totals: BTreeMap<Key, Total>,
}

/// Which service ports have series.
#[derive(Debug, Default, PartialEq, Eq)]
struct Selection {
    // By their places in the snapshot, in the order of their names.
    ports: Vec<usize>,
    left_out: usize,
    problems: Vec<String>,
}

/// What a service port got since it has series, and what its endpoints had got at the last scrape.
#[derive(Default)]
struct Total {
    sum: BackendTally,
    seen: HashMap<BackendId, BackendTally>,
}

impl Total {
    fn add(&mut self, port: &ServicePort, view: &AnswerView<'_>) {
        let mut seen = HashMap::with_capacity(port.endpoints.len());
        for endpoint in port.endpoints.iter() {
            let id = endpoint.backend.id;
            let now = view.tally(id);
            self.sum.merge(grown(&now, &self.seen.get(&id).copied().unwrap_or_default()));
            seen.insert(id, now);
        }
        self.seen = seen;
    }
}

/// What was counted since `before`. What has fallen began anew: the number has another owner, or a counter has gone round.
fn grown(now: &BackendTally, before: &BackendTally) -> BackendTally {
    let since = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
    let (answers, were) = (&now.answers, &before.answers);
    let mut handshakes = answers.handshakes;
    handshakes.iter_mut().zip(were.handshakes).for_each(|(now, before)| *now = since(*now, before));
    BackendTally {
        flows: since(now.flows, before.flows),
        packets: since(now.packets, before.packets),
        bytes: since(now.bytes, before.bytes),
        answers: Answers {
            answered: since(answers.answered, were.answered),
            unanswered: since(answers.unanswered, were.unanswered),
            refused: since(answers.refused, were.refused),
            handshakes,
            handshake_millis: since(answers.handshake_millis, were.handshake_millis),
        },
    }
}

impl ServiceSeries {
    /// What is wrong with the patterns, one sentence each.
    pub fn problems(&mut self, patterns: &[ServicePattern], services: &Arc<Services>) -> Vec<String> {
        self.select(patterns, services).problems.clone()
    }

    /// The series now.
    pub fn read(&mut self, patterns: &[ServicePattern], view: &AnswerView<'_>) -> Vec<Metric> {
        let services = &view.published.snapshot.services;
        let selection = self.select(patterns, services);
        let ports = selection.ports.iter().filter_map(|at| services.service_ports.get(*at)?.as_ref());
        let mut before = std::mem::take(&mut self.totals);
        let mut silent = BTreeMap::new();
        for port in ports {
            let key = key(port);
            let mut total = before.remove(&key).unwrap_or_default();
            total.add(port, view);
            let answered = OnceCell::new();
            let failing = port.endpoints.iter().filter(|e| view.unanswering(port, e, &answered).is_some()).count();
            silent.insert(key.clone(), failing);
            self.totals.insert(key, total);
        }
        if patterns.is_empty() {
            return Vec::new();
        }
        let mut all = self.counts();
        all.push(Metric {
            name: "service_endpoints_silent",
            help: "Endpoints of the service port that do not answer.",
            labels: LABELS.to_vec(),
            series: silent.iter().map(|(key, count)| (labels(key), Number::Gauge(*count as f64))).collect(),
        });
        all.push(gauge(
            "service_ports_without_series",
            "Service ports that metrics.services names and that are too many.",
            selection.left_out,
        ));
        all
    }

    fn counts(&self) -> Vec<Metric> {
        let series = |number: &dyn Fn(&BackendTally) -> Number| {
            self.totals.iter().map(|(key, total)| (labels(key), number(&total.sum))).collect()
        };
        let metric = |name, help, series| Metric { name, help, labels: LABELS.to_vec(), series };
        let first = self.totals.iter().flat_map(|(key, total)| {
            let Answers { answered, unanswered, refused, .. } = total.sum.answers;
            [("answered", answered), ("unanswered", unanswered), ("refused", refused)].map(|(outcome, count)| {
                let mut labels = labels(key);
                labels.push(outcome.to_owned());
                (labels, Number::Count(count))
            })
        });
        vec![
            metric("service_flows", "Flows opened to a service port.", series(&|sum| Number::Count(sum.flows))),
            metric("service_packets", "Packets, both directions.", series(&|sum| Number::Count(sum.packets))),
            metric("service_bytes", "Bytes, both directions.", series(&|sum| Number::Count(sum.bytes))),
            Metric {
                name: "service_first_packets",
                help: "What endpoints made of the first packets of flows.",
                labels: LABELS.iter().copied().chain(["outcome"]).collect(),
                series: first.collect(),
            },
            metric(
                "service_handshake_seconds",
                "From a SYN to its SYN-ACK.",
                series(&|sum| Number::Handshakes(sum.answers)),
            ),
        ]
    }

    fn select(&mut self, patterns: &[ServicePattern], services: &Arc<Services>) -> Arc<Selection> {
        if let Some((of, by, selection)) = &self.selection
            && Weak::as_ptr(of) == Arc::as_ptr(services)
            && by == patterns
        {
            return selection.clone();
        }
        let selection = Arc::new(Selection::of(patterns, services));
        self.selection = Some((Arc::downgrade(services), patterns.to_vec(), selection.clone()));
        selection
    }
}

impl Selection {
    fn of(patterns: &[ServicePattern], services: &Services) -> Self {
        if patterns.is_empty() {
            return Selection::default();
        }
        // Most clusters have more Services than patterns: those without a glob are looked up.
        let (globs, exact): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| pattern.is_glob());
        let exact: HashSet<&str> = exact.into_iter().map(ServicePattern::as_str).collect();
        let mut found = HashSet::new();
        let mut ports = Vec::new();
        for (at, port) in services.service_ports.iter().enumerate() {
            let Some(port) = port else { continue };
            let (name, ServiceName { namespace, name: own }) = (port.service.to_string(), &port.service);
            let known = exact.get(&*name).copied();
            let glob = || globs.iter().find(|glob| glob.matches(namespace, own)).map(|glob| glob.as_str());
            if let Some(pattern) = known.or_else(glob) {
                found.insert(pattern);
                ports.push((key(port), at));
            }
        }
        ports.sort();
        let left_out = ports.len().saturating_sub(MOST);
        let mut problems = Vec::new();
        if left_out > 0 {
            problems.push(format!(
                "metrics.services names {} service ports (each address family on its own), and the first {MOST} by name have \
                 series; name fewer",
                ports.len()
            ));
        }
        let missing = patterns.iter().filter(|pattern| !pattern.is_glob() && !found.contains(pattern.as_str()));
        problems.extend(missing.map(|pattern| {
            format!(
                "metrics.services: {pattern} names no Service that is balanced; ringway services lists those there are"
            )
        }));
        ports.truncate(MOST);
        Selection { ports: ports.into_iter().map(|(_, at)| at).collect(), left_out, problems }
    }
}

fn labels((service, port, protocol, family): &Key) -> Vec<String> {
    vec![service.to_string(), port.to_string(), protocol.to_string(), family.to_string()]
}

#[cfg(test)]
mod tests;
