//! The state folder, and that only one process uses it.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::writable::{self, Obstacle};

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The folder or the file in it cannot be made.
    #[error(
        "state: cannot {what} {}: {error}; make it writable, or set state to another folder",
        crate::plain::path(path)
    )]
    Unusable {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Something else has the place of the lock.
    #[error(
        "state: {} {found}, and Ringway's lock has its place; remove it, or set state to another folder",
        crate::plain::path(path)
    )]
    InTheWay {
        /// Its path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Another process has it.
    #[error(
        "state: {} is in use by another ringway ({}); stop it first, or give this one a state folder and an admin \
         socket of its own", crate::plain::path(path), owner(path, *pid)
    )]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other process, if it can be told.
        pid: Option<u32>,
    },
}

fn owner(folder: &Path, pid: Option<u32>) -> String {
    let unknown = || format!("which process holds the lock tells: fuser {}/lock", crate::plain::path(folder));
    pid.map_or_else(unknown, |pid| format!("process {pid}"))
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
            if let Some(found) = in_the_way(&path) {
                return Err(InstanceError::InTheWay { path, found });
            }
            let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let mut lock = open.map_err(unusable("open", &path))?;
            match lock.try_lock() {
                // The file may have been removed by its last owner between the two steps: then it is nobody's lock.
                Ok(()) if is_at(&lock, &path) => break lock,
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(InstanceError::Taken { path: folder.to_owned(), pid: holder(&mut lock) });
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
        if let Err(error) = written {
            // Still ours.
            let _ = std::fs::remove_file(&path);
            return Err(unusable("write to", &path)(error));
        }
        Ok(Instance { path, _lock: lock })
    }
}

/// Whether [`Instance::take`] could use the folder. The lock itself is left alone.
pub(super) fn look(folder: &Path) -> Result<(), InstanceError> {
    let path = folder.join("lock");
    let unusable = |what, path: &Path, error| Err(InstanceError::Unusable { what, path: path.to_owned(), error });
    if let Some(found) = in_the_way(&path) {
        return Err(InstanceError::InTheWay { path, found });
    }
    // What a killed process wrote makes room for the next one's.
    let mut has_room = false;
    // Whatever else is in the way is in the way of the folder, too.
    if let Ok(found) = std::fs::metadata(&path) {
        if let Err(error) = File::options().read(true).write(true).open(&path) {
            return unusable("open", &path, error);
        }
        has_room = found.len() > 0;
    }
    match writable::look(folder, true) {
        Err(Obstacle::Folder(error)) => unusable("make the folder", folder, error),
        Err(Obstacle::File(error)) if !path.exists() => unusable("open", &path, error),
        Err(Obstacle::Text(error)) if !has_room => unusable("write to", &path, error),
        _ => Ok(()),
    }
}

/// The kernel's ELOOP.
const LOOP: i32 = Errno::LOOP.raw_os_error();

/// What has the place of the lock and can be none.
fn in_the_way(path: &Path) -> Option<&'static str> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Some("is a folder"),
        Ok(found) if !found.is_file() => Some("is no file"),
        Ok(_) => None,
        // To itself, or to nothing: a file would be made elsewhere, and stay there.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(LOOP) => {
            let is_link = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
            is_link.then_some("is a link that leads nowhere")
        }
        Err(_) => None,
    }
}

/// The process that has this state folder, if one has. The lock itself is left alone.
pub(super) fn holder_of(folder: &Path) -> Option<u32> {
    let inode = std::fs::metadata(folder.join("lock")).ok()?.ino();
    noted(&std::fs::read_to_string("/proc/locks").unwrap_or_default(), inode)
}

/// Who holds the lock, if it runs: as the kernel has it, else as the file says. A process that was killed leaves its number in
/// the file, and a lock that it gave to a child stays noted under its number.
fn holder(lock: &mut File) -> Option<u32> {
    let runs = |pid: &u32| Path::new("/proc").join(pid.to_string()).exists();
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let noted = lock.metadata().ok().and_then(|metadata| noted(&locks, metadata.ino()));
    let mut text = String::new();
    let _ = lock.read_to_string(&mut text);
    noted.or_else(|| text.trim().parse().ok()).filter(runs)
}

/// The process that /proc/locks names for the file with this number: `1: FLOCK  ADVISORY  WRITE 712 fe:00:1234 0 EOF`.
fn noted(locks: &str, inode: u64) -> Option<u32> {
    let inode = format!(":{inode}");
    locks.lines().find_map(|line| {
        let [_, "FLOCK", _, _, pid, file, ..] = line.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        file.ends_with(&inode).then(|| pid.parse().ok())?
    })
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
    fn a_process_that_is_gone_is_not_said_to_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // No process has this number.
        std::fs::write(&path, "4194304999\n").unwrap();
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        let error = Instance::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "the kernel knows better: {error}");
        let error = InstanceError::Taken { path: "/run/ringway".into(), pid: None }.to_string();
        assert!(error.contains("(which process holds the lock tells: fuser /run/ringway/lock)"), "{error}");
        let locks = "1: POSIX  ADVISORY  WRITE 7 fe:00:12 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 fe:00:123 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 fe:00:12 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 10 fe:00:12 0 EOF\n";
        assert_eq!((noted(locks, 12), noted(locks, 123), noted(locks, 23)), (Some(9), Some(8), None));
    }

    #[test]
    fn a_holder_that_ended_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // flock(1) takes it, and leaves it to the one that it started.
        let script = "flock 9; sleep 3600 & echo $!; exit 0";
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &format!("exec 9>{}; {script}", path.display())]);
        let mut child = output.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut reader = io::BufReader::new(child.stdout.take().unwrap());
        let mut sleeper = String::new();
        io::BufRead::read_line(&mut reader, &mut sleeper).unwrap();
        child.wait().unwrap();
        let error = Instance::take(folder.path()).unwrap_err().to_string();
        let sleeper = rustix::process::Pid::from_raw(sleeper.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
        assert!(error.contains("(which process holds the lock tells: fuser "), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Instance::take(&file.path().join("state")).unwrap_err().to_string();
        assert!(error.starts_with("state: cannot make the folder "), "{error}");
    }

    /// What `check` says is what `run` would say, and nothing changes.
    #[test]
    fn what_has_the_place_of_the_lock_is_told_alike_before_and_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let make: [(&str, &dyn Fn()); 5] = [
            ("is a folder", &|| std::fs::create_dir(&path).unwrap()),
            ("is a link that leads nowhere", &|| std::os::unix::fs::symlink("missing", &path).unwrap()),
            ("is a link that leads nowhere", &|| std::os::unix::fs::symlink("missing/lock", &path).unwrap()),
            ("is a link that leads nowhere", &|| std::os::unix::fs::symlink("lock", &path).unwrap()),
            ("is no file", &|| drop(std::os::unix::net::UnixListener::bind(&path).unwrap())),
        ];
        for (what, make) in make {
            make();
            let told = look(folder.path()).unwrap_err().to_string();
            assert_eq!(told, Instance::take(folder.path()).unwrap_err().to_string());
            let begin = format!("state: {} {what}, and Ringway's lock has its place; remove it, ", path.display());
            assert!(told.starts_with(&begin), "{told}");
            assert!(!folder.path().join("missing").exists());
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
        }
        // A link to a file is as good as the file.
        std::fs::write(folder.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", &path).unwrap();
        assert!(look(folder.path()).is_ok() && Instance::take(folder.path()).is_ok());
    }
}
