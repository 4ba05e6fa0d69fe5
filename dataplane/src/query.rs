//! Questions of the control thread to a worker, answered between two batches.
//!
//! The asker provides the memory for the answer, so a worker neither allocates nor frees; both directions are bounded
//! lock-free queues.

use std::net::IpAddr;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use ringway_shared::snapshot::Services;
use ringway_shared::{FiveTuple, Protocol};

use crate::clock::Time;
use crate::flow::{Direction, Flow, FlowTable, NewFlow, OpenError, PortUse, Prospect, Source};
use crate::pipeline::more_ports::{MOST_ADDRESSES, in_turn};

/// Flows that one step of a scan shows. Bounds what a question costs the packets that wait behind it.
const SCAN_STEP: usize = 256;

/// A question with room for its answer.
#[allow(clippy::large_enum_variant, reason = "a question is boxed whole, once, by its asker")]
pub enum Query {
    /// Which flow has this tuple, in either direction?
    Lookup {
        /// The tuple of a packet.
        tuple: FiveTuple,
        /// The answer.
        found: Option<(Flow, Direction)>,
        /// The worker's clock.
        now: Time,
    },
    /// The SNAT ports in use, towards each endpoint, from `cursor` on.
    Ports {
        /// Where to start; 0 for the beginning. Afterwards: where to go on, or `None` at the end.
        cursor: Option<u32>,
        /// What was found; no more than its capacity are written.
        uses: Vec<PortUse>,
        /// Flows that no new one ever pushes out.
        certain: u32,
        /// The most flows at once.
        capacity: u32,
    },
    /// Would a flow be opened?
    Prospect {
        /// This one.
        new: NewFlow,
        /// SNAT addresses that it may have, if it is masqueraded.
        addresses: Vec<IpAddr>,
        /// Whose frontends are no ports of its replies.
        services: Arc<Services>,
        /// The answer; nothing before.
        found: Option<Result<Prospect, OpenError>>,
    },
    /// The next flows from `cursor` on.
    Scan {
        /// Where to start; 0 for the beginning. Afterwards: where to go on, or `None` at the end.
        cursor: Option<u32>,
        /// The flows found; no more than its capacity are written.
        flows: Vec<Flow>,
        /// The worker's clock.
        now: Time,
    },
}

impl Query {
    /// A scan step from `cursor`.
    pub fn scan(cursor: u32) -> Self {
        Query::Scan { cursor: Some(cursor), flows: Vec::with_capacity(SCAN_STEP), now: Time::default() }
    }

    /// A step through the SNAT ports from `cursor`.
    pub fn ports(cursor: u32) -> Self {
        Query::Ports { cursor: Some(cursor), uses: Vec::with_capacity(SCAN_STEP), certain: 0, capacity: 0 }
    }

    /// A lookup of a packet's tuple.
    pub fn lookup(tuple: FiveTuple) -> Self {
        Query::Lookup { tuple, found: None, now: Time::default() }
    }

    /// Whether `new` would be opened, with one of these addresses if it is masqueraded.
    pub fn prospect(new: NewFlow, addresses: Vec<IpAddr>, services: Arc<Services>) -> Self {
        Query::Prospect { new, addresses, services, found: None }
    }

    fn answer(&mut self, table: &FlowTable, at: Time) {
        match self {
            Query::Lookup { tuple, found, now } => {
                *found = table.lookup(tuple, at).map(|(id, direction)| (*table.flow(id), direction));
                *now = at;
            }
            Query::Ports { cursor, uses, certain, capacity } => {
                (*certain, *capacity) = (table.certain_len(), table.capacity());
                uses.clear();
                let room = uses.capacity().min(SCAN_STEP);
                // A push below the capacity does not allocate.
                *cursor = cursor.and_then(|cursor| {
                    table.scan_ports(cursor, room as u32, |port_use| {
                        if uses.len() < room {
                            uses.push(port_use);
                        }
                    })
                });
            }
            Query::Prospect { new, addresses, services, found } => {
                *found = Some(prospect(table, new, addresses, services, at));
            }
            Query::Scan { cursor, flows, now } => {
                flows.clear();
                let room = flows.capacity().min(SCAN_STEP);
                // A push below the capacity does not allocate.
                *cursor = cursor.and_then(|cursor| {
                    table.scan(cursor, room as u32, |_, flow| {
                        if flows.len() < room {
                            flows.push(*flow);
                        }
                    })
                });
                *now = at;
            }
        }
    }
}

/// As the packet path tries one SNAT address after the other: first for a free port, then for one that another flow gives up.
fn prospect(
    table: &FlowTable,
    new: &NewFlow,
    addresses: &[IpAddr],
    services: &Services,
    now: Time,
) -> Result<Prospect, OpenError> {
    let frontends = (new.original.protocol() == Protocol::Udp).then_some(services);
    let Source::Masquerade(only) = new.source else { return table.prospect(new, frontends, now) };
    let turn = in_turn(addresses, new.endpoint, table.hash(&new.original)).take(MOST_ADDRESSES);
    let none = in_turn(addresses, new.endpoint, 0).next().is_none();
    let mut found = Err(OpenError::PortsExhausted);
    for address in turn.chain(none.then_some(only)) {
        let new = NewFlow { source: Source::Masquerade(address), ..*new };
        match table.prospect(&new, frontends, now) {
            Err(OpenError::PortsExhausted) => {}
            Ok(prospect) if prospect.reclaims => found = Ok(prospect),
            other => return other,
        }
    }
    found
}

/// The questions to one worker and its answers.
pub struct Queries {
    questions: ArrayQueue<Box<Query>>,
    answers: ArrayQueue<Box<Query>>,
}

impl Queries {
    /// Queues for one worker.
    pub fn new() -> Arc<Self> {
        // Whoever asks takes the old answers first, so there are never more than one for each question that waited, and the new
        // one: no worker ever frees what an answer holds.
        Arc::new(Queries { questions: ArrayQueue::new(4), answers: ArrayQueue::new(8) })
    }

    /// Asks; the question comes back when too many are under way. Only one asker at a time gets the right answers.
    pub fn ask(&self, query: Box<Query>) -> Result<(), Box<Query>> {
        self.questions.push(query)
    }

    /// The next answer, if there is one already.
    pub fn answer(&self) -> Option<Box<Query>> {
        self.answers.pop()
    }

    /// Whether a question waits.
    pub fn is_waiting(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Answers one question. Called by the worker, once a loop.
    pub fn serve(&self, flows: &FlowTable, now: Time) {
        if let Some(mut query) = self.questions.pop() {
            query.answer(flows, now);
            if let Err(unread) = self.answers.push(query) {
                // There is room, see `new`.
                drop(unread);
            }
        }
    }
}
