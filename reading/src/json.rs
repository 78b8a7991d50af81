//! Objects and lists of JSON, as much of them as is wanted.

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// A JSON object.
pub type Document = Map<String, Value>;

/// What an answer is, whose list, if it has one, is under `key`. Without a tree of what is in that list.
///
/// # Errors
///
/// It is no JSON.
pub fn answer(body: &[u8], key: Option<&str>) -> serde_json::Result<Read> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = Outermost { key, body }.deserialize(&mut reader)?;
    reader.end().map(|()| read)
}

/// Does an item say who it is? What is no object does not.
#[must_use]
pub fn who(item: &[u8], identity: &str, tenant: Option<&str>) -> Said {
    Who { identity, tenant }.deserialize(&mut serde_json::Deserializer::from_slice(item)).unwrap_or_default()
}

/// The object that this is the text of.
#[must_use]
pub fn object(text: &[u8]) -> Option<Document> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(document)) => Some(document),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) | Err(_) => None,
    }
}

/// The same with these fields alone: many times as fast where they are few.
#[must_use]
pub fn only(text: &[u8], fields: &[&str]) -> Option<Document> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let document = Only(fields).deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| document)
}

/// An answer whose list, if it has one, is under `key`.
struct Outermost<'a> {
    key: Option<&'a str>,
    body: &'a [u8],
}

/// What an answer is.
#[derive(Debug)]
pub enum Read {
    /// An object without its list, and where in the text the items of that stand.
    Object(Document, Option<Vec<Range<usize>>>),
    /// A list.
    Array,
    /// `null`.
    Null,
    /// Any other value.
    Value,
}

impl<'de> DeserializeSeed<'de> for Outermost<'_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Read, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Outermost<'_> {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let (mut document, mut list) = (Document::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if self.key == Some(name.as_str()) {
                // Of two of one name the last one counts.
                list = None;
                match map.next_value_seed(List { body: self.body })? {
                    Ok(items) => list = Some(items),
                    Err(other) => drop(document.insert(name, other)),
                }
            } else {
                document.insert(name, map.next_value()?);
            }
        }
        Ok(Read::Object(document, list))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Read, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Read::Array)
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Read, E> {
        Ok(Read::Value)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Read, E> {
        Ok(Read::Value)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Read, E> {
        Ok(Read::Value)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Read, E> {
        Ok(Read::Value)
    }

    fn visit_str<E>(self, _: &str) -> Result<Read, E> {
        Ok(Read::Value)
    }
}

/// Where the items of a list stand in the text, or what is there in its place.
struct List<'a> {
    body: &'a [u8],
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Result<Vec<Range<usize>>, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let whole: &RawValue = serde::Deserialize::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom("not JSON");
        if !whole.get().starts_with('[') {
            return serde_json::from_str(whole.get()).map(Err).map_err(wrong);
        }
        let items: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(wrong)?;
        let first = self.body.as_ptr().addr();
        let place = |item: &RawValue| {
            let start = item.get().as_ptr().addr() - first;
            start..start + item.get().len()
        };
        Ok(Ok(items.into_iter().map(place).collect()))
    }
}

/// Does an item say who it is?
#[derive(Clone, Copy)]
struct Who<'a> {
    identity: &'a str,
    tenant: Option<&'a str>,
}

/// What an item says of that.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    /// A text that is not empty.
    pub has_identity: bool,
    /// Something else than a text.
    pub has_odd_tenant: bool,
}

impl<'de> DeserializeSeed<'de> for Who<'_> {
    type Value = Said;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Who<'_> {
    type Value = Said;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said, A::Error> {
        let mut said = Said::default();
        let names = [self.identity, self.tenant.unwrap_or(self.identity)];
        while let Some(name) = map.next_key_seed(OneOf(&names))? {
            let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
            match name {
                Some(0) => said.has_identity = is_text(&map.next_value()?),
                Some(_) => {
                    let value: Value = map.next_value()?;
                    said.has_odd_tenant = !(value.is_string() || value.is_null());
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(said)
    }
}

/// Which of these names a key is, without a copy of it.
struct OneOf<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for OneOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for OneOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|one| *one == name))
    }
}

/// These fields of an object; the rest is passed over.
struct Only<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Only<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Only<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut document = Document::new();
        while let Some(name) = map.next_key_seed(OneOf(self.0))? {
            match name.and_then(|at| self.0.get(at)) {
                Some(name) => drop(document.insert((*name).to_owned(), map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}
