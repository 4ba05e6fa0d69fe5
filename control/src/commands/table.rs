//! Tables as kubectl prints them: a line of headings, columns three spaces apart. On a terminal that is too narrow a table
//! does without columns, the least telling ones first, and says which; wherever else it is as wide as it needs to be.

use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::plain;

/// Between two columns.
const GAP: usize = 3;
/// What the last column may be squeezed to when it holds prose, which then goes on below.
const PROSE: usize = 24;

/// Columns of the terminal; 0 for tables as wide as they need to be.
static TERMINAL: AtomicUsize = AtomicUsize::new(0);

/// Fits all tables to the terminal from now on, if standard output is one.
pub fn fit_to_terminal() {
    let stdout = std::io::stdout();
    if stdout.is_terminal()
        && let Ok(size) = rustix::termios::tcgetwinsize(&stdout)
    {
        TERMINAL.store(usize::from(size.ws_col), Ordering::Relaxed);
    }
}

/// A table of text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
    dispensable: &'static [&'static str],
    prose: bool,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Table { rows: vec![headings.map(str::to_owned).to_vec()], dispensable: &[], prose: false }
    }

    /// Does without these columns where there is no room, the first of them first.
    #[must_use]
    pub fn dispensable(self, columns: &'static [&'static str]) -> Self {
        Table { dispensable: columns, ..self }
    }

    /// The last column holds sentences, which may go on in the next line.
    #[must_use]
    pub fn prose(self) -> Self {
        Table { prose: true, ..self }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| plain::line(cell).into_owned()).collect());
    }

    /// Whether it has headings only.
    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    /// The table in lines of at most `room` columns; 0 is no limit.
    pub fn fitted(&self, room: usize) -> String {
        let all = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|c| width(c)).max();
        let mut widths: Vec<usize> = (0..all).map(|column| widest(column).unwrap_or(0)).collect();
        let mut shown: Vec<usize> = (0..all).collect();
        let mut left_out = Vec::new();
        let sum = |shown: &[usize], widths: &[usize]| {
            let cells: usize = shown.iter().filter_map(|column| widths.get(*column)).sum();
            cells + GAP * shown.len().saturating_sub(1)
        };
        if room > 0 {
            let last = all.saturating_sub(1);
            if sum(&shown, &widths) > room {
                // A column without a word is the first to go, and nobody misses it.
                let tells = |column: &usize| {
                    self.rows.iter().skip(1).any(|row| row.get(*column).is_some_and(|c| !c.is_empty()))
                };
                shown.retain(|column| tells(column) || self.is_empty());
            }
            // Sentences that are squeezed are wider again when other columns make room.
            let squeezed = |widths: &[usize]| {
                let squeeze = |(column, width): (usize, &usize)| match self.prose && column == last {
                    true => (*width).min(PROSE),
                    false => *width,
                };
                widths.iter().enumerate().map(squeeze).collect::<Vec<_>>()
            };
            for heading in self.dispensable {
                if sum(&shown, &squeezed(&widths)) <= room {
                    break;
                }
                let column = self.rows.first().and_then(|row| row.iter().position(|cell| cell.trim() == *heading));
                if column.is_some_and(|column| shown.contains(&column)) {
                    shown.retain(|shown| Some(*shown) != column);
                    left_out.push(*heading);
                }
            }
            let mut too_much = sum(&shown, &widths).saturating_sub(room);
            if let Some(width) = widths.last_mut().filter(|_| self.prose && shown.contains(&last)) {
                let given = too_much.min(width.saturating_sub(PROSE));
                (*width, too_much) = (*width - given, too_much - given);
            }
            // Nothing else is left to do than to cut what is longest.
            for _ in 0..too_much {
                let longest = shown.iter().copied().max_by_key(|column| widths.get(*column).copied());
                if let Some(width) = longest.and_then(|column| widths.get_mut(column)) {
                    *width = width.saturating_sub(1).max(1);
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let cell = |column: usize| {
                let (cell, width) = (row.get(column).map_or("", String::as_str), widths.get(column).copied());
                let wrapped = self.prose && column + 1 == all;
                let width = width.unwrap_or(0);
                if wrapped { wrap(cell, width) } else { vec![cut(cell, width)] }
            };
            let cells: Vec<Vec<String>> = shown.iter().map(|column| cell(*column)).collect();
            let lines = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..lines {
                let mut out = String::new();
                for (part, column) in cells.iter().zip(&shown) {
                    let width = widths.get(*column).copied().unwrap_or(0);
                    out.push_str(&format!("{:<width$}{:GAP$}", part.get(line).map_or("", String::as_str), ""));
                }
                text.push_str(out.trim_end());
                text.push('\n');
            }
        }
        if !left_out.is_empty() {
            let note = format!("For want of room without {}; --output json has all.", left_out.join(", "));
            wrap(&note, room).iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted(TERMINAL.load(Ordering::Relaxed)))
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text in at most so many columns, with a sign where it goes on.
pub fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The text in lines of at most so many columns, broken between words where it can be.
pub fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: String = word.to_owned();
        loop {
            let Some(line) = lines.last_mut() else { return lines };
            let gap = usize::from(!line.is_empty());
            if width(line) + gap + width(&word) <= most {
                line.push_str(if gap > 0 { " " } else { "" });
                line.push_str(&word);
                break;
            }
            if line.is_empty() {
                // A word that is longer than a line.
                let rest = word.chars().skip(most.max(1)).collect();
                line.extend(word.chars().take(most.max(1)));
                word = rest;
            }
            lines.push(String::new());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["eth0".into(), "1".into()]);
        table.row(["a-long-name".into(), "20".into()]);
        assert_eq!(table.fitted(0), "NAME          N\neth0          1\na-long-name   20\n");
    }

    #[test]
    fn a_table_does_without_columns_where_there_is_no_room() {
        let mut table = Table::new(["NAME", "SLICE", "NODE", "NOTE"]).dispensable(&["SLICE", "NODE"]).prose();
        table.row(["10.0.0.1:80".into(), "shop/web-1".into(), "a".into(), "not ready for the last hour".into()]);
        assert_eq!(table.fitted(80).lines().count(), 2, "all of it");
        assert_eq!(
            table.fitted(60),
            "NAME          SLICE        NODE   NOTE\n\
             10.0.0.1:80   shop/web-1   a      not ready for the last\n\
             \x20                                 hour\n"
        );
        assert_eq!(
            table.fitted(50),
            "NAME          NODE   NOTE\n\
             10.0.0.1:80   a      not ready for the last hour\n\
             For want of room without SLICE; --output json has\nall.\n"
        );
        for room in 1..70 {
            let text = table.fitted(room);
            assert!(text.lines().all(|line| width(line) <= room.max(30)), "{room}:\n{text}");
        }
    }

    #[test]
    fn what_is_left_is_cut() {
        let mut table = Table::new(["CLIENT", "STATE"]);
        table.row(["[2001:db8:1:2:3:4:5:6]:40000".into(), "established".into()]);
        assert_eq!(table.fitted(30), "CLIENT             STATE\n[2001:db8:1:2:3…   established\n");
    }

    #[test]
    fn the_list_of_services_fits_the_usual_terminal() {
        let headings = ["SERVICE", "PORT", "ADDRESSES", "ELIGIBLE", "FLOWS", "PACKETS", "BYTES", "NOTE"];
        let mut table = Table::new(headings).dispensable(&["BYTES", "PACKETS", "FLOWS"]).prose();
        let row = |note: &str| {
            let addresses = "[fd30::41]:80,[2001:db8::10]:80,[fd77::1]:30080";
            ["shop/web", "http:80/tcp", addresses, "2/2", "0", "0", "0", note].map(str::to_owned)
        };
        table.row(row(""));
        assert_eq!(
            table.fitted(80),
            "SERVICE    PORT          ADDRESSES                                      ELIGIBLE\n\
             shop/web   http:80/tcp   [fd30::41]:80,[2001:db8::10]:80,[fd77::1]:3…   2/2\n\
             For want of room without BYTES, PACKETS, FLOWS; --output json has all.\n"
        );
        table.row(row("no endpoint is ready, and none is serving"));
        let text = table.fitted(80);
        assert!(text.lines().all(|line| width(line) <= 80), "{text}");
        assert!(text.starts_with("SERVICE    PORT          ADDRESSES") && text.contains("   NOTE\n"), "{text}");
    }
}
