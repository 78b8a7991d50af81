//! What can be set: at start through [`Options`], later (the [`Switches`]) through `PUT /_sim/options`.

use super::fault::Rule;
use super::gate::Limit;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::time::Duration;

/// How a simulator starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Every draw (ids, latency, faults, the phase of windows) follows from it.
    pub seed: u64,
    /// The rate limit; `None` admits everything.
    pub limit: Option<Limit>,
    /// Faults from the first request on.
    pub faults: Vec<Rule>,
    /// What the projects hold at the start, by id; each as `PUT /_sim/state?project=ID` takes it.
    pub projects: Map<String, Value>,
    /// Everything that can also be changed while it runs.
    pub switches: Switches,
}

impl Default for Options {
    fn default() -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { listen, seed: 0, limit: None, faults: Vec::new(), projects: Map::new(), switches: Switches::default() }
    }
}

/// Declares the [`Switches`] once: the text that `simulator --help` prints, the name, the type and the default.
macro_rules! switches {
    ($( $(#[doc = $doc:literal])+ $([$($serde:tt)*])? $name:ident: $type:ty = $default:expr; )*) => {
        /// The open questions of the contract, each with the answer that the sources suggest as default; besides latency
        /// and the share of faults.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        #[allow(clippy::struct_excessive_bools, reason = "each is a question of its own")]
        pub struct Switches {
            $( $(#[doc = $doc])+ $(#[serde($($serde)*)])? pub $name: $type, )*
        }

        impl Default for Switches {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// Every switch with its meaning, the names as Rust writes them.
        const MEANINGS: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)*];
    };
}

switches! {
    /// Median round trip, `50ms`; half of it passes before a request counts.
    [with = "text_duration"] latency: Duration = Duration::ZERO;
    /// Spread of a log-normal round trip, capped at twenty medians; 0: every one takes the median.
    latency_sigma: f64 = 0.0;
    /// Share of requests that meet a transient fault.
    fault_rate: f64 = 0.0;
    /// A connection is closed without an answer when one more request than this comes over it; null: never.
    answers_per_connection: Option<u64> = None;
    /// The only key that is let in; null: any. Never answered by `GET /_sim/options`.
    [skip_serializing] management_key: Option<String> = None;
    /// Status of a request with a bad key.
    bad_key_status: u16 = 401;
    /// The key is refused (403 E111009) for so long after the project was first heard of.
    [with = "text_duration"] new_project_refuses: Duration = Duration::ZERO;
    /// Status where the entity does not exist.
    not_found_status: u16 = 400;
    /// `errorCode` where the entity does not exist; empty: E112202 for tenants, E011003 for the others.
    not_found_code: String = String::new();
    /// Status where the entity exists already.
    exists_status: u16 = 400;
    /// `errorCode` where the entity exists already; no source names one.
    exists_code: String = "E011003".to_owned();
    /// Errors carry no body.
    empty_errors: bool = false;
    /// Request fields that the contract does not know: `reject` (400 E011003, which names the field) or `ignore`.
    unknown_fields: UnknownFields = UnknownFields::Reject;
    /// Texts are stored without outer blanks, domains in lower case.
    normalizes: bool = false;
    /// A write that arrived before another one of its project took effect, and takes effect after it, is refused (400 E111604).
    version_conflicts: bool = false;
    /// Delete of something absent: `error` or `success`.
    delete_absent: DeleteAbsent = DeleteAbsent::Error;
    /// Delete of a permission or role that something refers to: `unlink` (the references go too) or `error`.
    delete_used: DeleteUsed = DeleteUsed::Unlink;
    /// Delete of a tenant that has sub-tenants: `error`, `orphan` (they stay, without parent) or `cascade` (they go too).
    delete_parent: DeleteParent = DeleteParent::Error;
    /// What every project has is protected: role Tenant Admin (400 E024214), stock flows (400), default application (500).
    protected_built_ins: bool = true;
    /// A permission name in a role that does not exist: `error` or `ignore`.
    unknown_permission: UnknownPermission = UnknownPermission::Error;
    /// A new name that is taken: `error` or `ignore` (the old name stays, the rest is written).
    rename_collision: RenameCollision = RenameCollision::Error;
    /// Two tenants of one name are refused.
    unique_tenant_names: bool = true;
    /// A domain that another tenant holds is accepted, not refused with 400 E011003.
    shared_domains: bool = false;
    /// One bad item of a batch: `atomic` (nothing is applied) or `partial` (the good ones are; the answer is the error).
    batch: Batch = Batch::Atomic;
    /// `[]` in a patch of a tenant: `clears` or `ignored`.
    patch_empty_list: PatchEmptyList = PatchEmptyList::Clears;
    /// `customAttributes` in a patch of a tenant: `replace` (the given ones are all that is left) or `merge`.
    patch_attributes: PatchAttributes = PatchAttributes::Replace;
    /// Tenants are answered without `parent`, `successors`, `federatedAppIds` and `defaultRoles`.
    older_tenants: bool = false;
    /// `successors` names all sub-tenants below, not only the direct ones.
    all_successors: bool = false;
    /// Names of tenant attributes that are defined; null: any name is taken.
    tenant_attributes: Option<Vec<String>> = None;
    /// `permission/all` and `role/all` also list entries of an application, with its `appId`.
    app_entries: bool = false;
    /// What a plan without the feature refuses: new SSO applications (403) and the export of snapshots (403 E111703).
    free_plan: bool = false;
    /// Settings of a tenant with a session token under three minutes, or longer than the refresh token, are refused.
    checks_session_tokens: bool = false;
    /// OIDC settings of a tenant without a mapping, or without `userDataUrl` and `JWKsUrl`, are refused.
    strict_oidc: bool = false;
    /// Access keys are answered without the names of their roles and tenants.
    empty_key_roles: bool = false;
    /// Password settings without the newer fields keep those.
    password_keeps_newer: bool = false;
    /// The v1 call answers `anyLetter`, `disallowEmailMatch` and `disallowedCharacters` too.
    password_answers_all: bool = false;
    /// The v2 call of the project's password settings exists.
    password_v2: bool = true;
    /// An empty `loginPageUrl` of a third-party application is answered empty, not with a default.
    empty_login_page: bool = false;
    /// Third-party applications on a page when the request has no limit.
    inbound_page_size: usize = 100;
    /// Lists can also be loaded with a query, not only by path.
    list_query_form: bool = true;
    /// `version`, `etag` and `modifiedTime` in the list of flows are filled, and change with each import.
    flow_versions: bool = false;
    /// Each write of a flow raises the `componentsVersion` of all flows and the theme.
    components_rise: bool = false;
    /// FGA text, flows and theme are answered in another form than they were written in.
    reformats: bool = false;
    /// An import of the theme replaces the styles that it leaves out, too.
    theme_replaces: bool = false;
    /// Reads show what was so long ago.
    [with = "text_duration"] read_delay: Duration = Duration::ZERO;
    /// Order of list reads: `created` or `shuffled`.
    list_order: ListOrder = ListOrder::Created;
    /// The elements of lists inside documents come in another order at each read.
    shuffled_elements: bool = false;
    /// `role/delete/batch` without an effective filter: `deletesAll` (the documented accident), `error` or `nothing`.
    empty_role_delete: EmptyDelete = EmptyDelete::DeletesAll;
    /// `permission/delete/batch` without an effective filter: `deletesAll`, `error` or `nothing`.
    empty_permission_delete: EmptyDelete = EmptyDelete::Error;
    /// Whose requests are counted together: `source` or `project`.
    limit_by: LimitBy = LimitBy::Source;
    /// The body of a 429: `json`, `code` (the code alone), `text` (not JSON) or `empty`.
    throttle_body: ThrottleBody = ThrottleBody::Json;
    /// The answer of the license call.
    license_tier: String = "tier2".to_owned();
}

/// One line for each switch: name, default, meaning.
pub fn describe() -> String {
    let defaults = serde_json::to_value(Switches::default()).unwrap_or_default();
    let lines = MEANINGS.iter().map(|(name, meaning)| {
        let name = camel_case(name);
        let default = defaults.get(&name).unwrap_or(&Value::Null);
        format!("  {name}={default}\n         {}\n", meaning.trim())
    });
    lines.collect()
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(1);
        name + &head.to_uppercase() + tail
    })
}

impl Switches {
    /// These switches with the given ones changed. Errs with what is wrong with the change.
    pub fn with(&self, change: Map<String, Value>) -> Result<Self, String> {
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else {
            return Err("the switches cannot be written as JSON".to_owned());
        };
        let keeps_key = !change.contains_key("managementKey");
        all.extend(change);
        let mut changed: Self = serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())?;
        if keeps_key {
            changed.management_key.clone_from(&self.management_key);
        }
        if changed.answers_per_connection == Some(0) {
            return Err("answersPerConnection must be at least 1".to_owned());
        }
        if changed.inbound_page_size == 0 {
            return Err("inboundPageSize must be at least 1".to_owned());
        }
        for status in [changed.bad_key_status, changed.not_found_status, changed.exists_status] {
            if !(400..600).contains(&status) {
                return Err(format!("{status} is not the status of an error"));
            }
        }
        Ok(changed)
    }

    /// These switches with one changed; the value is JSON or, where it is none, text. Errs with what is wrong with it.
    pub fn with_one(&self, name: &str, value: &str) -> Result<Self, String> {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        self.with([(name.to_owned(), value)].into_iter().collect())
    }
}

