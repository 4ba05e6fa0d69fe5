//! What passes, and how much of what is perhaps forged does: a packet that passes by a worker costs it a system call, with the
//! kernel's whole IP stack inside, where a drop costs a hundredth.
//!
//! A *stray* comes by an interface that packets to its source do not leave by, though it is known which do. Who forges an
//! endpoint sends nothing else, unless he is on the endpoint's own side; so of strays so many pass in a moment, of each source and of all.
//! What comes by its own way has no such bound.

use std::net::IpAddr;

use ringway_shared::network::Network;
use ringway_shared::{DropReason, FiveTuple, InterfaceId, Protocol};

use super::{Context, Core, Outcome, dropped, pass};
use crate::batch::Received;
use crate::clock::Time;

/// A moment: 2^27 ns, which are 134 ms.
const MOMENT_BITS: u32 = 27;
/// Strays of one source that pass in a moment: 12,500 a second, since there are networks where answers to the node itself
/// come by another interface than questions leave.
const OF_ONE: u32 = OF_ALL / 4;
/// Strays that pass in a moment: 50,000 a second.
const OF_ALL: u32 = 6_710;
/// Sources are told apart by so many shares.
const SHARES: usize = 256;
/// Half of what passes is anybody's, of the other half each share has this: who sends from few addresses leaves others 97 a second.
const HALF: u32 = OF_ALL / 2;
const KEPT: u32 = HALF / SHARES as u32;

/// How many passed in the moment that somebody looked at last.
#[derive(Clone, Copy, Default)]
struct Share {
    moment: u64,
    passed: u32,
}

impl Share {
    /// How many passed in this moment.
    fn passed_in(&mut self, moment: u64) -> u32 {
        if self.moment != moment {
            *self = Share { moment, passed: 0 };
        }
        self.passed
    }
}

/// How many strays have passed.
pub(super) struct Strays {
    shares: Box<[Share]>,
    all: Share,
}

impl Strays {
    pub(super) fn new() -> Self {
        Strays { shares: vec![Share::default(); SHARES].into_boxed_slice(), all: Share::default() }
    }

    /// Whether one more may pass whose source has this hash, which is by a secret; it counts if so.
    fn admit(&mut self, hash: u64, now: Time) -> bool {
        let moment = now.0 >> MOMENT_BITS;
        let Some(share) = self.shares.get_mut((hash >> 32) as usize % SHARES) else { return false };
        let (of_one, of_all) = (share.passed_in(moment), self.all.passed_in(moment));
        let admitted = of_one < OF_ONE && of_all < OF_ALL && (of_all < HALF || of_one < KEPT);
        if admitted {
            share.passed += 1;
            self.all.passed += 1;
        }
        admitted
    }
}

impl Core {
    /// Passes a packet from this source, unless the interface that it came by refuses such sources: the way back into the kernel asks
    /// nothing (`af_xdp/tap.rs`). Or unless it is one stray too many.
    #[cold]
    pub(super) fn pass_from(&mut self, context: &Context, received: Received, source: IpAddr) -> Option<Outcome> {
        let network = &context.snapshot.network;
        if network.objection_to(source, received.interface) == Some(DropReason::ReversePath) {
            return dropped(received, DropReason::ReversePath, None);
        }
        if is_stray(network, source, received.interface) {
            let hash = self.flows.hash(&FiveTuple::from_parts(Protocol::Udp, source, 0, source, 0));
            if !self.strays.admit(hash, context.now) {
                return dropped(received, DropReason::StrayLimited, None);
            }
        }
        pass(received)
    }
}

/// Whether packets to the source of one that came by an interface leave by others only, listed or not.
fn is_stray(network: &Network, source: IpAddr, arrived: InterfaceId) -> bool {
    let mut ways = network.next_hops(source).map(|(out, _)| out).peekable();
    // By an interface that is not listed packets to the node's own pods leave.
    let is_known = ways.peek().is_some() || network.unlisted(source).is_some();
    is_known && !ways.any(|out| out == arrived)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOS: u64 = 1_000_000_000;

    #[test]
    fn each_source_has_its_share_and_all_have_no_more_than_there_is() {
        let mut strays = Strays::new();
        let mut admitted = |share: u64, times: u32, now| {
            (0..times).filter(|low| strays.admit(share << 32 | u64::from(*low), Time(now))).count() as u32
        };
        assert_eq!(admitted(5, 10_000, NANOS), OF_ONE);
        assert_eq!(admitted(6, 10, NANOS), 10, "another source");
        assert_eq!(admitted(5, 10_000, NANOS + (1 << MOMENT_BITS)), OF_ONE, "the next moment");
        // Four use up what is anybody's, and all others have what is kept for them.
        let four: u32 = (0..4).map(|share| admitted(share, 10_000, 2 * NANOS)).sum();
        assert!((HALF..HALF + 4 * KEPT).contains(&four), "{four}");
        let others: Vec<u32> = (4..SHARES as u64).map(|share| admitted(share, 10_000, 2 * NANOS)).collect();
        assert!(others.iter().all(|passed| *passed == KEPT), "{others:?}");
        assert!(four + others.iter().sum::<u32>() <= OF_ALL);
    }
}
