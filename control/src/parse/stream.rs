//! A document of a manifest while it is read: the items of a list become objects one by one, so that a list of any length
//! takes no more memory than its objects in Ringway's form and the item that is being read.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::{Document, collect};

/// What the objects of a file may take in memory: four million endpoints, about.
pub const MOST_MEMORY: usize = 1 << 30;

/// What is said about more.
pub fn too_much() -> String {
    format!("its objects take more than {MOST_MEMORY} bytes of memory, which is the most; split it")
}

/// The objects of a document; several if it is a list.
pub struct Streamed(pub Vec<Document>);

impl<'de> Deserialize<'de> for Streamed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Root)
    }
}

struct Root;

/// Everything but a map is read as a value.
macro_rules! values {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: de::Error>(self, value: $type) -> Result<Streamed, E> {
            Ok(whole(&Value::deserialize(de::IntoDeserializer::<E>::into_deserializer(value))?))
        })*
    };
}

impl<'de> Visitor<'de> for Root {
    type Value = Streamed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Kubernetes object")
    }

    values! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str) }

    fn visit_unit<E: de::Error>(self) -> Result<Streamed, E> {
        Ok(Streamed(Vec::new()))
    }

    fn visit_none<E: de::Error>(self) -> Result<Streamed, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Streamed, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Streamed, A::Error> {
        // What it holds does not matter: a list alone is no object.
        while seq.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(whole(&Value::Array(Vec::new())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Streamed, A::Error> {
        let mut members = Map::new();
        let mut items = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                items = match map.next_value_seed(Items(own(&members)))? {
                    Found::Items(found) => Some(found),
                    Found::Other(value) => {
                        members.insert(key, value);
                        None
                    }
                };
            } else {
                members.insert(key, map.next_value()?);
            }
        }
        let (api_version, kind) = own(&members);
        let Some(List { mut documents, waiting }) = items else { return Ok(whole(&Value::Object(members))) };
        let Some(item_kind) = kind.strip_suffix("List") else {
            // No list, whatever it has under that name.
            return Ok(whole(&Value::Object(members)));
        };
        let inherited = (!item_kind.is_empty()).then_some((&*api_version, item_kind));
        for (at, text) in waiting.into_iter().rev() {
            let value: Value = serde_json::from_str(&text).map_err(de::Error::custom)?;
            let mut these = Vec::new();
            collect(&value, inherited, 1, &mut these);
            documents.splice(at..at, these);
        }
        Ok(Streamed(documents))
    }
}

fn whole(value: &Value) -> Streamed {
    let mut documents = Vec::new();
    if !value.is_null() {
        collect(value, None, 0, &mut documents);
    }
    Streamed(documents)
}

/// What a document says it is.
fn own(members: &Map<String, Value>) -> (String, String) {
    let text = |key| members.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    (text("apiVersion"), text("kind"))
}

/// What stands under `items`.
enum Found {
    Items(List),
    Other(Value),
}

#[derive(Default)]
struct List {
    documents: Vec<Document>,
    /// Items that do not say what they are, while the list has not said it either, as JSON: and where among the documents
    /// they belong.
    waiting: Vec<(usize, String)>,
}

/// Reads `items`. What the list is, as far as it was said before.
struct Items((String, String));

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Everything but a list is read as a value.
macro_rules! others {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E: de::Error>(self, value: $type) -> Result<Found, E> {
            Value::deserialize(de::IntoDeserializer::<E>::into_deserializer(value)).map(Found::Other)
        })*
    };
}

impl<'de> Visitor<'de> for Items {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of Kubernetes objects")
    }

    others! { visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str) }

    fn visit_unit<E: de::Error>(self) -> Result<Found, E> {
        Ok(Found::Other(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Found, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Found, A::Error> {
        Value::deserialize(de::value::MapAccessDeserializer::new(map)).map(Found::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Found, A::Error> {
        let Items((api_version, kind)) = self;
        let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        let inherited = item_kind.map(|kind| (&*api_version, kind)).filter(|(api_version, _)| !api_version.is_empty());
        let mut list = List::default();
        let (mut memory, mut counted) = (0, 0);
        while let Some(item) = seq.next_element::<Value>()? {
            let is_told = |key| item.get(key).is_some_and(Value::is_string);
            if inherited.is_some() || kind == "List" || (is_told("apiVersion") && is_told("kind")) {
                collect(&item, inherited, 1, &mut list.documents);
            } else {
                list.waiting.push((list.documents.len(), item.to_string()));
                memory += list.waiting.last().map_or(0, |(_, text)| text.len());
            }
            memory += list.documents[counted..].iter().map(Document::weight).sum::<usize>();
            counted = list.documents.len();
            if memory > MOST_MEMORY {
                return Err(de::Error::custom(too_much()));
            }
        }
        Ok(Found::Items(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn item_by_item_is_the_same_as_at_once() {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
        let bare = json!({"metadata": {"name": "b"}});
        let half = json!({"kind": "Node", "metadata": {"name": "h"}});
        let list = json!({"kind": "List", "apiVersion": "v1", "items": [node, bare, half]});
        let lists = [
            list.clone(),
            json!({"apiVersion": "v1", "kind": "NodeList", "items": [bare, node, half, bare]}),
            json!({"apiVersion": "v1", "kind": "List", "items": [list, node, {"kind": "ConfigMap", "apiVersion": "v1"}]}),
            json!({"apiVersion": "v1", "kind": "Other", "items": [node]}),
            json!({"apiVersion": "v1", "kind": "NodeList", "items": null}),
            json!({"apiVersion": "v1", "kind": "NodeList", "items": {"a": 1}}),
            json!({"apiVersion": "v1", "kind": "NodeList", "items": 3}),
            json!({"apiVersion": "v1", "kind": "NodeList", "items": [1, "x", null, []]}),
            json!({"items": [node]}),
            node,
        ];
        for value in lists {
            let mut expected = Vec::new();
            crate::parse::document(&value, &mut expected);
            // As kubectl sorts them, items come before kind; as an API server does, after it.
            let members = value.as_object().unwrap().iter();
            let members: Vec<String> = members.map(|(key, value)| format!("{}:{value}", json!(key))).collect();
            let reversed: Vec<String> = members.iter().rev().cloned().collect();
            for members in [members, reversed] {
                let text = format!("{{{}}}", members.join(","));
                let Streamed(documents) = serde_json::from_str(&text).unwrap();
                assert_eq!(documents, expected, "{text}");
                let Streamed(documents) = serde_saphyr::from_str(&text).unwrap();
                assert_eq!(documents, expected, "{text}");
            }
        }
    }
}
