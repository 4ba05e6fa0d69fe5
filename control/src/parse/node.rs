//! v1 Node.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::fields::{self, Fields};
use super::{Notes, ObjectKey, address, shown};

/// A Node, as far as a load balancer on it asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its internal addresses, then its external ones; the first of each family is the primary one.
    pub addresses: Vec<IpAddr>,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// It is being deleted, or the cluster autoscaler has marked it for that.
    pub leaving: bool,
}

/// The taint by which the cluster autoscaler announces that it will delete a node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn parse(key: &ObjectKey, api: &fields::Node, notes: &mut Notes) -> Node {
    let all = || api.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let (mut addresses, mut seen) = (Vec::new(), HashSet::new());
    for kind in ["InternalIP", "ExternalIP"] {
        for listed in all().filter(|listed| listed.type_ == kind) {
            match address::address(&listed.address) {
                None => notes.push(format!(
                    "status.addresses: the {kind} {} is not an IP address; skipped",
                    shown(&listed.address)
                )),
                Some(address) => match address::nobody_behind(address) {
                    Some(why) => notes.push(format!("status.addresses: {address} is {why}; skipped")),
                    None if !seen.insert(address) => {}
                    None => addresses.push(address),
                },
            }
        }
    }
    let spec = api.spec.as_ref();
    let mut pod_cidrs = Vec::new();
    let listed = spec.and_then(|spec| spec.pod_cidrs.as_ref()).filter(|listed| !listed.is_empty());
    // The singular field repeats the first of the plural one, and is all that very old objects have.
    let singular = spec.and_then(|spec| spec.pod_cidr.as_ref()).filter(|_| listed.is_none());
    for text in listed.into_iter().flatten().chain(singular).filter(|text| !text.is_empty()) {
        match address::range(text) {
            Some(range) => pod_cidrs.push(range),
            None => notes.push(format!("spec.podCIDRs: {} is not a range; skipped", shown(text))),
        }
    }
    let labels = api.metadata().labels.clone().unwrap_or_default();
    let mut taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let leaving = api.metadata().deletion_timestamp.is_some() || taints.any(|taint| taint.key == TO_BE_DELETED);
    Node { name: key.name.clone(), addresses, pod_cidrs, labels, leaving }
}
