//! The frontends of all Services, put together in the order of rule 6, and kept: after a change only the addresses and
//! NodePorts that it touches are put together anew.
//!
//! What a Service claims depends on that Service alone. Who gets an address (all of its ports) depends on the Services
//! that claim this address, and who gets a NodePort on those that claim it and on what VIPs have its number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use ringway_shared::service::{ServiceName, ServicePort};
use ringway_shared::snapshot::{Services, Target, Vip};
use ringway_shared::{Family, Frontend, Matched, Protocol};

use super::claims::{Claim, Claimants, note};
use super::remembered::{Remembered, RememberedServices};
use super::{HealthCheck, NodeFacts};
use crate::parse::{ObjectKey, Service};
use crate::problem::{Problem, Severity};
use crate::watch;

/// The rank of a Service among those that want the same: the oldest gets it; one without a date counts as the youngest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    undated: bool,
    created: Option<i128>,
    name: ServiceName,
}

impl Rank {
    fn of(service: &Service) -> Self {
        Rank { undated: service.created.is_none(), created: service.created, name: service.name.clone() }
    }
}

/// Where a claim stands among all: addresses by their kind, then NodePorts; within a kind by Service, and within that in
/// the order of its lists. The group comes last so that no two groups share a place while lists change.
type Place = (usize, Rank, usize, usize, Group);

/// The kinds of VIPs, in their order.
const VIPS: [Matched; 3] = [Matched::ClusterIp, Matched::ExternalIp, Matched::LoadBalancerIp];

/// The place of the last one.
const LOAD_BALANCER: usize = 2;

/// What is put together as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Group {
    Address(IpAddr),
    NodePort(Protocol, u16),
}

/// What is put together, and who wants what.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pub(super) services: Services,
    claimants: HashMap<Group, Claimants>,
    // Rule 9: the Services that have a healthCheckNodePort.
    health_ports: HashMap<u16, Claimants>,
    touched: HashSet<Group>,
    of_services: BTreeMap<ServiceName, Vec<Problem>>,
    of_groups: HashMap<Group, Vec<Place>>,
    of_claims: BTreeMap<Place, Problem>,
    checks: BTreeMap<Rank, HealthCheck>,
    problems_changed: bool,
    checks_changed: bool,
    problems: Arc<[Problem]>,
    health_checks: Arc<[HealthCheck]>,
}

impl Assembly {
    /// Notes what became of one Service. [`Assembly::settle`] must follow.
    pub(super) fn replace(&mut self, before: Option<&Remembered>, now: Option<&Remembered>, facts: &NodeFacts) {
        if let Some(before) = before {
            self.claim(before, false);
            for port in &before.ports {
                self.services.service_ports[port.port.id.0 as usize] = None;
            }
        }
        if let Some(now) = now {
            self.claim(now, true);
            for port in &now.ports {
                let place = port.port.id.0 as usize;
                if place >= self.services.service_ports.len() {
                    self.services.service_ports.resize(place + 1, None);
                }
                self.services.service_ports[place] = Some(port.port.clone());
            }
        }
        let Some(service) = now.or(before).map(|compiled| &compiled.service) else { return };
        let problems = now.into_iter().flat_map(|now| now.problem.iter().chain(&now.overlooked));
        let problems: Vec<Problem> = problems.cloned().collect();
        if self.of_services.get(&service.name).map_or(&[][..], |told| told) != problems {
            self.problems_changed = true;
            match problems.is_empty() {
                false => self.of_services.insert(service.name.clone(), problems),
                true => self.of_services.remove(&service.name),
            };
        }
        let [before, now] = [before, now].map(|compiled| compiled.and_then(|compiled| health_check(compiled, facts)));
        if before != now {
            self.checks_changed = true;
            before.map(|(rank, _)| self.checks.remove(&rank));
            now.map(|(rank, check)| self.checks.insert(rank, check));
        }
    }

