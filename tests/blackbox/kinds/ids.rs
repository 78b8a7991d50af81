//! What Descope knows by ids of its own or shows by name alone, and the project itself.

use super::Case;
use super::case;
use serde_json::json;

const ACCESS_KEYS: &str = "
roles:
  - { name: Reader }
  - { name: Owner, tenantId: acme }
tenants:
  - { id: acme, name: Acme }
accessKeys:
  - { name: stays, secretFile: stays.key, roleNames: [Reader] }
  - name: export
    secretFile: export.key
    description: d
    expireTime: 4102444800
    userId: U2bound
    roleNames: [Reader]
    permittedIps: [10.0.0.1, 10.1.0.0/16]
    customClaims: { job: export, nested: { a: 1 } }
    customAttributes: { team: ops }
    status: inactive
  - name: upload
    secretFile: upload.key
    keyTenants: [{ tenantId: acme, roleNames: [Owner, Reader] }]
    status: active
";

const INBOUND: &str = "
inboundApps:
  - { name: stays, secretFile: stays.secret }
  - name: Partner
    secretFile: partner.secret
    description: d
    logo: https://partner.example/logo
    loginPageUrl: https://portal.example/consent
    approvedCallbackUrls: ['https://partner.example/cb', 'https://partner.example/cb2']
    permissionsScopes: [{ name: read, description: r, values: [doc.read], optional: true }]
    scopeClaimMapping: [{ scope: profile, description: d, claims: { name: '{{user.name}}' }, mandatory: true }]
    jwtBearerSettings: { issuers: {} }
    customAttributes: { team: ops }
    forcePkce: true
    defaultAudience: clientId
    clientType: public
    forceDpop: true
";

const TENANT_ATTRIBUTES: &str = "
tenantAttributes:
  - { name: stays, type: string }
  - { name: plan, type: singleselect, displayName: Plan, options: [free, pro], viewPermissions: [User Admin] }
";

const KEY_ATTRIBUTES: &str = "
accessKeyAttributes:
  - { name: stays, type: string }
  - { name: team, type: multiselect, displayName: Team, options: [a, b], editPermissions: [User Admin] }
";

const THE_PROJECT: &str = "
project: { name: Production, tags: [eu, prod] }
";

pub fn cases() -> Vec<Case> {
    vec![
        Case {
            undeclared: json!({ "customClaims": { "job": "export", "nested": { "a": 1 }, "mine": [1, { "b": 2 }] },
                "customAttributes": { "team": "ops", "mine": "x" } }),
            without: Some(
                "roles: [{ name: Reader }, { name: Owner, tenantId: acme }]\ntenants: [{ id: acme, name: Acme }]\n\
                 accessKeys: [{ name: stays, secretFile: stays.key, roleNames: [Reader] }]",
            ),
            ..case(
                "access_keys",
                "accessKeys/export",
                &[("a.yaml", ACCESS_KEYS)],
                vec![
                    json!({ "name": "x" }),
                    json!({ "description": "" }),
                    json!({ "roleNames": [] }),
                    json!({ "permittedIps": ["10.0.0.1"] }),
                    json!({ "customClaims": { "job": "x", "nested": { "a": 1 }, "mine": [1, { "b": 2 }] } }),
                    json!({ "customAttributes": { "team": "x" } }),
                    json!({ "status": "active" }),
                ],
            )
        },
        case(
            "access_keys_of_tenants",
            "accessKeys/upload",
            &[("a.yaml", ACCESS_KEYS)],
            vec![
                json!({ "keyTenants": [] }),
                json!({ "keyTenants": [{ "tenantId": "acme", "roleNames": ["Reader"] }] }),
                json!({ "status": "inactive" }),
            ],
        ),
        Case {
            undeclared: json!({ "customAttributes": { "team": "ops", "mine": "x" }, "audienceWhitelist": ["a"],
                "sessionSettings": { "enabled": true, "userTemplateId": "t" } }),
            without: Some("inboundApps: [{ name: stays, secretFile: stays.secret }]"),
            ..case(
                "inbound_apps",
                "inboundApps/Partner",
                &[("a.yaml", INBOUND)],
                vec![
                    json!({ "name": "x" }),
                    json!({ "description": "" }),
                    json!({ "logo": "x" }),
                    json!({ "loginPageUrl": "" }),
                    json!({ "approvedCallbackUrls": ["https://partner.example/cb"] }),
                    json!({ "permissionsScopes": [] }),
                    json!({ "scopeClaimMapping": [] }),
                    json!({ "customAttributes": { "team": "x", "mine": "x" } }),
                    json!({ "forcePkce": false }),
                    json!({ "defaultAudience": "" }),
                    json!({ "clientType": "" }),
                    json!({ "forceDpop": false }),
                ],
            )
        },
        Case {
            undeclared: json!({ "editPermissions": [] }),
            without: Some("tenantAttributes: [{ name: stays, type: string }]"),
            ..case(
                "tenant_attributes",
                "tenantAttributes/plan",
                &[("a.yaml", TENANT_ATTRIBUTES)],
                vec![
                    json!({ "displayName": "x" }),
                    json!({ "viewPermissions": [] }),
                    json!({ "options": [{ "value": "free", "label": "free" }] }),
                ],
            )
        },
        Case {
            undeclared: json!({ "viewPermissions": ["User Admin"] }),
            without: Some("accessKeyAttributes: [{ name: stays, type: string }]"),
            ..case(
                "access_key_attributes",
                "accessKeyAttributes/team",
                &[("a.yaml", KEY_ATTRIBUTES)],
                vec![
                    json!({ "displayName": "x" }),
                    json!({ "editPermissions": [] }),
                    json!({ "options": [{ "value": "a", "label": "a" }] }),
                ],
            )
        },
        Case {
            undeclared: json!({ "environment": "production" }),
            ..case(
                "project",
                "project/",
                &[("a.yaml", THE_PROJECT)],
                vec![json!({ "name": "x" }), json!({ "tags": ["eu"] })],
            )
        },
    ]
}
