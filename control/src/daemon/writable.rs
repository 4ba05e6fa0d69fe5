//! Whether a start could make its folders and files. The file system itself is asked, by a file without a name, which is gone as
//! soon as it is closed: nothing is left behind, however this process ends.

use std::fs::{metadata, symlink_metadata};
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, open, statfs, statvfs};
use rustix::io::Errno;

/// What cannot be done there, as it would fail.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// The folder cannot be made.
    Folder(io::Error),
    /// No file can be made in it.
    File(io::Error),
    /// Nothing can be written to one.
    Text(io::Error),
}

/// File systems on which a folder takes no room.
const TMPFS: u64 = 0x0102_1994;

/// Whether `folder` is there or can be made, with a file in it, and with something in that one if it is to be `written`.
pub(crate) fn look(folder: &Path, written: bool) -> Result<(), Obstacle> {
    let (place, is_there) = nearest(folder).map_err(Obstacle::Folder)?;
    let missing = |error| if is_there { Obstacle::File(error) } else { Obstacle::Folder(error) };
    let file = match open(place, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => file,
        // A file system that has no files without a name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => return ask(place, written).map_err(|errno| missing(errno.into())),
        Err(errno) => return Err(missing(errno.into())),
    };
    if !written {
        return Ok(());
    }
    let takes_no_room = || statfs(place).is_ok_and(|found| found.f_type as u64 == TMPFS);
    rustix::io::write(&file, b"\n").map(drop).map_err(|errno| match is_there || takes_no_room() {
        true => Obstacle::Text(errno.into()),
        false => Obstacle::Folder(errno.into()),
    })
}

/// As far as it tells without a file.
fn ask(place: &Path, written: bool) -> Result<(), Errno> {
    accessat(CWD, place, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?;
    match statvfs(place)?.f_bavail {
        0 if written => Err(Errno::NOSPC),
        _ => Ok(()),
    }
}

/// The folder itself, or the one in which the first that is missing would be made; and whether it is the folder itself.
fn nearest(folder: &Path) -> Result<(&Path, bool), io::Error> {
    for (steps, place) in folder.ancestors().enumerate() {
        let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
        match metadata(place) {
            Ok(found) if found.is_dir() => return Ok((place, steps == 0)),
            // As mkdir(2) says it, of the folder itself and of one in it.
            Ok(_) if steps == 0 => return Err(Errno::EXIST.into()),
            Ok(_) => return Err(Errno::NOTDIR.into()),
            // A link that leads nowhere.
            Err(_) if symlink_metadata(place).is_ok() => {
                return Err(Errno::EXIST.into());
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOENT.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    /// What is found is what an attempt would say, and nothing changes.
    #[test]
    fn what_is_in_the_way_is_told_as_an_attempt_would_say_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("round", at("round")).unwrap();
        let before = names(folder.path());
        for name in ["folder", "new", "deep/er/new"] {
            assert!(look(&at(name), true).is_ok(), "{name}");
        }
        for name in ["file", "file/state", "file/deep/state", "dangling", "dangling/state", "round", "round/state"] {
            let Err(Obstacle::Folder(found)) = look(&at(name), true) else { panic!("{name}") };
            let said = fs::create_dir_all(at(name)).unwrap_err();
            assert_eq!(found.to_string(), said.to_string(), "{name}");
        }
        assert_eq!(names(folder.path()), before);
        assert_eq!(names(&at("folder")), [""; 0]);
        // A relative path without a folder is in the present one.
        assert!(nearest("some-name-that-is-not-here".as_ref()).is_ok_and(|(place, _)| place == Path::new(".")));
    }

    #[test]
    fn a_file_system_without_nameless_files_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ask(folder.path(), true), Ok(()));
        assert_eq!(ask(&folder.path().join("missing"), true), Err(Errno::NOENT));
        // Nobody writes there.
        assert!(matches!(look("/proc".as_ref(), false), Ok(()) | Err(Obstacle::File(_))));
    }
}
