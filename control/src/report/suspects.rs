//! Endpoints that are suspected of being dead although they are listed.

use ringway_shared::Backend;
use ringway_shared::suspects::{PROBE_EVERY, Suspicion};
use serde::{Deserialize, Serialize};

use super::answers::AnswerView;

/// A suspected endpoint: since when, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspectReport {
    /// For so many seconds it has answered nobody.
    pub seconds: u64,
    /// Connections that it left unanswered and that other endpoints completed since.
    pub connections: u32,
}

impl SuspectReport {
    /// Since when, why, and what it gets.
    pub fn sentence(&self) -> String {
        let SuspectReport { seconds, connections } = self;
        let every = PROBE_EVERY / 1000;
        format!(
            "suspected of being dead: for {seconds} s it has answered nobody, and others completed {connections} connections \
             that it left unanswered; until it answers it gets one new flow in {every} s"
        )
    }
}

impl AnswerView<'_> {
    /// Whether an endpoint is suspected.
    pub fn suspect(&self, backend: &Backend) -> Option<SuspectReport> {
        let Suspicion { since, connections, .. } = self.suspects?.suspicion(backend, self.now)?;
        Some(SuspectReport { seconds: u64::from(self.now.wrapping_sub(since) / 1000), connections })
    }

    /// How many are.
    pub fn suspected(&self) -> usize {
        let ports = self.published.snapshot.services.service_ports.iter().flatten();
        let endpoints = ports.flat_map(|port| port.endpoints.iter());
        endpoints.filter(|endpoint| self.suspect(&endpoint.backend).is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ringway_shared::suspects::{Accused, Suspects};
    use ringway_shared::{BackendId, Snapshot};

    use super::*;
    use crate::cluster::ClusterState;
    use crate::compile::{CompileOptions, Memory, compile};
    use crate::parse::Document;
    use crate::publish::Published;
    use crate::report::services::ServicesReport;
    use crate::source::manifest;

    const OBJECTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 172.30.0.1, ports: [{port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}},
 addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}
";

    #[test]
    fn a_suspect_is_told_with_since_when_and_why() {
        let mut cluster = ClusterState::default();
        for document in manifest::read(OBJECTS).documents {
            let Document::Taken(parsed) = document else { panic!("{document:?}") };
            cluster.apply(parsed, None);
        }
        let compiled = compile(&cluster, &CompileOptions::default(), &mut Memory::new());
        let snapshot = Snapshot { services: Arc::new(compiled.services), ..Snapshot::default() };
        let published = Published { snapshot, cluster: Arc::new(cluster), ..Published::default() };
        let suspects = Suspects::new(8, []);
        let told = |now| {
            let view = AnswerView { published: &published, counters: &[], suspects: Some(&suspects), now };
            let port = ServicesReport::of(&view).services.into_iter().flat_map(|s| s.ports).next().unwrap();
            let of = |endpoint: &str| port.endpoints.iter().find(|e| e.endpoint == endpoint).unwrap().suspect;
            assert_eq!(of("10.0.0.1:80"), None);
            (of("10.0.0.2:80").map(|report| report.sentence()), view.suspected())
        };
        assert_eq!(told(1_000), (None, 0));
        let ports = published.snapshot.services.service_ports.iter().flatten();
        let second = ports.flat_map(|port| port.endpoints.iter()).map(|endpoint| endpoint.backend).nth(1).unwrap();
        let accused = Accused::new(second.id, second.address, second.port, 2_000, true);
        assert_ne!(second.id, BackendId(0));
        suspects.accuse(&accused, 3_000);
        assert_eq!(told(3_000), (None, 0), "one may be chance");
        suspects.accuse(&accused, 4_000);
        let sentence = "suspected of being dead: for 12 s it has answered nobody, and others completed 2 connections that it \
                        left unanswered; until it answers it gets one new flow in 5 s";
        assert_eq!(told(14_999), (Some(sentence.to_owned()), 1));
        suspects.clear(second.id);
        assert_eq!(told(15_000), (None, 0));
    }
}
