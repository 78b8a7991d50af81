//! The reference of the desired state as Markdown, from the tables.

use super::ALL;
use super::opaque::Source;
use super::spec::Back;
use super::spec::Field;
use super::spec::InTenant;
use super::spec::Need;
use super::spec::Read;
use super::spec::Shape;
use super::spec::Spec;
use super::spec::To;
use std::fmt::Write;

/// A section a kind: its fields, nested ones by their path, with what a value looks like and what is special about it.
pub fn markdown() -> String {
    let mut text = String::new();
    for kind in ALL {
        let spec = kind.spec();
        // Writing to a text cannot fail.
        let _never = writeln!(text, "## `{}`\n\n{}\n", spec.name, identity(spec));
        text.push_str("| field | value | remarks |\n| --- | --- | --- |\n");
        for part in spec.parts {
            for field in part.fields {
                rows(&mut text, spec, part.read, "", field);
            }
        }
        text.push('\n');
    }
    text
}

/// How one is told from another, and what can be done to it.
pub fn identity(spec: &Spec) -> String {
    let who = match (spec.identity.field, spec.identity.bare) {
        (Some(field), _) => {
            let tenant = spec.identity.tenant.map(|tenant| format!(" within its `{tenant}`")).unwrap_or_default();
            format!("A list, each item known by its `{field}`{tenant}.")
        }
        (None, Some(field)) => format!("One a project; the value of `{field}` stands right under the key."),
        (None, None) => "One a project.".to_owned(),
    };
    let server_id = spec
        .identity
        .server_id
        .map(|id| format!(" Descope gives it an `{id}` of its own, which only two of one name make worth writing."));
    let verbs = [
        (spec.verbs.rename, " `renamedFrom` renames one in place."),
        (!spec.verbs.delete, " It is never deleted."),
        (spec.verbs.cascade, " `cascadeDelete: true` lets its delete take users along."),
        (
            spec.shows_secret,
            " `secretFile: PATH`, below the project's `secrets.dir`, is where the secret goes that Descope shows once; without \
             it none is created.",
        ),
    ];
    let verbs: String = verbs.into_iter().filter_map(|(is_so, text)| is_so.then_some(text)).collect();
    format!("{who}{}{verbs}", server_id.unwrap_or_default())
}

fn rows(text: &mut String, spec: &Spec, read: Read, above: &str, field: &Field) {
    if !field.is_declarable() {
        return;
    }
    let path = format!("{above}{}", field.name);
    let remarks = if above.is_empty() { remarks(spec, read, field) } else { remarks_of(field) };
    let _never = writeln!(text, "| `{path}` | {} | {} |", value(field.shape), remarks.join("; "));
    let (below, nested) = match field.shape {
        Shape::Object(nested) => (format!("{path}."), nested),
        Shape::Items { fields, .. } => (format!("{path}[]."), fields),
        Shape::List(Shape::Object(nested)) => (format!("{path}[]."), *nested),
        Shape::Map(Shape::Object(nested)) => (format!("{path}.*."), *nested),
        Shape::Text
        | Shape::Name
        | Shape::Flag
        | Shape::Integer(..)
        | Shape::OneOf(_)
        | Shape::Set
        | Shape::List(_)
        | Shape::Attributes
        | Shape::Map(_)
        | Shape::Json
        | Shape::Reference(_)
        | Shape::References(_)
        | Shape::Opaque(_)
        | Shape::Secret => return,
    };
    for field in nested {
        rows(text, spec, read, &below, field);
    }
}

fn remarks(spec: &Spec, read: Read, field: &Field) -> Vec<String> {
    let mut remarks = remarks_of(field);
    if spec.identity.field == Some(field.name) {
        remarks.insert(0, "required; its identity".to_owned());
    }
    if read == Read::Each {
        remarks.push("costs a call per resource to look at".to_owned());
    }
    remarks
}

/// What is special about a field.
pub fn remarks_of(field: &Field) -> Vec<String> {
    let mut remarks = Vec::new();
    match field.need {
        Need::Required => remarks.push("required".to_owned()),
        Need::AtCreation if field.is_needed => remarks.push("required; only a create takes it".to_owned()),
        Need::AtCreation => remarks.push("only a create takes it".to_owned()),
        Need::Optional => {}
    }
    if field.is_defaulted {
        remarks.push("left empty, Descope puts a default of its own there".to_owned());
    }
    match field.back {
        Back::Maybe => remarks.push("not every answer shows it".to_owned()),
        Back::Never => remarks.push("no answer shows it".to_owned()),
        Back::AsWritten | Back::Computed => {}
    }
    remarks
}

/// What a value looks like.
pub fn value(shape: Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Name => "text, not empty".to_owned(),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Integer(least, i64::MAX) => format!("whole number from {least}"),
        Shape::Integer(least, most) => format!("whole number, {least} to {most}"),
        Shape::OneOf(words) => {
            let words: Vec<String> =
                words.iter().map(|word| format!("`{}`", if word.is_empty() { "\"\"" } else { word })).collect();
            format!("one of {}", words.join(", "))
        }
        Shape::Set => "list of texts, in any order".to_owned(),
        Shape::List(Shape::Object(_)) => "list of mappings, in order".to_owned(),
        Shape::List(shape) => format!("list, in order, of: {}", value(*shape)),
        Shape::Attributes => "mapping of names to a text, number, flag or list of texts; key by key".to_owned(),
        Shape::Map(_) => "mapping of names; key by key".to_owned(),
        Shape::Object(_) => "mapping; field by field".to_owned(),
        Shape::Items { key, .. } => format!("list of mappings, in any order, told apart by `{}`", key.join("` and `")),
        Shape::Json => "any value; compared as a whole".to_owned(),
        Shape::Reference(to) => format!("name of one of `{}`{}", to.kind, reach(to)),
        Shape::References(to) => format!("names of `{}`{}, in any order", to.kind, reach(to)),
        Shape::Opaque(opaque) => {
            let what = match opaque.source {
                Source::Inline => "mapping",
                Source::Json => "path of a JSON file, relative to this one",
                Source::Text => "path of a text file, relative to this one",
            };
            format!("{what}; compared as a whole with what Descope made of it")
        }
        Shape::Secret => "secret: `{ env: NAME }` or `{ file: PATH }`".to_owned(),
    }
}

fn reach(to: To) -> String {
    match to.tenant {
        InTenant::No => String::new(),
        InTenant::Own => " of the project or its own tenant".to_owned(),
        InTenant::Beside(field) => format!(" of the project or of that `{field}`"),
    }
}
