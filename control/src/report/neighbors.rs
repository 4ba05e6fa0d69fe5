//! Neighbours as `status` shows them: how many there are, and who does not answer.

use serde::{Deserialize, Serialize};

/// What Ringway knows of the kernel's neighbour tables and asks of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NeighborReport {
    /// Neighbours with a MAC address.
    pub known: usize,
    /// How many of these gave way since the start, because there were too many.
    pub known_gave_way: u64,
    /// Next hops that workers asked for and that wait to be asked.
    pub waiting: usize,
    /// Those that the kernel is asking for.
    pub asked: usize,
    /// Questions of workers since the start that were not asked, because there were too many.
    pub questions_gave_way: u64,
    /// Questions of workers since the start that nobody answered.
    pub unanswered: u64,
    /// Who did not answer the last of these.
    pub last_unanswered: Option<String>,
    /// Next hops of endpoints, routers and clients in use that do not answer: the first hundred.
    pub silent: Vec<SilentReport>,
    /// How many these are.
    pub silent_count: usize,
}

/// A next hop that does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SilentReport {
    /// Its address.
    pub next_hop: String,
    /// The interface that it is looked for on.
    pub interface: String,
    /// `endpoints`, `router` or `client`.
    pub role: String,
    /// Seconds since the kernel gave up for the first time.
    pub seconds: u64,
}

impl SilentReport {
    /// What is wrong, in words.
    pub fn sentence(&self) -> String {
        let SilentReport { next_hop, interface, role, seconds } = self;
        let who = match &**role {
            "endpoints" => "endpoints are behind it",
            "router" => "routes lead by it",
            // A client mostly; or an endpoint whose route is another one now.
            _ => "packets went there lately",
        };
        let word = if next_hop.contains(':') { "neighbour discovery" } else { "ARP" };
        format!(
            "next hop {next_hop} on {interface} ({who}) has not answered {word} for {seconds} s; packets that \
             have no other way are dropped as neighbor_unresolved until it does"
        )
    }
}
