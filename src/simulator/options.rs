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

/// The open questions of the contract, each with the answer that the sources suggest as default; besides latency
/// and the share of faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Switches {
    /// Median round trip; half of it passes before a request counts.
    #[serde(with = "text_duration")]
    pub latency: Duration,
    /// Spread of a log-normal round trip, capped at twenty medians; 0: every one takes the median.
    pub latency_sigma: f64,
    /// Share of requests that meet a transient fault.
    pub fault_rate: f64,
    /// The only key that is let in; `None` lets in any. Never answered by `GET /_sim/options`.
    #[serde(skip_serializing)]
    pub management_key: Option<String>,
    /// Status of a request with a bad key.
    pub bad_key_status: u16,
    /// Status where the entity does not exist.
    pub not_found_status: u16,
    /// `errorCode` where the entity does not exist.
    pub not_found_code: String,
    /// Status where the entity exists already.
    pub exists_status: u16,
    /// `errorCode` where the entity exists already.
    pub exists_code: String,
    /// Errors carry no body.
    pub empty_errors: bool,
    /// Request fields that the contract does not know.
    pub unknown_fields: UnknownFields,
    /// Delete of something absent.
    pub delete_absent: DeleteAbsent,
    /// Delete of a permission that a role has, or a role that is a tenant's default.
    pub delete_used: DeleteUsed,
    /// A permission name in a role that does not exist.
    pub unknown_permission: UnknownPermission,
    /// A new name that is taken.
    pub rename_collision: RenameCollision,
    /// Two tenants of one name are refused.
    pub unique_tenant_names: bool,
    /// One bad item of a batch.
    pub batch: Batch,
    /// `[]` in a patch of a tenant.
    pub patch_empty_list: PatchEmptyList,
    /// `customAttributes` in a patch of a tenant.
    pub patch_attributes: PatchAttributes,
    /// Tenants are answered with their `federatedAppIds`.
    pub return_federated_app_ids: bool,
    /// Names of tenant attributes that are defined; `None`: any name is taken.
    pub tenant_attributes: Option<Vec<String>>,
    /// List reads show what was so long ago.
    #[serde(with = "text_duration")]
    pub read_delay: Duration,
    /// Order of list reads.
    pub list_order: ListOrder,
    /// `role/delete/batch` without an effective filter.
    pub empty_role_delete: EmptyDelete,
    /// `permission/delete/batch` without an effective filter.
    pub empty_permission_delete: EmptyDelete,
    /// Whose requests are counted together.
    pub limit_by: LimitBy,
    /// The body of a 429.
    pub throttle_body: ThrottleBody,
    /// The answer of the license call.
    pub license_tier: String,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            latency_sigma: 0.0,
            fault_rate: 0.0,
            management_key: None,
            bad_key_status: 401,
            not_found_status: 400,
            // No source names a code for these two; the one for invalid requests carries any message.
            not_found_code: "E011003".to_owned(),
            exists_status: 400,
            exists_code: "E011003".to_owned(),
            empty_errors: false,
            unknown_fields: UnknownFields::Reject,
            delete_absent: DeleteAbsent::Error,
            delete_used: DeleteUsed::Unlink,
            unknown_permission: UnknownPermission::Error,
            rename_collision: RenameCollision::Error,
            unique_tenant_names: true,
            batch: Batch::Atomic,
            patch_empty_list: PatchEmptyList::Clears,
            patch_attributes: PatchAttributes::Replace,
            return_federated_app_ids: false,
            tenant_attributes: None,
            read_delay: Duration::ZERO,
            list_order: ListOrder::Created,
            empty_role_delete: EmptyDelete::DeletesAll,
            empty_permission_delete: EmptyDelete::Error,
            limit_by: LimitBy::Source,
            throttle_body: ThrottleBody::Json,
            license_tier: "tier2".to_owned(),
        }
    }
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
        for status in [changed.bad_key_status, changed.not_found_status, changed.exists_status] {
            if !(400..600).contains(&status) {
                return Err(format!("{status} is not the status of an error"));
            }
        }
        Ok(changed)
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
    fn the_key_is_never_written_out() {
        let switches = Switches { management_key: Some("K2secret".into()), ..Switches::default() };

        assert!(!serde_json::to_string(&switches).unwrap().contains("K2secret"));
    }
}
