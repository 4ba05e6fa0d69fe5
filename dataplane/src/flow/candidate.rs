//! What the early stages of a lookup found.

use ringway_shared::FiveTuple;

use super::Direction;
use super::record::Flow;
use super::table::{FlowTable, number_of};

/// What the early stages of a lookup found. Only a hint: [`FlowTable::find`] believes nothing of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Candidate(pub(super) u32);

impl Candidate {
    pub(super) const NONE: Candidate = Candidate(u32::MAX);

    /// Whether there was nothing that might be the flow.
    #[inline]
    pub(crate) fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }
}

impl FlowTable {
    /// As [`FlowTable::find`], where the early stages were right: the flow itself, to be changed.
    #[inline(always)]
    pub(crate) fn expected(
        &mut self,
        candidate: Candidate,
        tuple: &FiveTuple,
        now: u32,
    ) -> Option<(&mut Flow, Direction)> {
        let (number, direction) = number_of(candidate.0);
        let flow = self.flows.get_mut(number as usize)?;
        (flow.answers_to(direction, tuple) && !self.lists.is_over(flow, now)).then_some((flow, direction))
    }
}
