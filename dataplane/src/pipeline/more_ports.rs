//! Masqueraded flows when no port is free: which SNAT address is taken, and whose port, if any.
//!
//! With several SNAT addresses each flow begins at one by its hash, and takes the next ones in turn where the first has no
//! port free towards the endpoint. Then flows that are of use to nobody give theirs up. Then another worker may have one: its
//! share of the ports is another. It gets the packet, and owns the flow from then on, as if it had come there; the directory
//! says so to the others. A flood of forged packets must not fill the queues between workers, so that is limited, and only
//! one other is asked for each packet: by the hash and the second, so that a client who tries again finds another. Last, any
//! flow that ever gives its port up does.

use std::net::IpAddr;

use ringway_shared::Family;

use super::Core;
use crate::clock::Time;
use crate::flow::{Effort, NewFlow, OpenError, Opened, Source, Wishes};

/// SNAT addresses that are tried for one flow.
pub(crate) const MOST_ADDRESSES: usize = 8;

/// Of these SNAT addresses those for a flow to `endpoint`, beginning at one by the flow's hash.
#[inline]
pub(crate) fn in_turn(addresses: &[IpAddr], endpoint: IpAddr, hash: u64) -> impl Iterator<Item = IpAddr> {
    let family = Family::of(endpoint);
    let usable = addresses.iter().filter(move |address| Family::of(**address) == family);
    let count = usable.clone().count();
    let first = (hash as usize).checked_rem(count).unwrap_or_default();
    usable.clone().skip(first).chain(usable.take(first)).copied()
}

impl Core {
    /// The configured SNAT addresses for a flow to `endpoint`, beginning at one by the flow's hash. Without any, the address
    /// that Linux would choose is the one.
    #[inline]
    pub(super) fn snat_addresses(&self, endpoint: IpAddr, hash: u64) -> impl Iterator<Item = IpAddr> {
        in_turn(&self.config.snat_addresses, endpoint, hash)
    }

    /// Opens a flow for which no port was free at its first SNAT address; the error is the worker that gets the packet.
    #[cold]
    pub(super) fn open_without_free_port(
        &mut self,
        hash: u64,
        new: &NewFlow,
        wishes: Wishes<'_>,
        handed_over: bool,
        now: Time,
    ) -> Result<Result<Opened, OpenError>, u16> {
        let Source::Masquerade(first) = new.source else { return Ok(Err(OpenError::PortsExhausted)) };
        for effort in [Effort::Free, Effort::Idle, Effort::Any] {
            if effort == Effort::Any
                && !handed_over
                && let Some(worker) = self.lender(hash, now)
            {
                return Err(worker);
            }
            for turn in 0..MOST_ADDRESSES {
                let address = self.snat_addresses(new.endpoint, hash).nth(turn);
                let Some(address) = address.or((turn == 0).then_some(first)) else { break };
                // The first one had none free.
                if turn == 0 && effort == Effort::Free {
                    continue;
                }
                let new = NewFlow { source: Source::Masquerade(address), ..*new };
                match self.flows.open_with(hash, &new, wishes, effort, now) {
                    Err(OpenError::PortsExhausted) => {}
                    opened => return Ok(opened),
                }
            }
        }
        Ok(Err(OpenError::PortsExhausted))
    }

    /// Another worker that may have a port.
    fn lender(&mut self, hash: u64, now: Time) -> Option<u16> {
        // Without a directory nobody would find the flow there.
        self.shared.directory.as_ref()?;
        let others = self.config.workers.checked_sub(1).filter(|others| *others > 0)?;
        let turn = (hash >> 32).wrapping_add(u64::from(now.millis() / 1000)) % u64::from(others);
        let worker = (u32::from(self.config.worker) + 1 + turn as u32) % u32::from(self.config.workers);
        self.loans.admit(now).then_some(worker as u16)
    }
}
