//! The real control plane in a namespace of its own: etcd, kube-apiserver and kube-controller-manager with the
//! controllers that make EndpointSlices. `tests/control-plane` builds the programs.
//!
//! There is no kubelet. A Pod is an object whose status the test writes, the controllers do the rest. Objects are read
//! and written as the user `admin`; the user `ringway` has exactly the role that a deployment gives to Ringway.
//!
//! ```text
//! [control] cluster 10.99.0.1 ── mgmt 10.99.0.2 [the first that joined]
//!                             └─ mgmt 10.99.0.3 [the second] ...
//! ```

mod client;
mod faults;
mod fill;
mod kube_proxy;
mod objects;

pub use faults::{Fault, FaultyProxy};
pub use kube_proxy::KubeProxy;
pub use objects::{EndpointState, Pod, node, pod_objects};

use crate::eventually;
use crate::netns::{self, End, Namespace};
use ringway_control::demo::process::Process;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

/// Where the API server listens.
pub const ADDRESS: &str = "10.99.0.1";
/// Its port.
pub const PORT: u16 = 6443;
/// The cluster's service CIDRs.
pub const SERVICE_CIDRS: [&str; 2] = ["172.30.0.0/16", "fd00:30::/112"];

const ETCD: &str = "http://127.0.0.1:2379";
/// How long a program may take to become ready. They take 3 to 5 s on a quiet machine.
const READY: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(20);

/// The folder with the programs: `RINGWAY_CONTROL_PLANE`, or where `tests/control-plane/build.sh` puts them.
fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("RINGWAY_CONTROL_PLANE") {
        return folder.into();
    }
    // .../target/debug/deps/THIS-TEST
    let this = std::env::current_exe().expect("our own path");
    this.ancestors().nth(3).expect("a target folder").join("control-plane/bin")
}

/// [`crate::can_run`], and the control plane must be built.
#[must_use]
pub fn can_run(test: &str) -> bool {
    let missing = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl", "stamp"]
        .into_iter()
        .map(|program| programs().join(program))
        .find(|path| !path.exists())
        .map(|path| format!("{} is missing; tests/control-plane/build.sh builds it, and needs Go", path.display()));
    crate::can_run(test, &["ip", "curl", "openssl", "nft"]) && missing.is_none_or(|missing| crate::skip(test, &missing))
}

/// A running control plane. Dropping it ends and removes everything.
#[derive(Debug)]
pub struct ControlPlane {
    // Processes first, so that they end while their namespace is still there.
    controllers: Option<Process>,
    api: Option<Process>,
    etcd: Option<Process>,
    /// Where all of it runs.
    pub namespace: Namespace,
    members: Cell<u8>,
    folder: tempfile::TempDir,
}

impl ControlPlane {
    /// Starts everything and waits until it is ready. Both users exist; `ringway` has its role.
    pub fn start() -> ControlPlane {
        let mut plane = Self::start_with(std::iter::empty());
        plane.start_controllers();
        plane
    }

    /// The same without the controllers, so that nobody but the caller writes EndpointSlices, and with these Services and
    /// EndpointSlices from the start. They must be complete: see `fill`.
    pub fn start_with(objects: impl Iterator<Item = Value>) -> ControlPlane {
        let namespace = netns::namespace(netns::next_bed(), "control");
        let folder = tempfile::Builder::new().prefix("ringway-control-plane-").tempdir().expect("a temporary folder");
        let mut plane =
            ControlPlane { controllers: None, api: None, etcd: None, namespace, members: Cell::new(1), folder };
        plane.prepare().unwrap_or_else(|error| panic!("{error}"));
        plane.start_etcd();
        plane.fill(objects);
        plane.start_api();
        plane.create_role();
        plane
    }

