//! `ringway run`: the load balancer as a process.

mod instance;
mod placement;
mod privileges;

pub use instance::{Instance, InstanceError};
pub use placement::{Device, Placement, PlacementError, allowed_cpus, device};
pub use privileges::{MissingPrivileges, check as check_privileges};
