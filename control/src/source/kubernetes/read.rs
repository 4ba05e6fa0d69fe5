//! Response bodies in pieces, none of which is waited for too long.

use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::fault::Fault;

/// What a line of a watch has beside its object.
const ENVELOPE: usize = 1 << 10;

/// As much of an answer that says what is wrong is read.
const LONGEST_COMPLAINT: usize = 64 << 10;

/// What came when a line was waited for.
pub(super) enum Line {
    /// A line.
    Whole,
    /// The end of the body.
    End,
    /// Nothing, for as long as it is waited.
    Silence,
}

/// A response body.
pub(super) struct Body<R> {
    reader: R,
    patience: Duration,
}

impl<R: AsyncBufRead + Unpin> Body<R> {
    /// `patience` is for each piece.
    pub(super) fn new(reader: R, patience: Duration) -> Self {
        Body { reader, patience }
    }

    /// Hands the next piece to `take`. False at the end of the body.
    pub(super) async fn piece(&mut self, take: impl FnOnce(&[u8]) -> Result<(), Fault>) -> Result<bool, Fault> {
        let piece = timeout(self.patience, self.reader.fill_buf()).await;
        let piece = piece.map_err(|_| Fault::silent(self.patience))?.map_err(|error| Fault::broken(&error))?;
        let length = piece.len();
        if length > 0 {
            take(piece)?;
            self.reader.consume_unpin(length);
        }
        Ok(length > 0)
    }

    /// The beginning of an answer that says what is wrong. What does not come in time is done without.
    pub(super) async fn complaint(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let deadline = Instant::now() + self.patience;
        while let Ok(Ok(piece)) = timeout_at(deadline, self.reader.fill_buf()).await {
            let length = piece.len().min(LONGEST_COMPLAINT - text.len());
            if length == 0 {
                break;
            }
            text.extend_from_slice(&piece[..length]);
            self.reader.consume_unpin(length);
        }
        text
    }

    /// The next line, without its end. A last line without an end was cut off and does not count; to fall silent within a
    /// line is a fault, and so is to take longer than `whole` for it. `longest` is that of its object.
    pub(super) async fn line(&mut self, line: &mut Vec<u8>, longest: usize, whole: Duration) -> Result<Line, Fault> {
        line.clear();
        // What one long line took is not kept for all short ones.
        line.shrink_to(longest / 8);
        let mut deadline = None;
        loop {
            let until = deadline.unwrap_or_else(|| Instant::now() + self.patience);
            let piece = match timeout_at(until, self.reader.fill_buf()).await {
                Err(_) if line.is_empty() => return Ok(Line::Silence),
                Err(_) => return Err(Fault::silent(whole)),
                Ok(piece) => piece.map_err(|error| Fault::broken(&error))?,
            };
            if piece.is_empty() {
                return Ok(Line::End);
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            let more = end.unwrap_or(piece.len());
            if line.len() + more > longest + ENVELOPE {
                return Err(Fault::garbled(format!("a line of a watch is longer than {longest} bytes")));
            }
            line.extend_from_slice(&piece[..more]);
            let length = end.map_or(piece.len(), |end| end + 1);
            self.reader.consume_unpin(length);
            if end.is_some() {
                return Ok(Line::Whole);
            }
            deadline.get_or_insert_with(|| Instant::now() + whole);
        }
    }
}
