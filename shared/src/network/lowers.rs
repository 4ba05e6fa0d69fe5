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
    /// By ifindex. Empty where there is no kernel (replay), for an interface that is gone, and for one that nothing can carry
    /// now: then [`Lowers::notes`] says why.
    pub devices: Arc<[Lower]>,
    /// The VLAN identifier (802.1Q) that its frames carry there, 1 to 4094; `None` for untagged ones.
    pub vlan: Option<u16>,
    /// What users should know about it, one sentence each that goes on after the interface's name: why nothing carries it, or why
    /// it is carried by itself where a faster way would be expected.
    pub notes: Arc<[String]>,
}

impl Lowers {
    /// Those of a device that carries its frames itself.
    pub fn itself(index: u32, name: Arc<str>) -> Self {
        Lowers { devices: Arc::from([Lower { index, name, receives: true, sends: true }]), ..Lowers::default() }
    }

    /// Nothing carries it, and this is why.
    pub fn nothing(why: String) -> Self {
        Lowers { notes: Arc::from([why]), ..Lowers::default() }
    }
}
