//! Where objects come from.

pub mod files;
pub mod health;
pub mod kubernetes;
pub mod manifest;
pub mod open;
mod readers;
pub mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch as channel;

use crate::cluster::ClusterState;
use crate::config;
use health::SourceHealth;
use kubernetes::{ConnectError, Connection, Limits, Patience};

/// A source whose description is right; nothing is read yet.
pub enum Source {
    /// Files and folders of manifests.
    Files(Vec<PathBuf>),
    /// The Kubernetes API.
    Kubernetes(Connection),
}

/// A source at work.
pub struct Objects {
    /// The objects. Not to be used before the first full list, which [`SourceHealth::complete`] waits for.
    pub cluster: channel::Receiver<Arc<ClusterState>>,
    /// How the source is doing.
    pub health: SourceHealth,
}

impl Source {
    /// Checks what can be checked without reading objects. Needs a runtime, and asks no server.
    pub async fn open(source: &config::Source) -> Result<Self, ConnectError> {
        Ok(match source {
            config::Source::Files(paths) => Source::Files(paths.clone()),
            config::Source::Kubernetes { kubeconfig, context } => {
                Source::Kubernetes(Connection::open(kubeconfig.as_deref(), context.as_deref()).await?)
            }
        })
    }

    /// Reads the objects, and of the Nodes the one called `node`, until the last receiver is gone.
    pub fn start(self, node: &str) -> io::Result<Objects> {
        Ok(match self {
            Source::Files(paths) => watch::watch(paths)?,
            Source::Kubernetes(connection) => {
                kubernetes::watch(connection, node, Patience::default(), Limits::DEFAULT)?
            }
        })
    }
}
