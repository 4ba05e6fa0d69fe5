//! Objects that are good and serve nobody: what `check` notes about them, since somebody may have meant otherwise.

use std::sync::Arc;

use ringway_shared::service::ServiceName;

use crate::cluster::ClusterState;
use crate::parse::EndpointSlice;

/// One sentence for each kind of them.
pub(super) fn idle(cluster: &ClusterState) -> Vec<String> {
    let ignored =
        cluster.services().filter_map(|service| Some(format!("{} ({})", service.name, service.ignored?.sentence())));
    let served = cluster.services().filter(|service| service.ignored.is_none());
    let alone = served.filter(|service| cluster.slices_of(&service.name).next().is_none());
    let unused = cluster.unused_slices().map(|slice| slice.label.to_string());
    [
        listed("Services that get no packets:", ignored, ""),
        listed(
            "Services without an EndpointSlice:",
            alone.map(|service| service.name.to_string()),
            ": their connections are refused",
        ),
        listed(
            "EndpointSlices that belong to no Service:",
            unused,
            ": the label kubernetes.io/service-name is missing, they are labelled as headless, or their addressType is FQDN",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Slices that name a Service which is not there.
pub(super) fn orphan(service: &ServiceName, slices: &[Arc<EndpointSlice>]) -> String {
    let names: Vec<String> = slices.iter().take(3).map(|slice| slice.label.to_string()).collect();
    let more =
        if slices.len() > names.len() { format!(" and {} more", slices.len() - names.len()) } else { String::new() };
    format!(
        "EndpointSlice {}{more}: the label kubernetes.io/service-name names the Service {service}, which is not there: correct \
         it, or add the Service",
        names.join(", ")
    )
}

fn listed(what: &str, all: impl Iterator<Item = String>, why: &str) -> Option<String> {
    const FEW: usize = 5;
    let all: Vec<String> = all.collect();
    let more = all.len().saturating_sub(FEW);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!all.is_empty()).then(|| format!("{what} {}{more}{why}", all[..all.len().min(FEW)].join(", ")))
}
