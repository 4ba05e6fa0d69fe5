//! Questions about neighbours on their way to the kernel.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::sync::mpsc;

use super::kernel::Resolver;
use super::neighbors::Errand;
use crate::watch::heart;

/// Errands that wait to be done.
const WAITING: usize = 4096;

/// Where errands go.
pub(super) type Errands = mpsc::Sender<Errand>;

/// A task that does one errand after the other, so that a thousand of them do not hold up anything else.
pub(super) fn run(resolver: Resolver) -> Errands {
    let (sender, mut errands) = mpsc::channel::<Errand>(WAITING);
    tokio::spawn(async move {
        let mut said: Option<Instant> = None;
        let heart = heart("neighbours");
        while let Some(errand) = heart.waiting(errands.recv()).await {
            let (result, address) = match errand {
                Errand::Ask(key) => (resolver.ask(key).await, key.1),
                // What the kernel does not forget now it forgets by itself.
                Errand::Forget(key) => (resolver.forget(key).await.or(Ok(())), key.1),
            };
            let Err(error) = result else { continue };
            // An interface that went away meanwhile: whoever asked learns that by its own event.
            if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) {
                continue;
            }
            // The kernel's neighbour table can be full: that deserves a word, but not one a neighbour.
            if said.is_none_or(|last| last.elapsed() > Duration::from_secs(60)) {
                said = Some(Instant::now());
                tracing::warn!(
                    "the kernel does not resolve neighbour {address}: {error}; if its table is full, raise \
                     net.ipv4.neigh.default.gc_thresh3 and net.ipv6.neigh.default.gc_thresh3"
                );
            }
        }
    });
    sender
}
