//! Lower devices: what carries the frames of an interface.
//!
//! A NIC carries its own frames. A VLAN device's are carried by the device below it, under a tag; a bond's by its members; a
//! bridge's by its port. Addresses, routes, neighbours and MTU are the upper device's, and so is the [`super::Interface`];
//! the steering program and the AF_XDP sockets are at the lower ones.

use std::sync::Arc;

/// A device of the kernel that carries frames of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lower {
    /// The kernel's ifindex.
    pub index: u32,
    /// The name in the kernel.
    pub name: Arc<str>,
    /// Whether frames that arrive by it are the interface's now. A backup member of a bond receives nothing.
    pub receives: bool,
    /// Whether the interface's frames may leave by it now; of several, the flow's hash decides.
    pub sends: bool,
}

/// The devices below an interface, and the tag that its frames have there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lowers {
    /// By ifindex. Empty where there is no kernel (replay), and for an interface that is gone.
    pub devices: Arc<[Lower]>,
    /// The VLAN identifier (802.1Q) that its frames carry there, 1 to 4094; `None` for untagged ones.
    pub vlan: Option<u16>,
}

impl Lowers {
    /// Those of a device that carries its frames itself.
    pub fn itself(index: u32, name: Arc<str>) -> Self {
        Lowers { devices: Arc::from([Lower { index, name, receives: true, sends: true }]), vlan: None }
    }
}
