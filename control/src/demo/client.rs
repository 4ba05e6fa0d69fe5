//! The demo's client: steady HTTP and UDP load on every VIP, and one connection that stays open.

use super::netns::Namespace;
use super::tally::{Kind, Tally};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long each step of an HTTP request may take.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a UDP answer may take. Machines that others share stand still for long moments.
pub(super) const UDP_LIMIT: Duration = Duration::from_secs(2);
/// Time between two requests to one VIP.
const PACE: Duration = Duration::from_millis(40);
/// Most requests under way to one VIP, by each protocol: more than a dead backend can hold up.
const UNDER_WAY: usize = 100;
/// Time between two requests on the connection that stays open.
const LONG_LIVED_PACE: Duration = Duration::from_millis(200);

type Body = Empty<hyper::body::Bytes>;

/// A VIP with its ports for HTTP and UDP.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What it is, for people: `ClusterIP`, ...
    pub(super) what: &'static str,
    /// Where HTTP is.
    pub(super) http: SocketAddr,
    /// Where UDP is.
    pub(super) udp: SocketAddr,
}

/// Running load; it ends when dropped.
#[derive(Debug)]
pub(super) struct Load {
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<io::Result<()>>>,
}

impl Load {
    /// Starts load on all targets. The connection that stays open goes to the first.
    pub(super) fn start(namespace: &Namespace, targets: Vec<Target>, tally: Arc<Tally>) -> io::Result<Load> {
        let (stop, stopped) = watch::channel(false);
        let thread = namespace.spawn("client", move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let mut tasks = JoinSet::new();
                if let Some(first) = targets.first() {
                    tasks.spawn(stay_connected(first.http, Arc::clone(&tally), stopped.clone()));
                }
                for target in targets {
                    tasks.spawn(repeat(Kind::Http, target.http, Arc::clone(&tally), stopped.clone()));
                    tasks.spawn(repeat(Kind::Udp, target.udp, Arc::clone(&tally), stopped.clone()));
                }
                tasks.join_all().await;
            });
        })?;
        Ok(Load { stop, thread: Some(thread) })
    }

    /// Lets requests under way end, and stops.
    pub(super) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

/// One HTTP request over a new connection, from a thread inside `namespace`; who answered. `source` is a port, or 0.
pub(super) fn ask_http(namespace: &Namespace, server: SocketAddr, source: u16) -> Result<String, String> {
    block_inside(namespace, http(server, source))
}

/// One UDP request, likewise.
pub(super) fn ask_udp(namespace: &Namespace, server: SocketAddr) -> Result<String, String> {
    block_inside(namespace, udp(server))
}

fn block_inside(
    namespace: &Namespace,
    work: impl Future<Output = Result<String, String>> + Send,
) -> Result<String, String> {
    let result = namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| error.to_string())?.block_on(work)
    });
    result.map_err(|error| error.to_string())?
}

async fn repeat(kind: Kind, server: SocketAddr, tally: Arc<Tally>, mut stopped: watch::Receiver<bool>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A dead backend's silence must not slow the load.
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            _ = pace.tick() => {}
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() < UNDER_WAY {
            let tally = Arc::clone(&tally);
            under_way.spawn(async move {
                tally.count(kind, if kind == Kind::Http { http(server, 0).await } else { udp(server).await });
            });
        }
    }
    under_way.join_all().await;
}

async fn stay_connected(server: SocketAddr, tally: Arc<Tally>, mut stopped: watch::Receiver<bool>) {
    let mut pace = interval(LONG_LIVED_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = match connect(server, 0).await {
        Ok(connection) => connection,
        Err(error) => return tally.count_long_lived(Err(error)),
    };
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            _ = pace.tick() => {}
        }
        let result = ask(&mut connection, server).await;
        let broken = result.is_err();
        tally.count_long_lived(result);
        if broken {
            return;
        }
    }
}

async fn http(server: SocketAddr, source: u16) -> Result<String, String> {
    let mut connection = connect(server, source).await?;
    ask(&mut connection, server).await
}

async fn connect(server: SocketAddr, source: u16) -> Result<SendRequest<Body>, String> {
    let open = async {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if source != 0 {
            socket.set_reuseaddr(true)?;
            let any = if server.is_ipv4() { ([0, 0, 0, 0], source).into() } else { ([0_u16; 8], source).into() };
            socket.bind(any)?;
        }
        socket.connect(server).await
    };
    let stream: TcpStream = within(LIMIT, server, open).await?;
    let (sender, connection) = within(LIMIT, server, handshake(TokioIo::new(stream))).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(connection: &mut SendRequest<Body>, server: SocketAddr) -> Result<String, String> {
    let request = Request::get("/").header("host", server.to_string()).body(Body::new());
    let request = request.map_err(|error| error.to_string())?;
    let answer = within(LIMIT, server, connection.send_request(request)).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("{server}: {}", answer.status()));
    }
    let body = within(LIMIT, server, answer.into_body().collect()).await?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

async fn udp(server: SocketAddr) -> Result<String, String> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let mut datagram = [0; 256];
    let exchange = async {
        let socket = UdpSocket::bind(any).await?;
        // Connected: only the VIP itself may answer.
        socket.connect(server).await?;
        socket.send(b"who are you?").await?;
        socket.recv(&mut datagram).await
    };
    let length = within(UDP_LIMIT, server, exchange).await?;
    Ok(String::from_utf8_lossy(datagram.get(..length).unwrap_or_default()).into_owned())
}

async fn within<T, E: std::fmt::Display>(
    limit: Duration,
    server: SocketAddr,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{server}: {error}")),
        Err(_) => Err(format!("{server}: no answer within {limit:?}")),
    }
}
