//! Ringway's image, run by crun as a kubelet runs the pod of `deploy/kubernetes.yaml`: its user, capabilities, mounts and
//! environment, under a seccomp profile as container runtimes have it. Cgroups are left out.

use crate::helm::in_repository;
use crate::instance::binary;
use crate::netns::Namespace;
use ringway_control::demo::process::Process;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What is needed to make the image and to run it.
pub const PROGRAMS: [&str; 7] = ["ip", "curl", "buildah", "crun", "setcap", "strip", "unshare"];

const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// Runs a program; its standard output.
#[track_caller]
fn run(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> String {
    let program = program.as_ref();
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?} {arguments:?}: {}: {told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The image of the binary under test, unpacked.
#[derive(Debug)]
pub struct Image {
    folder: tempfile::TempDir,
    /// The image's own configuration.
    pub config: Value,
}

impl Image {
    /// Makes it, as `make image` does, and unpacks the archive.
    #[track_caller]
    pub fn make() -> Image {
        let folder = tempfile::Builder::new().prefix("ringway-image-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name).to_str().expect("a path in UTF-8").to_owned();
        let binary = binary().to_str().expect("a path in UTF-8");
        // Images of the machine's own are left alone.
        let storage = ["graph", "run"].map(|part| format!("{part}root = \"{}\"\n", path(part)));
        std::fs::write(path("storage.conf"), format!("[storage]\ndriver = \"vfs\"\n{}", storage.concat()))
            .expect("a file");
        let script = in_repository("deploy/image.sh");
        let script = script.to_str().expect("a path in UTF-8");
        let variable = format!("CONTAINERS_STORAGE_CONF={}", path("storage.conf"));
        run("env", &["-u", "STORAGE_DRIVER", &variable, script, binary, &path("made")]);
        std::fs::create_dir(path("archive")).and_then(|()| std::fs::create_dir(path("root"))).expect("folders");
        run("tar", &["-xf", &path("made/ringway.tar"), "-C", &path("archive")]);
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(path(&format!("archive/{name}"))).expect(name);
            serde_json::from_str(&text).expect(name)
        };
        let manifest = read("manifest.json")[0].clone();
        for layer in manifest["Layers"].as_array().expect("layers") {
            let layer = path(&format!("archive/{}", layer.as_str().expect("a name")));
            // File capabilities are extended attributes.
            run("tar", &["-xf", &layer, "-C", &path("root"), "--xattrs", "--xattrs-include=*", "--numeric-owner"]);
        }
        let config = read(manifest["Config"].as_str().expect("a name"));
        Image { config, folder }
    }

    /// The bytes of the archive.
    pub fn size(&self) -> u64 {
        self.folder.path().join("made/ringway.tar").metadata().expect("the archive").len()
    }

    /// Its files.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }
}

/// The objects of `deploy/kubernetes.yaml` of a kind.
#[track_caller]
pub fn manifest(kind: &str) -> Value {
    let text = std::fs::read_to_string(in_repository("deploy/kubernetes.yaml")).expect("the manifest");
    let documents = text.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).expect("YAML"));
    documents.into_iter().find(|object| object["kind"] == kind).expect(kind)
}

/// A pod of the DaemonSet, before it runs: what a kubelet and a container runtime would make of it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// What the runtime is told, to be changed before the start.
    pub spec: Value,
    /// The configuration file of the ConfigMap.
    pub configuration: String,
    /// The capabilities that the seccomp profile asks for before it allows `bpf()`: as containerd and Docker have it.
    pub bpf_takes: &'static str,
}

