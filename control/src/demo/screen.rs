//! What the demo prints: the story line by line, and under it a table that lives on a terminal and is a plain line now
//! and then elsewhere.

use super::reading::{Packets, Reading};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a plain line is printed where there is no terminal.
const PLAIN: Duration = Duration::from_secs(3);
const BAR: usize = 24;

/// A row's endpoint: name, and a word about it.
pub(super) type Row = (&'static str, &'static str);

/// Where the demo prints.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    /// Lines of the table that stand under the story now.
    drawn: usize,
    table: Vec<String>,
    begin: Instant,
    last_plain: Instant,
}

impl Screen {
    /// Standard output, whatever it is.
    pub(super) fn new() -> Screen {
        let now = Instant::now();
        let terminal = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Screen { terminal, drawn: 0, table: Vec::new(), begin: now, last_plain: now }
    }

    /// A heading of the story.
    pub(super) fn heading(&mut self, text: &str) {
        let seconds = self.begin.elapsed().as_secs();
        let text = if self.terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() };
        self.say(&format!("\n[{seconds:>3} s] {text}"));
    }

    /// A check that held or did not.
    pub(super) fn check(&mut self, held: bool, text: &str) {
        let mark = match (held, self.terminal) {
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
        }
        self.draw();
    }

    /// Shows what came between two readings.
    pub(super) fn show(&mut self, rows: &[Row], before: &Reading, now: &Reading) {
        if self.terminal {
            self.erase();
            self.table = table(rows, before, now);
            self.draw();
        } else if self.last_plain.elapsed() >= PLAIN {
            self.last_plain = Instant::now();
            let line = plain(rows, before, now);
            self.write(&format!("  {:>3} s  {line}\n", self.begin.elapsed().as_secs()));
        }
    }

    /// Takes the table away.
    pub(super) fn clear(&mut self) {
        self.erase();
        self.table.clear();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            // Up to the table's first line, and clear all below.
            self.write(&format!("\x1b[{}A\x1b[J", self.drawn));
            self.drawn = 0;
        }
    }

    fn draw(&mut self) {
        if self.terminal && !self.table.is_empty() {
            let text: String = self.table.iter().map(|line| format!("{line}\n")).collect();
            self.drawn = self.table.len();
            self.write(&text);
        }
    }

    #[allow(clippy::unused_self, reason = "everything that is printed passes here")]
    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever reads us may have gone (a closed pipe); the demo goes on and its exit status tells.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
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

fn table(rows: &[Row], before: &Reading, now: &Reading) -> Vec<String> {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let recent = now.counts.since(&before.counts);
    let mut lines = vec![
        String::new(),
        format!(
            " {:<11} {:<10} {:>7} {:>7} {:>9}   share of requests now",
            "endpoint", "", "HTTP/s", "UDP/s", "requests"
        ),
    ];
    for (name, word) in rows {
        let [http, udp] = recent.answers.get(*name).copied().unwrap_or_default();
        let share = recent.share(name);
        lines.push(format!(
            " {name:<11} {word:<10} {:>7} {:>7} {:>9}   {:<BAR$} {:>3.0} %",
            rate(http, seconds),
            rate(udp, seconds),
            now.counts.of(name),
            "█".repeat((share * BAR as f64).round() as usize),
            share * 100.0
        ));
    }
    let per_second = |get: fn(&Packets) -> u64| rate(get(&now.packets).saturating_sub(get(&before.packets)), seconds);
    lines.push(format!(
        " packets/s: received {}, forwarded {}, replied {}, passed {}; failed requests: {}",
        per_second(|packets| packets.rx),
        per_second(|packets| packets.forwarded),
        per_second(|packets| packets.replied),
        per_second(|packets| packets.passed),
        now.counts.failed()
    ));
    lines.push(format!(" drops by reason: {}", drops(&now.packets)));
    lines
}

fn plain(rows: &[Row], before: &Reading, now: &Reading) -> String {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    let recent = now.counts.since(&before.counts);
    let shares: Vec<String> = rows
        .iter()
        .map(|(name, _)| {
            let [http, udp] = recent.answers.get(*name).copied().unwrap_or_default();
            format!("{name} {}+{}/s", rate(http, seconds), rate(udp, seconds))
        })
        .collect();
    let received = rate(now.packets.rx.saturating_sub(before.packets.rx), seconds);
    let failed = now.counts.failed();
    format!("{} (HTTP+UDP); {received} packets/s; failed {failed}; drops {}", shares.join(", "), drops(&now.packets))
}

#[cfg(test)]
mod tests {
    use super::super::tally::Counts;
    use super::*;

    #[test]
    fn a_table_shows_rates_shares_and_drops() {
        let at = Instant::now();
        let mut before = Reading { at, counts: Counts::default(), packets: Packets::default() };
        before.counts.answers.insert("backend-a".into(), [10, 0]);
        let mut now = before.clone();
        now.at = at + Duration::from_secs(2);
        now.counts.answers.insert("backend-a".into(), [40, 10]);
        now.counts.answers.insert("backend-b".into(), [0, 10]);
        now.packets = Packets { rx: 400, forwarded: 399, ..Packets::default() };
        now.packets.drops.insert("land".into(), 1);
        assert!(now.packets.closes());
        let rows = [("backend-a", "ready"), ("backend-b", "ready")];
        let lines = table(&rows, &before, &now).join("\n");
        for expected in ["backend-a   ready           15       5        50", "80 %", "20 %", "received 200", "land 1"] {
            assert!(lines.contains(expected), "no '{expected}' in:\n{lines}");
        }
        let line = plain(&rows, &before, &now);
        assert!(line.contains("backend-a 15+5/s") && line.contains("200 packets/s"), "{line}");
    }
}
