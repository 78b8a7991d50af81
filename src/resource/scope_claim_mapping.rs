//! `scopeClaimMapping`: which claims a scope brings into the tokens of the project. In order: a later entry wins.

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
use super::spec::Shape;
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
use serde_json::json;

const MAPPING: Shape =
    Shape::Object(&[Field::name("scope").required(), Field::text("description"), Field::of("claims", Shape::Json)]);

static SPEC: Spec = Spec {
    name: "scopeClaimMapping",
    identity: Identity::bare("mappings"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[Field::of("mappings", Shape::List(&MAPPING))],
    }],
    verbs: Verbs { delete: false, ..Verbs::ALL },
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct ScopeClaimMapping;

#[async_trait]
impl Kind for ScopeClaimMapping {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::object(route!(POST "/v1/mgmt/scopeClaimMapping/get")).asking(json!({}))
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let answer = client.read(&self.listing()).await?;
        // A project without one answers nothing, or an empty list.
        let mappings = answer.get("mappings").cloned().unwrap_or(Value::Null);
        Ok(packed([Document::from_iter([("mappings".to_owned(), mappings)])]))
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let Write::Overwrite { body, .. } = item.write else { return Err(unsendable(item)) };
        let mappings = body.get("mappings").cloned().unwrap_or_else(|| json!([]));
        let body = Document::from_iter([("mappings".to_owned(), mappings)]);
        client.write(&Call::update(route!(POST "/v1/mgmt/scopeClaimMapping/set"), body)).await.map(|_| Vec::new())
    }
}
