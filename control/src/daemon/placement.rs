//! How many workers there are, which queues each polls, and on which CPU it runs.
//!
//! Every worker must be able to send on every interface, and a queue has one owner, so there are at most as many workers
//! as the interface with the fewest queues has. Queue q of every interface belongs to worker q modulo their number: what
//! comes in on queue q of one interface leaves by a queue of the same worker on the other, without handover.

use std::path::Path;

/// What the kernel says about a device's queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Active receive queues.
    pub rx: u32,
    /// Active transmit queues.
    pub tx: u32,
    /// CPUs of the NUMA node that it is plugged into, or every CPU where it has none.
    pub cpus: Vec<usize>,
}

impl Device {
    /// The queues that a worker can both receive from and send on.
    pub fn queues(&self) -> u32 {
        self.rx.min(self.tx)
    }
}

/// Why there can be no workers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More workers than queues.
    #[error(
        "{name} has {queues} {}, {workers} workers asked: name at most {queues} in workers.cpus, or run ethtool -L {name} \
         combined {workers} (veth: rx {workers} tx {workers}){}", if *queues == 1 { "queue" } else { "queues" }, one_for_good(*queues)
    )]
    TooFewQueues {
        /// The device.
        name: String,
        /// Its queues.
        queues: u32,
        /// Workers asked for.
        workers: usize,
    },
    /// A CPU that does not exist or that this process may not use.
    #[error("workers.cpus: this process cannot run on CPU {cpu}; allowed are {}", list(allowed))]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// CPUs that exist.
        allowed: Vec<usize>,
    },
    /// Nothing to place workers for.
    #[error("no interface matches interfaces; write the name of an interface that exists (ip link)")]
    NoInterface,
}

/// What no setting helps against.
fn one_for_good(queues: u32) -> &'static str {
    if queues == 1 {
        "; a bridge, and a tunnel's device unless it was made with more, has one queue for good"
    } else {
        ""
    }
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// The workers: worker n runs on `cpus[n]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The CPU of each worker.
    pub cpus: Vec<usize>,
}

impl Placement {
    /// Workers for these devices. `wanted`: the configured CPUs. `allowed`: those that this process may use.
    pub fn new(devices: &[Device], wanted: Option<&[usize]>, allowed: &[usize]) -> Result<Self, PlacementError> {
        let fewest = devices.iter().min_by_key(|device| device.queues()).ok_or(PlacementError::NoInterface)?;
        if let Some(cpus) = wanted {
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(PlacementError::NoSuchCpu { cpu: *cpu, allowed: allowed.to_vec() });
            }
            fits(fewest, cpus.len())?;
            return Ok(Placement { cpus: cpus.to_vec() });
        }
        fits(fewest, 1)?;
        let near: Vec<usize> = allowed.iter().copied().filter(|cpu| fewest.cpus.contains(cpu)).collect();
        let usable = if near.is_empty() { allowed } else { &near };
        // With more queues than CPUs, workers take turns on a CPU; workers.cpus says otherwise.
        Ok(Placement { cpus: usable.iter().copied().cycle().take(fewest.queues() as usize).collect() })
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.cpus.len()
    }

    /// The queues of `device` that a worker polls. An interface that comes later must have enough for everyone.
    pub fn queues(&self, device: &Device) -> Result<Vec<Vec<u32>>, PlacementError> {
        fits(device, self.workers())?;
        let workers = self.workers() as u32;
        Ok((0..workers).map(|worker| (worker..device.rx).step_by(workers as usize).collect()).collect())
    }
}

fn fits(device: &Device, workers: usize) -> Result<(), PlacementError> {
    if workers <= device.queues() as usize {
        return Ok(());
    }
    Err(PlacementError::TooFewQueues { name: device.name.clone(), queues: device.queues(), workers })
}

impl Device {
    /// A device with `rx` active receive queues, and what sysfs at `root` (`/sys`) adds about it. A sysfs of another
    /// network namespace, which may have a device of the same name, adds nothing.
    pub fn read(root: &Path, name: &str, index: u32, rx: u32) -> Self {
        let read = |file: &Path| std::fs::read_to_string(file).ok();
        let path = root.join("class/net").join(name);
        let ours = read(&path.join("ifindex")).is_some_and(|found| found.trim() == index.to_string());
        let queues = std::fs::read_dir(path.join("queues")).into_iter().flatten();
        let names = queues.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let tx = names.filter(|name| ours && name.starts_with("tx-")).count() as u32;
        let node =
            read(&path.join("device/numa_node")).filter(|_| ours).and_then(|text| text.trim().parse::<u32>().ok());
        let cpus = node.and_then(|node| read(&root.join(format!("devices/system/node/node{node}/cpulist"))));
        let cpus = cpus.or_else(|| read(&root.join("devices/system/cpu/online"))).unwrap_or_default();
        Device { name: name.to_owned(), rx, tx: if tx == 0 { rx } else { tx }, cpus: cpu_list(&cpus) }
    }
}

