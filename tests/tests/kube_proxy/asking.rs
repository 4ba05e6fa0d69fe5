//! Connections for a set of packets, as many as it takes to tell what becomes of each.

use crate::expect::{Balancer, Expected, Judgement, expected, judge, tries};
use ringway_control::compile::Compiled;
use ringway_tests::world::World;
use ringway_tests::world::probe::{Outcome, Probe};
use std::collections::BTreeMap;
use std::time::Duration;

/// Nothing heard for so long is silence; longer where an answer was expected. An ICMP error that comes while the sending
/// kernel is still busy with the connection counts only when it comes again, with the next SYN after 1 s.
const PATIENCE: [Duration; 3] = [Duration::from_millis(1_300), Duration::from_secs(3), Duration::from_secs(6)];
/// An endpoint that has not answered within so many rounds, of six connections for each endpoint, is not in the set.
const ENOUGH: usize = 7;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// How many connections were tried.
    pub(crate) connections: usize,
    /// Packets that did not get what they should, with the reason.
    pub(crate) differences: Vec<(Probe, String)>,
    /// How many packets were to be forwarded, refused and so on.
    pub(crate) tally: BTreeMap<&'static str, usize>,
}

struct Case {
    probe: Probe,
    expected: Expected,
    outcomes: Vec<Outcome>,
    judgement: Judgement,
}

impl Case {
    fn wants_more(&self, round: usize) -> bool {
        match self.judgement {
            Judgement::Open(_) => {
                round < PATIENCE.len() || (round < ENOUGH && !self.outcomes.contains(&Outcome::Silent))
            }
            Judgement::Agrees | Judgement::Differs(_) => false,
        }
    }
}

/// Asks until each packet is decided.
pub(crate) fn ask(world: &World, balancer: Balancer, compiled: &Compiled, probes: &[Probe]) -> Asked {
    let new = |probe: &Probe| Case {
        probe: *probe,
        expected: expected(compiled, probe, balancer),
        outcomes: Vec::new(),
        judgement: Judgement::Open("not asked".into()),
    };
    let mut cases: Vec<Case> = probes.iter().map(new).collect();
    let mut connections = 0;
    for round in 0.. {
        let again: Vec<usize> = (0..cases.len()).filter(|index| cases[*index].wants_more(round)).collect();
        if again.is_empty() {
            break;
        }
        let mut wanted = Vec::new();
        for index in &again {
            let case = &mut cases[*index];
            // One that is lost in a busy moment is asked again, and has to answer then.
            case.outcomes.retain(|outcome| *outcome != Outcome::Silent);
            wanted.extend(std::iter::repeat_n((*index, case.probe), tries(&case.expected)));
        }
        connections += wanted.len();
        let patience = PATIENCE[round.min(PATIENCE.len() - 1)];
        let only: Vec<Probe> = wanted.iter().map(|(_, probe)| *probe).collect();
        for ((index, _), outcome) in wanted.iter().zip(world.probe(&only, patience)) {
            cases[*index].outcomes.push(outcome);
        }
        for index in again {
            let case = &mut cases[index];
            case.judgement = judge(&case.expected, &case.outcomes);
        }
    }
    let mut tally = BTreeMap::new();
    for case in &cases {
        *tally.entry(case.expected.name()).or_default() += 1;
    }
    let differences = cases.into_iter().filter_map(|case| match case.judgement {
        Judgement::Agrees => None,
        Judgement::Open(why) | Judgement::Differs(why) => Some((case.probe, why)),
    });
    Asked { connections, differences: differences.collect(), tally }
}
