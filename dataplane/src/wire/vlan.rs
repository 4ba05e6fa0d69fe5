//! IEEE 802.1Q tags: four bytes behind the addresses of an Ethernet header.
//!
//! One tag is known, with the EtherType 0x8100. A frame with two of them, or with a provider's (802.1ad), belongs to no VLAN
//! here. Priority and drop eligibility are neither looked at nor written, as Linux does without an egress priority map.

use super::ethernet;

/// Bytes of a tag.
pub const TAG: usize = 4;
/// The EtherType of a tag.
pub const ETHER_TYPE: u16 = 0x8100;
/// That of a provider's tag.
pub const PROVIDER: u16 = 0x88a8;

/// Bytes of both addresses.
const ADDRESSES: usize = ethernet::ETHER_TYPE;
/// Bytes of a tagged header.
const HEADER: usize = ethernet::HEADER + TAG;
/// The bits of a tag that are the VLAN's.
const IDENTIFIER: u16 = 0x0fff;

/// The VLAN of a frame whose only tag names one. `None`: untagged, cut off in the tag, with a priority only (VLAN 0, which the
/// steering program takes off), with the reserved identifier 4095, or with two tags.
#[inline]
pub fn identifier(frame: &[u8]) -> Option<u16> {
    let header = frame.first_chunk::<HEADER>()?;
    let word = |at: usize| Some(u16::from_be_bytes([*header.get(at)?, *header.get(at + 1)?]));
    if word(ADDRESSES)? != ETHER_TYPE {
        return None;
    }
    let identifier = word(ADDRESSES + 2)? & IDENTIFIER;
    let inner = word(ADDRESSES + TAG)?;
    let is_known = identifier != 0 && identifier != IDENTIFIER && inner != ETHER_TYPE && inner != PROVIDER;
    is_known.then_some(identifier)
}

/// Moves the addresses over the tag. The frame starts [`TAG`] bytes later from now on; one too short for a tag stays as it is.
#[inline]
pub fn take_off(frame: &mut [u8]) {
    if frame.len() >= HEADER {
        frame.copy_within(..ADDRESSES, TAG);
    }
}

/// Puts a tag into a frame that was made [`TAG`] bytes longer at its start; those bytes may be anything. False, and nothing
/// changed, when it is too short to be such a frame.
#[inline]
pub fn put_on(frame: &mut [u8], identifier: u16) -> bool {
    if frame.len() < HEADER {
        return false;
    }
    frame.copy_within(TAG..TAG + ADDRESSES, 0);
    let [a, b] = ETHER_TYPE.to_be_bytes();
    let [c, d] = (identifier & IDENTIFIER).to_be_bytes();
    if let Some(tag) = frame.get_mut(ADDRESSES..ADDRESSES + TAG) {
        tag.copy_from_slice(&[a, b, c, d]);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses 1 to 12, then these bytes.
    fn frame(rest: &[u8]) -> Vec<u8> {
        (1..=12).chain(rest.iter().copied()).collect()
    }

    #[test]
    fn a_frame_names_its_vlan_only_by_one_tag() {
        let of = |rest: &[u8]| identifier(&frame(rest));
        assert_eq!(of(&[0x81, 0, 0, 100, 8, 0, 1, 2]), Some(100));
        assert_eq!(of(&[0x81, 0, 0xff, 0xfe, 8, 0]), Some(4094), "priority 7 and drop eligibility do not matter");
        assert_eq!(of(&[0x81, 0, 0x0f, 0xff, 8, 0]), None, "reserved");
        assert_eq!(of(&[0x81, 0, 0xe0, 0, 8, 0]), None, "a priority tag");
        assert_eq!(of(&[0x81, 0, 0, 100, 0x81, 0, 0, 7, 8, 0]), None, "two tags");
        assert_eq!(of(&[0x81, 0, 0, 100, 0x88, 0xa8, 0, 7, 8, 0]), None);
        assert_eq!(of(&[0x88, 0xa8, 0, 100, 8, 0]), None, "a provider's");
        assert_eq!(of(&[8, 0, 0x81, 0, 0, 100]), None, "untagged");
        assert_eq!(of(&[0x81, 0, 0, 100, 8]), None, "cut off");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_tag_goes_on_and_comes_off() {
        let plain = frame(&[8, 0, 0x45, 7]);
        let mut tagged: Vec<u8> = [0xee; TAG].into_iter().chain(plain.iter().copied()).collect();
        assert!(put_on(&mut tagged, 100));
        assert_eq!(tagged, frame(&[0x81, 0, 0, 100, 8, 0, 0x45, 7]));
        take_off(&mut tagged);
        assert_eq!(&tagged[TAG..], plain);
        for length in 0..HEADER {
            let mut short = vec![9; length];
            assert!(!put_on(&mut short, 1));
            take_off(&mut short);
            assert_eq!(short, vec![9; length]);
        }
    }
}
