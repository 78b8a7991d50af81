//! `project`: its name and tags. Only a key of the company shows them; to others they are what was sent last.

use super::Document;
use super::Packed;
use super::kind::Kind;
use super::kind::packed;
use super::kind::single;
use super::kind::unsendable;
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
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;

/// The part that writes the tags, and its field.
const TAGS: &str = "tags";

static SPEC: Spec = Spec {
    name: "project",
    identity: Identity::one(),
    parts: &[
        Part { name: MAIN, read: Read::List, how: How::Overwrite, fields: &[Field::name("name").maybe_returned()] },
        Part { name: TAGS, read: Read::List, how: How::Overwrite, fields: &[Field::set(TAGS).maybe_returned()] },
    ],
    verbs: Verbs { delete: false, ..Verbs::ALL },
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Project;

#[async_trait]
impl Kind for Project {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(POST "/v1/mgmt/projects/list"), "projects", "id").asking(Value::Object(Document::new()))
    }

    /// A key of the project is refused, or sees others: then nothing is known.
    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let projects = match client.documents(&self.listing()).await {
            Ok(projects) => projects,
            Err(Error::Forbidden { .. } | Error::Rejected { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let (_, own) = client.target();
        let own = projects.into_iter().find(|project| project.get("id").and_then(Value::as_str) == Some(own));
        let shown = own.into_iter().flatten().filter(|(name, _)| SPEC.field(name).is_some());
        Ok(packed([shown.collect()]))
    }

    async fn send(
        &self,
        client: &Client,
        part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let Write::Overwrite { body, .. } = item.write else { return Err(unsendable(item)) };
        let own = body.iter().filter(|(name, _)| part.fields.iter().any(|field| field.name == **name));
        let body: Document = own.map(|(name, value)| (name.clone(), value.clone())).collect();
        let call = match part.name {
            MAIN => Call::update(route!(POST "/v1/mgmt/project/update/name"), body),
            _ => Call::update(route!(POST "/v1/mgmt/project/update/tags"), body),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::Script;
    use crate::descope::script::document;
    use crate::descope::script::ok;
    use crate::descope::script::status;
    use crate::resource::Key;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn what_the_key_does_not_show_is_not_known() {
        let script = Script::of([]);
        let own = script.client().target().1.to_owned();
        let project =
            |id: &str| json!({ "id": id, "name": "Prod", "environment": "production", "tags": ["b"], "tag": "" });
        for (answer, expected) in [
            (ok(&json!({ "projects": [project("P2other"), project(&own)] })), json!({ "name": "Prod", "tags": ["b"] })),
            (ok(&json!({ "projects": [project("P2other")] })), json!({})),
            (status(403, "{}"), json!({})),
            (status(400, "{}"), json!({})),
        ] {
            let found = Project.list(&Script::of([answer]).client()).await.unwrap();

            assert_eq!(found.all(), [document(expected)]);
        }
        let broken = Project.list(&Script::of([status(401, "")]).client()).await;
        assert!(broken.is_err(), "{broken:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn name_and_tags_have_a_call_each() {
        let key = Key::only("project");
        for (part, body, line) in [
            (MAIN, json!({ "name": "Prod" }), "POST /v1/mgmt/project/update/name"),
            (TAGS, json!({ "tags": ["b", "a"] }), "POST /v1/mgmt/project/update/tags"),
        ] {
            let script = Script::of([ok(&json!({}))]);
            let write = Write::Overwrite { from: "project".into(), body: document(body.clone()) };
            let items = NonEmpty::new(Item::new(&key, None, &write));

            Project.send(&script.client(), SPEC.part(part).unwrap(), &items).await.unwrap();

            let received = script.received().remove(0);
            assert_eq!((received.line.as_str(), received.body), (line, body));
        }
    }
}
