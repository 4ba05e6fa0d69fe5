//! Reads a JSON value into a typed object as forgivingly as a person who writes manifests expects, and says exactly where
//! it does not fit.
//!
//! Two things differ from `serde_json::from_value`: scalars are converted where nothing can be misread (a YAML label value
//! `1` is the text "1", a port "80" is 80, null is the empty value), and an error names the path of the offending value.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// A value that does not fit its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Misfit {
    /// Where: `spec.ports[0].port`. Empty for the object itself.
    pub path: String,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Misfit { path: String::new(), text: text.to_string() }
    }
}

/// The typed form of `value`.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Misfit> {
    T::deserialize(Lenient(value))
}

#[derive(Clone, Copy)]
struct Lenient<'de>(&'de Value);

impl Lenient<'_> {
    fn unexpected<T>(self, visitor: &dyn de::Expected) -> Result<T, Misfit> {
        let found = match self.0 {
            Value::Null => de::Unexpected::Unit,
            Value::Bool(value) => de::Unexpected::Bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => de::Unexpected::Unsigned(value),
                (_, Some(value)) => de::Unexpected::Signed(value),
                _ => de::Unexpected::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => de::Unexpected::Str(text),
            Value::Array(_) => de::Unexpected::Seq,
            Value::Object(_) => de::Unexpected::Map,
        };
        Err(de::Error::invalid_type(found, visitor))
    }

    fn text<'v, V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::String(text) => visitor.visit_str(text),
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(value) => visitor.visit_str(if *value { "true" } else { "false" }),
            Value::Null => visitor.visit_str(""),
            Value::Array(_) | Value::Object(_) => self.unexpected(&visitor),
        }
    }

    fn integer<'v, V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (_, Some(value)) => visitor.visit_i64(value),
                // `80.0` is 80, as with kubectl.
                _ => match number.as_f64() {
                    Some(value) if value.fract() == 0.0 && value.abs() < 1e15 => visitor.visit_i64(value as i64),
                    _ => self.unexpected(&visitor),
                },
            },
            Value::String(text) => match text.trim().parse() {
                Ok(value) => visitor.visit_i64(value),
                Err(_) => self.unexpected(&visitor),
            },
            Value::Null => visitor.visit_u64(0),
            _ => self.unexpected(&visitor),
        }
    }
}

/// The same conversion under several names.
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            self.integer(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Lenient<'de> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (_, Some(value)) => visitor.visit_i64(value),
                _ => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_str(text),
            Value::Array(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Null => visitor.visit_bool(false),
            // The words of YAML 1.1, which the tools of Kubernetes understand where a boolean is wanted.
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => visitor.visit_bool(true),
                "false" | "no" | "off" | "n" => visitor.visit_bool(false),
                _ => self.unexpected(&visitor),
            },
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), index: 0 }),
            Value::Null => visitor.visit_seq(Items { items: [].iter(), index: 0 }),
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match self.0 {
            Value::Object(members) => visitor.visit_map(Members { members: members.iter(), value: None }),
            Value::Null => visitor.visit_map(de::value::MapDeserializer::new(std::iter::empty::<(&str, &str)>())),
            _ => self.unexpected(&visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'de> {
    items: std::slice::Iter<'de, Value>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Misfit;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Misfit> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.index;
        self.index += 1;
        seed.deserialize(Lenient(item)).map(Some).map_err(|misfit| below(&format!("[{index}]"), misfit))
    }
}

struct Members<'de> {
    members: serde_json::map::Iter<'de>,
    value: Option<(&'de str, &'de Value)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = Misfit;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Misfit> {
        let Some((key, value)) = self.members.next() else { return Ok(None) };
        self.value = Some((key, value));
        let key: de::value::StrDeserializer<'_, Misfit> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Misfit> {
        let Some((key, value)) = self.value.take() else { return Err(de::Error::custom("a value without a key")) };
        seed.deserialize(Lenient(value)).map_err(|misfit| below(key, misfit))
    }
}

/// Puts one more step before the path.
fn below(step: &str, misfit: Misfit) -> Misfit {
    let dot = if misfit.path.is_empty() || misfit.path.starts_with('[') { "" } else { "." };
    Misfit { path: format!("{step}{dot}{}", misfit.path), text: misfit.text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    #[test]
    fn scalars_are_converted_where_nothing_can_be_misread() {
        let service: Service = from_value(&json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": 7, "labels": {"a": true, "b": 1.5, "c": null}, "creationTimestamp": null},
            "spec": {"ports": [{"port": "80", "targetPort": 8080}, {"port": 81.0, "targetPort": "http"}],
                     "publishNotReadyAddresses": "yes", "externalIPs": null, "sessionAffinityConfig": null},
            "status": {"loadBalancer": null, "unknown": [1]},
        }))
        .unwrap();
        assert_eq!(service.metadata.name.as_deref(), Some("7"));
        let labels: Vec<_> = service.metadata.labels.unwrap().into_values().collect();
        assert_eq!(labels, ["true", "1.5", ""]);
        let spec = service.spec.unwrap();
        assert_eq!(spec.publish_not_ready_addresses, Some(true));
        assert_eq!(spec.ports.unwrap().iter().map(|port| port.port).collect::<Vec<_>>(), [80, 81]);
    }

    #[test]
    fn errors_name_the_path_and_the_value() {
        for (value, expected) in [
            (
                json!({"spec": {"ports": [{"port": 80}, {"port": "eighty"}]}}),
                "spec.ports[1].port: invalid type: string \"eighty\", expected i32",
            ),
            (json!({"spec": {"ports": {"port": 80}}}), "spec.ports: invalid type: map, expected"),
            (json!({"spec": {"ports": [{"port": 1e30}]}}), "spec.ports[0].port: invalid type: floating point"),
            (
                json!({"spec": {"ports": [{"port": 4294967296i64}]}}),
                "spec.ports[0].port: invalid value: integer `4294967296`, expected i32",
            ),
            (json!({"metadata": {"labels": {"a": []}}}), "metadata.labels.a: invalid type: sequence"),
            (json!([]), "invalid type: sequence, expected"),
        ] {
            let error = from_value::<Service>(&value).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
