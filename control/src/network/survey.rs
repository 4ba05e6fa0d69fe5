//! The routes of the packet path, as the kernel answers for them.
//!
//! Where a packet goes is asked, with [`Question`]s like those of `ip route get`, and not looked up in tables by rules of our
//! own. One question is enough for all addresses of an [`Atom`]: no prefix of any table or rule tells them apart. With the
//! rules of a fresh machine most questions are answered already: the dump of a route that alone has its prefix is word for
//! word what the kernel would answer. What remains to be asked then are prefixes with several equal routes, routes whose
//! links are gone, and the source addresses.
//!
//! What a policy rule makes of a packet is asked once for each interface and each network that rules name. Bounded: rules
//! that would take more than [`MOST_QUESTIONS`] are not followed, and that is said.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use ringway_shared::network::{Interface, Perspective, Route, RouteTarget};
use ringway_shared::{Family, InterfaceId};

use super::atoms::{Atom, cut};
use super::labels::Labels;
use super::links::{Link, LinkAddress, Standing};
use super::objects::NextHopObjects;
use super::questions::{Answer, Asker, Question};
use super::routes::{KernelRoute, Kind, Table, Targets};
use super::rules::{self, Rule};
use super::sources::Sources;

/// Questions in one survey, about half a second.
pub(super) const MOST_QUESTIONS: usize = 65_536;

/// What the kernel's tables say.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) links: Vec<Link>,
    pub(super) addresses: Vec<LinkAddress>,
    pub(super) routes: Vec<KernelRoute>,
    pub(super) rules: Vec<Rule>,
    pub(super) objects: NextHopObjects,
    pub(super) labels: Labels,
}

/// What packets see.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Survey {
    /// Of those of which nothing is known but the destination.
    pub(super) routes: Vec<Route>,
    /// Of those of which it matters where they come from.
    pub(super) perspectives: Vec<Perspective>,
    /// What is not followed, one sentence each.
    pub(super) overlooked: Vec<String>,
    /// The links that the default routes leave by, those of IPv4 first; each once.
    pub(super) default_links: Vec<u32>,
}

impl Survey {
    /// Asks the kernel.
    pub(super) fn make(
        tables: &Tables,
        numbers: &HashMap<u32, InterfaceId>,
        interfaces: &[Interface],
        asker: &mut Asker,
    ) -> io::Result<Self> {
        let mut survey = Survey::default();
        let targets = Targets::new(&tables.links, numbers, interfaces, &tables.objects);
        let mut sources = Sources::new(&tables.labels);
        for family in [Family::V4, Family::V6] {
            let mut surveyor = Surveyor { family, tables, numbers, targets: &targets, asker, sources: &mut sources };
            surveyor.survey(&mut survey)?;
        }
        // Whatever table has the route to it, an address is the machine's own.
        let usable = tables.addresses.iter().filter(|address| address.standing != Standing::Tentative);
        survey.routes.extend(usable.map(|address| Route::new(address.ip().into(), RouteTarget::Local)));
        let mut seen = Vec::new();
        survey.default_links.retain(|link| {
            let new = !seen.contains(link);
            seen.push(*link);
            new
        });
        Ok(survey)
    }
}

/// Surveys one family.
pub(super) struct Surveyor<'a, 't> {
    pub(super) family: Family,
    pub(super) tables: &'a Tables,
    pub(super) numbers: &'a HashMap<u32, InterfaceId>,
    targets: &'a Targets<'a>,
    pub(super) asker: &'a mut Asker,
    sources: &'a mut Sources<'t>,
}

/// Whose packets a question is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    pub(super) source: Option<IpAddr>,
    pub(super) input: Option<u32>,
}

impl Surveyor<'_, '_> {
    fn is_ours(&self, net: &IpNet) -> bool {
        Family::of(net.addr()) == self.family
    }

    fn routes(&self) -> impl Iterator<Item = &KernelRoute> {
        self.tables.routes.iter().filter(|route| self.is_ours(&route.to))
    }

    fn survey(&mut self, survey: &mut Survey) -> io::Result<()> {
        let rules: Vec<&Rule> = self.tables.rules.iter().filter(|rule| rule.family == Some(self.family)).collect();
        let default_is_empty = !self.routes().any(|route| route.table == Table::Other(253));
        let from_routes: Vec<IpNet> = self.routes().filter_map(|route| route.from).collect();
        // Without the rules nothing is known of them: as on a kernel that was built without.
        let standard = (rules.is_empty() || rules::are_standard(&rules, default_is_empty)) && from_routes.is_empty();
        let family = self.family;
        for rule in rules.iter().filter(|rule| !rule.unknown.is_empty()) {
            let asks = rule.unknown.join(" and ");
            survey.overlooked.push(format!(
                "the {family} policy rule {:?} is not followed: it asks for {asks} of a packet, and Ringway's routes do not depend on that",
                rule.text
            ));
        }
        let special = self.routes().filter(|route| route.for_service).count();
        if special > 0 {
            survey.overlooked.push(format!("{special} {family} routes for one type of service are not followed"));
        }
        let all = self.everything();
        let nets: Vec<IpNet> = match standard {
            true => self.routes().filter(|route| route.is_mirrored()).map(|route| route.to).chain([all]).collect(),
            false => {
                let to = rules.iter().filter_map(|rule| rule.to);
                self.routes().map(|route| route.to).chain(to).chain([all]).collect()
            }
        };
        let atoms = cut(nets.into_iter().chain(self.never_asked()));
        let general = match standard {
            true => self.mirrored(&atoms)?,
            false if atoms.len() > MOST_QUESTIONS => {
                survey.overlooked.push(format!(
                    "the {family} policy rules are not followed: there are {} prefixes to ask the kernel about, and \
                     Ringway asks about {MOST_QUESTIONS} at most",
                    atoms.len()
                ));
                self.mirrored(&atoms)?
            }
            false => self.asked(&atoms, Asking { source: None, input: None })?,
        };
        if let Some(defaults) = general.iter().find(|route| route.to == all) {
            survey.default_links.extend(defaults.kind.ways(&self.tables.objects).iter().map(|way| way.link));
        }
        let routes = self.finish(&general)?;
        if !standard {
            self.perspectives(&rules, from_routes, &atoms, &general, survey)?;
        }
        survey.routes.extend(routes);
        Ok(())
    }

