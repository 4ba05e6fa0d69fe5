//! Address space cut along prefixes, with one address to ask about for each piece.
//!
//! Whatever tables and rules the kernel has, two addresses that lie in the same of all their prefixes get the same answer: so
//! one question for each piece is enough for all addresses there are.

use std::net::IpAddr;

use ipnet::IpNet;

/// A prefix without the longer ones inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    /// The prefix.
    pub(super) net: IpNet,
    /// An address that lies in no longer prefix; `None` where there is none.
    pub(super) example: Option<IpAddr>,
    /// The next shorter prefix around it.
    pub(super) parent: Option<usize>,
}

/// A prefix that others may lie in.
struct Open {
    place: usize,
    last: u128,
    // The first address that no prefix inside has taken yet.
    free: Option<u128>,
}

/// The pieces that prefixes of one family cut, in order: shorter ones before those inside them.
pub(super) fn cut(nets: impl IntoIterator<Item = IpNet>) -> Vec<Atom> {
    let mut nets: Vec<IpNet> = nets.into_iter().map(|net| net.trunc()).collect();
    nets.sort_unstable_by_key(|net| (bits(net.network()), net.prefix_len()));
    nets.dedup();
    let mut atoms: Vec<Atom> = Vec::with_capacity(nets.len());
    let mut around: Vec<Open> = Vec::new();
    for net in nets {
        let (first, last) = (bits(net.network()), last(&net));
        while around.last().is_some_and(|open| open.last < first) {
            around.pop().into_iter().for_each(|open| settle(&mut atoms, &open));
        }
        let parent = around.last_mut().map(|open| {
            if open.free.is_some_and(|free| free < first) {
                settle(&mut atoms, open);
            }
            open.free = last.checked_add(1).filter(|next| *next <= open.last);
            open.place
        });
        around.push(Open { place: atoms.len(), last, free: Some(first) });
        atoms.push(Atom { net, example: None, parent });
    }
    while let Some(open) = around.pop() {
        settle(&mut atoms, &open);
    }
    atoms
}

/// Takes what is free for the example, unless there is one.
fn settle(atoms: &mut [Atom], open: &Open) {
    let Some(atom) = atoms.get_mut(open.place) else { return };
    if let (None, Some(free)) = (atom.example, open.free) {
        atom.example = Some(address(free, &atom.net));
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn last(net: &IpNet) -> u128 {
    match net {
        IpNet::V4(v4) => v4.broadcast().to_bits().into(),
        IpNet::V6(v6) => v6.broadcast().to_bits(),
    }
}

fn address(bits: u128, of: &IpNet) -> IpAddr {
    match of {
        IpNet::V4(_) => IpAddr::V4((bits as u32).into()),
        IpNet::V6(_) => IpAddr::V6(bits.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_families_and_full_prefixes() {
        let nets = ["0.0.0.0/0", "10.0.0.0/31", "10.0.0.0/32", "10.0.0.1/32", "0.0.0.0/8"];
        let atoms = cut(nets.iter().map(|net| net.parse().unwrap()));
        let told: Vec<_> =
            atoms.iter().map(|atom| (atom.net.to_string(), atom.example.map(|a| a.to_string()))).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            told,
            [
                ("0.0.0.0/0".to_owned(), some("1.0.0.0")),
                ("0.0.0.0/8".to_owned(), some("0.0.0.0")),
                ("10.0.0.0/31".to_owned(), None),
                ("10.0.0.0/32".to_owned(), some("10.0.0.0")),
                ("10.0.0.1/32".to_owned(), some("10.0.0.1")),
            ]
        );
        let all = cut(["::/0".parse().unwrap(), "8000::/1".parse().unwrap(), "::/1".parse().unwrap()]);
        assert_eq!(all[0].example, None);
    }

    proptest! {
        #[test]
        fn an_example_lies_in_its_prefix_and_in_no_longer_one(
            nets in prop::collection::vec((0..16u8, 24..=32u8), 0..40),
        ) {
            let nets: Vec<IpNet> =
                nets.iter().map(|(last, length)| IpNet::new(IpAddr::from([10, 0, 0, *last]), *length).unwrap().trunc()).collect();
            let atoms = cut(nets.iter().copied());
            let longest = |address: IpAddr| {
                nets.iter().filter(|net| net.contains(&address)).max_by_key(|net| net.prefix_len()).copied()
            };
            for atom in &atoms {
                let own = (0..=255u8).map(|last| IpAddr::from([10, 0, 0, last])).any(|a| longest(a) == Some(atom.net));
                prop_assert_eq!(atom.example.is_some(), own, "{:?}", atom);
                if let Some(example) = atom.example {
                    prop_assert_eq!(longest(example), Some(atom.net));
                }
                let around = nets.iter().filter(|net| net.contains(&atom.net) && **net != atom.net);
                let parent = around.max_by_key(|net| net.prefix_len()).copied();
                prop_assert_eq!(atom.parent.map(|place| atoms[place].net), parent);
            }
        }
    }
}
