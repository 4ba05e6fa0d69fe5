//! What the configuration says to publishing, at the start and later.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::compile::CompileOptions;

/// What publishing needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What compile needs besides the objects.
    pub compile: CompileOptions,
    /// `snat.addresses`.
    pub snat_addresses: Vec<IpAddr>,
    /// `snat.ports`.
    pub snat_ports: RangeInclusive<u16>,
}

/// Settings that take the place of those of the start.
#[derive(Clone, Debug)]
pub struct Resetting {
    /// Which ones, for [`super::Published::settings`].
    pub number: u64,
    /// The settings; `snat_ports` stay as they were.
    pub options: PublishOptions,
}
