//! What the demo prints: the story line by line, and under it a table that lives on a terminal and is a plain line now
//! and then elsewhere.
//!
//! The table is taken away before anything is printed, by going up as many lines as it has. That works because no line of
//! it is ever as wide as the terminal, and it is never as high. After a change of the terminal's size nobody knows where
//! lines have gone, so everything is drawn anew.

mod table;

use super::reading::Reading;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use table::{Place, Snapshot};

/// How often a plain line is printed where there is no terminal.
const PLAIN: Duration = Duration::from_secs(3);
/// Lines of the story that are kept for drawing anew.
const KEPT: usize = 200;

/// A row's endpoint: name, and a word about it.
pub(super) type Row = (&'static str, &'static str);

/// Where the demo prints.
pub(super) struct Screen {
    out: Box<dyn Write + Send>,
    /// Columns and lines of the terminal, asked anew each time; `None` where there is none.
    size: Box<dyn Fn() -> Option<(usize, usize)> + Send>,
    color: bool,
    /// Set when the terminal is gone.
    gone: Arc<AtomicBool>,
    /// The size that was drawn for.
    drawn_for: Option<(usize, usize)>,
    /// Lines of the table that stand under the story now.
    drawn: usize,
    latest: Option<Snapshot>,
    /// The backend because of which requests are expected to fail, and how many had when that was so.
    excuse: Option<(&'static str, u64)>,
    excusing: bool,
    story: VecDeque<String>,
    begin: Instant,
    last_plain: Instant,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("drawn_for", &self.drawn_for).finish_non_exhaustive()
    }
}

impl Screen {
    /// Standard output, whatever it is. `gone` is set when it was a terminal that is no more.
    pub(super) fn new(gone: Arc<AtomicBool>) -> Screen {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_terminal = std::io::stdout().is_terminal() && variable("TERM").is_some_and(|term| term != "dumb");
        let size = move || {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok().filter(|_| is_terminal)?;
            // A terminal that does not know its size is taken for the smallest usual one.
            let or = |given: u16, usual: usize| if given == 0 { usual } else { usize::from(given) };
            Some((or(size.ws_col, 80), or(size.ws_row, 24)))
        };
        let color = is_terminal && variable("NO_COLOR").is_none();
        Screen::on(Box::new(std::io::stdout()), Box::new(size), color, gone)
    }

    fn on(
        out: Box<dyn Write + Send>,
        size: Box<dyn Fn() -> Option<(usize, usize)> + Send>,
        color: bool,
        gone: Arc<AtomicBool>,
    ) -> Screen {
        let now = Instant::now();
        let drawn_for = size();
        Screen {
            out,
            size,
            color,
            gone,
            drawn_for,
            drawn: 0,
            latest: None,
            excuse: None,
            excusing: false,
            story: VecDeque::new(),
            begin: now,
            last_plain: now,
        }
    }

    /// A heading of the story.
    pub(super) fn heading(&mut self, text: &str) {
        let seconds = self.begin.elapsed().as_secs();
        let text = if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.say(&format!("\n[{seconds:>3} s] {text}"));
    }

    /// A check that held or did not.
    pub(super) fn check(&mut self, held: bool, text: &str) {
        let mark = match (held, self.color) {
            (true, true) => "\x1b[32m✓\x1b[0m",
            (true, false) => "✓",
            (false, true) => "\x1b[31m✗\x1b[0m",
            (false, false) => "✗",
        };
        self.say(&format!("  {mark} {text}"));
    }

    /// Lines of the story.
    pub(super) fn say(&mut self, text: &str) {
        self.erase();
        for line in text.lines() {
            self.write(&format!("{line}\n"));
            self.keep(line);
        }
        self.draw();
    }

    /// From now on requests fail because this backend is dead, and are expected to.
    pub(super) fn expect_failures(&mut self, backend: &'static str) {
        (self.excuse, self.excusing) = (Some((backend, 0)), true);
    }

    /// From now on no request should fail any more; so many have.
    pub(super) fn expect_no_more(&mut self, failed: u64) {
        self.excuse = self.excuse.map(|(backend, _)| (backend, failed));
        self.excusing = false;
    }

    /// How many requests failed, and whether that is as it should be.
    fn failures(&self, failed: u64) -> String {
        match self.excuse {
            Some((backend, _)) if self.excusing && failed > 0 => format!("{failed} (expected: {backend} is dead)"),
            Some((backend, excused)) if failed > 0 && failed <= excused => {
                format!("{failed} (expected: while {backend} was dead)")
            }
            Some((_, excused)) if failed > 0 => format!("{failed} ({} of them not expected)", failed - excused),
            _ => failed.to_string(),
        }
    }

    /// Shows what came between two readings.
    pub(super) fn show(&mut self, rows: &[Row], before: &Reading, now: &Reading) {
        let snapshot = Snapshot::new(rows, before, now, self.failures(now.counts.failed()));
        if self.drawn_for.is_some() {
            self.erase();
            self.latest = Some(snapshot);
            self.draw();
        } else if self.last_plain.elapsed() >= PLAIN {
            self.last_plain = Instant::now();
            self.write(&format!("  {:>3} s  {}\n", self.begin.elapsed().as_secs(), snapshot.plain()));
        }
    }

    /// Takes the table away.
    pub(super) fn clear(&mut self) {
        self.erase();
        self.latest = None;
    }

    fn keep(&mut self, line: &str) {
        if self.story.len() == KEPT {
            self.story.pop_front();
        }
        self.story.push_back(line.to_owned());
    }

    fn erase(&mut self) {
        let size = (self.size)().filter(|_| self.drawn_for.is_some());
        if size != self.drawn_for {
            if let Some((columns, lines)) = size {
                self.draw_anew(columns, lines);
            }
        } else if self.drawn > 0 {
            // Up to the table's first line, and clear all below.
            self.write(&format!("\x1b[{}A\x1b[J", self.drawn));
        }
        self.drawn = 0;
        self.drawn_for = size;
    }

    /// Clears the screen and shows the end of the story again, as far as it fits above the table.
    fn draw_anew(&mut self, columns: usize, lines: usize) {
        let height = |line: &String| seen(line).div_ceil(columns.max(1)).max(1);
        let mut room = lines.saturating_sub(1);
        let fits = self.story.iter().rev().take_while(|line| {
            let fits = height(line) <= room;
            room = room.saturating_sub(height(line));
            fits
        });
        let text: Vec<String> = fits.map(|line| format!("{line}\n")).collect();
        let text: String = text.into_iter().rev().collect();
        self.write(&format!("\x1b[2J\x1b[H{text}"));
    }

    fn draw(&mut self) {
        let (Some((columns, lines)), Some(latest)) = (self.drawn_for, &self.latest) else { return };
        // One column less, so that nothing wraps; one line less, so that nothing scrolls away, and another one, so that
        // taking the table away never clears the screen from its first line: some terminals keep a copy of that.
        let place = Place { columns: columns.saturating_sub(1), lines: lines.saturating_sub(2) };
        let table = latest.table(place);
        let text: String = table.iter().map(|line| format!("{line}\n")).collect();
        self.drawn = table.len();
        self.write(&text);
    }

    fn write(&mut self, text: &str) {
        if let Err(error) = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            // Whoever reads us may have gone (a closed pipe); the demo goes on and its exit status tells. A terminal that
            // is gone takes the one who could end us along.
            if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
                self.gone.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// How many columns a line takes, without what only colours it.
fn seen(line: &str) -> usize {
    let mut columns = 0;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => while letters.next().is_some_and(|letter| !letter.is_ascii_alphabetic()) {},
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests;
