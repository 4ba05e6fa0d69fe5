//! A folder with a configuration and objects, and `ringway` run in it.
// Not every test file that takes this module uses all of it.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

/// Files in a folder of their own, and the command that is run in it.
pub(crate) struct Bed(tempfile::TempDir);

impl Bed {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Bed(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command.args(arguments).current_dir(self.path()).env_remove("KUBERNETES_SERVICE_HOST");
        told(command.output().unwrap())
    }
}

pub(crate) fn told(output: Output) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let status = output.status.code().unwrap();
    format!("exit status {status}\n--- stdout\n{}--- stderr\n{}", text(output.stdout), text(output.stderr))
}

/// A configuration with `more` lines at its end.
pub(crate) fn config(more: &str) -> String {
    format!(
        "nodeName: gw-1\nsource: {{files: objects}}\nnode: {{addresses: [192.168.0.2]}}\ninterfaces: [{{name: eth0}}]\n\
         network:\n  interfaces: [{{name: eth0, mac: \"02:00:00:00:00:01\", addresses: [192.168.0.2/24]}}]\n{more}"
    )
}

pub(crate) const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {namespace: ns1, name: svc1}\nspec:\n  clusterIP: \
                       172.30.0.41\n  clusterIPs: [172.30.0.41]\n  ports: [{name: p80, port: 80}]\n";

pub(crate) fn check(config: &str) -> String {
    Bed::new(&[("gw.yaml", config), ("objects/svc1.yaml", SERVICE)]).run(&["check", "--config", "gw.yaml"])
}
