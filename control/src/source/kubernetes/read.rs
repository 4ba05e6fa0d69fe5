//! Response bodies in pieces, none of which is waited for too long.

use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use tokio::time::timeout;

use super::fault::Fault;

/// The longest line of a watch. An object has 1.5 MiB at most in etcd.
const LONGEST_LINE: usize = 32 << 20;

/// The largest page of a list.
const LARGEST_PAGE: usize = 1 << 30;

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

    /// All of it. `heard` is called for each piece.
    pub(super) async fn whole(&mut self, mut heard: impl FnMut()) -> Result<Vec<u8>, Fault> {
        let mut whole = Vec::new();
        loop {
            let piece = timeout(self.patience, self.reader.fill_buf()).await;
            let piece = piece.map_err(|_| Fault::silent(self.patience))?.map_err(|error| Fault::broken(&error))?;
            if piece.is_empty() {
                return Ok(whole);
            }
            heard();
            whole.extend_from_slice(piece);
            let length = piece.len();
            self.reader.consume_unpin(length);
            if whole.len() > LARGEST_PAGE {
                return Err(Fault::garbled(format!("a page of a list is longer than {LARGEST_PAGE} bytes")));
            }
        }
    }

    /// The next line, without its end. A last line without an end was cut off and does not count; to fall silent within a
    /// line is a fault.
    pub(super) async fn line(&mut self, line: &mut Vec<u8>) -> Result<Line, Fault> {
        line.clear();
        loop {
            let piece = match timeout(self.patience, self.reader.fill_buf()).await {
                Err(_) if line.is_empty() => return Ok(Line::Silence),
                Err(_) => return Err(Fault::silent(self.patience)),
                Ok(piece) => piece.map_err(|error| Fault::broken(&error))?,
            };
            if piece.is_empty() {
                return Ok(Line::End);
            }
            let end = piece.iter().position(|byte| *byte == b'\n');
            line.extend_from_slice(&piece[..end.unwrap_or(piece.len())]);
            let length = end.map_or(piece.len(), |end| end + 1);
            self.reader.consume_unpin(length);
            if end.is_some() {
                return Ok(Line::Whole);
            }
            if line.len() > LONGEST_LINE {
                return Err(Fault::garbled(format!("a line of a watch is longer than {LONGEST_LINE} bytes")));
            }
        }
    }
}
