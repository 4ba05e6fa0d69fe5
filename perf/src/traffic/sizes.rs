//! The sizes of a mix.

use std::fmt::Display;
use std::str::FromStr;

use arrayvec::ArrayVec;

use super::{Kind, Random};

/// The longest frame, in bytes without check sequence: an MTU of 1500.
pub const LONGEST: usize = 1514;
/// The most sizes of a mix.
pub const MOST_SIZES: usize = 16;

/// Frame lengths in bytes without check sequence; each frame has one of them at random. One that stands twice is twice
/// as frequent.
pub type Sizes = ArrayVec<usize, MOST_SIZES>;

/// Sizes as they are asked for: they depend on the kind of the frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SizeList {
    /// The shortest frames there can be.
    #[default]
    Shortest,
    /// The simple Internet mix: 7 of the shortest, 4 of 590, 1 of 1514 bytes.
    Imix,
    /// These.
    These(Sizes),
}

impl SizeList {
    /// The sizes for frames of a kind. [`super::Mix::check`] finds those that are too short.
    pub fn of(&self, kind: Kind) -> Sizes {
        let some = |size, count| std::iter::repeat_n(size, count);
        match self {
            SizeList::Shortest => some(kind.shortest(), 1).collect(),
            SizeList::Imix => some(kind.shortest(), 7).chain(some(590, 4)).chain(some(LONGEST, 1)).collect(),
            SizeList::These(sizes) => sizes.clone(),
        }
    }
}

/// One of the sizes.
#[inline]
pub(crate) fn pick(sizes: &Sizes, random: &mut Random) -> usize {
    match sizes.as_slice() {
        [size] => *size,
        sizes => sizes.get(random.below(sizes.len() as u32) as usize).copied().unwrap_or(60),
    }
}

impl FromStr for SizeList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed =
            format!("write shortest, imix, or up to {MOST_SIZES} lengths of 60 to {LONGEST}, as in 60,60,1514");
        match text {
            "shortest" => return Ok(SizeList::Shortest),
            "imix" => return Ok(SizeList::Imix),
            _ => {}
        }
        let mut sizes = Sizes::new();
        for word in text.split(',') {
            let size = word.trim().parse().ok().filter(|size| (60..=LONGEST).contains(size));
            let size = size.ok_or_else(|| format!("{word:?} is no frame length; {allowed}"))?;
            sizes.try_push(size).map_err(|_| format!("{} lengths; {allowed}", text.split(',').count()))?;
        }
        Ok(SizeList::These(sizes))
    }
}

impl Display for SizeList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SizeList::Shortest => f.write_str("shortest"),
            SizeList::Imix => f.write_str("imix"),
            SizeList::These(sizes) => {
                let words: Vec<String> = sizes.iter().map(usize::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}
