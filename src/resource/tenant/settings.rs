//! `settings` of a tenant: its sessions, and what it says of SSO beside the configurations.

use super::sso::SSO_OFF;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::route;
use crate::resource::Document;
use crate::resource::kind::with;
use crate::resource::risk::Risk;
use crate::resource::risk::seconds_of;
use crate::resource::spec::Field;
use crate::resource::spec::How;
use crate::resource::spec::Part;
use crate::resource::spec::Read;
use serde_json::Value;

/// As it stands in the state, and in the YAML.
pub const NAME: &str = "settings";

const UNITS: &[&str] = &["seconds", "minutes", "hours", "days", "weeks"];

/// Whoever found or stole a session has it for longer.
const REFRESH: &[Risk] =
    &[Risk::WeakerLonger("settings.refreshTokenExpiration", "settings.refreshTokenExpirationUnit")];
const SESSION: &[Risk] =
    &[Risk::WeakerLonger("settings.sessionTokenExpiration", "settings.sessionTokenExpirationUnit")];
const STEP_UP: &[Risk] = &[Risk::WeakerLonger("settings.stepupTokenExpiration", "settings.stepupTokenExpirationUnit")];
const INACTIVITY: &[Risk] = &[Risk::WeakerLonger("settings.inactivityTime", "settings.inactivityTimeUnit")];

const FEATURES: &[Field] = &[
    Field::flag("saml"),
    Field::flag("oidc"),
    Field::flag("scim"),
    Field::flag("ssoDomains"),
    Field::flag("groupMapping"),
];

const FIELDS: &[Field] = &[
    // The patch of the tenant writes these too, and each call of SSO the domains.
    Field::domains("selfProvisioningDomains")
        .exclusive()
        .same_as(&["selfProvisioningDomains"])
        .risks(&[Risk::WeakerWildcard]),
    Field::domains("domains").exclusive().same_as(&["sso[].domains"]).risks(&[Risk::WeakerWildcard]),
    Field::one_of("authType", &["none", "saml", "oidc"]).risks(SSO_OFF),
    Field::flag("enabled"),
    Field::integer("refreshTokenExpiration", 0, i64::MAX).risks(REFRESH),
    Field::one_of("refreshTokenExpirationUnit", UNITS).risks(REFRESH),
    Field::integer("sessionTokenExpiration", 0, i64::MAX).risks(SESSION),
    Field::one_of("sessionTokenExpirationUnit", UNITS).risks(SESSION),
    Field::integer("stepupTokenExpiration", 0, i64::MAX).risks(STEP_UP),
    Field::one_of("stepupTokenExpirationUnit", UNITS).risks(STEP_UP),
    Field::flag("enableInactivity").risks(&[Risk::WeakerOff]),
    Field::integer("inactivityTime", 0, i64::MAX).risks(INACTIVITY),
    Field::one_of("inactivityTimeUnit", UNITS).risks(INACTIVITY),
    Field::flag("JITDisabled").starts_as("false").risks(&[Risk::WeakerOff]),
    Field::object(
        "ssoSetupSuiteSettings",
        &[Field::flag("enabled"), Field::text("styleId"), Field::object("disabledFeatures", FEATURES)],
    ),
];

/// The part.
pub const PART: Part =
    Part { name: NAME, read: Read::Each, how: How::Overwrite, fields: &[Field::object(NAME, FIELDS)] };

pub async fn read(client: &Client, tenant: Name<'_>) -> Result<Document, Error> {
    let call = Call::object(route!(GET "/v1/mgmt/tenant/settings")).query_with("id", tenant.as_str());
    let answer = client.read(&call).await?;
    Ok(Document::from_iter([(NAME.to_owned(), Value::Object(answer))]))
}

/// Overwrites everything, so the body is the whole of it.
pub fn write(tenant: Name<'_>, body: &Document) -> Call {
    let settings = body.get(NAME).and_then(Value::as_object).cloned().unwrap_or_default();
    Call::update(route!(POST "/v1/mgmt/tenant/settings"), with(&settings, "tenantId", tenant.as_str()))
}

/// A session token lives for at least three minutes, and no longer than the refresh token.
pub fn check(settings: &Document) -> Vec<String> {
    const SHORTEST: i64 = 3 * 60;
    let seconds = |field: &str| {
        let unit = seconds_of(settings.get(&format!("{field}Unit"))?.as_str()?)?;
        settings.get(field)?.as_i64()?.checked_mul(unit)
    };
    let (session, refresh) = (seconds("sessionTokenExpiration"), seconds("refreshTokenExpiration"));
    let is_short = session.is_some_and(|session| session < SHORTEST);
    let is_long = session.zip(refresh).is_some_and(|(session, refresh)| refresh > 0 && session > refresh);
    [
        (is_short, "sessionTokenExpiration must be at least 3 minutes"),
        (is_long, "sessionTokenExpiration must not be longer than refreshTokenExpiration"),
    ]
    .into_iter()
    .filter(|(is_wrong, _)| *is_wrong)
    .map(|(_, message)| message.to_owned())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_is_neither_too_short_nor_longer_than_what_renews_it() {
        for (session, refresh, expected) in [
            (json!([3, "minutes"]), json!([3, "minutes"]), 0),
            (json!([179, "seconds"]), json!([1, "hours"]), 1),
            (json!([2, "minutes"]), Value::Null, 1),
            (json!([2, "hours"]), json!([119, "minutes"]), 1),
            (json!([1, "seconds"]), json!([0, "weeks"]), 1),
            (json!([0, "minutes"]), json!([1, "weeks"]), 1),
            (json!([9, Value::Null]), json!([1, "seconds"]), 0),
            (json!([3, "minutes"]), json!([1, "seconds"]), 1),
            (json!([3, "minutes"]), json!([0, "seconds"]), 0),
        ] {
            let settings = json!({
                "sessionTokenExpiration": session[0], "sessionTokenExpirationUnit": session[1],
                "refreshTokenExpiration": refresh[0], "refreshTokenExpirationUnit": refresh[1],
            });
            assert_eq!(check(settings.as_object().unwrap()).len(), expected, "{session} {refresh}");
        }
    }
}
