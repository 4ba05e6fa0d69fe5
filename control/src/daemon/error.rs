//! Why `run` ended other than by a signal.

use std::path::PathBuf;

use ringway_dataplane::af_xdp::program::SteeringError;
use ringway_dataplane::af_xdp::{DeviceError, UmemError};

use super::instance::InstanceError;
use super::limits::LimitTooLow;
use super::placement::PlacementError;
use super::pod;
use super::privileges::MissingPrivileges;
use crate::network::NetworkError;
use crate::source::kubernetes::ConnectError;

/// Why `run` could not start, or had to end. The first line says what is wrong, with the value, and what to do.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum RunError {
    #[error(transparent)]
    Source(#[from] ConnectError),
    #[error("log: {filter:?} is not a filter: {reason}")]
    Log { filter: String, reason: String },
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(transparent)]
    Privileges(#[from] MissingPrivileges),
    #[error(transparent)]
    Limit(#[from] LimitTooLow),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("interfaces[{place}].name: there is no interface {name}; `ip link` lists those there are{}{}", listed(.there), hint())]
    NoInterface { place: usize, name: String, there: Vec<String> },
    #[error("interfaces[{place}].name: {name} {why}")]
    Unfit { place: usize, name: String, why: String },
    #[error(
        "this pod is not in its node's network: the node's address {address} (HOST_IP) is on none of its interfaces{}; set \
         hostNetwork: true in the pod", listed(.there)
    )]
    OwnNetwork { address: String, there: Vec<String> },
    #[error(
        "the environment variable HOST_IP is {said:?}, which is no address; set it from status.hostIP, or leave it out"
    )]
    NoHostAddress { said: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{}{}", .0, hint_about(.0))]
    Placement(#[from] PlacementError),
    #[error("snat.ports: {workers} workers need at least one port each, and {ports} are too few; add some")]
    TooFewPorts { workers: usize, ports: String },
    #[error(transparent)]
    Steering(#[from] SteeringError),
    #[error("{interface}: {reason}")]
    Attach { interface: String, reason: String },
    #[error(transparent)]
    Umem(#[from] UmemError),
    #[error("{key}: cannot listen on {address}: {error}; {remedy}", remedy = listen_remedy(.error))]
    Listen { key: &'static str, address: String, error: std::io::Error },
    #[error("{key}: it stays where it was, and does not move to {address}, since {other} does not move either")]
    StaysTogether { key: &'static str, address: String, other: &'static str },
    #[error("admin.socket: cannot make {}: {error}{}", crate::plain::path(path), socket_remedy(.error))]
    AdminSocket { path: PathBuf, error: std::io::Error },
    #[error("worker {0} ended by itself; this is a defect, see the log")]
    WorkerDied(u16),
    #[error("cannot start {what}: {error}")]
    Start { what: &'static str, error: std::io::Error },
}

impl RunError {
    /// Whether somebody else listens there.
    pub fn is_address_in_use(&self) -> bool {
        matches!(self, RunError::Listen { error, .. } if error.kind() == std::io::ErrorKind::AddrInUse)
    }

    /// Whether a value of the configuration is wrong for this machine: exit status 2, else 1.
    pub fn is_configuration(&self) -> bool {
        match self {
            RunError::Source(error) => error.is_configuration(),
            RunError::Log { .. }
            | RunError::NoInterface { .. }
            | RunError::Unfit { .. }
            | RunError::Placement(_)
            | RunError::TooFewPorts { .. } => true,
            _ => false,
        }
    }

    /// Whether a file is in the way that another user could have.
    pub(super) fn is_denied(&self) -> bool {
        let (RunError::Instance(InstanceError::Unusable { error, .. }) | RunError::AdminSocket { error, .. }) = self
        else {
            return false;
        };
        error.kind() == std::io::ErrorKind::PermissionDenied
    }

    /// What could not be started.
    pub(super) fn start(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| RunError::Start { what, error }
    }
}

/// What may explain that an interface is not there.
fn hint() -> &'static str {
    if pod::is_pod() { "; a pod sees those of its node with hostNetwork: true only" } else { "" }
}

fn hint_about(error: &PlacementError) -> &'static str {
    if matches!(error, PlacementError::NoInterface) { hint() } else { "" }
}

fn listed(there: &[String]) -> String {
    if there.is_empty() { String::new() } else { format!(" ({})", there.join(", ")) }
}

/// Messages of our own say what to do already.
fn socket_remedy(error: &std::io::Error) -> &'static str {
    if error.raw_os_error().is_some() { "; set a path in a folder that can be written to" } else { "" }
}

fn listen_remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "another process has it (ss -ltnp): stop that one, or set another address, or off"
        }
        _ => "set another address, or off",
    }
}
