//! The config file as it is written: structure only. What a value means is checked later, so that all that is wrong
//! can be told at once; only an unknown key or a list in place of a map stops here.

use crate::config::schema;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawConfig {
    #[schemars(with = "Option<schema::Version>")]
    pub version: Option<Text>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawSource>")]
    pub source: RawSource,
    #[schemars(length(min = 1))]
    pub projects: Option<Vec<RawProject>>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawRateLimit>")]
    pub rate_limit: RawRateLimit,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawRetry>")]
    pub retry: RawRetry,
    #[schemars(with = "Option<schema::Span>")]
    pub request_timeout: Option<Text>,
    #[serde(rename = "maxAnswerMiB")]
    #[schemars(with = "Option<schema::Count>")]
    pub max_answer: Option<Text>,
    #[schemars(with = "Option<schema::Count>")]
    pub concurrency: Option<Text>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawHttp>")]
    pub http: RawHttp,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawState>")]
    pub state: RawState,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<Vec<RawSink>>")]
    pub notifications: Vec<RawSink>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawLog>")]
    pub log: RawLog,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawSource {
    #[schemars(with = "Option<schema::Path>")]
    pub path: Option<Text>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<Vec<schema::Words>>")]
    pub exclude: Vec<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub debounce: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub interval: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub deep_interval: Option<Text>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
#[schemars(extend("required" = ["name", "projectId", "managementKey"]))]
pub struct RawProject {
    #[schemars(with = "schema::Name")]
    pub name: Option<Text>,
    #[schemars(with = "schema::Setting")]
    pub project_id: Option<RawSetting>,
    #[schemars(with = "schema::Secret")]
    pub management_key: Option<RawSecret>,
    #[schemars(with = "Option<schema::Setting>")]
    pub base_url: Option<RawSetting>,
    #[schemars(with = "Option<schema::Paths>")]
    pub path: Option<OneOrMany>,
    #[schemars(with = "Option<schema::Policy>")]
    pub policy: Option<Text>,
    #[schemars(with = "Option<schema::Name>")]
    pub owner: Option<Text>,
    #[schemars(with = "Option<schema::FirstContact>")]
    pub first_contact: Option<Text>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawGuards>")]
    pub guards: RawGuards,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "schema::Drift")]
    pub drift: RawDrift,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawSecrets>")]
    pub secrets: RawSecrets,
    #[schemars(with = "Option<Vec<schema::Words>>")]
    pub built_in_roles: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawGuards {
    #[schemars(with = "schema::ByKind")]
    pub max_deletes: Option<NumberOrMap>,
    #[schemars(with = "schema::PercentOrOff")]
    pub max_delete_percent: Switch,
    #[schemars(with = "schema::PercentOrOff")]
    pub max_change_percent: Switch,
    #[schemars(with = "schema::ByKindAndPercent")]
    pub max_missing: Option<NumberOrMap>,
    #[schemars(with = "Option<schema::Span>")]
    pub delete_after: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub approval_expiry: Option<Text>,
    #[schemars(with = "Option<schema::Watch>")]
    pub weakening: Option<Text>,
    #[schemars(with = "Option<schema::Watch>")]
    pub lockout: Option<Text>,
}

/// What is done about drift of one kind, or of all.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map such as { mode: heal, minAge: 0s }")]
pub struct RawDriftRule {
    pub mode: Option<Text>,
    pub min_age: Option<Text>,
}

/// One rule for all, or rules by kind.
#[derive(Debug, Default)]
pub struct RawDrift {
    pub all: RawDriftRule,
    pub by_kind: BTreeMap<String, RawDriftRule>,
}

impl<'de> Deserialize<'de> for RawDrift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DriftVisitor;

        impl<'de> Visitor<'de> for DriftVisitor {
            type Value = RawDrift;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map such as { mode: heal, minAge: 0s }, or such maps by kind")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawDrift, A::Error> {
                let mut drift = RawDrift::default();
                while let Some(Text(key)) = map.next_key()? {
                    match key.as_str() {
                        "mode" => drift.all.mode = map.next_value()?,
                        "minAge" => drift.all.min_age = map.next_value()?,
                        _ => drop(drift.by_kind.insert(key, map.next_value::<Option<_>>()?.unwrap_or_default())),
                    }
                }
                Ok(drift)
            }
        }

        deserializer.deserialize_map(DriftVisitor)
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawSecrets {
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<Vec<schema::Words>>")]
    pub env: Vec<Text>,
    #[schemars(with = "Option<schema::Path>")]
    pub dir: Option<Text>,
    /// With `state.url`: `dir` is on a volume that all replicas mount.
    #[schemars(with = "Option<schema::Flag>")]
    pub shared: Option<Text>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawRateLimit {
    #[schemars(with = "Option<schema::Algorithm>")]
    pub algorithm: Option<Text>,
    #[schemars(with = "schema::Limit")]
    pub limit: Switch,
    #[schemars(with = "Option<schema::Span>")]
    pub lockout: Option<Text>,
    #[schemars(with = "Option<schema::Percent>")]
    pub reserve: Option<Text>,
    #[schemars(with = "Option<schema::Flag>")]
    pub probe: Option<Text>,
    #[schemars(with = "Option<schema::LimitShape>")]
    pub shape: Option<Text>,
    /// With `state.url`: replicas with the same one share the limit, for they leave through one address.
    #[schemars(with = "Option<schema::Name>")]
    pub egress: Option<Text>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawAdaptive>")]
    pub adaptive: RawAdaptive,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawAdaptive {
    #[schemars(with = "Option<schema::Positive>")]
    pub initial_rate: Option<Text>,
    #[schemars(with = "Option<schema::Positive>")]
    pub min_rate: Option<Text>,
    #[schemars(with = "Option<schema::Positive>")]
    pub max_rate: Option<Text>,
    #[schemars(with = "Option<schema::Positive>")]
    pub decrease_factor: Option<Text>,
    #[schemars(with = "Option<schema::Positive>")]
    pub increase_factor: Option<Text>,
    #[schemars(with = "Option<schema::Count>")]
    pub success_threshold: Option<Text>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawRetry {
    #[schemars(with = "Option<schema::Count>")]
    pub max_attempts: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub initial_backoff: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub max_backoff: Option<Text>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawHttp {
    #[schemars(with = "Option<schema::Listen>")]
    pub listen: Option<Text>,
    #[schemars(with = "Option<schema::Secret>")]
    pub token: Option<RawSecret>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawState {
    #[schemars(with = "Option<schema::Path>")]
    pub path: Option<Text>,
    /// In place of `path`: a `PostgreSQL` database that replicas share.
    #[schemars(with = "Option<schema::Secret>")]
    pub url: Option<RawSecret>,
    /// With `url`: what fingerprints are keyed with, the same for all replicas; 64 hexadecimal digits.
    #[schemars(with = "Option<schema::Secret>")]
    pub fingerprint_key: Option<RawSecret>,
    #[serde(deserialize_with = "section")]
    #[schemars(with = "Option<RawLease>")]
    pub lease: RawLease,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawLease {
    #[schemars(with = "Option<schema::Span>")]
    pub life: Option<Text>,
    #[schemars(with = "Option<schema::Span>")]
    pub renew: Option<Text>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
#[schemars(extend("required" = ["type", "url"]))]
pub struct RawSink {
    /// What the receiver understands: JSON of our own, or what Slack and its like take.
    #[schemars(with = "schema::SinkType")]
    pub r#type: Option<Text>,
    /// Where messages go: https, or http to this machine.
    #[schemars(with = "schema::Secret")]
    pub url: Option<RawSecret>,
    /// What messages are signed with; without it they are not.
    #[schemars(with = "Option<schema::Secret>")]
    pub hmac_key: Option<RawSecret>,
    /// What it is told; everything unless written.
    #[schemars(with = "Option<Vec<schema::Notice>>")]
    pub on: Option<Vec<Text>>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields, expecting = "a map")]
pub struct RawLog {
    #[schemars(with = "Option<schema::LogFormat>")]
    pub format: Option<Text>,
    #[schemars(with = "Option<schema::Words>")]
    pub level: Option<Text>,
}

/// A key with nothing after it, as when all below it is commented out, is a key that is not there.
fn section<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A limit that can be turned off: `null` is a word, not silence.
#[derive(Debug, Default)]
pub enum Switch {
    #[default]
    Unwritten,
    Off,
    Text(Text),
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Option::deserialize(deserializer)? {
            None => Self::Off,
            Some(Text(text)) if text == "off" => Self::Off,
            Some(text) => Self::Text(text),
        })
    }
}

/// Any scalar, as text: `30`, `true` and `"30s"` reach the check, which knows what to say about each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Self)
    }
}

/// Takes scalars only.
struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_f64<E>(self, value: f64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_str<E>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }
}

/// Written out, or `{ env: NAME }`.
#[derive(Debug)]
pub enum RawSetting {
    Literal(String),
    Env(String),
    Other,
}

impl<'de> Deserialize<'de> for RawSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(AnyVisitor)? {
            Any::Text(text) => Ok(Self::Literal(text)),
            Any::Map(mut map) if map.len() == 1 => match map.remove("env").flatten() {
                Some(name) => Ok(Self::Env(name)),
                None => Ok(Self::Other),
            },
            Any::Null | Any::List(_) | Any::Map(_) => Ok(Self::Other),
        }
    }
}