/// Reads `0-3,8,10-11`.
fn cpu_list(text: &str) -> Vec<usize> {
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    });
    ranges.flatten().collect()
}

/// The CPUs that this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(name: &str, queues: u32, cpus: &[usize]) -> Device {
        Device { name: name.into(), rx: queues, tx: queues, cpus: cpus.to_vec() }
    }

    #[test]
    fn one_worker_a_queue_on_the_nics_own_cpus() {
        let place = |devices: &[Device], wanted: Option<&[usize]>| Placement::new(devices, wanted, &[0, 1, 2, 3, 4, 5]);
        let four = nic("eth0", 4, &[2, 3, 4, 5]);
        assert_eq!(place(std::slice::from_ref(&four), None).unwrap().cpus, [2, 3, 4, 5]);
        assert_eq!(place(&[nic("eth0", 8, &[4, 5])], None).unwrap().cpus, [4, 5, 4, 5, 4, 5, 4, 5]);
        assert_eq!(place(&[four.clone(), nic("eth1", 2, &[0, 1])], None).unwrap().cpus, [0, 1]);
        assert_eq!(place(&[nic("eth0", 1, &[9])], None).unwrap().cpus, [0], "no CPU of the node is allowed");
        assert_eq!(place(std::slice::from_ref(&four), Some(&[5, 3])).unwrap().cpus, [5, 3]);
        assert_eq!(place(&[], None), Err(PlacementError::NoInterface));
        // Each has to send by a queue of its own, too.
        assert_eq!(place(&[Device { tx: 2, ..four.clone() }], None).unwrap().cpus, [2, 3]);
        assert!(place(&[nic("eth0", 0, &[])], None).is_err());
        let error = place(std::slice::from_ref(&four), Some(&[0, 1, 2, 3, 4, 5])).unwrap_err().to_string();
        assert_eq!(
            error,
            "eth0 has 4 queues, 6 workers asked: name at most 4 in workers.cpus, or run ethtool -L eth0 combined 6 \
             (veth: rx 6 tx 6)"
        );
        let error = place(&[four.clone(), nic("flannel.1", 1, &[])], Some(&[0, 1])).unwrap_err().to_string();
        assert_eq!(
            error,
            "flannel.1 has 1 queue, 2 workers asked: name at most 1 in workers.cpus, or run ethtool -L flannel.1 combined 2 \
             (veth: rx 2 tx 2); a bridge, and a tunnel's device unless it was made with more, has one queue for good"
        );
        let error = place(&[four], Some(&[7])).unwrap_err().to_string();
        assert_eq!(error, "workers.cpus: this process cannot run on CPU 7; allowed are 0, 1, 2, 3, 4, 5");
    }

    #[test]
    fn every_queue_has_one_worker_and_every_worker_one_queue_at_least() {
        let placement = Placement { cpus: vec![0, 1] };
        assert_eq!(placement.queues(&nic("eth0", 5, &[])).unwrap(), [vec![0, 2, 4], vec![1, 3]]);
        let fewer_to_send_by = Device { tx: 2, ..nic("eth0", 5, &[]) };
        assert_eq!(placement.queues(&fewer_to_send_by).unwrap(), [vec![0, 2, 4], vec![1, 3]]);
        assert!(placement.queues(&nic("eth0", 1, &[])).is_err());
    }

    #[test]
    fn sysfs_is_read_when_it_is_the_namespaces_own() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("class/net/eth0/ifindex", "7\n");
        for queue in ["rx-0", "rx-1", "tx-0", "tx-1", "tx-2"] {
            write(&format!("class/net/eth0/queues/{queue}/x"), "");
        }
        write("class/net/eth0/device/numa_node", "1\n");
        write("devices/system/node/node1/cpulist", "2-3,6\n");
        write("devices/system/cpu/online", "0-3\n");
        let read = |index| Device::read(root.path(), "eth0", index, 2);
        assert_eq!(read(7), Device { name: "eth0".into(), rx: 2, tx: 3, cpus: vec![2, 3, 6] });
        assert_eq!(read(8), Device { name: "eth0".into(), rx: 2, tx: 2, cpus: vec![0, 1, 2, 3] });
        write("class/net/eth0/device/numa_node", "-1\n");
        assert_eq!(read(7).cpus, [0, 1, 2, 3]);
    }
}
