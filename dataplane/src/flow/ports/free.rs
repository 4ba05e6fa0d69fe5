//! Whether a new flow would get a port, for whoever asks without taking one: as `allocate` and `holder` find it.

use ringway_shared::{FiveTuple, Protocol};

use super::{ATTEMPTS, Pool, Ports, REST_OF_UDP, key};
use crate::clock::Time;
use crate::flow::fifo::Seconds;
use crate::flow::opening::Effort;
use crate::flow::record::Flow;

impl Ports {
    /// Whether `allocate` would find a port.
    pub(in crate::flow) fn has_free(
        &self,
        reply: &FiveTuple,
        now: Time,
        is_frontend: impl Fn(u16) -> bool,
        is_free: impl Fn(u16) -> bool,
    ) -> bool {
        let one_of = |ports: &mut dyn Iterator<Item = u16>| {
            ports.filter(|port| !is_frontend(*port)).take(ATTEMPTS as usize).any(&is_free)
        };
        let Some(pool) = self.pool_of(reply) else {
            // It would be made now.
            return one_of(&mut self.set.ranges().flatten());
        };
        let never_used =
            (0..self.total.saturating_sub(pool.known)).map(|step| self.set.nth(pool.next_rank(step, self.total)));
        let ready = pool.ready.iter().flat_map(|queue| queue.entries(&self.arena));
        let may_be_had =
            |at: u16| reply.protocol() != Protocol::Udp || Seconds::floor(now).since(Seconds(at)) >= REST_OF_UDP;
        // The oldest come first.
        let resting =
            pool.resting.iter().flat_map(|queue| queue.entries(&self.arena).take_while(|entry| may_be_had(entry.at)));
        one_of(&mut never_used.chain(ready.chain(resting).map(|entry| entry.port)))
    }

    /// Whether `holder` would find a flow that gives its port up, whatever it takes.
    pub(in crate::flow) fn has_holder(&self, reply: &FiveTuple, flows: &[Flow], now: Time) -> bool {
        let key = key(reply);
        let Some(number) = self.find(&key, self.hasher.hash(&key)) else { return false };
        let Some(pool) = self.pools.get(number as usize) else { return false };
        let found = match key.protocol() {
            Protocol::Udp => {
                let answer_time = pool.answers.limit(now);
                self.holders.settled(number, Effort::Any, flows, now.millis(), (answer_time, self.total), |_, _| {})
            }
            _ => self.holders.first(number, Effort::Any, flows, now.millis()),
        };
        found.is_some()
    }

    /// Whether the port of a flow that ends now rests, and is not to be had before it has rested.
    pub(in crate::flow) fn keeps_resting(&self, reply: &FiveTuple, flow: &Flow, now: Time) -> bool {
        let Some(pool) = self.pool_of(reply) else { return false };
        flow.may_be_answered(now.millis(), || pool.answers.limit(now))
    }

    fn pool_of(&self, reply: &FiveTuple) -> Option<&Pool> {
        let key = key(reply);
        self.pools.get(self.find(&key, self.hasher.hash(&key))? as usize)
    }
}
