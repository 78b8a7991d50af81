//! Entities that are documents: a table of fields says what a call takes, what it resets and what an answer shows.

use super::fields::Document;
use super::fields::Fields;
use super::fields::wrong;
use super::options::Switches;
use super::refusal::Refusal;
use super::table::Row;
use super::view::Look;
use super::view::Shown;
use serde::ser::SerializeMap;
use serde_json::Value;
use serde_json::json;

/// A stored document. What identifies it stands beside the fields.
#[derive(Debug, Clone, Default)]
pub struct Entity {
    /// Of the server or of the caller.
    pub id: String,
    /// The tenant it belongs to; empty: the project.
    pub tenant: String,
    /// What it is called.
    pub name: String,
    /// The rest, secrets included.
    pub fields: Document,
}

impl Row for Entity {
    fn id(&self) -> &str {
        &self.id
    }
    fn tenant(&self) -> &str {
        &self.tenant
    }
    fn name(&self) -> &str {
        &self.name
    }
}

/// For `/_sim/state`; answers of the API are made by [`shown`].
impl Shown for Entity {
    fn write<M: SerializeMap>(&self, _: &Look<'_>, map: &mut M) -> Result<(), M::Error> {
        for (name, value) in [("id", &self.id), ("tenantId", &self.tenant), ("name", &self.name)] {
            if !value.is_empty() && !self.fields.contains_key(name) {
                map.serialize_entry(name, value)?;
            }
        }
        Ok(())
    }
    fn extra(&self) -> &Document {
        &self.fields
    }
}

impl Entity {
    /// A text of its fields; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }
}

/// One field of a document.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: &'static str,
    shape: Content,
    rule: Rule,
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    Text,
    Flag,
    Number,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// Texts whose order means nothing.
    Set,
    /// Texts in order.
    Texts,
    /// An object with any fields.
    Map,
    /// Objects in order.
    Items,
    /// Objects whose order means nothing.
    Things,
    /// Anything.
    Any,
    /// An object with these fields.
    Nested(&'static [Field]),
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Plain,
    /// Never answered; an overwrite that leaves it out keeps it.
    Secret,
    /// An overwrite that leaves it out keeps it.
    Keeps,
    /// Taken by the create call alone.
    CreateOnly,
    /// Never taken.
    Computed,
}

/// A field of that name and shape.
pub const fn field(name: &'static str, shape: Content) -> Field {
    Field { name, shape, rule: Rule::Plain }
}

impl Field {
    /// As requests and answers call it.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Never answered; an overwrite that leaves it out keeps it.
    pub const fn secret(mut self) -> Self {
        self.rule = Rule::Secret;
        self
    }

    /// An overwrite that leaves it out keeps it.
    pub const fn keeps(mut self) -> Self {
        self.rule = Rule::Keeps;
        self
    }

    /// Taken by the create call alone.
    pub const fn create_only(mut self) -> Self {
        self.rule = Rule::CreateOnly;
        self
    }

    /// Answered, never taken.
    pub const fn computed(mut self) -> Self {
        self.rule = Rule::Computed;
        self
    }

    fn take(&self, given: &mut Fields, switches: &Switches) -> Result<Option<Value>, Refusal> {
        let name = self.name;
        Ok(match self.shape {
            Content::Text => given.text(name)?.map(Value::from),
            Content::Flag => given.flag(name)?.map(Value::from),
            Content::Number => given.integer(name)?.map(Value::from),
            Content::OneOf(values) => {
                let text = given.text(name)?;
                if let Some(text) = &text
                    && !text.is_empty()
                    && !values.contains(&text.as_str())
                {
                    return Err(Refusal::Invalid(format!("{name} must be {}", values.join(", "))));
                }
                text.map(Value::from)
            }
            Content::Set | Content::Texts => given.texts(name)?.map(Value::from),
            Content::Map => given.object(name)?.map(Value::Object),
            Content::Items | Content::Things => {
                let items = given.items(name)?;
                items.map(|items| items.into_iter().map(|item| Value::Object(item.rest())).collect())
            }
            Content::Any => given.take(name),
            Content::Nested(fields) => match given.object(name)? {
                None => None,
                Some(object) => {
                    let mut stored = Document::new();
                    let mut object = Fields::new(object);
                    patch(&mut stored, fields, &mut object, switches)?;
                    object.end(switches)?;
                    Some(Value::Object(stored))
                }
            },
        })
    }

