//! A plan for people and for programs: text, Markdown, JSON. The JSON is a contract; it only ever gains fields.

use super::Change;
use super::Contact;
use super::Drift;
use super::FieldChange;
use super::Hold;
use super::Plan;
use super::Refusal;
use super::differs;
use super::drift;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::MAIN;
use crate::telemetry::line::cause;
use crate::telemetry::status::HeldThing;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::NO_ORDERS;
use crate::telemetry::status::PUT_ASIDE;
use crate::telemetry::status::Wait;
use crate::telemetry::status::rfc3339;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt;
use std::time::SystemTime;

mod changes;
mod human;
mod markdown;
#[cfg(test)]
mod tests;

pub use changes::Changes;
pub use changes::Listed;
pub use human::Style;
pub use human::text;
pub use human::write_text;
pub use markdown::markdown;

/// Longer values are shown as their size: a plan is read by people.
const LONGEST_VALUE: usize = 2000;

/// A word of ours, or one that a daemon sent.
pub type Word = Cow<'static, str>;

/// `plan -o json`, `/api/v1/plan`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Report<'p> {
    /// 1.
    pub format_version: u32,
    /// In the order of the config.
    pub projects: Vec<ProjectReport<'p>>,
}

impl<'p> Report<'p> {
    /// All projects of one plan.
    pub fn new(projects: Vec<ProjectReport<'p>>) -> Self {
        Self { format_version: 1, projects }
    }

    /// Does anything differ, held or not? What nobody looks at, since the files are put aside, may, and whose the project is,
    /// where somebody has to say that.
    pub fn has_differences(&self) -> bool {
        let differs = |project: &ProjectReport<'_>| {
            !project.changes.is_empty() || !project.refused.is_empty() || project.doubted > 0
        };
        self.projects.iter().any(|project| differs(project) || project.stopped_by().is_some())
    }
}

/// The plan of one project.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectReport<'p> {
    /// The project's name in the config.
    pub name: String,
    /// Of the held changes; empty where nothing is held.
    pub fingerprint: String,
    /// What is held as a whole.
    pub held: Option<HeldReport>,
    /// All that waits, by reason.
    #[serde(default)]
    pub holds: Vec<HoldStatus>,
    /// What the operator should know.
    #[schemars(with = "Vec<String>")]
    pub warnings: Vec<Cow<'p, str>>,
    /// What is not at rest, each with what it waits for.
    #[serde(default)]
    pub waits: Vec<Wait>,
    /// How many wait for each reason, the ones included that are too many to be told.
    #[serde(default)]
    pub wait_counts: BTreeMap<Word, u64>,
    /// In the order in which they are sent.
    #[schemars(with = "Vec<ChangeReport>")]
    pub changes: Changes<'p>,
    /// Declarations that cannot be carried out until somebody changes something.
    pub refused: Vec<RefusedReport>,
    /// Live and declared nowhere.
    pub undeclared: Vec<Identity>,
    /// What applying costs.
    pub forecast: Forecast,
    /// Something could not be observed: the warnings say what. Of that nobody knows whether it differs.
    #[serde(default)]
    pub is_incomplete: bool,
    /// Something was written and answered as done, and Descope keeps something else.
    #[serde(skip)]
    pub is_without_effect: bool,
    /// So many left the files, in kinds of which the list lacks too much to be believed, and are deleted if it shows them.
    #[serde(skip)]
    pub doubted: usize,
}

/// Changes that wait for approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldReport {
    /// What to approve.
    pub fingerprint: String,
    /// The guard; several are joined by a comma.
    pub reason: String,
    /// How many changes.
    pub changes: usize,
    /// How many of them delete.
    pub deletes: usize,
    /// Does `apply --auto-approve` let all of it go?
    #[serde(skip)]
    pub auto_approve: bool,
    /// Does a daemon hold it that takes no orders?
    #[serde(skip)]
    pub nobody_may: bool,
}

