//! A simulator on a free port and a client that says what it was answered.

use descope_gitops::simulator::Options;
use descope_gitops::simulator::Running;
use descope_gitops::simulator::Simulator;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// The project of every recorded request.
pub const PROJECT: &str = "P2abcdefghijklmnopqrstuvwxy1";
const BEARER: &str = "Bearer P2abcdefghijklmnopqrstuvwxy1:K2secret";

/// One simulator with one client.
pub struct World {
    pub client: reqwest::Client,
    pub running: Running,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The body of a success.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        // The first test installs it for the process; the others find it there.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build()
            .unwrap();
        Self { client, running: Simulator::start(options).await.unwrap() }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.running.url())
    }

    /// A request with the recorded key; `Value::Null` sends no body.
    pub fn request(&self, method: &str, path: &str, body: &Value) -> reqwest::RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.client.request(method, self.url(path)).header("authorization", BEARER);
        if body.is_null() {
            return request;
        }
        request.header("content-type", "application/json").body(body.to_string())
    }

    pub async fn try_send(&self, method: &str, path: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let response = self.request(method, path, body).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        self.try_send(method, path, &body).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", &format!("/v1/mgmt/{path}"), body).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Value::Null).await
    }

    /// A call of the simulator's own that must succeed.
    pub async fn put(&self, path: &str, body: Value) -> Value {
        let body = body.to_string();
        let response = self.client.put(self.url(&format!("/_sim/{path}"))).body(body).send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn switch(&self, switches: Value) {
        self.put("options", switches).await;
    }

    pub async fn faults(&self, rules: Value) {
        self.put("faults", rules).await;
    }

    pub async fn set_state(&self, state: &Value) {
        self.put(&format!("state?project={PROJECT}"), state.clone()).await;
    }

    pub async fn state(&self) -> Value {
        self.get(&format!("/_sim/state?project={PROJECT}")).await.ok()
    }

    pub async fn log(&self) -> Vec<Value> {
        self.get("/_sim/log").await.ok().as_array().unwrap().clone()
    }

    pub async fn stats(&self) -> Value {
        self.get("/_sim/stats").await.ok()
    }

    /// Names of the project's and all tenants' roles, in order.
    pub async fn role_names(&self) -> Vec<String> {
        names(&self.state().await["roles"])
    }
}

