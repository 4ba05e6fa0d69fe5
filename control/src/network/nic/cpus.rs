//! Which CPUs workers should have: near the NIC, a core each, and not those that serve other NICs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::interrupts::cpu_list;

/// The CPUs of this machine, as /sys has them, and those that are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpus {
    /// That this process may use.
    pub(super) allowed: Vec<u32>,
    /// The hyperthreads of each one's core, itself among them.
    pub(super) siblings: Vec<(u32, Vec<u32>)>,
    /// CPUs of each NUMA node.
    pub(super) nodes: Vec<(u32, Vec<u32>)>,
}

impl Cpus {
    /// Those of this machine. `allowed`: those that this process may use.
    pub(super) fn read(allowed: Vec<u32>) -> Self {
        Self::read_below(Path::new("/sys/devices/system"), allowed)
    }

    fn read_below(root: &Path, allowed: Vec<u32>) -> Self {
        let list = |path: String| fs::read_to_string(root.join(path)).map(|text| cpu_list(&text)).unwrap_or_default();
        let siblings = allowed.iter().map(|cpu| (*cpu, list(format!("cpu/cpu{cpu}/topology/thread_siblings_list"))));
        let siblings = siblings.collect();
        let nodes = list("node/online".into()).into_iter().map(|node| (node, list(format!("node/node{node}/cpulist"))));
        Cpus { siblings, nodes: nodes.collect(), allowed }
    }

    /// The CPUs near a NUMA node; all where it is not known.
    pub(super) fn near(&self, node: Option<u32>) -> Vec<u32> {
        let of_node = self.nodes.iter().find(|(other, _)| Some(*other) == node).map(|(_, cpus)| cpus);
        let near = self.allowed.iter().copied().filter(|cpu| of_node.is_none_or(|cpus| cpus.contains(cpu)));
        let near: Vec<u32> = near.collect();
        if near.is_empty() { self.allowed.clone() } else { near }
    }

    /// At most so many CPUs for workers, the best first: on the node, one a core, without those that take other NICs'
    /// interrupts, and without CPU 0, where the kernel does most of its own work. What is left out for want of better ones
    /// only fills up.
    pub(super) fn suggest(&self, node: Option<u32>, busy: &BTreeSet<u32>, most: usize) -> Vec<u32> {
        let near = self.near(node);
        let first_of_core = |cpu: u32| {
            let core = self.siblings.iter().find(|(other, _)| *other == cpu).map(|(_, all)| all);
            core.is_none_or(|all| {
                all.iter().filter(|other| near.contains(other)).min().is_none_or(|first| *first == cpu)
            })
        };
        let mut ranked: Vec<(u8, u32)> = near
            .iter()
            .map(|cpu| match *cpu {
                cpu if !first_of_core(cpu) => (3, cpu),
                0 => (2, 0),
                cpu if busy.contains(&cpu) => (1, cpu),
                cpu => (0, cpu),
            })
            .collect();
        ranked.sort_unstable();
        let mut chosen: Vec<u32> = ranked.into_iter().take(most).map(|(_, cpu)| cpu).collect();
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Cpus {
        // Two nodes of four cores, each with two hyperthreads: n and n + 8.
        let siblings = (0..16).map(|cpu| (cpu, vec![cpu % 8, cpu % 8 + 8])).collect();
        let node = |first: u32| (0..16).filter(|cpu| (cpu % 8) / 4 == first).collect();
        Cpus { allowed: (0..16).collect(), siblings, nodes: vec![(0, node(0)), (1, node(1))] }
    }

    #[test]
    fn workers_get_cores_of_their_own_near_the_nic() {
        let none = BTreeSet::new();
        let suggest = |node, busy: &BTreeSet<u32>, most| machine().suggest(node, busy, most);
        assert_eq!(suggest(Some(1), &none, 4), [4, 5, 6, 7]);
        assert_eq!(suggest(Some(0), &none, 3), [1, 2, 3], "CPU 0 is the kernel's");
        assert_eq!(suggest(Some(0), &none, 4), [0, 1, 2, 3]);
        assert_eq!(suggest(Some(1), &BTreeSet::from([4, 5]), 2), [6, 7], "others' interrupts");
        assert_eq!(suggest(Some(1), &none, 6), [4, 5, 6, 7, 12, 13], "hyperthreads only fill up");
        assert_eq!(suggest(None, &none, 2), [1, 2]);
        let few = Cpus { allowed: vec![5, 13], ..machine() };
        assert_eq!(few.suggest(Some(1), &none, 4), [5, 13]);
        assert_eq!(few.suggest(Some(0), &none, 1), [5], "none of the node is allowed");
    }

    #[test]
    fn sysfs_is_read() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("cpu/cpu2/topology/thread_siblings_list", "2,6\n"),
            ("node/online", "0\n"),
            ("node/node0/cpulist", "0-3,6\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let cpus = Cpus::read_below(root.path(), vec![2, 3]);
        assert_eq!(cpus.siblings, [(2, vec![2, 6]), (3, vec![])]);
        assert_eq!(cpus.near(Some(0)), [2, 3]);
        assert_eq!(cpus.nodes, [(0, vec![0, 1, 2, 3, 6])]);
    }
}
