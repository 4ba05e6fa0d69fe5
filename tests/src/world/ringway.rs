//! Ringway on such a bed, as the node `gw-1`.

use super::World;
use crate::instance::Instance;
use serde_json::{Value, json};
use std::path::Path;

/// A running Ringway; killed when dropped.
#[derive(Debug)]
pub struct Ringway {
    /// The process.
    pub instance: Instance,
    // After the process that uses it.
    _folder: tempfile::TempDir,
}

impl Ringway {
    /// Starts it on the gateway, with objects from the API server that a kubeconfig names, without waiting. `more` are
    /// further keys of the configuration.
    pub fn start(world: &World, kubeconfig: &Path, more: &Value) -> Ringway {
        let folder = tempfile::Builder::new().prefix("ringway-test-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let mut config = json!({
            "nodeName": "gw-1",
            "source": {"kubernetes": {"kubeconfig": kubeconfig}},
            "interfaces": [{"name": "front", "xdp": "native"}, {"name": "back", "xdp": "native"}],
            "flows": {"perWorker": 65_536},
            "state": path("state"),
            "admin": {"socket": path("admin.sock")},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let file = path("ringway.yaml");
        std::fs::write(&file, config.to_string()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let instance = Instance::start(&world.gateway, &file, &path("admin.sock"));
        Ringway { instance, _folder: folder }
    }

    /// Starts it and waits until it is ready.
    pub fn start_ready(world: &World, kubeconfig: &Path, more: &Value) -> Ringway {
        let mut ringway = Self::start(world, kubeconfig, more);
        ringway.instance.await_ready(&world.gateway);
        ringway
    }

    /// What `status` says about a kind of objects of the API.
    #[track_caller]
    pub fn resource(&self, kind: &str) -> Value {
        let status = self.instance.ask("/status");
        let resources = status["source"]["kubernetes"]["resources"].as_array().cloned().unwrap_or_default();
        let found = resources.into_iter().find(|resource| resource["kind"] == kind);
        found.unwrap_or_else(|| panic!("no {kind} in {status:#}"))
    }
}
