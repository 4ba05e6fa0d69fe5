//! File descriptors: what strangers may make us open leaves enough for what we need ourselves.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::door::guests::Room;

/// What Ringway itself needs: sockets, rings and TAP devices of the workers, netlink, files, the API server.
const OWN: u64 = 512;
/// Connections to the admin socket. Only root comes there.
const ADMIN: u64 = 64;
/// The most connections of strangers, however many descriptors there are.
const STRANGERS: u64 = 1024;
/// The most of them at one door.
const AT_ONE_DOOR: u64 = 256;
/// The fewest connections and healthCheckNodePorts, however few descriptors there are.
const FEWEST: u64 = 16;

/// With fewer descriptors some may have to do without an answer.
const ENOUGH: u64 = 1024;

/// What others may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Connections to the health checks, the healthCheckNodePorts and the metrics.
    pub(super) strangers: Room,
    /// Connections to the admin socket.
    pub(super) admin: Room,
    /// healthCheckNodePorts, each family on its own.
    pub(super) node_ports: usize,
}

/// Raises the limit as far as it goes, and shares out what there is.
pub(super) fn share() -> Shares {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    let limit = if raised { maximum } else { current }.unwrap_or(u64::MAX);
    if limit < ENOUGH {
        tracing::warn!(
            "the limit of open files is {limit}, so few may ask at once; raise it to {ENOUGH} or more (ulimit -n, LimitNOFILE)"
        );
    }
    shares(limit)
}

fn shares(limit: u64) -> Shares {
    // Half for connections, half for doors.
    let half = limit.saturating_sub(OWN + ADMIN) / 2;
    let connections = half.clamp(FEWEST, STRANGERS);
    let strangers = Room {
        at_one_door: connections.div_ceil(2).min(AT_ONE_DOOR) as usize,
        in_all: connections as usize,
        silent: Duration::from_secs(10),
        asked: Duration::from_secs(10),
    };
    let admin = Room {
        at_one_door: ADMIN as usize,
        in_all: ADMIN as usize,
        silent: Duration::from_secs(60),
        asked: Duration::from_secs(60),
    };
    Shares { strangers, admin, node_ports: half.clamp(FEWEST, 1 << 17) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_never_take_what_we_need_ourselves() {
        for (limit, connections, at_one_door, node_ports) in
            [(1024, 224, 112, 224), (20_000, 1024, 256, 9_712), (u64::MAX, 1024, 256, 1 << 17), (64, 16, 8, 16)]
        {
            let shares = shares(limit);
            let Room { in_all, at_one_door: one, .. } = shares.strangers;
            assert_eq!((in_all, one, shares.node_ports), (connections, at_one_door, node_ports), "{limit}");
            let taken = in_all + shares.node_ports + shares.admin.in_all;
            assert!(limit < OWN || taken as u64 + OWN <= limit, "{limit}: {taken}");
        }
    }
}
