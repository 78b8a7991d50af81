//! `sso` of a tenant: its configurations, each told apart by `ssoId`. One is never deleted and made anew: the new one would
//! have another address, and no secret. Switching off is `authType: none`.

use super::answer;
use crate::descope::Call;
use crate::descope::Client;
use crate::descope::Error;
use crate::descope::Name;
use crate::descope::call::route;
use crate::resource::Document;
use crate::resource::fold::is_zero;
use crate::resource::risk::Risk;
use crate::resource::secret::item_id;
use crate::resource::spec::Field;
use crate::resource::spec::How;
use crate::resource::spec::InTenant;
use crate::resource::spec::Part;
use crate::resource::spec::Read;
use crate::resource::spec::Shape;
use crate::resource::spec::To;
use serde_json::Value;
use serde_json::json;

/// As it stands in the state, and in the YAML.
pub const NAME: &str = "sso";

const ROLE: To = To { kind: "roles", tenant: InTenant::Own };

const MAPPINGS: Field =
    Field::items("roleMappings", &["roleName"], &[Field::of("roleName", Shape::Reference(ROLE)), Field::set("groups")]);

const ATTRIBUTES: &[Field] = &[
    Field::text("name"),
    Field::text("email"),
    Field::text("username"),
    Field::text("phoneNumber"),
    Field::text("group"),
    Field::text("givenName"),
    Field::text("middleName"),
    Field::text("familyName"),
    Field::text("picture"),
    Field::text("verifiedEmail"),
    Field::text("verifiedPhone"),
    Field::of("customAttributes", Shape::Map(&Shape::Json)).entries_of("userAttributes"),
];

const SAML: &[Field] = &[
    Field::text("idpUrl"),
    Field::text("entityId"),
    Field::text("idpCert").risks(&[Risk::WeakerEmpty]),
    Field::of("idpAdditionalCerts", Shape::List(&Shape::Text)),
    Field::text("idpMetadataUrl"),
    Field::object("attributeMapping", ATTRIBUTES),
    MAPPINGS,
    Field::of("defaultSSORoles", Shape::References(ROLE)),
    Field::of("groupsPriority", Shape::List(&Shape::Text)),
    Field::of("fgaMappings", Shape::Map(&Shape::Json)),
    Field::text("configFGATenantIDResourcePrefix"),
    Field::text("configFGATenantIDResourceSuffix"),
    Field::text("spACSUrl").risks(ADDRESS),
    Field::text("spEntityId"),
    Field::secret("spEncryptionKey").omit_keeps(),
    Field::secret("spSignKey").omit_keeps(),
    Field::text("subjectNameIdFormat"),
    Field::flag("disableSignRequest").maybe_returned().risks(&[Risk::WeakerOn]),
    Field::flag("authenticationOnly").maybe_returned().omit_keeps(),
    // They follow from the keys, or tell what happened.
    Field::text("spCertificate").computed(),
    Field::text("spSignCertificate").computed(),
    Field::of("lastSuccessTestTime", Shape::Json).computed(),
    Field::text("providerID").computed(),
    Field::text("scimProviderID").computed(),
];

const USER_ATTRIBUTES: &[Field] = &[
    Field::text("loginId"),
    Field::text("username"),
    Field::text("name"),
    Field::text("email"),
    Field::text("phoneNumber"),
    Field::text("verifiedEmail"),
    Field::text("verifiedPhone"),
    Field::text("picture"),
    Field::text("givenName"),
    Field::text("middleName"),
    Field::text("familyName"),
    Field::text("group"),
    Field::of("customAttributes", Shape::Map(&Shape::Json)).entries_of("userAttributes"),
];

const OIDC: &[Field] = &[
    Field::text("name"),
    Field::text("clientId").risks(NEEDED),
    // An update without it might clear it, and nobody could tell.
    Field::secret("clientSecret"),
    Field::text("redirectUrl").risks(ADDRESS),
    Field::text("authUrl").risks(NEEDED),
    Field::text("tokenUrl").risks(NEEDED),
    Field::text("userDataUrl"),
    Field::set("scope"),
    Field::text("JWKsUrl").risks(&[Risk::WeakerEmpty]),
    Field::object("userAttrMapping", USER_ATTRIBUTES),
    Field::flag("manageProviderTokens"),
    Field::text("callbackDomain").risks(ADDRESS),
    Field::set("prompt"),
    Field::one_of("grantType", &["authorization_code", "implicit"]).risks(&[Risk::WeakerAs("implicit")]),
    Field::text("issuer").risks(&[Risk::WeakerEmpty]),
    Field::flag("usePkce").maybe_returned().omit_keeps().risks(&[Risk::WeakerOff]),
    Field::of("groupsPriority", Shape::List(&Shape::Text)),
    Field::of("fgaMappings", Shape::Map(&Shape::Json)),
    Field::of("defaultSSORoles", Shape::References(ROLE)),
    MAPPINGS,
    Field::flag("authenticationOnly").maybe_returned().omit_keeps(),
    Field::of("lastSuccessTestTime", Shape::Json).computed(),
    Field::text("providerID").computed(),
    Field::text("scimProviderID").computed(),
];

