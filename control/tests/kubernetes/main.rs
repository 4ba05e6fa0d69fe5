//! Objects from the Kubernetes API, against an API server that fails in every way one can.

mod connect;
mod failures;
mod follow;
mod hostile;
mod server;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway_control::cluster::ClusterState;
use ringway_control::source::Objects;
use ringway_control::source::kubernetes::{Connection, Limits, Patience, watch};
use serde_json::{Value, json};
use server::{CIDRS, NODES, SERVICES, SLICES, Server};

/// How long a test waits for what must come.
const LIMIT: Duration = Duration::from_secs(30);

/// Impatient, and with small pages.
const PATIENCE: Patience = Patience {
    list: Duration::from_secs(20),
    answer: Duration::from_millis(1_500),
    quiet: Duration::from_secs(20),
    first_pause: Duration::from_millis(5),
    longest_pause: Duration::from_millis(50),
    longest_pause_unserved: Duration::from_millis(100),
    page: 2,
};

fn service(name: &str, last: u8) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns1", "managedFields": [{"manager": "kubectl"}]},
        "spec": {"type": "ClusterIP", "clusterIP": format!("172.30.0.{last}"), "clusterIPs": [format!("172.30.0.{last}")],
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]},
        "status": {"loadBalancer": {}},
    })
}

fn slice(service: &str, endpoints: &[&str]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "gw-1"}))
        .collect();
    json!({
        "metadata": {"name": format!("{service}-x"), "namespace": "ns1", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

fn node(name: &str, zone: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {"podCIDRs": ["10.0.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]},
    })
}

/// Five Services with a slice each, two Nodes, a ServiceCIDR.
async fn server() -> Server {
    let server = Server::start().await;
    for number in 1..=5 {
        let name = format!("s{number}");
        server.put(SERVICES, service(&name, number));
        server.put(SLICES, slice(&name, &[&format!("10.0.0.{number}")]));
    }
    server.put(NODES, node("gw-1", "a"));
    server.put(NODES, node("other", "b"));
    server.put(CIDRS, json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["172.30.0.0/16"]}}));
    server
}

fn kubeconfig(folder: &Path, server: &str) -> PathBuf {
    let file = folder.join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\ncontexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    file
}

async fn follow_with(address: std::net::SocketAddr, patience: Patience) -> Objects {
    follow_within(address, patience, Limits::DEFAULT).await
}

async fn follow_within(address: std::net::SocketAddr, patience: Patience, limits: Limits) -> Objects {
    let folder = tempfile::tempdir().unwrap();
    let file = kubeconfig(folder.path(), &format!("http://{address}"));
    watch(Connection::open(Some(&file), None).await.unwrap(), "gw-1", patience, limits).unwrap()
}

async fn follow(server: &Server) -> Objects {
    follow_with(server.address, PATIENCE).await
}

/// Waits for a state that is as it must be.
async fn wait(objects: &Objects, what: &str, is: impl Fn(&ClusterState) -> bool) -> Arc<ClusterState> {
    let mut cluster = objects.cluster.clone();
    let found = tokio::time::timeout(LIMIT, cluster.wait_for(|cluster| is(cluster))).await;
    match found {
        Ok(found) => found.unwrap().clone(),
        Err(_) => panic!("{what}: not within {LIMIT:?}; {:?}", objects.health.report()),
    }
}

/// Waits for what can only be looked at.
async fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

fn names(cluster: &ClusterState) -> Vec<String> {
    cluster.services().map(|service| service.name.name.to_string()).collect()
}

fn problems(cluster: &ClusterState) -> String {
    cluster.problems().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")
}

type Seen = Arc<Mutex<Vec<(usize, usize)>>>;

/// Notes the number of Services and slices in every state that is ever published.
fn witness(objects: &Objects) -> (Seen, impl Future<Output = ()> + use<>) {
    let seen = Seen::default();
    let (noted, mut cluster) = (seen.clone(), objects.cluster.clone());
    let notes = async move {
        while cluster.changed().await.is_ok() {
            let cluster = cluster.borrow_and_update().clone();
            let slices = cluster.services().map(|service| cluster.slices_of(&service.name).count()).sum();
            noted.lock().unwrap().push((cluster.services().count(), slices));
        }
    };
    (seen, notes)
}
