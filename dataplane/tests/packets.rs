//! The packet path: packets in, verdicts and packets out byte for byte, and the whole ledger. Rows as `bed/row.rs` says.

mod bed;
#[path = "packets/forward.rs"]
mod forward;
#[path = "packets/refuse.rs"]
mod refuse;
#[path = "packets/town.rs"]
mod town;

use bed::row::run_all;

#[test]
fn forwarded_packets() {
    run_all(forward::rows());
}

#[test]
fn refused_packets() {
    run_all(refuse::rows());
}
