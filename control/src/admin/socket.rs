//! The socket's file, for root alone.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::{Gid, getegid};
use tokio::net::UnixListener;

use crate::daemon::writable::{self, Obstacle};

/// The socket's file; removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = std::fs::symlink_metadata(&self.path);
        if now.is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// The longest path of a Unix socket, in bytes.
const LONGEST_PATH: usize = 107;

/// What is wrong with the path of a socket that could never be.
pub(crate) fn unfit(path: &Path) -> Option<String> {
    let length = path.as_os_str().len();
    (length > LONGEST_PATH).then(|| {
        format!("has {length} bytes, and the path of a Unix socket at most {LONGEST_PATH}; write a shorter one, as /run/NAME.sock")
    })
}

/// Makes the socket, for root alone. One that a killed process left is replaced; one that somebody answers on is not.
pub fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    look(path)?;
    if std::fs::symlink_metadata(path).is_ok() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let made = std::fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) };
    std::fs::set_permissions(path, Permissions::from_mode(mode(getegid())))?;
    Ok((listener, file))
}

/// Whether the socket could be made: nobody answers there, what else is there is no file of somebody, and the folder takes one.
pub(crate) fn look(path: &Path) -> io::Result<()> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process answers on it; stop that one, or set another path",
        ));
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket; set another path"))
        }
        _ => match path.parent().map_or(Ok(()), |folder| writable::look(folder, false)) {
            Err(Obstacle::Folder(error) | Obstacle::File(error) | Obstacle::Text(error)) => Err(error),
            Ok(()) => Ok(()),
        },
    }
}

/// Who may ask: who owns the process, and a group of its own. Root's group is nobody's of its own.
fn mode(group: Gid) -> u32 {
    if group.is_root() { 0o600 } else { 0o660 }
}
