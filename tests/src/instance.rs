//! The real `ringway` binary, running in a namespace.

use crate::eventually;
use crate::ledger::Ledger;
use crate::netns::Namespace;
use ringway_control::demo::process::Process;
use rustix::process::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::time::Duration;

/// How long `run` may take to become ready.
const READY: Duration = Duration::from_secs(20);
/// How long `run` may take to end.
const END: Duration = Duration::from_secs(5);

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
    process: Process,
    config: PathBuf,
    socket: PathBuf,
}

impl Instance {
    /// Starts it without waiting.
    pub fn start(namespace: &Namespace, config: &Path, socket: &Path) -> Instance {
        let mut command = namespace.command(binary());
        command.args(["run", "--config"]).arg(config);
        let process = Process::start("ringway run", command).unwrap_or_else(|error| panic!("{error}"));
        Instance { process, config: config.to_owned(), socket: socket.to_owned() }
    }

    /// Waits until `/healthz` says that the first full list is in force on all workers.
    #[track_caller]
    pub fn await_ready(&mut self, namespace: &Namespace) {
        eventually(READY, "/healthz answers 200", || {
            if let Ok(Some(status)) = self.process.ended() {
                panic!("ringway run has ended with {status}; its output:\n{}", self.output());
            }
            let answer = namespace.enter(healthz).and_then(|answer| answer);
            match answer {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
                Ok(answer) => Err(format!("{answer}\n{}", self.output())),
                Err(error) => Err(format!("{error}\n{}", self.output())),
            }
        });
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.ended(), Ok(None))
    }

    /// Asks the admin socket, as `--output json` does.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let answer = admin(&self.socket, path).map_err(|error| format!("{}: {error}", self.socket.display()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer}"))?;
        if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
            return Err(format!("GET {path}: {answer}"));
        }
        serde_json::from_str(body).map_err(|error| format!("GET {path}: {error}: {body}"))
    }

    /// What the admin socket says, or a panic with the log.
    #[track_caller]
    pub fn ask(&self, path: &str) -> Value {
        self.get(path).unwrap_or_else(|error| panic!("{error}\nlog:\n{}", self.output()))
    }

    /// The ledger summed over all workers, proven to close.
    #[track_caller]
    pub fn ledger(&self) -> Ledger {
        let status = self.ask("/status");
        let ledger = Ledger::read(&status["ledger"]).unwrap_or_else(|error| panic!("{error}"));
        ledger.assert_closes();
        ledger
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
        self.process.terminate(END).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Kills it as the out-of-memory killer would.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL).expect("it runs");
        self.process.wait(END).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn healthz() -> std::io::Result<String> {
    let address: SocketAddr = ([127, 0, 0, 1], 10_256).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn admin(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // HTTP/1.0: no chunks, and the end of the connection is the end of the answer.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
