//! The state folder, and that only one process uses it.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The folder or the file in it cannot be made.
    #[error("state: cannot {what} {}: {error}; make it writable, or set state to another folder", path.display())]
    Unusable {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Another process has it.
    #[error(
        "state: {} is in use by another ringway ({}); stop it first, or give this one a state folder and an admin \
         socket of its own", path.display(), owner(*pid)
    )]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other process, when it said who it is.
        pid: Option<u32>,
    },
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "process unknown".to_owned(), |pid| format!("process {pid}"))
}

/// The right to use a state folder; given back when this is dropped, or when the process dies, whatever the way.
#[derive(Debug)]
pub struct Instance {
    path: PathBuf,
    _lock: File,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Still ours: the lock goes with the file, right after this.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Instance {
    /// Makes the folder if need be, and takes it.
    pub fn take(folder: &Path) -> Result<Self, InstanceError> {
        let unusable = |what, path: &Path| {
            let path = path.to_owned();
            move |error| InstanceError::Unusable { what, path, error }
        };
        std::fs::create_dir_all(folder).map_err(unusable("make the folder", folder))?;
        let path = folder.join("lock");
        let mut lock = loop {
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut lock = open.map_err(unusable("open", &path))?;
            match lock.try_lock() {
                // The file may have been removed by its last owner between the two steps: then it is nobody's lock.
                Ok(()) if is_at(&lock, &path) => break lock,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let mut text = String::new();
                    let _ = lock.read_to_string(&mut text);
                    return Err(InstanceError::Taken { path: folder.to_owned(), pid: text.trim().parse().ok() });
                }
                Err(TryLockError::Error(error)) => return Err(unusable("lock", &path)(error)),
            }
        };
        // For the message above only; the lock itself is the kernel's.
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .and_then(|()| lock.set_permissions(Permissions::from_mode(0o644)));
        written.map_err(unusable("write to", &path))?;
        Ok(Instance { path, _lock: lock })
    }
}

/// Whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().ok().map(identity) == std::fs::metadata(path).ok().map(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep/state");
        let first = Instance::take(&state).unwrap();
        let error = Instance::take(&state).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by another ringway (process {})", std::process::id())), "{error}");
        drop(first);
        assert!(!state.join("lock").exists());
        Instance::take(&state).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Instance::take(&file.path().join("state")).unwrap_err().to_string();
        assert!(error.starts_with("state: cannot make the folder "), "{error}");
    }
}
