//! Documents that Descope may rewrite: flows, themes, schemas. What is said of them as data, and one form of each.
//!
//! Nobody but Descope knows what is inside. So one is compared as a whole, with what Descope made of it after our last
//! write; wherever one is shown, its digest and size stand in its place.

use super::fold::is_zero;
use super::fold::whole;
use super::once::Once;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use sha2::Digest;
use sha2::Sha256;
use std::fmt::Write;

/// A document of one field.
#[derive(Debug)]
pub struct Opaque {
    /// Where the files have it.
    pub source: Source,
    /// Values of the server's own, by path: no difference.
    pub computed: &'static [&'static str],
    /// The entries of this object are written one by one: what the declared document leaves out of it, and beside it, stays.
    pub entries: Option<&'static str>,
    /// Where it names other resources: path and kind. Texts, or objects with a `name`.
    pub names: &'static [(&'static str, &'static str)],
    /// What is wrong with a declared one, and what to do.
    pub check: fn(&Value) -> Option<String>,
}

/// Where a document stands in the files of the repo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In the YAML itself.
    Inline,
    /// In a file of JSON, which the YAML names.
    Json,
    /// In a file of text, which the YAML names. Blanks and empty lines mean nothing in it.
    Text,
}

impl Opaque {
    /// One in a file of JSON that is an object.
    pub const JSON: Self = Self { source: Source::Json, computed: &[], entries: None, names: &[], check: |_| None };

    /// What a file holds.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        if text.starts_with("version https://git-lfs.github.com/") {
            return Err(
                "is a pointer of git LFS and not the file itself; run `git lfs pull` in the checkout".to_owned()
            );
        }
        let document = match self.source {
            Source::Text => Value::from(text),
            Source::Json | Source::Inline => {
                let Once(document) = serde_json::from_str(text).map_err(|error| {
                    if error.is_data() { error.to_string() } else { format!("is no JSON: {error}") }
                })?;
                if !document.is_object() {
                    return Err("must hold a JSON object, the document itself".to_owned());
                }
                document
            }
        };
        (self.check)(&document).map_or(Ok(document), Err)
    }

    /// The one form of a document: without what the server sets and what means nothing.
    pub fn canonical(&self, document: &Value) -> Value {
        let mut one = plain(document);
        for path in self.computed {
            remove(&mut one, path);
        }
        if let (Source::Text, Value::String(text)) = (self.source, &one) {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let lines: Vec<String> = text.lines().map(words).filter(|line| !line.is_empty()).collect();
            one = lines.join("\n").into();
        }
        one
    }

    /// As much of a document as is compared with this declared one.
    pub fn against(&self, declared: &Value, document: &Value) -> Value {
        let mut one = self.canonical(document);
        if let (Some(entries), Value::Object(object), Value::Object(wanted)) = (self.entries, &mut one, declared) {
            object.retain(|name, _| wanted.contains_key(name));
            if let (Some(Value::Object(object)), Some(Value::Object(wanted))) =
                (object.get_mut(entries), wanted.get(entries))
            {
                object.retain(|name, _| wanted.contains_key(name));
            }
        }
        one
    }

    /// What is sent, so that nothing is lost that the declared one leaves out.
    pub fn onto(&self, live: Option<&Value>, declared: &Value) -> Value {
        let (Some(entries), Some(live @ Value::Object(_)), Value::Object(wanted)) = (self.entries, live, declared)
        else {
            return declared.clone();
        };
        let Value::Object(mut object) = self.canonical(live) else { return declared.clone() };
        for (name, value) in wanted {
            match (object.get_mut(name), value) {
                (Some(Value::Object(present)), Value::Object(wanted)) if name == entries => {
                    present.extend(wanted.iter().map(|(name, value)| (name.clone(), value.clone())));
                }
                _ => drop(object.insert(name.clone(), value.clone())),
            }
        }
        Value::Object(object)
    }

    /// What it names: kind and name.
    pub fn named<'a>(&self, document: &'a Value) -> Vec<(&'static str, &'a str)> {
        let mut found = Vec::new();
        for (path, kind) in self.names {
            let place = path.split('.').try_fold(document, |at, name| at.get(name));
            let name = |item: &'a Value| item.as_str().or_else(|| item.get("name")?.as_str());
            let names: Vec<&str> = match place {
                Some(Value::Array(items)) => items.iter().filter_map(name).collect(),
                // One that does not say its name in the entry has it as the key.
                Some(Value::Object(entries)) => {
                    entries.iter().map(|(key, entry)| name(entry).unwrap_or(key.as_str())).collect()
                }
                _ => Vec::new(),
            };
            found.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| (*kind, name)));
        }
        found
    }
}

/// What stands in place of a document wherever one is shown or remembered.
pub fn in_short(document: &Value) -> Value {
    if is_zero(document) {
        return Value::Null;
    }
    let text = document.as_str().map_or_else(|| document.to_string(), str::to_owned);
    let mut digest = String::with_capacity(16);
    for byte in Sha256::digest(&text).iter().take(8) {
        // Writing to a String cannot fail.
        _ = write!(digest, "{byte:02x}");
    }
    json!({ "digest": digest, "size": text.len() })
}

