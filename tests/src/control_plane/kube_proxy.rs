//! The real kube-proxy in nftables mode, as the peer that Ringway is compared with.

use super::{ControlPlane, READY, programs};
use crate::eventually;
use crate::netns::Namespace;
use ringway_control::demo::process::Process;
use serde_json::json;

/// A running kube-proxy; killed when dropped. Its rules go with the namespace.
#[derive(Debug)]
pub struct KubeProxy {
    process: Process,
}

impl KubeProxy {
    /// Starts it as `node` in a namespace that has joined the control plane, and waits until its rules are in force.
    ///
    /// Pods are those in the Node's `spec.podCIDRs`, or without a detector none. NodePorts are on the Node's primary
    /// addresses.
    pub fn start(
        plane: &ControlPlane,
        namespace: &Namespace,
        node: &str,
        detector: bool,
        masquerade_all: bool,
    ) -> KubeProxy {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node,
            "clientConnection": {"kubeconfig": plane.kubeconfig("admin", None)},
            // Without clusterCIDR the latter detects nothing.
            "detectLocalMode": if detector { "NodeCIDR" } else { "ClusterCIDR" },
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"minSyncPeriod": "0s", "syncPeriod": "30s", "masqueradeAll": masquerade_all},
            // Its usual port may be Ringway's.
            "healthzBindAddress": "127.0.0.1:10258",
            "metricsBindAddress": "127.0.0.1:10249",
        });
        let file = plane.path("kube-proxy.json");
        std::fs::write(&file, config.to_string()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut command = namespace.command(programs().join("kube-proxy"));
        command.arg("--config").arg(&file);
        let process = Process::start("kube-proxy", command).unwrap_or_else(|error| panic!("{error}"));
        let proxy = KubeProxy { process };
        eventually(READY, "kube-proxy is healthy", || {
            let mut command = namespace.command("curl");
            let output = command.args(["-sSf", "--max-time", "5", "http://127.0.0.1:10258/healthz"]).output();
            let output = output.map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(proxy.output()) }
        });
        proxy
    }

    /// What it has logged.
    pub fn output(&self) -> String {
        self.process.output()
    }
}
