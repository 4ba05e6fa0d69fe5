//! discovery.k8s.io/v1 EndpointSlice.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::endpoint::EndpointState;
use ringway_shared::service::ServiceName;
use ringway_shared::{Family, Protocol};

use super::fields::{self, Fields};
use super::service::HEADLESS_LABEL;
use super::{MOST_PORTS, Notes, ObjectKey, Refusal, address, check_count, port_name, port_number, protocol, shown};
use crate::plain;

/// The label that names the Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// A port of a slice that has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name, empty when it has none.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The number that the endpoints listen on.
    pub port: u16,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The first of its addresses.
    pub address: IpAddr,
    /// Its conditions, defaults filled in.
    pub state: EndpointState,
    /// The node it runs on.
    pub node: Option<Arc<str>>,
    /// The zone it runs in.
    pub zone: Option<Arc<str>>,
    /// The nodes whose clients it is for.
    pub node_hints: Vec<Arc<str>>,
    /// The zones whose clients it is for.
    pub zone_hints: Vec<Arc<str>>,
}

/// An EndpointSlice, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub name: ServiceName,
    /// The same as one text, which its endpoints share.
    pub label: Arc<str>,
    /// The Service it belongs to; `None` when it belongs to none, or does not count (rules 1 and 2).
    pub service: Option<ServiceName>,
    /// The family of its addresses.
    pub family: Family,
    /// Its ports that have a number.
    pub ports: Vec<SlicePort>,
    /// Its endpoints with a usable address.
    pub endpoints: Vec<SliceEndpoint>,
}

pub(super) fn parse(key: &ObjectKey, api: &fields::EndpointSlice, notes: &mut Notes) -> Result<EndpointSlice, Refusal> {
    let label = |label| api.metadata().labels.as_ref().and_then(|labels| labels.get(label));
    let service = label(SERVICE_NAME_LABEL).filter(|name| !name.is_empty() && label(HEADLESS_LABEL).is_none());
    let (family, has_addresses) = match api.address_type.as_str() {
        "IPv4" => (Family::V4, true),
        "IPv6" => (Family::V6, true),
        "FQDN" => (Family::V4, false),
        other => {
            let allowed = "allowed are IPv4, IPv6 and FQDN";
            return Err(Refusal::Value { field: "addressType".into(), value: shown(other), allowed });
        }
    };
    check_count("ports", api.ports.as_ref().map_or(0, Vec::len), MOST_PORTS)?;
    let mut ports = Vec::new();
    for (index, port) in api.ports.iter().flatten().enumerate() {
        let protocol = protocol(|| format!("ports[{index}].protocol"), port.protocol.as_deref())?;
        let Some(number) = port.port else {
            if service.is_some() {
                notes.push(format!("ports[{index}] is skipped: it has no number"));
            }
            continue;
        };
        if number == 0 {
            notes.push(format!("ports[{index}] is skipped: its number is 0"));
            continue;
        }
        let number = port_number(|| format!("ports[{index}].port"), number)?;
        let name = port_name(|| format!("ports[{index}].name"), port.name.as_deref())?;
        ports.push(SlicePort { name, protocol, port: number });
    }
    let endpoints = if has_addresses {
        api.endpoints
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, api)| endpoint(index, api, family, notes))
            .collect()
    } else {
        Vec::new()
    };
    let service = service.filter(|_| has_addresses);
    let service = service.map(|name| ServiceName { namespace: key.namespace.clone(), name: name.as_str().into() });
    let name = key.service_name();
    Ok(EndpointSlice { label: name.to_string().into(), name, service, family, ports, endpoints })
}

fn endpoint(index: usize, api: &fields::Endpoint, family: Family, notes: &mut Notes) -> Option<SliceEndpoint> {
    let mut skip = |why: String| {
        notes.push(format!("endpoints[{index}] is skipped: {why}"));
        None
    };
    let Some(text) = api.addresses.first() else { return skip("it has no address".into()) };
    let Some(address) = address::address(text) else { return skip(format!("{} is not an IP address", shown(text))) };
    if Family::of(address) != family {
        return skip(format!("{address} is not an {family} address, as addressType says"));
    }
    if let Some(why) = address::nobody_behind(address) {
        return skip(format!("{address} is {why}"));
    }
    let conditions = api.conditions.as_ref();
    // No node or zone has such a name that is not plain.
    let plain = |text: &str| Arc::from(plain::line(text));
    let text = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(plain);
    let hints = api.hints.as_ref();
    Some(SliceEndpoint {
        address,
        state: EndpointState {
            ready: conditions.and_then(|conditions| conditions.ready).unwrap_or(true),
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        },
        node: text(&api.node_name),
        zone: text(&api.zone),
        node_hints: hints.iter().flat_map(|h| h.for_nodes.iter().flatten()).map(|h| h.name.as_str().into()).collect(),
        zone_hints: hints.iter().flat_map(|h| h.for_zones.iter().flatten()).map(|h| h.name.as_str().into()).collect(),
    })
}
