//! What Descope answers of SSO, in the words of requests.

use crate::resource::Document;
use crate::resource::fold::is_zero;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// What Descope says is on in the tenant, whatever the configuration. It is no field, so no call carries it.
pub const ON: &str = "@on";

/// By the name in an answer.
const RENAMED: &[(&str, &str)] = &[
    ("idpSSOUrl", "idpUrl"),
    ("idpEntityId", "entityId"),
    ("idpCertificate", "idpCert"),
    ("idpAdditionalCertificates", "idpAdditionalCerts"),
];

/// One of these is set where the configuration is more than what a fresh tenant answers.
const SAML: &[&str] =
    &["idpUrl", "idpMetadataUrl", "entityId", "idpCert", "redirectUrl", "roleMappings", "defaultSSORoles"];
const OIDC: &[&str] = &["clientId", "authUrl", "tokenUrl", "userDataUrl", "JWKsUrl", "issuer", "redirectUrl", "name"];

/// Every configuration of a tenant that holds something. Errs with what is not as documented.
pub fn configurations(answer: &Document) -> Result<Value, String> {
    let list = match answer.get("SSOSettings") {
        Some(Value::Array(list)) => list.as_slice(),
        None => return Err("it has no `SSOSettings`".to_owned()),
        Some(Value::Null) => {
            return Err("`SSOSettings` is null, which is not taken for an empty list".to_owned());
        }
        Some(_) => return Err("`SSOSettings` is no list".to_owned()),
    };
    let (mut items, mut ids) = (Vec::new(), BTreeSet::new());
    for one in list {
        let one = one.as_object().ok_or("an item of `SSOSettings` is no object")?;
        let id = one.get("ssoId").and_then(Value::as_str).unwrap_or_default();
        if !ids.insert(id) {
            return Err(format!("two items of `SSOSettings` have the ssoId `{id}`"));
        }
        items.extend(configuration(one)?);
    }
    let is_alone = items.len() == 1;
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(on) = item.get("authType").and_then(Value::as_str) {
            let on = on.to_owned();
            item.insert(ON.to_owned(), on.clone().into());
            let sort = sort(&on, is_alone, item);
            item.insert("authType".to_owned(), sort.into());
        }
    }
    Ok(Value::Array(items))
}

/// Descope says of the tenant alone what is on: where it has several configurations, that one of them is.
fn sort(on: &str, is_alone: bool, item: &Document) -> String {
    let has = |sort: &str| item.contains_key(sort);
    match (on, is_alone) {
        ("" | "none", _) => "none".to_owned(),
        (_, false) if has("saml") != has("oidc") => if has("saml") { "saml" } else { "oidc" }.to_owned(),
        (on, _) => on.to_owned(),
    }
}

fn configuration(one: &Document) -> Result<Option<Value>, String> {
    let object = |name: &str| match one.get(name) {
        None | Some(Value::Null) => Ok(Document::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(format!("`{name}` is no object")),
    };
    let (saml, oidc, tenant) = (object("saml")?, object("oidc")?, object("tenant")?);
    let id = one.get("ssoId").and_then(Value::as_str).unwrap_or_default();
    let mut item = Document::from_iter([("ssoId".to_owned(), json!(id))]);
    for name in ["domains", "authType"] {
        item.extend(tenant.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let mut saml: Document = saml
        .into_iter()
        .map(|(name, value)| {
            let request = RENAMED.iter().find(|(answer, _)| *answer == name).map(|(_, request)| (*request).to_owned());
            (request.unwrap_or(name), value)
        })
        .collect();
    let mut oidc = oidc;
    for settings in [&mut saml, &mut oidc] {
        if let Some(mappings) = settings.remove("groupsMapping") {
            settings.insert("roleMappings".to_owned(), role_mappings(&mappings)?);
        }
        // It is answered beside, and written inside.
        settings.extend(one.get("authenticationOnly").map(|only| ("authenticationOnly".to_owned(), only.clone())));
    }
    let is_set = |settings: &Document, names: &[&str]| {
        names.iter().any(|name| settings.get(*name).is_some_and(|value| !is_zero(value)))
    };
    let (has_saml, has_oidc) = (is_set(&saml, SAML), is_set(&oidc, OIDC));
    if !has_saml && !has_oidc && id.is_empty() {
        return Ok(None);
    }
    item.extend(saml.remove("redirectUrl").map(|url| ("redirectUrl".to_owned(), url)));
    item.extend(has_saml.then(|| ("saml".to_owned(), Value::Object(saml))));
    item.extend(has_oidc.then(|| ("oidc".to_owned(), Value::Object(oidc))));
    Ok(Some(Value::Object(item)))
}

fn role_mappings(answered: &Value) -> Result<Value, String> {
    let wrong = || "`groupsMapping` is not as documented".to_owned();
    if answered.is_null() {
        return Ok(json!([]));
    }
    let mut mappings: Vec<Value> = Vec::new();
    for mapping in answered.as_array().ok_or_else(wrong)? {
        let name = mapping.get("role").and_then(|role| role.get("name")?.as_str()).ok_or_else(wrong)?;
        let groups = mapping.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
        // One role may be mapped twice; it is one to who writes the files.
        match mappings.iter_mut().find(|known| known["roleName"] == name) {
            Some(known) => {
                if let Some(Value::Array(known)) = known.get_mut("groups") {
                    known.extend(groups);
                }
            }
            None => mappings.push(json!({ "roleName": name, "groups": groups })),
        }
    }
    Ok(Value::Array(mappings))
}
