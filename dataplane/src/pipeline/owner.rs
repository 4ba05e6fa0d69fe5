//! Whose a packet is that this worker has no flow for, where there are several workers.
//!
//! A hint in the directory says that somebody has noted a flow. Without one, the port of a masqueraded flow's reply names its
//! owner; whoever knows an endpoint can make such a packet up, for any port. So what comes by an interface that packets to its
//! source never leave by takes no more than a part of the room between workers. Whether the interface refuses the source is the
//! owner's to ask, who does not ask it of packets of a flow: an answer fares the same by whichever queue it comes.

use std::net::IpAddr;

use ringway_shared::{Network, Snapshot};

use super::Core;
use crate::batch::Received;
use crate::wire::{Kind, Packet};

/// SNAT addresses of former settings that are remembered, the last ones.
pub(super) const MOST_FORMER: usize = 64;

/// Another worker that a packet seems to belong to.
pub(super) struct Owner {
    pub(super) worker: u16,
    /// The packet alone says so, and may be made up.
    pub(super) doubted: bool,
}

impl Core {
    /// Other SNAT addresses for new flows. Those of before are remembered, since replies still come there.
    #[cold]
    pub(super) fn set_snat_addresses(&mut self, addresses: Vec<IpAddr>) {
        for former in std::mem::replace(&mut self.config.snat_addresses, addresses) {
            if self.config.snat_addresses.contains(&former) {
                continue;
            }
            self.former_snat_addresses.retain(|other| *other != former);
            if self.former_snat_addresses.is_full() {
                self.former_snat_addresses.remove(0);
            }
            self.former_snat_addresses.push(former);
        }
    }

    /// Whether replies of masqueraded flows may come to this address.
    pub(super) fn is_snat_address(&self, network: &Network, address: IpAddr) -> bool {
        network.is_local(address)
            || self.config.snat_addresses.contains(&address)
            || self.former_snat_addresses.contains(&address)
    }

    /// The other worker that this packet's flow belongs to, as far as that can be told.
    #[inline(always)]
    pub(super) fn owner_elsewhere(
        &self,
        snapshot: &Snapshot,
        received: &Received,
        packet: &Packet,
        hash: u64,
    ) -> Option<Owner> {
        if self.config.workers == 1 || received.handed_over {
            return None;
        }
        self.other_owner(snapshot, received, packet, hash)
    }

    fn other_owner(&self, snapshot: &Snapshot, received: &Received, packet: &Packet, hash: u64) -> Option<Owner> {
        let hinted = self.shared.directory.as_ref().and_then(|directory| directory.owner(hash));
        let owner = match hinted {
            Some(worker) => Owner { worker, doubted: false },
            None => self.owner_by_port(snapshot, received, packet)?,
        };
        (owner.worker != self.config.worker && owner.worker < self.config.workers).then_some(owner)
    }

    /// The worker that the port of a masqueraded flow's reply names.
    fn owner_by_port(&self, snapshot: &Snapshot, received: &Received, packet: &Packet) -> Option<Owner> {
        let (network, destination) = (&snapshot.network, packet.tuple.destination_address());
        let worker = self.config.port_owner(packet.tuple.destination_port())?;
        if worker == self.config.worker || !self.is_snat_address(network, destination) {
            return None;
        }
        // A frontend may have the same address and port: what begins is for that, and so is what need not begin anything.
        if !continues(packet) && is_frontend(snapshot, packet) {
            return None;
        }
        let source = packet.tuple.source_address();
        // Who has flows to an endpoint knows the way to it.
        let comes_back = self.adjacencies.leads_out_by(network, packet.tuple.source, received.interface)
            || network.next_hops(source).any(|(out, _)| out == received.interface);
        Some(Owner { worker, doubted: !comes_back })
    }
}

/// Whether a packet asks for a frontend. Of UDP the port alone nearly always tells that it does not.
fn is_frontend(snapshot: &Snapshot, packet: &Packet) -> bool {
    let services = &snapshot.services;
    (packet.kind != Kind::Udp || services.has_udp_port(packet.tuple.destination_port()))
        && services.find(&packet.tuple.frontend()).is_some()
}

/// Whether a packet belongs to a connection that has begun, as far as it tells.
fn continues(packet: &Packet) -> bool {
    matches!(packet.kind, Kind::Tcp { flags, .. } if !flags.syn() || flags.ack())
}
