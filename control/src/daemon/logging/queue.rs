//! Lines that wait to be written, in their order. There is room for so many; more are lost, and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait.
const BYTES: usize = 4 << 20;
/// Lines that may wait.
const LINES: usize = 16_384;

/// Lines on their way.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the writer has a line that is not in `lines` any more and not written yet.
    writing: bool,
    /// Since they were told last.
    lost: u64,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Held for a few instructions: no writing happens under it.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line in, or loses it.
    pub(super) fn push(&self, line: Vec<u8>) {
        let mut waiting = self.waiting();
        if waiting.lines.len() >= LINES || waiting.bytes + line.len() > BYTES {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line);
        self.more.notify_one();
    }

    /// The next line, for the one that writes; what it had before is done with. Waits for it.
    pub(super) fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        waiting.writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes -= line.len();
                waiting.writing = true;
                return line;
            }
            self.written.notify_all();
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A line could not be written.
    pub(super) fn lose(&self, lines: u64) {
        self.waiting().lost += lines;
    }

    /// How many lines were lost since this was asked last, when nothing waits any more.
    pub(super) fn take_lost(&self) -> u64 {
        let mut waiting = self.waiting();
        if waiting.lines.is_empty() { std::mem::take(&mut waiting.lost) } else { 0 }
    }

    /// Waits until nothing waits to be written, at most so long.
    pub(super) fn wait_until_written(&self, longest: Duration) {
        let is_busy = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let done = self.written.wait_timeout_while(self.waiting(), longest, is_busy);
        drop(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_room_are_lost_and_counted_and_the_rest_keep_their_order() {
        let queue = Queue::new();
        for number in 0..LINES + 7 {
            queue.push(number.to_string().into_bytes());
        }
        assert_eq!(queue.take_lost(), 0, "it is told after what waits");
        for number in 0..LINES {
            assert_eq!(queue.next(), number.to_string().into_bytes());
        }
        assert_eq!((queue.take_lost(), queue.take_lost()), (7, 0));
        queue.push(vec![b'x'; BYTES + 1]);
        assert_eq!(queue.take_lost(), 1, "bytes are bounded as well");
        // Both took room only while they waited.
        queue.push(vec![b'x'; BYTES]);
        assert_eq!(queue.next().len(), BYTES);
    }

    #[test]
    fn the_wait_for_the_last_lines_ends_when_nobody_writes() {
        let queue = Queue::new();
        queue.wait_until_written(Duration::from_secs(3600));
        queue.push(b"last words".to_vec());
        queue.wait_until_written(Duration::from_millis(1));
        let writer = std::thread::spawn({
            let queue = queue.clone();
            move || {
                queue.next();
                queue.next()
            }
        });
        queue.wait_until_written(Duration::from_secs(3600));
        queue.push(b"more".to_vec());
        assert_eq!(writer.join().unwrap(), b"more");
    }
}
