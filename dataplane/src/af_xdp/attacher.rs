//! Attaching the steering program to devices, apart from what it steers: a driver may take seconds for it, and whoever changes
//! the program's maps goes on meanwhile.

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode as Hook};

use super::attachment::{AttachedMode, XdpMode, better_generic};
use super::device::Device;
use super::program::boxed;
use super::program_error::{SteeringError, meaning, reasons};

/// Attaches the program, and keeps it loaded.
#[derive(Clone)]
pub struct Attacher(Arc<Mutex<Ebpf>>);

/// The program on one device, until this is dropped.
pub struct Attached {
    link: FdLink,
}

impl Attached {
    /// The number that the kernel gave the program; `None` where it does not tell.
    pub fn program(&self) -> Option<u32> {
        self.link.info().ok().map(|info| info.program_id())
    }
}

impl Attacher {
    pub(super) fn new(ebpf: Ebpf) -> Self {
        Attacher(Arc::new(Mutex::new(ebpf)))
    }

    /// Attaches the program to a device, for which the kernel may wait for its driver.
    pub fn attach(&self, interface: &str, index: u32, how: XdpMode) -> Result<(AttachedMode, Attached), SteeringError> {
        let driver = Device { name: interface.to_owned(), index }.driver();
        let generic = |because: String| {
            let attached = self.attach_as(interface, index, Hook::Skb)?;
            Ok((AttachedMode::Generic { because }, attached))
        };
        if how == XdpMode::Auto
            && let Some(because) = better_generic(&driver)
        {
            return generic(because.to_owned());
        }
        if how == XdpMode::Generic {
            return generic("xdp: generic".to_owned());
        }
        match self.attach_as(interface, index, Hook::Driver) {
            Ok(attached) => Ok((AttachedMode::Native, attached)),
            Err(error) if how == XdpMode::Native => Err(error),
            Err(SteeringError::Attach { source, .. }) => generic(
                meaning(interface, &*source)
                    .unwrap_or_else(|| format!("the driver refused native XDP: {}", reasons(&*source))),
            ),
            Err(other) => Err(other),
        }
    }

    fn attach_as(&self, interface: &str, index: u32, hook: Hook) -> Result<Attached, SteeringError> {
        let (word, hint) = match hook {
            Hook::Driver => (
                "native",
                "is the MTU too large for this driver, or has the peer of a veth more queues? Say xdp: generic to do without the driver",
            ),
            _ => ("generic", "`ip link show` tells whether the interface is still there"),
        };
        let failed = |source| SteeringError::attach(interface, word, hint, source);
        let mut ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let program: &mut Xdp = ebpf
            .program_mut("steer")
            .ok_or_else(|| failed("the object has no program steer".into()))?
            .try_into()
            .map_err(|error: ProgramError| failed(boxed(error)))?;
        let id = program.attach_to_if_index(index, hook).map_err(|error| failed(boxed(error)))?;
        let link = program.take_link(id).map_err(|error| failed(boxed(error)))?;
        // Without BPF links the library falls back to a netlink attachment, which nobody would take away after a crash.
        let link = FdLink::try_from(link).map_err(|_| SteeringError::NoLink { interface: interface.to_owned() })?;
        Ok(Attached { link })
    }
}
