//! `drain --list`: the endpoints that get no new connections because somebody said so.

use std::collections::BTreeSet;

use ringway_shared::endpoint::Endpoint;
use ringway_shared::policy::TrafficPolicy;
use ringway_shared::service::ServicePort;
use ringway_shared::snapshot::Services;
use serde::{Deserialize, Serialize};

use crate::drain::Target;
use crate::drain::keeper::Drain;

/// The answer of `drain` and `undrain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainReport {
    /// Whether all workers know.
    pub in_force: bool,
    /// All that are drained now.
    pub drained: Vec<DrainedReport>,
}

/// What is drained by one word.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainedReport {
    /// `IP:PORT`, or `IP` with all its ports.
    pub endpoint: String,
    /// Whether it outlives the process.
    pub kept: bool,
    /// For how long.
    pub seconds: u64,
    /// The Services that have such an endpoint, as `NAMESPACE/NAME`.
    pub services: Vec<String>,
    /// The ports, as `NAMESPACE/NAME PORT/PROTOCOL`, for which nobody else is ready, so that it gets new connections still.
    pub last: Vec<String>,
}

/// Whose a drained endpoint is.
#[derive(Clone, Default)]
struct Owners {
    services: BTreeSet<String>,
    last: BTreeSet<String>,
}

impl DrainedReport {
    /// All that are drained, by endpoint.
    pub fn all(drained: &[(Target, Drain)], services: &Services) -> Vec<Self> {
        if drained.is_empty() {
            return Vec::new();
        }
        let mut of = vec![Owners::default(); drained.len()];
        for port in services.service_ports.iter().flatten() {
            for endpoint in port.endpoints.iter().filter(|endpoint| endpoint.drained) {
                let meant =
                    |(target, _): &&(Target, Drain)| target.means(endpoint.backend.address, endpoint.backend.port);
                let owners = drained.iter().zip(&mut of).filter(|(one, _)| meant(one)).map(|(_, owners)| owners);
                for owners in owners {
                    owners.services.insert(port.service.to_string());
                    if is_chosen(port, endpoint) {
                        owners.last.insert(format!("{} {}/{}", port.service, port.port, port.protocol));
                    }
                }
            }
        }
        let report = |((target, drain), owners): (&(Target, Drain), Owners)| DrainedReport {
            endpoint: target.to_string(),
            kept: drain.kept,
            seconds: drain.since.elapsed().as_secs(),
            services: owners.services.into_iter().collect(),
            last: owners.last.into_iter().collect(),
        };
        drained.iter().zip(of).map(report).collect()
    }

    /// Which Services, and what is to be known.
    pub fn note(&self) -> String {
        if self.services.is_empty() {
            return "no Service has such an endpoint now".to_owned();
        }
        if self.last.is_empty() {
            return String::new();
        }
        format!("gets new connections still: nobody else is ready for {}", self.last.join(", "))
    }
}

/// Whether new connections may go to it under a policy that the Service has.
fn is_chosen(port: &ServicePort, endpoint: &Endpoint) -> bool {
    let local = [port.internal_policy, port.external_policy].contains(&TrafficPolicy::Local);
    endpoint.excluded_from_cluster.is_none() || (local && endpoint.excluded_from_local.is_none())
}