/// Does Descope hold what was sent, though it set more, or wrote it in another way? It tells a write without effect from one
/// that changed nothing but the form.
pub fn holds(live: &Value, sent: &Value) -> bool {
    match (live, sent) {
        (Value::Object(live), Value::Object(sent)) => sent
            .iter()
            .filter(|(_, value)| !is_zero(value))
            .all(|(name, sent)| live.get(name).is_some_and(|live| holds(live, sent))),
        (Value::Array(live), Value::Array(sent)) => {
            live.len() == sent.len() && live.iter().zip(sent).all(|(live, sent)| holds(live, sent))
        }
        (Value::String(live), Value::String(sent)) => live.split_whitespace().eq(sent.split_whitespace()),
        (live, sent) => live == sent || is_zero(live) && is_zero(sent),
    }
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(number)),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(entries) => {
            let present = entries.iter().filter(|(_, value)| !value.is_null());
            Value::Object(present.map(|(name, value)| (name.clone(), plain(value))).collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

fn remove(document: &mut Value, path: &str) {
    let (above, last) = path.rsplit_once('.').map_or((None, path), |(above, last)| (Some(above), last));
    let names = above.into_iter().flat_map(|above| above.split('.'));
    let place = names.into_iter().try_fold(document, |at, name| at.get_mut(name));
    if let Some(Value::Object(object)) = place {
        object.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: Opaque = Opaque {
        computed: &["version", "metadata.componentsVersion"],
        names: &[("references.roles", "roles")],
        ..Opaque::JSON
    };
    const THEME: Opaque = Opaque { computed: &["version"], entries: Some("styles"), ..Opaque::JSON };
    const TEXT: Opaque = Opaque { source: Source::Text, ..Opaque::JSON };

    #[test]
    fn what_the_server_sets_is_no_part_of_it_and_everything_else_is() {
        let one = json!({ "version": 1, "metadata": { "componentsVersion": "2", "name": "a" }, "n": 1.0, "x": null });

        assert_eq!(FLOW.canonical(&one), json!({ "metadata": { "name": "a" }, "n": 1 }));
        assert_ne!(FLOW.canonical(&json!({ "a": false })), FLOW.canonical(&json!({})));
    }

    #[test]
    fn blanks_and_empty_lines_of_a_text_mean_nothing() {
        assert_eq!(TEXT.canonical(&json!("a\n\n  b  c \n")), TEXT.canonical(&json!("a\nb c")));
        assert_ne!(TEXT.canonical(&json!("a b")), TEXT.canonical(&json!("ab")));
    }

    #[test]
    fn entries_that_the_declared_one_leaves_out_are_neither_compared_nor_lost() {
        let live =
            json!({ "version": 7, "styles": { "light": { "a": 1 }, "dark": { "b": 1 } }, "references": { "r": 1 } });
        let declared = json!({ "styles": { "light": { "c": 2 } } });

        assert_eq!(THEME.against(&declared, &live), json!({ "styles": { "light": { "a": 1 } } }));
        assert_eq!(
            THEME.onto(Some(&live), &declared),
            json!({ "styles": { "light": { "c": 2 }, "dark": { "b": 1 } }, "references": { "r": 1 } })
        );
        assert_eq!(THEME.onto(None, &declared), declared);
        assert_eq!(FLOW.onto(Some(&live), &declared), declared, "another one is written as a whole");
    }

    #[test]
    fn names_are_found_in_either_form() {
        for roles in [
            json!(["a", "b"]),
            json!([{ "name": "a" }, { "name": "b" }]),
            json!({ "1": "a", "2": "b" }),
            json!({ "a": {}, "b": 7 }),
        ] {
            assert_eq!(FLOW.named(&json!({ "references": { "roles": roles } })), [("roles", "a"), ("roles", "b")]);
        }
        assert!(FLOW.named(&json!({ "references": [] })).is_empty());
    }

    #[test]
    fn a_rewritten_document_holds_what_was_sent_and_an_old_one_does_not() {
        let sent = json!({ "name": " a ", "screens": [{ "id": "0", "text": "" }] });

        assert!(holds(&json!({ "name": "a", "screens": [{ "id": "0", "by": "x" }], "more": 1 }), &sent));
        for other in [json!({ "name": "b" }), json!({ "name": "a", "screens": [] }), json!({})] {
            assert!(!holds(&other, &sent), "{other}");
        }
        for (live, sent) in [(json!([1]), json!([2])), (json!([1, 2]), json!([1])), (json!([1]), json!([1, 2]))] {
            assert!(!holds(&live, &sent), "{live} {sent}");
        }
    }

    #[test]
    fn in_short_it_tells_nothing_but_whether_it_is_another() {
        assert_eq!(in_short(&json!("abc"))["size"], 3);
        assert_ne!(in_short(&json!({ "a": 1 })), in_short(&json!({ "a": 2 })));
        assert_eq!(in_short(&json!("")), Value::Null);
    }

    #[test]
    fn a_file_is_read_as_what_it_is() {
        assert_eq!(FLOW.parse("{\"a\":1}"), Ok(json!({ "a": 1 })));
        assert_eq!(FLOW.parse("[]"), Err("must hold a JSON object, the document itself".to_owned()));
        assert!(FLOW.parse("{").unwrap_err().starts_with("is no JSON: "));
        assert!(FLOW.parse("version https://git-lfs.github.com/spec/v1\n").unwrap_err().contains("git lfs pull"));
        assert_eq!(TEXT.parse("type user"), Ok(json!("type user")));
    }

    /// One of the two was in force, and the other silently not.
    #[test]
    fn a_key_that_stands_twice_is_an_error_and_everything_else_is_read_as_it_is() {
        let twice = "{\"a\":[{\"b\":1,\n\"c\":2,\"\\u0062\":1}]}";
        assert_eq!(FLOW.parse(twice), Err("the key \"b\" stands twice in one object at line 2 column 14".to_owned()));
        let all = r#"{"a":[null,true,-1,18446744073709551615,0.1,1e300,"\u00e4\n",{"b":{}},{"b":[]}],"":""}"#;
        assert_eq!(FLOW.parse(all), Ok(serde_json::from_str(all).unwrap()));
    }
}
