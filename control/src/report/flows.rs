//! `flows`: the connections that workers track now.

use std::net::{IpAddr, SocketAddr};

use ringway_dataplane::clock::Time;
use ringway_dataplane::flow::{Direction, Flow, State};
use ringway_shared::{Protocol, Services};
use serde::{Deserialize, Serialize};

/// Flows that are shown unless more are asked for.
const LIMIT: usize = 1_000;

/// Which flows are asked for. Everything that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowFilter {
    /// `NAMESPACE/NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The VIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// The endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<IpAddr>,
    /// One of `tcp`, `udp` and `sctp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The state, as flows show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How many at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// The answer of `flows`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowsReport {
    /// Flows in the tables, whether they are shown or not.
    pub total: u64,
    /// There are more that match.
    pub truncated: bool,
    /// The flows.
    pub flows: Vec<FlowReport>,
}

/// One flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowReport {
    /// The worker that owns it.
    pub worker: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// `IP:PORT` of the client.
    pub client: String,
    /// `IP:PORT` that it asked for.
    pub frontend: String,
    /// `IP:PORT` that the endpoint sees as the client.
    pub source: String,
    /// `IP:PORT` of the endpoint.
    pub endpoint: String,
    /// `NAMESPACE/NAME`, while the Service exists.
    pub service: Option<String>,
    /// The name of the Service's port, while it exists.
    pub service_port: Option<String>,
    /// The state.
    pub state: String,
    /// Whether the source address was rewritten.
    pub masquerade: bool,
    /// Packets from the client, modulo 2^32.
    pub packets: u32,
    /// Packets from the endpoint, modulo 2^32.
    pub replies: u32,
    /// Milliseconds since the last packet.
    pub idle_millis: u32,
}

/// What the next packet of a flow's client leads to (rule 21 of the Service semantics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the endpoint.
    GoesOn,
    /// The endpoint or the frontend is gone: the client is told.
    Reset,
    /// They are gone, and it is decided about like the first of a connection.
    DecidedAnew,
    /// Nothing that is Ringway's has this destination any more, so no worker sees it.
    Unseen,
}

impl Fate {
    /// The fate of `flow`. `is_passed`: a new connection to its frontend would be the kernel's.
    pub fn of(flow: &Flow, services: &Services, is_passed: bool) -> Self {
        if flow.is_direct() {
            return Fate::GoesOn;
        }
        let (original, reply) = (flow.original(), flow.reply());
        let target = services.find(&original.frontend());
        match target.and_then(|target| target.service_port.member(reply.source_address(), reply.source_port())) {
            Some(_) => Fate::GoesOn,
            None if is_passed => Fate::Unseen,
            None if original.protocol() == Protocol::Tcp => Fate::Reset,
            None => Fate::DecidedAnew,
        }
    }
}

/// The protocols that flows have.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// A protocol to filter by; a word that no flow has is refused.
pub fn protocol(text: &str) -> Result<String, String> {
    one_of("protocol", text, &PROTOCOLS)
}

/// A state to filter by; a word that no flow has is refused.
pub fn state(text: &str) -> Result<String, String> {
    one_of("state", text, &State::LABELS)
}

/// A Service to filter by, `NAMESPACE/NAME`.
pub fn service(text: &str) -> Result<String, String> {
    match text.split('/').collect::<Vec<_>>()[..] {
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no Service; write NAMESPACE/NAME")),
    }
}

fn one_of(what: &str, text: &str, allowed: &[&str]) -> Result<String, String> {
    if allowed.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no {what} of a flow; allowed are {}", allowed.join(", ")))
}

impl FlowFilter {
    /// What is wrong with it: what no flow can ever match would look like an answer.
    pub fn check(&self) -> Result<(), String> {
        type Check = fn(&str) -> Result<String, String>;
        let checks: [(&str, &Option<String>, Check); 3] = [
            ("service", &self.service, service),
            ("protocol", &self.protocol, protocol),
            ("state", &self.state, state),
        ];
        for (key, value, check) in checks {
            if let Some(value) = value {
                check(value).map_err(|why| format!("{key}: {why}"))?;
            }
        }
        Ok(())
    }

