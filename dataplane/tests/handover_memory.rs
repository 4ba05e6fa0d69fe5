//! What handover takes at the start. One test alone in its process: it looks at the memory of all of it.

use ringway_dataplane::handover::{Mesh, PARCEL_BYTES};
use ringway_shared::InterfaceId;

/// Memory of this process that is present, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn parcels_that_were_never_used_take_no_memory() {
    let before = resident();
    let (_mesh, mut ends) = Mesh::new(64).unwrap();
    let at_start = (resident() - before) / 64;
    // All parcels of a worker would be 16 MiB.
    assert!(at_start < 1 << 20, "{at_start} bytes a worker");
    // One at a time: the parcel lent last is used first.
    for round in 0..10_000 {
        let (sender, receiver) = ends.split_at_mut(1);
        assert!(sender[0].send(1, &[7; PARCEL_BYTES], InterfaceId(0), round, false));
        assert!(receiver[0].receive(|bytes, _, _| bytes.iter().all(|byte| *byte == 7)).unwrap());
    }
    assert!(resident() - before < 64 << 20);
}
