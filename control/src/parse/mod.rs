//! API objects to Ringway's own types, or a typed refusal. Pure; no type of a Kubernetes crate passes this line.
//!
//! An object is taken as a whole or refused as a whole. Only addresses and ranges are judged one by one: what does not
//! parse is skipped with a note, and the rest of the object counts, as kube-proxy does it.

use std::fmt;
use std::sync::Arc;

use ringway_shared::Protocol;
use ringway_shared::service::ServiceName;
use serde::Serialize;
use serde_json::Value;

pub mod address;
mod claim;
pub mod endpoint_slice;
pub(crate) mod fields;
pub mod lenient;
pub mod node;
mod notes;
mod quote;
pub mod service;
pub mod service_cidr;
mod stream;
mod weight;

pub(crate) use claim::Claim;
pub use endpoint_slice::{EndpointSlice, SliceEndpoint, SlicePort};
pub(crate) use fields::Fields;
pub use lenient::Misfit;
pub use node::Node;
use notes::Notes;
pub(crate) use quote::shown;
use quote::{brief, cut};
pub use service::{Ignored, Service};
pub use service_cidr::ServiceCidr;
pub use stream::{MOST_MEMORY, Streamed, too_much};

/// The kinds of objects that Ringway reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// v1 Service.
    Service,
    /// discovery.k8s.io/v1 EndpointSlice.
    EndpointSlice,
    /// v1 Node.
    Node,
    /// networking.k8s.io/v1 ServiceCIDR.
    ServiceCidr,
}

impl Kind {
    /// The kind with these names, when it is one that Ringway reads.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let mut all = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr].into_iter();
        all.find(|known| known.api_version() == api_version && known.label() == kind)
    }

    /// The word in Kubernetes.
    pub const fn label(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
            Kind::ServiceCidr => "ServiceCIDR",
        }
    }

    /// The group and version that it is of.
    pub const fn api_version(self) -> &'static str {
        match self {
            Kind::Service | Kind::Node => "v1",
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::ServiceCidr => "networking.k8s.io/v1",
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Kind::Service | Kind::EndpointSlice)
    }
}

/// What tells one object from every other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for kinds without.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of the Service with this name.
    pub fn of_service(name: &ServiceName) -> Self {
        ObjectKey { kind: Kind::Service, namespace: name.namespace.clone(), name: name.name.clone() }
    }

    /// Namespace and name, as a Service or a slice has them.
    pub fn service_name(&self) -> ServiceName {
        ServiceName { namespace: self.namespace.clone(), name: self.name.clone() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.label())?;
        if self.kind.is_namespaced() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// As a person names it: `Service ns1/svc1`.
impl Serialize for ObjectKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object in Ringway's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Arc<Service>),
    /// An EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// A Node.
    Node(Arc<Node>),
    /// A ServiceCIDR.
    ServiceCidr(Arc<ServiceCidr>),
}

/// An object that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Which object.
    pub key: ObjectKey,
    /// Its content.
    pub object: Object,
    /// The parts of it that do not count, and why.
    pub notes: Vec<String>,
}

/// Why an object was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// A value has the wrong type.
    #[error("{0}")]
    Misfit(#[from] Misfit),
    /// A value is none of those allowed.
    #[error("{field} is {value}; {allowed}")]
    Value {
        /// The field.
        field: String,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// There is no name.
    #[error("metadata.name is missing; every object needs a name")]
    NoName,
    /// A list is longer than any that makes sense.
    #[error("{field} has {count} items; {most} are the most")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Its length.
        count: usize,
        /// The most.
        most: usize,
    },
    /// Two ports cannot be told apart.
    #[error("spec.ports[{first}] and spec.ports[{second}] both have {what}; give each port a {differ} of its own")]
    SamePort {
        /// The first of them.
        first: usize,
        /// The second.
        second: usize,
        /// What they share.
        what: String,
        /// What has to differ.
        differ: &'static str,
    },
}

/// One document of a manifest after parsing; the items of a list count as documents of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A good object.
    Taken(Parsed),
    /// An object of a kind that Ringway reads, refused.
    Refused(Option<ObjectKey>, Refusal),
    /// Some other kind of object (or no object at all), said in words.
    Skipped(String),
}

/// The deepest nesting of lists in lists that is read.
const MAX_LIST_DEPTH: usize = 8;

/// Adds the object in `value`, or the objects when it is a list, to `into`.
pub fn document(value: &Value, into: &mut Vec<Document>) {
    collect(value, None, 0, into);
}

