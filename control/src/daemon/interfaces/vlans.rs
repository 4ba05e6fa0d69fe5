//! The VLAN devices on a device, listed or not.

/// Their names. Where the kernel shows none, or has no VLANs, there are none.
pub(super) fn above(device: &str) -> Vec<String> {
    // A thread may be in another network namespace than its process.
    let text = std::fs::read_to_string("/proc/thread-self/net/vlan/config").unwrap_or_default();
    parse(&text, device)
}

/// Lines like `eth0.100       | 100  | eth0`, below two that head them.
fn parse(text: &str, device: &str) -> Vec<String> {
    let of_line = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, _tag, below) = (fields.next()?, fields.next()?, fields.next()?);
        (below == device).then(|| name.to_owned())
    };
    text.lines().filter_map(of_line).collect()
}

/// Why frames that come by a device of this driver have no tags in their bytes, whatever is set on it.
pub(super) fn hidden(driver: &str) -> Option<&'static str> {
    match driver {
        "veth" => Some(
            "the other end of a veth keeps tags apart from the bytes that XDP sees, so frames of any VLAN look untagged",
        ),
        "bridge" => Some("a bridge keeps tags apart from the bytes that XDP sees, so frames of any VLAN look untagged"),
        _ => None,
    }
}

/// Why a device is not served whose frames have lost their tags, when that matters. `tagged`: a VLAN device above it is listed.
pub(super) fn refusal(device: &str, tagged: bool, above: &[String]) -> Option<String> {
    if tagged {
        return Some(
            "no VLAN device above it can be served, take those out of interfaces or use another NIC".to_owned(),
        );
    }
    let first = above.first()?;
    let names = above.join(", ");
    Some(format!(
        "Ringway would take frames for {names}, which Linux has on it, for untagged ones: move that to another NIC or remove it \
         (ip link delete {first}), or take {device} out of interfaces"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlan_devices_that_are_not_listed_are_in_the_way_of_a_device_that_hides_tags() {
        let text = "VLAN Dev name\t | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\n\
                    eth0.100       | 100  | eth0\nstorage        | 7  | eth1\neth0.2 | 2 | eth0\n";
        assert_eq!(parse(text, "eth0"), ["eth0.100", "eth0.2"]);
        assert_eq!(parse(text, "eth"), [""; 0]);
        let told = refusal("eth0", false, &parse(text, "eth0")).unwrap();
        assert!(told.contains("eth0.100, eth0.2") && told.contains("take eth0 out of interfaces"), "{told}");
        assert_eq!(refusal("eth2", false, &parse(text, "eth2")), None);
        assert!(refusal("eth2", true, &[]).is_some());
    }

    #[test]
    fn devices_without_hardware_hide_tags_as_well() {
        assert!(hidden("veth").unwrap().starts_with("the other end of a veth keeps tags apart"));
        assert!(hidden("bridge").is_some() && hidden("virtio_net").is_none() && hidden("").is_none());
    }
}
