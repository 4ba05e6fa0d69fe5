//! How a source is doing, for whoever reports on it: whether everything was listed once, how old the picture is, what is
//! wrong at the moment.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::parse::Kind;
use crate::report::source::{KubernetesReport, ResourceReport};

/// Files are looked at a few times a second. After so long without a look something is wrong.
const STALE: Duration = Duration::from_secs(30);

/// How a source is doing. A copy shows the same.
#[derive(Clone, Debug)]
pub struct SourceHealth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The API server, if objects come from one.
    server: Option<String>,
    complete: watch::Sender<bool>,
    /// When files were looked at last.
    looked: Mutex<Option<Instant>>,
    resources: Mutex<Vec<(Kind, Resource)>>,
}

/// One kind of objects, followed on its own.
#[derive(Clone, Debug, Default)]
struct Resource {
    listed: bool,
    unserved: Option<String>,
    last_contact: Option<Instant>,
    lists: u64,
    events: u64,
    refused: u64,
    trouble: Option<Trouble>,
}

#[derive(Clone, Debug)]
struct Trouble {
    text: String,
    began: Instant,
}

impl SourceHealth {
    /// Files, none of which was looked at yet.
    pub fn of_files() -> Self {
        let (complete, looked, resources) = (watch::Sender::new(false), Mutex::default(), Mutex::default());
        SourceHealth(Arc::new(Shared { server: None, complete, looked, resources }))
    }

    /// An API server, of which these kinds are followed.
    pub(super) fn of_server(server: &str, kinds: &[Kind]) -> Self {
        SourceHealth(Arc::new(Shared {
            server: Some(server.to_owned()),
            complete: watch::Sender::new(false),
            looked: Mutex::default(),
            resources: Mutex::new(kinds.iter().map(|kind| (*kind, Resource::default())).collect()),
        }))
    }

    /// Whether the first full list of all kinds has arrived.
    pub fn is_complete(&self) -> bool {
        *self.0.complete.borrow()
    }

