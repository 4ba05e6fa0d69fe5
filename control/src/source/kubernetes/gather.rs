//! What the followers bring, gathered into one cluster state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::KINDS;
use super::object;
use crate::cluster::ClusterState;
use crate::pace::Pace;
use crate::parse::{Document, Kind, ObjectKey};
use crate::problem::{Problem, Severity, tell_changes};
use crate::source::health::SourceHealth;
use crate::watch::heart;

/// News that are taken together at most.
const BATCH: usize = 4096;

/// The longest pause between two batches. A full list takes long, and what comes next is often one change.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// What a follower brings.
pub(super) enum News {
    /// All objects of a kind.
    Listed(Kind, Vec<Document>),
    /// An object is new or has changed.
    Changed(Kind, Document),
    /// An object is gone.
    Deleted(ObjectKey),
    /// The kind is not to be had, and it can be done without. What was there of it stays.
    Unserved(Kind, String),
}

/// Gathers news.
pub(super) struct Gather {
    health: SourceHealth,
    publish: watch::Sender<Arc<ClusterState>>,
    cluster: ClusterState,
    /// Kinds of which something is known for sure.
    settled: BTreeSet<Kind>,
    /// Objects whose newest form was refused.
    refused: BTreeSet<ObjectKey>,
    /// What is wrong with objects that have no usable name, by kind.
    nameless: BTreeMap<Kind, Vec<Problem>>,
    /// Why kinds are not to be had.
    unserved: BTreeMap<Kind, Problem>,
}

impl Gather {
    pub(super) fn new(health: SourceHealth, publish: watch::Sender<Arc<ClusterState>>) -> Self {
        let (cluster, settled, refused, nameless, unserved) = Default::default();
        Gather { health, publish, cluster, settled, refused, nameless, unserved }
    }

    /// Gathers until nobody listens any more. What is there at once makes one new state; a storm is taken together.
    pub(super) async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut pace = Pace::at_most(LONGEST_PAUSE);
        let mut batch = Vec::new();
        let heart = heart("the gathered objects");
        loop {
            heart.beat();
            tokio::select! {
                () = heart.rest() => continue,
                count = news.recv_many(&mut batch, BATCH) => if count == 0 { return },
                () = self.publish.closed() => return,
            }
            // In a storm: what comes in between is taken along.
            if pace.not_before() > Instant::now() {
                tokio::time::sleep_until(pace.not_before().into()).await;
                while batch.len() < BATCH
                    && let Ok(more) = news.try_recv()
                {
                    batch.push(more);
                }
            }
            let began = Instant::now();
            let mut changed = false;
            for news in batch.drain(..) {
                heart.beat();
                changed |= self.take(news);
            }
            let is_first = !self.health.is_complete();
            if self.settled.len() == KINDS.len() && (changed || is_first) {
                self.publish.send_replace(Arc::new(self.cluster.clone()));
                if is_first {
                    let services = self.cluster.services().count();
                    tracing::info!(services, "the first full list of all kinds has arrived");
                    self.health.set_complete();
                }
            }
            pace.done(began);
        }
    }

    /// Whether it changes something.
    fn take(&mut self, news: News) -> bool {
        match news {
            News::Listed(kind, objects) => self.replace(kind, objects),
            News::Changed(kind, document) => self.change(kind, document),
            News::Deleted(key) => {
                self.refused.remove(&key);
                self.remove(&key)
            }
            News::Unserved(kind, why) => {
                self.settled.insert(kind);
                let text = format!("{} objects are done without: {why}", kind.label());
                let problem = Problem { severity: Severity::Note, object: None, file: None, text };
                let is_news = self.unserved.get(&kind) != Some(&problem);
                if is_news {
                    tracing::info!("{problem}");
                    self.unserved.insert(kind, problem);
                    self.set_source_problems();
                }
                is_news
            }
        }
    }

    /// Takes a full list: what is not in it is gone.
    fn replace(&mut self, kind: Kind, objects: Vec<Document>) -> bool {
        self.settled.insert(kind);
        let mut changed = self.unserved.remove(&kind).is_some();
        if changed {
            tracing::info!("{} objects are no longer done without", kind.label());
        }
        changed |= self.nameless.remove(&kind).is_some_and(|problems| !problems.is_empty());
        let mut there = HashSet::new();
        for document in objects {
            there.extend(object::key(&document).cloned());
            changed |= self.change(kind, document);
        }
        // One that cannot even be told by name may be any of those of before.
        if !self.nameless.contains_key(&kind) {
            let of_kind = |key: &ObjectKey| key.kind == kind && !there.contains(key);
            let in_force = self.cluster.keys().filter(of_kind);
            let gone: Vec<ObjectKey> =
                in_force.chain(self.refused.iter().filter(|key| of_kind(key)).cloned()).collect();
            for key in gone {
                self.refused.remove(&key);
                changed |= self.remove(&key);
            }
        }
        if changed {
            self.set_source_problems();
        }
        changed
    }

    fn change(&mut self, kind: Kind, document: Document) -> bool {
        match document {
            Document::Taken(parsed) => {
                let key = parsed.key.clone();
                self.refused.remove(&key);
                self.said(&key, |cluster| cluster.apply(parsed, None))
            }
            Document::Refused(Some(key), refusal) => {
                self.health.refused(kind);
                self.refused.insert(key.clone());
                self.said(&key, |cluster| {
                    cluster.refuse(&key, &refusal, None);
                    false
                })
            }
            Document::Refused(None, refusal) => {
                self.health.refused(kind);
                self.note_nameless(kind, format!("a {} is refused: {refusal}", kind.label()))
            }
            Document::Skipped(why) => self.note_nameless(kind, why),
        }
    }

    fn note_nameless(&mut self, kind: Kind, text: String) -> bool {
        let problem = Problem { severity: Severity::Refused, object: None, file: None, text };
        tracing::warn!("{problem}");
        self.nameless.entry(kind).or_default().push(problem);
        self.set_source_problems();
        true
    }

    fn remove(&mut self, key: &ObjectKey) -> bool {
        self.said(key, |cluster| match key.kind {
            Kind::Node => cluster.lose_node(key),
            Kind::Service | Kind::EndpointSlice | Kind::ServiceCidr => cluster.remove(key),
        })
    }

    /// Changes one object, and logs what is newly wrong with it, and what no longer is.
    fn said(&mut self, key: &ObjectKey, change: impl FnOnce(&mut ClusterState) -> bool) -> bool {
        let before = self.cluster.problems_of(key).to_vec();
        let changed = change(&mut self.cluster);
        let now = self.cluster.problems_of(key);
        if now == before {
            return changed;
        }
        tell_changes(usize::MAX, &before, now);
        true
    }

    fn set_source_problems(&mut self) {
        let problems = self.unserved.values().chain(self.nameless.values().flatten());
        self.cluster.set_source_problems(problems.cloned().collect());
    }
}