impl Pod {
    /// The pod of the manifest on the node `gw-1` with this address, in a network namespace.
    #[track_caller]
    pub fn of_manifest(image: &Image, namespace: &Namespace, host_ip: &str) -> Pod {
        let pod = &manifest("DaemonSet")["spec"]["template"]["spec"];
        assert_eq!(pod["hostNetwork"], true);
        let (container, user) = (&pod["containers"][0], &pod["securityContext"]);
        let granted = container["securityContext"]["capabilities"]["add"].as_array().expect("capabilities");
        assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
        let granted: Vec<String> =
            granted.iter().map(|name| format!("CAP_{}", name.as_str().expect("a name"))).collect();
        let environment = container["env"].as_array().expect("env").iter().map(|variable| {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => "gw-1",
                Some("status.hostIP") => host_ip,
                other => panic!("{other:?} is not known here"),
            };
            format!("{}={value}", variable["name"].as_str().expect("a name"))
        });
        // A kubelet adds these to every container.
        let added = ["KUBERNETES_SERVICE_HOST=172.30.0.1", "KUBERNETES_SERVICE_PORT=443"].map(str::to_owned);
        let own = image.config["config"]["Env"].as_array().expect("Env").iter();
        let own = own.map(|variable| variable.as_str().expect("text").to_owned());
        let environment: Vec<String> = own.chain(environment).chain(added).collect();
        let words = |list: &Value| list.as_array().expect("a list").clone();
        let arguments = [words(&image.config["config"]["Entrypoint"]), words(&container["args"])].concat();
        let mount = |to: &str, kind: &str, options: &[&str]| json!({"destination": to, "type": kind, "source": kind, "options": options});
        let mut mounts = vec![
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "mode=755"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ];
        for mounted in container["volumeMounts"].as_array().expect("volumeMounts") {
            let volumes = pod["volumes"].as_array().expect("volumes");
            let volume = volumes.iter().find(|volume| volume["name"] == mounted["name"]).expect("the volume");
            let source = match (volume["hostPath"]["path"].as_str(), volume["name"].as_str()) {
                // udev lets everybody open it; here it may be as the kernel made it.
                (Some("/dev/net/tun"), _) => "BUNDLE/tun".to_owned(),
                (Some(path), _) => path.to_owned(),
                (None, name) => format!("BUNDLE/{}", name.expect("a name")),
            };
            let access = if mounted["readOnly"] == true { "ro" } else { "rw" };
            mounts.push(json!({
                "destination": mounted["mountPath"], "type": "bind", "source": source, "options": ["rbind", access],
            }));
        }
        let mut namespaces: Vec<Value> = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind})).to_vec();
        namespaces.push(json!({"type": "network", "path": format!("/run/netns/{}", namespace.name())}));
        let spec = json!({
            "ociVersion": "1.0.0",
            "process": {
                "args": arguments, "env": environment, "cwd": "/",
                "user": {"uid": user["runAsUser"], "gid": user["runAsGroup"]},
                "capabilities": {"bounding": granted, "effective": granted, "permitted": granted},
                "noNewPrivileges": container["securityContext"]["allowPrivilegeEscalation"] == false,
                "rlimits": [{"type": "RLIMIT_MEMLOCK", "soft": 65536, "hard": 65536}],
            },
            "root": {"path": image.root(), "readonly": container["securityContext"]["readOnlyRootFilesystem"]},
            "mounts": mounts,
            "linux": {
                "namespaces": namespaces,
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            },
        });
        let map = manifest("ConfigMap");
        let configuration = map["data"]["ringway.yaml"].as_str().expect("a file").to_owned();
        Pod { spec, configuration, bpf_takes: "CAP_BPF" }
    }

    /// The capabilities that it is granted, and no others.
    pub fn grant(&mut self, granted: &[&str]) {
        for set in ["bounding", "effective", "permitted"] {
            self.spec["process"]["capabilities"][set] = json!(granted);
        }
    }

    /// Sets a variable of the environment.
    pub fn set(&mut self, name: &str, value: &str) {
        let variables = self.spec["process"]["env"].as_array_mut().expect("env");
        variables.retain(|variable| !variable.as_str().is_some_and(|text| text.starts_with(&format!("{name}="))));
        variables.push(format!("{name}={value}").into());
    }

    /// Starts it; `objects` is a folder of manifests at `/objects`.
    #[track_caller]
    pub fn start(&self, objects: &Path) -> Container {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringway-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let bundle = tempfile::Builder::new().prefix("ringway-bundle-").tempdir().expect("a temporary folder");
        let path = |file: &str| bundle.path().join(file).to_str().expect("a path in UTF-8").to_owned();
        std::fs::create_dir(path("config")).and_then(|()| std::fs::create_dir(path("run"))).expect("folders");
        run("chmod", &["0755", &path("")]);
        run("chmod", &["0777", &path("run")]);
        run("mknod", &["-m", "0666", &path("tun"), "c", "10", "200"]);
        std::fs::write(path("config/ringway.yaml"), &self.configuration).expect("the configuration");
        let mut spec = self.spec.clone();
        for mount in spec["mounts"].as_array_mut().expect("mounts") {
            let source = mount["source"].as_str().expect("a path").replace("BUNDLE", &path(""));
            mount["source"] = source.into();
        }
        let objects = json!({"destination": "/objects", "type": "bind", "source": objects, "options": ["rbind", "ro"]});
        spec["mounts"].as_array_mut().expect("mounts").push(objects);
        if spec["linux"]["seccomp"].is_null() {
            spec["linux"]["seccomp"] = self.profile();
        }
        std::fs::write(path("config.json"), spec.to_string()).expect("the bundle");
        let command = crun(&path("state"), &["run", "--bundle", &path(""), &name]);
        let process = Process::start("crun", command).unwrap_or_else(|error| panic!("{error}"));
        let user = &self.spec["process"]["user"];
        Container { process, name, user: format!("{}:{}", user["uid"], user["gid"]), bundle }
    }

    /// The default profile of container runtimes for these capabilities, on this machine.
    pub fn profile(&self) -> Value {
        let text = std::fs::read_to_string(PROFILE).unwrap_or_else(|error| panic!("{PROFILE}: {error}"));
        let profile: Value = serde_json::from_str(&text).expect("JSON");
        let (machine, architecture) = match std::env::consts::ARCH {
            "aarch64" => ("arm64", "SCMP_ARCH_AARCH64"),
            _ => ("amd64", "SCMP_ARCH_X86_64"),
        };
        let granted = self.spec["process"]["capabilities"]["bounding"].as_array().expect("capabilities");
        let mut calls = Vec::new();
        for rule in profile["syscalls"].as_array().expect("syscalls") {
            let mut rule = rule.clone();
            if rule["names"].as_array().is_some_and(|names| names.contains(&"bpf".into())) {
                for side in ["includes", "excludes"] {
                    if !rule[side]["caps"].is_null() {
                        rule[side]["caps"] = json!([self.bpf_takes]);
                    }
                }
            }
            let all = |side: &str, key: &str| rule[side][key].as_array().cloned().unwrap_or_default();
            let here = all("includes", "arches");
            if !here.is_empty() && !here.contains(&machine.into())
                || all("excludes", "arches").contains(&machine.into())
                || !all("includes", "caps").iter().all(|name| granted.contains(name))
                || all("excludes", "caps").iter().any(|name| granted.contains(name))
            {
                continue;
            }
            let mut call = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    call[key] = rule[key].clone();
                }
            }
            calls.push(call);
        }
        json!({
            "defaultAction": profile["defaultAction"], "defaultErrnoRet": 1, "architectures": [architecture],
            "syscalls": calls,
        })
    }
}