/// Where the files say that people of the tenant can come in by SSO.
pub const BROUGHT_BY: &[&str] = &["sso[].authType", "settings.authType"];

/// Of what says how people of the tenant come in by SSO.
pub const SSO_OFF: &[Risk] = &[Risk::WeakerEmpty, WITHOUT_PASSWORDS, WHILE_ENFORCED];

/// Of what no log-in by SSO does without.
const NEEDED: &[Risk] = &[WITHOUT_PASSWORDS, WHILE_ENFORCED];

const WITHOUT_PASSWORDS: Risk = Risk::LocksEmptyWithout("passwordSettings.enabled");
const WHILE_ENFORCED: Risk = Risk::LocksEmptyWhile("enforceSSO");

/// Of an address that people are sent to.
const ADDRESS: &[Risk] = &[Risk::WeakerWildcard];

const ITEM: &[Field] = &[
    Field::text("ssoId"),
    // Each call writes those of the tenant.
    Field::domains("domains")
        .exclusive()
        .same_as(&["sso[].domains", "settings.domains"])
        .risks(&[Risk::WeakerWildcard]),
    Field::text("redirectUrl").risks(ADDRESS),
    Field::one_of("authType", &["none", "saml", "oidc"]).maybe_returned().omit_keeps().apart().risks(SSO_OFF),
    Field::object("saml", SAML).stays(STAYS).risks(SSO_OFF),
    Field::object("oidc", OIDC).stays(STAYS).risks(SSO_OFF),
    Field::text(answer::ON).computed(),
];

const STAYS: &str = "a configuration is never deleted, for its address and its secret would be lost; to switch off SSO of \
                     the tenant, declare all of its configurations, each with `authType: none`; to be rid of one alone, \
                     delete it in Descope";

/// The part.
pub const PART: Part = Part {
    name: NAME,
    read: Read::Each,
    how: How::Items,
    fields: &[Field::of(NAME, Shape::Items { key: &["ssoId"], fields: ITEM, keeps: true }).stays(STAYS)],
};

pub async fn read(client: &Client, tenant: Name<'_>) -> Result<Document, Error> {
    let call = Call::object(route!(GET "/v2/mgmt/sso/settings/all")).query_with("tenantId", tenant.as_str());
    let answer = client.read(&call).await?;
    let undocumented = |what| Error::Undocumented { operation: call.operation(), what };
    let items = answer::configurations(&answer).map_err(undocumented)?;
    Ok(Document::from_iter([(NAME.to_owned(), items)]))
}

/// The calls that change what differs, for each configuration by itself. `live` is what was there right before; all calls
/// carry the tenant's domains.
pub fn calls(tenant: Name<'_>, body: &Document, live: Option<&Document>, changed: &[String]) -> Vec<Call> {
    let items = |document: Option<&Document>| document.and_then(|document| document.get(NAME)?.as_array().cloned());
    let present = items(live).unwrap_or_default();
    let mut calls = Vec::new();
    let mut switched = None;
    // One call writes the domains for all: where nothing else differs, one that does not change what is on.
    let is_of_domains = |path: &String| path.ends_with("].domains");
    let mut domains_by = changed.iter().all(is_of_domains).then(|| unobtrusive(&present, changed)).flatten();
    let mut has_domains = false;
    for item in items(Some(body)).unwrap_or_default() {
        let id = id(&item);
        let own = format!("{NAME}[{id}].");
        let differs: Vec<&str> = changed.iter().filter_map(|path| path.strip_prefix(&own)).collect();
        let is_new = !present.iter().any(|other| self::id(other) == id);
        let is_needed = |path: &&str| *path != "authType" && !(has_domains && *path == "domains");
        if domains_by.as_ref().is_some_and(|by| *by != id) {
            continue;
        }
        domains_by = None;
        if differs.iter().any(is_needed) {
            if is_new && !id.is_empty() {
                calls.push(Call::create(
                    route!(POST "/v1/mgmt/sso/settings/new"),
                    object(json!({ "tenantId": tenant.as_str(), "ssoId": id, "displayName": id })),
                ));
            }
            let configured = configure(tenant, &item, &differs);
            let ends_as = configured.last().map(|(sort, _)| *sort);
            calls.extend(configured.into_iter().map(|(_, call)| call));
            has_domains = true;
            // Whatever is configured is switched on.
            let wanted = item.get("authType").and_then(Value::as_str).filter(|sort| Some(*sort) != ends_as);
            calls.extend(wanted.filter(|sort| !sort.is_empty()).map(|sort| switch(tenant, &id, sort)));
        } else if differs.contains(&"authType") {
            switched = item.get("authType").and_then(Value::as_str).map(|sort| switch(tenant, &id, sort));
        }
    }
    // Descope knows one for the tenant: what is configured is on already, and one switch is enough.
    calls.extend(switched.filter(|_| calls.is_empty()));
    calls
}

