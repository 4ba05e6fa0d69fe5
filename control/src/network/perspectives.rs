//! What policy rules make of packets that come from some networks, or by some interfaces: asked for each of these.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use ringway_shared::Family;
use ringway_shared::network::Perspective;

use super::atoms::{Atom, cut};
use super::questions::Question;
use super::routes::{KernelRoute, Kind};
use super::rules::Rule;
use super::survey::{Asking, MOST_QUESTIONS, Survey, Surveyor, route};

// What the kernel says when it would not take such a packet at all.
const EXDEV: i32 = 18;
const EINVAL: i32 = 22;
const EHOSTUNREACH: i32 = 113;

impl Surveyor<'_, '_> {
    /// What packets see that come from networks, or by interfaces, that rules name.
    pub(super) fn perspectives(
        &mut self,
        rules: &[&Rule],
        from_routes: Vec<IpNet>,
        atoms: &[Atom],
        general: &[KernelRoute],
        survey: &mut Survey,
    ) -> io::Result<()> {
        let family = self.family;
        let named = |name: &str| {
            let mut attached = self.tables.links.iter().filter(|link| self.numbers.contains_key(&link.index));
            name == "lo" || attached.any(|link| *link.name == *name)
        };
        let by_interface = rules.iter().any(|rule| rule.vrf || rule.input.as_deref().is_some_and(named));
        let mut from: Vec<IpNet> = rules.iter().filter_map(|rule| rule.from).chain(from_routes).collect();
        from.sort_unstable();
        from.dedup();
        if !by_interface && from.is_empty() {
            return Ok(());
        }
        let mut inputs: Vec<Option<u32>> = match by_interface {
            true => self.numbers.keys().copied().map(Some).collect(),
            false => vec![None],
        };
        inputs.sort_unstable();
        // An example of each network, and of what lies in none.
        let all = self.everything();
        let origins = cut(from.iter().copied().chain([all]).chain(self.never_asked()));
        let origins: Vec<(Option<IpNet>, IpAddr)> = origins
            .into_iter()
            .filter(|origin| from.contains(&origin.net) || origin.net == all)
            .filter_map(|origin| Some((Some(origin.net).filter(|net| *net != all), origin.example?)))
            .collect();
        let count = inputs.len() * origins.len();
        if count * atoms.len() > MOST_QUESTIONS {
            survey.overlooked.push(format!(
                "{family} policy rules that look at the source or the interface are not followed: {count} combinations of \
                 these and {} prefixes make more than {MOST_QUESTIONS} questions to the kernel",
                atoms.len()
            ));
            return Ok(());
        }
        for input in inputs {
            for (net, example) in &origins {
                if input.is_none() && net.is_none() {
                    continue;
                }
                let (routes, refused) = self.seen_from(atoms, general, input, *net, *example, &from)?;
                if refused {
                    let name = |link: u32| self.tables.links.iter().find(|other| other.index == link);
                    let by =
                        input.and_then(name).map_or(String::new(), |link| format!(" that arrive by {}", link.name));
                    let whom = net.map_or("others".to_owned(), |net| net.to_string());
                    survey.overlooked.push(format!(
                        "{family} policy rules are not followed for packets from {whom}{by}: the kernel does not tell, since \
                         rp_filter or net.ipv4.ip_forward=0 stands in the way"
                    ));
                }
                let routes = self.finish(&routes)?;
                let arrived = input.and_then(|link| self.numbers.get(&link).copied());
                survey.perspectives.push(Perspective { family, arrived, from: *net, routes });
            }
        }
        Ok(())
    }

    /// What such packets see, and whether the kernel did not tell: then they see what all others do.
    fn seen_from(
        &mut self,
        atoms: &[Atom],
        general: &[KernelRoute],
        input: Option<u32>,
        net: Option<IpNet>,
        example: IpAddr,
        others: &[IpNet],
    ) -> io::Result<(Vec<KernelRoute>, bool)> {
        let mut routes: HashMap<IpNet, KernelRoute> = HashMap::new();
        let mut open: Vec<Atom> = atoms.to_vec();
        let mut refused: HashMap<IpNet, i32> = HashMap::new();
        for asking in self.ways_to_ask(input, net, example, others)? {
            let answers = self.answers(&open, asking)?;
            for (net, answer) in answers {
                match answer {
                    // Perhaps it is the question that it does not like, and not the destination.
                    Err(error @ (EXDEV | EINVAL | EHOSTUNREACH)) => {
                        refused.insert(net, error);
                    }
                    answer => {
                        refused.remove(&net);
                        routes.insert(net, route(net, answer.as_ref()));
                    }
                }
            }
            open.retain(|atom| refused.contains_key(&atom.net));
            if open.is_empty() {
                break;
            }
        }
        let leads = |kind: &Kind| matches!(kind, Kind::Ways(_) | Kind::Object(_));
        let nothing = !routes.values().any(|route| leads(&route.kind));
        let silent = nothing && general.iter().any(|route| leads(&route.kind));
        let mut untold = silent;
        for (net, error) in refused {
            let usual = general.iter().find(|route| route.to == net);
            if error == EXDEV || silent {
                untold = true;
                routes.extend(usual.map(|route| (net, route.clone())));
            } else {
                routes.insert(net, route(net, Err(&error)));
            }
        }
        Ok((routes.into_values().collect(), untold))
    }

    /// How to ask about such packets: the kernel tells of a packet of somebody else only if it would take it on that
    /// interface.
    fn ways_to_ask(
        &mut self,
        input: Option<u32>,
        net: Option<IpNet>,
        example: IpAddr,
        others: &[IpNet],
    ) -> io::Result<Vec<Asking>> {
        if self.family == Family::V6 {
            return Ok(vec![Asking { source: net.map(|_| example), input }]);
        }
        let own = |address: IpAddr| self.tables.addresses.iter().any(|other| other.ip() == address);
        match (input, net) {
            (None, _) if own(example) => Ok(vec![Asking { source: Some(example), input: None }]),
            (None, _) => {
                let back = self.asker.ask(&[Question::to(example)])?;
                let back = back.into_iter().flatten().filter_map(|message| KernelRoute::from_answer(&message));
                let links: Vec<u32> =
                    back.flat_map(|route| route.kind.ways(&self.tables.objects)).map(|way| way.link).collect();
                let mut attached: Vec<u32> = self.numbers.keys().copied().collect();
                attached.sort_unstable();
                let inputs = links.into_iter().chain(attached);
                Ok(inputs.map(|link| Asking { source: Some(example), input: Some(link) }).collect())
            }
            (Some(link), Some(_)) => Ok(vec![Asking { source: Some(example), input: Some(link) }]),
            (Some(link), None) => {
                let on_link = self.tables.addresses.iter().filter(|address| address.link == link);
                let near = on_link.filter_map(|address| match address.address {
                    IpNet::V4(v4) => v4.hosts().take(2).map(IpAddr::V4).find(|host| *host != address.ip()),
                    IpNet::V6(_) => None,
                });
                let is_other = |address: &IpAddr| !own(*address) && !others.iter().any(|net| net.contains(address));
                let sources = near.chain([example]).filter(is_other);
                Ok(sources.map(|source| Asking { source: Some(source), input: Some(link) }).collect())
            }
        }
    }
}
