//! Endpoints that get no new connections because somebody said so, and not their cluster: `ringway drain`.

pub mod keeper;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What can be drained: an address with all its ports, or one port of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The endpoint's address.
    pub address: IpAddr,
    /// Its port; `None` for all of them.
    pub port: Option<u16>,
}

impl Target {
    /// Whether it means the endpoint with this address and port.
    pub fn means(&self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|own| own == port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

/// A text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no endpoint; write ADDRESS or ADDRESS:PORT, as 10.0.0.1, 10.0.0.1:80, fd00::1 or [fd00::1]:80")]
pub struct NoTarget(String);

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Target { address: address.to_canonical(), port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() != 0 => {
                Ok(Target { address: socket.ip().to_canonical(), port: Some(socket.port()) })
            }
            _ => Err(NoTarget(text.chars().take(80).collect())),
        }
    }
}

/// What is drained at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained(BTreeSet<Target>);

impl FromIterator<Target> for Drained {
    fn from_iter<T: IntoIterator<Item = Target>>(targets: T) -> Self {
        Drained(targets.into_iter().collect())
    }
}

impl Drained {
    /// Whether the endpoint with this address and port is drained.
    pub fn has(&self, address: IpAddr, port: u16) -> bool {
        !self.0.is_empty() && [None, Some(port)].into_iter().any(|port| self.0.contains(&Target { address, port }))
    }

    /// Whether exactly this was asked for.
    pub fn names(&self, target: Target) -> bool {
        self.0.contains(&target)
    }

    /// What is drained of an address.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = &Target> {
        self.0.range(Target { address, port: None }..=Target { address, port: Some(u16::MAX) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn endpoints_are_named_by_address_and_port() {
        for text in ["10.0.0.1", "10.0.0.1:80", "fd00::1", "[fd00::1]:80"] {
            assert_eq!(target(text).to_string(), text);
        }
        assert_eq!(target("::ffff:10.0.0.1").to_string(), "10.0.0.1");
        for text in ["", "web", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.0/24", "[fd00::1]", ":80"] {
            assert!(text.parse::<Target>().unwrap_err().to_string().starts_with(&format!("{text:?} is no endpoint; ")));
        }
    }

    #[test]
    fn an_address_is_drained_with_all_its_ports_and_a_port_alone() {
        let drained: Drained = ["10.0.0.1", "10.0.0.2:80", "fd00::1"].map(target).into_iter().collect();
        let has = |socket: &str| {
            let socket: SocketAddr = socket.parse().unwrap();
            drained.has(socket.ip(), socket.port())
        };
        assert!(has("10.0.0.1:80") && has("10.0.0.1:81") && has("10.0.0.2:80") && has("[fd00::1]:9"));
        assert!(!has("10.0.0.2:81") && !has("10.0.0.3:80") && !has("[fd00::2]:9"));
        assert_eq!(drained.at("10.0.0.2".parse().unwrap()).count(), 1);
        assert_eq!(drained.at("10.0.0.3".parse().unwrap()).count(), 0);
    }
}
