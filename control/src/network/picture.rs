//! Everything that a network is made of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ringway_shared::network::{Interface, QueueChoice, ReversePath};
use ringway_shared::{InterfaceId, MacAddress, Network};

use super::survey::Survey;

/// Two equal pictures make equal networks.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Picture {
    pub(super) interfaces: Vec<Interface>,
    pub(super) survey: Survey,
    pub(super) reverse_paths: Vec<ReversePath>,
    pub(super) queue_choices: Vec<(u32, QueueChoice)>,
    pub(super) neighbors: Vec<(InterfaceId, IpAddr, MacAddress)>,
    pub(super) unattached: BTreeSet<InterfaceId>,
}

impl Picture {
    /// The network, with the numbers of next hops that `last` has.
    pub(super) fn network(&self, generation: u32, last: Option<&Arc<Network>>) -> Network {
        let Picture { interfaces, survey, reverse_paths, queue_choices, neighbors, unattached } = self;
        let routes = survey.routes.iter().cloned();
        let network = Network::new(generation, interfaces.clone(), routes, neighbors.iter().copied());
        let network = network.with_answers(survey.perspectives.clone(), survey.overlooked.clone().into());
        let network = network.with_reverse_paths(reverse_paths.clone()).with_unattached(unattached.iter().copied());
        let mut network = network.with_queue_choices(queue_choices.clone());
        if let Some(last) = last {
            network.keep_numbers(last);
        }
        network
    }
}
