//! The two text formats that Prometheus reads.

use std::collections::HashSet;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0, for all who do not ask for something else.
    OpenMetrics,
    /// Prometheus' own, version 0.0.4.
    Prometheus,
}

impl Format {
    /// The one that an `Accept` header asks for.
    pub fn wanted(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for offer in accept.split(',') {
            let mut parts = offer.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
            match &*name {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" | "text/*" => plain = plain.max(quality),
                _ => {}
            }
        }
        if plain > open { Format::Prometheus } else { Format::OpenMetrics }
    }

    /// Its content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// An OpenMetrics text in this format.
    pub fn of(self, text: String) -> String {
        match self {
            Format::OpenMetrics => text,
            Format::Prometheus => older(&text),
        }
    }
}

/// A count is described under its full name in the older format, and there is no end mark.
fn older(text: &str) -> String {
    let counts: HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut older = String::with_capacity(text.len());
    for line in text.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        match described.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counts.contains(name) => {
                older.extend([mark, name, "_total ", rest]);
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_plain_text_gets_it() {
        use Format::{OpenMetrics, Prometheus};
        for (accept, format) in [
            ("", OpenMetrics),
            ("*/*", OpenMetrics),
            ("text/plain", Prometheus),
            ("text/plain;version=0.0.4", Prometheus),
            ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Prometheus),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", OpenMetrics),
            ("application/openmetrics-text; q=0.3, Text/Plain; q=0.4", Prometheus),
            ("application/openmetrics-text,text/plain", OpenMetrics),
        ] {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_older_format_describes_counts_by_their_full_names() {
        let text =
            "# HELP a Of a.\n# TYPE a counter\na_total{x=\"1\"} 5\n# HELP b Of b.\n# TYPE b gauge\nb 1.0\n# EOF\n";
        let older =
            "# HELP a_total Of a.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n# HELP b Of b.\n# TYPE b gauge\nb 1.0\n";
        assert_eq!(Format::Prometheus.of(text.to_owned()), older);
        assert_eq!(Format::OpenMetrics.of(text.to_owned()), text);
    }
}
