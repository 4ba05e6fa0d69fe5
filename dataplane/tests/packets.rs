//! The packet path: packets in, verdicts and packets out byte for byte, and the whole ledger. Rows as `bed/row.rs` says.

#[path = "packets/affinity.rs"]
mod affinity;
#[path = "packets/again.rs"]
mod again;
mod bed;
#[path = "packets/change.rs"]
mod change;
#[path = "packets/crowd.rs"]
mod crowd;
#[path = "packets/deserted.rs"]
mod deserted;
#[path = "packets/direct.rs"]
mod direct;
#[path = "packets/dsr.rs"]
mod dsr;
#[path = "packets/dsr_again.rs"]
mod dsr_again;
#[path = "packets/dsr_errors.rs"]
mod dsr_errors;
#[path = "packets/dsr_fragments.rs"]
mod dsr_fragments;
#[path = "packets/dsr_frames.rs"]
mod dsr_frames;
#[path = "packets/errors.rs"]
mod errors;
#[path = "packets/forward.rs"]
mod forward;
#[path = "packets/fragments.rs"]
mod fragments;
#[path = "packets/full.rs"]
mod full;
#[path = "packets/held.rs"]
mod held;
#[path = "packets/hop.rs"]
mod hop;
#[path = "packets/known_fragments.rs"]
mod known_fragments;
#[path = "packets/pass.rs"]
mod pass;
#[path = "packets/paths.rs"]
mod paths;
#[path = "packets/quotes.rs"]
mod quotes;
#[path = "packets/refuse.rs"]
mod refuse;
#[path = "packets/refused_fragments.rs"]
mod refused_fragments;
#[path = "packets/rescue.rs"]
mod rescue;
#[path = "packets/reshaped.rs"]
mod reshaped;
#[path = "packets/size.rs"]
mod size;
#[path = "packets/sources.rs"]
mod sources;
#[path = "packets/strays.rs"]
mod strays;
#[path = "packets/tcp.rs"]
mod tcp;
#[path = "packets/there_and_back.rs"]
mod there_and_back;
#[path = "packets/town.rs"]
mod town;
#[path = "packets/uses.rs"]
mod uses;
#[path = "packets/validity.rs"]
mod validity;

use bed::row::run_all;
use ringway_shared::DropReason;

#[test]
fn changing_services() {
    run_all(change::rows());
}

#[test]
fn reshaped_services() {
    run_all(reshaped::rows());
}

#[test]
fn session_affinity() {
    run_all(affinity::rows());
}

#[test]
fn nothing_left() {
    run_all(full::rows());
}

#[test]
fn held_packets() {
    run_all(held::rows());
}

#[test]
fn connections() {
    run_all(tcp::rows());
}

#[test]
fn connections_begun_again() {
    run_all(again::rows());
}

#[test]
fn rescued_connections() {
    run_all(rescue::rows());
}

#[test]
fn direct_connections() {
    run_all(direct::rows());
}

#[test]
fn direct_server_return() {
    run_all(dsr::rows());
    run_all(dsr_again::rows());
    run_all(dsr_errors::rows());
    run_all(dsr_fragments::rows());
}

#[test]
fn forwarded_packets() {
    run_all(forward::rows());
}

#[test]
fn fragments_of_datagrams() {
    run_all(fragments::rows());
    run_all(refused_fragments::rows());
    run_all(known_fragments::rows());
}

#[test]
fn hops_of_a_router() {
    run_all(hop::rows());
}

#[test]
fn passed_packets() {
    run_all(pass::rows());
}

#[test]
fn errors_about_flows() {
    run_all(quotes::rows());
}

#[test]
fn refused_packets() {
    run_all(refuse::rows());
}

#[test]
fn broken_packets() {
    run_all(validity::rows());
}

#[test]
fn packets_larger_than_the_way_out() {
    run_all(size::rows());
}

#[test]
fn sources_that_the_kernel_would_refuse() {
    run_all(sources::rows());
}

#[test]
fn floods_to_the_node_itself() {
    run_all(strays::rows());
}

#[test]
fn every_drop_reason_has_a_row() {
    let rows = [
        affinity::rows(),
        change::rows(),
        again::rows(),
        rescue::rows(),
        reshaped::rows(),
        direct::rows(),
        dsr::rows(),
        dsr_fragments::rows(),
        forward::rows(),
        fragments::rows(),
        full::rows(),
        held::rows(),
        hop::rows(),
        pass::rows(),
        quotes::rows(),
        refuse::rows(),
        refused_fragments::rows(),
        known_fragments::rows(),
        size::rows(),
        sources::rows(),
        strays::rows(),
        tcp::rows(),
        validity::rows(),
    ];
    let ledgers: Vec<_> = rows.iter().flatten().map(|row| row.ledger).collect();
    for reason in DropReason::ALL {
        // What becomes of a packet behind the packet path is tested in `handover.rs` and `src/dispatch/tests.rs`.
        use DropReason::{HandoverQueueFull, IcmpHandoverLimited, KernelUnreachable, NoFreeFrame, TxRingFull};
        let behind = [TxRingFull, HandoverQueueFull, KernelUnreachable, IcmpHandoverLimited, NoFreeFrame];
        let says = |ledger: &str| ledger.contains(&format!(":{}=", reason.label()));
        assert!(behind.contains(&reason) || ledgers.iter().any(|ledger| says(ledger)), "no row for {}", reason.label());
    }
}
