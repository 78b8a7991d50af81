//! What the API answers to whatever is written, and to the dry runs before: pieces between NULs, as in [`answers`](super::answers).

use crate::descope::Client;
use crate::hostile::answers;
use crate::hostile::wait_for;
use crate::resource;
use crate::resource::Document;
use crate::resource::Field;
use crate::resource::Key;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Shape;
use crate::resource::opaque::Source;
use crate::resource::write::Item;
use crate::resource::write::Write;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

pub fn attempt(bytes: &[u8]) {
    wait_for(async {
        let client = answers::client(bytes);
        for kind in resource::ALL.iter().copied() {
            let live: Document = kind.spec().fields().map(|(_, field)| sample(field)).collect();
            if let Ok(preview) = kind.preview(&client, &live, &live).await {
                assert!(preview.refusal.is_none_or(|refusal| !refusal.is_empty()));
            }
            for part in kind.spec().parts {
                write(kind, part, &client).await;
            }
        }
    });
}

/// Every call that a part has, of one resource and of as many as go into one.
async fn write(kind: &dyn Kind, part: &'static Part, client: &Client) {
    let body: Document = part.fields.iter().map(sample).collect();
    let key = if kind.spec().is_only() { Key::only(kind.name()) } else { Key::new(kind.name(), "a") };
    for write in [
        Write::Create(body.clone()),
        Write::Overwrite { from: "a".into(), body: body.clone() },
        Write::Overwrite { from: "b".into(), body: body.clone() },
        Write::Patch(body.clone()),
        Write::Delete { cascade: false },
    ] {
        let one = Item { live: Some(&body), ..Item::new(&key, Some("A1"), &write) };
        for count in [1, kind.spec().verbs.batch.min(3)] {
            let Some(items) = NonEmpty::from_vec(vec![one; count]) else { continue };
            match kind.send(client, part, &items).await {
                Ok(found) => assert!(found.len() <= count, "{} answers to {count} of {key}", found.len()),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

fn sample(field: &Field) -> (String, Value) {
    (field.name.to_owned(), value(field.shape))
}

fn value(shape: Shape) -> Value {
    match shape {
        Shape::Text | Shape::Name | Shape::Reference(_) | Shape::Secret => "a".into(),
        Shape::Flag => true.into(),
        Shape::Integer(least, _) => least.max(1).into(),
        Shape::OneOf(words) => words.first().copied().into(),
        Shape::Set | Shape::References(_) => json!(["a"]),
        Shape::List(shape) => json!([value(*shape)]),
        Shape::Map(shape) => json!({ "a": value(*shape) }),
        Shape::Object(fields) => fields.iter().map(sample).collect(),
        Shape::Items { fields, .. } => json!([fields.iter().map(sample).collect::<Document>()]),
        Shape::Attributes | Shape::Json => json!({ "a": 1 }),
        Shape::Opaque(opaque) if opaque.source == Source::Text => "model AuthZ 1.0".into(),
        Shape::Opaque(_) => json!({ "a": { "b": 1 } }),
    }
}
