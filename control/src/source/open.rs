//! Files that users name, opened so that nothing waits for ever: neither for who writes to a pipe, nor for a file of the
//! kernel that gives what it has when it has it.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fstatfs};

/// How long a pipe that the user named is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// File systems whose files are the kernel's own words: /proc, /sys, and what stands below it for tracing and debugging.
const OF_THE_KERNEL: [u64; 4] = [0x9fa0, 0x6265_6572, 0x7472_6163, 0x6462_6720];

/// How a file came to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its own name: it may be a pipe.
    Itself,
    /// It was found in a folder, or is read again and again.
    ByOthers,
}

/// How far the reading of a file is.
#[derive(Debug, Default)]
pub struct Progress(AtomicU64);

impl Progress {
    /// Some number that changes while something comes in.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Something came in.
    pub fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The text of a file with `most` bytes at most.
pub fn text(path: &Path, named: Named, most: u64, progress: &Progress) -> io::Result<String> {
    // What is no file is not even opened: that alone may do something.
    let found = fs::metadata(path)?;
    check(&found, named)?;
    let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mut file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    // It may be another one by now.
    let opened = file.metadata()?;
    check(&opened, named)?;
    if opened.is_file() && OF_THE_KERNEL.contains(&(fstatfs(&file)?.f_type as u64)) {
        return Err(io::Error::other("it is a file of the kernel, not one that somebody wrote"));
    }
    if opened.len() > most {
        return Err(too_large(opened.len(), most));
    }
    let mut bytes = Vec::with_capacity(opened.len() as usize + 1);
    let mut piece = vec![0; 64 << 10];
    loop {
        if !opened.is_file() {
            wait(&file)?;
        }
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if opened.is_file() {
                    return Err(io::Error::other("it gives nothing now and does not end either, as no file does"));
                }
            }
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > most {
            return Err(too_large(bytes.len() as u64, most));
        }
        progress.step();
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not valid UTF-8"))
}

/// Whether it may be read.
fn check(metadata: &Metadata, named: Named) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    let is_pipe = kind.is_fifo() || kind.is_char_device() || kind.is_socket();
    if kind.is_file() || (named == Named::Itself && is_pipe) {
        return Ok(());
    }
    Err(io::Error::other("it is not a regular file"))
}

fn too_large(length: u64, most: u64) -> io::Error {
    io::Error::other(format!("it has {length} bytes or more, and {most} are the most; split it"))
}

/// Waits until a pipe gives something, or is closed.
fn wait(file: &File) -> io::Result<()> {
    let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&limit)) {
            Ok(0) => {
                let text = format!("it is a pipe, and nobody wrote anything into it for {} s", PATIENCE.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn read(path: &Path, named: Named) -> Result<String, String> {
        text(path, named, 100, &Progress::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_could_block_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        symlink("/proc/kmsg", at("kmsg")).unwrap();
        symlink("/sys/kernel/uevent_seqnum", at("sys")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, words) in [
            ("fifo", "it is not a regular file"),
            ("zero", "it is not a regular file"),
            ("socket", "it is not a regular file"),
            ("kmsg", "it is a file of the kernel"),
            ("sys", "it is a file of the kernel"),
            (".", "it is a folder"),
        ] {
            let said = read(&at(name), Named::ByOthers).unwrap_err();
            assert!(said.starts_with(words), "{name}: {said}");
        }
    }

    #[test]
    fn what_is_named_itself_may_be_a_pipe_and_nothing_may_be_too_large() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        for (written, said) in [("hello".repeat(3), Ok("hello".repeat(3))), ("x".repeat(101), Err(()))] {
            let to = pipe.clone();
            // It blocks until somebody reads.
            let writer = std::thread::spawn(move || fs::write(to, written).ok());
            assert_eq!(read(&pipe, Named::Itself).map_err(drop), said);
            writer.join().unwrap();
        }
        let file = folder.path().join("file");
        fs::write(&file, "x".repeat(100)).unwrap();
        assert_eq!(read(&file, Named::ByOthers).map(|text| text.len()), Ok(100));
        fs::write(&file, "x".repeat(101)).unwrap();
        assert_eq!(read(&file, Named::Itself).unwrap_err(), "it has 101 bytes or more, and 100 are the most; split it");
        fs::write(&file, [0xff]).unwrap();
        assert_eq!(read(&file, Named::Itself).unwrap_err(), "it is not valid UTF-8");
    }
}
