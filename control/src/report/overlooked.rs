//! For a packet that no Service got: the Service that its sender may have had in mind, and why it does not count.

use std::net::IpAddr;

use ringway_dataplane::trace::{Asked, Question, Trace};
use ringway_shared::Family;
use ringway_shared::snapshot::Services;

use crate::cluster::ClusterState;
use crate::parse::{Kind, ObjectKey, Service};
use crate::problem::Severity;

/// Adds a step to an explanation in which no Service has the destination, right after the one that says so.
pub fn tell(trace: &mut Trace, question: &Question, cluster: &ClusterState, services: &Services) {
    if trace.service.is_some() || question.kind != Asked::Connection {
        return;
    }
    let is_vip = services.vips.contains_key(&question.tuple.destination_address());
    let mut listed = cluster.services().filter(|_| !is_vip);
    let told = listed.find_map(|service| overlooked(service, question, services)).or_else(|| refused(cluster));
    let at = trace.steps.len().min(1);
    told.into_iter().for_each(|step| trace.steps.insert(at, step));
}

/// Services whose newest content was refused: nobody knows what they list.
fn refused(cluster: &ClusterState) -> Option<String> {
    const MOST: usize = 3;
    let keys = cluster.problems().filter(|problem| problem.severity == Severity::Refused);
    let keys: Vec<&ObjectKey> =
        keys.filter_map(|problem| problem.object.as_ref()).filter(|key| key.kind == Kind::Service).collect();
    let names: Vec<String> = keys.iter().take(MOST).map(|key| key.service_name().to_string()).collect();
    let more = keys.len().saturating_sub(MOST);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = names.join(", ");
    (!keys.is_empty()).then(|| {
        format!(
            "What {names}{more} may list now does not count, since it is refused; ringway status or check says why."
        )
    })
}

fn overlooked(service: &Service, question: &Question, services: &Services) -> Option<String> {
    let (tuple, name) = (&question.tuple, &service.name);
    let destination = tuple.destination_address();
    let has = |list: &[IpAddr]| list.contains(&destination);
    let family = Family::of(destination);
    if has(&service.cluster_ips) || has(&service.external_ips) || has(&service.load_balancer_ips) {
        return match service.ignored {
            Some(why) => {
                Some(format!("Service {name} lists {destination}, but it is ignored: {} (rule 1).", why.sentence()))
            }
            None if service.cluster_ip(family).is_none() => Some(format!(
                "Service {name} lists {destination}, but it has no {family} ClusterIP, so it has no part in {family} (rule 3)."
            )),
            // Its endpoints do not suit its forwarding, say; problems say so.
            None => Some(format!("Service {name} lists {destination}, but it is refused; ringway check says why.")),
        };
    }
    if has(&service.proxied_ips) {
        let why = "its ipMode is Proxy, so whoever owns it forwards to the Service by itself";
        return Some(format!("Service {name} lists {destination}, but {why} (rule 5)."));
    }
    let (protocol, number) = (tuple.protocol(), tuple.destination_port());
    let mut ports = service.ports.iter();
    let is_node_port = services.node.is_own(destination)
        && service.ignored.is_none()
        && service.cluster_ip(family).is_some()
        && ports.any(|port| port.protocol == protocol && port.node_port == Some(number));
    is_node_port.then(|| {
        format!(
            "{protocol} {number} is a NodePort of Service {name}, but it is not served on {destination}: nodePortAddresses \
             does not name it, or the number is a healthCheckNodePort (rule 9)."
        )
    })
}
