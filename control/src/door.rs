//! Where others ask this process over HTTP. Anybody may come and nobody can stay: connections, their time and the size of
//! a request are bounded, and whoever comes is let in, if need be for one that has waited longest ([`guests`]).

pub(crate) mod guests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;

use guests::{Guests, Peer, Visit};

/// Bytes that the head of a request may have.
const HEAD: usize = 16 << 10;
/// Headers that it may have.
const HEADERS: usize = 64;
/// The pause after a failure of the door itself: without a descriptor, the next attempt fails as well.
const PAUSE: Duration = Duration::from_millis(50);
/// How often such a failure is told.
const TELL: Duration = Duration::from_secs(60);

/// What connections come through.
pub(crate) trait Entrance: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and who it is.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Entrance for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = self.accept().await?;
        Ok((stream, Peer::of(address.ip())))
    }
}

impl Entrance for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::of(IpAddr::from([127, 0, 0, 1]))))
    }
}

/// Answers at this door, until this is dropped; connections through it end with it.
pub(crate) async fn serve(name: &'static str, entrance: impl Entrance, router: Router, guests: Arc<Guests>) {
    let door = guests.door();
    let mut told: Option<Instant> = None;
    loop {
        match entrance.next().await {
            Ok((stream, peer)) => {
                let (visit, leave) = door.admit(peer);
                tokio::spawn(answer(stream, router.clone(), visit, leave));
                // Who was asked to leave for this one does so first.
                tokio::task::yield_now().await;
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                if told.is_none_or(|last| last.elapsed() >= TELL) {
                    told = Some(Instant::now());
                    tracing::warn!("{name}: nobody can come in: {error}; whoever waited longest has to leave");
                }
                guests.make_room();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether it is the connection that failed, not the door.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Answers on one connection until its end, until there is no more time for it, or until it is asked to leave.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    visit: Visit,
    mut leave: oneshot::Receiver<()>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        visit.asks();
        let answer = router.call(request);
        async {
            let answer: Result<Response<Body>, _> = answer.await;
            visit.is_answered();
            answer
        }
    });
    let mut builder = http1::Builder::new();
    // Who has said all that it will say, and closes its half, waits for the answer as everybody else does.
    builder.half_close(true).max_buf_size(HEAD).max_headers(HEADERS).header_read_timeout(None);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        let until = visit.until();
        tokio::select! {
            biased;
            // Clients that break off, or send garbage, are no news.
            _ = &mut connection => return,
            _ = &mut leave => return,
            () = tokio::time::sleep_until(until.into()) => if visit.until() <= Instant::now() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
