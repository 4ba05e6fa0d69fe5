//! Values in messages: quoted, and short.

use serde_json::Value;

/// The longest name that an object can have, of one that may be longer.
pub(super) fn cut(name: &str) -> &str {
    name.char_indices().nth(253).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// A value in a message: quoted, and cut where it gets long.
pub(crate) fn shown(value: &str) -> String {
    const MOST: usize = 80;
    if value.chars().count() <= MOST {
        format!("{value:?}")
    } else {
        format!("{:?}…", value.chars().take(MOST).collect::<String>())
    }
}

pub(super) fn brief(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => shown(text),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "a mapping".into(),
    }
}