    /// How many flows are wanted.
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT)
    }

    /// Whether a flow is asked for.
    pub fn matches(&self, flow: &Flow, services: &Services) -> bool {
        let (original, reply) = (flow.original(), flow.reply());
        let is = |wanted: &Option<IpAddr>, found: IpAddr| wanted.is_none_or(|wanted| wanted == found);
        let says = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.client, original.source_address())
            && is(&self.vip, original.destination_address())
            && is(&self.endpoint, reply.source_address())
            && says(&self.protocol, &original.protocol().to_string())
            && says(&self.state, flow.state().label())
            && self.service.as_ref().is_none_or(|wanted| {
                let port = services.service_port(flow.service_port());
                port.is_some_and(|port| port.service.to_string() == *wanted)
            })
    }
}

impl FlowReport {
    /// What `trace` says about it: it, and not the decision about a new connection, says where its packets go.
    pub fn sentence(&self, fate: Fate) -> String {
        let FlowReport { worker, state, client, endpoint, source, .. } = self;
        let whose = format!("client {client}, endpoint {endpoint}, source {source}");
        match fate {
            Fate::GoesOn => {
                format!("But worker {worker} already has a flow ({state}) for it, which goes on as it is: {whose}.")
            }
            Fate::Reset => format!(
                "But worker {worker} has a flow ({state}) for it, whose endpoint or port is gone, so its next packet is \
                 answered with a RST: {whose}."
            ),
            Fate::DecidedAnew => format!(
                "Worker {worker} has a flow ({state}) for it, whose endpoint or port is gone, so its next packet is decided \
                 about like this: {whose}."
            ),
            Fate::Unseen => format!(
                "Worker {worker} still has a flow ({state}) for it, but the kernel gets its packets, too: {whose}."
            ),
        }
    }

    /// A flow of `worker`, whose clock shows `now`.
    pub fn of(worker: u16, flow: &Flow, services: &Services, now: Time) -> Self {
        let (original, reply) = (flow.original(), flow.reply());
        let socket = |address, port| SocketAddr::new(address, port).to_string();
        let port = services.service_port(flow.service_port());
        FlowReport {
            worker,
            protocol: original.protocol().to_string(),
            client: socket(original.source_address(), original.source_port()),
            frontend: socket(original.destination_address(), original.destination_port()),
            source: socket(reply.destination_address(), reply.destination_port()),
            endpoint: socket(reply.source_address(), reply.source_port()),
            service: port.map(|port| port.service.to_string()),
            service_port: port.map(|port| port.port_name.to_string()),
            state: flow.state().label().to_owned(),
            masquerade: flow.masquerade(),
            packets: flow.packets(Direction::Original),
            replies: flow.packets(Direction::Reply),
            idle_millis: flow.idle(now.millis()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_flow_can_match_is_refused_with_what_is_allowed() {
        let refused = |filter: FlowFilter| filter.check().unwrap_err();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            refused(FlowFilter { state: text("bogus"), ..FlowFilter::default() }),
            "state: \"bogus\" is no state of a flow; allowed are synSent, synReceived, pickedUp, established, oneWay, \
             closing, closed, unreplied, replied"
        );
        assert_eq!(
            refused(FlowFilter { protocol: text("TCP"), ..FlowFilter::default() }),
            "protocol: \"TCP\" is no protocol of a flow; allowed are tcp, udp, sctp"
        );
        for service in ["web", "/web", "shop/", "shop/web/http", ""] {
            let said = refused(FlowFilter { service: text(service), ..FlowFilter::default() });
            assert_eq!(said, format!("service: {service:?} is no Service; write NAMESPACE/NAME"));
        }
        let right =
            FlowFilter { state: text("replied"), protocol: text("udp"), service: text("a/b"), ..FlowFilter::default() };
        assert_eq!(right.check(), Ok(()));
    }
}
