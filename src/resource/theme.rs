//! `theme`: how the screens of all flows look. One for the project, written style by style.

use super::Document;
use super::Packed;
use super::kind::Kind;
use super::kind::packed;
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

/// The v2 document.
const DOCUMENT: Opaque = Opaque {
    // It rises with every write of any flow or theme.
    computed: &["componentsVersion"],
    // A style that an import leaves out stays. Whether it always does is not documented, so all of them are sent along.
    entries: Some("styles"),
    check: |document| {
        let is_answer = document.get("theme").is_some_and(Value::is_object) && document.get("styles").is_none();
        is_answer.then(|| "holds the whole answer of an export; keep the value of its `theme` alone".to_owned())
    },
    ..Opaque::JSON
};

static SPEC: Spec = Spec {
    name: "theme",
    identity: Identity::one(),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[Field::opaque_of("file", &DOCUMENT).required()],
    }],
    verbs: Verbs { delete: false, ..Verbs::ALL },
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Theme;

#[async_trait]
impl Kind for Theme {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::object(route!(POST "/v2/mgmt/theme/export"))
    }

    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let theme = client.read(&self.listing()).await?.remove("theme").unwrap_or(Value::Null);
        Ok(packed([Document::from_iter([("file".to_owned(), DOCUMENT.canonical(&theme))])]))
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let Write::Overwrite { body, .. } = item.write else { return Err(unsendable(item)) };
        let theme = body.get("file").cloned().ok_or_else(|| unsendable(item))?;
        let body = Document::from_iter([("theme".to_owned(), theme)]);
        client.write(&Call::update(route!(POST "/v2/mgmt/theme/import"), body)).await.map(|_| Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_whole_answer_of_an_export_is_no_theme() {
        assert!((DOCUMENT.check)(&json!({ "theme": {}, "total": 1 })).is_some());
        for document in [json!({ "styles": {} }), json!({ "theme": {}, "styles": {} }), json!({ "theme": "dark" })] {
            assert_eq!((DOCUMENT.check)(&document), None, "{document}");
        }
    }
}
