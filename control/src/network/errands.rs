//! Questions about neighbours on their way to the kernel.

use std::io;
use std::net::IpAddr;
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
            let Some(advice) = advice(&error, address) else { continue };
            // That deserves a word, but not one a neighbour.
            if said.is_none_or(|last| last.elapsed() > Duration::from_secs(60)) {
                said = Some(Instant::now());
                tracing::warn!("the kernel does not resolve neighbour {address}: {error}; {advice}");
            }
        }
    });
    sender
}

/// What to do when the kernel does not ask for a neighbour; nothing where the interface went away or down meanwhile: whoever asked
/// learns that by its own event.
fn advice(error: &io::Error, address: IpAddr) -> Option<String> {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    match Errno::from_io_error(error) {
        Some(Errno::NODEV | Errno::NETDOWN) => None,
        Some(Errno::NOBUFS) => Some(format!("its table is full: raise net.{family}.neigh.default.gc_thresh3")),
        Some(Errno::PERM | Errno::ACCESS) => {
            Some("it takes CAP_NET_ADMIN, in the network's own user namespace".to_owned())
        }
        Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => {
            Some(format!("is {family} switched off (net.ipv6.conf.*.disable_ipv6, ipv6.disable=1)?"))
        }
        _ => Some(format!(
            "packets to it wait in vain, and are dropped; `ip neigh show {address}` and journalctl -k may tell more"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_what_the_kernel_said() {
        let told = |errno: Errno, address: &str| advice(&errno.into(), address.parse().unwrap()).unwrap_or_default();
        assert_eq!(told(Errno::NODEV, "192.0.2.1"), "");
        assert_eq!(told(Errno::NETDOWN, "192.0.2.1"), "");
        assert_eq!(told(Errno::NOBUFS, "192.0.2.1"), "its table is full: raise net.ipv4.neigh.default.gc_thresh3");
        assert_eq!(told(Errno::NOBUFS, "fd00::1"), "its table is full: raise net.ipv6.neigh.default.gc_thresh3");
        assert!(told(Errno::PERM, "fd00::1").contains("CAP_NET_ADMIN"));
        let other = told(Errno::INVAL, "fd00::1");
        assert!(other.contains("ip neigh show fd00::1") && !other.contains("gc_thresh"), "{other}");
    }
}
