//! What the contract says of the kinds that are documents: what an overwrite resets, what is shown once or never, what is
//! protected, and the questions that are switches.

use crate::harness::PROJECT;
use crate::harness::World;
use crate::harness::fixture;
use serde_json::Value;
use serde_json::json;

async fn with_fixture() -> World {
    let world = World::new().await;
    world.set_state(&fixture()).await;
    world
}

/// The entity of a kind in the state whose id or name this is.
async fn stored(world: &World, kind: &str, key: &str) -> Value {
    let state = world.state().await;
    let all = state[kind].as_array().unwrap();
    all.iter().find(|one| one["id"] == key || one["name"] == key).cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn a_new_project_has_its_stock_and_nothing_else() {
    let world = World::new().await;

    let flows = world.post("flow/list", json!({})).await.ok();
    let apps = world.get("/v1/mgmt/sso/idp/apps/load").await.ok();
    let theme = world.send("POST", "/v2/mgmt/theme/export", Value::Null).await.ok();

    let ids: Vec<_> = flows["flows"].as_array().unwrap().iter().map(|flow| flow["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &flows["total"]), (vec!["sign-up-or-in", "sign-up", "sign-in", "step-up"], &json!(4)));
    assert_eq!(apps["apps"].as_array().unwrap().len(), 1);
    assert!(apps["apps"][0]["id"].as_str().unwrap().starts_with("descope-default"));
    assert_eq!(theme["theme"]["styles"], json!({ "light": {}, "dark": {} }));
    assert_eq!(world.get("/v1/mgmt/list/all").await.ok(), json!({ "lists": [] }));
    assert_eq!(world.get("/v1/mgmt/fga/schema").await.ok()["dsl"], "");
}

#[tokio::test]
async fn secrets_are_shown_once_or_never_and_not_in_the_log() {
    let world = World::new().await;
    let key = world.post("accesskey/create", json!({ "name": "ci" })).await.ok();
    let partner = world.post("thirdparty/app/create", json!({ "name": "Partner" })).await.ok();
    let outbound = json!({ "id": "google", "name": "Google", "clientSecret": "SENTINEL" });
    world.post("outbound/app/create", outbound).await.ok();
    world
        .post("sso/idp/app/oidc/create", json!({ "id": "portal", "name": "Portal", "clientSecret": "SENTINEL" }))
        .await
        .ok();
    world.post("tenant/create", json!({ "id": "acme", "name": "Acme" })).await.ok();
    let saml = json!({ "idpUrl": "u", "entityId": "e", "idpCert": "c", "spSignKey": "SENTINEL", "spEncryptionKey": "SENTINEL" });
    world.post("sso/saml", json!({ "tenantId": "acme", "settings": saml })).await.ok();
    let oidc = json!({ "name": "n", "clientId": "c", "clientSecret": "SENTINEL" });
    world.post("sso/oidc", json!({ "tenantId": "acme", "settings": oidc })).await.ok();

    let cleartext = key["cleartext"].as_str().unwrap();
    let secret = partner["cleartext"].as_str().unwrap();
    let id = partner["id"].as_str().unwrap();
    let mut seen = String::new();
    for path in [
        "outbound/apps",
        "outbound/app/google",
        "sso/idp/apps/load",
        "thirdparty/apps/load",
        &format!("thirdparty/app/load?id={id}"),
        &format!("accesskey?id={}", key["key"]["id"].as_str().unwrap()),
    ] {
        seen += &world.get(&format!("/v1/mgmt/{path}")).await.ok().to_string();
    }
    seen += &world.get("/v2/mgmt/sso/settings?tenantId=acme").await.ok().to_string();
    seen += &json!(world.log().await).to_string();
    for hidden in ["SENTINEL", cleartext, secret] {
        assert!(!seen.contains(hidden), "{hidden} in {seen}");
    }
    // The state is for tests, which ask whether what was sent arrived.
    assert_eq!(stored(&world, "outboundApps", "google").await["clientSecret"], "SENTINEL");
    assert_eq!(world.get(&format!("/v1/mgmt/thirdparty/app/secret?id={id}")).await.ok()["cleartext"], secret);
}

#[tokio::test]
async fn an_update_of_an_access_key_keeps_what_it_leaves_out_and_empty_lists_clear() {
    let world = with_fixture().await;
    let update = async |body: Value| world.post("accesskey/update", body).await;

    let kept = update(json!({ "id": "K2key", "name": "renamed" })).await.ok();
    assert_eq!((&kept["key"]["roleNames"], &kept["key"]["name"]), (&json!(["Editor"]), &json!("renamed")));
    assert_eq!(kept["key"]["keyTenants"][0]["tenantName"], "Acme Corp");
    let cleared =
        update(json!({ "id": "K2key", "name": "ci", "roleNames": [], "keyTenants": [], "permittedIps": [] })).await;
    let cleared = cleared.ok()["key"].clone();
    assert_eq!(
        (&cleared["roleNames"], &cleared["keyTenants"], &cleared["permittedIps"]),
        (&json!([]), &json!([]), &json!([]))
    );
    for refused in
        [json!({ "expireTime": 7 }), json!({ "roleNames": ["nobody"] }), json!({ "keyTenants": [{ "tenantId": "x" }] })]
    {
        let mut body = json!({ "id": "K2key", "name": "ci" });
        body.as_object_mut().unwrap().extend(refused.as_object().unwrap().clone());
        assert_eq!(update(body).await.status, 400, "{refused}");
    }
    world.post("accesskey/deactivate", json!({ "id": "K2key" })).await.ok();
    world.post("accesskey/activate/batch", json!({ "ids": ["K2a"] })).await.ok();
    assert_eq!(stored(&world, "accessKeys", "K2key").await["status"], "inactive");
    assert_eq!(stored(&world, "accessKeys", "K2a").await["status"], "active");
    world.switch(json!({ "emptyKeyRoles": true })).await;
    world.post("accesskey/update", json!({ "id": "K2a", "name": "ci", "roleNames": ["Editor"] })).await.ok();
    assert_eq!(world.get("/v1/mgmt/accesskey?id=K2a").await.ok()["key"]["roleNames"], json!([]));
}

#[tokio::test]
async fn roles_that_are_renamed_or_deleted_are_followed_by_whatever_names_them() {
    let world = with_fixture().await;
    world.switch(json!({ "deleteUsed": "error" })).await;
    assert_eq!(world.post("role/delete", json!({ "name": "Owner", "tenantId": "acme" })).await.status, 400);
    world.switch(json!({ "deleteUsed": "unlink" })).await;

    world.post("role/update", json!({ "name": "Editor", "newName": "Author" })).await.ok();
    assert_eq!(stored(&world, "accessKeys", "K2key").await["roleNames"], json!(["Author"]));
    assert_eq!(stored(&world, "ssoApplications", "wiki").await["groupsMapping"][0]["roles"][0]["name"], "Author");
    world.post("role/delete", json!({ "name": "Owner", "tenantId": "acme" })).await.ok();
    world.post("role/delete", json!({ "name": "Member" })).await.ok();

    let sso = &world.state().await["sso"][0]["saml"];
    assert_eq!((&sso["roleMappings"], &sso["defaultSSORoles"]), (&json!([]), &json!([])));
    assert_eq!(stored(&world, "accessKeys", "K2key").await["keyTenants"][0]["roleNames"], json!([]));
    world.switch(json!({ "deleteParent": "orphan" })).await;
    world.post("tenant/delete", json!({ "id": "acme" })).await.ok();
    assert_eq!(stored(&world, "accessKeys", "K2key").await["keyTenants"], json!([]));
    assert_eq!(world.state().await["sso"], json!([]));
}

#[tokio::test]
async fn saml_settings_are_answered_by_other_names_and_default_roles_stay_unless_replaced() {
    let world = with_fixture().await;
    let settings = json!({
        "idpUrl": "https://i", "entityId": "e", "idpCert": "C", "idpAdditionalCerts": ["D"], "authenticationOnly": true,
        "roleMappings": [{ "groups": ["g"], "roleName": "Owner" }], "defaultSSORoles": [], "disableSignRequest": true,
    });
    let request =
        json!({ "tenantId": "acme", "settings": settings, "redirectUrl": "https://r", "domains": ["sso.acme.com"] });
    world.post("sso/saml", request.clone()).await.ok();
    let load = async || world.get("/v2/mgmt/sso/settings?tenantId=acme").await.ok();

    let answer = load().await;
    let saml = &answer["saml"];
    assert_eq!((&saml["idpSSOUrl"], &saml["idpEntityId"]), (&json!("https://i"), &json!("e")));
    assert_eq!((&saml["idpCertificate"], &saml["idpAdditionalCertificates"]), (&json!("C"), &json!(["D"])));
    assert_eq!((&saml["idpMetadataUrl"], &saml["redirectUrl"]), (&json!(""), &json!("https://r")));
    assert_eq!(saml["groupsMapping"][0]["role"]["name"], "Owner");
    assert!(!saml["groupsMapping"][0]["role"]["id"].as_str().unwrap().is_empty());
    assert_eq!(saml["defaultSSORoles"], json!(["Member"]));
    assert_eq!((&answer["authenticationOnly"], &answer["tenant"]["authType"]), (&json!(true), &json!("saml")));
    assert_eq!(answer["tenant"]["domains"], json!(["sso.acme.com"]));

    let mut replacing = request;
    replacing["settings"]["replaceDefaultSSORoles"] = json!(true);
    replacing["settings"].as_object_mut().unwrap().remove("authenticationOnly");
    replacing["settings"].as_object_mut().unwrap().remove("disableSignRequest");
    replacing.as_object_mut().unwrap().remove("domains");
    world.post("sso/saml", replacing).await.ok();
    let answer = load().await;
    assert_eq!(
        (&answer["saml"]["defaultSSORoles"], &answer["saml"]["disableSignRequest"]),
        (&json!([]), &json!(false))
    );
    assert_eq!((&answer["authenticationOnly"], &answer["tenant"]["domains"]), (&json!(true), &json!([])));
}

#[tokio::test]
async fn a_deleted_sso_configuration_comes_back_as_another_one_and_switching_off_keeps_it() {
    let world = with_fixture().await;
    let load = async || world.get("/v2/mgmt/sso/settings?tenantId=acme").await.ok();
    let first = load().await["saml"]["spACSUrl"].clone();

    world.post("sso/settings/authtype", json!({ "tenantId": "acme", "authType": "none" })).await.ok();
    let off = load().await;
    assert_eq!((&off["saml"]["spACSUrl"], &off["saml"]["idpMetadataUrl"]), (&first, &json!("https://idp/md")));
    assert_eq!(off["tenant"]["authType"], "none");
    world.post("sso/redirect", json!({ "tenantId": "acme", "oauthRedirectUrl": "https://o" })).await.ok();
    assert_eq!(load().await["oidc"]["redirectUrl"], "https://o");
    world.send("DELETE", "/v1/mgmt/sso/settings?tenantId=acme", Value::Null).await.ok();
    let gone = load().await;
    assert_ne!(gone["saml"]["spACSUrl"], first);
    assert_eq!((&gone["saml"]["idpMetadataUrl"], &gone["saml"]["groupsMapping"]), (&json!(""), &json!([])));
    let all = world.get("/v2/mgmt/sso/settings/all?tenantId=acme").await.ok();
    assert_eq!(all["SSOSettings"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/v2/mgmt/sso/settings?tenantId=acme&ssoId=nobody").await.status, 400);
}

#[tokio::test]
async fn oidc_settings_keep_what_may_be_left_out_and_can_be_strict() {
    let world = with_fixture().await;
    let put = async |settings: Value| {
        world.post("sso/oidc", json!({ "tenantId": "acme", "settings": settings, "domains": [] })).await
    };
    put(json!({ "name": "A", "clientId": "c", "clientSecret": "S", "usePkce": true, "userAttrMapping": {}, "JWKsUrl": "j" })).await.ok();
    put(json!({ "name": "A", "clientId": "c", "userAttrMapping": {}, "JWKsUrl": "j" })).await.ok();

    let oidc = world.state().await["sso"][0]["oidc"].clone();
    assert_eq!((&oidc["clientSecret"], &oidc["usePkce"]), (&json!("S"), &json!(true)));
    world.switch(json!({ "strictOidc": true })).await;
    assert_eq!(put(json!({ "name": "A", "clientId": "c", "JWKsUrl": "j" })).await.status, 400);
    assert_eq!(put(json!({ "name": "A", "clientId": "c", "userAttrMapping": {} })).await.status, 400);
    put(json!({ "name": "A", "clientId": "c", "userAttrMapping": {}, "userDataUrl": "u" })).await.ok();
}

#[tokio::test]
async fn an_overwrite_of_an_inbound_app_resets_what_it_leaves_out_and_a_patch_does_not() {
    let world = with_fixture().await;
    let load = async || world.get("/v2/mgmt/thirdparty/app/load?id=TP2a").await.ok();

    world.post("thirdparty/app/patch", json!({ "id": "TP2a", "description": "new" })).await.ok();
    let patched = load().await;
    assert_eq!((&patched["clientType"], &patched["forceDpop"]), (&json!("confidential"), &json!(true)));
    world.post("thirdparty/app/update", json!({ "id": "TP2a", "name": "Partner" })).await.ok();
    let reset = load().await;
    assert_eq!(
        (&reset["clientType"], &reset["forceDpop"], &reset["clientId"]),
        (&json!(""), &json!(false), &json!("C2"))
    );
    assert!(!reset["loginPageUrl"].as_str().unwrap().is_empty());
    world.switch(json!({ "emptyLoginPage": true, "inboundPageSize": 2 })).await;
    assert_eq!(load().await["loginPageUrl"], "");
    for name in ["A", "B"] {
        world.send("POST", "/v2/mgmt/thirdparty/app/create", json!({ "name": name })).await.ok();
    }
    let page = async |page: u32| {
        world.send("POST", "/v2/mgmt/thirdparty/apps/load", json!({ "page": page, "limit": 0 })).await.ok()
    };
    let (first, second) = (page(0).await, page(1).await);
    assert_eq!((first["apps"].as_array().unwrap().len(), &first["total"]), (2, &json!(3)));
    assert_eq!(second["apps"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn settings_of_sso_applications_move_inside_and_the_default_one_stays() {
    let world = World::new().await;
    let create = json!({ "id": "portal", "name": "Portal", "enabled": true, "loginPageUrl": "https://l", "clientType": "public" });
    world.post("sso/idp/app/oidc/create", create).await.ok();

    let app = world.get("/v1/mgmt/sso/idp/app/load?id=portal").await.ok();
    assert_eq!((&app["oidcSettings"]["loginPageUrl"], &app["samlSettings"]), (&json!("https://l"), &Value::Null));
    assert!(
        app.get("loginPageUrl").is_none() && !app["oidcSettings"]["clientId"].as_str().unwrap().is_empty(),
        "{app}"
    );
    let default = json!({ "id": "descope-default-oidc" });
    assert_eq!(world.post("sso/idp/app/delete", default.clone()).await.status, 500);
    assert_eq!(world.post("sso/idp/app/saml/update", json!({ "id": "portal", "name": "Portal" })).await.status, 400);
    world.post("sso/idp/app/oidc/update", json!({ "id": "portal", "name": "Portal" })).await.ok();
    let app = world.get("/v1/mgmt/sso/idp/app/load?id=portal").await.ok();
    assert_eq!((&app["enabled"], &app["oidcSettings"]["clientType"]), (&json!(false), &json!("")));
    world.switch(json!({ "freePlan": true, "protectedBuiltIns": false })).await;
    let refused = world.post("sso/idp/app/oidc/create", json!({ "name": "Other" })).await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (403, ""));
    let snapshot = world.post("project/snapshot/export", json!({})).await;
    assert_eq!((snapshot.status.as_u16(), &snapshot.json()["errorCode"]), (403, &json!("E111703")));
    world.post("sso/idp/app/delete", default).await.ok();
}

#[tokio::test]
async fn flows_are_imported_whole_listed_and_protected() {
    let world = World::new().await;
    let import = async |flow: Value| world.send("POST", "/v2/mgmt/flow/import", json!({ "flow": flow })).await;
    import(json!({ "flowId": "mine", "metadata": { "name": " Mine ", "componentsVersion": "9.9" }, "screens": [] }))
        .await
        .ok();
    let export = async || {
        world.send("POST", "/v2/mgmt/flow/export", json!({ "flowId": "mine" })).await.ok()["flow"]["metadata"].clone()
    };

    assert_eq!((&export().await["name"], &export().await["componentsVersion"]), (&json!(" Mine "), &json!("2.0.0")));
    world.switch(json!({ "reformats": true, "componentsRise": true, "flowVersions": true })).await;
    assert_eq!((&export().await["name"], &export().await["componentsVersion"]), (&json!("Mine"), &json!("2.0.1")));
    let item = async || world.post("flow/list", json!({ "ids": ["mine"] })).await.ok()["flows"][0].clone();
    let before = item().await;
    import(json!({ "flowId": "mine", "metadata": { "name": "Mine" } })).await.ok();
    let after = item().await;
    assert!(before["version"] != after["version"] && before["etag"] != after["etag"], "{before} {after}");
    let unknown = import(json!({ "flowId": "mine", "references": { "roles": ["nobody"] } })).await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["errorCode"]), (400, &json!("E113009")));
    assert_eq!(world.post("flow/delete", json!({ "ids": ["mine", "sign-in"] })).await.status, 400);
    assert!(stored(&world, "flows", "mine").await.is_object());
    world.post("flow/delete", json!({ "ids": ["mine"] })).await.ok();
    assert!(stored(&world, "flows", "mine").await.is_null());
}

#[tokio::test]
async fn a_theme_merges_by_style_unless_switched() {
    let world = World::new().await;
    let import = async |styles: Value| {
        world.send("POST", "/v2/mgmt/theme/import", json!({ "theme": { "styles": styles } })).await.ok()
    };
    let styles = async || {
        let theme = world.send("POST", "/v2/mgmt/theme/export", Value::Null).await.ok();
        theme["theme"]["styles"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    import(json!({ "brand-light": { "a": 1 } })).await;
    assert_eq!(styles().await.len(), 3);
    world.switch(json!({ "themeReplaces": true })).await;
    import(json!({ "light": {} })).await;
    assert_eq!(styles().await, ["light"]);
}

#[tokio::test]
async fn a_schema_has_a_version_for_each_text_and_a_dry_run_says_what_goes() {
    let world = with_fixture().await;
    let dsl = "model AuthZ 1.0\n\ntype user\n\ntype doc\n  relation owner: user\n";
    let preview = world.post("fga/schema/dryrun", json!({ "dsl": dsl })).await.ok();
    assert_eq!(preview["deletesPreview"], json!({ "hasDeletes": true, "relations": ["old#viewer"], "types": ["old"] }));
    let version = async || world.get("/v1/mgmt/fga/schema").await.ok()["version"].clone();

    world.post("fga/schema", json!({ "dsl": dsl })).await.ok();
    let first = version().await;
    world.post("fga/schema", json!({ "dsl": dsl })).await.ok();
    assert_eq!(version().await, first);
    assert_eq!(
        world.post("fga/schema/dryrun", json!({ "dsl": dsl })).await.ok()["deletesPreview"]["hasDeletes"],
        false
    );
    assert_eq!(world.post("fga/schema", json!({ "dsl": "" })).await.status, 400);
    assert_eq!(world.post("fga/schema", json!({ "dsl": "model AuthZ 1.0\nnonsense" })).await.status, 400);
    world.switch(json!({ "reformats": true })).await;
    assert!(!world.get("/v1/mgmt/fga/schema").await.ok()["dsl"].as_str().unwrap().contains("\n\n"));
    world.post("authz/schema/delete", Value::Null).await.ok();
    assert_eq!(world.get("/v1/mgmt/fga/schema").await.ok()["dsl"], "");
}

#[tokio::test]
async fn lists_of_each_type_are_edited_imported_and_checked() {
    let world = with_fixture().await;
    world.post("list/ip/add", json!({ "id": "L2a", "ips": ["1.1.1.1", "2.2.2.2"] })).await.ok();
    world.post("list/ip/remove", json!({ "id": "L2a", "ips": ["10.0.0.1", "9.9.9.9"] })).await.ok();
    assert_eq!(stored(&world, "lists", "L2a").await["data"], json!(["1.1.1.1", "2.2.2.2"]));
    assert_eq!(world.post("list/ip/check", json!({ "id": "L2a", "ip": "2.2.2.2" })).await.ok()["exists"], true);
    world.post("list/clear", json!({ "id": "L2b" })).await.ok();
    assert_eq!(world.get("/v1/mgmt/list/L2b").await.ok()["list"]["data"], json!({}));
    let import = json!({ "lists": [{ "id": "L2new", "name": "a b/ä", "type": "texts", "data": ["x"] }] });
    world.post("list/import", import).await.ok();
    let named = world.get("/v1/mgmt/list/name/a%20b%2F%C3%A4").await.ok();
    assert_eq!(named["list"]["id"], "L2new");
    assert_eq!(world.get("/v1/mgmt/list/nobody").await.status, 400);
    assert_eq!(world.post("list", json!({ "name": "office", "type": "ips" })).await.status, 400);
    assert_eq!(world.post("list", json!({ "name": "bad", "type": "json", "data": ["x"] })).await.status, 400);
    world.switch(json!({ "listQueryForm": false })).await;
    assert_eq!(world.get("/v1/mgmt/list?id=L2a").await.status, 404);
}

#[tokio::test]
async fn attributes_speak_two_dialects_and_their_type_stays() {
    let world = with_fixture().await;
    let put = json!({ "name": "tier", "type": "singleselect", "displayName": "Tier", "options": ["gold", "silver"] });
    world.post("user/attribute", put).await.ok();
    world.post("user/attribute", json!({ "name": "tier", "displayName": "Level", "options": null })).await.ok();

    let one = world.get("/v1/mgmt/user/attribute?name=tier").await.ok();
    assert_eq!((&one["type"], &one["options"]), (&json!("singleselect"), &json!(["gold", "silver"])));
    let all = world.get("/v1/mgmt/user/customattributes").await.ok();
    assert_eq!((&all["total"], &all["data"][1]["type"]), (&json!("2"), &json!(4)));
    assert_eq!(all["data"][1]["options"][0], json!({ "label": "gold", "value": "gold" }));
    assert_eq!(world.post("user/attribute", json!({ "name": "tier", "type": "string" })).await.status, 400);
    let refused = json!({ "name": "plan", "type": "string", "editPermissions": ["x"] });
    assert_eq!(world.post("tenant/attribute", refused).await.status, 400);
    world.send("DELETE", "/v1/mgmt/tenant/attribute?name=nobody", Value::Null).await.ok();
    world.send("DELETE", "/v1/mgmt/accesskey/attribute?name=team", Value::Null).await.ok();
    assert_eq!(world.get("/v1/mgmt/accesskey/attribute?name=team").await.status, 400);
}

#[tokio::test]
async fn password_settings_are_overwritten_whole_and_hide_three_fields() {
    let world = with_fixture().await;
    let all = json!({ "enabled": true, "minLength": 9, "tempLock": true, "tempLockAttempts": 3, "anyLetter": true });
    world.post("password/settings", all).await.ok();
    let read = async |path: &str| world.get(path).await.ok();
    let v1 = read("/v1/mgmt/password/settings?tenantId=").await;
    assert_eq!((&v1["tempLockAttempts"], v1.get("anyLetter")), (&json!(3), None));
    assert_eq!(read("/v2/mgmt/password/settings").await["anyLetter"], true);
    assert_eq!(read("/v1/mgmt/password/settings?tenantId=acme").await["minLength"], 9);

    world.switch(json!({ "passwordKeepsNewer": true, "passwordAnswersAll": true })).await;
    world.post("password/settings", json!({ "enabled": true, "minLength": 10 })).await.ok();
    assert_eq!(read("/v1/mgmt/password/settings?tenantId=").await["anyLetter"], true);
    world.switch(json!({ "passwordKeepsNewer": false, "passwordV2": false })).await;
    world.post("password/settings", json!({ "tenantId": "acme", "minLength": 12 })).await.ok();
    world.post("password/settings", json!({ "enabled": true, "minLength": 10 })).await.ok();
    assert_eq!(read("/v1/mgmt/password/settings?tenantId=").await["tempLock"], false);
    assert_eq!(read("/v1/mgmt/password/settings?tenantId=acme").await["minLength"], 12);
    assert_eq!(world.get("/v2/mgmt/password/settings").await.status, 404);
}

#[tokio::test]
async fn session_tokens_can_be_checked() {
    let world = with_fixture().await;
    let set = async |session: u32, unit: &str| {
        let body = json!({
            "tenantId": "acme", "enabled": true, "sessionTokenExpiration": session, "sessionTokenExpirationUnit": unit,
            "refreshTokenExpiration": 1, "refreshTokenExpirationUnit": "hours",
        });
        world.post("tenant/settings", body).await.status.as_u16()
    };
    assert_eq!(set(2, "minutes").await, 200);
    world.switch(json!({ "checksSessionTokens": true })).await;
    assert_eq!((set(2, "minutes").await, set(2, "hours").await, set(3, "minutes").await), (400, 400, 200));
}

#[tokio::test]
async fn templates_are_validated_and_names_are_taken_once() {
    let world = with_fixture().await;
    let bad = json!({ "a": "{{b" });

    let answer = world.post("jwt/templates/validate", json!({ "template": bad })).await.ok();
    assert_eq!((&answer["valid"], &answer["issues"][0]["field"]), (&json!(false), &json!("template.a")));
    let create = async |name: &str, template: &Value| {
        let body = json!({ "template": { "name": name, "template": template, "type": "key" } });
        world.post("jwt/templates/create", body).await.status.as_u16()
    };
    assert_eq!(
        (create("New", &bad).await, create("Default", &json!({})).await, create("New", &json!({})).await),
        (400, 400, 200)
    );
}

#[tokio::test]
async fn mappings_come_back_in_order_whatever_is_shuffled() {
    let world = World::new().await;
    let mappings: Vec<Value> =
        (0..9).map(|i| json!({ "scope": format!("s{i}"), "claims": {}, "description": "" })).collect();
    world.post("scopeClaimMapping/set", json!({ "mappings": mappings })).await.ok();
    world.switch(json!({ "shuffledElements": true, "listOrder": "shuffled" })).await;

    assert_eq!(world.post("scopeClaimMapping/get", json!({})).await.ok()["mappings"], json!(mappings));
    world.post("scopeClaimMapping/delete", Value::Null).await.ok();
    assert_eq!(world.post("scopeClaimMapping/get", json!({})).await.ok()["mappings"], json!([]));
}

#[tokio::test]
async fn the_project_and_its_audit_trail_can_be_read() {
    let world = with_fixture().await;
    world.post("project/update/name", json!({ "name": "Live" })).await.ok();
    world.post("project/update/tags", json!({ "tags": ["a", "b"] })).await.ok();
    let project = &world.post("projects/list", json!({})).await.ok()["projects"][0];
    assert_eq!(
        (&project["id"], &project["name"], &project["tags"]),
        (&json!(PROJECT), &json!("Live"), &json!(["a", "b"]))
    );
    assert_eq!(world.post("project/delete", json!({})).await.json()["errorCode"], "E073008");

    let event = json!({ "action": "applied", "type": "info", "actorId": "gitops", "tenantId": "acme" });
    world.post("audit/event", event).await.ok();
    let found = async |body: Value| world.post("audit/search", body).await.ok()["total"].clone();
    // What was done to the project itself is told, too.
    assert_eq!(found(json!({})).await, 4);
    assert_eq!(found(json!({ "actions": ["applied"], "tenants": ["acme"] })).await, 1);
    assert_eq!(found(json!({ "noTenants": true })).await, 2);
    assert_eq!(found(json!({ "excludedActions": ["applied"], "text": "tenantcreated" })).await, 1);
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name_in_every_kind() {
    let world = with_fixture().await;
    let table = [
        ("list", json!({ "name": "n", "type": "ips", "colour": 1 })),
        ("accesskey/create", json!({ "name": "n", "colour": 1 })),
        ("outbound/app/update", json!({ "app": { "id": "google", "name": "Google", "colour": 1 } })),
        ("jwt/templates/create", json!({ "template": { "name": "n", "colour": 1 } })),
        ("sso/saml", json!({ "tenantId": "acme", "settings": { "colour": 1 } })),
        ("sso/idp/app/oidc/create", json!({ "name": "n", "colour": 1 })),
        ("thirdparty/app/patch", json!({ "id": "TP2a", "colour": 1 })),
        ("password/settings", json!({ "colour": 1 })),
        ("tenant/settings", json!({ "tenantId": "acme", "colour": 1 })),
        ("tenant/settings", json!({ "tenantId": "acme", "ssoSetupSuiteSettings": { "colour": 1 } })),
        ("user/customattribute/create", json!({ "attributes": [{ "name": "n", "colour": 1 }] })),
        ("fga/schema", json!({ "dsl": "model AuthZ 1.0", "colour": 1 })),
    ];
    let before = world.state().await;
    for (call, body) in &table {
        let answer = world.post(call, body.clone()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["errorCode"]), (400, &json!("E011003")), "{call}");
        assert!(answer.json()["errorMessage"].as_str().unwrap().contains("\"colour\""), "{call}: {}", answer.text);
    }
    assert_eq!(world.state().await, before);
    world.switch(json!({ "unknownFields": "ignore" })).await;
    for (call, body) in table {
        world.post(call, body).await.ok();
    }
}
