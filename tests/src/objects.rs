//! Kubernetes objects for tests, as JSON manifests.

use serde_json::{Value, json};

/// A port of a Service and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its name, which joins Service and slice.
    pub name: &'static str,
    /// TCP, UDP or SCTP.
    pub protocol: &'static str,
    /// The Service's port.
    pub port: u16,
    /// The endpoints' port.
    pub target: u16,
    /// The NodePort; 0 for none.
    pub node_port: u16,
}

/// The addresses a Service has, both families in one list each.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// `spec.clusterIPs`.
    pub cluster: Vec<String>,
    /// `spec.externalIPs`.
    pub external: Vec<String>,
    /// `status.loadBalancer.ingress`.
    pub load_balancer: Vec<String>,
}

/// A Service of namespace `default`.
pub fn service(name: &str, addresses: &Addresses, ports: &[Port]) -> Value {
    let kind = if addresses.load_balancer.is_empty() { "NodePort" } else { "LoadBalancer" };
    let kind = if ports.iter().all(|port| port.node_port == 0) { "ClusterIP" } else { kind };
    let port = |port: &Port| {
        let mut value = json!({
            "name": port.name, "protocol": port.protocol, "port": port.port, "targetPort": port.target,
        });
        if port.node_port != 0 {
            value["nodePort"] = port.node_port.into();
        }
        value
    };
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": kind,
            "clusterIP": addresses.cluster.first(), "clusterIPs": addresses.cluster,
            "ipFamilies": addresses.cluster.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect::<Vec<_>>(),
            "ipFamilyPolicy": "PreferDualStack",
            "externalIPs": addresses.external,
            "selector": {"app": name},
            "ports": ports.iter().map(port).collect::<Vec<_>>(),
        },
        "status": {"loadBalancer": {"ingress":
            addresses.load_balancer.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect::<Vec<_>>()}},
    })
}

/// An EndpointSlice of a Service of namespace `default`, one family, all endpoints ready.
pub fn slice(service: &str, family: &str, endpoints: &[String], ports: &[Port]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", family.to_lowercase()), "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "endpoints": endpoints.iter().map(|ip| json!({
            "addresses": [ip],
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })).collect::<Vec<_>>(),
        "ports": ports.iter().map(|port| json!({
            "name": port.name, "protocol": port.protocol, "port": port.target,
        })).collect::<Vec<_>>(),
    })
}

/// Several objects in one manifest.
pub fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
