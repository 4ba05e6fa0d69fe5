//! Ringway on a bed like kube-proxy's, as the node of the same name.

use crate::rounds::Manner;
use ringway_tests::control_plane::ControlPlane;
use ringway_tests::instance::Instance;
use ringway_tests::world::World;
use serde_json::json;
use std::path::PathBuf;

/// A bed with Ringway on it.
pub(crate) struct Peer {
    // First, so that it ends while its links are still there.
    instance: Option<Instance>,
    pub(crate) world: World,
    folder: tempfile::TempDir,
}

impl Peer {
    pub(crate) fn start() -> Peer {
        let folder = tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder");
        Peer { instance: None, world: World::start(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it anew, as the user with Ringway's role.
    pub(crate) fn begin(&mut self, plane: &ControlPlane, manner: Manner) {
        if let Some(mut instance) = self.instance.take() {
            instance.stop();
        }
        let mut config = json!({
            "nodeName": "gw-1",
            "source": {"kubernetes": {"kubeconfig": plane.kubeconfig("ringway", None)}},
            "services": {"masqueradeAll": manner.masquerade_all},
            "interfaces": [{"name": "front", "xdp": "native"}, {"name": "back", "xdp": "native"}],
            "flows": {"perWorker": 65_536},
            "state": self.path("state"),
            "admin": {"socket": self.path("admin.sock")},
        });
        if !manner.detector {
            config["node"] = json!({"podCIDRs": []});
        }
        let file = self.path("ringway.yaml");
        std::fs::write(&file, config.to_string()).expect("the configuration");
        let mut instance = Instance::start(&self.world.gateway, &file, &self.path("admin.sock"));
        instance.await_ready(&self.world.gateway);
        self.instance = Some(instance);
    }

    /// What it has logged.
    pub(crate) fn output(&self) -> String {
        self.instance.as_ref().map(Instance::output).unwrap_or_default()
    }

    /// Proves that its ledger closes.
    pub(crate) fn check_ledger(&self) {
        self.instance.as_ref().expect("it was started").ledger();
    }
}