    /// Enters, or strikes, what a Service wants.
    fn claim(&mut self, compiled: &Remembered, enter: bool) {
        let service = &compiled.service;
        let addresses = vips(compiled).map(|(kind, place, address)| (Group::Address(address), kind, place));
        let node_ports = compiled.ports.iter().enumerate().filter_map(|(place, port)| {
            Some((Group::NodePort(port.port.protocol, port.node_port?), VIPS.len(), place))
        });
        for (group, kind, place) in addresses.chain(node_ports) {
            self.touched.insert(group);
            let claim = Claim { service: service.name.clone(), kind, place };
            note(&mut self.claimants, group, claim, enter);
        }
        if let Some(port) = service.health_check_node_port.filter(|_| service.ignored.is_none()) {
            self.touched.insert(Group::NodePort(Protocol::Tcp, port));
            let claim = Claim { service: service.name.clone(), kind: VIPS.len(), place: 0 };
            note(&mut self.health_ports, port, claim, enter);
        }
    }

    /// Notes that these addresses mean something else now. [`Assembly::settle`] must follow.
    pub(super) fn touch(&mut self, is_meant: impl Fn(IpAddr) -> bool) {
        let meant = |group: &&Group| matches!(group, Group::Address(address) if is_meant(*address));
        self.touched.extend(self.claimants.keys().filter(meant).copied());
    }

    /// Puts together what was touched.
    pub(super) fn settle(&mut self, compiled: &RememberedServices, facts: &NodeFacts) {
        let touched = std::mem::take(&mut self.touched);
        let mut node_ports = BTreeSet::new();
        let mut claims = Claims::default();
        for group in touched {
            watch::beat();
            match group {
                Group::Address(address) => self.settle_address(address, compiled, facts, &mut claims, &mut node_ports),
                Group::NodePort(protocol, number) => {
                    node_ports.insert((protocol, number));
                }
            }
        }
        // VIPs come first.
        for (protocol, number) in node_ports {
            watch::beat();
            self.settle_node_port(protocol, number, compiled, facts);
        }
    }

    /// `claims` is for reuse. `node_ports`: those that this may change as well.
    fn settle_address(
        &mut self,
        address: IpAddr,
        compiled: &RememberedServices,
        facts: &NodeFacts,
        claims: &mut Claims,
        node_ports: &mut BTreeSet<(Protocol, u16)>,
    ) {
        let group = Group::Address(address);
        let claimants = self.claimants_of(group, compiled);
        claims.clear();
        let mut vip = Vip::default();
        for (claim, service) in &claimants {
            // The source ranges guard every packet to a load-balancer address, also when the address is listed among the
            // external IPs.
            let is_ranged = VIPS.get(claim.kind) == Some(&Matched::ExternalIp)
                && self.claimants.get(&group).is_some_and(|all| all.has(&claim.service, LOAD_BALANCER));
            claims.add_vip(address, claim, is_ranged, service, &mut vip);
        }
        // Rule 7: on a ClusterIP every port is ours.
        vip.host_owned = facts.owns(address) && !vip.cluster_ip;
        let frontend = |port: &ServicePort| Frontend { address, protocol: port.protocol, port: port.port };
        let before = self.services.vips.get(&address).map_or(&[][..], |vip| &vip.targets);
        let gone: Vec<Frontend> = before
            .iter()
            .map(|target| frontend(&target.service_port))
            .filter(|frontend| !claims.taken.contains_key(&(frontend.protocol, frontend.port)))
            .collect();
        if facts.node_port_addresses.contains(&address) {
            let touched = gone.iter().copied().chain(vip.targets.iter().map(|target| frontend(&target.service_port)));
            node_ports.extend(touched.map(|frontend| (frontend.protocol, frontend.port)));
        }
        for frontend in gone {
            self.set_frontend(frontend, None);
        }
        for target in &vip.targets {
            self.set_frontend(frontend(&target.service_port), Some(target.clone()));
        }
        if claimants.is_empty() {
            self.services.vips.remove(&address);
        } else {
            self.services.vips.insert(address, vip);
        }
        self.set_problems(group, std::mem::take(&mut claims.problems));
    }

