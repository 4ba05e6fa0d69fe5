//! Why steering failed, with the kernel's words and the next step.

use std::error::Error;

use rustix::io::Errno;

use super::refusal::Circumstances;

/// Why steering failed.
#[derive(Debug, thiserror::Error)]
pub enum SteeringError {
    /// The kernel does not take the program.
    #[error("cannot load the steering program: {}; {}", reasons(&**.0), Circumstances::here().bpf(errno(&**.0)))]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The interface does not take the program.
    #[error("cannot attach the steering program to {interface} in {mode} mode: {}; {hint}", reasons(&**.source))]
    Attach {
        /// The interface.
        interface: String,
        /// The mode.
        mode: &'static str,
        /// What the user can do.
        hint: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another program is there.
    #[error("another XDP program is attached to {interface}, or to a bond, team, bridge or VLAN device above it: `bpftool net` and `bpftool link` name it and its process, perhaps another instance of Ringway; stop it first ({})", reasons(&**.source))]
    Taken {
        /// The interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel attached it in a way that would outlive this process.
    #[error(
        "{interface}: the kernel has no BPF link for XDP, so the program would outlive Ringway; Linux 5.9 or later has it"
    )]
    NoLink {
        /// The interface.
        interface: String,
    },
    /// A map cannot be changed.
    #[error("steering map {map}: cannot {what}: {}; it holds {used} of at most {room} entries", reasons(&**.source))]
    Map {
        /// The map.
        map: &'static str,
        /// What was tried.
        what: String,
        /// Its entries.
        used: usize,
        /// Its size.
        room: u32,
        /// What the kernel said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The chain of reasons in one line.
pub(super) fn reasons(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let mut text = brief(&error.to_string());
    let mut next = error.source();
    while let Some(source) = next {
        let more = brief(&source.to_string());
        if text == NO_WORDS {
            text = more;
        } else if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

/// What the library says of an answer of the kernel's without words: the error number comes after it.
const NO_WORDS: &str = "netlink error: []";

/// The text without the verifier's log of hundreds of lines, but for the one that says why.
fn brief(text: &str) -> String {
    let Some((head, log)) = text.split_once("Verifier output:") else { return text.to_owned() };
    let is_summary = |line: &&str| {
        line.is_empty() || ["verification time", "stack depth", "processed"].iter().any(|word| line.starts_with(word))
    };
    let why = log.lines().map(str::trim).rfind(|line| !is_summary(line));
    format!("{head}The verifier says: {}", why.unwrap_or("nothing"))
}

/// What the kernel's refusal of a native attachment means, when it is one of those that users meet.
pub(super) fn meaning(interface: &str, error: &(dyn Error + 'static)) -> Option<String> {
    let meaning = match errno(error)? {
        Errno::RANGE => {
            return Some(format!(
                "the MTU (of a veth: its other end's) is larger than native XDP takes in one buffer: ip link set {interface} mtu 3498 (of \
                 a veth: its other end)"
            ));
        }
        Errno::NOSPC => "the peer of this veth has more transmit queues than this end has receive queues",
        Errno::OPNOTSUPP => {
            "this driver has no native XDP, or not with the receive offloads that are on (rx-gro-hw, lro)"
        }
        Errno::NOMEM => {
            "the driver has too few free queues for native XDP, or no memory: give it fewer in use (ethtool -L), or more from the \
             hypervisor"
        }
        Errno::INVAL => {
            "the driver refuses native XDP as it is set now (MTU, number of queues, merged receive): ringway nic says what is in \
             the way, and journalctl -k what the driver says"
        }
        _ => return None,
    };
    Some(meaning.to_owned())
}

impl SteeringError {
    /// The error of an attachment that failed.
    pub(super) fn attach(
        interface: &str,
        mode: &'static str,
        hint: &'static str,
        source: Box<dyn Error + Send + Sync>,
    ) -> Self {
        let interface = interface.to_owned();
        match is_taken(&*source) {
            true => SteeringError::Taken { interface, source },
            false => SteeringError::Attach { interface, mode, hint, source },
        }
    }
}

/// Whether another program is in the way, which no other mode would change.
fn is_taken(error: &(dyn Error + 'static)) -> bool {
    matches!(errno(error), Some(Errno::BUSY | Errno::EXIST))
}

/// The first error number in a chain of reasons.
fn errno(error: &(dyn Error + 'static)) -> Option<Errno> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(errno) = Errno::from_io_error(io)
        {
            return Some(errno);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_log_becomes_the_line_that_says_why() {
        let log = "Permission denied. Verifier output: 0: R1=ctx()\n69: (0f) r9 += r1\nR9 pointer arithmetic prohibited for \
                   !root\nverification time 661 usec\nstack depth 96\nprocessed 69 insns (limit 1000000)\n\n";
        let brief = brief(log);
        assert_eq!(brief, "Permission denied. The verifier says: R9 pointer arithmetic prohibited for !root");
        assert_eq!(super::brief("no such map"), "no such map");
    }

    #[test]
    fn what_the_kernel_has_no_words_for_is_told_without_brackets() {
        #[derive(Debug, thiserror::Error)]
        #[error("netlink error: {words:?}")]
        struct Answer {
            words: Vec<&'static str>,
            source: std::io::Error,
        }
        let told = |words| reasons(&Answer { words, source: Errno::NODEV.into() });
        assert_eq!(told(Vec::new()), "No such device (os error 19)");
        assert_eq!(told(vec!["why"]), "netlink error: [\"why\"]: No such device (os error 19)");
    }

    #[test]
    fn a_refusal_of_native_xdp_is_told_with_what_to_do() {
        let told = |errno: Errno| meaning("eth0", &std::io::Error::from(errno)).unwrap_or_default();
        assert!(told(Errno::RANGE).contains(": ip link set eth0 mtu 3498 "));
        assert!(told(Errno::NOMEM).contains("ethtool -L"));
        assert!(told(Errno::INVAL).contains("ringway nic says what is in the way"));
        assert!(told(Errno::OPNOTSUPP).contains("no native XDP"));
        assert_eq!(told(Errno::IO), "");
    }

    #[test]
    fn another_program_is_told_apart_from_what_a_driver_refuses_and_nothing_is_said_twice() {
        let told =
            |errno: Errno| SteeringError::attach("eth0", "native", "hint", Box::new(std::io::Error::from(errno)));
        for errno in [Errno::BUSY, Errno::EXIST] {
            assert!(matches!(told(errno), SteeringError::Taken { .. }), "{errno}");
        }
        assert_eq!(
            told(Errno::NODEV).to_string(),
            "cannot attach the steering program to eth0 in native mode: No such device (os error 19); hint"
        );
        #[derive(Debug, thiserror::Error)]
        #[error("the call failed: {source}")]
        struct Call {
            source: std::io::Error,
        }
        assert_eq!(reasons(&Call { source: Errno::NODEV.into() }), "the call failed: No such device (os error 19)");
    }
}
