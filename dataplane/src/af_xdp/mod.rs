//! The kernel's AF_XDP interface, one file per kernel noun. All unsafe code of the packet path is below here.

mod attacher;
mod attachment;
mod chunks;
pub mod claims;
pub mod device;
mod ethtool;
mod frame;
pub(crate) mod mapping;
mod piece;
pub mod program;
mod program_error;
mod program_keys;
mod refusal;
pub mod rings;
pub mod socket;
mod socket_error;
pub mod tap;
pub mod umem;

pub use device::{Device, DeviceError};
pub use ethtool::{HashFields, Hashed, Information, RssAnswer};
pub use frame::Frame;
pub(crate) use piece::Piece;
pub use socket::{CopyMode, RingSizes, Rings, Socket, SocketOptions, ZeroCopy};
pub use socket_error::SocketError;
pub use tap::{Tap, TapError};
pub use umem::{Umem, UmemError, UmemLayout};
