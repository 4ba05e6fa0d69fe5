//! Where others ask this process: places that may change while it runs.

use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::error::RunError;
use super::health;

/// How long the address of a former listener may stay taken after it was closed.
const CLOSING: Duration = Duration::from_secs(2);

/// One that is not yet any runtime's.
pub(super) type Listener = std::net::TcpListener;

/// The other end of [`serve`]: says where to answer from now on, or that nowhere is.
pub(super) type Doorway<L> = mpsc::Sender<Option<L>>;

/// A doorway and what it is served by.
pub(super) fn doorway<L>() -> (Doorway<L>, mpsc::Receiver<Option<L>>) {
    mpsc::channel(4)
}

/// Serves one listener after the other, until the task ends. Who came by the last one is answered for as long as `farewell`.
pub(super) async fn serve<L, F: Future<Output = ()>>(
    mut listeners: mpsc::Receiver<Option<L>>,
    farewell: Duration,
    answer: impl Fn(L) -> F,
) {
    let (mut current, mut former) = (None, None);
    loop {
        let has_former = former.is_some();
        tokio::select! {
            () = served(&mut current) => return,
            _ = tokio::time::timeout(farewell, served(&mut former)), if has_former => former = None,
            Some(next) = listeners.recv() => {
                former = current.take().filter(|_| !farewell.is_zero());
                current = next.map(|listener| Box::pin(answer(listener)));
            }
        }
    }
}

async fn served<F: Future<Output = ()>>(serving: &mut Option<Pin<Box<F>>>) {
    match serving {
        Some(serving) => serving.await,
        None => pending().await,
    }
}

/// A place to listen at that is checked and not used yet.
pub(super) enum Prepared {
    /// It stays as it is.
    Same,
    /// Nowhere.
    Nowhere,
    /// Here.
    Open(Listener),
    /// The former listener has this port and must be closed first.
    After(SocketAddr),
}

/// Listens at the new address if it can while the old one is still open. `leaving`: the addresses of this process that it
/// is about to leave, by this key or another.
pub(super) fn prepare(
    key: &'static str,
    old: Option<SocketAddr>,
    new: Option<SocketAddr>,
    leaving: &[SocketAddr],
) -> Result<Prepared, RunError> {
    let Some(address) = new else { return Ok(if old.is_some() { Prepared::Nowhere } else { Prepared::Same }) };
    if old == new {
        return Ok(Prepared::Same);
    }
    match listen(key, address) {
        Ok(listener) => Ok(Prepared::Open(listener)),
        Err(error) if error.is_address_in_use() && leaving.iter().any(|left| left.port() == address.port()) => {
            Ok(Prepared::After(address))
        }
        Err(error) => Err(error),
    }
}

/// A place that may change.
pub(super) struct Move<'d> {
    pub(super) key: &'static str,
    pub(super) old: Option<SocketAddr>,
    pub(super) prepared: Prepared,
    pub(super) door: &'d dyn Opens,
}

/// A doorway, whatever it takes listeners as.
pub(super) trait Opens: Sync {
    /// Answers here from now on.
    fn open(&self, listener: Option<Listener>) -> BoxFuture<'_, ()>;
}

impl<L: From<Listener> + Send> Opens for Doorway<L> {
    fn open(&self, listener: Option<Listener>) -> BoxFuture<'_, ()> {
        // It fails only when the process ends.
        Box::pin(async move { drop(self.send(listener.map(L::from)).await) })
    }
}

/// Takes the prepared places. Those that wait for an address which this process leaves are taken when all of them are
/// closed, so that they may change places; if one cannot be had, all of these go back to where they were. Says which keys
/// stay as they were, and why.
pub(super) async fn take(moves: Vec<Move<'_>>) -> Vec<(&'static str, RunError)> {
    let mut waiting = Vec::new();
    for Move { key, old, prepared, door } in moves {
        match prepared {
            Prepared::Same => {}
            Prepared::Nowhere => door.open(None).await,
            Prepared::Open(listener) => door.open(Some(listener)).await,
            Prepared::After(address) => waiting.push((key, old, address, door)),
        }
    }
    for (_, _, _, door) in &waiting {
        door.open(None).await;
    }
    let (mut taken, mut problems) = (Vec::new(), Vec::new());
    for (key, _, address, door) in &waiting {
        match listen_soon(key, *address).await {
            Ok(listener) => taken.push((*door, listener)),
            Err(error) => problems.push((*key, error)),
        }
    }
    if problems.is_empty() {
        for (door, listener) in taken {
            door.open(Some(listener)).await;
        }
        return problems;
    }
    drop(taken);
    let first = problems.first().map(|(key, _)| *key).unwrap_or_default();
    for (key, old, address, door) in waiting {
        let again = match old {
            Some(old) => listen_soon(key, old).await.map(Some),
            None => Ok(None),
        };
        match again {
            Ok(listener) => door.open(listener).await,
            Err(error) => problems.push((key, error)),
        }
        if problems.iter().all(|(told, _)| *told != key) {
            problems.push((key, RunError::StaysTogether { key, address: address.to_string(), other: first }));
        }
    }
    problems
}

fn listen(key: &'static str, address: SocketAddr) -> Result<Listener, RunError> {
    let failed = |error| RunError::Listen { key, address: address.to_string(), error };
    health::listen(key, address)?.into_std().map_err(failed)
}

/// Listens as soon as the former listener is closed.
async fn listen_soon(key: &'static str, address: SocketAddr) -> Result<Listener, RunError> {
    let began = Instant::now();
    loop {
        match listen(key, address) {
            Err(RunError::Listen { error, .. })
                if error.kind() == ErrorKind::AddrInUse && began.elapsed() < CLOSING =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}