    fn settle_node_port(&mut self, protocol: Protocol, number: u16, compiled: &RememberedServices, facts: &NodeFacts) {
        let group = Group::NodePort(protocol, number);
        let health_check = match protocol {
            Protocol::Tcp => self.health_ports.get(&number).and_then(|claimants| youngest(claimants, compiled)),
            Protocol::Udp | Protocol::Sctp => None,
        };
        let mut problems = Vec::new();
        // A VIP that is one of these addresses has its ports already.
        let mut taken: Vec<(Frontend, Option<Target>)> = Vec::new();
        for address in facts.node_port_addresses.iter().copied() {
            let frontend = Frontend { address, protocol, port: number };
            let of_vip = self.services.frontends.get(&frontend).filter(|target| target.matched != Matched::NodePort);
            taken.push((frontend, of_vip.cloned()));
        }
        for (claim, service) in self.claimants_of(group, compiled) {
            let Some(port) = service.ports.get(claim.place).map(|port| &port.port) else { continue };
            let place = |second| (VIPS.len(), Rank::of(&service.service), claim.place, second, group);
            if let Some(other) = health_check {
                let text = format!("the nodePort {number} is not served: it is the healthCheckNodePort of {other}");
                problems.push((place(0), problem(&port.service, text)));
                continue;
            }
            let own = |(frontend, _): &&mut (Frontend, _)| Family::of(frontend.address) == port.family;
            for (second, (frontend, target)) in taken.iter_mut().filter(own).enumerate() {
                match target {
                    Some(first) => {
                        problems.extend(conflict(frontend, first, port).map(|problem| (place(second), problem)));
                    }
                    None => *target = Some(Target { matched: Matched::NodePort, service_port: port.clone() }),
                }
            }
        }
        for (frontend, target) in taken {
            self.set_frontend(frontend, target);
        }
        self.set_problems(group, problems);
    }

    /// What Services want of `group`, the first to get it first.
    fn claimants_of<'c>(&self, group: Group, compiled: &'c RememberedServices) -> Vec<(Claim, &'c Remembered)> {
        let all = self.claimants.get(&group).into_iter().flat_map(Claimants::iter);
        let mut claims: Vec<(Claim, &Remembered)> =
            all.filter_map(|claim| Some((claim.clone(), compiled.get(&claim.service)?))).collect();
        if claims.len() > 1 {
            claims.sort_by_cached_key(|(claim, compiled)| (claim.kind, Rank::of(&compiled.service), claim.place));
        }
        claims
    }

    fn set_frontend(&mut self, frontend: Frontend, target: Option<Target>) {
        if let (Some(old), Some(target)) = (self.services.frontends.get(&frontend), &target)
            && old.matched == target.matched
            && Arc::ptr_eq(&old.service_port, &target.service_port)
        {
            return;
        }
        // Flows that came here have to be looked at again, also when their Service is as it was and the frontend another's.
        if let Some(former) = self.services.set_frontend(frontend, target) {
            let (place, generation) = (former.service_port.id.0 as usize, self.services.generation);
            let changed = Arc::make_mut(&mut self.services.changed);
            if place >= changed.len() {
                changed.resize(place + 1, generation);
            }
            changed[place] = generation;
        }
    }

    fn set_problems(&mut self, group: Group, problems: Vec<(Place, Problem)>) {
        let before = self.of_groups.get(&group).map_or(&[][..], |places| places);
        let same = before.len() == problems.len()
            && problems.iter().all(|(place, problem)| self.of_claims.get(place) == Some(problem));
        if same {
            return;
        }
        self.problems_changed = true;
        for place in self.of_groups.remove(&group).unwrap_or_default() {
            self.of_claims.remove(&place);
        }
        if !problems.is_empty() {
            self.of_groups.insert(group, problems.iter().map(|(place, _)| place.clone()).collect());
            self.of_claims.extend(problems);
        }
    }

    /// What did not count, Service by Service, after what is wrong with the node.
    pub(super) fn problems(&mut self, node: &[Problem], node_changed: bool) -> Arc<[Problem]> {
        if self.problems_changed || node_changed {
            let services = self.of_services.values().flatten().chain(self.of_claims.values());
            self.problems = node.iter().chain(services).cloned().collect();
            self.problems_changed = false;
        }
        self.problems.clone()
    }

    /// The healthCheckNodePorts, by the Services' age.
    pub(super) fn health_checks(&mut self) -> Arc<[HealthCheck]> {
        if std::mem::take(&mut self.checks_changed) {
            self.health_checks = self.checks.values().cloned().collect();
        }
        self.health_checks.clone()
    }
}

