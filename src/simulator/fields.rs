//! Reads the fields of a request the way the JSON gateway does: null and absent are one, what is left over is unknown.

use super::options::Switches;
use super::options::UnknownFields;
use super::refusal::Refusal;
use serde_json::Map;
use serde_json::Value;

/// A JSON object.
pub type Document = Map<String, Value>;

/// A JSON object whose fields are taken one by one. Each answers `None` for null and absent, so a caller that
/// overwrites folds that into the zero value and a caller that patches does not.
#[derive(Debug, Clone, Default)]
pub struct Fields(Document);

impl Fields {
    /// The fields of an object.
    pub fn new(document: Document) -> Self {
        Self(document)
    }

    /// Any value.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// A string that must be there and not be empty.
    pub fn required(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| Refusal::required(name))
    }

    /// A boolean.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(wrong(name, "a boolean")),
        }
    }

    /// A whole number, which protobuf's JSON also takes as a string.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        let value = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        value.map(Some).ok_or_else(|| wrong(name, "a whole number"))
    }

    /// A list of strings.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let Value::Array(items) = value else { return Err(wrong(name, "a list")) };
        let text = |item| {
            let Value::String(text) = item else { return Err(wrong(name, "a list of strings")) };
            Ok(text)
        };
        items.into_iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of objects.
    pub fn items(&mut self, name: &str) -> Result<Option<Vec<Self>>, Refusal> {
        let items = match self.take(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong(name, "a list")),
        };
        let object = |item| {
            let Value::Object(item) = item else { return Err(wrong(name, "a list of objects")) };
            Ok(Self(item))
        };
        items.into_iter().map(object).collect::<Result<_, _>>().map(Some)
    }

    /// An object.
    pub fn object(&mut self, name: &str) -> Result<Option<Document>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(wrong(name, "an object")),
        }
    }

    /// Everything that was not taken.
    pub fn rest(self) -> Document {
        self.0
    }

    /// What is left, where only the names in `known` may be: those are what a stored object has beyond the contract.
    pub fn extra(self, known: &Document, switches: &Switches) -> Result<Document, Refusal> {
        let mut extra = Document::new();
        for (name, value) in self.0 {
            if known.contains_key(&name) {
                extra.insert(name, value);
            } else if switches.unknown_fields == UnknownFields::Reject {
                return Err(Refusal::Invalid(format!("unknown field \"{name}\"")));
            }
        }
        Ok(extra)
    }

    /// Nothing may be left.
    pub fn end(self, switches: &Switches) -> Result<(), Refusal> {
        self.extra(&Document::new(), switches).map(drop)
    }
}

impl From<Document> for Fields {
    fn from(document: Document) -> Self {
        Self(document)
    }
}

/// A value of another type than the call takes.
pub fn wrong(name: &str, expected: &str) -> Refusal {
    Refusal::Malformed(format!("{name} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields::new(value.as_object().unwrap().clone())
    }

    #[test]
    fn null_and_absent_are_one() {
        let mut fields = fields(&json!({ "text": null, "flag": null, "texts": null, "object": null, "number": null }));

        assert_eq!(fields.text("text").unwrap(), fields.text("absent").unwrap());
        assert_eq!(fields.flag("flag").unwrap(), None);
        assert_eq!(fields.texts("texts").unwrap(), None);
        assert_eq!(fields.object("object").unwrap(), None);
        assert_eq!(fields.integer("number").unwrap(), None);
    }

    #[test]
    fn a_value_of_another_type_is_malformed_and_not_quoted() {
        let mut fields = fields(&json!({ "text": 7, "flag": "true", "texts": ["a", 1], "number": 1.5, "items": [1] }));

        assert_eq!(fields.text("text"), Err(Refusal::Malformed("text must be a string".into())));
        assert_eq!(fields.flag("flag"), Err(Refusal::Malformed("flag must be a boolean".into())));
        assert_eq!(fields.texts("texts"), Err(Refusal::Malformed("texts must be a list of strings".into())));
        assert_eq!(fields.integer("number"), Err(Refusal::Malformed("number must be a whole number".into())));
        assert!(fields.items("items").is_err());
    }

    #[test]
    fn what_is_left_is_refused_unless_stored_or_ignored() {
        let left = fields(&json!({ "region": "eu" }));
        let known = json!({ "region": "us" }).as_object().unwrap().clone();
        let ignoring = Switches { unknown_fields: UnknownFields::Ignore, ..Switches::default() };

        assert!(left.clone().end(&Switches::default()).is_err());
        assert_eq!(left.clone().extra(&known, &Switches::default()).unwrap()["region"], "eu");
        assert!(left.end(&ignoring).is_ok());
    }
}
