//! Netlink attributes, read and written.

use rtnetlink::packet_core::{DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

/// Attributes one after the other, as the kernel sent them. What is cut or odd ends them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// Kind and value of each.
    pub(super) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0).map_while(|attribute| {
            let attribute = attribute.ok()?;
            let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
            Some((kind, attribute.into_inner().get(NLA_HEADER_SIZE..length)?))
        })
    }

    /// The value of the first one of a kind.
    pub(super) fn value(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find(|(other, _)| *other == kind).map(|(_, value)| value)
    }

    /// What stands inside the first one of a kind.
    pub(super) fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes(self.value(kind).unwrap_or_default())
    }

    pub(super) fn u16(self, kind: u16) -> Option<u16> {
        self.value(kind)?.first_chunk().copied().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        self.value(kind)?.first_chunk().copied().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(self, kind: u16) -> Option<u64> {
        self.value(kind)?.first_chunk().copied().map(u64::from_ne_bytes)
    }

    pub(super) fn text(self, kind: u16) -> Option<String> {
        let bytes = self.value(kind)?;
        Some(String::from_utf8_lossy(bytes.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned())
    }
}

/// A text with the zero that ends it.
pub(super) fn text(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}

/// A number.
pub(super) fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_ne_bytes().into())
}

/// What is there or not.
pub(super) fn flag(kind: u16) -> DefaultNla {
    DefaultNla::new(kind, Vec::new())
}

/// Attributes inside one.
pub(super) fn nested(kind: u16, inside: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, bytes(inside))
}

/// Attributes as the kernel wants them.
pub(super) fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_tells_nothing_wrong() {
        let whole = bytes(&[number(7, 5), nested(3, &[text(1, "eth0"), flag(2)]), DefaultNla::new(4, vec![9; 8])]);
        let read = |length: usize| {
            let all = Attributes(&whole[..length]);
            (all.u32(7), all.nested(3).text(1), all.nested(3).value(2).is_some(), all.u64(4))
        };
        let nine = u64::from_ne_bytes([9; 8]);
        assert_eq!(read(whole.len()), (Some(5), Some("eth0".into()), true, Some(nine)));
        for length in 0..whole.len() {
            let (number, name, _, last) = read(length);
            assert!(number.is_none_or(|number| number == 5) && last.is_none(), "{length}");
            assert!(name.is_none_or(|name| name == "eth0"), "{length}");
        }
        assert_eq!(Attributes(&whole).u16(4), Some(0x0909));
        assert_eq!(Attributes(&[0; 32]).iter().count(), 0, "an attribute without a length");
    }
}
