//! Watches the files of `source.files` for changes.
//!
//! The kernel tells when something happens in a folder; besides, every file is looked at a few times a second, because
//! some changes make no event: behind links, on network file systems, when the kernel has no watches left.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{io, thread};

use notify::{RecursiveMode, Watcher};
use tokio::sync::watch;

use super::Objects;
use super::files::FileSource;
use super::health::SourceHealth;
use crate::cluster::ClusterState;
use crate::problem::Voice;
use crate::watch::heart;

/// How often the files are looked at without an event. With the time for settling this keeps a change below a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// Reads `paths` and keeps watching them from a thread of its own, until the last receiver is gone.
pub fn watch(paths: Vec<PathBuf>) -> io::Result<Objects> {
    let health = SourceHealth::of_files();
    let (publish, cluster) = watch::channel(Arc::new(ClusterState::default()));
    let told = health.clone();
    let thread = thread::Builder::new().name("ringway-files".into());
    thread.spawn(move || {
        let (wake, woken) = mpsc::sync_channel(1);
        let _watcher = watch_folders(&paths, wake.clone());
        let heart = Arc::new(heart("the files"));
        let beats = heart.clone();
        let mut source = FileSource::unread(paths, move || beats.beat());
        source.first();
        let mut voice = Voice::new();
        voice.tell_changes(None, source.cluster().problems());
        publish.send_replace(Arc::new(source.cluster().clone()));
        told.looked();
        told.set_complete();
        let mut wait = LOOK_EVERY;
        while !publish.is_closed() {
            heart.beat();
            match woken.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                // Cannot happen: `wake` is held here.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let (changed, again) = source.refresh(Instant::now());
            told.looked();
            wait = again.unwrap_or(LOOK_EVERY);
            if changed {
                voice.tell_changes(publish.borrow().problems(), source.cluster().problems());
                publish.send_replace(Arc::new(source.cluster().clone()));
            }
            voice.catch_up();
        }
    })?;
    Ok(Objects { cluster, health })
}

/// Asks the kernel to tell of changes in the folders concerned. Without it the regular look has to do.
fn watch_folders(paths: &[PathBuf], wake: mpsc::SyncSender<()>) -> Option<notify::RecommendedWatcher> {
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading files makes events, too; those would never end.
        if !event.is_ok_and(|event| event.kind.is_access()) {
            // When one wake-up is waiting already, that is enough.
            let _ = wake.try_send(());
        }
    });
    let mut watcher =
        watcher.inspect_err(|error| tracing::warn!("files are not watched by the kernel: {error}")).ok()?;
    for path in paths {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("/")) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!("{} is not watched by the kernel: {error}", crate::plain::path(folder));
        }
    }
    Some(watcher)
}
