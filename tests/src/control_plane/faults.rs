//! A TCP proxy in front of the API server that stalls, cuts and truncates.

use super::{ADDRESS, ControlPlane, PORT};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often an idle thread looks for a new fault.
const LOOK: Duration = Duration::from_millis(20);

/// What the proxy does to connections, those that are open included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    None,
    /// Connections are accepted and stay open, but no byte passes.
    Stall,
    /// Connections end at once.
    Cut,
    /// A connection ends after this many bytes from the server; those that are open count from now on.
    Truncate(u64),
}

#[derive(Debug)]
struct Shared {
    fault: Mutex<Fault>,
    stop: AtomicBool,
    connections: AtomicU64,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A running proxy, in the control plane's namespace.
#[derive(Debug)]
pub struct FaultyProxy {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
    address: SocketAddr,
}

impl FaultyProxy {
    /// Starts one in front of the API server.
    pub fn start(plane: &ControlPlane) -> FaultyProxy {
        Self::before(plane, SocketAddr::new(ADDRESS.parse().expect("an address"), PORT))
    }

    /// Starts one in front of another server in the control plane's namespace.
    pub fn before(plane: &ControlPlane, server: SocketAddr) -> FaultyProxy {
        let listener = plane.namespace.enter(|| TcpListener::bind((ADDRESS, 0))).and_then(|listener| listener);
        let listener = listener.unwrap_or_else(|error| panic!("a listener on {ADDRESS}: {error}"));
        let address = listener.local_addr().expect("its address");
        listener.set_nonblocking(true).expect("not blocking");
        let fault = Mutex::new(Fault::None);
        let shared = Arc::new(Shared { fault, stop: AtomicBool::new(false), connections: AtomicU64::new(0) });
        let seen = Arc::clone(&shared);
        let thread = plane.namespace.spawn("faulty proxy", move || accept(&listener, server, &seen));
        FaultyProxy { shared, thread: Some(thread.unwrap_or_else(|error| panic!("{error}"))), address }
    }

    /// Where it listens, as a kubeconfig names it.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Does this from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    while !shared.stops() {
        let Ok((client, _)) = listener.accept() else {
            std::thread::sleep(LOOK);
            continue;
        };
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if shared.fault() == Fault::Cut {
            continue;
        }
        // The server itself may be down.
        let Ok(server) = TcpStream::connect(server) else { continue };
        let pair = [client.try_clone(), server.try_clone()].map(|stream| stream.expect("a copy of a socket"));
        let [to_client, to_server] = pair;
        for (from, to, answers) in [(client, to_server, false), (server, to_client, true)] {
            let shared = Arc::clone(shared);
            threads.push(std::thread::spawn(move || {
                // However it ends, both directions end.
                let _ = carry(&from, &to, answers, &shared);
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
            }));
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Copies one direction until it ends or a fault ends it.
fn carry(mut from: &TcpStream, mut to: &TcpStream, answers: bool, shared: &Shared) -> io::Result<()> {
    from.set_nonblocking(false)?;
    from.set_read_timeout(Some(LOOK))?;
    let mut buffer = [0; 16_384];
    let mut passed = 0;
    while !shared.stops() {
        let limit = match shared.fault() {
            Fault::Cut => return Ok(()),
            Fault::Stall => {
                std::thread::sleep(LOOK);
                continue;
            }
            Fault::None => {
                passed = 0;
                u64::MAX
            }
            Fault::Truncate(_) if !answers => u64::MAX,
            Fault::Truncate(bytes) => bytes.saturating_sub(passed),
        };
        if limit == 0 {
            return Ok(());
        }
        let size = usize::try_from(limit).unwrap_or(usize::MAX).min(buffer.len());
        let length = match from.read(&mut buffer[..size]) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        };
        passed += length as u64;
        to.write_all(&buffer[..length])?;
    }
    Ok(())
}
