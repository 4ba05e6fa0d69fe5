//! Neighbours and interfaces as metrics.

use super::{Metric, Number, gauge, many, one};
use crate::report::status::StatusReport;

pub(super) fn neighbors(status: &StatusReport) -> Vec<Metric> {
    let neighbors = &status.neighbors;
    let questions = [("unanswered", neighbors.unanswered), ("gave_way", neighbors.questions_gave_way)];
    vec![
        gauge("neighbors", "Neighbours with a known MAC address.", neighbors.known),
        one(
            "neighbors_gave_way",
            "Neighbours that were let go of because there were too many.",
            Number::Count(neighbors.known_gave_way),
        ),
        gauge("neighbors_asked", "Next hops that workers asked for and that have not answered yet.", {
            neighbors.waiting + neighbors.asked
        }),
        many(
            "neighbor_questions_lost",
            "Next hops that workers asked for in vain.",
            "how",
            questions.map(|(how, count)| (how, Number::Count(count))),
        ),
        gauge(
            "next_hops_silent",
            "Next hops of endpoints, routers and clients in use that do not answer now.",
            neighbors.silent_count,
        ),
    ]
}
