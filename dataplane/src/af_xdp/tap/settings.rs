//! Settings that make the kernel treat packets from the device like those from the NIC, and send none by it.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::af_xdp::device::Device;

/// One value under `/proc/sys/net`.
struct Setting {
    family: &'static str,
    key: &'static str,
    value: String,
    /// What will not work without it.
    without: &'static str,
}

impl Setting {
    fn path(&self, device: &Device) -> String {
        path(self.family, device, self.key)
    }

    fn write(&self, device: &Device) -> Result<(), String> {
        let Setting { family, value, without, .. } = self;
        let path = self.path(device);
        match fs::write(&path, value) {
            // No IPv6 in this kernel, or none on a device with an MTU below 1280.
            Err(error) if *family == "ipv6" && error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| format!("cannot write {value} to {path}: {error}; {without}")),
        }
    }
}

fn path(family: &str, device: &Device, key: &str) -> String {
    format!("{}/{family}/conf/{device}/{key}", root())
}

/// Where the settings are. A container has its own `/proc/sys` for reading only; there the host's may be mounted beside it,
/// which shows the settings of whoever looks.
fn root() -> &'static str {
    const BESIDE: &str = "/host/proc/sys/net";
    // Where nothing is mounted there may be an empty folder all the same.
    if Path::new(BESIDE).join("ipv4/conf").is_dir() { BESIDE } else { "/proc/sys/net" }
}

/// Whether the kernel filters by the reverse path on all interfaces.
fn is_filtering() -> bool {
    fs::read_to_string(format!("{}/ipv4/conf/all/rp_filter", root())).is_ok_and(|value| value.trim() != "0")
}

fn wanted(nic: &Device) -> Vec<Setting> {
    let mut all = Vec::new();
    let mut set = |family, key, value: &str, without| {
        all.push(Setting { family, key, value: value.to_owned(), without });
    };
    // Answers to a packet leave by the NIC, never by the device it came from. The stricter of this value and the one for
    // all interfaces holds, 2 being laxer than 1.
    let filter = if is_filtering() { "2" } else { "0" };
    set("ipv4", "rp_filter", filter, "passed IPv4 packets may be dropped by the reverse path filter");
    set("ipv4", "send_redirects", "0", "the kernel may send needless redirects");
    set("ipv6", "addr_gen_mode", "1", "the device may get a link-local address");
    set("ipv6", "accept_ra", "0", "the device may take part in autoconfiguration");
    set("ipv6", "autoconf", "0", "the device may take part in autoconfiguration");
    set("ipv6", "dad_transmits", "0", "the device may look for duplicate addresses");
    let as_nic = [
        ("ipv6", "disable_ipv6", "passed IPv6 packets are not taken as by the interface itself"),
        ("ipv4", "forwarding", "passed packets for other hosts are not forwarded"),
        ("ipv6", "forwarding", "passed packets for other hosts are not forwarded"),
    ];
    for (family, key, without) in as_nic {
        if let Ok(value) = fs::read_to_string(path(family, nic, key)) {
            set(family, key, value.trim(), without);
        }
    }
    all
}

/// Makes all settings; says which could not be made.
pub(super) fn make(nic: &Device, tap: &Device) -> Vec<String> {
    let mut notes: Vec<String> = wanted(nic).iter().filter_map(|setting| setting.write(tap).err()).collect();
    notes.extend(give_address(tap).err());
    notes
}

/// Makes those settings again that are not as they should be; says which these were.
pub(super) fn mend(nic: &Device, tap: &Device) -> Vec<String> {
    let mut mended = Vec::new();
    let mut turned_off = false;
    for setting in wanted(nic) {
        let Ok(value) = fs::read_to_string(setting.path(tap)) else { continue };
        if value.trim() == setting.value {
            continue;
        }
        if setting.key == "addr_gen_mode" {
            // The address that it made meanwhile goes with IPv6 as a whole, which a later setting turns on again.
            turned_off = fs::write(path("ipv6", tap, "disable_ipv6"), "1").is_ok();
        }
        let is_ours = turned_off && setting.key == "disable_ipv6";
        if setting.write(tap).is_ok() && !is_ours {
            mended.push(format!("its net.{}.{} was {}", setting.family, setting.key, value.trim()));
        }
    }
    let _ = give_address(tap);
    mended
}

/// Even the lax filter drops what comes by an interface without any address. One of scope host is never used as a source,
/// and the whole of 127.0.0.0/8 is local anyway.
fn give_address(tap: &Device) -> Result<(), String> {
    if !is_filtering() {
        return Ok(());
    }
    tap.set_address(Ipv4Addr::new(127, 255, 255, 254))
        .map_err(|error| format!("{error}; passed IPv4 packets may be dropped by the reverse path filter"))
}
