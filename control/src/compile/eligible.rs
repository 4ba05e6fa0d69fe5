//! Which endpoints a connection may go to: rules 2, 4, 10 to 13, 24 and 25.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::Family;
use ringway_shared::endpoint::{EndpointState, Exclusion};

use super::NodeFacts;
use crate::parse::service::Port;
use crate::parse::{EndpointSlice, Service, SliceEndpoint, SlicePort};

/// An endpoint of one service port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'s> {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) endpoint: &'s SliceEndpoint,
    pub(super) slice: &'s EndpointSlice,
    /// Its share of new flows in relation to the others.
    pub(super) weight: u16,
    /// By command.
    pub(super) drained: bool,
    /// The name that the slice gives the port, where the Service has no port of that name.
    pub(super) stray: Option<&'s Arc<str>>,
}

impl Candidate<'_> {
    /// Rule 25: a drained endpoint is as if it were terminating. One that was no choice does not become one: where it was
    /// not terminating, it serves if it was ready.
    fn state(&self) -> EndpointState {
        let EndpointState { ready, serving, terminating } = self.endpoint.state;
        match self.drained {
            true => {
                EndpointState { ready: false, serving: if terminating { serving } else { ready }, terminating: true }
            }
            false => EndpointState { ready, serving, terminating },
        }
    }

    fn is_ready(&self) -> bool {
        self.state().ready
    }

    fn is_fallback(&self) -> bool {
        self.state().serving && self.state().terminating
    }
}

/// The ports of a slice that no port of the Service is named like.
///
/// A port that is renamed has the new name in the Service first and in its slices a moment later. In between nobody may
/// choose the endpoints of such a port, but flows keep them: they are strays among the candidates of the ports that the
/// slice says nothing about.
pub(super) fn strays<'s>(slice: &'s EndpointSlice, service: &Service) -> Vec<&'s SlicePort> {
    let own =
        |port: &&SlicePort| service.ports.iter().any(|own| (own.protocol, &own.name) == (port.protocol, &port.name));
    slice.ports.iter().filter(|port| !own(port)).collect()
}

/// At least as many as the candidates of all ports of a Service are together.
pub(super) fn crowd(slices: &[(&EndpointSlice, Vec<&SlicePort>)], service: &Service) -> usize {
    let of_port = |wanted: &Port| -> usize {
        let of_slice = |(slice, strays): &(&EndpointSlice, Vec<&SlicePort>)| {
            let own = slice.ports.iter().filter(|port| port.protocol == wanted.protocol && port.name == wanted.name);
            own.count().max(strays.len()) * slice.endpoints.len()
        };
        slices.iter().map(of_slice).sum()
    };
    service.ports.iter().map(of_port).fold(0, usize::saturating_add)
}

/// The endpoints that slices, each with its strays, give a service port (rule 2), each address and port once, sorted.
pub(super) fn candidates<'s>(
    slices: &[(&'s EndpointSlice, Vec<&'s SlicePort>)],
    family: Family,
    wanted: &Port,
    facts: &NodeFacts,
) -> Vec<Candidate<'s>> {
    let mut all = Vec::new();
    for (slice, strays) in slices.iter().filter(|(slice, _)| slice.family == family) {
        let mut add = |port: &SlicePort, stray: Option<&'s Arc<str>>| {
            all.extend(slice.endpoints.iter().map(|endpoint| Candidate {
                address: endpoint.address,
                port: port.port,
                endpoint,
                slice,
                weight: facts.weights.of(endpoint.node.as_deref(), endpoint.zone.as_deref()),
                drained: facts.drained.has(endpoint.address, port.port),
                stray,
            }));
        };
        let mut is_known = false;
        for port in slice.ports.iter().filter(|port| port.protocol == wanted.protocol && port.name == wanted.name) {
            is_known = true;
            add(port, None);
        }
        for port in strays.iter().filter(|port| !is_known && port.protocol == wanted.protocol) {
            add(port, Some(&port.name));
        }
    }
    // Of the same address and port the one that is not terminating wins. Beyond that the rules leave it open: the more
    // useful one, then the first slice by name, so that every node decides alike.
    all.sort_by_key(|candidate| {
        let state = candidate.endpoint.state;
        let elsewhere = !is_here(candidate, facts);
        let stray = candidate.stray.is_some();
        (candidate.address, candidate.port, stray, state.terminating, !state.ready, !state.serving, elsewhere)
    });
    all.dedup_by_key(|candidate| (candidate.address, candidate.port));
    all
}

/// The sets of one service port.
#[derive(Debug)]
pub(super) struct Eligibility {
    /// Why each candidate is not in the cluster set; `None` when it is.
    pub(super) cluster: Vec<Option<Exclusion>>,
    /// Why each candidate is not in the local set; `None` when it is.
    pub(super) local: Vec<Option<Exclusion>>,
    /// Rule 13: some endpoint exists, be it eligible or not.
    pub(super) exists: bool,
}

