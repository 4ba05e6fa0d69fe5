//! What an object says it is. Objects in lists of an API server mostly say nothing.

use serde_json::Value;

use super::{Kind, brief, shown};

/// `apiVersion` and `kind`.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'c> {
    pub(crate) api_version: Option<&'c str>,
    pub(crate) kind: Option<&'c str>,
}

impl Claim<'_> {
    /// Whether an object of this kind may say so.
    pub(crate) fn fits(&self, kind: Kind) -> bool {
        let said = |value: Option<&str>, meant: &str| value.is_none_or(|v| v.is_empty() || v == meant);
        said(self.api_version, kind.api_version()) && said(self.kind, kind.label())
    }

    /// For a person.
    pub(crate) fn words(&self) -> String {
        words([self.api_version.map(shown), self.kind.map(shown)])
    }
}

/// Why this is no object of `kind`, when it says itself that it is something else.
pub(crate) fn stranger(kind: Kind, value: &Value) -> Option<String> {
    let keys = [("apiVersion", kind.api_version()), ("kind", kind.label())];
    let fits = |(key, meant): (&str, &str)| match value.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty() || text == meant,
        Some(_) => false,
    };
    (!keys.into_iter().all(fits)).then(|| {
        let said = keys.map(|(key, _)| value.get(key).filter(|value| !value.is_null()).map(brief));
        format!("an object with {} came in place of a {}; it is left out", words(said), kind.label())
    })
}

fn words(values: [Option<String>; 2]) -> String {
    let told = ["apiVersion", "kind"].into_iter().zip(values);
    told.filter_map(|(key, value)| Some(format!("{key} {}", value?))).collect::<Vec<_>>().join(" and ")
}
