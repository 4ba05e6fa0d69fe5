//! Health for load balancers and supervisors: `/healthz` and `/livez` as kube-proxy answers them, and the
//! healthCheckNodePorts of Services.

pub(super) mod node_ports;
pub(super) mod starting;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::any;
use axum::{Json, Router};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::RunError;
use crate::cluster::ClusterState;
use crate::door;
use crate::door::guests::Guests;
use crate::publish::Published;
use crate::report::interfaces::InterfaceReport;
use crate::report::readiness::{reasons, stuck};
use crate::source::health::SourceHealth;
use crate::watch::{Hearts, heart, last};

/// Tasks that end with this.
#[derive(Default)]
pub(super) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Lets a task run on this runtime until this is dropped. That it ends before is a defect, and ends the process.
    pub(super) fn spawn(
        &mut self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        self.0.push(runtime.spawn(async move {
            task.await;
            last::leave(1, &format!("error: {name}: the task ended by itself; ringway ends. This is a defect"));
        }));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Listens on `address`.
pub(super) fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    bind(address).map_err(|error| RunError::Listen { key, address: address.to_string(), error })
}

/// Whether [`listen`] would find the address free. One that this process may not have is another's affair.
pub(super) fn look(key: &'static str, address: SocketAddr) -> Result<(), RunError> {
    let bound = socket(address).and_then(|socket| bind_to(&socket, address));
    match bound {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => {
            Err(RunError::Listen { key, address: address.to_string(), error })
        }
        _ => Ok(()),
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    listen_on(socket(address)?, address)
}

/// Listens for the family of `address` only: IPv6's any-address does not take IPv4 along.
fn bind_alone(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket(address)?;
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    listen_on(socket, address)
}

fn socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

fn bind_to(socket: &TcpSocket, address: SocketAddr) -> std::io::Result<()> {
    // Connections of a former process that still linger must not keep the next one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)
}

fn listen_on(socket: TcpSocket, address: SocketAddr) -> std::io::Result<TcpListener> {
    bind_to(&socket, address)?;
    // The kernel takes less where net.core.somaxconn is less.
    socket.listen(4096)
}

/// How long a change may wait to be in force before the node counts as stale: kube-proxy's two sync periods.
const STALE: Duration = Duration::from_secs(60);

const NOSNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// What is known and what is in force, now and later.
pub(super) struct Known {
    pub(super) published: watch::Receiver<Arc<Published>>,
    pub(super) cluster: watch::Receiver<Arc<ClusterState>>,
    pub(super) interfaces: watch::Receiver<Arc<[InterfaceReport]>>,
    pub(super) hearts: Hearts,
}

/// What health is judged by.
pub(super) struct Health {
    known: Known,
    source: SourceHealth,
    node: String,
    record: Mutex<Record>,
}

/// What has to be remembered for it.
#[derive(Default)]
struct Record {
    /// Since when something is known that is not in force on all workers.
    pending: Option<Instant>,
    /// When everything that was known was in force last.
    updated: Option<Timestamp>,
    /// Whether the Node object was ever there.
    node_seen: bool,
}

impl Record {
    /// Takes in a moment. `current`: whether everything known is in force.
    fn note(&mut self, current: bool, now: Instant) {
        if current {
            self.pending = None;
            self.updated = Some(Timestamp::now());
        } else if self.pending.is_none() {
            self.pending = Some(now);
        }
    }

    /// That a change waits for too long.
    fn stale(&self, now: Instant) -> Option<String> {
        let waits = now.saturating_duration_since(self.pending?);
        (waits >= STALE).then(|| format!("a change waits for {} s to be in force on all workers", waits.as_secs()))
    }
}

impl Health {
    pub(super) fn new(known: Known, source: SourceHealth, node: &str) -> Arc<Self> {
        Arc::new(Health { known, source, node: node.to_owned(), record: Mutex::default() })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what becomes known and what comes into force.
    pub(super) async fn follow(self: Arc<Self>) {
        let (mut published, mut cluster) = (self.known.published.clone(), self.known.cluster.clone());
        let heart = heart("health");
        loop {
            let (in_force, known) = (published.borrow_and_update().clone(), cluster.borrow_and_update().clone());
            {
                let mut record = self.record();
                record.node_seen |= in_force.cluster.node(&self.node).is_some();
                // Before the first full list nothing waits for being put in force.
                if in_force.ready {
                    record.note(in_force.in_force && Arc::ptr_eq(&in_force.cluster, &known), Instant::now());
                }
            }
            tokio::select! {
                Ok(()) = published.changed() => {}
                Ok(()) = cluster.changed() => {}
                () = heart.rest() => {}
                else => return,
            }
        }
    }

    /// Why traffic should go elsewhere: no list was in force yet, a change waits for too long, files were not looked at for a
    /// while, something makes no progress, or no packet can leave.
    fn reasons(&self) -> Vec<String> {
        let silent = self.known.hearts.silent();
        let mut reasons = reasons(&self.known.published.borrow(), &self.known.interfaces.borrow(), stuck(&silent));
        reasons.extend(self.record().stale(Instant::now()));
        reasons.extend(self.source.stale());
        reasons
    }

    /// How it is, in a line.
    pub(super) fn summary(&self) -> String {
        let reasons = self.reasons();
        if reasons.is_empty() {
            let published = self.known.published.borrow();
            let services = &published.snapshot.services;
            return format!(
                "ready: {} frontends and {} VIPs are in force",
                services.frontends.len(),
                services.vips.len()
            );
        }
        let trouble = self.source.trouble().map_or_else(String::new, |(text, _)| format!("; {text}"));
        format!("not ready: {}{trouble}", reasons.join("; "))
    }

    /// Why this process should be started anew: a change waits for too long, or something makes no progress.
    pub(super) fn reasons_to_restart(&self) -> Vec<String> {
        let mut reasons: Vec<String> = stuck(&self.known.hearts.silent()).collect();
        reasons.extend(self.record().stale(Instant::now()));
        reasons
    }

    /// Whether load balancers in front may send traffic here, as far as the Node object tells: it is not about to be
    /// deleted, and not gone. A node that never had an object has nobody who could say so.
    fn is_node_eligible(&self) -> bool {
        let published = self.known.published.borrow();
        match published.cluster.node(&self.node) {
            Some(node) => !node.leaving,
            None => !self.record().node_seen,
        }
    }

    /// kube-proxy's fields, and more.
    fn answer(&self, healthy: bool, shown_healthy: bool, reasons: &[String]) -> Value {
        let published = self.known.published.borrow();
        let now = Timestamp::now();
        let updated = self.record().updated;
        // As kube-proxy has it: who is healthy is up to date now.
        let last_updated = if healthy { Some(now) } else { updated };
        let text = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let family = json!({"lastUpdated": text(updated), "healthy": shown_healthy});
        json!({
            "lastUpdated": text(last_updated),
            "currentTime": now.to_string(),
            "healthy": shown_healthy,
            "reasons": reasons,
            "status": {"IPv4": family, "IPv6": family},
            "generation": published.snapshot.generation.0,
            "inForce": published.in_force,
            "sourceAgeSeconds": self.source.age().map(|age| age.as_secs()),
            "sourceProblem": self.source.trouble().map(|(text, _)| text),
        })
    }
}

/// Answers `/healthz` and `/livez`. As with kube-proxy, the method does not matter.
pub(super) async fn serve(listener: TcpListener, health: Arc<Health>, guests: Arc<Guests>) {
    let router = Router::new().route("/healthz", any(healthz)).route("/livez", any(livez)).with_state(health);
    heart("health checks").waiting(door::serve("admin.healthz", listener, router, guests)).await;
}

async fn healthz(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let (reasons, eligible) = (health.reasons(), health.is_node_eligible());
    let current = reasons.is_empty();
    let mut answer = health.answer(current && eligible, current, &reasons);
    answer["nodeEligible"] = eligible.into();
    reply(current && eligible, answer)
}

/// 200 as long as the process works: everything in it makes progress, and nothing has waited for a minute to be in force. A
/// node that is about to go is alive, and so is one whose cables are out.
async fn livez(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let reasons = health.reasons_to_restart();
    let alive = reasons.is_empty();
    let mut answer = health.answer(alive, alive, &reasons);
    answer["watched"] = health.known.hearts.names().into();
    reply(alive, answer)
}

fn reply(healthy: bool, answer: Value) -> impl IntoResponse {
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [NOSNIFF], Json(answer))
}

#[cfg(test)]
mod tests;
