//! The interrupts of a NIC, and the CPUs that take them (/sys and /proc).

use std::fs;
use std::path::Path;

use super::telling::folder;

/// An interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// What its driver calls it, as in /proc/interrupts; empty while it is not in use.
    pub name: String,
    /// The CPUs that take it.
    pub cpus: Vec<u32>,
}

impl Interrupt {
    /// Whether it is a queue's, and not one for configuration, link changes or commands.
    pub fn is_queue(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        let of_queue = ["rx", "tx", "input", "output", "comp", "queue"];
        !name.is_empty() && !name.contains("config") && of_queue.iter().any(|word| name.contains(word))
    }
}

/// The interrupts of a NIC by number; none for what has none, and where /sys is another network namespace's.
pub fn interrupts(name: &str) -> Vec<Interrupt> {
    folder(name).map_or_else(Vec::new, |folder| read(&folder, Path::new("/proc")))
}

fn read(folder: &Path, proc: &Path) -> Vec<Interrupt> {
    let Ok(device) = fs::canonicalize(folder.join("device")) else { return Vec::new() };
    // Of virtio devices the PCI device is the parent.
    let Some(entries) = device.ancestors().take(2).find_map(|path| fs::read_dir(path.join("msi_irqs")).ok()) else {
        return Vec::new();
    };
    let names = fs::read_to_string(proc.join("interrupts")).unwrap_or_default();
    let mut interrupts: Vec<Interrupt> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(|number: u32| {
            let folder = proc.join("irq").join(number.to_string());
            let cpus = ["effective_affinity_list", "smp_affinity_list"];
            let cpus = cpus.iter().filter_map(|file| fs::read_to_string(folder.join(file)).ok());
            let cpus = cpus.map(|text| cpu_list(&text)).find(|cpus| !cpus.is_empty());
            Interrupt { number, name: name_of(&names, number), cpus: cpus.unwrap_or_default() }
        })
        .collect();
    interrupts.sort_by_key(|interrupt| interrupt.number);
    interrupts
}

/// The last word of the line of /proc/interrupts that begins with this number.
fn name_of(interrupts: &str, number: u32) -> String {
    let line = interrupts
        .lines()
        .find(|line| line.split_once(':').is_some_and(|(first, _)| first.trim().parse() == Ok(number)));
    line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
}

/// The CPUs in a list as the kernel writes it: `0-3,8`.
pub(super) fn cpu_list(text: &str) -> Vec<u32> {
    /// More CPUs than any machine has.
    const MOST: u32 = 1 << 16;
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            cpus.extend(first..=last.min(MOST));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_are_found_with_their_names_and_cpus_also_below_virtio() {
        let root = tempfile::tempdir().unwrap();
        let pci = root.path().join("devices/pci0/0000:00:04.0");
        let (sys, proc) = (root.path().join("net"), root.path().join("proc"));
        fs::create_dir_all(pci.join("msi_irqs")).unwrap();
        fs::create_dir_all(pci.join("virtio1")).unwrap();
        fs::create_dir_all(sys.join("g0")).unwrap();
        std::os::unix::fs::symlink(pci.join("virtio1"), sys.join("g0/device")).unwrap();
        for (number, cpus) in [(25, "0-1,4\n"), (26, "1\n"), (9, "\n")] {
            fs::write(pci.join("msi_irqs").join(number.to_string()), "msix").unwrap();
            fs::create_dir_all(proc.join("irq").join(number.to_string())).unwrap();
            fs::write(proc.join("irq").join(number.to_string()).join("smp_affinity_list"), cpus).unwrap();
        }
        let lines = "           CPU0       CPU1\n 25:          0          7   PCI-MSIX-0000:00:04.0   0-edge      \
                     virtio1-config\n 26:         12          0   PCI-MSIX-0000:00:04.0   1-edge      virtio1-input.0\n\
                     LOC:         12          0   Local timer interrupts\n";
        fs::write(proc.join("interrupts"), lines).unwrap();
        let found = read(&sys.join("g0"), &proc);
        let interrupt = |number, name: &str, cpus: &[u32]| Interrupt { number, name: name.into(), cpus: cpus.into() };
        let all = [
            interrupt(9, "", &[]),
            interrupt(25, "virtio1-config", &[0, 1, 4]),
            interrupt(26, "virtio1-input.0", &[1]),
        ];
        assert_eq!(found, all);
        assert_eq!(found.iter().map(Interrupt::is_queue).collect::<Vec<_>>(), [false, false, true]);
        assert!(read(&sys.join("g1"), &proc).is_empty());
    }

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,8,10-11\n"), [0, 1, 2, 8, 10, 11]);
        assert_eq!(cpu_list("\n"), [0u32; 0]);
        assert!(cpu_list("0-4294967295").len() <= (1 << 16) + 1);
    }
}