/// What is taken of one address.
#[derive(Default)]
struct Claims {
    taken: HashMap<(Protocol, u16), Target>,
    problems: Vec<(Place, Problem)>,
}

impl Claims {
    fn clear(&mut self) {
        self.taken.clear();
        self.problems.clear();
    }

    /// Gives a Service the ports of `address` that it claims, and that nobody has yet.
    fn add_vip(&mut self, address: IpAddr, claim: &Claim, is_ranged: bool, compiled: &Remembered, vip: &mut Vip) {
        let (family, Claim { kind, place: first, .. }) = (Family::of(address), claim);
        let ports = || compiled.ports.iter().map(|compiled| &compiled.port).filter(|port| port.family == family);
        let guarded = is_ranged && ports().any(|port| port.source_ranges.is_some());
        let matched = if guarded { Matched::LoadBalancerIp } else { VIPS[*kind] };
        vip.cluster_ip |= matched == Matched::ClusterIp;
        for (second, port) in ports().enumerate() {
            let target = Target { matched, service_port: port.clone() };
            if let Some(taken) = self.taken.get(&(port.protocol, port.port)) {
                let frontend = Frontend { address, protocol: port.protocol, port: port.port };
                let place = || (*kind, Rank::of(&compiled.service), *first, second, Group::Address(address));
                self.problems.extend(conflict(&frontend, taken, port).map(|problem| (place(), problem)));
                continue;
            }
            self.taken.insert((port.protocol, port.port), target.clone());
            vip.targets.push(target);
        }
    }
}

/// The VIPs that a Service wants: their kind, their place in its list, and the address.
fn vips(compiled: &Remembered) -> impl Iterator<Item = (usize, usize, IpAddr)> {
    let service = &compiled.service;
    // A Service that does not count, or is refused, owns nothing. One without ports still owns its addresses.
    let counts = service.ignored.is_none() && compiled.problem.is_none();
    let lists = [&service.cluster_ips, &service.external_ips, &service.load_balancer_ips].into_iter().enumerate();
    let all = lists.flat_map(|(kind, list)| (0..).zip(list).map(move |(place, address)| (kind, place, *address)));
    // Rule 3: a family without a ClusterIP ignores the Service.
    all.filter(move |(_, _, address)| counts && service.cluster_ip(Family::of(*address)).is_some())
}

fn conflict(frontend: &Frontend, first: &Target, port: &ServicePort) -> Option<Problem> {
    let first = &first.service_port.service;
    let text = || format!("{frontend} belongs to Service {first} already, which has it first; change one of the two");
    (*first != port.service).then(|| problem(&port.service, text()))
}

fn problem(service: &ServiceName, text: String) -> Problem {
    Problem::of_object(Severity::Warning, &ObjectKey::of_service(service), text)
}

fn health_check(compiled: &Remembered, facts: &NodeFacts) -> Option<(Rank, HealthCheck)> {
    let service = &compiled.service;
    let port = service.health_check_node_port.filter(|_| service.ignored.is_none())?;
    let here = |node: &Option<Arc<str>>| node.as_ref() == Some(&facts.name);
    let endpoints = compiled.ports.iter().flat_map(|compiled| compiled.port.endpoints.iter());
    let ready: HashSet<IpAddr> = endpoints
        .filter(|e| e.state.ready && !e.drained && here(&e.node))
        .map(|endpoint| endpoint.backend.address)
        .collect();
    let count = |family| ready.iter().filter(|address| Family::of(**address) == family).count();
    let families = [Family::V4, Family::V6].into_iter().filter(|family| service.cluster_ip(*family).is_some());
    let local_endpoints = families.map(|family| (family, count(family))).collect();
    let check = HealthCheck { port, service: service.name.clone(), local_endpoints };
    Some((Rank::of(service), check))
}

/// Of several Services with one healthCheckNodePort the youngest is named.
fn youngest<'c>(claimants: &Claimants, compiled: &'c RememberedServices) -> Option<&'c ServiceName> {
    let services = claimants.iter().filter_map(|claim| compiled.get(&claim.service)).map(|compiled| &compiled.service);
    services.max_by_key(|service| Rank::of(service)).map(|service| &service.name)
}
