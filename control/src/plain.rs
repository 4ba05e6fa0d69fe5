//! Text for people, without what would steer their terminal or pass for a line of ours: names and messages that come from
//! outside may hold anything.

use std::borrow::Cow;
use std::path::Path;

/// What must not be printed as it is: control characters, and what changes the direction of writing.
fn is_odd(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, is_odd: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_odd) {
        return text.into();
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        if is_odd(letter) { plain.extend(letter.escape_debug()) } else { plain.push(letter) }
    }
    plain.into()
}

/// As one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_odd)
}

/// As several lines, where it has some.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_odd(letter) && letter != '\n')
}

/// The name of a file, as one line.
pub(crate) fn path(path: &Path) -> String {
    line(&path.to_string_lossy()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_written_out_and_nothing_else_changes() {
        let odd = "a\u{1b}[31m\r\n\tb\u{7f}\u{9b}\u{202e}c";
        assert_eq!(line(odd), r"a\u{1b}[31m\r\n\tb\u{7f}\u{9b}\u{202e}c");
        assert_eq!(lines(odd), "a\\u{1b}[31m\\r\n\\tb\\u{7f}\\u{9b}\\u{202e}c");
        assert_eq!(path(odd.as_ref()), line(odd));
        let good = "Größe \"x\" \\ 日本";
        assert!(matches!(line(good), Cow::Borrowed(same) if same == good));
    }
}
