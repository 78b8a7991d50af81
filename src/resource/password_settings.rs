//! `passwordSettings`: what a password of the project must be like. One for the project.

use super::Document;
use super::Packed;
use super::kind::Kind;
use super::kind::packed;
use super::kind::single;
use super::kind::unsendable;
use super::kind::with;
use super::risk::Risk;
use super::spec::Field;
use super::spec::How;
use super::spec::Identity;
use super::spec::MAIN;
use super::spec::Part;
use super::spec::Read;
use super::spec::Spec;
use super::spec::Verbs;
use super::tenant::BROUGHT_BY;
use super::write::Answer;
use super::write::Item;
use super::write::Write;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::call::route;
use async_trait::async_trait;
use nonempty::NonEmpty;

/// The bounds are those of the official Terraform provider. 0 stands for unset.
pub const RULES: &[Field] = &[
    // Of a tenant. The project has no SSO.
    Field::flag("enabled").risks(&[Risk::LocksOffWithout("authType")]).relies(false, BROUGHT_BY),
    Field::integer("minLength", 4, 64).risks(&[Risk::WeakerBelow]),
    Field::flag("lowercase").risks(&[Risk::WeakerOff]),
    Field::flag("uppercase").risks(&[Risk::WeakerOff]),
    Field::flag("number").risks(&[Risk::WeakerOff]),
    Field::flag("nonAlphanumeric").risks(&[Risk::WeakerOff]),
    Field::flag("expiration").risks(&[Risk::WeakerOff]),
    Field::integer("expirationWeeks", 0, 999).risks(&[Risk::WeakerAbove]),
    Field::flag("reuse").risks(&[Risk::WeakerOff]),
    Field::integer("reuseAmount", 0, 50).risks(&[Risk::WeakerBelow]),
    Field::flag("lock").risks(&[Risk::WeakerOff]),
    Field::integer("lockAttempts", 0, 10).risks(&[Risk::WeakerAbove]),
    Field::flag("tempLock").risks(&[Risk::WeakerOff]),
    Field::integer("tempLockAttempts", 0, 10).risks(&[Risk::WeakerAbove]),
    Field::integer("tempLockDuration", 0, 1440).risks(&[Risk::WeakerBelow]),
    Field::flag("enablePasswordStrength").risks(&[Risk::WeakerOff]),
    Field::integer("passwordStrengthScore", 0, 4).risks(&[Risk::WeakerBelow]),
    // The older call answers none of these, and resets them where it does not carry them.
    Field::flag("anyLetter").maybe_returned().risks(&[Risk::WeakerOff]),
    Field::flag("disallowEmailMatch").maybe_returned().risks(&[Risk::WeakerOff]),
    Field::text("disallowedCharacters").maybe_returned().risks(&[Risk::WeakerEmpty]),
    Field::text("tenantId").computed(),
];

static SPEC: Spec = Spec {
    name: "passwordSettings",
    identity: Identity::one(),
    parts: &[Part { name: MAIN, read: Read::List, how: How::Overwrite, fields: RULES }],
    verbs: Verbs { delete: false, ..Verbs::ALL },
    check,
    ..Spec::BASE
};

/// Which version of the call answered: the same is written with. It is no field, so no body carries it.
const VERSION: &str = "@version";

/// The kind.
#[derive(Debug)]
pub struct PasswordSettings;

#[async_trait]
impl Kind for PasswordSettings {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn listing(&self) -> Call {
        Call::object(route!(GET "/v2/mgmt/password/settings"))
    }

    /// The newer call answers every field. Where it is refused, the older one is asked.
    async fn observe(&self, client: &Client) -> Result<Vec<Packed>, Error> {
        let (mut settings, version) = match client.read(&self.listing()).await {
            Ok(settings) => (settings, 2),
            Err(Error::Rejected { .. } | Error::Undocumented { .. }) => {
                let older = Call::object(route!(GET "/v1/mgmt/password/settings")).query_with("tenantId", "");
                (client.read(&older).await?, 1)
            }
            Err(error) => return Err(error),
        };
        settings.insert(VERSION.to_owned(), version.into());
        Ok(packed([settings]))
    }

    async fn send(
        &self,
        client: &Client,
        _part: &'static Part,
        items: &NonEmpty<Item<'_>>,
    ) -> Result<Vec<Answer>, Error> {
        let item = single(items)?;
        let Write::Overwrite { body, .. } = item.write else { return Err(unsendable(item)) };
        let mut body = with(body, "tenantId", "");
        let route = if body.remove(VERSION).is_some_and(|version| version == 2) {
            route!(POST "/v2/mgmt/password/settings")
        } else {
            route!(POST "/v1/mgmt/password/settings")
        };
        client.write(&Call::update(route, body)).await.map(|_| Vec::new())
    }
}

/// A rule that is on needs its number.
pub fn check(declared: &Document) -> Vec<(&'static str, String)> {
    let pairs = [
        ("expiration", "expirationWeeks"),
        ("reuse", "reuseAmount"),
        ("lock", "lockAttempts"),
        ("tempLock", "tempLockAttempts"),
    ];
    let is_on = |flag: &str| declared.get(flag).and_then(serde_json::Value::as_bool) == Some(true);
    let is_zero = |number: &str| declared.get(number).is_some_and(super::fold::is_zero);
    pairs
        .into_iter()
        .filter(|(flag, number)| is_on(flag) && is_zero(number))
        .map(|(flag, number)| (number, format!("must not be 0 where `{flag}` is true")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_that_is_on_needs_a_number() {
        for (rules, expected) in [
            (json!({ "lock": true, "lockAttempts": 0 }), vec!["lockAttempts"]),
            (
                json!({ "expiration": true, "expirationWeeks": 0, "reuse": true, "reuseAmount": 0 }),
                vec!["expirationWeeks", "reuseAmount"],
            ),
            (json!({ "tempLock": true, "tempLockAttempts": 3 }), vec![]),
            (json!({ "tempLock": false, "tempLockAttempts": 0 }), vec![]),
            (json!({ "lock": true }), vec![]),
        ] {
            let found: Vec<&str> = check(rules.as_object().unwrap()).into_iter().map(|(field, _)| field).collect();
            assert_eq!(found, expected, "{rules}");
        }
    }
}