    fn zero(&self) -> Value {
        match self.shape {
            Content::Text | Content::OneOf(_) => json!(""),
            Content::Flag => json!(false),
            Content::Number => json!(0),
            Content::Set | Content::Texts | Content::Items | Content::Things => json!([]),
            Content::Map => json!({}),
            Content::Any => Value::Null,
            Content::Nested(fields) => {
                Value::Object(fields.iter().map(|one| (one.name.to_owned(), one.zero())).collect())
            }
        }
    }
}

/// Stores what a create call gives; the rest is left unset, which is answered as its zero value.
pub fn create(stored: &mut Document, table: &[Field], given: &mut Fields, switches: &Switches) -> Result<(), Refusal> {
    for field in table.iter().filter(|field| field.rule != Rule::Computed) {
        if let Some(value) = field.take(given, switches)? {
            stored.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

/// Stores what an overwriting call gives; what it leaves out is reset, unless the table says otherwise. Extra fields that
/// are stored may be sent back, and are lost when they are not.
pub fn overwrite(
    stored: &mut Document,
    table: &[Field],
    given: &mut Fields,
    switches: &Switches,
) -> Result<(), Refusal> {
    for field in table {
        match field.rule {
            Rule::Computed | Rule::CreateOnly => {}
            Rule::Plain | Rule::Secret | Rule::Keeps => match field.take(given, switches)? {
                Some(value) => drop(stored.insert(field.name.to_owned(), value)),
                None if field.rule == Rule::Plain => drop(stored.remove(field.name)),
                None => {}
            },
        }
    }
    let known = extras(stored, table);
    let kept = std::mem::take(given).extra(&known, switches)?;
    stored.retain(|name, _| !known.contains_key(name));
    stored.extend(kept);
    Ok(())
}

/// Stores what is given and nothing else.
pub fn patch(stored: &mut Document, table: &[Field], given: &mut Fields, switches: &Switches) -> Result<(), Refusal> {
    for field in table.iter().filter(|field| field.rule != Rule::Computed) {
        if let Some(value) = field.take(given, switches)? {
            stored.insert(field.name.to_owned(), value);
        }
    }
    Ok(())
}

/// Stored fields that the table does not know.
fn extras(stored: &Document, table: &[Field]) -> Document {
    let unknown = stored.iter().filter(|(name, _)| !table.iter().any(|field| field.name == *name));
    unknown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The fields as an answer has them: all of the table but secrets, and those that the table does not know.
pub fn shown(stored: &Document, table: &[Field], look: &Look<'_>) -> Document {
    let mut answer = Document::new();
    for field in table.iter().filter(|field| field.rule != Rule::Secret) {
        let value = stored.get(field.name).cloned().unwrap_or_else(|| field.zero());
        let value = match (field.shape, value) {
            (Content::Set | Content::Things, Value::Array(items)) => Value::Array(look.mixed(items)),
            (Content::Nested(fields), Value::Object(object)) => Value::Object(shown(&object, fields, look)),
            (_, value) => value,
        };
        answer.insert(field.name.to_owned(), value);
    }
    answer.extend(extras(stored, table));
    answer
}

/// Resets what a table knows.
pub fn reset(stored: &mut Document, table: &[Field]) {
    for field in table {
        stored.remove(field.name);
    }
}

/// A list of texts somewhere in a request.
pub fn texts(value: &Value, name: &str) -> Result<Vec<String>, Refusal> {
    let items = value.as_array().ok_or_else(|| wrong(name, "a list"))?;
    let text = |item: &Value| item.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a list of strings"));
    items.iter().map(text).collect()
}