/// One change.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeReport {
    /// The YAML key.
    pub kind: Word,
    /// The identity.
    pub id: String,
    /// What is done to it.
    #[schemars(with = "Action")]
    pub action: Word,
    /// The guard that holds it, or what else it waits for; null where it goes ahead.
    pub held: Option<Word>,
    /// What or who holds it, where the word does not say that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What ends the hold, where that is not what ends most of this word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_with: Option<Word>,
    /// RFC 3339: when time ends the wait; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// What of it somebody else changed, and no commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftReport>,
    /// What becomes different.
    pub fields: Vec<FieldReport>,
    /// Where the YAML declares it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
}

/// What somebody else changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftReport {
    /// RFC 3339: the first look that showed it.
    pub since: String,
    /// RFC 3339: when it is old enough to be put back, where it waits for that.
    pub until: Option<String>,
    /// Who did it, how and when, where Descope's audit trail tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The resource is gone.
    pub is_deleted: bool,
    /// Else which of the fields of this change.
    pub fields: Vec<String>,
}

/// One field of a change.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldReport {
    /// `customAttributes.plan`.
    pub path: Word,
    /// What is there, null for nothing. `"(secret)"` stands for a secret, digest and size for a big document.
    pub from: Value,
    /// What shall be there, in the same form.
    pub to: Value,
}

/// A declaration that cannot be carried out.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedReport {
    /// The YAML key.
    pub kind: Word,
    /// The identity.
    pub id: String,
    /// What is wrong and what to do instead.
    pub message: String,
    /// Where the YAML declares it.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
}

/// A resource by name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The YAML key.
    pub kind: Word,
    /// The identity.
    pub id: String,
}

/// What applying costs.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Write requests.
    pub requests: usize,
    /// Read requests: of the look that it begins with, as every pass does. A drain that lasts longer than a minute (or
    /// than `source.interval`) looks again before it overwrites or deletes: at most twice in that time for each kind, which
    /// is not counted here.
    #[serde(default)]
    pub reads: usize,
    /// About how long both take under the configured limit.
    pub seconds: u64,
}

impl Forecast {
    /// Both share one limit.
    pub fn new(requests: usize, reads: usize, pace: Pace) -> Self {
        Self { requests, reads, seconds: pace.seconds(requests + reads) }
    }
}

/// How fast the configured limit lets requests through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many at once, then as many again after each window of so many seconds.
    Window(f64, f64),
    /// So many per second.
    Rate(f64),
    /// No limit is configured.
    Free,
}

impl Pace {
    /// Seconds until the last of `requests` is sent.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    pub fn seconds(self, requests: usize) -> u64 {
        let requests = requests as f64;
        let seconds = match self {
            Self::Free => 0.0,
            Self::Rate(per_second) => requests / per_second,
            Self::Window(n, seconds) => ((requests / n.max(1.0)).ceil() - 1.0).max(0.0) * seconds,
        };
        seconds.ceil() as u64
    }
}

impl<'p> ProjectReport<'p> {
    /// Of a plan, of which nothing is held twice; what waits for what is told later, see `waits`.
    pub fn new(name: &str, plan: &'p Plan, pace: Pace) -> Self {
        Self {
            waits: Vec::new(),
            wait_counts: BTreeMap::new(),
            name: name.to_owned(),
            fingerprint: plan.fingerprint.clone(),
            held: HeldReport::of(plan),
            holds: holds(plan),
            warnings: warnings(plan).collect(),
            changes: Changes::Planned(&plan.changes),
            refused: RefusedReport::all(plan),
            undeclared: plan.undeclared.iter().map(Identity::new).collect(),
            forecast: Forecast::new(plan.forecast_requests(), plan.reads, pace),
            is_incomplete: plan.is_incomplete(),
            is_without_effect: !plan.without_effect.is_empty(),
            doubted: plan.missing.iter().filter(|(key, one)| one.is_leaving && plan.shrunk.contains(key.kind)).count(),
        }
    }

