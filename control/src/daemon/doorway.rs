//! Where others ask this process: places that may change while it runs.

use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::{Duration, Instant};

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

/// Listens at the new address if it can while the old one is still open.
pub(super) fn prepare(
    key: &'static str,
    old: Option<SocketAddr>,
    new: Option<SocketAddr>,
) -> Result<Prepared, RunError> {
    let Some(address) = new else { return Ok(if old.is_some() { Prepared::Nowhere } else { Prepared::Same }) };
    if old == new {
        return Ok(Prepared::Same);
    }
    match listen(key, address) {
        Ok(listener) => Ok(Prepared::Open(listener)),
        Err(RunError::Listen { error, .. })
            if error.kind() == ErrorKind::AddrInUse && old.is_some_and(|old| old.port() == address.port()) =>
        {
            Ok(Prepared::After(address))
        }
        Err(error) => Err(error),
    }
}

/// Takes a prepared place, or goes back to the old one.
pub(super) async fn take<L>(
    key: &'static str,
    old: Option<SocketAddr>,
    prepared: Prepared,
    door: &Doorway<L>,
    wrap: impl Fn(Listener) -> L,
) -> Result<(), RunError> {
    // It fails only when the process ends.
    let send = async |listener: Option<L>| drop(door.send(listener).await);
    match prepared {
        Prepared::Same => {}
        Prepared::Nowhere => send(None).await,
        Prepared::Open(listener) => send(Some(wrap(listener))).await,
        Prepared::After(address) => {
            send(None).await;
            match listen_soon(key, address).await {
                Ok(listener) => send(Some(wrap(listener))).await,
                Err(error) => {
                    if let Some(old) = old {
                        send(Some(wrap(listen_soon(key, old).await?))).await;
                    }
                    return Err(error);
                }
            }
        }
    }
    Ok(())
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
