//! `lists`: texts, addresses or a JSON document that flows and rules ask for by name.

use super::Document;
use super::kind::Kind;
use super::kind::creating;
use super::kind::id_of;
use super::kind::single;
use super::kind::unsendable;
use super::kind::with;
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
use crate::descope::call::deletion;
use crate::descope::call::route;
use async_trait::async_trait;
use ipnet::IpNet;
use nonempty::NonEmpty;
use serde_json::Value;
use std::net::IpAddr;

static SPEC: Spec = Spec {
    name: "lists",
    identity: Identity::many("name").server_id("id"),
    parts: &[Part {
        name: MAIN,
        read: Read::List,
        how: How::Overwrite,
        fields: &[
            Field::name("name").at_most(100),
            Field::name("id"),
            Field::one_of("type", &["texts", "ips", "json"]).required(),
            Field::text("description").at_most(254),
            Field::of("data", Shape::Json),
        ],
    }],
    verbs: Verbs { rename: true, ..Verbs::ALL },
    check,
    ..Spec::BASE
};

/// The kind.
#[derive(Debug)]
pub struct Lists;

#[async_trait]
impl Kind for Lists {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::list(route!(GET "/v1/mgmt/list/all"), "lists", "id")
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let call = match item.write {
            Write::Create(_) => Call::create(route!(POST "/v1/mgmt/list"), creating(item)?),
            Write::Overwrite { body, .. } => {
                let body = with(&with(body, "id", id_of(item)?.as_str()), "name", &item.key.name);
                let call = Call::update(route!(POST "/v1/mgmt/list/update"), body);
                if item.write.is_repeatable(item.key) { call } else { call.once_only() }
            }
            Write::Delete { .. } => Call::delete(deletion!(POST "/v1/mgmt/list/delete"), "id", id_of(item)?),
            Write::Patch(_) => return Err(unsendable(item)),
        };
        let answer = client.write(&call).await?;
        let id = answer.get("list").and_then(|list| list.get("id")).and_then(Value::as_str);
        Ok(vec![Answer { id: id.map(Into::into), ..Answer::default() }])
    }
}

/// Each sort of list has its own data.
fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let Some(data) = declared.get("data").filter(|data| !data.is_null()) else { return Vec::new() };
    let texts = || data.as_array().filter(|items| items.iter().all(Value::is_string));
    let wrong = match declared.get("type").and_then(Value::as_str) {
        Some("texts") if texts().is_none() => "must be a list of texts where `type` is `texts`".to_owned(),
        Some("ips") => {
            let Some(items) = texts() else {
                return vec![("data", "must be a list of addresses where `type` is `ips`".to_owned())];
            };
            let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
            match items.iter().position(|item| !item.as_str().is_some_and(is_address)) {
                Some(at) => format!("its item {} is neither an address nor a network such as `10.0.0.0/8`", at + 1),
                None => return Vec::new(),
            }
        }
        Some("json") if !data.is_object() => "must be a mapping where `type` is `json`".to_owned(),
        _ => return Vec::new(),
    };
    vec![("data", wrong)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_type_has_its_own_data() {
        for (of, data, expected) in [
            ("texts", json!(["a", "b"]), None),
            ("texts", json!({ "a": 1 }), Some("must be a list of texts where `type` is `texts`")),
            ("texts", json!([1]), Some("must be a list of texts where `type` is `texts`")),
            ("ips", json!(["10.0.0.1", "10.0.0.0/8", "::1", "fe80::/10"]), None),
            (
                "ips",
                json!(["10.0.0.1", "ten"]),
                Some("its item 2 is neither an address nor a network such as `10.0.0.0/8`"),
            ),
            ("ips", json!({}), Some("must be a list of addresses where `type` is `ips`")),
            ("json", json!({ "a": [1, { "b": null }] }), None),
            ("json", json!([]), Some("must be a mapping where `type` is `json`")),
            ("texts", Value::Null, None),
        ] {
            let Value::Object(declared) = json!({ "type": of, "data": data }) else { panic!("an object") };

            let found: Vec<String> = check(&declared).into_iter().map(|(_, message)| message).collect();

            assert_eq!(found, expected.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{declared:?}");
        }
    }
}
