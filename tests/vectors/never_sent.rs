//! What the daemon never sends, and why.

const ONE: &str = "everything is observed by the list of all, which tells absent from broken";
const SSO_LINK: &str = "links for tenant admins are handed out by people";
const ONE_ITEM: &str = "one item takes the single endpoint";
const BY_ID: &str = "roles and permissions are addressed by name: a server id says nothing to a reader of the YAML";
const V1: &str = "documents of v1 and v2 are not interchangeable: only v2 is spoken";
const RELATIONS: &str = "relations are data of the project, and no configuration";
const OLDER: &str = "an older form of the schema, of which only the delete is needed";
const LIBRARY: &str = "a template of the library becomes one of the repo by hand";
const NEW_ACS: &str = "a configuration is never deleted: a new one has another ACS URL, and no secret";
const WITH_THE_REST: &str = "the redirect URL is written with the configuration that it belongs to";
const WHOLE_DATA: &str = "the data of a list is compared and written as a whole";
const IMPORT: &str = "what an import does to the lists that it does not name, no source tells";
const NO_ROTATION: &str = "a new secret for an old key is nobody's state: who wants one does it";
const NO_COPIES: &str = "projects are not made here";
const NO_SNAPSHOTS: &str = "a snapshot overwrites what nobody declared";

/// Families of which nothing is managed.
pub const FAMILIES: [&str; 5] = ["audit", "engine", "management_key", "outbound_scim", "user"];

/// Single vectors of the others.
pub const VECTORS: &[(&str, &str)] = &[
    ("py-tenant-load", ONE),
    ("node-tenant-load", ONE),
    ("py-tenant-search-all-empty", ONE),
    ("py-tenant-search-filters", ONE),
    ("py-role-search-by-name", ONE),
    ("node-role-search", ONE),
    ("node-jwttpl-load", ONE),
    ("py-ssoapp-load", ONE),
    ("py-tpapp-load-v1", ONE),
    ("go-tpapp-load-v2", ONE),
    ("py-outapp-load", ONE),
    ("node-outapp-load", ONE),
    ("py-accesskey-load", ONE),
    ("py-sso-load-v2", ONE),
    ("node-sso-load-v2", ONE),
    ("py-list-load-query", ONE),
    ("py-list-load-name-query", ONE),
    ("node-list-load-path", ONE),
    ("node-list-load-by-name-path", ONE),
    ("go-list-load-path", ONE),
    ("py-tenant-sso-link-generate", SSO_LINK),
    ("py-tenant-sso-link-revoke", SSO_LINK),
    ("py-permission-update-by-id", BY_ID),
    ("node-permission-update-with-id", BY_ID),
    ("py-permission-update-batch", BY_ID),
    ("py-role-update-by-id", BY_ID),
    ("py-role-update-batch", BY_ID),
    ("node-role-update-batch", BY_ID),
    ("py-role-delete-batch-ids", BY_ID),
    ("go-permission-delete-batch", ONE_ITEM),
    ("node-tpapp-delete-batch", ONE_ITEM),
    ("py-flow-export-v1", V1),
    ("node-flow-export-v1", V1),
    ("py-flow-import-v1", V1),
    ("py-theme-export-v1", V1),
    ("py-theme-import-v1", V1),
    ("node-theme-export-v1", V1),
    ("node-theme-import-v1", V1),
    ("py-tpapp-create-min-v1", V1),
    ("py-tpapp-create-full-v1", V1),
    ("py-tpapp-update-v1", V1),
    ("py-tpapp-patch-v1", V1),
    ("py-tpapp-load-all-v1", V1),
    ("node-tpapp-create-v1", V1),
    ("node-tpapp-patch-v1", V1),
    ("node-tpapp-load-all-v1", V1),
    ("py-fga-relations-create", RELATIONS),
    ("py-authz-schema-load", OLDER),
    ("node-jwttpl-library-list", LIBRARY),
    ("node-jwttpl-library-apply", LIBRARY),
    ("py-sso-delete", NEW_ACS),
    ("node-sso-delete", NEW_ACS),
    ("py-sso-redirect-url", WITH_THE_REST),
    ("py-list-ip-add", WHOLE_DATA),
    ("py-list-ip-remove", WHOLE_DATA),
    ("py-list-clear", WHOLE_DATA),
    ("py-list-import", IMPORT),
    ("py-accesskey-rotate", NO_ROTATION),
    ("py-project-clone", NO_COPIES),
    ("go-project-clone-min", NO_COPIES),
    ("py-project-snapshot-export", NO_SNAPSHOTS),
    ("py-project-snapshot-validate", NO_SNAPSHOTS),
    ("py-project-snapshot-import", NO_SNAPSHOTS),
    ("node-project-snapshot-export", NO_SNAPSHOTS),
    ("node-project-snapshot-import", NO_SNAPSHOTS),
    ("go-project-snapshot-export", NO_SNAPSHOTS),
];
