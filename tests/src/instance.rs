//! The real `ringway` binary, running in a namespace.

use crate::eventually;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use ringway_control::demo::instance as demo;
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::time::Duration;

/// How long `run` may take to become ready.
const READY: Duration = Duration::from_secs(20);

/// The binary under test: `RINGWAY_BIN`, or what cargo builds from this tree right now.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("RINGWAY_BIN") {
            let path = PathBuf::from(path);
            assert!(path.exists(), "RINGWAY_BIN names {}, which does not exist: build it first", path.display());
            return path;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["build", "--workspace", "--bin", "ringway"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        let status = command.status().unwrap_or_else(|error| panic!("cargo build could not be started: {error}"));
        assert!(status.success(), "the ringway binary could not be built");
        // .../target/debug/deps/THIS-TEST
        let this = std::env::current_exe().expect("our own path");
        this.parent().and_then(Path::parent).expect("a target folder").join("ringway")
    })
}

/// A running `ringway run`; killed when dropped.
#[derive(Debug)]
pub struct Instance {
    inner: demo::Instance,
    config: PathBuf,
}

impl Instance {
    /// Starts it without waiting.
    pub fn start(namespace: &Namespace, config: &Path, socket: &Path) -> Instance {
        let inner = demo::Instance::start(namespace, binary(), config, socket);
        Instance { inner: inner.unwrap_or_else(|error| panic!("{error}")), config: config.to_owned() }
    }

    /// Waits until `/healthz` says that the first full list is in force on all workers.
    #[track_caller]
    pub fn await_ready(&mut self, namespace: &Namespace) {
        eventually(READY, "/healthz answers 200", || match self.inner.healthy(namespace) {
            Err(why) if why.ended => panic!("{}", why.text),
            other => other.map_err(|why| why.text),
        });
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        self.inner.process.output()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.inner.process.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.inner.process.ended(), Ok(None))
    }

    /// Asks the admin socket, as `--output json` does.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.inner.get(path)
    }

    /// What the admin socket says, or a panic with the log.
    #[track_caller]
    pub fn ask(&self, path: &str) -> Value {
        self.get(path).unwrap_or_else(|error| panic!("{error}\nlog:\n{}", self.output()))
    }

    /// The ledger summed over all workers, once the traffic before has reached it: a worker publishes its counts after
    /// it has sent, so a client may know of a packet a moment earlier. Every reading on the way is proven to close.
    #[track_caller]
    pub fn ledger(&self) -> Ledger {
        let read = || {
            let status = self.ask("/status");
            let ledger = Ledger::read(&status["ledger"]).unwrap_or_else(|error| panic!("{error}"));
            ledger.assert_closes();
            ledger
        };
        let mut last = read();
        eventually(Duration::from_secs(5), "the ledger comes to rest", || {
            std::thread::sleep(Duration::from_millis(20));
            let now = read();
            let rests = now == last;
            last = now.clone();
            if rests { Ok(now) } else { Err(format!("{now:?}")) }
        })
    }

    /// One ledger a worker, each proven to close.
    #[track_caller]
    pub fn worker_ledgers(&self) -> Vec<Ledger> {
        let status = self.ask("/status");
        let workers = status["workers"].as_array().unwrap_or_else(|| panic!("a status without workers: {status}"));
        let read = |worker: &Value| Ledger::read(&worker["ledger"]).unwrap_or_else(|error| panic!("{error}"));
        let ledgers: Vec<_> = workers.iter().map(read).collect();
        ledgers.iter().for_each(Ledger::assert_closes);
        ledgers
    }

    /// Runs a subcommand against this instance.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(&self.config);
        command.output().unwrap_or_else(|error| panic!("ringway {arguments:?}: {error}"))
    }

    /// Sends SIGTERM and waits the five seconds that it may take.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.inner.stop().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Kills it as the out-of-memory killer would.
    pub fn kill(&mut self) {
        self.inner.process.signal(Signal::KILL).expect("it runs");
        self.inner.process.wait(Duration::from_secs(5)).unwrap_or_else(|error| panic!("{error}"));
    }
}
