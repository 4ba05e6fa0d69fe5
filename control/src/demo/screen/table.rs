//! The demo's table, in whatever room there is.

use super::super::reading::{Packets, Reading};
use super::Row;
use crate::commands::table::{cut, wrap};

/// The widest bar.
const BAR: usize = 24;
/// Narrower ones say nothing.
const SHORTEST_BAR: usize = 6;

/// The room for a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Columns.
    pub(super) columns: usize,
    /// Lines.
    pub(super) lines: usize,
}

/// Two readings, and what they are about.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    rows: Vec<Row>,
    before: Reading,
    now: Reading,
    failures: String,
}

/// A column: heading, width, and whether it is text, which stands on the left.
struct Column {
    heading: &'static str,
    width: usize,
    text: bool,
}

const COLUMNS: [Column; 5] = [
    Column { heading: "endpoint", width: 11, text: true },
    Column { heading: "", width: 10, text: true },
    Column { heading: "HTTP/s", width: 7, text: false },
    Column { heading: "UDP/s", width: 7, text: false },
    Column { heading: "requests", width: 9, text: false },
];

/// Which columns go first where there is no room: the state, all requests.
const GO_FIRST: [usize; 2] = [1, 4];
/// A space before each column, and `100 %` with three before it.
const SHARE: usize = 8;

impl Snapshot {
    /// `failures`: how many requests failed, in words.
    pub(super) fn new(rows: &[Row], before: &Reading, now: &Reading, failures: String) -> Snapshot {
        Snapshot { rows: rows.to_vec(), before: before.clone(), now: now.clone(), failures }
    }

    fn seconds(&self) -> f64 {
        self.now.at.duration_since(self.before.at).as_secs_f64()
    }

    /// Lines that fit, the most telling ones first where not all do.
    pub(super) fn table(&self, place: Place) -> Vec<String> {
        let seconds = self.seconds();
        let recent = self.now.counts.since(&self.before.counts);
        let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
        let wide = |shown: &[usize]| {
            SHARE + shown.iter().filter_map(|column| COLUMNS.get(*column)).map(|column| column.width + 1).sum::<usize>()
        };
        for column in GO_FIRST {
            if wide(&shown) > place.columns {
                shown.retain(|shown| *shown != column);
            }
        }
        // A space stands between the bar and its percentage.
        let bar = place.columns.saturating_sub(wide(&shown) + 1).min(BAR);
        let bar = if bar < SHORTEST_BAR { 0 } else { bar };
        let line = |cells: [String; 5], share: String| {
            let cells = cells.into_iter().zip(COLUMNS).enumerate().filter(|(column, _)| shown.contains(column));
            let cells = cells.map(|(_, (cell, Column { width, text, .. }))| match text {
                true => format!(" {cell:<width$}"),
                false => format!(" {cell:>width$}"),
            });
            format!("{}   {share}", cells.collect::<String>()).trim_end().to_owned()
        };
        let heading = if bar > 15 { "share of requests now" } else { "share" };
        let mut lines = vec![String::new(), line(COLUMNS.map(|column| column.heading.to_owned()), heading.to_owned())];
        for (name, word) in &self.rows {
            let [http, udp] = recent.answers.get(*name).copied().unwrap_or_default();
            let share = recent.share(name);
            let cells = [
                (*name).to_owned(),
                (*word).to_owned(),
                rate(http, seconds).to_string(),
                rate(udp, seconds).to_string(),
                self.now.counts.of(name).to_string(),
            ];
            let blocks = "█".repeat((share * bar as f64).round() as usize);
            let gap = usize::from(bar > 0);
            lines.push(line(cells, format!("{blocks:<bar$}{:gap$}{:>3.0} %", "", share * 100.0)));
        }
        let packets =
            |get: fn(&Packets) -> u64| rate(get(&self.now.packets).saturating_sub(get(&self.before.packets)), seconds);
        let rates = format!(
            "packets/s: received {}, forwarded {}, replied {}, passed {}",
            packets(|packets| packets.rx),
            packets(|packets| packets.forwarded),
            packets(|packets| packets.replied),
            packets(|packets| packets.passed)
        );
        let fates = format!("failed requests: {}; drops by reason: {}", self.failures, drops(&self.now.packets));
        for text in [rates, fates] {
            lines.extend(wrap(&text, place.columns.saturating_sub(1)).iter().map(|line| format!(" {line}")));
        }
        lines.truncate(place.lines);
        lines.iter().map(|line| cut(line, place.columns)).collect()
    }

    /// The same in one line.
    pub(super) fn plain(&self) -> String {
        let seconds = self.seconds();
        let recent = self.now.counts.since(&self.before.counts);
        let share = |(name, _): &Row| {
            let [http, udp] = recent.answers.get(*name).copied().unwrap_or_default();
            format!("{name} {}+{}/s", rate(http, seconds), rate(udp, seconds))
        };
        let shares: Vec<String> = self.rows.iter().map(share).collect();
        let received = rate(self.now.packets.rx.saturating_sub(self.before.packets.rx), seconds);
        let (failed, drops) = (&self.failures, drops(&self.now.packets));
        format!("{} (HTTP+UDP); {received} packets/s; failed {failed}; drops {drops}", shares.join(", "))
    }
}

/// Events a second, rounded.
fn rate(amount: u64, seconds: f64) -> u64 {
    if seconds > 0.0 { (amount as f64 / seconds).round() as u64 } else { 0 }
}

fn drops(packets: &Packets) -> String {
    let named: Vec<String> = packets.drops.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}