    pub(super) fn everything(&self) -> IpNet {
        match self.family {
            Family::V4 => IpNet::from(ipnet::Ipv4Net::default()),
            Family::V6 => IpNet::from(ipnet::Ipv6Net::default()),
        }
    }

    /// No packet goes there, and the kernel takes a question about it for another one.
    pub(super) fn never_asked(&self) -> Option<IpNet> {
        let text = match self.family {
            Family::V4 => "0.0.0.0/8",
            Family::V6 => "::/96",
        };
        text.parse().ok()
    }

    /// The routes of tables local and main, as the kernel dumped them; asked where that does not say which one counts.
    fn mirrored(&mut self, atoms: &[Atom]) -> io::Result<Vec<KernelRoute>> {
        let mut best: HashMap<IpNet, (&KernelRoute, bool)> = HashMap::new();
        let of = |table| self.tables.routes.iter().filter(move |route| route.table == table && !route.is_special());
        // Table local is asked first, whatever the prefix lengths: what it covers, table main cannot reach.
        let wide: Vec<IpNet> =
            of(Table::Local).map(|route| route.to).filter(|to| to.prefix_len() < to.max_prefix_len()).collect();
        let covered = |to: &IpNet| wide.iter().any(|local| local.contains(to));
        let main = of(Table::Main).filter(|route| !covered(&route.to));
        for route in of(Table::Local).chain(main).filter(|route| self.is_ours(&route.to)) {
            let unsure = route.kind.is_dead(&self.tables.objects);
            match best.get_mut(&route.to) {
                None => {
                    best.insert(route.to, (route, unsure));
                }
                Some((other, _)) if other.table == Table::Local => {}
                Some((other, unsure)) if other.metric == route.metric => *unsure = true,
                Some(place) if route.metric < place.0.metric => *place = (route, unsure),
                Some(_) => {}
            }
        }
        let unsure: Vec<Atom> =
            atoms.iter().filter(|atom| best.get(&atom.net).is_some_and(|(_, unsure)| *unsure)).copied().collect();
        let sure = best.values().filter(|(_, unsure)| !unsure).map(|(route, _)| (*route).clone());
        let mut routes: Vec<KernelRoute> = sure.collect();
        let asked = self.asked(&unsure, Asking { source: None, input: None })?;
        // The kernel has none for a dead link: it is down, then, and that is a better reason than no route.
        routes.extend(asked.into_iter().map(|answer| match (&answer.kind, best.get(&answer.to)) {
            (Kind::Nowhere, Some((route, _))) => (*route).clone(),
            _ => answer,
        }));
        Ok(routes)
    }

    /// What the kernel answers for each atom.
    fn asked(&mut self, atoms: &[Atom], asking: Asking) -> io::Result<Vec<KernelRoute>> {
        let answers = self.answers(atoms, asking)?;
        Ok(answers.into_iter().map(|(net, answer)| route(net, answer.as_ref())).collect())
    }

    pub(super) fn answers(&mut self, atoms: &[Atom], asking: Asking) -> io::Result<Vec<(IpNet, Answer)>> {
        let never = self.never_asked();
        let wanted = atoms.iter().filter(|atom| Some(atom.net) != never);
        let (nets, questions): (Vec<IpNet>, Vec<Question>) = wanted
            .filter_map(|atom| {
                let Asking { source, input } = asking;
                Some((atom.net, Question { source, input, ..Question::to(atom.example?) }))
            })
            .unzip();
        Ok(nets.into_iter().zip(self.asker.ask(&questions)?).collect())
    }

    /// Routes with source addresses, for the packet path.
    pub(super) fn finish(&mut self, routes: &[KernelRoute]) -> io::Result<Vec<Route>> {
        self.sources.fill(routes, &self.tables.addresses, self.family, self.targets, self.asker)
    }
}

/// The route that an answer means for a prefix.
pub(super) fn route(net: IpNet, answer: Result<&rtnetlink::packet_route::route::RouteMessage, &i32>) -> KernelRoute {
    let answered = answer.ok().and_then(KernelRoute::from_answer);
    match answered {
        Some(route) => KernelRoute { to: net, metric: 0, ..route },
        None => KernelRoute::nowhere(net),
    }
}