/// The names in a list of entities.
pub fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// A project in which every recorded request can succeed once the entities that it creates are taken away.
pub fn fixture() -> Value {
    json!({
        "permissions": [
            { "id": "PERM2aaa", "name": "first" }, { "id": "PERM2bbb", "name": "second", "description": "2" },
            { "name": "doc:read", "description": "Read" }, { "name": "doc:write" }, { "name": "doc:delete" },
            { "name": "doc:list" }, { "name": "a" }, { "name": "c" }, { "name": "p" }, { "name": "x" },
        ],
        "roles": [
            { "name": "Tenant Admin" }, { "name": "Member" }, { "name": "Viewer", "description": "sees" },
            { "name": "Editor", "description": "old", "permissionNames": ["doc:write"], "default": true, "private": true },
            { "name": "A", "permissionNames": ["doc:read"] }, { "name": "B" },
            { "id": "ROL2aaa", "name": "r1" }, { "id": "ROL2bbb", "name": "r2", "private": true }, { "id": "ROL2a", "name": "r3" },
            { "name": "Owner", "tenantId": "acme" }, { "name": "B", "tenantId": "acme" },
        ],
        "tenants": [
            { "id": "acme", "name": "Acme Corp", "disabled": true, "selfProvisioningDomains": ["acme.com"],
              "customAttributes": { "plan": "gold", "seats": 1 }, "federatedAppIds": ["app0"], "defaultRoles": ["Editor"],
              "roleInheritance": "none" },
            { "id": "globex", "name": "Globex", "enforceSSO": true, "parent": "acme" },
        ],
        "userAttributes": [
            { "name": "plan", "type": 4, "displayName": "Plan", "options": [{ "value": "gold", "label": "Gold" }],
              "viewPermissions": ["User Admin"] },
        ],
        "tenantAttributes": [{ "name": "plan", "type": 1, "displayName": "Plan" }],
        "accessKeyAttributes": [{ "name": "team", "type": 1, "displayName": "Team" }],
        "ssoApplicationAttributes": [
            { "name": "plan", "type": 4, "options": [{ "value": "gold", "label": "Gold" }] },
        ],
        "lists": [
            { "id": "L2a", "name": "office", "type": "ips", "data": ["10.0.0.1", "1.1.1.1"] },
            { "id": "L2b", "name": "cfg", "type": "json", "data": { "key": "value" } },
        ],
        "jwtTemplates": [
            { "id": "J2a", "name": "Default", "type": "user", "template": { "a": "{{b}}" }, "tags": ["y"] },
        ],
        "ssoApplications": [
            { "id": "portal", "name": "Portal", "appType": "oidc", "enabled": true, "clientSecret": "S3CRET", "logo": "l" },
            { "id": "wiki", "name": "Wiki", "appType": "saml", "useMetadataInfo": true, "metadataUrl": "https://w/md",
              "attributeMapping": [{ "name": "email", "type": "", "value": "v" }],
              "groupsMapping": [{ "name": "g", "type": "", "filterType": "roles", "value": "",
                "roles": [{ "id": "ROL2aaa", "name": "Editor" }] }] },
            { "id": "sp", "name": "SP", "appType": "wsfed", "realm": "urn:sp" },
        ],
        "sso": [
            { "tenantId": "acme", "saml": { "idpMetadataUrl": "https://idp/md", "defaultSSORoles": ["Member"],
              "roleMappings": [{ "groups": ["admins"], "roleName": "Owner" }] } },
            { "tenantId": "acme", "id": "okta", "displayName": "Okta" },
        ],
        "inboundApps": [
            { "id": "TP2a", "name": "Partner", "clientId": "C2", "clientSecret": "S3CRET", "clientType": "confidential",
              "forceDpop": true, "loginPageUrl": "https://l", "approvedCallbackUrls": ["https://p/cb"],
              "permissionsScopes": [{ "name": "read", "description": "r", "values": ["doc:read"] }],
              "attributesScopes": [{ "name": "profile", "description": "p", "values": ["email"] }],
              "scopeClaimMapping": [{ "scope": "s", "claims": {}, "description": "", "useProjectMapping": false, "mandatory": false }] },
        ],
        "outboundApps": [
            { "id": "google", "name": "Google", "clientSecret": "S3CRET", "pkce": true,
              "authorizationUrlParams": [{ "key": "a", "value": "b" }] },
        ],
        "accessKeys": [
            { "id": "K2key", "name": "ci", "roleNames": ["Editor"], "permittedIps": ["10.0.0.9"], "status": "active",
              "keyTenants": [{ "tenantId": "acme", "roleNames": ["Owner"] }], "cleartext": "S3CRET" },
            { "id": "K2abcdefghijklmnopqrstuvwxy1", "name": "ci", "roleNames": ["Editor"], "status": "active",
              "keyTenants": [{ "tenantId": "acme", "roleNames": ["Owner"] }] },
            { "id": "K2a", "name": "ci", "description": "old", "status": "inactive" },
        ],
        "scopeClaimMapping": [{ "mappings": [{ "scope": "email", "claims": { "email": "{{user.email}}" } }] }],
        "flows": [
            { "id": "sign-up-or-in", "name": "sign-up-or-in" }, { "id": "sign-in", "name": "sign-in" },
            { "id": "old-flow", "name": "old-flow" },
        ],
        "fgaSchema": [{ "dsl": "model AuthZ 1.0\n\ntype user\n\ntype old\n  relation viewer: user\n", "version": "v1" }],
        "audit": [
            { "action": "TenantCreated", "type": "info", "actorId": "K2x", "tenants": ["acme"], "occurred": 1_767_225_600_000_u64 },
        ],
        "project": [{ "name": "Prod", "tags": ["eu"] }],
    })
}
