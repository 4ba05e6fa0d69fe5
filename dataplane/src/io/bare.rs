//! A forwarder that does nothing but exchange MAC addresses: what AF_XDP itself costs, for benches to measure against.

use arrayvec::ArrayVec;
use ringway_shared::MacAddress;

use super::Port;
use crate::af_xdp::Umem;
use crate::wire::ethernet;

/// Moves one batch from one port to another, or to itself when `out` is `None`, with these MAC addresses. How many
/// packets went on; those that found the transmit ring full are lost. Flushes both ports.
pub fn forward(
    umem: &mut Umem,
    port: &mut Port,
    mut out: Option<&mut Port>,
    destination: MacAddress,
    source: MacAddress,
) -> usize {
    let mut batch = ArrayVec::new();
    port.receive(umem, &mut batch);
    let mut sent = 0;
    for mut received in batch.drain(..) {
        ethernet::set_macs(umem.packet_mut(&mut received.frame), destination, source);
        let way = out.as_deref_mut().unwrap_or(port);
        match way.send(umem, received.frame) {
            Ok(()) => sent += 1,
            Err(frame) => umem.free(frame),
        }
    }
    port.flush(umem);
    if let Some(out) = out {
        out.flush(umem);
    }
    sent
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::af_xdp::{RingSizes, UmemLayout};
    use ringway_shared::InterfaceId;

    #[test]
    fn packets_go_through_with_new_addresses_and_a_full_ring_loses_the_rest() {
        let sizes = RingSizes { fill: 8, completion: 4, receive: 8, transmit: 4, driver: 0 };
        let mut umem = Umem::new(UmemLayout::of_frames(64)).unwrap();
        let (mut one, mut kernel_one) = Port::in_memory(InterfaceId(0), 0, sizes, &mut umem).unwrap();
        let (mut two, mut kernel_two) = Port::in_memory(InterfaceId(1), 0, sizes, &mut umem).unwrap();
        let (to, from) = (MacAddress([2; 6]), MacAddress([4; 6]));
        for _ in 0..6 {
            assert!(kernel_one.deliver(&mut umem, &[9; 60]));
        }
        assert_eq!(forward(&mut umem, &mut one, Some(&mut two), to, from), 4);
        for _ in 0..4 {
            let packet = kernel_two.transmit(&mut umem).unwrap();
            assert_eq!((&packet[..6], &packet[6..12], &packet[12..]), (&[2; 6][..], &[4; 6][..], &[9; 48][..]));
        }
        assert_eq!(forward(&mut umem, &mut two, None, to, from), 0);
        assert_eq!(umem.free_frames() + one.in_flight() + two.in_flight(), umem.total());
    }
}