    fn prepare(&self) -> std::io::Result<()> {
        self.namespace.bridge("cluster")?;
        self.namespace.address("cluster", &format!("{ADDRESS}/24"))?;
        std::fs::create_dir(self.path("bodies"))?;
        std::fs::write(
            self.path("tokens.csv"),
            "admin-token,admin,admin,system:masters\nringway-token,ringway,ringway\n",
        )?;
        let mut key = self.namespace.command("openssl");
        key.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(self.path("sa.key"));
        let output = key.output()?;
        if !output.status.success() {
            return Err(std::io::Error::other(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))));
        }
        self.kubeconfig("admin", None);
        Ok(())
    }

    /// A file in the folder of this control plane.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn launch(&self, program: &str, arguments: &[String]) -> Process {
        let mut command = self.namespace.command(programs().join(program));
        command.args(arguments);
        Process::start(program, command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts etcd with the data it had.
    pub fn start_etcd(&mut self) {
        let words = ["--data-dir", &self.text("etcd"), "--unsafe-no-fsync", "--log-level", "warn"].map(str::to_owned);
        let urls = [
            format!("--listen-client-urls={ETCD}"),
            format!("--advertise-client-urls={ETCD}"),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ];
        self.etcd = Some(self.launch("etcd", &[&words[..], &urls].concat()));
        self.await_up("etcd", &[&format!("{ETCD}/health")], |plane| plane.etcd.as_ref());
    }

    /// Starts the API server, with the keys and objects it had.
    pub fn start_api(&mut self) {
        let folder = |name: &str| self.text(name);
        let arguments = [
            format!("--etcd-servers={ETCD}"),
            format!("--bind-address={ADDRESS}"),
            format!("--secure-port={PORT}"),
            format!("--cert-dir={}", folder("certificates")),
            format!("--service-cluster-ip-range={}", SERVICE_CIDRS.join(",")),
            "--service-node-port-range=30000-32767".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            format!("--token-auth-file={}", folder("tokens.csv")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", folder("sa.key")),
            format!("--service-account-signing-key-file={}", folder("sa.key")),
            // Pods have no service accounts here, and the `kubernetes` Service no endpoint.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            "--shutdown-delay-duration=0s".to_owned(),
        ];
        self.api = Some(self.launch("kube-apiserver", &arguments));
        self.await_up("kube-apiserver", &["-k", &format!("https://{ADDRESS}:{PORT}/readyz")], |plane| {
            plane.api.as_ref()
        });
    }

    fn start_controllers(&mut self) {
        let kubeconfig = self.text("admin.kubeconfig");
        let arguments = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--controllers=endpointslice-controller,endpointslice-mirroring-controller,endpoints-controller,\
             namespace-controller"
                .to_owned(),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--secure-port=10257".to_owned(),
            format!("--cert-dir={}", self.text("certificates")),
        ];
        self.controllers = Some(self.launch("kube-controller-manager", &arguments));
        self.await_up("kube-controller-manager", &["-k", "https://127.0.0.1:10257/healthz"], |plane| {
            plane.controllers.as_ref()
        });
    }

    /// Waits until a health URL answers.
    fn await_up(&self, program: &str, arguments: &[&str], process: impl Fn(&Self) -> Option<&Process>) {
        eventually(READY, &format!("{program} is ready"), || {
            let mut command = self.namespace.command("curl");
            let output = command.args(["-sSf", "--max-time", "5"]).args(arguments).output();
            match output.map_err(|error| error.to_string())? {
                output if output.status.success() => Ok(()),
                output => {
                    let log = process(self).map(Process::output).unwrap_or_default();
                    Err(format!("{}\n{log}", String::from_utf8_lossy(&output.stderr)))
                }
            }
        });
    }

    /// Kills the API server, as a crash would.
    pub fn kill_api(&mut self) {
        kill(self.api.take());
    }

    /// Kills etcd, as a crash would.
    pub fn kill_etcd(&mut self) {
        kill(self.etcd.take());
    }

    /// Makes etcd forget all older revisions, so that no watch can resume from one.
    pub fn compact(&self) {
        let ask = |path: &str, body: &str| -> Value {
            let mut command = self.namespace.command("curl");
            let output = command.args(["-sSf", &format!("{ETCD}{path}"), "-d", body]).output().expect("curl");
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("etcd {path}: {error}"))
        };
        let range = ask("/v3/kv/range", r#"{"key":"AA==","limit":1}"#);
        let revision = range["header"]["revision"].as_str().expect("etcd tells its revision").to_owned();
        ask("/v3/kv/compaction", &format!(r#"{{"revision":{revision},"physical":true}}"#));
    }

    /// Connects a namespace with the control plane, by a link named `mgmt`.
    pub fn join(&self, namespace: &Namespace) {
        let number = self.members.get() + 1;
        self.members.set(number);
        let port = format!("member{number}");
        let joined = netns::veth(
            End { namespace, link: "mgmt", mac: None },
            End { namespace: &self.namespace, link: &port, mac: None },
            1,
        )
        .and_then(|()| self.namespace.join(&port, "cluster"))
        .and_then(|()| namespace.address("mgmt", &format!("10.99.0.{number}/24")));
        joined.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Writes a kubeconfig for `admin` or `ringway`. `server` is the API server's own address if `None`.
    pub fn kubeconfig(&self, user: &str, server: Option<&str>) -> PathBuf {
        let name = if server.is_some() { format!("{user}-proxied") } else { user.to_owned() };
        self.write_kubeconfig(&name, &format!("{user}-token"), server)
    }

    /// Writes a kubeconfig for whoever has this token.
    pub fn kubeconfig_of(&self, name: &str, token: &str) -> PathBuf {
        self.write_kubeconfig(name, token, None)
    }

    fn write_kubeconfig(&self, name: &str, token: &str, server: Option<&str>) -> PathBuf {
        let direct = format!("https://{ADDRESS}:{PORT}");
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": server.unwrap_or(&direct),
                "certificate-authority": self.path("certificates/apiserver.crt"),
                // A proxy in between has another address than the certificate names.
                "tls-server-name": ADDRESS,
            }}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
        });
        let path = self.path(&format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Runs kubectl as `admin`.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let kubeconfig = self.text("admin.kubeconfig");
        let program = programs().join("kubectl").display().to_string();
        let all = [&["--kubeconfig", &kubeconfig], arguments].concat();
        crate::process::run(&self.namespace, &program, &all, READY)
    }

    /// What the API server has logged.
    pub fn api_log(&self) -> String {
        self.api.as_ref().map(Process::output).unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Gives the user `ringway` the role of deploy/kubernetes.yaml.
    fn create_role(&self) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/kubernetes.yaml");
        let text = std::fs::read_to_string(manifest).unwrap_or_else(|error| panic!("{manifest}: {error}"));
        let role = text.split("\n---\n").find(|document| document.contains("\nkind: ClusterRole\n"));
        std::fs::write(self.path("role.yaml"), role.expect("it has a ClusterRole")).expect("the role");
        self.kubectl(&["apply", "-f", &self.text("role.yaml")]).unwrap_or_else(|error| panic!("{error}"));
        self.apply(&[json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "ringway-of-tests"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ringway"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ringway"}],
        })]);
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // The harness shows this with the failed test.
        for (name, process) in
            [("etcd", &self.etcd), ("kube-apiserver", &self.api), ("kube-controller-manager", &self.controllers)]
        {
            let log = process.as_ref().map_or("(does not run)".to_owned(), Process::output);
            let lines: Vec<_> = log.lines().collect();
            println!("--- {name}\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn kill(process: Option<Process>) {
    let mut process = process.expect("it was started");
    process.signal(Signal::KILL).and_then(|()| process.wait(END)).unwrap_or_else(|error| panic!("{error}"));
}
