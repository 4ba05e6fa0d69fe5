//! The same objects and packets for the real kube-proxy and for Ringway: who answers, with which source, or how the
//! sender is refused must be the same, but for the differences that docs/kube-proxy.md lists.
//!
//! Objects and packets are random. The seeds are fixed and are printed; `RINGWAY_SEEDS=7,8` chooses others.

mod asking;
mod beside;
mod expect;
mod health;
mod objects;
mod packets;
mod peer;
mod random;
mod rounds;

use ringway_tests::control_plane;
use rounds::{Manner, Rounds};

fn seeds(default: &[u64]) -> Vec<u64> {
    match std::env::var("RINGWAY_SEEDS") {
        Ok(text) => text.split(',').map(|seed| seed.trim().parse().expect("RINGWAY_SEEDS is numbers")).collect(),
        Err(_) => default.to_vec(),
    }
}

#[test]
fn ringway_decides_as_the_real_kube_proxy_does() {
    if !control_plane::can_run("ringway_decides_as_the_real_kube_proxy_does") {
        return;
    }
    let mut rounds = Rounds::start();
    for (manner, seeds) in [
        (Manner { detector: true, masquerade_all: false }, seeds(&[1, 2, 3, 4, 5, 6, 7, 8, 110, 113])),
        (Manner { detector: false, masquerade_all: false }, seeds(&[1, 11, 12, 13])),
        (Manner { detector: true, masquerade_all: true }, seeds(&[21, 22, 23])),
    ] {
        rounds.begin(manner);
        for seed in seeds {
            rounds.compare(seed);
        }
    }
    rounds.finish();
}