    /// Rendered, for one that outlives the plan.
    pub fn into_rendered(self) -> ProjectReport<'static> {
        ProjectReport {
            name: self.name,
            fingerprint: self.fingerprint,
            held: self.held,
            holds: self.holds,
            warnings: self.warnings.into_iter().map(|warning| Cow::Owned(warning.into_owned())).collect(),
            waits: self.waits,
            wait_counts: self.wait_counts,
            changes: Changes::Rendered(self.changes.into_rendered()),
            refused: self.refused,
            undeclared: self.undeclared,
            forecast: self.forecast,
            is_incomplete: self.is_incomplete,
            is_without_effect: self.is_without_effect,
            doubted: self.doubted,
        }
    }

    /// What the operator should know and no row of a change says.
    fn notes(&self) -> impl Iterator<Item = &str> {
        let in_rows: HashSet<String> = self.changes.iter().filter_map(Listed::sentence).collect();
        self.warnings.iter().map(|warning| &**warning).filter(move |warning| !in_rows.contains(*warning))
    }

    /// What keeps all of the project back, whether anything differs or not.
    fn stopped_by(&self) -> Option<&HoldStatus> {
        self.holds.iter().find(|hold| hold.stops_project)
    }

    fn count(&self, action: Action) -> usize {
        self.changes.iter().filter(|change| change.action() == action.as_str()).count()
    }
}

impl Identity {
    /// Of a key.
    pub fn new(key: &Key) -> Self {
        Self { kind: key.kind.into(), id: key.id() }
    }
}

impl fmt::Display for RefusedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, id, message, file, line } = self;
        write!(f, "x {kind}/{}: {message}", crate::resource::legible::legible(id))?;
        match file.as_ref().zip(*line) {
            Some((file, line)) => write!(f, "   {file}:{line}"),
            None => Ok(()),
        }
    }
}

impl RefusedReport {
    /// Renders one.
    pub fn new(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.key.kind.into(),
            id: refusal.key.id(),
            message: refusal.message.clone(),
            file: refusal.place.as_ref().map(|place| place.file.to_string()),
            line: refusal.place.as_ref().map(|place| place.line),
        }
    }

    /// Those of a plan.
    pub fn all(plan: &Plan) -> Vec<Self> {
        plan.refused.iter().map(Self::new).collect()
    }
}

impl HeldReport {
    /// What of `plan` waits for approval; null where nothing does.
    pub fn of(plan: &Plan) -> Option<Self> {
        let takeover = plan.awaits_contact().then_some(Hold::FirstContact(Contact::Project));
        let mut reasons: Vec<&str> = plan.held().flat_map(Change::holds).chain(takeover).map(Hold::as_str).collect();
        reasons.sort_unstable();
        reasons.dedup();
        (!reasons.is_empty()).then(|| Self {
            fingerprint: plan.fingerprint.clone(),
            reason: reasons.join(","),
            changes: plan.held().count(),
            deletes: plan.held().filter(|change| change.action == Action::Delete).count(),
            auto_approve: plan.held().all(|change| change.held == Some(Hold::FirstContact(Contact::Project))),
            nobody_may: false,
        })
    }
}

impl HeldReport {
    /// A report that came over the wire tells by its holds what lets all of it go.
    fn as_read(&self, holds: &[HoldStatus]) -> Self {
        let whole = Hold::FirstContact(Contact::Project).ends_with();
        let mut approvable = holds.iter().filter(|hold| hold.approvable && hold.revision.is_none()).peekable();
        let auto_approve = approvable.peek().is_some() && approvable.all(|hold| hold.ends_with == whole);
        Self { auto_approve, ..self.clone() }
    }
}

/// What the operator should know of it.
pub fn warnings(plan: &Plan) -> impl Iterator<Item = Cow<'_, str>> {
    let mut causes: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (kind, unobserved) in &plan.unobserved {
        causes.entry(cause(&unobserved.reason)).or_default().push((kind, &unobserved.reason));
    }
    let unobserved = causes.into_values().filter_map(|kinds| {
        let (_, reason) = kinds.first()?;
        let kinds: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
        Some(format!("{} could not be observed and are left alone: {reason}", listed(&kinds)))
    });
    unobserved.map(Cow::Owned).chain(plan.warnings.iter().map(|warning| Cow::Borrowed(&**warning)))
}

/// `a, b and c`
pub fn listed(names: &[&str]) -> String {
    match names {
        [names @ .., last] if !names.is_empty() => format!("{} and {last}", names.join(", ")),
        names => names.concat(),
    }
}

/// So many of one reason are named, and one more, which says that there are more.
pub const NAMED_HELD: usize = 20;

