//! What the followers bring, gathered into one cluster state.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::complaints::Complaints;
use super::limits::{Held, Limits};
use super::post::{Letter, News};
use super::{KINDS, object};
use crate::cluster::ClusterState;
use crate::pace::Pace;
use crate::parse::{Document, Kind, ObjectKey, Parsed, Refusal};
use crate::problem::{Problem, Severity, Voice};
use crate::source::health::SourceHealth;
use crate::watch::heart;

/// News that are taken together at most.
const BATCH: usize = 4096;

/// The longest pause between two batches. A full list takes long, and what comes next is often one change.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Gathers news.
pub(super) struct Gather {
    health: SourceHealth,
    publish: watch::Sender<Arc<ClusterState>>,
    cluster: ClusterState,
    /// Kinds of which something is known for sure.
    settled: BTreeSet<Kind>,
    /// Objects whose newest form was refused.
    refused: BTreeSet<ObjectKey>,
    /// What was taken of each kind, and what may be.
    held: BTreeMap<Kind, Held>,
    limits: Limits,
    /// What is wrong with objects that are not told one by one: they have no usable name, or are too many.
    nameless: BTreeMap<Kind, Complaints>,
    excess: BTreeMap<Kind, Complaints>,
    /// Whether the source's own problems changed since they were put in force.
    is_news: bool,
    voice: Voice,
    /// Why kinds are not to be had.
    unserved: BTreeMap<Kind, Problem>,
}

impl Gather {
    pub(super) fn new(health: SourceHealth, publish: watch::Sender<Arc<ClusterState>>, limits: Limits) -> Self {
        let (cluster, settled, refused, held, nameless, excess, unserved) = Default::default();
        let (is_news, voice) = (false, Voice::new());
        Gather { health, publish, cluster, settled, refused, held, limits, nameless, excess, is_news, voice, unserved }
    }

    /// Gathers until nobody listens any more. What is there at once makes one new state; a storm is taken together.
    pub(super) async fn run(mut self, mut news: mpsc::Receiver<Letter>) {
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
            for letter in batch.drain(..) {
                heart.beat();
                changed |= self.take(letter.news);
            }
            changed |= self.tell_source_problems();
            self.voice.catch_up();
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
                    self.is_news = true;
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
        for complaints in [&mut self.nameless, &mut self.excess] {
            changed |= complaints.remove(&kind).is_some();
        }
        let there: HashSet<&ObjectKey> = objects.iter().filter_map(object::key).collect();
        // One that cannot even be told by name may be any of those of before. What is gone goes first: it leaves room.
        if objects.iter().all(|document| object::key(document).is_some()) {
            let of_kind = |key: &ObjectKey| key.kind == kind && !there.contains(key);
            let in_force = self.cluster.keys().filter(of_kind);
            let gone: Vec<ObjectKey> =
                in_force.chain(self.refused.iter().filter(|key| of_kind(key)).cloned()).collect();
            for key in gone {
                self.refused.remove(&key);
                changed |= self.remove(&key);
            }
        }
        for document in objects {
            changed |= self.change(kind, document);
        }
        self.is_news |= changed;
        changed
    }

    fn change(&mut self, kind: Kind, document: Document) -> bool {
        match document {
            Document::Taken(parsed) => self.put(kind, parsed),
            Document::Refused(Some(key), refusal) => self.refuse(kind, key, &refusal),
            Document::Refused(None, refusal) => {
                self.health.refused(kind);
                self.complain(kind, format!("a {} is refused: {refusal}", kind.label()))
            }
            Document::Skipped(why) => {
                self.health.refused(kind);
                self.complain(kind, why)
            }
        }
    }

    /// Puts an object in force. Those that are in force have more right to it than new ones, where not all fit.
    fn put(&mut self, kind: Kind, parsed: Parsed) -> bool {
        let old = self.cluster.get(&parsed.key);
        let held = self.held.entry(kind).or_default();
        if held.exchange(old.as_ref(), &parsed.object, &self.limits) {
            self.refused.remove(&parsed.key);
            let key = parsed.key.clone();
            return self.said(&key, |cluster| cluster.apply(parsed, None));
        }
        self.health.refused(kind);
        let Limits { objects, memory, .. } = self.limits;
        let most = format!("{objects} objects of a kind, or {memory} bytes of them");
        let text = format!("{} is left out: there are {most} already", parsed.key);
        self.is_news |= self.excess.entry(kind).or_default().add(text);
        false
    }

    fn refuse(&mut self, kind: Kind, key: ObjectKey, refusal: &Refusal) -> bool {
        self.health.refused(kind);
        if !self.refused.contains(&key) && self.refused.len() >= self.limits.refused {
            self.is_news |= self.excess.entry(kind).or_default().add(format!("{key}: {refusal}"));
            return false;
        }
        self.refused.insert(key.clone());
        self.said(&key, |cluster| {
            cluster.refuse(&key, refusal, None);
            false
        })
    }

    /// An object that cannot be told by name.
    fn complain(&mut self, kind: Kind, text: String) -> bool {
        self.is_news |= self.nameless.entry(kind).or_default().add(text);
        false
    }

    fn remove(&mut self, key: &ObjectKey) -> bool {
        if key.kind != Kind::Node {
            let old = self.cluster.get(key);
            self.held.entry(key.kind).or_default().remove(old.as_ref());
        }
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
        self.voice.tell_changes(&before, now);
        true
    }

    /// Puts the source's own problems in force, if there is news of them.
    fn tell_source_problems(&mut self) -> bool {
        if !std::mem::take(&mut self.is_news) {
            return false;
        }
        let told = self.nameless.values().chain(self.excess.values()).flat_map(Complaints::problems);
        let problems: Vec<Problem> = self.unserved.values().cloned().chain(told).collect();
        let notes = |problem: &&Problem| problem.severity != Severity::Note;
        self.voice.tell_changes(self.cluster.source_problems().iter().filter(notes), problems.iter().filter(notes));
        self.cluster.set_source_problems(problems);
        true
    }
}
