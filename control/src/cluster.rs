//! The cluster as its objects describe it: what parse took, by object, and what was wrong with the rest.
//!
//! A refused object keeps its last good content. Content is held behind `Arc`, and two versions of the state share what is
//! equal: a copy is cheap, and so is finding out what changed between two.

use std::path::Path;
use std::sync::Arc;

use ringway_shared::service::ServiceName;
use ringway_shared::sharing::SortedMap;

use crate::parse::{EndpointSlice, Kind, Node, Object, ObjectKey, Parsed, Refusal, Service, ServiceCidr};
use crate::problem::{Problem, Severity};

/// All objects in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    services: SortedMap<ServiceName, Arc<Service>>,
    slices: SortedMap<ServiceName, Arc<EndpointSlice>>,
    // The slices of each Service, by name.
    slices_of: SortedMap<ServiceName, Arc<[Arc<EndpointSlice>]>>,
    nodes: SortedMap<Arc<str>, Arc<Node>>,
    service_cidrs: SortedMap<Arc<str>, Arc<ServiceCidr>>,
    problems: SortedMap<ObjectKey, Arc<[Problem]>>,
    source_problems: Vec<Problem>,
}

impl ClusterState {
    /// Puts an object in force, in place of its former content. `file` says where it came from, if from a file. False when
    /// nothing changes for packets.
    pub fn apply(&mut self, parsed: Parsed, file: Option<&Path>) -> bool {
        let Parsed { key, object, notes } = parsed;
        let problem = |text| Problem {
            severity: Severity::Warning,
            object: Some(key.clone()),
            file: file.map(Path::to_owned),
            text,
        };
        let problems = notes.into_iter().map(problem).collect();
        self.set_problems(&key, problems);
        match object {
            Object::Service(new) => put(&mut self.services, new.name.clone(), new),
            Object::EndpointSlice(new) => {
                let name = new.name.clone();
                if self.slices.get(&name) == Some(&new) {
                    return false;
                }
                let service = new.service.clone();
                let old = self.slices.insert(name.clone(), new.clone());
                if let Some(former) =
                    old.and_then(|old| old.service.clone()).filter(|old| Some(old) != service.as_ref())
                {
                    self.set_slice_of(former, &name, None);
                }
                if let Some(service) = service {
                    self.set_slice_of(service, &name, Some(new));
                }
                true
            }
            Object::Node(new) => put(&mut self.nodes, new.name.clone(), new),
            Object::ServiceCidr(new) => put(&mut self.service_cidrs, new.name.clone(), new),
        }
    }

    /// Notes that an object was refused. Its last good content, if any, stays in force.
    pub fn refuse(&mut self, key: &ObjectKey, refusal: &Refusal, file: Option<&Path>) {
        let kept = if self.contains(key) { "; its last good content stays in force" } else { "" };
        let problem = Problem::of_object(Severity::Refused, key, format!("{refusal}{kept}"));
        self.set_problems(key, vec![Problem { file: file.map(Path::to_owned), ..problem }]);
    }

    /// Removes an object and its problems. False when nothing changes for packets.
    pub fn remove(&mut self, key: &ObjectKey) -> bool {
        self.set_problems(key, Vec::new());
        match key.kind {
            Kind::Service => self.services.remove(&key.service_name()).is_some(),
            Kind::EndpointSlice => self.forget_slice(&key.service_name()),
            Kind::Node => self.nodes.remove(&key.name).is_some(),
            Kind::ServiceCidr => self.service_cidrs.remove(&key.name).is_some(),
        }
    }

    /// Notes that a Node object is gone, while the node itself goes on: its addresses, pod CIDRs and labels stay as they
    /// were. False when nothing changes.
    pub fn lose_node(&mut self, key: &ObjectKey) -> bool {
        let Some(node) = self.nodes.get(&key.name).cloned() else { return self.remove(key) };
        let text = "the object is gone; its addresses, pod CIDRs and labels stay in force as they were";
        self.set_problems(key, vec![Problem::of_object(Severity::Warning, key, text)]);
        put(&mut self.nodes, node.name.clone(), Arc::new(Node { leaving: true, ..Node::clone(&node) }))
    }

    /// The content of the object in force.
    pub fn get(&self, key: &ObjectKey) -> Option<Object> {
        match key.kind {
            Kind::Service => self.services.get(&key.service_name()).cloned().map(Object::Service),
            Kind::EndpointSlice => self.slices.get(&key.service_name()).cloned().map(Object::EndpointSlice),
            Kind::Node => self.nodes.get(&key.name).cloned().map(Object::Node),
            Kind::ServiceCidr => self.service_cidrs.get(&key.name).cloned().map(Object::ServiceCidr),
        }
    }

    /// Whether the object is in force.
    pub fn contains(&self, key: &ObjectKey) -> bool {
        match key.kind {
            Kind::Service => self.services.contains_key(&key.service_name()),
            Kind::EndpointSlice => self.slices.contains_key(&key.service_name()),
            Kind::Node => self.nodes.contains_key(&key.name),
            Kind::ServiceCidr => self.service_cidrs.contains_key(&key.name),
        }
    }

