//! What is said to publishing, at the start and later: by the configuration, and by who drains endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::compile::CompileOptions;
use crate::drain::Drained;

/// What publishing needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What compile needs besides the objects.
    pub compile: CompileOptions,
    /// `snat.addresses`.
    pub snat_addresses: Vec<IpAddr>,
}

/// Settings that take the place of those of the start.
#[derive(Clone, Debug)]
pub struct Resetting {
    /// Which ones, for [`super::Published::settings`].
    pub number: u64,
    /// The settings.
    pub options: PublishOptions,
}

/// What is said while it publishes.
pub(super) struct Orders {
    pub(super) resettings: watch::Receiver<Option<Resetting>>,
    pub(super) drained: watch::Receiver<Arc<Drained>>,
}

impl Orders {
    /// Nobody says anything.
    pub(super) fn none() -> Self {
        Orders { resettings: watch::channel(None).1, drained: watch::channel(Arc::default()).1 }
    }

    /// Waits until something is said.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.resettings.changed() => {}
            Ok(()) = self.drained.changed() => {}
            else => std::future::pending().await,
        }
    }
}
