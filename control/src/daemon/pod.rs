//! Whether this process is in a pod, and whether that pod is in its node's network.

use std::io;
use std::net::{IpAddr, UdpSocket};

use super::error::RunError;
use super::start::there;

/// The environment variable with the address of the node that a pod is on, as the downward API's `status.hostIP` has it.
const HOST_IP: &str = "HOST_IP";

/// Whether the kubelet started this.
pub(super) fn is_pod() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

/// Refuses a pod that sees its own network only, where its manifest tells the node's address: there nothing but its own
/// traffic could ever arrive.
pub(super) fn check() -> Result<(), RunError> {
    let Some(said) = std::env::var(HOST_IP).ok().filter(|said| !said.is_empty()) else { return Ok(()) };
    match said.parse() {
        Ok(address) if is_elsewhere(address) => Err(RunError::OwnNetwork { address: said, there: there() }),
        Ok(_) => Ok(()),
        Err(_) => Err(RunError::NoHostAddress { said }),
    }
}

/// Whether no interface has this address. What else may keep a socket from it says nothing about that.
fn is_elsewhere(address: IpAddr) -> bool {
    matches!(UdpSocket::bind((address, 0)), Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_here_or_elsewhere() {
        assert!(!is_elsewhere([127, 0, 0, 1].into()));
        assert!(is_elsewhere([192, 0, 2, 1].into()));
    }
}