    /// The Services, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// The Service with this name.
    pub fn service(&self, name: &ServiceName) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The slices of a Service, by name; without those that do not count.
    pub fn slices_of(&self, service: &ServiceName) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices_of.get(service).into_iter().flat_map(|slices| slices.iter())
    }

    /// The slices whose Service is not there, and has not been refused either: nobody gets packets by them.
    pub fn orphans(&self) -> impl Iterator<Item = (&ServiceName, &[Arc<EndpointSlice>])> {
        let of_nobody = self.slices_of.iter().filter(|(service, _)| !self.services.contains_key(service));
        of_nobody
            .filter(|(service, _)| self.problems_of(&ObjectKey::of_service(service)).is_empty())
            .map(|(service, slices)| (service, &**slices))
    }

    /// The slices that belong to no Service, or do not count.
    pub fn unused_slices(&self) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        self.slices.values().filter(|slice| slice.service.is_none())
    }

    /// The same as a list, whose pointer stays as long as the list is the same.
    pub(crate) fn slice_list(&self, service: &ServiceName) -> Arc<[Arc<EndpointSlice>]> {
        self.slices_of.get(service).cloned().unwrap_or_default()
    }

    /// The names of Services that changed since an older version of the state, or whose slices did, in order.
    pub(crate) fn changed_services(&self, older: &ClusterState) -> Vec<ServiceName> {
        let services = older.services.differences(&self.services);
        let services = services.into_iter().filter(|d| !same(d.old, d.new)).map(|d| d.at);
        let slices = older.slices_of.differences(&self.slices_of);
        let slices = slices.into_iter().filter(|d| !same(d.old, d.new)).map(|d| d.at);
        // Two sorted runs: that is all a sort sees.
        let mut changed: Vec<&ServiceName> = services.chain(slices).collect();
        changed.sort();
        changed.dedup();
        changed.into_iter().cloned().collect()
    }

    /// The Node with this name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// The ServiceCIDRs, by name.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &Arc<ServiceCidr>> {
        self.service_cidrs.values()
    }

    /// Everything that is wrong: first with the sources, then object by object.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.source_problems.iter().chain(self.problems.values().flat_map(|problems| problems.iter()))
    }

    /// What is wrong with one object.
    pub fn problems_of(&self, key: &ObjectKey) -> &[Problem] {
        self.problems.get(key).map_or(&[], |problems| problems)
    }

    /// The keys of all objects in force.
    pub fn keys(&self) -> impl Iterator<Item = ObjectKey> {
        let named = |kind: Kind, name: &ServiceName| ObjectKey { kind, ..ObjectKey::of_service(name) };
        let global = |kind: Kind, name: &Arc<str>| ObjectKey { kind, namespace: "".into(), name: name.clone() };
        let services = self.services.keys().map(move |name| named(Kind::Service, name));
        let slices = self.slices.keys().map(move |name| named(Kind::EndpointSlice, name));
        let nodes = self.nodes.keys().map(move |name| global(Kind::Node, name));
        let cidrs = self.service_cidrs.keys().map(move |name| global(Kind::ServiceCidr, name));
        services.chain(slices).chain(nodes).chain(cidrs)
    }

    /// Forgets what was wrong with objects that are not in force: their source no longer has them.
    pub fn forget_problems_of_absent(&mut self) {
        let absent: Vec<ObjectKey> = self.problems.keys().filter(|key| !self.contains(key)).cloned().collect();
        for key in absent {
            self.problems.remove(&key);
        }
    }

    /// What is wrong with the sources themselves.
    pub fn source_problems(&self) -> &[Problem] {
        &self.source_problems
    }

    /// Replaces what is wrong with the sources themselves: files, connections.
    pub fn set_source_problems(&mut self, problems: Vec<Problem>) {
        self.source_problems = problems;
    }

    fn set_problems(&mut self, key: &ObjectKey, problems: Vec<Problem>) {
        // What stays as it is remains shared.
        if problems.is_empty() {
            self.problems.remove(key);
        } else if self.problems_of(key) != problems {
            self.problems.insert(key.clone(), problems.into());
        }
    }

    fn forget_slice(&mut self, name: &ServiceName) -> bool {
        let Some(old) = self.slices.remove(name) else { return false };
        if let Some(service) = &old.service {
            self.set_slice_of(service.clone(), name, None);
        }
        true
    }

    /// Puts a slice among those of its Service, in place of the one of that name; `None` takes it out.
    fn set_slice_of(&mut self, service: ServiceName, name: &ServiceName, slice: Option<Arc<EndpointSlice>>) {
        let slices = self.slice_list(&service);
        let before = slices.iter().filter(|other| other.name < *name).cloned();
        let after = slices.iter().filter(|other| other.name > *name).cloned();
        let slices: Arc<[_]> = before.chain(slice).chain(after).collect();
        if slices.is_empty() {
            self.slices_of.remove(&service);
        } else {
            self.slices_of.insert(service, slices);
        }
    }
}

/// Inserts `new` unless it equals what is there, whose pointer then stays.
fn put<K: Clone + Ord, T: PartialEq>(map: &mut SortedMap<K, Arc<T>>, key: K, new: Arc<T>) -> bool {
    if map.get(&key) == Some(&new) {
        return false;
    }
    map.insert(key, new);
    true
}

/// Whether nothing changed: the pointer of what did not change stays.
fn same<T: ?Sized>(old: Option<&Arc<T>>, new: Option<&Arc<T>>) -> bool {
    matches!((old, new), (Some(old), Some(new)) if Arc::ptr_eq(old, new))
}