/// One for each reason that something of `plan` waits for. What waits for several counts for each.
pub fn holds(plan: &Plan) -> Vec<HoldStatus> {
    let mut holds: BTreeMap<Hold, Vec<&Change>> = BTreeMap::new();
    for change in &plan.changes {
        for hold in change.holds() {
            holds.entry(hold).or_default().push(change);
        }
    }
    let takeover = plan.takeover.as_ref().filter(|takeover| takeover.is_held);
    let whole = Hold::FirstContact(Contact::Project);
    if takeover.is_some() {
        holds.entry(whole).or_default();
    }
    let report = |(hold, changes): (Hold, Vec<&Change>)| HoldStatus {
        reason: hold.as_str().into(),
        since: since(plan, hold, &changes).map(rfc3339),
        approvable: hold.can_be_approved(),
        until: changes.iter().filter_map(|change| change.until).min().map(rfc3339),
        changes: changes.len(),
        ends_with: hold.ends_with().into(),
        why: takeover.filter(|_| hold == whole).map(|takeover| takeover.why.clone()),
        revision: None,
        stops_project: takeover.is_some() && hold == whole,
        needs_a_person: hold.needs_a_person(),
        things: changes.iter().take(NAMED_HELD + 1).map(|change| held_thing(change)).collect(),
    };
    let mut reports: Vec<HoldStatus> = holds.into_iter().map(report).collect();
    reports.sort();
    reports
}

/// Since when something waits for it. Drift has a time of its own: what was put back meanwhile says nothing of what is left.
fn since(plan: &Plan, hold: Hold, changes: &[&Change]) -> Option<SystemTime> {
    let own = |change: &&Change| change.drift.as_ref().map(|drift| drift.since);
    let own: Option<Vec<SystemTime>> = changes.iter().map(own).collect();
    let own = own.filter(|_| matches!(hold, Hold::DriftReported(_))).and_then(|own| own.into_iter().min());
    own.or_else(|| plan.held_since.get(hold.as_str()).copied())
}

fn held_thing(change: &Change) -> HeldThing {
    let part = change.tasks.first().map(|task| task.slot.part).filter(|part| *part != MAIN);
    let part = part.map_or_else(String::new, |part| format!(" ({part})"));
    HeldThing { name: format!("{}{part}", change.key), why: change.why.clone(), what: what(change) }
}