/// `{ env: NAME }` or `{ file: PATH }`. Whatever else stands there is not kept: it may be the secret itself.
#[derive(Debug)]
pub enum RawSecret {
    Env(String),
    File(String),
    Other,
}

impl<'de> Deserialize<'de> for RawSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Any::Map(mut map) = deserializer.deserialize_any(AnyVisitor)? else { return Ok(Self::Other) };
        let (env, file) = (map.remove("env").flatten(), map.remove("file").flatten());
        Ok(match (env, file, map.is_empty()) {
            (Some(name), None, true) => Self::Env(name),
            (None, Some(path), true) => Self::File(path),
            _ => Self::Other,
        })
    }
}

/// One path, or a list of them; `None` for anything else.
#[derive(Debug)]
pub struct OneOrMany(pub Option<Vec<String>>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(AnyVisitor)? {
            Any::Text(text) => Ok(Self(Some(vec![text]))),
            Any::List(items) => Ok(Self(items)),
            Any::Null | Any::Map(_) => Ok(Self(None)),
        }
    }
}

/// One number for all kinds, or a map by kind.
#[derive(Debug)]
pub enum NumberOrMap {
    Number(String),
    Map(BTreeMap<String, Option<String>>),
    Other,
}

impl<'de> Deserialize<'de> for NumberOrMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(AnyVisitor)? {
            Any::Text(text) => Ok(Self::Number(text)),
            Any::Map(map) => Ok(Self::Map(map)),
            Any::Null | Any::List(_) => Ok(Self::Other),
        }
    }
}

/// Whatever stands there, one level deep; deeper ones are `None`. Never part of a message.
enum Any {
    Null,
    Text(String),
    List(Option<Vec<String>>),
    Map(BTreeMap<String, Option<String>>),
}

/// One scalar, or `None` for anything else.
struct Leaf(Option<String>);

impl<'de> Deserialize<'de> for Leaf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(AnyVisitor)? {
            Any::Text(text) => Self(Some(text)),
            Any::Null | Any::List(_) | Any::Map(_) => Self(None),
        })
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Any, E> {
        Ok(Any::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Any, E> {
        Ok(Any::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Any, E> {
        Ok(Any::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Any, E> {
        Ok(Any::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Any, E> {
        Ok(Any::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Any, A::Error> {
        let mut items = Some(Vec::new());
        while let Some(Leaf(item)) = seq.next_element()? {
            items = items.zip(item).map(|(mut items, item)| {
                items.push(item);
                items
            });
        }
        Ok(Any::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Any, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(Leaf(key)) = map.next_key()? {
            match key {
                Some(key) => drop(entries.insert(key, map.next_value::<Leaf>()?.0)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Any::Map(entries))
    }
}