/// Request fields that the contract does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownFields {
    /// 400.
    Reject,
    /// As if they were not there.
    Ignore,
}

/// Delete of something absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteAbsent {
    /// Refused as not found.
    Error,
    /// Answered as if it had been there.
    Success,
}

/// Delete of something that something else refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteUsed {
    /// The references go too.
    Unlink,
    /// Refused.
    Error,
}

/// Delete of a tenant that has sub-tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeleteParent {
    /// Refused.
    Error,
    /// They stay, without a parent.
    Orphan,
    /// They go too.
    Cascade,
}

/// A permission name in a role that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UnknownPermission {
    /// Refused.
    Error,
    /// Left out.
    Ignore,
}

/// A new name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RenameCollision {
    /// Refused.
    Error,
    /// The old name stays, the rest is written.
    Ignore,
}

/// One bad item of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Batch {
    /// Nothing is applied.
    Atomic,
    /// The good ones are applied; the answer is the error all the same.
    Partial,
}

/// `[]` in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PatchEmptyList {
    /// Empties the list.
    Clears,
    /// Changes nothing.
    Ignored,
}

/// `customAttributes` in a patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PatchAttributes {
    /// The given ones are all that is left.
    Replace,
    /// Only the given ones change; null removes.
    Merge,
}

