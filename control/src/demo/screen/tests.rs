use super::super::reading::Packets;
use super::super::tally::Counts;
use super::*;
use std::sync::Mutex;

const ROWS: [Row; 4] =
    [("backend-a", "ready"), ("backend-b", "ready"), ("backend-c", "removed"), ("backend-d", "ready")];

/// Two readings two seconds apart, with as much as a demo ever counts.
fn readings() -> (Reading, Reading) {
    let at = Instant::now();
    let mut before = Reading { at, counts: Counts::default(), packets: Packets::default() };
    before.counts.answers.insert("backend-a".into(), [10, 0]);
    let mut now = before.clone();
    now.at = at + Duration::from_secs(2);
    now.counts.answers.insert("backend-a".into(), [40, 10]);
    now.counts.answers.insert("backend-b".into(), [0, 10]);
    now.packets = Packets { rx: 400_000, forwarded: 399_999, ..Packets::default() };
    now.packets.drops.insert("land".into(), 1);
    now.packets.drops.insert("neighbor_unresolved".into(), 123);
    (before, now)
}

#[test]
fn a_table_shows_rates_shares_and_drops() {
    let (before, now) = readings();
    let snapshot = Snapshot::new(&ROWS, &before, &now, "7".into());
    let lines = snapshot.table(Place { columns: 79, lines: 23 }).join("\n");
    for expected in ["backend-a   ready           15       5        50", "80 %", "20 %", "received 200000", "land 1"] {
        assert!(lines.contains(expected), "no '{expected}' in:\n{lines}");
    }
    let line = snapshot.plain();
    assert!(line.contains("backend-a 15+5/s") && line.contains("200000 packets/s"), "{line}");
}

#[test]
fn a_table_fits_whatever_the_terminal() {
    let (before, now) = readings();
    let snapshot = Snapshot::new(&ROWS, &before, &now, "7".into());
    for columns in 1..=200 {
        for lines in [1, 5, 8, 23, 60] {
            let table = snapshot.table(Place { columns, lines });
            assert!(table.len() <= lines && table.iter().all(|line| seen(line) <= columns), "{columns}: {table:#?}");
        }
        if columns > 40 {
            let table = snapshot.table(Place { columns, lines: 23 }).join("\n");
            assert!(table.contains("80 %") && table.contains("HTTP/s"), "{columns}:\n{table}");
        }
    }
}

#[test]
fn expected_failures_are_said_to_be_expected() {
    let (mut screen, _) = screen(80, 24);
    assert_eq!(screen.failures(2), "2");
    screen.expect_failures("backend-c");
    assert_eq!((&*screen.failures(0), &*screen.failures(2)), ("0", "2 (expected: backend-c is dead)"));
    screen.expect_no_more(9);
    assert_eq!(screen.failures(9), "9 (expected: while backend-c was dead)");
    assert_eq!(screen.failures(12), "12 (3 of them not expected)");
}

#[test]
fn colours_take_no_columns() {
    assert_eq!(seen("  \x1b[32m✓\x1b[0m held"), 8);
}

/// A terminal that knows what the demo needs of it: lines that wrap and scroll, and the cursor that goes up, home, and clears.
#[derive(Default)]
struct Terminal {
    columns: usize,
    lines: usize,
    screen: Vec<String>,
    scrolled: Vec<String>,
    at: (usize, usize),
}

impl Terminal {
    fn new(columns: usize, lines: usize) -> Terminal {
        Terminal { columns, lines, screen: vec![String::new(); lines], ..Terminal::default() }
    }

    fn newline(&mut self) {
        self.at = (self.at.0 + 1, 0);
        if self.at.0 == self.lines {
            self.scrolled.push(self.screen.remove(0));
            self.screen.push(String::new());
            self.at.0 -= 1;
        }
    }