/// The configuration of the sort that is on.
fn unobtrusive(present: &[Value], changed: &[String]) -> Option<String> {
    let is_on = |item: &&Value| item.get(answer::ON).is_some_and(|on| item.get("authType") == Some(on));
    let mut on = present.iter().filter(is_on).map(id);
    on.find(|id| changed.contains(&format!("{NAME}[{id}].domains")))
}

fn id(item: &Value) -> String {
    item_id(&["ssoId"], item).concat()
}

fn object(value: Value) -> Document {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Document::new(),
    }
}

/// The calls that write the settings of one configuration, each with what it switches on.
fn configure(tenant: Name<'_>, item: &Value, differs: &[&str]) -> Vec<(&'static str, Call)> {
    let is_of = |sort: &str| {
        differs.iter().any(|path| path.strip_prefix(sort).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    let saml = item.get("saml").and_then(Value::as_object).filter(|settings| !settings.is_empty());
    let oidc = item.get("oidc").and_then(Value::as_object).filter(|settings| !settings.is_empty());
    let on = item.get("authType").and_then(Value::as_str);
    // What belongs to neither goes with the one that is on.
    let is_saml = saml.is_some() && (is_of("saml") || differs.contains(&"redirectUrl"));
    let is_oidc = oidc.is_some() && is_of("oidc");
    let is_saml = is_saml || !is_oidc && saml.is_some() && (on != Some("oidc") || oidc.is_none());
    let is_oidc = is_oidc || !is_saml && oidc.is_some();
    let mut calls = Vec::new();
    calls.extend(saml.filter(|_| is_saml).map(|settings| ("saml", self::saml(tenant, item, settings))));
    calls.extend(oidc.filter(|_| is_oidc).map(|settings| ("oidc", self::oidc(tenant, item, settings))));
    calls
}

fn with_settings(tenant: Name<'_>, item: &Value, settings: Document) -> Document {
    let mut body = Document::from_iter([
        ("tenantId".to_owned(), tenant.as_str().into()),
        ("settings".to_owned(), Value::Object(settings)),
        ("domains".to_owned(), item.get("domains").filter(|domains| domains.is_array()).cloned().unwrap_or(json!([]))),
    ]);
    let id = id(item);
    if !id.is_empty() {
        body.insert("ssoId".to_owned(), id.into());
    }
    body
}

fn saml(tenant: Name<'_>, item: &Value, settings: &Document) -> Call {
    let mut settings = settings.clone();
    let is_by_metadata = settings.get("idpMetadataUrl").is_some_and(|url| !is_zero(url));
    let of_the_other: &[&str] =
        if is_by_metadata { &["idpUrl", "idpCert", "idpAdditionalCerts"] } else { &["idpMetadataUrl"] };
    settings.retain(|name, _| !of_the_other.contains(&name.as_str()));
    // Without it an empty list would leave the roles as they are.
    if settings.contains_key("defaultSSORoles") {
        settings.insert("replaceDefaultSSORoles".to_owned(), true.into());
    }
    let mut body = with_settings(tenant, item, settings);
    body.insert("redirectUrl".to_owned(), item.get("redirectUrl").cloned().unwrap_or(json!("")));
    let route =
        if is_by_metadata { route!(POST "/v1/mgmt/sso/saml/metadata") } else { route!(POST "/v1/mgmt/sso/saml") };
    Call::update(route, body)
}

fn oidc(tenant: Name<'_>, item: &Value, settings: &Document) -> Call {
    Call::update(route!(POST "/v1/mgmt/sso/oidc"), with_settings(tenant, item, settings.clone()))
}

/// Keeps the settings.
fn switch(tenant: Name<'_>, id: &str, sort: &str) -> Call {
    let mut body = object(json!({ "tenantId": tenant.as_str(), "authType": sort }));
    if !id.is_empty() {
        body.insert("ssoId".to_owned(), id.into());
    }
    Call::update(route!(POST "/v1/mgmt/sso/settings/authtype"), body)
}

/// What is written is switched on, unless the YAML says otherwise; and one way of SAML takes the place of the other.
pub fn complete(declared: &mut Document) {
    let of_settings = declared.get("settings").and_then(|settings| settings.get("authType")).cloned();
    let Some(Value::Array(items)) = declared.get_mut(NAME) else { return };
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        let is_written = |sort: &str| item.get(sort).is_some_and(Value::is_object);
        let sort = if is_written("saml") { "saml" } else { "oidc" };
        let implied = of_settings.clone().filter(Value::is_string).unwrap_or_else(|| sort.into());
        item.entry("authType").or_insert(implied);
        if let Some(Value::Object(saml)) = item.get_mut("saml") {
            let is_set = |name: &str| saml.get(name).is_some_and(|value| !is_zero(value));
            if is_set("idpUrl") && !saml.contains_key("idpMetadataUrl") {
                saml.insert("idpMetadataUrl".to_owned(), "".into());
            }
        }
    }
}

/// What only several fields show to be wrong.
pub fn check(declared: &Document) -> Vec<String> {
    let items: Vec<&Document> =
        declared.get(NAME).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object).collect();
    let mut found = Vec::new();
    for item in &items {
        let id = item.get("ssoId").and_then(Value::as_str).unwrap_or_default();
        let mut wrong = |message: &str| found.push(format!("[{id}] {message}"));
        let part = |sort: &str| item.get(sort).and_then(Value::as_object);
        match (part("saml"), part("oidc")) {
            (None, None) => wrong("must have `saml` or `oidc`"),
            (Some(_), Some(_)) => wrong("has `saml` and `oidc`; a configuration is one of them"),
            (Some(saml), None) => {
                let is_set = |name: &str| saml.get(name).is_some_and(|value| !is_zero(value));
                let by_hand = ["idpUrl", "idpCert", "idpAdditionalCerts"].into_iter().find(|name| is_set(name));
                if let Some(name) = by_hand.filter(|_| is_set("idpMetadataUrl")) {
                    wrong(&format!("has `saml.idpMetadataUrl`, which brings `{name}` along; write one of the two"));
                }
                if !is_set("idpMetadataUrl") && !is_set("idpUrl") {
                    wrong("`saml` needs `idpMetadataUrl`, or `idpUrl` with `entityId` and `idpCert`");
                }
            }
            (None, Some(oidc)) => {
                let is_set = |name: &str| oidc.get(name).is_some_and(|value| !is_zero(value));
                if !oidc.get("userAttrMapping").is_some_and(Value::is_object) {
                    wrong("`oidc` needs `userAttrMapping`, which may be `{}`");
                }
                if !is_set("userDataUrl") && !is_set("JWKsUrl") {
                    wrong("`oidc` needs `userDataUrl` or `JWKsUrl`");
                }
                if item.contains_key("redirectUrl") {
                    wrong("`redirectUrl` beside is that of SAML; that of OIDC is `oidc.redirectUrl`");
                }
            }
        }
        let sort = item.get("authType").and_then(Value::as_str);
        if sort.is_some_and(|sort| sort != "none" && part(sort).is_none()) {
            wrong("`authType` is neither `none` nor what is written");
        }
    }
    let mut domains = items.iter().filter_map(|item| item.get("domains"));
    if let Some(first) = domains.next()
        && domains.any(|other| other != first)
    {
        found.push("`domains` are those of the tenant: each configuration has to name the same".to_owned());
    }
    let is_off = |item: &&&Document| item.get("authType") == Some(&json!("none"));
    let off = items.iter().filter(is_off).count();
    if off > 0 && off < items.len() {
        found.push(
            "`authType: none` switches off SSO of the tenant: write it for each configuration, or for none".to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests;
