//! The healthCheckNodePorts of Services: they tell load balancers in front whether this node has endpoints. Answers are
//! kube-proxy's, JSON and headers: each family has a port of its own, if the Service has that family, and counts alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::routing::any;
use axum::{Json, Router};
use ringway_shared::Family;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Health, NOSNIFF, Tasks, bind_alone};
use crate::compile::HealthCheck;
use crate::door;
use crate::door::guests::Guests;
use crate::watch::heart;

/// How many endpoints this node has, for load balancers that weigh.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// One port's answer.
#[derive(Clone)]
struct Port {
    family: Family,
    check: watch::Receiver<HealthCheck>,
    health: Arc<Health>,
}

/// Serves the healthCheckNodePorts of Services for as long as they exist; so many at `most`.
pub(crate) async fn serve(health: Arc<Health>, guests: Arc<Guests>, most: usize) {
    let mut published = health.known.published.clone();
    let mut served: BTreeMap<(u16, Family), (watch::Sender<HealthCheck>, Tasks)> = BTreeMap::new();
    let mut refused = BTreeSet::new();
    let heart = heart("healthCheckNodePorts");
    loop {
        let checks = published.borrow_and_update().health_checks.clone();
        let wanted = |(port, family): &(u16, Family)| {
            checks.iter().any(|check| check.port == *port && check.local_endpoints.contains_key(family))
        };
        served.retain(|place, _| wanted(place));
        refused.retain(wanted);
        for (check, family) in checks.iter().flat_map(|check| check.local_endpoints.keys().map(move |f| (check, *f))) {
            let place = (check.port, family);
            if let Some((sender, _)) = served.get(&place) {
                sender.send_if_modified(|known| {
                    let changed = known != check;
                    *known = check.clone();
                    changed
                });
                continue;
            }
            let any = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            let bound = if served.len() < most {
                bind_alone(SocketAddr::new(any, check.port))
            } else {
                Err(io::Error::other(format!("{most} are the most that the limit of open files leaves room for")))
            };
            match bound {
                Ok(listener) => {
                    refused.remove(&place);
                    let (sender, check) = watch::channel(check.clone());
                    let mut tasks = Tasks::default();
                    tasks.spawn(
                        &Handle::current(),
                        "a healthCheckNodePort",
                        serve_port(listener, Port { family, check, health: health.clone() }, guests.clone()),
                    );
                    served.insert(place, (sender, tasks));
                }
                // It is tried again with every change, and said once.
                Err(error) => {
                    if refused.insert(place) {
                        let HealthCheck { port, service, .. } = check;
                        tracing::warn!("healthCheckNodePort {port} of {service} is not served on {any}: {error}");
                    }
                }
            }
        }
        if heart.waiting(published.changed()).await.is_err() {
            return;
        }
    }
}

async fn serve_port(listener: TcpListener, port: Port, guests: Arc<Guests>) {
    let router = Router::new().fallback(any(answer)).with_state(port);
    door::serve("a healthCheckNodePort", listener, router, guests).await;
}

/// 200 if this node has endpoints of the Service and what is in force is current; whatever path is asked for.
async fn answer(State(port): State<Port>) -> impl IntoResponse {
    let HealthCheck { service, local_endpoints, .. } = port.check.borrow().clone();
    let local_endpoints = local_endpoints.get(&port.family).copied().unwrap_or(0);
    let healthy = port.health.reasons().is_empty();
    let status = if healthy && local_endpoints > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let name = json!({"namespace": &*service.namespace, "name": &*service.name});
    let answer = json!({"service": name, "localEndpoints": local_endpoints, "serviceProxyHealthy": healthy});
    (status, [NOSNIFF, (WEIGHT, HeaderValue::from(local_endpoints))], Json(answer))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use ringway_shared::service::ServiceName;
    use serde_json::Value;

    use super::super::{Known, tests::up};
    use super::*;
    use crate::cluster::ClusterState;
    use crate::publish::Published;
    use crate::source::health::SourceHealth;
    use crate::watch::Hearts;

    /// Status, weight and body.
    async fn ask(local: usize, waiting: Duration) -> (u16, String, Value) {
        let service = ServiceName { namespace: "shop".into(), name: "web".into() };
        let local_endpoints = BTreeMap::from([(Family::V4, 7), (Family::V6, local)]);
        let (_check, check) = watch::channel(HealthCheck { port: 31_000, service, local_endpoints });
        let (_published, published) = watch::channel(Arc::new(Published { ready: true, ..Published::default() }));
        let (_cluster, cluster) = watch::channel(Arc::new(ClusterState::default()));
        let (_interfaces, interfaces) = watch::channel(Arc::from([up()]));
        let known = Known { published, cluster, interfaces, hearts: Hearts::default() };
        let health = Health::new(known, SourceHealth::of_files(), "gw-1");
        health.record().pending = Instant::now().checked_sub(waiting);
        let response = answer(State(Port { family: Family::V6, check, health })).await.into_response();
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let weight = response.headers()["X-Load-Balancing-Endpoint-Weight"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, weight, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_node_with_endpoints_is_healthy_while_it_is_current() {
        let name = json!({"namespace": "shop", "name": "web"});
        for (local, waiting, status, healthy) in [(2, 0, 200, true), (0, 0, 503, true), (2, 60, 503, false)] {
            let answer = json!({"service": name, "localEndpoints": local, "serviceProxyHealthy": healthy});
            assert_eq!(ask(local, Duration::from_secs(waiting)).await, (status, local.to_string(), answer));
        }
    }
}
