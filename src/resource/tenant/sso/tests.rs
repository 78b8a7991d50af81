use super::*;
use crate::descope::script::Script;
use crate::descope::script::ok;
use serde_json::json;

fn document(value: Value) -> Document {
    object(value)
}

/// What is sent, in order: the end of the path, and the body.
async fn sent(body: Value, live: Value, changed: &[&str]) -> Vec<(String, Value)> {
    let changed: Vec<String> = changed.iter().map(|path| (*path).to_owned()).collect();
    let calls = calls(Name::new("acme").unwrap(), &document(body), Some(&document(live)), &changed);
    let script = Script::of(calls.iter().map(|_| ok(&json!({}))).collect::<Vec<_>>());
    for call in &calls {
        script.client().write(call).await.unwrap();
    }
    let received = script.received();
    let end = |line: &str| line.rsplit_once("/sso/").map(|(_, end)| end.to_owned()).unwrap();
    received.into_iter().map(|received| (end(&received.line), received.body)).collect()
}

fn paths(sent: &[(String, Value)]) -> Vec<&str> {
    sent.iter().map(|(path, _)| &**path).collect()
}

#[tokio::test(start_paused = true)]
async fn only_the_configurations_that_differ_are_sent_and_domains_once() {
    let saml = |id: &str| json!({ "ssoId": id, "domains": ["a.com"], "authType": "saml", "@on": "saml", "saml": { "idpUrl": "u" } });
    let body = json!({ "sso": [saml("one"), saml("two"), saml("new")] });
    let live = json!({ "sso": [saml("one"), saml("two")] });

    let of = async |changed: &[&str]| sent(body.clone(), live.clone(), changed).await;
    assert_eq!(paths(&of(&["sso[two].saml.idpUrl"]).await), ["saml"]);
    assert_eq!(paths(&of(&["sso[one].domains", "sso[two].domains"]).await), ["saml"]);
    assert_eq!(paths(&of(&["sso[one].domains", "sso[two].domains", "sso[two].saml.entityId"]).await), ["saml", "saml"]);
    assert_eq!(paths(&of(&["sso[new].ssoId", "sso[new].saml.idpUrl"]).await), ["settings/new", "saml"]);
    assert_eq!(paths(&of(&["sso[one].authType"]).await), ["settings/authtype"]);
    let one = &of(&["sso[one].saml.idpUrl"]).await[0].1;
    let expected = json!({
        "tenantId": "acme", "ssoId": "one", "domains": ["a.com"], "redirectUrl": "", "settings": { "idpUrl": "u" },
    });
    assert_eq!(one, &expected);
}

