//! How large the rings of a device's ports are, where packet memory may have been laid out for fewer ports.
//!
//! Packet memory is pinned, so it is laid out once, at the start, for the queues that devices have then. A device that gets more of
//! them, or one that comes later, shall be served all the same, and at each of its queues: on one without a socket packets of
//! ours would go to the kernel. So rings are halved until all queues find room. Smaller rings lose bursts sooner and nothing
//! else, which `status` says.

use ringway_dataplane::af_xdp::RingSizes;
use ringway_dataplane::io::PortError;
use ringway_dataplane::worker::AttachError;

use super::fit::Wanted;
use super::{Interfaces, lock};
use crate::daemon::packet_memory::SPARE_FRAMES;

/// The largest rings for whose frames there is room, this size or half of it again and again. `has_room`: for ports with so many
/// frames each.
fn fitting(
    wanted: RingSizes,
    mut has_room: impl FnMut(u32) -> Result<(), AttachError>,
) -> Result<RingSizes, AttachError> {
    let mut sizes = wanted;
    loop {
        match (has_room(sizes.frames()), sizes.halved()) {
            (Ok(()), _) => return Ok(sizes),
            // For good it is too little: what is about to be free would not be used.
            (Err(AttachError::Port(PortError::Frames { .. })), Some(halved)) => sizes = halved,
            (Err(error), _) => return Err(error),
        }
    }
}

/// What `status` says of ports with smaller rings.
pub(super) fn note(wanted: RingSizes, sizes: RingSizes, queues: u32) -> Option<String> {
    (sizes != wanted).then(|| {
        format!(
            "each of its {queues} queues has rings of {} packets instead of {}, since packet memory was laid out for fewer, so \
             it loses bursts sooner: restart Ringway, so that it sets aside enough",
            sizes.receive, wanted.receive
        )
    })
}

/// Why a device whose packets need not be copied is copied from all the same.
pub(super) fn cramped(descriptors: u32) -> String {
    format!(
        "packet memory, laid out for other devices, has no room for the {descriptors} descriptors of each of its queues: restart Ringway, so \
         that it sets aside enough"
    )
}

/// Whether there is too little room for good.
pub(super) fn is_out(error: &AttachError) -> bool {
    matches!(error, AttachError::Port(PortError::Frames { .. }))
}

/// Why there is no room for rings of whatever size. `kept`: frames of each worker that are kept for other devices.
fn no_room(queues: &[Vec<u32>], kept: &[u32], error: AttachError) -> String {
    let AttachError::Port(PortError::Frames { needed, free }) = error else { return error.to_string() };
    let most = queues.iter().map(Vec::len).max().unwrap_or_default();
    let kept = kept.iter().max().copied().unwrap_or_default();
    let (needed, free) = (needed.saturating_sub(SPARE_FRAMES + kept), free.saturating_sub(SPARE_FRAMES + kept));
    let away = match kept {
        0 => String::new(),
        kept => format!(" ({kept} are kept for interfaces that are named and away)"),
    };
    format!(
        "the smallest rings at {most} queues for one worker hold up to {needed} frames, and its packet memory has {free} that no other \
         port may need{away}: restart Ringway, so that it sets aside enough for all interfaces that it then has"
    )
}

impl Interfaces {
    /// What a device has to leave to others, of each worker: one that is named, nothing.
    pub(super) fn kept_of(&self, wanted: &Wanted) -> Vec<u32> {
        let is_attached = |name: &str| self.carriers.values().any(|carrier| carrier.device.name == name);
        let places = if wanted.named { 0 } else { lock(&self.workers).len() };
        (0..places).map(|place| self.room.kept(place, is_attached)).collect()
    }

    /// Why there is no room for a device.
    pub(super) fn no_room(&mut self, wanted: &Wanted, queues: &[Vec<u32>], kept: &[u32], error: AttachError) -> String {
        let is_out = is_out(&error);
        let problem = no_room(queues, kept, error);
        if is_out && !wanted.named {
            self.room.note_out(queues.iter().map(|queues| queues.len() as u32).sum(), &problem);
        }
        problem
    }

    /// The largest rings that every worker has room for at each of these queues of a device, beside what is kept for others.
    pub(super) fn rings(
        &mut self,
        wanted: RingSizes,
        queues: &[Vec<u32>],
        kept: &[u32],
    ) -> Result<RingSizes, AttachError> {
        fitting(wanted, |frames| {
            queues.iter().enumerate().try_for_each(|(place, queues)| {
                // Batches and held packets need theirs as well.
                let kept = kept.get(place).copied().unwrap_or_default();
                self.has_room(place, queues.len() as u32 * frames + SPARE_FRAMES + kept)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_as_large_as_memory_has_room_for() {
        let of = |ports: u32, free: u32, soon: bool| {
            let sizes = fitting(RingSizes::DEFAULT, |frames| match frames * ports {
                needed if needed <= free => Ok(()),
                needed if soon => Err(PortError::FramesSoon { needed, free }.into()),
                needed => Err(PortError::Frames { needed, free }.into()),
            });
            sizes.map(|sizes| sizes.receive).map_err(|error| error.to_string())
        };
        assert_eq!(of(2, 16384, false), Ok(2048));
        assert_eq!(of(3, 16384, false), Ok(1024));
        assert_eq!(of(32, 16384, false), Ok(128));
        assert!(of(33, 16384, false).unwrap_err().contains("hold up to 16896 frames"));
        assert!(of(3, 16384, true).unwrap_err().contains("tries again by itself"), "small rings would stay");
        let (large, small) = (RingSizes::DEFAULT, RingSizes::DEFAULT.halved().unwrap());
        assert_eq!(note(large, large, 1), None);
        assert!(
            note(large, small, 8)
                .unwrap()
                .starts_with("each of its 8 queues has rings of 1024 packets instead of 2048")
        );
    }

    #[test]
    fn no_room_is_told_with_what_is_to_be_had() {
        let told = |kept: &[u32]| {
            let error = PortError::Frames { needed: 5120, free: 4096 };
            no_room(&[vec![0], vec![1, 2]], kept, error.into())
        };
        let begins = "the smallest rings at 2 queues for one worker hold up to 3072 frames, and its packet memory has 2048 that no \
                      other port may need: restart Ringway";
        assert!(told(&[]).starts_with(begins), "{}", told(&[]));
        let begins = "the smallest rings at 2 queues for one worker hold up to 2072 frames, and its packet memory has 1048 that no \
                      other port may need (1000 are kept for interfaces that are named and away): restart";
        assert!(told(&[0, 1000]).starts_with(begins), "{}", told(&[0, 1000]));
    }
}
