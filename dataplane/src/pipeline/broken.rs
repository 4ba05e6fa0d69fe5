//! Packets that could not be parsed: dropped with the reason if they are for us, else the kernel's.

use ringway_shared::decision::{Decision, without_frontend};
use ringway_shared::{DropReason, MacAddress};

use super::{Context, Core, Outcome, dropped, pass};
use crate::batch::Received;
use crate::fragments::{Fate, Key};
use crate::wire::{Invalid, Refusal};

impl Core {
    /// A packet that could not be parsed.
    #[cold]
    pub(super) fn refused(
        &mut self,
        context: &Context,
        received: Received,
        refusal: &Refusal,
        mac: MacAddress,
    ) -> Option<Outcome> {
        match refusal {
            Refusal::Invalid(invalid) if invalid.destination_mac == mac => {
                let ours = self.is_ours(context, invalid);
                if invalid.reason == DropReason::TinyFragment {
                    self.decide_tiny(context, &received, ours);
                }
                match ours {
                    true => dropped(received, invalid.reason, None),
                    false => self.pass_from(context, received, invalid.source),
                }
            }
            _ => pass(received),
        }
    }

    /// Whether a broken packet is for us: to a VIP, to a frontend, or of a flow.
    #[cold]
    fn is_ours(&self, context: &Context, invalid: &Invalid) -> bool {
        let services = &context.snapshot.services;
        if !matches!(without_frontend(services, invalid.destination), Decision::Pass) {
            return true;
        }
        invalid.tuple.is_some_and(|tuple| {
            services.find(&tuple.frontend()).is_some() || self.flows.lookup(&tuple, context.now).is_some()
        })
    }

    /// A first fragment that could not be parsed since it is too short: the others of its datagram share its fate, unless no
    /// such packet comes by this interface.
    #[cold]
    fn decide_tiny(&mut self, context: &Context, received: &Received, ours: bool) {
        let Some(key) = Key::of_broken(context.umem.packet(&received.frame)) else { return };
        let source = key.source();
        if context.snapshot.network.objection_to(source, received.interface).is_none() {
            let fate = if ours { Fate::Drop(DropReason::TinyFragment) } else { Fate::Pass };
            self.decide_datagram(self.flows.hash(key.words()), key, fate, context.now);
        }
    }
}