#[tokio::test(start_paused = true)]
async fn each_sort_has_its_call_and_what_is_off_stays_off() {
    let item = |rest: Value| {
        let mut item = document(rest);
        item.insert("domains".to_owned(), json!([]));
        json!({ "sso": [item] })
    };
    for (body, changed, expected) in [
        (json!({ "saml": { "idpUrl": "u", "idpMetadataUrl": "" } }), "saml.idpUrl", vec!["saml"]),
        (json!({ "saml": { "idpMetadataUrl": "m", "idpUrl": "of it" } }), "saml.idpMetadataUrl", vec!["saml/metadata"]),
        (
            json!({ "authType": "oidc", "oidc": { "clientId": "c" }, "saml": { "idpUrl": "u" } }),
            "domains",
            vec!["oidc"],
        ),
        (
            json!({ "authType": "saml", "oidc": { "clientId": "c" }, "saml": { "idpUrl": "u" } }),
            "domains",
            vec!["saml"],
        ),
        (json!({ "authType": "none", "saml": { "idpUrl": "u" } }), "saml.idpUrl", vec!["saml", "settings/authtype"]),
        (json!({ "authType": "none", "saml": { "idpUrl": "u" } }), "authType", vec!["settings/authtype"]),
        (json!({ "authType": "saml", "saml": { "idpUrl": "u" } }), "redirectUrl", vec!["saml"]),
    ] {
        let live = item(json!({ "saml": { "idpUrl": "x" } }));
        let sent = sent(item(body.clone()), live, &[&format!("sso[].{changed}")]).await;
        assert_eq!(paths(&sent), expected, "{body} {changed}");
    }
    let roles = json!({ "saml": { "idpUrl": "u", "defaultSSORoles": [] } });
    let sent = sent(item(roles), json!({}), &["sso[].saml.idpUrl"]).await;
    assert_eq!(sent[0].1["settings"]["replaceDefaultSSORoles"], json!(true));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_read_in_the_words_of_requests() {
    let fresh = json!({ "ssoId": "", "tenant": { "authType": "none", "domains": [] }, "oidc": { "clientId": "" },
        "saml": { "spEntityId": "e", "spACSUrl": "u", "attributeMapping": { "name": "name" } } });
    let configured = json!({ "ssoId": "main", "tenant": { "authType": "saml", "domains": ["a.com"] },
        "authenticationOnly": true, "oidc": {},
        "saml": { "idpSSOUrl": "u", "idpEntityId": "e", "idpCertificate": "c", "idpAdditionalCertificates": ["d"],
            "groupsMapping": [{ "role": { "id": "R1", "name": "Reader" }, "groups": ["g"] },
                { "role": { "id": "R1", "name": "Reader" }, "groups": ["h"] }],
            "redirectUrl": "r", "spCertificate": "x" } });
    let script = Script::of([ok(&json!({ "SSOSettings": [fresh, configured] }))]);

    let found = read(&script.client(), Name::new("acme").unwrap()).await.unwrap();

    let expected = json!([{ "ssoId": "main", "domains": ["a.com"], "authType": "saml", "@on": "saml", "redirectUrl": "r", "saml": {
        "idpUrl": "u", "entityId": "e", "idpCert": "c", "idpAdditionalCerts": ["d"], "authenticationOnly": true,
        "roleMappings": [{ "roleName": "Reader", "groups": ["g", "h"] }], "spCertificate": "x" } }]);
    assert_eq!(found["sso"], expected);
    assert_eq!(script.received()[0].line, "GET /v2/mgmt/sso/settings/all?tenantId=acme");
    for wrong in [json!({}), json!({ "SSOSettings": {} }), json!({ "SSOSettings": [{ "saml": [] }] })] {
        let script = Script::of([ok(&wrong)]);
        let found = read(&script.client(), Name::new("acme").unwrap()).await;
        assert!(matches!(found, Err(Error::Undocumented { .. })), "{wrong}: {found:?}");
    }
}

#[test]
fn what_is_off_for_the_tenant_is_off_for_each() {
    for (on, sorts, expected) in [
        ("none", &["saml"][..], vec!["none"]),
        ("", &["saml", "oidc"], vec!["none", "none"]),
        ("oidc", &["saml"], vec!["oidc"]),
        ("oidc", &["saml", "oidc"], vec!["saml", "oidc"]),
    ] {
        let one = |(number, sort): (usize, &&str)| {
            json!({ "ssoId": number.to_string(), "tenant": { "authType": on },
                "saml": { "idpSSOUrl": if *sort == "saml" { "u" } else { "" } },
                "oidc": { "clientId": if *sort == "oidc" { "c" } else { "" } } })
        };
        let list: Vec<Value> = sorts.iter().enumerate().map(one).collect();
        let found = answer::configurations(&document(json!({ "SSOSettings": list }))).unwrap();
        let found: Vec<&str> =
            found.as_array().unwrap().iter().map(|item| item["authType"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{on} {sorts:?}");
    }
}

#[test]
fn what_cannot_work_is_said_before_anything_is_sent() {
    let saml = json!({ "idpUrl": "u", "entityId": "e", "idpCert": "c" });
    let oidc = json!({ "userAttrMapping": {}, "JWKsUrl": "j" });
    for (items, expected) in [
        (json!([{ "saml": saml }, { "ssoId": "b", "oidc": oidc }]), None),
        (json!([{ "ssoId": "b" }]), Some("[b] must have `saml` or `oidc`")),
        (json!([{ "saml": saml, "oidc": oidc }]), Some("[] has `saml` and `oidc`; a configuration is one of them")),
        (json!([{ "oidc": { "JWKsUrl": "j" } }]), Some("[] `oidc` needs `userAttrMapping`, which may be `{}`")),
        (json!([{ "oidc": { "userAttrMapping": {} } }]), Some("[] `oidc` needs `userDataUrl` or `JWKsUrl`")),
        (
            json!([{ "saml": { "entityId": "e" } }]),
            Some("[] `saml` needs `idpMetadataUrl`, or `idpUrl` with `entityId` and `idpCert`"),
        ),
        (
            json!([{ "domains": ["a"], "saml": saml }, { "ssoId": "b", "domains": ["b"], "saml": saml }]),
            Some("`domains` are those of the tenant: each configuration has to name the same"),
        ),
        (json!([{ "domains": ["a"], "saml": saml }, { "ssoId": "b", "saml": saml }]), None),
        (json!([{ "authType": "oidc", "saml": saml }]), Some("[] `authType` is neither `none` nor what is written")),
        (
            json!([{ "authType": "none", "saml": saml }, { "ssoId": "b", "oidc": oidc }]),
            Some("`authType: none` switches off SSO of the tenant: write it for each configuration, or for none"),
        ),
        (json!([{ "authType": "none", "saml": saml }, { "ssoId": "b", "authType": "none", "oidc": oidc }]), None),
    ] {
        let found = check(&document(json!({ "sso": items })));
        assert_eq!(found, expected.into_iter().map(str::to_owned).collect::<Vec<_>>(), "{items}");
    }
}

#[test]
fn what_is_written_is_switched_on_unless_the_files_say_otherwise() {
    let saml = |fields: Value| json!({ "saml": fields });
    for (settings, item, expected) in [
        (json!(null), saml(json!({})), json!({ "authType": "saml", "saml": {} })),
        (json!(null), saml(json!({ "idpUrl": "" })), json!({ "authType": "saml", "saml": { "idpUrl": "" } })),
        (
            json!(null),
            saml(json!({ "idpUrl": "u" })),
            json!({ "authType": "saml", "saml": { "idpUrl": "u", "idpMetadataUrl": "" } }),
        ),
        (
            json!(null),
            saml(json!({ "idpUrl": "u", "idpMetadataUrl": "m" })),
            json!({ "authType": "saml", "saml": { "idpUrl": "u", "idpMetadataUrl": "m" } }),
        ),
        (json!(null), json!({ "oidc": {} }), json!({ "authType": "oidc", "oidc": {} })),
        (json!({ "authType": "none" }), json!({ "oidc": {} }), json!({ "authType": "none", "oidc": {} })),
        (
            json!({ "authType": "none" }),
            json!({ "authType": "oidc", "oidc": {} }),
            json!({ "authType": "oidc", "oidc": {} }),
        ),
    ] {
        let mut declared = document(json!({ "settings": settings, "sso": [item] }));
        complete(&mut declared);

        assert_eq!(declared["sso"], json!([expected]));
    }
}
