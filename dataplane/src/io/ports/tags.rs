//! Which interface a frame belongs to that a port received.

use arrayvec::ArrayVec;
use ringway_shared::counters::Tally;
use ringway_shared::{DropReason, InterfaceId};

use crate::af_xdp::{Frame, Umem};
use crate::batch::{BATCH, Received};
use crate::dispatch::turn_away;
use crate::verdict::Verdict;
use crate::wire::vlan;

/// No interface has this number: there are fewer.
const NOBODY: InterfaceId = InterfaceId(u16::MAX);

/// The interfaces that a device carries, by tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    untagged: InterfaceId,
    /// By VLAN.
    tagged: Box<[(u16, InterfaceId)]>,
}

impl Default for Tags {
    fn default() -> Self {
        Tags { untagged: NOBODY, tagged: Box::default() }
    }
}

impl Tags {
    /// Of these. Where two would have the same frames, the one with the smaller number has them.
    pub fn new(carried: impl IntoIterator<Item = (Option<u16>, InterfaceId)>) -> Self {
        let mut carried: Vec<_> = carried.into_iter().collect();
        carried.sort_unstable();
        carried.dedup_by_key(|(vlan, _)| *vlan);
        let untagged = carried.iter().find(|(vlan, _)| vlan.is_none()).map_or(NOBODY, |(_, interface)| *interface);
        Tags {
            untagged,
            tagged: carried.into_iter().filter_map(|(vlan, interface)| Some((vlan?, interface))).collect(),
        }
    }

    /// Tags of a port whose frames are all this interface's.
    pub fn plain(interface: InterfaceId) -> Self {
        Tags { untagged: interface, tagged: Box::default() }
    }

    /// The interface that untagged frames belong to; a number that no interface has when they are nobody's.
    #[inline]
    pub fn untagged(&self) -> InterfaceId {
        self.untagged
    }

    /// Whether all frames are one interface's: there is nothing to look at.
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.untagged != NOBODY && self.tagged.is_empty()
    }

    /// Notes the interface of each of the last `received` frames and takes their tags off. Those for nobody are counted and
    /// freed.
    #[inline(never)]
    pub(super) fn assign(
        &self,
        umem: &mut Umem,
        input: &mut ArrayVec<Received, BATCH>,
        received: usize,
        tally: &mut Tally,
    ) {
        let mut place = input.len().saturating_sub(received);
        while let Some(received) = input.get_mut(place) {
            match self.owner(umem, &mut received.frame) {
                Some(interface) => {
                    received.interface = interface;
                    place += 1;
                }
                None => {
                    let Received { frame, .. } = input.remove(place);
                    turn_away(tally, frame.len() as u64, Verdict::Drop(DropReason::KernelUnreachable));
                    umem.free(frame);
                }
            }
        }
    }

    /// The interface of a frame, which has no tag afterwards, unless nobody knows it: the steering program lets such frames
    /// pass, and if one comes it passes here.
    #[inline]
    fn owner(&self, umem: &mut Umem, frame: &mut Frame) -> Option<InterfaceId> {
        let of = |identifier| self.tagged.binary_search_by_key(&identifier, |(vlan, _)| *vlan).ok();
        let Some((_, interface)) = vlan::identifier(umem.packet(frame)).and_then(of).and_then(|at| self.tagged.get(at))
        else {
            return (self.untagged != NOBODY).then_some(self.untagged);
        };
        vlan::take_off(umem.packet_mut(frame));
        umem.shrink_head(frame, vlan::TAG);
        Some(*interface)
    }
}