fn collect(value: &Value, inherited: Option<(&str, &str)>, depth: usize, into: &mut Vec<Document>) {
    let Some(members) = value.as_object() else {
        into.push(Document::Skipped(format!(
            "{} is not a Kubernetes object; it needs apiVersion and kind",
            brief(value)
        )));
        return;
    };
    let text = |key| members.get(key).and_then(Value::as_str);
    let api_version = text("apiVersion").or(inherited.map(|(api_version, _)| api_version)).unwrap_or("");
    let kind = text("kind").or(inherited.map(|(_, kind)| kind)).unwrap_or("");
    if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), members.get("items")) {
        let Some(items) = items.as_array().map(Vec::as_slice).or(items.is_null().then_some(&[])) else {
            into.push(Document::Skipped(format!("items of {kind} is {}, not a list", brief(items))));
            return;
        };
        if depth == MAX_LIST_DEPTH {
            into.push(Document::Skipped(format!("lists are nested deeper than {MAX_LIST_DEPTH}")));
            return;
        }
        // The items of a `ServiceList` need not repeat what they are; those of a plain `List` do.
        let inherited = (!item_kind.is_empty()).then_some((api_version, item_kind));
        for item in items {
            collect(item, inherited, depth + 1, into);
        }
        return;
    }
    into.push(match Kind::of(api_version, kind) {
        Some(kind) => object(kind, value),
        None if kind.is_empty() || api_version.is_empty() => {
            Document::Skipped("a document without apiVersion and kind is not a Kubernetes object".into())
        }
        None => {
            let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name");
            let [api_version, kind, name] = [api_version, kind, name].map(cut);
            Document::Skipped(format!("{api_version} {kind} {name} is no kind that Ringway reads; skipped"))
        }
    });
}

/// The object of this kind that `value` describes.
pub fn object(kind: Kind, value: &Value) -> Document {
    if let Some(why) = claim::stranger(kind, value) {
        return Document::Skipped(why);
    }
    let parsed = match kind {
        Kind::Service => take::<fields::Service>(value),
        Kind::EndpointSlice => take::<fields::EndpointSlice>(value),
        Kind::Node => take::<fields::Node>(value),
        Kind::ServiceCidr => take::<fields::ServiceCidr>(value),
    };
    match parsed {
        Ok(parsed) => Document::Taken(parsed),
        // Whose last good content stays is still to be known.
        Err(refusal) => {
            let metadata = value.get("metadata").and_then(|value| lenient::from_value::<fields::Metadata>(value).ok());
            let named = value.pointer("/metadata/name").and_then(Value::as_str).map(|name| fields::Metadata {
                name: Some(name.to_owned()),
                namespace: value.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned),
                ..fields::Metadata::default()
            });
            Document::Refused(metadata.or(named).and_then(|metadata| key(kind, &metadata).ok()), refusal)
        }
    }
}

fn take<T: Fields>(value: &Value) -> Result<Parsed, Refusal> {
    lenient::from_value::<T>(value)?.parse()
}

/// The most ports that a Service or a slice may have; an API server takes 20,000 in a slice.
const MOST_PORTS: usize = 20_000;

fn check_count(field: &'static str, count: usize, most: usize) -> Result<(), Refusal> {
    if count > most { Err(Refusal::TooMany { field, count, most }) } else { Ok(()) }
}

/// The key in `metadata`. An object without a namespace is in `default`, as with kubectl.
fn key(kind: Kind, metadata: &fields::Metadata) -> Result<ObjectKey, Refusal> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty()).ok_or(Refusal::NoName)?;
    let namespace = match metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        _ if !kind.is_namespaced() => "",
        Some(namespace) => namespace,
        None => "default",
    };
    for (field, value) in [("metadata.name", name), ("metadata.namespace", namespace)] {
        check_name(|| field.into(), value)?;
    }
    Ok(ObjectKey { kind, namespace: namespace.into(), name: name.into() })
}

/// A name can be told and compared without doubt. API servers demand more of most names.
fn check_name(field: impl FnOnce() -> String, name: &str) -> Result<(), Refusal> {
    let odd = |byte: u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.' | b'_' | b':');
    if name.len() > 253 || name.bytes().any(odd) {
        let allowed = "a name has at most 253 letters, digits, dashes and dots";
        return Err(Refusal::Value { field: field(), value: shown(name), allowed });
    }
    Ok(())
}

/// The name of a Service's or a slice's port. A missing one is empty.
fn port_name(field: impl FnOnce() -> String, name: Option<&str>) -> Result<Arc<str>, Refusal> {
    let name = name.unwrap_or("");
    check_name(field, name)?;
    Ok(name.into())
}

/// A protocol of a Service's or a slice's port. A missing one is TCP.
fn protocol(field: impl FnOnce() -> String, text: Option<&str>) -> Result<Protocol, Refusal> {
    match text.unwrap_or("") {
        "" | "TCP" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(Refusal::Value { field: field(), value: shown(other), allowed: "allowed are TCP, UDP and SCTP" }),
    }
}

/// A port number from 1 to 65535.
fn port_number(field: impl FnOnce() -> String, number: i32) -> Result<u16, Refusal> {
    u16::try_from(number).ok().filter(|number| *number != 0).ok_or_else(|| Refusal::Value {
        field: field(),
        value: number.to_string(),
        allowed: "a port is a number from 1 to 65535",
    })
}