    /// Waits for the first full list of all kinds.
    pub async fn complete(&self) {
        // It cannot fail: the sender lives in `self`.
        let _ = self.0.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// How long ago the API server was last heard of, by the kind that has waited longest: an answer, an event or a
    /// bookmark. A quiet API server sends a bookmark about once a minute. With files, how long ago all of them were looked at.
    /// `None` before the first answer, and before the first look.
    pub fn age(&self) -> Option<Duration> {
        if self.0.server.is_none() {
            return (*self.looked_at()).map(|looked| looked.elapsed());
        }
        let resources = self.resources();
        let watched = resources.iter().filter(|(_, resource)| resource.unserved.is_none());
        watched.map(|(_, resource)| Some(resource.last_contact?.elapsed())).try_fold(None, |oldest, age| {
            let age = age?;
            Some(Some(oldest.map_or(age, |oldest: Duration| oldest.max(age))))
        })?
    }

    /// Why what is in force may be out of date: files were not looked at for a while. An API server that is away is no such
    /// reason: the last full picture is the best there is, for every node.
    pub fn stale(&self) -> Option<String> {
        let age = self.age().filter(|age| self.0.server.is_none() && *age >= STALE)?;
        let seconds = age.as_secs();
        Some(format!(
            "the files of source.files were not looked at for {seconds} s; is a file server that has some of them away?"
        ))
    }

    fn looked_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.looked.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All files were looked at.
    pub(super) fn looked(&self) {
        *self.looked_at() = Some(Instant::now());
    }

    /// What is wrong with the connection now, and for how long: the longest trouble of any kind.
    pub fn trouble(&self) -> Option<(String, Duration)> {
        let resources = self.resources();
        let troubles = resources.iter().filter_map(|(_, resource)| resource.trouble.as_ref());
        troubles.min_by_key(|trouble| trouble.began).map(|trouble| (trouble.text.clone(), trouble.began.elapsed()))
    }

    /// For `status`; `None` for files.
    pub fn report(&self) -> Option<KubernetesReport> {
        let server = self.0.server.clone()?;
        let complete = self.is_complete();
        let age_seconds = self.age().map(|age| age.as_secs());
        let resources = self.resources().iter().map(|(kind, resource)| resource.report(*kind)).collect();
        Some(KubernetesReport { server, complete, age_seconds, resources })
    }

    pub(super) fn set_complete(&self) {
        self.0.complete.send_replace(true);
    }

    /// The API server said something about this kind.
    pub(super) fn heard(&self, kind: Kind) {
        self.with(kind, |resource| resource.last_contact = Some(Instant::now()));
    }

    /// A full list has arrived.
    pub(super) fn listed(&self, kind: Kind) {
        self.with(kind, |resource| {
            (resource.listed, resource.unserved) = (true, None);
            resource.lists += 1;
        });
    }

    /// A change has arrived.
    pub(super) fn changed(&self, kind: Kind) {
        self.with(kind, |resource| resource.events += 1);
    }

    /// An object was refused.
    pub(super) fn refused(&self, kind: Kind) {
        self.with(kind, |resource| resource.refused += 1);
    }

    /// The API server does not offer this kind, or not to us, and it can be done without.
    pub(super) fn unserved(&self, kind: Kind, why: &str) {
        self.with(kind, |resource| {
            (resource.unserved, resource.trouble) = (Some(why.to_owned()), None);
        });
    }

    /// Something is wrong. Whether that is news: not when another kind has the same trouble.
    pub(super) fn begin_trouble(&self, kind: Kind, text: &str) -> bool {
        let mut resources = self.resources();
        let is_known = |resource: &Resource| resource.trouble.as_ref().is_some_and(|known| known.text == text);
        let is_news = !resources.iter().any(|(_, resource)| is_known(resource));
        for (_, resource) in resources.iter_mut().filter(|(of, _)| *of == kind) {
            // The words may change while it goes on.
            let began = resource.trouble.as_ref().map_or_else(Instant::now, |trouble| trouble.began);
            resource.trouble = Some(Trouble { text: text.to_owned(), began });
        }
        is_news
    }

    /// All is well with this kind. How long it was not, if it was the last one in trouble.
    pub(super) fn end_trouble(&self, kind: Kind) -> Option<Duration> {
        let mut resources = self.resources();
        let ended =
            resources.iter_mut().find(|(of, _)| *of == kind).and_then(|(_, resource)| resource.trouble.take())?;
        let is_last = resources.iter().all(|(_, resource)| resource.trouble.is_none());
        is_last.then(|| ended.began.elapsed())
    }

    fn with(&self, kind: Kind, change: impl FnOnce(&mut Resource)) {
        if let Some((_, resource)) = self.resources().iter_mut().find(|(of, _)| *of == kind) {
            change(resource);
        }
    }

    fn resources(&self) -> MutexGuard<'_, Vec<(Kind, Resource)>> {
        // What a panicking holder left is still right: every change is a plain assignment.
        self.0.resources.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Resource {
    fn report(&self, kind: Kind) -> ResourceReport {
        ResourceReport {
            kind: kind.label().to_owned(),
            listed: self.listed,
            unserved: self.unserved.clone(),
            age_seconds: self.last_contact.map(|contact| contact.elapsed().as_secs()),
            lists: self.lists,
            events: self.events,
            refused: self.refused,
            problem: self.trouble.as_ref().map(|trouble| trouble.text.clone()),
            problem_seconds: self.trouble.as_ref().map(|trouble| trouble.began.elapsed().as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_picture_counts() {
        let health = SourceHealth::of_server("https://10.0.0.1:6443", &[Kind::Service, Kind::Node, Kind::ServiceCidr]);
        assert_eq!(health.age(), None);
        health.heard(Kind::Service);
        assert_eq!(health.age(), None, "nothing was heard of Nodes yet");
        health.heard(Kind::Node);
        assert_eq!(health.age(), None);
        health.unserved(Kind::ServiceCidr, "forbidden");
        health.with(Kind::Service, |service| service.last_contact = Instant::now().checked_sub(Duration::from_secs(9)));
        assert!(health.age() >= Some(Duration::from_secs(9)), "Nodes were heard of later");
        assert_eq!(health.stale(), None, "an API server may be away");
    }

    #[test]
    fn files_that_are_not_looked_at_are_stale() {
        let health = SourceHealth::of_files();
        assert_eq!((health.age(), health.is_complete(), health.stale()), (None, false, None));
        health.looked();
        assert!(health.age() < Some(Duration::from_secs(9)));
        assert_eq!(health.stale(), None);
        *health.looked_at() = Instant::now().checked_sub(Duration::from_secs(31));
        assert!(health.stale().unwrap().starts_with("the files of source.files were not looked at for 31 s"));
    }

    #[test]
    fn one_trouble_of_several_kinds_is_told_once() {
        let health = SourceHealth::of_server("https://10.0.0.1:6443", &[Kind::Service, Kind::Node]);
        assert!(health.begin_trouble(Kind::Service, "connection refused"));
        assert!(!health.begin_trouble(Kind::Node, "connection refused"));
        assert!(!health.begin_trouble(Kind::Service, "connection refused"));
        assert!(health.begin_trouble(Kind::Service, "forbidden"), "other words are news");
        assert!(health.trouble().is_some());
        assert_eq!(health.end_trouble(Kind::Service), None, "Nodes are still in trouble");
        assert!(health.end_trouble(Kind::Node).is_some());
        assert_eq!((health.end_trouble(Kind::Node), health.trouble()), (None, None));
    }
}