/// crun, where the cgroup hierarchy is one that it takes.
fn crun(state: &str, arguments: &[&str]) -> Command {
    let script = "mount --make-rprivate /; umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup && \
                  exec crun --cgroup-manager=disabled \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "crun", "--root", state]).args(arguments);
    command
}

/// A container that was started; removed when dropped.
#[derive(Debug)]
pub struct Container {
    /// crun, which ends with the container and as it ended.
    pub process: Process,
    name: String,
    user: String,
    bundle: tempfile::TempDir,
}

impl Container {
    fn crun(&self, arguments: &[&str]) -> Command {
        crun(self.bundle.path().join("state").to_str().expect("a path in UTF-8"), arguments)
    }

    /// Runs a command in it as its own user, as `kubectl exec` does.
    pub fn exec(&self, arguments: &[&str]) -> Result<String, String> {
        let all = [&["exec", "--user", &self.user, &self.name], arguments].concat();
        let output = self.crun(&all).output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Waits for its end: exit status and the line that says why.
    #[track_caller]
    pub fn refusal(&mut self) -> (Option<i32>, String) {
        let status = self.process.wait(Duration::from_secs(20)).unwrap_or_else(|error| panic!("{error}"));
        let output = self.process.output();
        let mut errors = output.lines().filter(|line| line.starts_with("error: "));
        let line = errors.next().unwrap_or_else(|| panic!("{status}, and no error: {output}")).to_owned();
        assert_eq!(errors.next(), None, "one line: {output}");
        (status.code(), line)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.crun(&["delete", "--force", &self.name]).output();
    }
}
