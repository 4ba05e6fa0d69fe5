//! Helm, which `tests/helm/build.sh` builds, and the chart.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The folder with helm: `RINGWAY_HELM`, or where `tests/helm/build.sh` puts it.
fn folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("RINGWAY_HELM") {
        return folder.into();
    }
    // .../target/debug/deps/THIS-TEST
    let this = std::env::current_exe().expect("our own path");
    this.ancestors().nth(3).expect("a target folder").join("helm/bin")
}

/// Whether helm is built. If not, says so and answers false, or panics where `CI=true`.
#[must_use]
pub fn can_run(test: &str) -> bool {
    let missing = ["helm", "servicemonitors.yaml", "stamp"].map(|file| folder().join(file));
    missing.into_iter().find(|path| !path.exists()).is_none_or(|path| {
        crate::skip(test, &format!("{} is missing; tests/helm/build.sh builds it, and needs Go", path.display()))
    })
}

/// A file of the repository.
pub fn in_repository(file: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file)
}

/// The CRD of the Prometheus operator's ServiceMonitor.
pub fn service_monitor_crd() -> PathBuf {
    folder().join("servicemonitors.yaml")
}

/// Where helm is.
pub fn program() -> PathBuf {
    folder().join("helm")
}

/// Runs helm.
pub fn helm(arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    // Not what the user who runs the tests has configured.
    command.env_clear().env("HOME", "/nonexistent").args(arguments);
    command.output().unwrap_or_else(|error| panic!("helm: {error}"))
}

/// What `helm template` makes of the chart with these arguments.
pub fn template(more: &[&str]) -> Result<String, String> {
    let chart = in_repository("deploy/chart");
    let chart = chart.to_str().expect("a path in UTF-8");
    let output = helm(&[&["template", "ringway", chart, "--namespace", "kube-system"], more].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}
