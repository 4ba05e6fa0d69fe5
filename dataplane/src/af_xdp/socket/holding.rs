//! Whether a queue is held by an AF_XDP socket, or still by what is left of one.

use super::prepared::{Attempt, Prepared};
use super::{Order, RingSizes, SocketOptions, ZeroCopy};
use crate::af_xdp::socket_error::SocketError;
use crate::af_xdp::{Device, Umem, UmemLayout};

/// Whether anybody holds a queue of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nobody, or there is no such device any more.
    Free,
    /// A socket, or a driver that has not let go yet.
    Held,
    /// The kernel does not let us ask.
    Unknown,
}

impl Holding {
    /// Asks by binding a socket of one chunk in copy mode, which does nothing to the driver, and closing it again. Waits
    /// while others change devices.
    pub fn of(device: &Device, queue: u32) -> Self {
        let Ok(umem) = Umem::new(UmemLayout { chunk_size: 4096, ..UmemLayout::of_frames(1) }) else {
            return Holding::Unknown;
        };
        let rings = RingSizes { fill: 1, completion: 1, receive: 1, transmit: 1, driver: 0 };
        let options =
            SocketOptions { rings, zero_copy: ZeroCopy::Off, generic: false, busy_poll: false, announces: None };
        let region = umem.region();
        let order = Order { device, queue, region: &region, siblings: &[], options: &options, chunks: &[] };
        let attempt = Attempt { zero_copy: false, large: false };
        match Prepared::new(&order, attempt).and_then(Prepared::bind) {
            Ok(_) => Holding::Free,
            Err(SocketError::Busy { .. }) => Holding::Held,
            // The kernel stops a device before it takes it away.
            Err(SocketError::Device(_)) => Holding::Free,
            // EINVAL among them, of a queue that there is none of: a driver that resets to fewer queues may hold it still.
            Err(_) => Holding::Unknown,
        }
    }
}
