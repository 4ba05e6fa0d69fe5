//! The fields of objects that parse asks for. Others may hold anything: nobody reads them, and most of an object as an API
//! server has it are those.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            labels: metadata.labels,
            annotations: metadata.annotations,
            creation_timestamp: metadata.creation_timestamp,
            deletion_timestamp: metadata.deletion_timestamp,
            ..ObjectMeta::default()
        }
    }
}

fn metadata(metadata: Option<Metadata>) -> ObjectMeta {
    metadata.unwrap_or_default().into()
}

/// v1 Service.
#[derive(Deserialize)]
pub struct Service {
    metadata: Option<Metadata>,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type")]
    type_: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    external_traffic_policy: Option<String>,
    health_check_node_port: Option<i32>,
    internal_traffic_policy: Option<String>,
    ip_families: Option<Vec<String>>,
    load_balancer_source_ranges: Option<Vec<String>>,
    ports: Option<Vec<ServicePort>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<SessionAffinityConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServicePort {
    name: Option<String>,
    node_port: Option<i32>,
    port: i32,
    protocol: Option<String>,
}

#[derive(Deserialize)]
struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

impl From<Service> for v1::Service {
    fn from(service: Service) -> Self {
        v1::Service {
            metadata: metadata(service.metadata),
            spec: service.spec.map(Into::into),
            status: service.status.map(Into::into),
        }
    }
}

impl From<ServiceSpec> for v1::ServiceSpec {
    fn from(spec: ServiceSpec) -> Self {
        let port = |port: ServicePort| {
            let ServicePort { name, node_port, port, protocol } = port;
            v1::ServicePort { name, node_port, port, protocol, ..Default::default() }
        };
        let client_ip = |client_ip: ClientIp| v1::ClientIPConfig { timeout_seconds: client_ip.timeout_seconds };
        v1::ServiceSpec {
            type_: spec.type_,
            cluster_ip: spec.cluster_ip,
            cluster_ips: spec.cluster_ips,
            external_ips: spec.external_ips,
            external_traffic_policy: spec.external_traffic_policy,
            health_check_node_port: spec.health_check_node_port,
            internal_traffic_policy: spec.internal_traffic_policy,
            ip_families: spec.ip_families,
            load_balancer_source_ranges: spec.load_balancer_source_ranges,
            ports: spec.ports.map(|ports| ports.into_iter().map(port).collect()),
            session_affinity: spec.session_affinity,
            session_affinity_config: spec
                .session_affinity_config
                .map(|config| v1::SessionAffinityConfig { client_ip: config.client_ip.map(client_ip) }),
            ..Default::default()
        }
    }
}

impl From<ServiceStatus> for v1::ServiceStatus {
    fn from(status: ServiceStatus) -> Self {
        let ingress = |ingress: Ingress| v1::LoadBalancerIngress {
            ip: ingress.ip,
            ip_mode: ingress.ip_mode,
            ..Default::default()
        };
        let load_balancer = status.load_balancer.map(|load_balancer| v1::LoadBalancerStatus {
            ingress: load_balancer.ingress.map(|all| all.into_iter().map(ingress).collect()),
        });
        v1::ServiceStatus { load_balancer, ..Default::default() }
    }
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    metadata: Option<Metadata>,
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
struct EndpointPort {
    name: Option<String>,
    port: Option<i32>,
    protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    conditions: Option<discovery::EndpointConditions>,
    hints: Option<discovery::EndpointHints>,
    node_name: Option<String>,
    zone: Option<String>,
}

impl From<EndpointSlice> for discovery::EndpointSlice {
    fn from(slice: EndpointSlice) -> Self {
        let endpoint = |endpoint: Endpoint| {
            let Endpoint { addresses, conditions, hints, node_name, zone } = endpoint;
            discovery::Endpoint { addresses, conditions, hints, node_name, zone, ..Default::default() }
        };
        let port = |port: EndpointPort| {
            let EndpointPort { name, port, protocol } = port;
            discovery::EndpointPort { name, port, protocol, ..Default::default() }
        };
        discovery::EndpointSlice {
            metadata: metadata(slice.metadata),
            address_type: slice.address_type,
            endpoints: slice.endpoints.into_iter().flatten().map(endpoint).collect(),
            ports: slice.ports.map(|ports| ports.into_iter().map(port).collect()),
        }
    }
}

/// v1 Node.
#[derive(Deserialize)]
pub struct Node {
    metadata: Option<Metadata>,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Deserialize)]
struct Taint {
    key: String,
}

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<v1::NodeAddress>>,
}

