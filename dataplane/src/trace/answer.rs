//! The answer to a question about a packet, and how it is written.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceVerdict {
    /// It goes to the chosen endpoint.
    Forward,
    /// It is dropped in silence.
    Drop,
    /// It is dropped and the client is told.
    Reject,
    /// The kernel gets it untouched.
    Pass,
    /// A ping: it is answered in the address's name.
    Reply,
}

/// An endpoint that is not eligible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excluded {
    /// `IP:PORT`.
    pub endpoint: String,
    /// `NAMESPACE/NAME` of the EndpointSlice that names it.
    pub slice: String,
    /// The number of the Service rule that takes it out.
    pub rule: u8,
    /// Why not.
    pub why: String,
}

/// The Maglev slot that chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its number.
    pub slot: usize,
    /// How many there are.
    pub slots: usize,
}

/// Where the packet leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The interface.
    pub interface: String,
    /// The next hop's MAC address.
    pub next_hop_mac: String,
    /// The largest IP packet that the way carries.
    pub mtu: u32,
}

/// The answer for one packet. Its JSON form is a documented interface; keys are only ever added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The packet as it was asked for.
    pub packet: String,
    /// Its fate.
    pub verdict: TraceVerdict,
    /// The drop reason's label, for drop and reject.
    pub reason: Option<String>,
    /// `NAMESPACE/NAME` of the Service.
    pub service: Option<String>,
    /// The name of the Service's port; empty when it has none.
    pub service_port: Option<String>,
    /// Through which kind of address the Service was asked for.
    pub matched: Option<String>,
    /// Where a new connection may go, sorted; empty unless forwarded.
    pub eligible: Vec<String>,
    /// Where this one goes.
    pub chosen: Option<String>,
    /// Whether the source is rewritten on the way to the chosen endpoint.
    pub masquerade: bool,
    /// How it gets there: `nat`, `dsr-l2` or `dsr-ipip`.
    #[serde(default)]
    pub forwarding: Option<String>,
    /// The traffic policy that was applied.
    pub policy: Option<String>,
    /// The Service's other endpoints, each with the reason.
    pub excluded: Vec<Excluded>,
    /// The Maglev slot.
    pub maglev: Option<Slot>,
    /// The source address after masquerade, when the network is known and leaves no choice.
    pub snat_address: Option<IpAddr>,
    /// Where the packet leaves, when the network is known.
    pub adjacency: Option<Exit>,
    /// Where the client is moved if the chosen endpoint does not answer its first packet.
    #[serde(default)]
    pub rescue: Option<String>,
    /// The decision step by step, one sentence each.
    pub steps: Vec<String>,
}

impl fmt::Display for Trace {
    /// For a person: the answer first, then the steps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.packet)?;
        match (self.verdict, &self.chosen, self.reason.as_deref()) {
            (TraceVerdict::Forward, Some(chosen), _) => {
                let source = if self.masquerade { "masqueraded" } else { "source kept" };
                write!(f, "  FORWARD to {chosen} of {}, {source}", self.service.as_deref().unwrap_or_default())?;
                match self.forwarding.as_deref() {
                    None | Some("nat") => {}
                    Some(dsr) => write!(f, ", by {dsr}")?,
                }
            }
            (TraceVerdict::Forward, None, _) => f.write_str("  FORWARD")?,
            (TraceVerdict::Reply, ..) => f.write_str("  REPLY")?,
            (TraceVerdict::Pass, ..) => f.write_str("  PASS to the kernel")?,
            (TraceVerdict::Drop, _, reason) => write!(f, "  DROP {}", reason.unwrap_or_default())?,
            (TraceVerdict::Reject, _, reason) => write!(f, "  REJECT {}", reason.unwrap_or_default())?,
        }
        for (at, step) in (1..).zip(&self.steps) {
            write!(f, "\n  {at:>2}. {step}")?;
        }
        Ok(())
    }
}
