//! The parts of a tenant that are read by themselves.

use super::Case;
use super::case;
use serde_json::json;

const TENANT: &str = "
roles:
  - { name: Reader }
  - { name: Owner, tenantId: acme }
tenants:
  - id: acme
    name: Acme
    selfProvisioningDomains: [acme.example]
    settings:
      enabled: true
      refreshTokenExpiration: 4
      refreshTokenExpirationUnit: weeks
      sessionTokenExpiration: 10
      sessionTokenExpirationUnit: minutes
      stepupTokenExpiration: 15
      stepupTokenExpirationUnit: minutes
      enableInactivity: true
      inactivityTime: 30
      inactivityTimeUnit: minutes
      ssoSetupSuiteSettings: { enabled: true, styleId: dark, disabledFeatures: { scim: true } }
    defaultRoles: [Reader]
    passwordSettings: { enabled: true, minLength: 12, number: true, tempLock: true, tempLockAttempts: 3, tempLockDuration: 5,
      anyLetter: true, disallowEmailMatch: false, disallowedCharacters: '<>' }
    sso:
      - ssoId: main
        domains: [acme.example, acme.org]
        redirectUrl: https://acme.example/after
        saml:
          idpUrl: https://idp.acme.example/sso
          entityId: acme
          idpCert: CERT
          attributeMapping: { email: mail, customAttributes: { plan: tier } }
          roleMappings: [{ roleName: Reader, groups: [all, staff] }, { roleName: Owner, groups: [bosses] }]
          defaultSSORoles: [Reader]
          groupsPriority: [bosses, all]
          spEncryptionKey: { env: ACME_KEY_SECRET }
      - ssoId: partners
        domains: [acme.example, acme.org]
        saml: { idpMetadataUrl: 'https://idp.partner.example/metadata' }
      - ssoId: staff
        domains: [acme.example, acme.org]
        oidc:
          name: Staff
          clientId: c1
          clientSecret: { env: ACME_OIDC_SECRET }
          authUrl: https://staff.example/a
          tokenUrl: https://staff.example/t
          userDataUrl: https://staff.example/u
          scope: [openid, email]
          userAttrMapping: { loginId: sub }
          usePkce: true
          authenticationOnly: true
";

pub fn cases() -> Vec<Case> {
    vec![
        Case {
            undeclared: json!({ "JITDisabled": true, "ssoSetupSuiteSettings": { "disabledFeatures": { "oidc": true } } }),
            ..case(
                "tenant_settings",
                "tenantSettings/acme",
                &[("a.yaml", TENANT)],
                vec![
                    json!({ "enabled": false }),
                    json!({ "refreshTokenExpiration": 3 }),
                    json!({ "refreshTokenExpirationUnit": "days" }),
                    json!({ "sessionTokenExpiration": 5 }),
                    json!({ "sessionTokenExpirationUnit": "seconds" }),
                    json!({ "stepupTokenExpiration": 0 }),
                    json!({ "stepupTokenExpirationUnit": "" }),
                    json!({ "enableInactivity": false }),
                    json!({ "inactivityTime": 5 }),
                    json!({ "inactivityTimeUnit": "days" }),
                    json!({ "ssoSetupSuiteSettings": { "styleId": "light" } }),
                    json!({ "ssoSetupSuiteSettings": { "disabledFeatures": { "scim": false } } }),
                ],
            )
        },
        Case {
            undeclared: json!({ "lowercase": true, "reuse": true, "reuseAmount": 7, "passwordStrengthScore": 2 }),
            ..case(
                "tenant_passwords",
                "passwordSettings/acme",
                &[("a.yaml", TENANT)],
                vec![
                    json!({ "enabled": false }),
                    json!({ "minLength": 8 }),
                    json!({ "number": false }),
                    json!({ "tempLock": false }),
                    json!({ "tempLockAttempts": 9 }),
                ],
            )
        },
        Case {
            undeclared: json!({ "saml": { "spEntityId": "migrated", "disableSignRequest": true, "subjectNameIdFormat": "f" } }),
            ..case(
                "tenant_sso_saml",
                "sso/main",
                &[("a.yaml", TENANT)],
                vec![
                    json!({ "saml": { "idpUrl": "x" } }),
                    json!({ "saml": { "entityId": "x" } }),
                    json!({ "saml": { "idpCert": "" } }),
                    json!({ "saml": { "redirectUrl": "" } }),
                    json!({ "saml": { "attributeMapping": { "email": "other" } } }),
                    json!({ "saml": { "attributeMapping": { "customAttributes": { "plan": "x" } } } }),
                    json!({ "saml": { "roleMappings": [] } }),
                    json!({ "saml": { "defaultSSORoles": [] } }),
                    json!({ "saml": { "groupsPriority": ["all", "bosses"] } }),
                ],
            )
        },
        case(
            "tenant_sso_metadata",
            "sso/partners",
            &[("a.yaml", TENANT)],
            vec![json!({ "saml": { "idpMetadataUrl": "x" } })],
        ),
        Case {
            undeclared: json!({ "oidc": { "issuer": "i", "manageProviderTokens": true, "JWKsUrl": "j" } }),
            ..case(
                "tenant_sso_oidc",
                "sso/staff",
                &[("a.yaml", TENANT)],
                vec![
                    json!({ "oidc": { "name": "x" } }),
                    json!({ "oidc": { "clientId": "x" } }),
                    json!({ "oidc": { "authUrl": "x" } }),
                    json!({ "oidc": { "tokenUrl": "" } }),
                    json!({ "oidc": { "userDataUrl": "" } }),
                    json!({ "oidc": { "scope": ["openid"] } }),
                    json!({ "oidc": { "userAttrMapping": { "loginId": "x" } } }),
                    json!({ "oidc": { "usePkce": false } }),
                    json!({ "authenticationOnly": false }),
                ],
            )
        },
        case(
            "tenant_sso_whole",
            "tenants/acme",
            &[("a.yaml", TENANT)],
            vec![json!({ "domains": ["acme.org"] }), json!({ "authType": "none" })],
        ),
    ]
}
