//! The thread that writes lines. It alone waits for a reader that stands still; what cannot be written is lost.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::queue::Queue;

/// Writes lines to `out` from a thread of its own, until the process ends.
pub(super) fn start(lines: Arc<Queue>, out: impl AsFd + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("ringway-log".into()).spawn(move || {
        let mut writer = Writer { out, torn: false };
        loop {
            let line = lines.next();
            if writer.line(&line).is_err() {
                lines.lose(1);
                continue;
            }
            let lost = lines.take_lost();
            if lost > 0 && writer.line(told(lost).as_bytes()).is_err() {
                // They are told with the next line that can be written.
                lines.lose(lost);
            }
        }
    })?;
    Ok(())
}

fn told(lost: u64) -> String {
    let lines = if lost == 1 { "line was" } else { "lines were" };
    format!("warning: {lost} log {lines} lost: stderr could not be written, or not fast enough\n")
}

struct Writer<O> {
    out: O,
    /// Whether the last line was written in part.
    torn: bool,
}

impl<O: AsFd> Writer<O> {
    fn line(&mut self, line: &[u8]) -> Result<(), Errno> {
        if self.torn {
            self.all(b"\n")?;
            self.torn = false;
        }
        self.all(line)
    }

    /// Straight to the descriptor: std's lock of stderr may be held by somebody who waits in a write.
    fn all(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match rustix::io::write(&self.out, bytes) {
                Ok(0) => return self.give_up(whole, bytes, Errno::IO),
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                // Whoever shares the descriptor made it so.
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return self.give_up(whole, bytes, error),
                },
                Err(error) => return self.give_up(whole, bytes, error),
            }
        }
        Ok(())
    }

    fn give_up(&mut self, whole: usize, left: &[u8], error: Errno) -> Result<(), Errno> {
        self.torn |= left.len() < whole;
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_learns_later_what_was_lost() {
        let (reader, out) = rustix::pipe::pipe().unwrap();
        let lines = Queue::new();
        start(lines.clone(), out).unwrap();
        // More than the pipe and the queue hold.
        let long = vec![b'x'; 64 << 10];
        for number in 0..200 {
            lines.push([format!("{number} ").as_bytes(), &long, b"\n"].concat());
        }
        lines.wait_until_written(Duration::from_millis(1));
        let mut reader = io::BufReader::new(File::from(reader));
        let mut next = || {
            let mut line = String::new();
            io::BufRead::read_line(&mut reader, &mut line).unwrap();
            line
        };
        let mut expected = 0;
        let told = loop {
            let line = next();
            match line.strip_prefix("warning: ") {
                None => assert!(line.starts_with(&format!("{expected} ")), "{:.40}", line),
                Some(told) => break told.to_owned(),
            }
            expected += 1;
        };
        assert_eq!(told.split(' ').next().unwrap(), (200 - expected).to_string());
        lines.push(b"again\n".to_vec());
        assert_eq!(next(), "again\n");
    }

    #[test]
    fn a_full_disk_and_a_reader_that_is_gone_lose_lines_and_nothing_else() {
        let (reader, out) = rustix::pipe::pipe().unwrap();
        drop(reader);
        for out in [out, File::options().write(true).open("/dev/full").unwrap().into()] {
            let mut writer = Writer { out: &out, torn: false };
            assert!(writer.line(b"lost\n").is_err());
            let lines = Queue::new();
            start(lines.clone(), out).unwrap();
            for _ in 0..3 {
                lines.push(b"lost\n".to_vec());
            }
            lines.wait_until_written(LONG);
            assert_eq!(lines.take_lost(), 3);
        }
    }

    #[test]
    fn a_descriptor_that_does_not_wait_is_waited_for() {
        let (reader, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let lines = Queue::new();
        start(lines.clone(), out).unwrap();
        let line = vec![b'y'; 1 << 20];
        lines.push(line.clone());
        rustix::io::ioctl_fionbio(&reader, false).unwrap();
        let mut read = vec![0; line.len()];
        File::from(reader).read_exact(&mut read).unwrap();
        assert!(read == line);
        lines.wait_until_written(LONG);
        assert_eq!(lines.take_lost(), 0);
    }
}
