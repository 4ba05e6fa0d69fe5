//! What of a NIC somebody else has, so that Ringway cannot have it.

use super::{Findings, Running, Wish};
use crate::report::nic::NicReport;

impl Findings {
    /// What others have of it.
    pub(super) fn taken(&mut self, nic: &NicReport, wish: &Wish) {
        let name = &nic.name;
        let is_known = match &wish.running {
            Running::Unasked => return,
            Running::Attached(devices) if devices.contains(name) => return,
            Running::Attached(_) | Running::Nobody => true,
            Running::Denied => false,
        };
        if let Some(mode) = &nic.xdp_attached {
            let (short, text) = match mode.as_str() {
                "generic" => ("xdpgeneric", "an XDP program is attached (generic)"),
                _ => ("xdp", "an XDP program is attached (native)"),
            };
            match is_known {
                true => self.wrong(
                    format!(
                        "{text} that is not this instance's: Ringway cannot be attached; `bpftool net` tells its number, and \
                         of one that the command below cannot take off, whose link it is"
                    ),
                    Some(format!("ip link set {name} {short} off")),
                ),
                false => self.note(format!("{text}; only who may ask the instance that runs learns whether it is its own"), None),
            }
        }
        let held = nic.held_queues.as_deref().unwrap_or_default();
        let (queues, have) = match held {
            [] => return,
            [one] => (format!("queue {one}"), "is"),
            several => {
                let all: Vec<String> = several.iter().map(u32::to_string).collect();
                (format!("queues {}", all.join(", ")), "are")
            }
        };
        match is_known {
            true => self.wrong(
                format!("{queues} {have} held by AF_XDP sockets of another process: Ringway cannot have them; stop it"),
                Some("ss --xdp -p".to_owned()),
            ),
            false => self.note(
                format!("{queues} {have} held by AF_XDP sockets; only who may ask the instance that runs learns whether they are its own"),
                None,
            ),
        }
    }
}
