//! `fgaSchema`: which types and relations the fine-grained authorization of the project knows. One text.

use super::Document;
use super::Fields;
use super::Packed;
use super::kind::Kind;
use super::kind::Preview;
use super::kind::packed;
use super::kind::single;
use super::kind::unsendable;
use super::opaque::Opaque;
use super::opaque::Source;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::spec::Verbs;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

/// An empty one stands for none.
const DSL: Opaque = Opaque {
    source: Source::Text,
    check: |text| {
        let text = text.as_str().unwrap_or_default().trim_start();
        let is_wrong = !text.is_empty() && !text.starts_with("model AuthZ 1.0");
        is_wrong.then(|| "must begin with `model AuthZ 1.0`, or be empty to have no schema".to_owned())
    },
    ..Opaque::JSON
};

static SPEC: Spec = Spec {
    name: "fgaSchema",
    identity: Identity::one(),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[Field::opaque_of("file", &DSL).required()],
    }],
    verbs: Verbs { delete: false, ..Verbs::ALL },
    has_preview: true,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct FgaSchema;

#[async_trait]
impl Kind for FgaSchema {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::object(route!(GET "/v1/mgmt/fga/schema"))
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let dsl = client.read(&self.listing()).await?.remove("dsl").unwrap_or(Value::Null);
        Ok(packed([Document::from_iter([("file".to_owned(), dsl)])]))
    }

    /// Types and relations that the project has and this text has not: what they hold goes with them.
    async fn preview(&self, client: &Client, live: &Document, declared: &dyn Fields) -> Result<Preview, Error> {
        let dsl = text(declared);
        if dsl.trim().is_empty() {
            // There is no dry run of a delete: everything goes.
            return Ok(Preview { losses: defined(text(live)), refusal: None });
        }
        let call = Call::object(route!(POST "/v1/mgmt/fga/schema/dryrun")).asking(json!({ "dsl": dsl }));
        let answer = match client.read(&call).await {
            Ok(answer) => answer,
            Err(error @ Error::Rejected { .. }) => {
                return Ok(Preview { losses: Vec::new(), refusal: Some(error.to_string()) });
            }
            Err(error) => return Err(error),
        };
        let preview = answer.get("deletesPreview").unwrap_or(&Value::Null);
        let mut losses = Vec::new();
        for (sort, list) in [("type", "types"), ("relation", "relations")] {
            let names = preview.get(list).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            losses.extend(names.iter().map(|name| format!("{sort} {}", name.as_str().unwrap_or("of some name"))));
        }
        // It says that something goes, and not what.
        if losses.is_empty() && preview.get("hasDeletes") == Some(&Value::Bool(true)) {
            losses.push("something that the dry run does not name".to_owned());
        }
        Ok(Preview { losses, refusal: None })
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let Write::Overwrite { body, .. } = item.write else { return Err(unsendable(item)) };
        let dsl = text(body);
        let call = if dsl.trim().is_empty() {
            Call::clear(deletion!(POST "/v1/mgmt/authz/schema/delete"))?
        } else {
            let body = Document::from_iter([("dsl".to_owned(), Value::from(dsl))]);
            Call::update(route!(POST "/v1/mgmt/fga/schema"), body)
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

fn text(document: &dyn Fields) -> &str {
    document.get("file").and_then(Value::as_str).unwrap_or_default()
}

/// What a text defines, as far as its lines tell.
fn defined(dsl: &str) -> Vec<String> {
    let (mut found, mut of) = (Vec::new(), "");
    for line in dsl.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("type ") {
            of = name.trim();
            found.push(format!("type {of}"));
        } else if let Some(rest) = line.strip_prefix("relation ").or_else(|| line.strip_prefix("permission ")) {
            found.push(format!("relation {of}#{}", rest.split(':').next().unwrap_or_default().trim()));
        }
    }
    if found.is_empty() && !dsl.trim().is_empty() {
        found.push("the whole schema".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;

    #[tokio::test(start_paused = true)]
    async fn what_a_change_takes_along_is_named_or_said_to_have_no_name() {
        let nameless = "something that the dry run does not name";
        let cases: [(Value, &[&str]); 4] = [
            (json!({}), &[]),
            (json!({ "hasDeletes": false }), &[]),
            (json!({ "hasDeletes": true }), &[nameless]),
            (
                json!({ "hasDeletes": true, "types": ["doc"], "relations": ["doc#owner"] }),
                &["type doc", "relation doc#owner"],
            ),
        ];
        for (deletes, losses) in cases {
            let script = Script::of([ok(&json!({ "deletesPreview": deletes }))]);
            let (live, declared) = (document(json!({ "file": "a" })), document(json!({ "file": "model AuthZ 1.0" })));

            let preview = FgaSchema.preview(&script.client(), &live, &declared).await.unwrap();

            assert_eq!(preview.losses, losses, "{deletes}");
            assert_eq!(preview.refusal, None);
        }
    }
    #[test]
    fn what_a_schema_defines_goes_by_its_lines() {
        let dsl = "model AuthZ 1.0\n\ntype user\ntype doc\n  relation owner: user\n  permission can_view: owner\n";

        assert_eq!(defined(dsl), ["type user", "type doc", "relation doc#owner", "relation doc#can_view"]);
        assert_eq!(defined("model AuthZ 1.0\n"), ["the whole schema"]);
        assert_eq!(defined(" \n"), Vec::<String>::new());
    }
}
