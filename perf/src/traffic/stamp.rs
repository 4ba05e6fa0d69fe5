//! What a frame carries for the recorder.

use ringway_dataplane::wire::{Kind, Packet};

/// Bytes of a stamp: the first of the payload.
pub const STAMP: usize = 16;
/// The first two bytes of a stamp.
pub const MAGIC: u64 = 0x5257;
/// The bits of the number.
const NUMBER: u64 = (1 << 48) - 1;

/// What a frame carries for the recorder, at the start of its payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the frame among the stamped ones of its load, below 2^48.
    pub sequence: u64,
    /// When it was written: [`now`].
    pub nanos: u64,
}

impl Stamp {
    /// The stamp of a received frame, when it has one.
    #[inline]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let packet = Packet::parse(frame).ok()?;
        let header = match packet.kind {
            Kind::Tcp { .. } => usize::from(frame.get(usize::from(packet.l4) + 12)? >> 4) * 4,
            Kind::Udp => 8,
            _ => return None,
        };
        let payload = frame.get(usize::from(packet.l4) + header..usize::from(packet.end))?;
        let (words, _) = payload.first_chunk::<STAMP>()?.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_be_bytes(*word));
        let (number, nanos) = (words.next()?, words.next()?);
        (number >> 48 == MAGIC).then_some(Stamp { sequence: number & NUMBER, nanos })
    }

    /// As it is written into a frame.
    #[inline]
    pub fn bytes(self) -> [u8; STAMP] {
        let number = MAGIC << 48 | (self.sequence & NUMBER);
        (u128::from(number) << 64 | u128::from(self.nanos)).to_be_bytes()
    }
}

/// The monotonic clock, which all processes of a machine share, in nanoseconds.
#[inline]
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
