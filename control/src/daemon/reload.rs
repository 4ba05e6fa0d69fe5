//! The configuration anew: SIGHUP and `POST /reload`.
//!
//! First everything that may fail for what the file says is done without touching anything, so that a wrong file changes
//! nothing. Then what is taken is put in force, one after the other. One reload at a time: the next one waits.

mod apply;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing_subscriber::EnvFilter;

use super::doorway::{self, Doorway, Prepared};
use super::error::RunError;
use super::logging;
use super::start::{MetricsDoor, Running, check_name};
use super::supervisor::Supervisor;
use crate::admin::{self, SocketFile};
use crate::config::keys::{Change, Fate};
use crate::config::{Config, ConfigError, SourceKey};
use crate::plain;
use crate::publish::{Published, Resetting};
use crate::report::configuration::{ConfigurationReport, Over, ReloadFailure, ReloadReport};
use crate::report::interfaces::InterfaceReport;

/// How long reading the file may take: what is no regular file may never end.
const READ: Duration = Duration::from_secs(5);
/// Requests that may wait for their turn.
const WAITING: usize = 4;

/// Why a reload changed nothing.
#[derive(Clone, Debug)]
pub struct ReloadError {
    /// Whether the file is wrong, or at least wrong for this machine.
    pub is_configuration: bool,
    /// Why, one line a problem.
    pub text: String,
}

impl ReloadError {
    fn failed(text: impl Into<String>) -> Self {
        ReloadError { is_configuration: false, text: text.into() }
    }
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        ReloadError { is_configuration: true, text: error.to_string() }
    }
}

impl From<RunError> for ReloadError {
    fn from(error: RunError) -> Self {
        ReloadError { is_configuration: error.is_configuration(), text: error.to_string() }
    }
}

type Answer = Result<ReloadReport, ReloadError>;

/// The right to ask for a reload.
#[derive(Clone)]
pub struct Reloads(mpsc::Sender<oneshot::Sender<Answer>>);

impl Reloads {
    /// Reloads, after those that asked before.
    pub async fn ask(&self) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(sender).map_err(|_| ReloadError::failed("others wait for a reload already; ask again"))?;
        answer.await.map_err(|_| ReloadError::failed("the process ends"))?
    }
}

/// The configuration in force, with what became of the last reload.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file, as an absolute path.
    pub file: PathBuf,
    /// What is in force.
    pub config: Arc<Config>,
    at: Instant,
    reloads: u64,
    waiting: Vec<Change>,
    failure: Option<Failure>,
}

/// What the last reload did not do.
#[derive(Clone, Debug)]
struct Failure {
    at: Instant,
    problems: Vec<(String, Over)>,
    nothing_changed: bool,
    /// The file as it was then.
    file: Option<Stamp>,
}

/// What tells one content of a file from another, without reading it.
type Stamp = (u64, u64, i64, i64);

fn stamp(file: &Path) -> Option<Stamp> {
    let now = std::fs::metadata(file).ok()?;
    Some((now.ino(), now.len(), now.mtime(), now.mtime_nsec()))
}

impl Failure {
    /// What is so still, if anything is.
    fn report(&self, file: &Path, attached: &[InterfaceReport], published: &Published) -> Option<ReloadFailure> {
        let lasts = |over: &Over| match over {
            Over::Reloaded => true,
            Over::Attached(name) => attached.iter().any(|other| other.name == *name && other.mode.is_none()),
            Over::InForce(number) => published.settings < *number || !published.in_force,
        };
        let lasting = self.problems.iter().filter(|(_, over)| lasts(over)).map(|(text, _)| text.as_str());
        let text = lasting.collect::<Vec<_>>().join("\n");
        (!text.is_empty()).then(|| ReloadFailure {
            age_seconds: self.at.elapsed().as_secs(),
            text,
            nothing_changed: self.nothing_changed,
            file_changed: stamp(file) != self.file,
        })
    }
}

impl Loaded {
    /// For `status`.
    pub fn report(&self, interfaces: &[InterfaceReport], published: &Published) -> ConfigurationReport {
        let failure = self.failure.as_ref();
        ConfigurationReport {
            file: self.file.display().to_string(),
            age_seconds: self.at.elapsed().as_secs(),
            reloads: self.reloads,
            waiting: self.waiting.clone(),
            failure: failure.and_then(|failure| failure.report(&self.file, interfaces, published)),
        }
    }
}

/// The listeners that a reload may move.
pub(super) struct MovingListeners {
    pub(super) healthz: Doorway<doorway::Listener>,
    pub(super) metrics: Doorway<MetricsDoor>,
    pub(super) socket: Doorway<UnixListener>,
}

