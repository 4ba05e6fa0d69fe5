//! The fields of objects that parse asks for, as they stand in JSON. Others may hold anything: nobody reads them, and most of
//! an object as an API server has it are those.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::NodeAddress;
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointHints};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};

use super::{Claim, Kind, Notes, Object, ObjectKey, Parsed, Refusal, endpoint_slice, key, node, service, service_cidr};

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) creation_timestamp: Option<Time>,
    pub(super) deletion_timestamp: Option<Time>,
    #[serde(default)]
    pub(super) resource_version: Version,
}

/// Of an object without any.
static NO_METADATA: Metadata = Metadata {
    name: None,
    namespace: None,
    labels: None,
    annotations: None,
    creation_timestamp: None,
    deletion_timestamp: None,
    resource_version: Version(None),
};

/// Where an object stands among all: only a watch asks, so whatever else is there does not spoil the object.
#[derive(Default)]
pub(crate) struct Version(pub(super) Option<String>);

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVersion)
    }
}

struct AnyVersion;

/// Everything but a text is none.
macro_rules! none {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: de::Error>(self, _: $type) -> Result<Version, E> {
            Ok(Version(None))
        })*
    };
}

impl<'de> Visitor<'de> for AnyVersion {
    type Value = Version;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a resourceVersion")
    }

    none! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64) }

    fn visit_unit<E: de::Error>(self) -> Result<Version, E> {
        Ok(Version(None))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
        Ok(Version(Some(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Version, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Version(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Version, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Version(None))
    }
}

/// v1 Service.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Service {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<ServiceSpec>,
    pub(super) status: Option<ServiceStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) type_: Option<String>,
    #[serde(rename = "clusterIP")]
    pub(super) cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub(super) cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    pub(super) external_ips: Option<Vec<String>>,
    pub(super) external_traffic_policy: Option<String>,
    pub(super) health_check_node_port: Option<i32>,
    pub(super) internal_traffic_policy: Option<String>,
    pub(super) ip_families: Option<Vec<String>>,
    pub(super) load_balancer_source_ranges: Option<Vec<String>>,
    pub(super) ports: Option<Vec<ServicePort>>,
    pub(super) session_affinity: Option<String>,
    pub(super) session_affinity_config: Option<SessionAffinityConfig>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServicePort {
    pub(super) name: Option<String>,
    pub(super) node_port: Option<i32>,
    pub(super) port: i32,
    pub(super) protocol: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct SessionAffinityConfig {
    #[serde(rename = "clientIP")]
    pub(super) client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientIp {
    pub(super) timeout_seconds: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStatus {
    pub(super) load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
pub(super) struct LoadBalancer {
    pub(super) ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ingress {
    pub(super) ip: Option<String>,
    pub(super) ip_mode: Option<String>,
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) metadata: Option<Metadata>,
    pub(super) address_type: String,
    pub(super) endpoints: Option<Vec<Endpoint>>,
    pub(super) ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
pub(super) struct EndpointPort {
    pub(super) name: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) protocol: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(default)]
    pub(super) addresses: Vec<String>,
    pub(super) conditions: Option<EndpointConditions>,
    pub(super) hints: Option<EndpointHints>,
    pub(super) node_name: Option<String>,
    pub(super) zone: Option<String>,
}

/// v1 Node.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<NodeSpec>,
    pub(super) status: Option<NodeStatus>,
}

#[derive(Deserialize)]
pub(super) struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Option<Vec<String>>,
    pub(super) taints: Option<Vec<Taint>>,
}

#[derive(Deserialize)]
pub(super) struct Taint {
    pub(super) key: String,
}

#[derive(Deserialize)]
pub(super) struct NodeStatus {
    pub(super) addresses: Option<Vec<NodeAddress>>,
}

/// networking.k8s.io/v1 ServiceCIDR.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServiceCidr {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) metadata: Option<Metadata>,
    pub(super) spec: Option<ServiceCidrSpec>,
}

#[derive(Deserialize)]
pub(super) struct ServiceCidrSpec {
    pub(super) cidrs: Option<Vec<String>>,
}

/// An object of one kind, as it stands in JSON.
pub(crate) trait Fields: DeserializeOwned {
    /// Its kind.
    const KIND: Kind;

    /// What it says it is: `apiVersion` and `kind`.
    fn claim(&self) -> Claim<'_>;

    /// Its `metadata`.
    fn metadata(&self) -> &Metadata;

    /// Its content, but for the key, and what is to be said of it.
    fn object(&self, key: &ObjectKey, notes: &mut Notes) -> Result<Object, Refusal>;

    /// Its `metadata.resourceVersion`.
    fn version(&self) -> Option<&str> {
        self.metadata().resource_version.0.as_deref()
    }

    /// The object in Ringway's form.
    fn parse(&self) -> Result<Parsed, Refusal> {
        let key = key(Self::KIND, self.metadata())?;
        let mut notes = Notes::default();
        let object = self.object(&key, &mut notes)?;
        Ok(Parsed { key, object, notes: notes.told() })
    }
}

/// The same for each kind.
macro_rules! fields {
    ($($kind:ident: $parse:expr;)*) => {$(
        impl Fields for $kind {
            const KIND: Kind = Kind::$kind;

            fn claim(&self) -> Claim<'_> {
                Claim { api_version: self.api_version.as_deref(), kind: self.kind.as_deref() }
            }

            fn metadata(&self) -> &Metadata {
                self.metadata.as_ref().unwrap_or(&NO_METADATA)
            }

            fn object(&self, key: &ObjectKey, notes: &mut Notes) -> Result<Object, Refusal> {
                $parse(key, self, notes).map(|parsed| Object::$kind(Arc::new(parsed)))
            }
        }
    )*};
}

fields! {
    Service: service::parse;
    EndpointSlice: endpoint_slice::parse;
    Node: |key, api, notes| Ok(node::parse(key, api, notes));
    ServiceCidr: |key, api, notes| Ok(service_cidr::parse(key, api, notes));
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
