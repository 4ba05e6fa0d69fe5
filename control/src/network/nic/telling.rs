//! What only ioctls and /sys tell of a NIC.

use std::fs;
use std::path::PathBuf;

use ringway_dataplane::af_xdp::{Device, HashFields, Hashed};

use super::answers::Driver;
use super::error::NicError;
use super::rss::{HashFunction, Rss};

fn device(name: &str) -> Result<Device, NicError> {
    Device::by_name(name).map_err(NicError::of_device)
}

/// Where /sys tells of an interface. /sys shows the network namespace that it was mounted in, which need not be this one: a
/// namesake there has another ifindex or MAC address.
pub(super) fn folder(name: &str) -> Option<PathBuf> {
    let device = device(name).ok()?;
    let folder = PathBuf::from("/sys/class/net").join(name);
    let told = |file| fs::read_to_string(folder.join(file)).unwrap_or_default().trim().to_owned();
    let is_it = told("ifindex") == device.index.to_string() && told("address") == device.mac().ok()?.to_string();
    is_it.then_some(folder)
}

/// What its driver says of itself.
pub fn driver(name: &str) -> Result<Driver, NicError> {
    let told = device(name)?.information().map_err(NicError::of_device)?;
    Ok(Driver { name: told.driver, version: told.version, firmware: told.firmware, bus: told.bus })
}

/// The NUMA node it is attached to; `None` when it has none, as virtual interfaces do.
pub fn numa_node(name: &str) -> Option<u32> {
    fs::read_to_string(folder(name)?.join("device/numa_node")).ok()?.trim().parse().ok()
}

/// What of these packets decides about their queue.
pub fn flow_hash(name: &str, packets: Hashed) -> Result<HashFields, NicError> {
    device(name)?.flow_hash(packets).map_err(NicError::of_device)
}

/// Says what of these packets is to decide about their queue.
pub fn set_flow_hash(name: &str, packets: Hashed, fields: HashFields) -> Result<(), NicError> {
    device(name)?.set_flow_hash(packets, fields).map_err(NicError::of_device)
}

/// RSS as kernels before 6.3 tell it.
pub(super) fn rss(name: &str) -> Result<Rss, NicError> {
    let told = device(name)?.rss().map_err(NicError::of_device)?;
    let function = HashFunction::of(u32::from(told.function));
    Ok(Rss { function, key: told.key, table: told.table, symmetric: told.transform != 0 })
}
