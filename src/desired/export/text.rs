//! YAML as this export writes it: block style, with quotes wherever some reader could take a text for something else.
//!
//! By hand, since the writers there are leave `<<` and the line breaks of Unicode without quotes.

#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else there is stands on one line")]

use serde_json::Number;
use serde_json::Value;

/// A value whose mappings keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// Any number.
    Number(Number),
    /// Any text.
    Text(String),
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping.
    Map(Vec<(String, Yaml)>),
    /// A reference to a variable.
    Secret(String),
}

impl Yaml {
    /// The same, in the order that JSON gives it here.
    pub fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Flag(*flag),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Value::Object(entries) => {
                Self::Map(entries.iter().map(|(name, value)| (name.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// As the check of the files reads it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Flag(flag) => Value::Bool(*flag),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => entries.iter().map(|(name, value)| (name.clone(), value.to_json())).collect(),
            Self::Secret(name) => serde_json::json!({ "env": name }),
        }
    }
}

/// The text of a document.
pub fn document(value: &Yaml) -> String {
    let mut out = String::new();
    match value {
        Yaml::Map(entries) if !entries.is_empty() => map(entries, 0, &mut out),
        Yaml::List(items) if !items.is_empty() => list(items, 0, &mut out),
        value => out.extend([inline(value), "\n".to_owned()]),
    }
    out
}

fn map(entries: &[(String, Yaml)], depth: usize, out: &mut String) {
    for (n, (name, value)) in entries.iter().enumerate() {
        // The first key of an item stands behind its dash.
        if n > 0 || !out.ends_with("- ") {
            out.push_str(&"  ".repeat(depth));
        }
        out.push_str(&scalar(name));
        out.push(':');
        behind(value, depth, out);
    }
}

/// What stands behind a key.
fn behind(value: &Yaml, depth: usize, out: &mut String) {
    match value {
        Yaml::Map(entries) if !entries.is_empty() => {
            out.push('\n');
            map(entries, depth + 1, out);
        }
        Yaml::List(items)
            if items.iter().any(|item| matches!(item, Yaml::Map(_) | Yaml::List(_))) || is_long(items) =>
        {
            out.push('\n');
            list(items, depth + 1, out);
        }
        Yaml::Text(text) if is_block(text) => block(text, depth + 1, out),
        value => {
            out.push(' ');
            out.push_str(&inline(value));
            out.push('\n');
        }
    }
}

fn list(items: &[Yaml], depth: usize, out: &mut String) {
    for item in items {
        out.push_str(&"  ".repeat(depth));
        out.push_str("- ");
        match item {
            Yaml::Map(entries) if !entries.is_empty() => map(entries, depth + 1, out),
            item => {
                out.push_str(&inline(item));
                out.push('\n');
            }
        }
    }
}

// About the width of a line.
fn is_long(items: &[Yaml]) -> bool {
    items.iter().map(|item| inline(item).chars().count() + 2).sum::<usize>() > 90
}

/// On one line.
pub fn inline(value: &Yaml) -> String {
    match value {
        Yaml::Null => "null".to_owned(),
        Yaml::Flag(flag) => flag.to_string(),
        Yaml::Number(number) => number.to_string(),
        Yaml::Text(text) => scalar(text),
        Yaml::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Yaml::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Yaml::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(name, value)| format!("{}: {}", scalar(name), inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Yaml::Secret(name) => format!("{{ env: {name} }}"),
    }
}

/// A text on one line, without quotes only where every reader takes it for that text.
pub fn scalar(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { quoted(text) }
}

fn is_plain(text: &str) -> bool {
    // What some version of YAML takes for something else.
    const WORDS: [&str; 12] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '+' | '(' | ')');
    let is_inside = |(at, c): (usize, char)| {
        let next = text[at + c.len_utf8()..].chars().next();
        match c {
            ' ' => next.is_some_and(is_word),
            // Behind it, a key would end; `https://` does not.
            ':' => next == Some('/'),
            c => is_word(c),
        }
    };
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.len() <= 200
        && text.char_indices().all(is_inside)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

/// In double quotes, as JSON has them, with whatever is not to be seen written out.
pub fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || crate::telemetry::line::is_unsafe(c) {
            let code = u32::from(c);
            quoted.extend([if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") }]);
        } else {
            quoted.push(c);
        }
    }
    quoted
}

/// Is it a text of several lines that can stand as it is?
fn is_block(text: &str) -> bool {
    let is_shown = |c: char| c == '\n' || !c.is_control() && !crate::telemetry::line::is_unsafe(c);
    let lines = || text.lines();
    text.trim_end_matches('\n').contains('\n')
        && text.chars().all(is_shown)
        && !text.starts_with([' ', '\n'])
        && lines().all(|line| !line.ends_with(' '))
}

/// As it is, behind a key, with its lines so far from the edge and no end to the last; `None` where it cannot stand so.
pub fn block_at(text: &str, indent: usize) -> Option<String> {
    let mut out = String::new();
    let is_short = text.trim_end_matches('\n').len() + 1 >= text.len();
    (is_block(text) && is_short).then(|| {
        lines(text, indent, &mut out);
        out.trim().to_owned()
    })
}

fn block(text: &str, depth: usize, out: &mut String) {
    lines(text, 2 * depth, out);
}

fn lines(text: &str, indent: usize, out: &mut String) {
    let body = text.trim_end_matches('\n');
    let ends = text.len() - body.len();
    out.push_str(match ends {
        0 => " |-\n",
        1 => " |\n",
        _ => " |+\n",
    });
    for line in body.split('\n') {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
    (1..ends).for_each(|_| out.push('\n'));
}

/// An id as the name of a file, the same on every file system.
pub fn file_name(id: &str) -> String {
    // With the ending and a number it stays below 255 bytes.
    const LONGEST: usize = 180;
    let mut name = String::new();
    for (at, c) in id.char_indices() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || c == '.' && at > 0 {
            name.push(c);
        } else {
            name.extend(c.to_string().bytes().map(|byte| format!("%{byte:02X}")));
        }
    }
    name.truncate(LONGEST);
    name
}

/// `ssoApplications_my-app_clientSecret` as the name of a variable.
pub fn variable(path: &str) -> String {
    let mut name = String::new();
    let mut before = '_';
    for c in path.chars() {
        if c.is_ascii_alphanumeric() {
            if c.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        } else if !name.ends_with('_') {
            name.push('_');
        }
        before = c;
    }
    name.trim_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::yaml;
    use proptest::prelude::*;

    /// The text of our own parser's value.
    fn read(text: &str) -> Value {
        fn json(value: yaml::Value) -> Value {
            match value {
                yaml::Value::Null | yaml::Value::Faulty => Value::Null,
                yaml::Value::Flag(flag) => flag.into(),
                yaml::Value::Number(number) => Value::Number(number),
                yaml::Value::Text(text) => text.into(),
                yaml::Value::List(items) => items.into_iter().map(|item| json(item.value)).collect(),
                yaml::Value::Map(entries) => {
                    Value::Object(entries.into_iter().map(|entry| (entry.key, json(entry.node.value))).collect())
                }
            }
        }
        let (mut documents, faults) = yaml::parse(text);
        assert_eq!(faults.kept, [], "{text}");
        json(documents.remove(0).value)
    }

    #[test]
    fn it_reads_as_if_somebody_had_written_it() {
        let value = serde_json::json!({ "roles": [
            { "a": "Editor in chief", "b": ["x", "z"], "c": "no", "d": "one\n\ntwo\n", "e": [], "f": { "g": 1, "h": "https://x/y" } },
            { "a": "- x", "b": [{ "c": true }] },
        ] });

        assert_eq!(
            document(&Yaml::from_json(&value)),
            "roles:
  - a: Editor in chief
    b: [x, z]
    c: \"no\"
    d: |
      one

      two
    e: []
    f:
      g: 1
      h: https://x/y
  - a: \"- x\"
    b:
      - c: true
"
        );
    }

    #[test]
    fn a_list_that_is_too_long_for_a_line_gets_one_for_each_item() {
        let list = |items: usize| document(&Yaml::from_json(&serde_json::json!({ "a": vec!["12345678"; items] })));

        assert_eq!(list(2), "a: [\"12345678\", \"12345678\"]\n");
        assert_eq!(list(7).lines().count(), 1);
        assert_eq!(list(8), format!("a:\n{}", "  - \"12345678\"\n".repeat(8)));
    }

    #[test]
    fn names_of_files_and_variables_hold_nothing_odd() {
        assert_eq!(file_name(".a/b C.é"), "%2Ea%2Fb%20C.%C3%A9");
        assert_eq!(
            variable("ssoApplications_my-app 2_sso[x].clientSecret"),
            "SSO_APPLICATIONS_MY_APP_2_SSO_X_CLIENT_SECRET"
        );
    }

    fn value() -> impl Strategy<Value = Value> {
        const ODD: &[&str] = &[
            "no",
            "null",
            "~",
            "12",
            "1e3",
            "0x1f",
            ".inf",
            "true",
            "<<",
            "- a",
            "a: b",
            "# x",
            "*x",
            "'",
            "\"",
            " ",
            "",
            "a:",
            "a #b",
            "one\ntwo",
            "one\ntwo\n",
            "one\n\n",
            " one\ntwo",
            "a\n  b\n\n\n",
            "1_000",
            "2024-01-01",
            "=",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "a\tb",
            "x\u{7f}",
            "\r\n",
            "https://a.example/b?c=d",
            "{{user.name}}",
            "...",
            "---",
        ];
        let text =
            || prop_oneof![prop::sample::select(ODD).prop_map(str::to_owned), "[^\\x00]{0,12}", "[a-z \\n#:-]{0,20}"];
        let leaf = prop_oneof![
            text().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back_as_it_was(value in value()) {
            let text = document(&Yaml::from_json(&value));

            prop_assert_eq!(read(&text), value, "{}", text);
        }
    }
}
