//! Names the commit that a release is built from.
//!
//! Packagers who build from something else than a checkout say it by `RINGWAY_COMMIT`; from a tarball it is not known, and
//! then nothing is said. Other builds say that they are no release, and not their commit: it would make every commit build
//! everything anew.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RINGWAY_COMMIT");
    let version = env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match env::var("RINGWAY_COMMIT") {
        Ok(commit) if !commit.is_empty() => Some(commit),
        _ if is_release => checked_out(),
        _ => Some("debug build".to_owned()),
    };
    let commit = commit.map_or_else(String::new, |commit| format!(" ({commit})"));
    println!("cargo:rustc-env=RINGWAY_VERSION={version}{commit}");
}

/// The commit of the checkout, with `-dirty` when what is built is not what it says.
fn checked_out() -> Option<String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?).join("..").canonicalize().ok()?;
    // A tarball may have been unpacked inside somebody else's repository.
    if Path::new(&git(&root, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()? != root {
        return None;
    }
    let built = ["Cargo.toml", "Cargo.lock", "shared", "dataplane", "control"];
    // The first changes with a checkout, the second with every commit. git says where they are as seen from the root, cargo
    // looks from the package's folder; and what is not there counts for it as changed, every time.
    let mut watched: Vec<PathBuf> = built.iter().map(|path| root.join(path)).collect();
    for file in ["HEAD", "logs/HEAD"] {
        watched.push(root.join(git(&root, &["rev-parse", "--git-path", file])?));
    }
    for path in watched.iter().filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let commit = git(&root, &["rev-parse", "--short=10", "HEAD"])?;
    let status = git(&root, &[&["status", "--porcelain", "--"][..], &built].concat())?;
    Some(if status.is_empty() { commit } else { format!("{commit}-dirty") })
}

fn git(root: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(root).args(arguments).output().ok()?;
    let said = output.status.success().then(|| String::from_utf8(output.stdout).ok())?;
    said.map(|said| said.trim().to_owned())
}
