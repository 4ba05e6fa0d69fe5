//! Ringway on a bed like kube-proxy's, as the node of the same name.

use crate::rounds::Manner;
use ringway_tests::control_plane::ControlPlane;
use ringway_tests::world::World;
use ringway_tests::world::ringway::Ringway;
use serde_json::json;

/// A bed with Ringway on it.
pub(crate) struct Peer {
    // First, so that it ends while its links are still there.
    ringway: Option<Ringway>,
    pub(crate) world: World,
}

impl Peer {
    pub(crate) fn start() -> Peer {
        Peer { ringway: None, world: World::start() }
    }

    /// Starts it anew, as the user with Ringway's role.
    pub(crate) fn begin(&mut self, plane: &ControlPlane, manner: Manner) {
        if let Some(mut ringway) = self.ringway.take() {
            ringway.instance.stop();
        }
        let mut more = json!({"services": {"masqueradeAll": manner.masquerade_all}});
        if !manner.detector {
            more["node"] = json!({"podCIDRs": []});
        }
        self.ringway = Some(Ringway::start_ready(&self.world, &plane.kubeconfig("ringway", None), &more));
    }

    /// What it has logged.
    pub(crate) fn output(&self) -> String {
        self.ringway.as_ref().map(|ringway| ringway.instance.output()).unwrap_or_default()
    }

    /// Proves that its ledger closes.
    pub(crate) fn check_ledger(&self) {
        self.ringway.as_ref().expect("it was started").instance.ledger();
    }
}