    fn print(&mut self, text: &str) {
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            match letter {
                '\n' => self.newline(),
                '\x1b' => {
                    assert_eq!(letters.next(), Some('['));
                    let mut number = String::new();
                    let command = loop {
                        match letters.next().expect("a whole sequence") {
                            digit @ '0'..='9' => number.push(digit),
                            command => break command,
                        }
                    };
                    self.obey(command, &number);
                }
                letter => {
                    if self.at.1 == self.columns {
                        self.newline();
                    }
                    let line = &mut self.screen[self.at.0];
                    let kept: String = line.chars().take(self.at.1).collect();
                    *line = format!("{kept}{letter}");
                    self.at.1 += 1;
                }
            }
        }
    }

    fn obey(&mut self, command: char, number: &str) {
        match (command, number) {
            ('A', up) => self.at = (self.at.0.saturating_sub(up.parse().unwrap()), 0),
            ('J', "") => {
                // As tmux does it: a screen that is cleared from its first line goes where one can scroll back to.
                if self.at == (0, 0) {
                    self.scrolled.extend(self.screen.iter().cloned());
                }
                self.screen[self.at.0].clear();
                self.screen[self.at.0 + 1..].iter_mut().for_each(String::clear);
            }
            ('J', "2") => self.screen.iter_mut().for_each(String::clear),
            ('H', "") => self.at = (0, 0),
            ('m', _) => {}
            other => panic!("{other:?}"),
        }
    }

    fn all(&self) -> Vec<&str> {
        self.scrolled.iter().chain(&self.screen).map(String::as_str).collect()
    }
}

/// What is written, seen by a terminal.
#[derive(Clone)]
struct Shown(Arc<Mutex<Terminal>>);

impl Write for Shown {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().print(std::str::from_utf8(text).unwrap());
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn screen(columns: usize, lines: usize) -> (Screen, Arc<Mutex<Terminal>>) {
    let terminal = Arc::new(Mutex::new(Terminal::new(columns, lines)));
    let asked = terminal.clone();
    let size = move || asked.lock().map(|terminal| Some((terminal.columns, terminal.lines))).unwrap();
    let shown = Shown(terminal.clone());
    (Screen::on(Box::new(shown), Box::new(size), true, Arc::default()), terminal)
}

#[test]
fn the_table_stands_once_whatever_the_terminals_size() {
    let (before, now) = readings();
    for (columns, lines) in [(80, 24), (81, 24), (200, 60), (60, 15), (40, 10), (40, 8), (20, 5), (30, 4), (20, 2)] {
        let (mut screen, terminal) = screen(columns, lines);
        screen.heading("The story");
        for round in 0..30 {
            screen.show(&ROWS, &before, &now);
            if round % 3 == 0 {
                let long =
                    "a line of the story that is longer than the terminal is wide, so that it goes on below ".repeat(2);
                screen.check(true, &format!("{round}: {long}"));
            }
        }
        let terminal = terminal.lock().unwrap();
        let all = terminal.all();
        let headings = all.iter().filter(|line| line.starts_with(" endpoint")).count();
        assert_eq!(headings, usize::from(lines > 3), "{columns}x{lines}:\n{}", all.join("\n"));
        let told = all.iter().filter(|line| line.starts_with("  ✓")).count();
        assert_eq!(told, 10, "nothing of the story is lost: {columns}x{lines}:\n{}", all.join("\n"));
    }
}

#[test]
fn another_size_draws_the_screen_anew() {
    let (before, now) = readings();
    let (mut screen, terminal) = screen(100, 30);
    screen.heading("The story");
    screen.show(&ROWS, &before, &now);
    for (columns, lines) in [(60, 20), (80, 24), (120, 10), (50, 24)] {
        {
            let mut terminal = terminal.lock().unwrap();
            // What a terminal does with its lines then differs: this one keeps them at the top, cut.
            (terminal.columns, terminal.lines) = (columns, lines);
            terminal.screen.resize(lines, String::new());
            terminal.at = (terminal.at.0.min(lines - 1), 0);
        }
        screen.show(&ROWS, &before, &now);
        let terminal = terminal.lock().unwrap();
        let headings = terminal.screen.iter().filter(|line| line.starts_with(" endpoint")).count();
        assert_eq!(headings, 1, "{columns}x{lines}:\n{}", terminal.screen.join("\n"));
        assert!(terminal.screen.iter().any(|line| line.ends_with("The story")), "{:#?}", terminal.screen);
    }
}
