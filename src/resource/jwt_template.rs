//! `jwtTemplates`: what the tokens of the project carry.

use super::Document;
use super::Fields;
use super::kind::Kind;
use super::kind::Preview;
use super::kind::creating;
use super::kind::id_of;
use super::kind::single;
use super::kind::unsendable;
use super::kind::with;
use super::opaque::Opaque;
use super::opaque::Source;
use super::risk::Risk;
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

/// The claims, which the server may write in another way.
const BODY: Opaque = Opaque { source: Source::Inline, ..Opaque::JSON };

static SPEC: Spec = Spec {
    name: "jwtTemplates",
    identity: Identity::many("name").server_id("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("name"),
            Field::name("id"),
            Field::text("description"),
            Field::opaque_of("template", &BODY),
            Field::text("source"),
            Field::set("tags"),
            Field::one_of("authSchema", &["", "default", "tenantOnly", "none"]),
            Field::one_of("type", &["", "user", "key"]),
            Field::flag("conformanceIssuer"),
            Field::flag("autoDCT"),
            Field::flag("enforceIssuer").risks(&[Risk::WeakerOff]),
            Field::one_of("emptyClaimPolicy", &["", "none", "nil", "delete"]),
            Field::flag("overrideSubject"),
            Field::text("issuerType"),
            Field::flag("omitCustomClaimsFromDSR"),
            Field::flag("addJti"),
            Field::flag("excludePermissions"),
        ],
    }],
    verbs: Verbs { rename: true, ..Verbs::ALL },
    has_preview: true,
    in_settings: true,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct JwtTemplates;

#[async_trait]
impl Kind for JwtTemplates {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(POST "/v1/mgmt/jwt/templates/list"), "templates", "id").asking(json!({}))
    }

    /// Descope says what is wrong with the claims without taking them.
    async fn preview(&self, client: &Client, live: &Document, declared: &dyn Fields) -> Result<Preview, Error> {
        let Some(template @ Value::Object(_)) = declared.get("template") else { return Ok(Preview::default()) };
        let id = live.get("id").cloned().unwrap_or_else(|| "".into());
        let call = Call::object(route!(POST "/v1/mgmt/jwt/templates/validate"));
        let answer = match client.read(&call.asking(json!({ "id": id, "template": template }))).await {
            Ok(answer) => answer,
            Err(error @ Error::Rejected { .. }) => {
                return Ok(Preview { refusal: Some(error.to_string()), ..Preview::default() });
            }
            Err(error) => return Err(error),
        };
        let is_refused = answer.get("valid") == Some(&Value::Bool(false));
        Ok(Preview { refusal: is_refused.then(|| issues(&answer)), ..Preview::default() })
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let wrapped = |template| Document::from_iter([("template".to_owned(), Value::Object(template))]);
        let call = match item.write {
            Write::Create(_) => Call::create(route!(POST "/v1/mgmt/jwt/templates/create"), wrapped(creating(item)?)),
            Write::Overwrite { body, .. } => {
                let body = with(&with(body, "id", id_of(item)?.as_str()), "name", &item.key.name);
                let call = Call::update(route!(POST "/v1/mgmt/jwt/templates/update"), wrapped(body));
                if item.write.is_repeatable(item.key) { call } else { call.once_only() }
            }
            Write::Delete { .. } => Call::delete(deletion!(POST "/v1/mgmt/jwt/templates/delete"), "id", id_of(item)?),
            Write::Patch(_) => return Err(unsendable(item)),
        };
        let answer = client.write(&call).await?;
        let id = answer.get("template").and_then(|template| template.get("id")).and_then(Value::as_str);
        Ok(vec![Answer { id: id.map(Into::into), ..Answer::default() }])
    }
}

/// What is wrong, as far as the answer says. SDKs name the place of an issue in two ways.
fn issues(answer: &Document) -> String {
    let issues = answer.get("issues").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let told = issues.iter().filter_map(|issue| {
        let text = |name: &str| issue.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let place = text("field").or_else(|| text("path"));
        let message = text("message").or_else(|| text("code"))?;
        let hint = text("hint").map_or_else(String::new, |hint| format!("; {hint}"));
        Some(place.map_or_else(|| format!("{message}{hint}"), |place| format!("{place}: {message}{hint}")))
    });
    let told: Vec<String> = told.take(5).collect();
    if told.is_empty() { "it is not valid, and the answer does not say why".to_owned() } else { told.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descope::script::document;

    #[test]
    fn what_is_wrong_is_told_with_its_place_as_far_as_the_answer_says() {
        let silent = "it is not valid, and the answer does not say why";
        for (answer, told) in [
            (json!({}), silent),
            (json!({ "issues": [{ "field": "a" }] }), silent),
            (
                json!({ "issues": [{ "field": "a", "message": "m" }, { "path": "b", "code": "c", "hint": "h" }] }),
                "a: m; b: c; h",
            ),
            (json!({ "issues": [{ "field": "", "message": "m" }] }), "m"),
        ] {
            assert_eq!(issues(&document(answer)), told);
        }
    }
}