/// A digest of what a change is to do, whatever is there before it. Secrets are references in it.
fn what(change: &Change) -> String {
    let mut digest = Sha256::new();
    digest.update(change.action.as_str());
    for field in change.fields.list().iter() {
        digest.update(json!([field.path, field.to]).to_string());
    }
    digest.finalize().iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// One of them in a line.
pub fn hold_text(hold: &HoldStatus) -> String {
    let HoldStatus { reason, changes, ends_with, since, until, .. } = hold;
    let since = since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
    let until = until.as_ref().map_or_else(String::new, |until| format!(" (the first at {until})"));
    if let Some(why) = &hold.why {
        let changes = if *changes > 0 { format!("{changes} ") } else { String::new() };
        return format!("{changes}held by {reason}{since}: {why}; ends with {ends_with}{until}");
    }
    format!("{changes} held by {reason}{since}; ends with {ends_with}{until}")
}

/// Why something waits, since when and until when.
pub fn wait_text(wait: &Wait) -> String {
    let Wait { why, since, until, .. } = wait;
    let since = since.as_ref().map_or_else(String::new, |since| format!("; since {since}"));
    let until = until.as_ref().map_or_else(String::new, |until| format!("; until {until}"));
    format!("{why}{since}{until}")
}

impl ChangeReport {
    /// Renders one change.
    pub fn new(change: &Change) -> Self {
        Self {
            kind: change.key.kind.into(),
            id: change.key.id(),
            action: change.action.as_str().into(),
            held: change.held.as_ref().map(|hold| hold.as_str().into()),
            why: change.why.clone(),
            ends_with: change
                .held
                .filter(|hold| Hold::usual(hold.as_str()) != Some(*hold))
                .map(|hold| hold.ends_with().into()),
            until: change.until.map(rfc3339),
            drift: change.drift.as_deref().map(|drift| DriftReport::of(drift, change)),
            fields: change.fields.list().iter().map(FieldReport::new).collect(),
            file: change.place.as_ref().map(|place| place.file.to_string()),
            line: change.place.as_ref().map(|place| place.line),
        }
    }

    fn sign(&self) -> char {
        match &*self.action {
            "create" => '+',
            "delete" => '-',
            "rename" => '>',
            _ => '~',
        }
    }
}

impl DriftReport {
    fn of(drift: &Drift, change: &Change) -> Self {
        let is_of_it = |path: &&String| change.fields.list().iter().any(|field| field.path == **path);
        Self {
            since: rfc3339(drift.since),
            until: drift.until.map(rfc3339),
            actor: drift.actor.clone(),
            is_deleted: drift.fields.contains(drift::WHOLE),
            fields: drift.fields.iter().filter(is_of_it).cloned().collect(),
        }
    }
}

/// What waits for it says so itself.
fn drift_text(change: &ChangeReport) -> Option<String> {
    let drift = change.drift.as_ref()?;
    if matches!(change.held.as_deref(), Some("drift_reported" | "contested")) {
        return None;
    }
    let what = if drift.is_deleted { "deleted it" } else { "changed it" };
    let fields = if drift.fields.is_empty() || drift.fields.len() == change.fields.len() {
        String::new()
    } else {
        format!(" ({})", drift.fields.join(", "))
    };
    Some(format!("drift: {}", differs(drift.actor.as_deref(), &format!("{what}{fields}"), &drift.since)))
}

impl FieldReport {
    fn new(field: &FieldChange) -> Self {
        Self { path: field.path.clone(), from: shortened(&field.from), to: shortened(&field.to) }
    }
}

fn shortened(value: &Value) -> Value {
    let size = value.as_str().map_or_else(|| value.to_string().len(), str::len);
    if size <= LONGEST_VALUE { value.clone() } else { Value::from(format!("({size} bytes)")) }
}

fn summary(project: &ProjectReport<'_>) -> String {
    if project.changes.is_empty() && project.refused.is_empty() {
        let what = match (project.stopped_by(), project.is_incomplete) {
            (Some(hold), _) if hold.reason == PUT_ASIDE => "nothing is planned: the files are put aside",
            (Some(_), _) => "nothing differs, and the project is held nevertheless",
            (None, true) => "nothing to change in what could be observed",
            (None, false) => "nothing to change",
        };
        return what.to_owned();
    }
    let Forecast { requests, reads, seconds } = project.forecast;
    format!(
        "{} to create, {} to update, {} to rename, {} to delete; {requests} write and {reads} read requests, about \
         {seconds} s",
        project.count(Action::Create),
        project.count(Action::Update),
        project.count(Action::Rename),
        project.count(Action::Delete),
    )
}

/// `1 change`, `2 changes`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A big document is its digest and its size, in fewer words than JSON has.
fn document(value: &Value) -> Option<String> {
    let fields = value.as_object().filter(|fields| fields.len() == 2)?;
    let digest = fields.get("digest")?.as_str()?;
    Some(format!("{} bytes ({})", fields.get("size")?.as_u64()?, digest.get(..8).unwrap_or(digest)))
}

/// What an operator does to let held changes go ahead.
pub fn how_to_release(held: &HeldReport) -> String {
    let HeldReport { fingerprint, reason, changes, deletes, auto_approve, nobody_may } = held;
    let (changes, deletes) = (counted(*changes, "change"), counted(*deletes, "delete"));
    let (changes, is, it) = match held.changes {
        0 => ("the project".to_owned(), "is", "it"),
        1 => (format!("{changes} ({deletes})"), "is", "it"),
        _ => (format!("{changes} ({deletes})"), "are", "them"),
    };
    if *nobody_may {
        return format!("{changes} {is} held ({reason}); to release {it}: {NO_ORDERS}");
    }
    let or = if *auto_approve { " (or `apply --auto-approve`)" } else { "" };
    format!(
        "{changes} {is} held ({reason}); to release {it}: `descope-gitops approve \
         {fingerprint}` beside a daemon, `descope-gitops apply --approve {fingerprint}` without one{or}"
    )
}
