//! Fragments that waited for the first one of their datagram, and wait no more.

use ringway_shared::DropReason;
use ringway_shared::counters::Counter;
use ringway_shared::decision::{Decision, without_frontend};

use super::fragments::datagram_elsewhere;
use super::{Context, Core, Outcome, dropped, handed, pass};
use crate::batch::{Batch, Received};
use crate::dispatch::receive;
use crate::fragments::{Key, Piece, Why};
use crate::wire::Packet;

impl Core {
    /// Fragments that wait no more go on, as far as the batch has room; whether more do.
    pub(super) fn release_fragments(&mut self, context: &mut Context, batch: &mut Batch) -> bool {
        if self.fragments.waiting.is_empty() {
            return false;
        }
        self.fragments.waiting.expire(context.now);
        if self.shared.directory.is_some() && self.fragments.waiting.waits() {
            let (shared, config) = (&self.shared, &self.config);
            self.fragments.waiting.look_elsewhere(|hash| datagram_elsewhere(shared, config, hash));
        }
        while !batch.output.is_full()
            && let Some((received, why)) = self.fragments.waiting.take()
        {
            if let Some(outcome) = self.go_on(context, received, why) {
                batch.output.push(outcome);
            }
            self.end_given_up(&mut batch.output);
        }
        self.count_held();
        self.fragments.waiting.is_ready()
    }

    /// A fragment that waits no more.
    fn go_on(&mut self, context: &mut Context, received: Received, why: Why) -> Option<Outcome> {
        if let Why::Elsewhere(worker) = why
            && !received.handed_over
        {
            // Who gets it counts it as received.
            return handed(received, worker, false);
        }
        if self.others_may_take() {
            receive(&mut self.tally, received.frame.len() as u64);
        }
        let bytes = context.umem.packet(&received.frame);
        // It was parsed when it came.
        let Ok(packet) = Packet::parse(bytes) else { return pass(received) };
        let Some(fragment) = packet.fragment else { return pass(received) };
        let key = Key::of(&packet, fragment);
        let hash = self.flows.hash(key.words());
        let piece = Piece::of(bytes, &packet, fragment);
        match self.shared_fate(context, &packet, received.interface, (hash, &key), piece.as_ref()) {
            Some(fate) => self.share(context, received, &packet, fate),
            None => self.without_first(context, received, &packet),
        }
    }

    /// Whether another worker may take a fragment that waits here. It then counts as received when its waiting ends, by the
    /// worker that deals with it: what is counted stays counted.
    pub(super) fn others_may_take(&self) -> bool {
        self.shared.directory.is_some()
    }

    /// Says how many packets wait.
    pub(super) fn count_held(&mut self) {
        let waiting = self.fragments.waiting.len() as u64;
        let counted = if self.others_may_take() { 0 } else { waiting };
        self.tally.set(Counter::Held, self.held.len() as u64 + counted);
        self.tally.set(Counter::FragmentsWaiting, waiting);
    }

    /// A later fragment whose first did not come.
    pub(super) fn without_first(&mut self, context: &Context, received: Received, packet: &Packet) -> Option<Outcome> {
        match without_frontend(&context.snapshot.services, packet.tuple.destination_address()) {
            Decision::Pass => self.pass_from(context, received, packet.tuple.source_address()),
            _ => dropped(received, DropReason::FragmentWithoutFirst, None),
        }
    }
}
