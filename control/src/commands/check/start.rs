//! What `check` says of a start on this machine.

use std::fmt;
use std::net::IpAddr;

use ringway_shared::Network;
use serde::Serialize;

use crate::commands::ask::{self, Instance};
use crate::commands::config_file::ConfigFile;
use crate::config::Config;
use crate::daemon::{Outlook, Predecessor};
use crate::network::listing;
use crate::plain;
use crate::report::status::StatusReport;

/// Whether `run` would start here.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Start {
    /// Whether this machine was looked at.
    tested: bool,
    /// Why `run` would not start here.
    pub(super) unmet: Vec<String>,
    /// What was not tested, and why.
    untested: Vec<String>,
    /// What `run` would go on without.
    #[serde(skip)]
    pub(super) notes: Vec<String>,
}

impl Start {
    /// Looks at this machine.
    pub(super) fn here(config: &Config) -> Self {
        let Outlook { unmet, notes, untested } = Outlook::of(config, predecessor(config).as_ref());
        Start { tested: true, unmet, untested, notes }
    }

    /// Tells whether an address is the node's, by the described network or this machine's. What was not looked at has
    /// whatever is asked for: nothing can be said against it.
    pub(super) fn is_local(&self, network: Option<&Network>) -> impl Fn(IpAddr) -> bool {
        let here = if self.tested { listing::addresses().ok() } else { None };
        move |address| match (network, &here) {
            (Some(network), _) => network.is_local(address),
            (None, Some(here)) => here.contains(&address),
            (None, None) => true,
        }
    }

    /// This machine was not looked at.
    pub(super) fn untested(why: &str) -> Self {
        Start { untested: vec![format!("anything of this machine: {why}")], ..Start::default() }
    }
}

/// The instance that answers on the admin socket.
pub(in crate::commands) fn predecessor(config: &Config) -> Option<Predecessor> {
    let socket = &config.admin.socket;
    // A socket that nobody listens on is what a killed process leaves.
    let denied = |error: &std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
    match std::os::unix::net::UnixStream::connect(socket) {
        Ok(_) => {}
        Err(error) if denied(&error) => return Some(Predecessor::default()),
        Err(_) => return None,
    }
    let status = Instance::new(ConfigFile::default(), Some(socket.clone())).get("/status");
    let status: Option<StatusReport> = status.and_then(|answer| ask::read(&answer)).ok();
    let devices = status.map(|status| {
        let lowers = status.interfaces.into_iter().flat_map(|interface| interface.lowers);
        lowers.filter(|lower| lower.mode.is_some()).map(|lower| lower.name).collect()
    });
    Some(Predecessor { devices })
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tested {
            let verdict = match &self.unmet[..] {
                [] => "nothing that was tested here is in its way".to_owned(),
                [why] => format!("ringway run would not start here: {}", plain::line(why)),
                several => format!("ringway run would not start here, for {} reasons", several.len()),
            };
            writeln!(f, "{:<12} {verdict}", "start")?;
        }
        for (at, untested) in self.untested.iter().enumerate() {
            let heading = if at == 0 { "not tested" } else { "" };
            writeln!(f, "{heading:<12} {}", plain::line(untested))?;
        }
        Ok(())
    }
}
