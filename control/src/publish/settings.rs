//! What the configuration says to publishing, at the start and later.

use std::net::IpAddr;

use crate::compile::CompileOptions;

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
