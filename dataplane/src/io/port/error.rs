//! Why there is no port.

use rustix::io::Errno;

use crate::af_xdp::SocketError;

/// Why a port could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Its socket could not.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Its rings could not be made.
    #[error("cannot make rings in memory: {0}; their sizes are powers of two")]
    Rings(Errno),
    /// The UMEM has not enough frames for the rings.
    #[error(
        "a port's rings hold up to {needed} frames, and the packet memory has {free} that no other port may need: restart \
         Ringway, so that it sets aside enough for all interfaces that it then has"
    )]
    Frames {
        /// Frames that the rings can hold at once.
        needed: u32,
        /// Frames that no other port was promised.
        free: u32,
    },
    /// They are about to be free.
    #[error(
        "a port's rings hold up to {needed} frames, and the packet memory has {free} that no other port may need, until the \
         kernel has let go of a port that was closed just now; Ringway tries again by itself"
    )]
    FramesSoon {
        /// Frames that the rings can hold at once.
        needed: u32,
        /// Frames that no other port was promised.
        free: u32,
    },
    /// The UMEM has as many ports as it can tell apart.
    #[error("one worker polls 254 ports already: raise the number of workers")]
    TooMany,
}

impl PortError {
    /// The same error while frames of closed ports are on their way back.
    pub fn for_a_moment(self) -> Self {
        match self {
            PortError::Frames { needed, free } => PortError::FramesSoon { needed, free },
            other => other,
        }
    }
}