/// Rules 10 to 13 for these candidates.
pub(super) fn eligibility(candidates: &[Candidate<'_>], facts: &NodeFacts) -> Eligibility {
    // An endpoint that cannot be forwarded to is none of those to choose from, but it exists. A stray does not.
    let refusals: Vec<_> = candidates.iter().map(|candidate| refusal(candidate, facts)).collect();
    let usable = || candidates.iter().zip(&refusals).filter(|(_, refusal)| refusal.is_none()).map(|(c, _)| c);
    let some_ready = usable().any(Candidate::is_ready);
    let ready_here = usable().any(|candidate| candidate.is_ready() && is_here(candidate, facts));
    let hint = Hint::of(usable().filter(|candidate| candidate.is_ready()), facts);
    let exclusion = |candidate: &Candidate<'_>, ready_wins: bool| match (ready_wins, candidate.is_ready()) {
        (true, true) => None,
        (false, _) if candidate.is_fallback() => None,
        (true, false) if candidate.is_fallback() && candidate.drained => Some(Exclusion::Drained),
        (true, false) if candidate.is_fallback() => Some(Exclusion::Terminating),
        _ => Some(Exclusion::NotReady),
    };
    // Without any ready endpoint there is no hint, so the fallback is never filtered.
    let cluster = candidates.iter().zip(&refusals).map(|(candidate, refusal)| {
        let excluded = refusal.clone().or_else(|| exclusion(candidate, some_ready));
        excluded.or_else(|| hint.exclusion(candidate, facts))
    });
    let local = candidates.iter().zip(&refusals).map(|(candidate, refusal)| {
        if !is_here(candidate, facts) && candidate.stray.is_none() {
            return Some(Exclusion::OtherNode(candidate.endpoint.node.clone()));
        }
        refusal.clone().or_else(|| exclusion(candidate, ready_here))
    });
    Eligibility {
        cluster: weighed(candidates, cluster.collect()),
        local: weighed(candidates, local.collect()),
        exists: candidates.iter().any(|c| c.stray.is_none() && (c.is_ready() || c.is_fallback())),
    }
}

/// Rule 24: who has no weight is in no set, unless nobody else is.
fn weighed(candidates: &[Candidate<'_>], mut set: Vec<Option<Exclusion>>) -> Vec<Option<Exclusion>> {
    let is_in =
        |(candidate, excluded): (&Candidate<'_>, &Option<Exclusion>)| excluded.is_none() && candidate.weight > 0;
    if candidates.iter().zip(&set).any(is_in) {
        let weightless = candidates.iter().zip(&mut set).filter(|(candidate, _)| candidate.weight == 0);
        weightless.for_each(|(_, excluded)| *excluded = excluded.take().or(Some(Exclusion::Weightless)));
    }
    set
}

fn is_here(candidate: &Candidate<'_>, facts: &NodeFacts) -> bool {
    candidate.endpoint.node.as_ref() == Some(&facts.name)
}

fn refusal(candidate: &Candidate<'_>, facts: &NodeFacts) -> Option<Exclusion> {
    if let Some(name) = candidate.stray {
        return Some(Exclusion::OtherPortName(name.clone()));
    }
    facts.owns(candidate.address).then(|| {
        Exclusion::Refused("it has one of this node's own addresses, which this version does not forward to".into())
    })
}

/// Rule 11: the filter that the hints of the ready endpoints make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    None,
    Node,
    Zone,
}

impl Hint {
    fn of<'c, 's: 'c>(ready: impl Iterator<Item = &'c Candidate<'s>> + Clone, facts: &NodeFacts) -> Self {
        if ready.clone().all(|candidate| !candidate.endpoint.node_hints.is_empty())
            && ready.clone().any(|candidate| names_node(candidate, facts))
        {
            Hint::Node
        } else if ready.clone().all(|candidate| !candidate.endpoint.zone_hints.is_empty())
            && ready.clone().any(|candidate| names_zone(candidate, facts))
        {
            Hint::Zone
        } else {
            Hint::None
        }
    }

    fn exclusion(self, candidate: &Candidate<'_>, facts: &NodeFacts) -> Option<Exclusion> {
        match self {
            Hint::Node if !names_node(candidate, facts) => Some(Exclusion::OtherNodeHint),
            Hint::Zone if !names_zone(candidate, facts) => Some(Exclusion::OtherZoneHint),
            Hint::None | Hint::Node | Hint::Zone => None,
        }
    }
}

fn names_node(candidate: &Candidate<'_>, facts: &NodeFacts) -> bool {
    candidate.endpoint.node_hints.contains(&facts.name)
}

fn names_zone(candidate: &Candidate<'_>, facts: &NodeFacts) -> bool {
    facts.zone.as_ref().is_some_and(|zone| candidate.endpoint.zone_hints.contains(zone))
}
