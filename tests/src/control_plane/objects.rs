//! Objects as a user and a kubelet write them.

use serde_json::{Value, json};

/// How a Pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It takes connections.
    Ready,
    /// It runs, and takes none.
    NotReady,
}

/// A Pod: one container with the ports `http` (TCP) and `echo` (UDP), and one address of each family.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its label `app`.
    pub app: String,
    /// `spec.nodeName`.
    pub node: String,
    /// `status.podIPs`.
    pub addresses: Vec<String>,
    /// The number of the port named `http`.
    pub http: u16,
    /// The number of the port named `echo`.
    pub echo: u16,
}

/// The Pod as its owner creates it, with the status that its kubelet reports.
pub fn pod_objects(pod: &Pod, state: EndpointState) -> Value {
    let ready = if state == EndpointState::Ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": pod.name, "namespace": "default", "labels": {"app": pod.app}},
        "spec": {"nodeName": pod.node, "containers": [{"name": "main", "image": "none", "ports": [
            {"name": "http", "containerPort": pod.http, "protocol": "TCP"},
            {"name": "echo", "containerPort": pod.echo, "protocol": "UDP"},
        ]}]},
        "status": {
            "phase": "Running",
            "podIP": pod.addresses.first(),
            "podIPs": pod.addresses.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
            "conditions": [{"type": "Ready", "status": ready}],
        },
    })
}

/// A Node with its zone, pod CIDRs and internal addresses. Controllers and kube-proxy want it to exist.
pub fn node(name: &str, zone: &str, pod_cidrs: &[&str], addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}},
        "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
        "status": {"addresses":
            addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect::<Vec<_>>()},
    })
}