/// What reloads a running instance.
pub(super) struct Reloader {
    hangup: Signal,
    asked: mpsc::Receiver<oneshot::Sender<Answer>>,
    asking: Reloads,
    loaded: watch::Sender<Arc<Loaded>>,
    pub(super) resettings: watch::Sender<Option<Resetting>>,
    pub(super) moving: Option<MovingListeners>,
    pub(super) supervisor: Supervisor,
    /// What an earlier reload still waits for.
    reading: Option<Reading>,
}

/// A thread that reads the file.
type Reading = tokio::task::JoinHandle<Result<Config, ConfigError>>;

/// Who waits for the answer: nobody after a SIGHUP.
type Asker = Option<oneshot::Sender<Answer>>;

impl Reloader {
    /// Listens for SIGHUP from now on. `config` was read from `file`.
    pub(super) fn listen(file: &Path, config: &Config, supervisor: Supervisor) -> std::io::Result<Self> {
        let (asking, asked) = mpsc::channel(WAITING);
        let loaded = Loaded {
            file: std::path::absolute(file)?,
            config: Arc::new(config.clone()),
            at: Instant::now(),
            reloads: 0,
            waiting: Vec::new(),
            failure: None,
        };
        Ok(Reloader {
            hangup: signal(SignalKind::hangup())?,
            asked,
            asking: Reloads(asking),
            loaded: watch::channel(Arc::new(loaded)).0,
            resettings: watch::channel(None).0,
            moving: None,
            supervisor,
            reading: None,
        })
    }

    /// What the start has made of the configuration.
    pub(super) fn start_with(&self, config: &Config) {
        self.note(|loaded| loaded.config = Arc::new(config.clone()));
    }

    /// What reports read.
    pub(super) fn loaded(&self) -> watch::Receiver<Arc<Loaded>> {
        self.loaded.subscribe()
    }

    /// For whoever may ask.
    pub(super) fn reloads(&self) -> Reloads {
        self.asking.clone()
    }

    /// The next one who wants a reload. Safe to be dropped at any moment.
    pub(super) async fn next(&mut self) -> Asker {
        tokio::select! {
            Some(()) = self.hangup.recv() => None,
            Some(asker) = self.asked.recv() => Some(asker),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Loaded)) {
        let mut loaded = Loaded::clone(&self.loaded.borrow());
        change(&mut loaded);
        self.loaded.send_replace(Arc::new(loaded));
    }
}

/// What is checked and made before anything is touched.
struct Plan {
    changes: Vec<Change>,
    /// What is in force afterwards.
    config: Config,
    log: Option<EnvFilter>,
    healthz: Prepared,
    metrics: Prepared,
    socket: Option<(UnixListener, SocketFile)>,
}

impl Running {
    /// Reloads for whoever asked, and says what came of it in the log.
    pub(super) async fn reload(&mut self, asker: Asker) {
        let loaded = self.reloader.loaded.borrow().clone();
        let why = if asker.is_some() { "ringway reload" } else { "SIGHUP" };
        tracing::info!("{why}: reading {} anew", plain::path(&loaded.file));
        self.reloader.supervisor.reloading();
        let answer = match self.interfaces.wait_for(plan(&loaded, &mut self.reloader.reading)).await {
            Ok(plan) => Ok(self.take(&loaded, plan).await),
            Err(error) => Err(error),
        };
        // Also after a failure: what was in force is so still.
        self.reloader.supervisor.ready();
        match &answer {
            Ok(report) => self.took(report),
            Err(error) => {
                tracing::error!("the configuration was not taken, and nothing changed: {}", error.text);
                let problems = vec![(error.text.clone(), Over::Reloaded)];
                let file = stamp(&loaded.file);
                let failure = Failure { at: Instant::now(), problems, nothing_changed: true, file };
                self.reloader.note(|loaded| loaded.failure = Some(failure));
            }
        }
        if let Some(asker) = asker {
            // Whoever asked may have gone.
            let _ = asker.send(answer);
        }
    }

    fn took(&self, report: &ReloadReport) {
        for change in &report.changes {
            match change.fate {
                Fate::InForce => tracing::info!("{change}"),
                Fate::Restart => tracing::warn!("{change}"),
            }
        }
        report.problems.iter().for_each(|problem| tracing::error!("not done: {problem}"));
        if report.changes.is_empty() && report.problems.is_empty() {
            tracing::info!("nothing changed");
        }
        self.reloader.note(|loaded| {
            loaded.at = Instant::now();
            loaded.reloads += 1;
            loaded.waiting = report.waiting().cloned().collect();
            let problems: Vec<_> = report.problems.iter().cloned().zip(report.over.iter().cloned()).collect();
            let file = stamp(&loaded.file);
            let failure = || Failure { at: Instant::now(), problems: problems.clone(), nothing_changed: false, file };
            loaded.failure = (!problems.is_empty()).then(failure);
        });
    }
}

