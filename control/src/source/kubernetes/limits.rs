//! What is taken from an API server at most. A real one stays far below; one that is broken, or not what it says it is,
//! must not cost more memory than this.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::fault::Fault;
use crate::parse::{Document, Kind, Object};

/// What is taken at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Objects of one kind.
    pub objects: usize,
    /// Bytes that the objects of one kind take here.
    pub memory: usize,
    /// Bytes of one object as JSON. An object has 1.5 MiB at most in etcd.
    pub object: usize,
    /// Bytes of one list as JSON.
    pub list: u64,
    /// Objects that were refused and are not in force, of all kinds: each is told by name.
    pub refused: usize,
}

impl Limits {
    /// Far more than the largest clusters have: theirs are 44,000 Services and 250,000 endpoints.
    pub const DEFAULT: Limits =
        Limits { objects: 500_000, memory: 256 << 20, object: 4 << 20, list: 4 << 30, refused: 10_000 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Pages in a row without any object. A real API server sends none.
const EMPTY_PAGES: usize = 10;

/// What was taken of one kind so far.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) objects: usize,
    pub(super) memory: usize,
}

impl Held {
    /// Takes an object in place of an older one, unless that is too much.
    pub(super) fn exchange(&mut self, old: Option<&Object>, new: &Object, limits: &Limits) -> bool {
        let objects = self.objects + usize::from(old.is_none());
        let memory = (self.memory + new.weight()).saturating_sub(old.map_or(0, Object::weight));
        // One that shrinks always fits.
        let fits = (objects <= limits.objects || old.is_some()) && (memory <= limits.memory || memory <= self.memory);
        if fits {
            (self.objects, self.memory) = (objects, memory);
        }
        fits
    }

    /// One is gone.
    pub(super) fn remove(&mut self, old: Option<&Object>) {
        self.objects -= usize::from(old.is_some()).min(self.objects);
        self.memory = self.memory.saturating_sub(old.map_or(0, Object::weight));
    }
}

/// One list as it comes in, page by page.
pub(super) struct Listing {
    kind: Kind,
    limits: Limits,
    pub(super) objects: Vec<Document>,
    memory: usize,
    bytes: u64,
    /// Where pages went on so far, as hashes.
    places: HashSet<u64>,
    hasher: RandomState,
    /// Pages without an object, in a row, and the number of objects before the page that comes in now.
    empty: usize,
    before: usize,
}

impl Listing {
    pub(super) fn new(kind: Kind, limits: Limits) -> Self {
        let (objects, places, hasher) = (Vec::new(), HashSet::new(), RandomState::new());
        Listing { kind, limits, objects, memory: 0, bytes: 0, places, hasher, empty: 0, before: 0 }
    }

    /// This much of the text has come in.
    pub(super) fn read(&mut self, bytes: usize) -> Result<(), Fault> {
        self.bytes += bytes as u64;
        if self.bytes > self.limits.list {
            return Err(self.excess(format!("more than {} bytes", self.limits.list)));
        }
        Ok(())
    }

    /// An object has come in.
    pub(super) fn take(&mut self, document: Document) -> Result<(), Fault> {
        self.memory += document.weight();
        if self.objects.len() >= self.limits.objects {
            return Err(self.excess(format!("more than {} objects", self.limits.objects)));
        }
        if self.memory > self.limits.memory {
            return Err(self.excess(format!("objects that take more than {} bytes here", self.limits.memory)));
        }
        self.objects.push(document);
        Ok(())
    }

    /// A page is over, and the list goes on at `place`.
    pub(super) fn goes_on(&mut self, place: &str) -> Result<(), Fault> {
        let is_empty = self.objects.len() == std::mem::replace(&mut self.before, self.objects.len());
        self.empty = if is_empty { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_PAGES {
            return Err(self.excess(format!("more than {EMPTY_PAGES} pages in a row without an object")));
        }
        if !self.places.insert(self.hasher.hash_one(place)) {
            return Err(
                self.excess("pages that lead back to one that was read already (the same continue token)".into())
            );
        }
        Ok(())
    }

    fn excess(&self, what: String) -> Fault {
        Fault::excess(format!("a list of {} objects has {what}", self.kind.label()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::kubernetes::object::decode_bytes;

    #[test]
    fn the_largest_clusters_fit_twice() {
        let endpoint = r#"{"addresses":["10.123.234.210"],"conditions":{"ready":true,"serving":true,"terminating":false},
            "nodeName":"ip-10-123-234-210.eu-central-1.compute.internal","zone":"eu-central-1a",
            "hints":{"forZones":[{"name":"eu-central-1a"}]},"targetRef":{"kind":"Pod","name":"p","namespace":"n"}}"#;
        let slice = format!(
            r#"{{"metadata":{{"name":"a-service-of-some-length-x2f4q","namespace":"a-namespace-of-some-length",
            "labels":{{"kubernetes.io/service-name":"a-service-of-some-length"}}}},"addressType":"IPv4",
            "ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{}]}}"#,
            [endpoint; 5].join(",")
        );
        let of_slice = decode_bytes(Kind::EndpointSlice, slice.as_bytes()).weight();
        let service = r#"{"metadata":{"name":"a","namespace":"n"},"spec":{"clusterIP":"172.30.0.1","clusterIPs":["172.30.0.1"],
            "ports":[{"name":"http","port":80},{"name":"https","port":443}]}}"#;
        let of_service = decode_bytes(Kind::Service, service.as_bytes()).weight();
        // 50,000 Services with five endpoints each.
        assert!(50_000 * of_slice * 2 < Limits::DEFAULT.memory, "{of_slice}");
        assert!(50_000 * of_service * 2 < Limits::DEFAULT.memory, "{of_service}");
    }

    #[test]
    fn what_shrinks_or_goes_always_may() {
        let slice = |endpoints: usize| {
            let endpoints = vec![r#"{"addresses":["10.0.0.1"]}"#; endpoints].join(",");
            let text = format!(r#"{{"metadata":{{"name":"s"}},"addressType":"IPv4","endpoints":[{endpoints}]}}"#);
            let Document::Taken(parsed) = decode_bytes(Kind::EndpointSlice, text.as_bytes()) else { panic!("{text}") };
            parsed.object
        };
        let (small, large) = (slice(1), slice(100));
        let limits = Limits { objects: 2, memory: small.weight() * 2, ..Limits::DEFAULT };
        let mut held = Held::default();
        assert!(!held.exchange(None, &large, &limits));
        assert!(held.exchange(None, &small, &limits) && held.exchange(None, &small, &limits));
        assert!(!held.exchange(None, &small, &limits) && !held.exchange(Some(&small), &large, &limits));
        assert!(held.exchange(Some(&small), &small, &limits));
        held.remove(Some(&small));
        assert!(held.exchange(None, &small, &limits));
        held.remove(None);
        assert_eq!((held.objects, held.memory), (2, small.weight() * 2));
    }
}
