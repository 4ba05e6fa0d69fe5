//! A page of the documentation as a manual page: as much Markdown as our pages use.

use std::fmt::Write;

/// The body of a manual page.
pub(super) fn to_roff(markdown: &str) -> String {
    let mut page = Page::default();
    for line in markdown.lines() {
        page.line(line);
    }
    page.end_paragraph();
    page.roff
}

#[derive(Default)]
struct Page {
    roff: String,
    /// What is read of a paragraph or an item, on one line.
    paragraph: String,
    is_item: bool,
    is_code: bool,
    /// The names of the columns, within a table.
    columns: Option<Vec<String>>,
}

impl Page {
    fn line(&mut self, line: &str) {
        if line.starts_with("```") {
            self.end_paragraph();
            self.is_code = !self.is_code;
            self.roff.push_str(if self.is_code { ".PP\n.nf\n" } else { ".fi\n" });
            return;
        }
        if self.is_code {
            return self.put(&escaped(line));
        }
        if let Some(row) = line.strip_prefix('|') {
            self.end_paragraph();
            return self.row(row);
        }
        self.columns = None;
        let (heading, item) = (line.trim_start_matches('#'), line.strip_prefix("- "));
        match (line.len() - heading.len(), item) {
            (0, None) if line.trim().is_empty() => self.end_paragraph(),
            (0, None) => {
                self.paragraph.push(' ');
                self.paragraph.push_str(line.trim());
            }
            (0, Some(item)) => {
                self.end_paragraph();
                (self.is_item, self.paragraph) = (true, item.to_owned());
            }
            // The title stands in the page's head.
            (1, _) => {}
            (level, _) => {
                self.end_paragraph();
                let (request, text) =
                    if level == 2 { (".SH", heading.to_uppercase()) } else { (".SS", heading.to_owned()) };
                let _ = writeln!(self.roff, "{request} {}", inline(text.trim()));
            }
        }
    }

    fn end_paragraph(&mut self) {
        let paragraph = std::mem::take(&mut self.paragraph);
        if !paragraph.trim().is_empty() {
            self.roff.push_str(if self.is_item { ".IP \\(bu 2\n" } else { ".PP\n" });
            self.put(&inline(paragraph.trim()));
        }
        self.is_item = false;
    }

    /// A row is a term and what the other cells say of it.
    fn row(&mut self, row: &str) {
        let cells = cells(row);
        let Some(columns) = &self.columns else {
            self.columns = Some(cells);
            return;
        };
        let Some((term, rest)) = cells.split_first().filter(|(term, _)| !term.starts_with("---")) else { return };
        let (mut kind, mut told) = (Vec::new(), Vec::new());
        for (column, cell) in columns.iter().skip(1).zip(rest).filter(|(_, cell)| !cell.is_empty()) {
            match &**column {
                "type" => kind.push(cell.clone()),
                "default" if cell == "required" => kind.push(cell.clone()),
                "default" => kind.push(format!("default: {cell}")),
                _ => told.push(cell.clone()),
            }
        }
        let kind = if kind.is_empty() { String::new() } else { format!("({}) ", kind.join("; ")) };
        let told = format!("{kind}{}", told.join(" "));
        let term = inline(term);
        self.roff.push_str(".TP\n");
        self.put(&term);
        self.put(&inline(&told));
    }

    /// A line of text: it must not look like a request.
    fn put(&mut self, text: &str) {
        if text.starts_with(['.', '\'']) {
            self.roff.push_str("\\&");
        }
        self.roff.push_str(text);
        self.roff.push('\n');
    }
}

/// The cells of a row after its first `|`.
fn cells(row: &str) -> Vec<String> {
    let (mut cells, mut is_code) = (vec![String::new()], false);
    for letter in row.trim_end().trim_end_matches('|').chars() {
        is_code ^= letter == '`';
        match cells.last_mut() {
            Some(cell) if letter != '|' || is_code => cell.push(letter),
            _ => cells.push(String::new()),
        }
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// Code and what is emphasised are bold; of a link stays what it says.
fn inline(text: &str) -> String {
    let mut shown = String::new();
    for (place, part) in text.split('`').enumerate() {
        if place % 2 == 1 {
            shown.push_str(&format!("\\fB{}\\fR", escaped(part)));
            continue;
        }
        for (place, part) in without_links(part).split("**").enumerate() {
            let part = part.replace('\\', "\\e");
            shown.push_str(&if place % 2 == 1 { format!("\\fB{part}\\fR") } else { part });
        }
    }
    shown
}

fn without_links(text: &str) -> String {
    let Some((before, (said, after))) = text.split_once('[').and_then(|(before, rest)| {
        let (said, rest) = rest.split_once("](")?;
        Some((before, (said, rest.split_once(')')?.1)))
    }) else {
        return text.to_owned();
    };
    format!("{before}{said}{}", without_links(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_pages_have_becomes_requests() {
        let page = "# Title\n\nOne `two-2`\nthree, [four](x.md#y) \\.\n\n## Some **more**\n\n- a\n  b\n- .c\n\n### Less\n\n\
                    | key | type | default | what it says |\n|---|---|---|---|\n| `a.b` | `x\\|y` | `x` | says |\n| c | d | | e |\n\n\
                    ```yaml\n.a: \\\n```\n'quoted'\n";
        let roff = ".PP\nOne \\fBtwo\\-2\\fR three, four \\e.\n.SH SOME \\fBMORE\\fR\n.IP \\(bu 2\na b\n.IP \\(bu 2\n\\&.c\n.SS Less\n\
                    .TP\n\\fBa.b\\fR\n(\\fBx\\e|y\\fR; default: \\fBx\\fR) says\n.TP\nc\n(d) e\n.PP\n.nf\n\\&.a: \\e\n.fi\n.PP\n\\&'quoted'\n";
        assert_eq!(to_roff(page), roff);
    }
}
