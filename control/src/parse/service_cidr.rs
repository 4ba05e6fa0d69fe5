//! networking.k8s.io/v1 ServiceCIDR.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Notes, ObjectKey, address, fields, shown};

/// A ServiceCIDR: ranges that ClusterIPs are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// Its name.
    pub name: Arc<str>,
    /// Its ranges.
    pub cidrs: Vec<IpNet>,
}

pub(super) fn parse(key: &ObjectKey, api: &fields::ServiceCidr, notes: &mut Notes) -> ServiceCidr {
    let mut cidrs = Vec::new();
    for text in api.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten()) {
        match address::range(text) {
            Some(range) => cidrs.push(range),
            None => notes.push(format!("spec.cidrs: {} is not a range; skipped", shown(text))),
        }
    }
    ServiceCidr { name: key.name.clone(), cidrs }
}
