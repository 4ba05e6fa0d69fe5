//! A `ringway run` that the demo or a test started in a namespace.

use super::netns::Namespace;
use super::process::Process;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// How long `run` may take to end after SIGTERM.
const END: Duration = Duration::from_secs(5);

/// A running instance; killed when dropped.
#[derive(Debug)]
pub struct Instance {
    /// The process.
    pub process: Process,
    socket: PathBuf,
}

impl Instance {
    /// Starts it without waiting. `socket` is the admin socket that the configuration names.
    pub fn start(namespace: &Namespace, binary: &Path, config: &Path, socket: &Path) -> io::Result<Instance> {
        let mut command = namespace.command(binary);
        command.args(["run", "--config"]).arg(config);
        Ok(Instance { process: Process::start("ringway run", command)?, socket: socket.to_owned() })
    }

    /// The same, but it ends when the thread that starts it ends, whatever the way.
    pub fn start_with_us(namespace: &Namespace, binary: &Path, config: &Path, socket: &Path) -> io::Result<Instance> {
        let mut command = namespace.command(binary);
        let us = std::process::id().to_string();
        command.args(["run", "--end-with", &us, "--config"]).arg(config);
        Ok(Instance { process: Process::start("ringway run", command)?, socket: socket.to_owned() })
    }

    /// Asks `/healthz` inside the namespace: `Ok` once the first full list is in force on all workers. An error says
    /// what is so far, and whether the process has ended.
    pub fn healthy(&mut self, namespace: &Namespace) -> Result<(), NotReady> {
        let ended = self.process.ended().map_err(|error| NotReady { ended: true, text: error.to_string() })?;
        if let Some(status) = ended {
            let text = format!("ringway run has ended with {status}; its output:\n{}", self.process.output());
            return Err(NotReady { ended: true, text });
        }
        match namespace.enter(healthz).and_then(|answer| answer) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(answer) => Err(NotReady { ended: false, text: answer }),
            Err(error) => Err(NotReady { ended: false, text: format!("{error}; log:\n{}", self.process.output()) }),
        }
    }

    /// Asks the admin socket: the same that `--output json` prints.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let answer = ask(&self.socket, path).map_err(|error| format!("{}: {error}", self.socket.display()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer}"))?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(format!("GET {path}: {answer}"));
        }
        serde_json::from_str(body).map_err(|error| format!("GET {path}: {error}: {body}"))
    }

    /// Sends SIGTERM and waits the five seconds that it may take.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.process.terminate(END)
    }
}

/// Why an instance does not serve (yet).
#[derive(Clone, Debug)]
pub struct NotReady {
    /// It never will: the process is gone.
    pub ended: bool,
    /// For a person.
    pub text: String,
}

fn healthz() -> io::Result<String> {
    let address: SocketAddr = ([127, 0, 0, 1], 10_256).into();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask(socket: &Path, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    // HTTP/1.0: no chunks, and the end of the connection is the end of the answer.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