async fn plan(loaded: &Loaded, reading: &mut Option<Reading>) -> Result<Plan, ReloadError> {
    let wanted = read(&loaded.file, reading).await?;
    let running = &loaded.config;
    let (changes, config) = (running.changes(&wanted), running.with(&wanted));
    for (place, listed) in config.interfaces.iter().enumerate() {
        if !running.interfaces.iter().any(|kept| kept.name == listed.name) {
            check_name(place, &listed.name)?;
        }
    }
    let log = (running.log != config.log).then(|| logging::parse(&config.log)).transpose();
    let log = log.map_err(|error| RunError::Log { filter: config.log.clone(), reason: error.to_string() })?;
    let (old, new) = (&running.admin, &config.admin);
    let left = |old: Option<SocketAddr>, new| old.filter(|_| old != new);
    let moved = [left(old.healthz, new.healthz), left(old.metrics, new.metrics)];
    let leaving: Vec<SocketAddr> = moved.into_iter().flatten().collect();
    let prepare = |key, old, new, (other, its)| {
        doorway::prepare(key, old, new, &leaving).map_err(|error| in_the_way(error, new, other, its))
    };
    let healthz = prepare("admin.healthz", old.healthz, new.healthz, ("admin.metrics", old.metrics))?;
    let metrics = prepare("admin.metrics", old.metrics, new.metrics, ("admin.healthz", old.healthz))?;
    let socket = (old.socket != new.socket).then(|| admin::listen(&new.socket)).transpose();
    let socket = socket.map_err(|error| RunError::AdminSocket { path: new.socket.clone(), error })?;
    Ok(Plan { changes, config, log, healthz, metrics, socket })
}

/// What stands in the way of a door's new place may be the other door, which stays.
fn in_the_way(error: RunError, new: Option<SocketAddr>, other: &str, its: Option<SocketAddr>) -> ReloadError {
    match (&error, new, its) {
        (RunError::Listen { key, .. }, Some(new), Some(its))
            if error.is_address_in_use() && new.port() == its.port() =>
        {
            let text = format!("{key}: cannot listen on {new}: this process has {its} as {other}");
            ReloadError::failed(format!("{text}; set another address, or move that one as well"))
        }
        _ => error.into(),
    }
}

/// Reads the file, whatever it has become.
async fn read(file: &Path, waiting: &mut Option<Reading>) -> Result<Config, ReloadError> {
    // A thread that reads for ever is one too many already.
    if waiting.as_ref().is_some_and(|reading| !reading.is_finished()) {
        let text = format!("{} is still being read for an earlier reload; is it a file?", plain::path(file));
        return Err(ReloadError::failed(text));
    }
    let path = file.to_owned();
    let mut reading = tokio::task::spawn_blocking(move || Config::load(&path, SourceKey::Read));
    match tokio::time::timeout(READ, &mut reading).await {
        Ok(Ok(config)) => Ok(config?),
        Ok(Err(error)) => Err(ReloadError::failed(format!("cannot read {}: {error}", plain::path(file)))),
        Err(_) => {
            *waiting = Some(reading);
            let text = format!("{} cannot be read within {} s; is it a file?", plain::path(file), READ.as_secs());
            Err(ReloadError::failed(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_right_since_a_reload_is_not_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ringway.yaml");
        std::fs::write(&file, "a").unwrap();
        let problem = |text: &str, over| (text.to_owned(), over);
        let failure = Failure {
            at: Instant::now(),
            problems: vec![
                problem("eth1 is not attached", Over::Attached("eth1".into())),
                problem("not in force", Over::InForce(3)),
            ],
            nothing_changed: false,
            file: stamp(&file),
        };
        let eth1 = |mode: Option<&str>| {
            let (name, mode) = ("eth1".to_owned(), mode.map(str::to_owned));
            [InterfaceReport { name, mode, ..InterfaceReport::default() }]
        };
        let in_force = |settings, in_force| Published { settings, in_force, ..Published::default() };
        let told = |attached: &[InterfaceReport], published: &Published| {
            failure.report(&file, attached, published).map(|failure| (failure.text, failure.file_changed))
        };
        let both = "eth1 is not attached\nnot in force".to_owned();
        assert_eq!(told(&eth1(None), &in_force(2, true)), Some((both, false)));
        assert_eq!(told(&eth1(Some("native")), &in_force(3, false)), Some(("not in force".into(), false)));
        std::fs::write(&file, "ab").unwrap();
        assert_eq!(told(&eth1(None), &in_force(4, true)), Some(("eth1 is not attached".into(), true)));
        assert_eq!(told(&eth1(Some("native")), &in_force(3, true)), None);
        assert_eq!(told(&[], &in_force(3, true)), None, "it is not listed any more");
    }
}
