//! Health for load balancers and supervisors: `/healthz`, `/livez`, and the healthCheckNodePorts of Services.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::RunError;
use crate::compile::HealthCheck;
use crate::publish::Published;

/// Tasks that end with this.
#[derive(Default)]
pub(super) struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    /// Lets a task run until this is dropped.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
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

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of a former process that still linger must not keep the next one from starting.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

type Latest = watch::Receiver<Arc<Published>>;

/// Answers `/healthz` and `/livez`.
pub(super) async fn serve(listener: TcpListener, published: Latest) {
    let router =
        Router::new().route("/healthz", get(healthz)).route("/livez", get(|| async { "ok\n" })).with_state(published);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("health checks are not answered any more: {error}");
    }
}

/// 200 once the first full list was in force on all workers. A later snapshot on its way changes nothing about it.
async fn healthz(State(published): State<Latest>) -> (StatusCode, Json<Value>) {
    let published = published.borrow();
    let generation = published.snapshot.generation.0;
    let healthy = published.ready;
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"healthy": healthy, "generation": generation, "inForce": published.in_force})))
}

type Count = watch::Receiver<Option<HealthCheck>>;

/// Serves the healthCheckNodePorts of Services for as long as they exist.
pub(super) async fn serve_node_ports(mut published: Latest) {
    let mut served: BTreeMap<u16, (watch::Sender<Option<HealthCheck>>, Tasks)> = BTreeMap::new();
    loop {
        let checks = published.borrow_and_update().health_checks.clone();
        served.retain(|port, _| checks.iter().any(|check| check.port == *port));
        for check in checks.iter() {
            if let Some((sender, _)) = served.get(&check.port) {
                sender.send_if_modified(|known| {
                    let changed = known.as_ref() != Some(check);
                    *known = Some(check.clone());
                    changed
                });
                continue;
            }
            // IPv6's any-address takes IPv4 along unless the kernel was told otherwise.
            let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), check.port);
            let v4 = SocketAddr::from(([0, 0, 0, 0], check.port));
            match bind(address).or_else(|_| bind(v4)) {
                Ok(listener) => {
                    let (sender, receiver) = watch::channel(Some(check.clone()));
                    let mut tasks = Tasks::default();
                    tasks.spawn(serve_node_port(listener, receiver));
                    served.insert(check.port, (sender, tasks));
                }
                Err(error) => {
                    tracing::warn!("healthCheckNodePort {} of {} is not served: {error}", check.port, check.service);
                }
            }
        }
        if published.changed().await.is_err() {
            return;
        }
    }
}

async fn serve_node_port(listener: TcpListener, count: Count) {
    let router = Router::new().fallback(get(node_port)).with_state(count);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("a healthCheckNodePort is not answered any more: {error}");
    }
}

/// As kube-proxy answers: 200 if this node has endpoints of the Service.
async fn node_port(State(count): State<Count>) -> (StatusCode, Json<Value>) {
    let Some(check) = count.borrow().clone() else { return (StatusCode::SERVICE_UNAVAILABLE, Json(Value::Null)) };
    let status = if check.local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let service = json!({"namespace": &*check.service.namespace, "name": &*check.service.name});
    let answer = json!({"service": service, "localEndpoints": check.local_endpoints, "serviceProxyHealthy": true});
    (status, Json(answer))
}
