//! What a worker lends to whoever opens a port for it.
//!
//! Opening may take a driver seconds, so it happens in another thread while the worker forwards. That thread never sees the
//! worker's UMEM: it gets a number for the port and the chunks for its fill ring, which belong to that number from then on, so
//! that nobody else gets them.
//!
//! A ring has one producer. The opener fills the fill ring before the bind, and hands the port over by moving it; from then on
//! the worker fills it, and goes on where the opener ended, since the port has our end's indices. No two threads ever have a
//! port, a ring's end or a loan at the same time: none of them can be cloned.

use std::sync::Arc;

use super::{Closed, Large, PIECE, Port, PortError, PortOptions};
use crate::af_xdp::socket::Order;
use crate::af_xdp::umem::{ETHERNET, Holder, Region};
use crate::af_xdp::{CopyMode, RingSizes, Socket, SocketError, SocketOptions, Umem};

/// A number for a port, and the chunks for its fill ring.
#[derive(Debug)]
#[must_use = "the chunks are lost until the port is opened and closed, or `unused` is reclaimed"]
pub struct Loan {
    region: Region,
    holder: Holder,
    rings: RingSizes,
    chunks: Vec<u64>,
}

impl Loan {
    /// Takes what a port with these rings needs.
    pub fn of(umem: &mut Umem, rings: RingSizes) -> Result<Loan, PortError> {
        let holder = Port::holder(umem, rings)?;
        let chunks = (0..rings.fill).map_while(|_| umem.take_for(holder)).collect();
        Ok(Loan { region: umem.region(), holder, rings, chunks })
    }

    /// Opens a socket on the queue, its fill ring full. `siblings` are the worker's other sockets, which share the UMEM. The
    /// kernel may wait for the driver meanwhile. On failure the loan is there for another attempt.
    pub fn open(self, options: &PortOptions<'_>, siblings: &[Arc<Socket>]) -> Result<Port, (PortError, Box<Loan>)> {
        match self.bind(options, siblings) {
            Ok(port) => Ok(port),
            Err(error) => Err((error.into(), Box::new(self))),
        }
    }

    fn bind(&self, options: &PortOptions<'_>, siblings: &[Arc<Socket>]) -> Result<Port, SocketError> {
        let mtu = options.device.mtu()?;
        let order = Order {
            device: options.device,
            queue: options.queue,
            region: &self.region,
            siblings,
            options: &SocketOptions { rings: self.rings, ..options.socket },
            chunks: &self.chunks,
        };
        let (socket, rings) = Socket::open(&order)?;
        let mut port = Port::over(options.device.index, options.queue, rings, &self.region, self.holder);
        port.is_direct = *socket.mode() == CopyMode::ZeroCopy;
        // In zero-copy mode the driver works by itself, and is woken where it asks for that.
        port.busy_poll = options.socket.busy_poll && !port.is_direct;
        port.socket = Some(Arc::new(socket));
        port.longest = mtu + ETHERNET;
        port.large = Large::new(self.holder, PIECE.min(mtu));
        port.in_receive = self.chunks.len() as u32;
        Ok(port)
    }

    /// Gives it back: no port was opened. The kernel has let go of the chunks: a bind that fails takes them back from the
    /// driver before it returns, and what was never bound the kernel does not look at.
    pub fn unused(self) -> Closed {
        Closed::new(self.holder, self.region.umem(), None)
    }
}
