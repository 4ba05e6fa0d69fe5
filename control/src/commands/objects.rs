//! Services from files, without a running instance: what check, trace and replay start from.

use std::path::PathBuf;

use crate::cluster::ClusterState;
use crate::compile::{CompileOptions, Compiled, Memory, compile};
use crate::config::Config;
use crate::outcome::Failure;
use crate::plain;
use crate::problem::Problem;
use crate::source::files;

/// Objects compiled for the configured node.
pub(super) struct Offline {
    pub(super) cluster: ClusterState,
    pub(super) compiled: Compiled,
}

impl Offline {
    /// Reads `paths`, the arguments of `--objects`: of an object given twice the later one counts.
    pub(super) fn read(paths: &[PathBuf], config: &Config) -> Result<Self, Failure> {
        for path in paths {
            // What is wrong inside is a note; a path that leads nowhere is a mistake on the command line.
            std::fs::metadata(path).map_err(|error| {
                Failure::invalid(format!(
                    "--objects {}: {error}; name a file or a folder of manifests",
                    plain::path(path)
                ))
            })?;
        }
        Ok(Self::compile(files::load(paths).into_cluster(), config))
    }

    /// Compiles `cluster` without asking the kernel for anything.
    pub(super) fn compile(cluster: ClusterState, config: &Config) -> Self {
        let mut options = CompileOptions::from_config(config);
        if let Some(network) = &config.network {
            options.fallback_addresses = network.default_route_addresses();
            options.host_addresses = network.build(1, &config.interfaces).host().clone();
        }
        let compiled = compile(&cluster, &options, &mut Memory::default());
        Offline { cluster, compiled }
    }

    /// Everything that is wrong with files and objects.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.cluster.problems().chain(self.compiled.problems.iter())
    }
}
