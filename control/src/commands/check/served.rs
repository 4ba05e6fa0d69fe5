//! Service ports as `check` lists them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ringway_shared::snapshot::Services;
use ringway_shared::{Frontend, ServicePortId};
use serde::Serialize;

/// One service port, with everything that leads to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServedPort {
    pub(super) service: String,
    pub(super) port: String,
    pub(super) frontends: Vec<String>,
    pub(super) eligible: usize,
    pub(super) endpoints: usize,
}

/// Every service port with its frontends, by Service.
pub(super) fn served(services: &Services) -> Vec<ServedPort> {
    let mut frontends: BTreeMap<ServicePortId, BTreeSet<_>> = BTreeMap::new();
    for (frontend, target) in services.frontends.iter() {
        let of_port = frontends.entry(target.service_port.id).or_default();
        of_port.insert((target.matched, *frontend));
    }
    let ports = services.service_ports.iter().flatten();
    let mut served: Vec<ServedPort> = ports
        .map(|port| {
            let name = match &*port.port_name {
                "" => String::new(),
                name => format!("{name}:"),
            };
            let of_port = frontends.get(&port.id).into_iter().flatten();
            ServedPort {
                service: port.service.to_string(),
                port: format!("{name}{}/{}", port.port, port.protocol),
                frontends: of_port.map(|(matched, f)| format!("{}={}", matched.label(), socket(f))).collect(),
                eligible: port.cluster.backends().len(),
                endpoints: port.endpoints.len(),
            }
        })
        .collect();
    served.sort_by(|a, b| (&a.service, &a.port, &a.frontends).cmp(&(&b.service, &b.port, &b.frontends)));
    served
}

fn socket(frontend: &Frontend) -> SocketAddr {
    (frontend.address, frontend.port).into()
}
