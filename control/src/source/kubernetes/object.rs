//! What the API server sends about objects, down to our types as soon as it is there. Nothing else is kept.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::page::Head;
use crate::parse::fields::{EndpointSlice, Node, Service, ServiceCidr};
use crate::parse::{self, Claim, Document, Fields, Kind, Misfit, Parsed, Refusal};

/// Where a page stands.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMetadata {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) rest: Option<String>,
}

impl PageMetadata {
    pub(super) fn of(head: &Head) -> serde_json::Result<Self> {
        head.metadata.as_ref().map_or_else(|| Ok(Self::default()), |metadata| serde_json::from_slice(metadata))
    }
}

/// One line of a watch.
#[derive(Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) type_: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// The version of the object in a line.
pub(super) fn version(object: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        resource_version: String,
    }
    #[derive(Deserialize)]
    struct Versioned {
        metadata: Metadata,
    }
    let versioned: Versioned = serde_json::from_str(object.get()).ok()?;
    Some(versioned.metadata.resource_version).filter(|version| !version.is_empty())
}

/// Whether an object says nothing else than that it is of `kind`.
fn fits(kind: Kind, text: &str) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        api_version: Option<String>,
        kind: Option<String>,
    }
    serde_json::from_str::<Said>(text).is_ok_and(|said| {
        let Said { api_version, kind: own } = &said;
        Claim { api_version: api_version.as_deref(), kind: own.as_deref() }.fits(kind)
    })
}

/// Why this is no object of `kind`, when it says itself that it is something else.
pub(super) fn stranger(kind: Kind, text: &str) -> Option<String> {
    let is_fit = fits(kind, text);
    match parse::object(kind, &serde_json::from_str(text).ok().filter(|_| !is_fit)?) {
        Document::Skipped(why) => Some(why),
        Document::Taken(_) | Document::Refused(..) => None,
    }
}

/// Why a page is no list of `kind`, when it says itself that it is something else.
pub(super) fn strange_list(kind: Kind, head: &Head) -> Option<String> {
    let text = |member: &Option<Vec<u8>>| match member {
        Some(member) => serde_json::from_slice::<Option<String>>(member),
        None => Ok(None),
    };
    let (Ok(api_version), Ok(list)) = (text(&head.api_version), text(&head.kind)) else {
        return Some("a list whose apiVersion or kind is no text".to_owned());
    };
    // A plain list says of each object what it is.
    if list.as_deref() == Some("List") {
        return None;
    }
    let claim = Claim { api_version: api_version.as_deref(), kind: list.as_deref() };
    let item = claim.kind.map(|list| list.strip_suffix("List").unwrap_or(""));
    let is_list = item != Some("") || claim.kind == Some("");
    (!is_list || !Claim { kind: item, ..claim }.fits(kind))
        .then(|| format!("an answer with {} in place of a list of {} objects", claim.words(), kind.label()))
}

/// The object of this kind in `text`. It is what [`parse::object`] makes of it.
pub fn decode(kind: Kind, text: &RawValue) -> Document {
    decode_event(kind, text).0
}

/// Likewise, with its version, which an event has.
pub(super) fn decode_event(kind: Kind, raw: &RawValue) -> (Document, Option<String>) {
    let text = raw.get();
    let taken = match kind {
        Kind::Service => take::<Service>(text),
        Kind::EndpointSlice => take::<EndpointSlice>(text),
        Kind::Node => take::<Node>(text),
        Kind::ServiceCidr => take::<ServiceCidr>(text),
    };
    match taken {
        Some((parsed, version)) => (Document::Taken(parsed), version.filter(|version| !version.is_empty())),
        None => (explain(kind, text), version(raw)),
    }
}

/// Likewise, of a page.
pub(super) fn decode_bytes(kind: Kind, text: &[u8]) -> Document {
    match serde_json::from_slice::<&RawValue>(text) {
        Ok(object) => decode(kind, object),
        Err(error) => unreadable(&error),
    }
}

/// The short way: one look at the text. `None` where there is more to be said.
fn take<T: Fields>(text: &str) -> Option<(Parsed, Option<String>)> {
    let object: T = serde_json::from_str(text).ok()?;
    if !object.claim().fits(T::KIND) {
        return None;
    }
    Some((object.parse().ok()?, object.version().map(str::to_owned)))
}

/// The long way, which converts what can be converted, and says what is wrong with the rest.
fn explain(kind: Kind, text: &str) -> Document {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => parse::object(kind, &value),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &serde_json::Error) -> Document {
    let misfit = Misfit { path: String::new(), text: error.to_string() };
    Document::Refused(None, Refusal::Misfit(misfit))
}

/// Which object it is, where that could be told.
pub(super) fn key(document: &Document) -> Option<&parse::ObjectKey> {
    match document {
        Document::Taken(Parsed { key, .. }) | Document::Refused(Some(key), _) => Some(key),
        Document::Refused(None, _) | Document::Skipped(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn both_ways(kind: Kind, value: &Value) -> (Document, Document) {
        let text = value.to_string();
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        (decode(kind, raw), parse::object(kind, value))
    }

    #[test]
    fn the_short_way_takes_what_the_long_way_takes() {
        let metadata = json!({"name": "a", "namespace": "n", "resourceVersion": "7", "labels": {"kubernetes.io/service-name": "s"},
            "annotations": {"ringway.io/forwarding": "nat"}, "creationTimestamp": "2026-01-02T03:04:05Z",
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]});
        let service = json!({"metadata": metadata, "spec": {"clusterIP": "172.30.0.1", "clusterIPs": ["172.30.0.1"],
            "ports": [{"name": "p", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080}],
            "type": "NodePort", "sessionAffinity": "ClientIP", "externalTrafficPolicy": "Local"},
            "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1", "ipMode": "VIP"}]}}});
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "ports": [{"name": "p", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true},
            "nodeName": "gw-1", "zone": "a", "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "gw-1"}]},
            "targetRef": {"kind": "Pod", "name": "p-1"}}]});
        let node = json!({"metadata": metadata, "spec": {"podCIDR": "10.0.0.0/24", "podCIDRs": ["10.0.0.0/24"],
            "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.2"}], "images": [{"names": ["x"]}]}});
        let mut deleted = node.clone();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:06Z");
        deleted["spec"]["taints"] = json!(null);
        let cidr = json!({"metadata": metadata, "spec": {"cidrs": ["172.30.0.0/16"]}});
        for (kind, value) in
            [(Kind::Service, service), (Kind::EndpointSlice, slice), (Kind::Node, node), (Kind::ServiceCidr, cidr)]
        {
            let (short, long) = both_ways(kind, &value);
            assert!(matches!(short, Document::Taken(_)), "{short:?}");
            assert_eq!(short, long);
        }
        let (short, long) = both_ways(Kind::Node, &deleted);
        assert!(format!("{short:?}").contains("leaving: true"), "{short:?}");
        assert_eq!(short, long);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for spec in [json!({"ports": [{"port": 70_000}]}), json!({"ports": 1}), json!({"type": "Other"}), json!("x")] {
            let (short, long) =
                both_ways(Kind::Service, &json!({"metadata": {"name": "a", "namespace": "n"}, "spec": spec}));
            assert!(matches!(&short, Document::Refused(Some(key), _) if &*key.name == "a"), "{short:?}");
            assert_eq!(short, long);
        }
    }
}