/// Order of list reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListOrder {
    /// As created.
    Created,
    /// Another one for each request.
    Shuffled,
}

/// A batch delete that names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EmptyDelete {
    /// Everything goes; the documented accident with roles.
    DeletesAll,
    /// Refused.
    Error,
    /// Nothing happens.
    Nothing,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LimitBy {
    /// Those from one address.
    Source,
    /// Those for one project.
    Project,
}

/// The body of a 429.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ThrottleBody {
    /// Code, description and message.
    Json,
    /// The code alone.
    Code,
    /// Not JSON.
    Text,
    /// None.
    Empty,
}

/// Durations as `50ms` or `1m 30s`.
pub mod text_duration {
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;
    use std::time::Duration;

    /// Writes one.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// Reads one.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        crate::config::span(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_change_leaves_the_other_switches_and_the_key_alone() {
        let before = Switches { management_key: Some("K2".into()), ..Switches::default() };

        let after = before.with(change(&json!({ "unknownFields": "ignore", "latency": "20ms" }))).unwrap();

        let expected =
            Switches { unknown_fields: UnknownFields::Ignore, latency: Duration::from_millis(20), ..before.clone() };
        assert_eq!(after, expected);
    }

    #[test]
    fn a_misspelt_switch_and_a_status_that_is_no_error_are_refused() {
        assert!(Switches::default().with(change(&json!({ "unknownField": "ignore" }))).is_err());
        assert!(Switches::default().with(change(&json!({ "notFoundStatus": 200 }))).is_err());
    }

    #[test]
    fn every_switch_is_described_with_its_default() {
        let text = describe();

        for (name, default) in serde_json::to_value(Switches::default()).unwrap().as_object().unwrap() {
            assert!(text.contains(&format!("  {name}={default}\n")), "{name}={default} in {text}");
        }
    }

    #[test]
    fn one_switch_is_set_by_name_from_json_or_text() {
        let switches = Switches::default();

        assert_eq!(switches.with_one("unknownFields", "ignore").unwrap().unknown_fields, UnknownFields::Ignore);
        assert!(switches.with_one("olderTenants", "true").unwrap().older_tenants);
        assert_eq!(switches.with_one("readDelay", "3s").unwrap().read_delay, Duration::from_secs(3));
        assert!(switches.with_one("olderTenant", "true").is_err());
    }

    #[test]
    fn the_key_is_never_written_out() {
        let switches = Switches { management_key: Some("K2secret".into()), ..Switches::default() };

        assert!(!serde_json::to_string(&switches).unwrap().contains("K2secret"));
    }
}