impl From<Node> for v1::Node {
    fn from(Node { metadata: of, spec, status }: Node) -> Self {
        let taint = |taint: Taint| v1::Taint { key: taint.key, ..Default::default() };
        let spec = spec.map(|NodeSpec { pod_cidr, pod_cidrs, taints }| {
            let taints = taints.map(|taints| taints.into_iter().map(taint).collect());
            v1::NodeSpec { pod_cidr, pod_cidrs, taints, ..Default::default() }
        });
        let status = status.map(|status| v1::NodeStatus { addresses: status.addresses, ..Default::default() });
        v1::Node { metadata: metadata(of), spec, status }
    }
}

/// networking.k8s.io/v1 ServiceCIDR.
#[derive(Deserialize)]
pub struct ServiceCidr {
    metadata: Option<Metadata>,
    spec: Option<ServiceCidrSpec>,
}

#[derive(Deserialize)]
struct ServiceCidrSpec {
    cidrs: Option<Vec<String>>,
}

impl From<ServiceCidr> for networking::ServiceCIDR {
    fn from(ServiceCidr { metadata: of, spec }: ServiceCidr) -> Self {
        let spec = spec.map(|spec| networking::ServiceCIDRSpec { cidrs: spec.cidrs });
        networking::ServiceCIDR { metadata: metadata(of), spec, status: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::parse::{Document, Kind, object};

    fn taken(kind: Kind, value: &Value) -> Document {
        let document = object(kind, value);
        assert!(matches!(document, Document::Taken(_)), "{document:?}");
        document
    }

    #[test]
    fn fields_that_nobody_reads_may_hold_anything() {
        let mut metadata = json!({"name": "a", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}});
        let service = json!({"spec": {"clusterIP": "172.30.0.1", "ports": [{"name": "p", "port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}});
        let slice = json!({"addressType": "IPv4", "ports": [{"name": "p", "port": 8080}],
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "gw-1"}]});
        let node = json!({"spec": {"podCIDRs": ["10.0.0.0/24"], "taints": [{"key": "x"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}});
        let cidr = json!({"spec": {"cidrs": ["172.30.0.0/16"]}});
        let kinds =
            [(Kind::Service, service), (Kind::EndpointSlice, slice), (Kind::Node, node), (Kind::ServiceCidr, cidr)];
        let plain = kinds.each_ref().map(|(kind, value)| {
            let mut value = value.clone();
            value["metadata"] = metadata.clone();
            taken(*kind, &value)
        });
        metadata["managedFields"] = json!("none");
        metadata["ownerReferences"] = json!([{"kind": 1}]);
        for ((kind, mut value), plain) in kinds.into_iter().zip(plain) {
            value["metadata"] = metadata.clone();
            value["spec"]["selector"] = json!([1]);
            value["spec"]["publishNotReadyAddresses"] = json!("perhaps");
            value["status"]["conditions"] = json!([{"type": "Ready"}]);
            value["status"]["images"] = json!({});
            if kind == Kind::Service {
                value["spec"]["ports"][0]["targetPort"] = json!([]);
                value["status"]["loadBalancer"]["ingress"][0]["ports"] = json!([{}]);
            }
            if kind == Kind::EndpointSlice {
                value["ports"][0]["appProtocol"] = json!({});
                value["endpoints"][0]["targetRef"] = json!(5);
                value["endpoints"][0]["deprecatedTopology"] = json!(["a"]);
            }
            assert_eq!(taken(kind, &value), plain);
        }
    }
}
