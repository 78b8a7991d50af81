//! `flows`: what users go through, each a document that the editor of Descope writes. Its body is read by a call of its own.

use super::Document;
use super::Key;
use super::kind::Kind;
use super::kind::single;
use super::kind::unsendable;
use super::opaque::Opaque;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;
use serde_json::Value;
use serde_json::json;

/// The v2 document, as the official command line tool writes it.
const DOCUMENT: Opaque = Opaque {
    // The id of the call wins over the one inside. The version of the components rises with every write of any flow or theme.
    computed: &["flowId", "version", "etag", "modifiedTime", "componentsVersion", "metadata.componentsVersion"],
    // Names are resolved when it is imported: they must exist by then.
    names: &[("references.roles", "roles")],
    check: |document| {
        let is_answer = document.get("flow").is_some_and(Value::is_object) && document.get("contents").is_none();
        is_answer.then(|| "holds the whole answer of an export; keep the value of its `flow` alone".to_owned())
    },
    ..Opaque::JSON
};

static SPEC: Spec = Spec {
    name: "flows",
    identity: Identity::many("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::Each,
        how: How::Upsert,
        fields: &[Field::name("id"), Field::opaque_of("file", &DOCUMENT).required()],
    }],
    stock: &["sign-up-or-in", "sign-up", "sign-in", "step-up"],
    in_settings: true,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Flows;

#[async_trait]
impl Kind for Flows {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    /// What they are called, without their bodies.
    fn listing(&self) -> Call {
        Call::list(route!(POST "/v1/mgmt/flow/list"), "flows", "id")
    }

    async fn read(
        &self,
        client: &Client,
        _part: &'static Part,
        key: &Key,
        _id: Option<&str>,
    ) -> Result<Option<Document>, Error> {
        let call = Call::object(route!(POST "/v2/mgmt/flow/export")).asking(json!({ "flowId": &*key.name }));
        let Some(flow @ Value::Object(_)) = client.read(&call).await?.remove("flow") else {
            let what = "there is no object in `flow`".to_owned();
            return Err(Error::Undocumented { operation: call.operation(), what });
        };
        Ok(Some(Document::from_iter([("file".to_owned(), DOCUMENT.canonical(&flow))])))
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let id = Name::new(&item.key.name)?;
        let import = |body: &Document| {
            let mut flow = body.get("file").and_then(Value::as_object).cloned().unwrap_or_default();
            flow.insert("flowId".to_owned(), id.as_str().into());
            Document::from_iter([("flow".to_owned(), Value::Object(flow))])
        };
        let call = match item.write {
            Write::Create(body) => Call::create(route!(POST "/v2/mgmt/flow/import"), import(body)),
            Write::Overwrite { body, .. } => Call::update(route!(POST "/v2/mgmt/flow/import"), import(body)),
            Write::Delete { .. } => {
                Call::delete_all_of(deletion!(POST "/v1/mgmt/flow/delete"), "ids", &NonEmpty::new(id))
            }
            Write::Patch(_) => return Err(unsendable(item)),
        };
        client.write(&call).await.map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_names_the_roles_of_its_document_however_they_are_listed() {
        for roles in [json!(["r"]), json!([{ "name": "r" }]), json!({ "1": { "name": "r" } }), json!({ "r": {} })] {
            let file = json!({ "references": { "roles": roles } });
            let flow = Document::from_iter([("id".to_owned(), json!("f")), ("file".to_owned(), file)]);

            assert_eq!(
                Flows.references(&Key::new("flows", "f"), &flow, Some(MAIN)),
                [Key::new("roles", "r")],
                "{roles}"
            );
        }
    }
}
