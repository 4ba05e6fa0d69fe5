//! What a new flow would get, for whoever asks without opening one: nothing changes. A property test holds this together with
//! what [`FlowTable::open`] does.

use ringway_shared::FiveTuple;
use ringway_shared::snapshot::Services;

use super::FlowId;
use super::expiry::Class;
use super::kept::kept_ports;
use super::opening::{NewFlow, OpenError, Source, is_taken, reply_without_port, with_port};
use super::table::{FlowTable, NONE};
use crate::clock::Time;

/// A new flow would be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prospect {
    /// With the port of another flow, which would end: none is free.
    pub reclaims: bool,
    /// With the record of another flow, which would end: the table is full.
    pub evicts: bool,
}

impl FlowTable {
    /// What [`FlowTable::open`] would come to. `frontends`: see [`super::Wishes`].
    pub fn prospect(&self, new: &NewFlow, frontends: Option<&Services>, now: Time) -> Result<Prospect, OpenError> {
        let former = self.search(self.hash(&new.original), &new.original);
        let former = match former {
            Some((flow, number, _)) if !self.lists.is_over(flow, now.millis()) => {
                return Err(OpenError::Exists(FlowId(number)));
            }
            // It makes room for the new one.
            former => former.map(|(flow, ..)| flow),
        };
        let evicts = self.free == NONE && former.is_none();
        if evicts && !self.lists.can_evict() {
            return Err(OpenError::TableFull);
        }
        let reply = reply_without_port(new);
        let is_own = |other: &FiveTuple| with_port(other, 0) == reply;
        // Its port goes back, and may be had at once unless an answer may come to it.
        let returns = former
            .is_some_and(|flow| flow.pooled() && is_own(&flow.reply()) && !self.ports.keeps_resting(&reply, flow, now));
        let mut leaves = false;
        let reclaims = match new.source {
            Source::OneWay(_) => false,
            Source::Kept | Source::Moved => {
                let own = with_port(&reply, new.original.source_port());
                let found = self.kept_reply(own, new, None, now);
                leaves |= matches!(found, Some((_, Some(_))));
                let free = found.is_some();
                let rivals = || kept_ports(own, self.hash(&own), now);
                if !free && self.least_useful(rivals(), now).is_none() {
                    return Err(OpenError::PortsExhausted);
                }
                !free
            }
            Source::Masquerade(_) => {
                let free = returns || self.has_free_port(&reply, new, frontends, now);
                if !free && !self.has_holder(&reply, now) {
                    return Err(OpenError::PortsExhausted);
                }
                !free
            }
        };
        // A flow that ends leaves its record, too.
        Ok(Prospect { reclaims, evicts: evicts && !reclaims && !leaves })
    }

    fn has_free_port(&self, reply: &FiveTuple, new: &NewFlow, frontends: Option<&Services>, now: Time) -> bool {
        let is_free = |port| {
            let reply = with_port(reply, port);
            reply != new.original && !is_taken(&self.index, &self.flows, self.hash(&reply), &reply)
        };
        let is_frontend = |port| {
            frontends.is_some_and(|services| {
                services.has_udp_port(port) && services.find(&with_port(reply, port).frontend()).is_some()
            })
        };
        self.ports.has_free(reply, now, is_frontend, is_free)
    }

    /// Whether a flow would give its port up.
    fn has_holder(&self, reply: &FiveTuple, now: Time) -> bool {
        let held = self.ports.has_holder(reply, &self.flows, now);
        held || self.least_useful(self.ports.tried(reply, now).map(|port| with_port(reply, port)), now).is_some()
    }

    /// How many flows there are that no new one ever pushes out.
    pub fn certain_len(&self) -> u32 {
        self.lists.len(Class::Certain)
    }
}
