//! A process started by the demo or a test: its output is kept, and it ends when dropped.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of output that are kept; older ones go first.
const LINES: usize = 2_000;

/// A running process. Dropping it kills it by its process id and waits for it.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts a command. `what` names it in messages. It gets a process group of its own, so that a Ctrl-C at the
    /// terminal reaches only us and we end things in order.
    pub fn start(what: &str, mut command: Command) -> io::Result<Process> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{what} could not be started: {error}")))?;
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            readers.push(collect(pipe, Arc::clone(&output)));
        }
        if let Some(pipe) = child.stderr.take() {
            readers.push(collect(pipe, Arc::clone(&output)));
        }
        Ok(Process { what: what.to_owned(), child, output, readers })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output and error so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // The child is waited for only by us, so its id cannot belong to another process yet.
        let pid = Pid::from_raw(self.child.id().cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end, at most so long.
    pub fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                // All that it wrote is in the pipes by now; a grandchild that holds them must not keep us.
                while Instant::now() < deadline && self.readers.iter().any(|reader| !reader.is_finished()) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let message = format!("{} has not ended within {limit:?}; its output:\n{}", self.what, self.output());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks it to end (SIGTERM) and waits, at most so long.
    pub fn terminate(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // Both fail only if it has ended meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let mut lines = into.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES {
                lines.remove(0);
            }
            lines.push(text);
            line.clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start("a script", command).expect("sh")
    }

    #[test]
    fn output_of_both_pipes_is_kept_and_the_status_told() {
        let mut process = shell("echo one; echo two >&2; exit 3");
        let status = process.wait(Duration::from_secs(10)).expect("it ends");
        assert_eq!(status.code(), Some(3));
        let output = process.output();
        assert!(output.contains("one") && output.contains("two"), "{output}");
    }

    #[test]
    fn one_that_does_not_end_is_named_with_its_output_and_killed_on_drop() {
        let mut process = shell("echo still here; exec sleep 60");
        let pid = process.id();
        while !process.output().contains("still here") {
            std::thread::sleep(Duration::from_millis(1));
        }
        let error = process.wait(Duration::from_millis(1)).expect_err("it sleeps").to_string();
        assert!(error.contains("a script has not ended") && error.contains("still here"), "{error}");
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
