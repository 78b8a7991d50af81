//! The status in words: a row for each project, and below it only what needs somebody or something.

use crate::plan::render::Style;
use crate::plan::render::listed;
use crate::plan::who;
use crate::resource::legible::legible;
use crate::telemetry::line::cause;
use crate::telemetry::line::one_line;
use crate::telemetry::status::NO_ORDERS;
use crate::telemetry::status::ONLY_OBSERVES;
use crate::telemetry::status::of_window;
use crate::telemetry::status::project_option;
use crate::telemetry::status::rounded;
use serde_json::Value;
use std::time::Duration;
use std::time::SystemTime;

// Of each sort; `-o json` and the page have all.
const MOST: usize = 8;
/// The status names so many of one reason.
const TOLD: usize = 30;

const HEAD: [&str; 7] = ["PROJECT", "STATE", "IN SYNC", "WANTED", "APPLIED", "LAST SUCCESS", "LAST PASS"];

/// For a terminal.
pub fn text(status: &Value, now: SystemTime, style: Style) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    let projects = || status["projects"].as_array().into_iter().flatten();
    rows.extend(projects().map(|project| row(project, now)));
    let mut out = aligned(&rows, style);
    out.extend(unwell(status, now).map(|line| format!("\n{}\n", style.bad(&line))));
    for project in projects() {
        let lines = below(project, status["canOrder"] != false, now);
        if !lines.is_empty() {
            out.extend([format!("\n{}\n", style.bold(&word(&project["name"])))]);
            out.extend(lines.iter().map(|line| format!("  {line}\n")));
        }
    }
    out.extend([format!("\n{}\n", daemon(status, now))]);
    for limiter in status["limiters"].as_array().into_iter().flatten() {
        out.extend([format!("{}\n", budget(limiter, now))]);
    }
    out
}

/// What concerns all projects: a state that cannot be written, leases that cannot be renewed.
fn unwell(status: &Value, now: SystemTime) -> impl Iterator<Item = String> {
    let components = || status["components"].as_array().into_iter().flatten();
    let is_unwell = |it: &Value| matches!(it["status"].as_str(), Some("degraded" | "failing"));
    // Where replicas share the state it is a database, and one cause is told once: without leases nothing at all is written.
    let is_lease = components().any(|it| it["name"] == "lease" && is_unwell(it));
    components().filter_map(move |it| {
        let effect = match it["name"].as_str()? {
            "state" if is_lease => return None,
            "state" => "nothing is created, renamed or deleted until that is over",
            "notifications" => {
                "a receiver is not told of what is held or failing; the log says which and why, `notify-test` tries it"
            }
            "lease" => "nothing is written while no replica holds the lease",
            _ => return None,
        };
        let (name, since) = (word(&it["name"]).to_uppercase(), ago(&it["since"], now));
        is_unwell(it).then(|| format!("{name}: {}, since {since}; {effect}", word(&it["reason"])))
    })
}

fn row(project: &Value, now: SystemTime) -> [String; 7] {
    let desired = &project["desired"];
    let unheld = unheld(project);
    let at_rest = (project["converged"] == true, &project["suspendedUntil"], &project["notConvergedBecause"]);
    let state = match (unheld, at_rest) {
        // What was known of it may have passed long ago.
        (Some(cause), _) => format!("NOT KNOWN: {cause}"),
        (None, at_rest) => standing(at_rest, project),
    };
    let wanted = label(&desired["commit"], &desired["revision"]);
    let applied = label(&project["applied"]["commit"], &project["applied"]["revision"]);
    let pass = &project["lastPass"];
    let pass = if pass.is_null() {
        "none yet".to_owned()
    } else {
        let planned = ago(&pass["finishedAt"], now);
        match (word(&pass["result"]), still_going(&project["progress"])) {
            (result, None) => format!("{result} {planned}"),
            (result, Some(togo)) if result == "applied" => format!("{togo}, planned {planned}"),
            (result, Some(togo)) => format!("{result}, {togo}, planned {planned}"),
        }
    };
    let in_sync = if unheld.is_some() { "?".to_owned() } else { number(&project["counts"]["inSync"]) };
    let in_sync = format!("{in_sync} of {}", number(&desired["resources"]));
    let wanted = if desired["valid"] == false { format!("{wanted} (newer is INVALID)") } else { wanted };
    [word(&project["name"]), state, in_sync, wanted, applied, ago(&project["lastSuccessAt"], now), pass]
}

/// Of a project that a replica holds.
fn standing((converged, until, because): (bool, &Value, &Value), project: &Value) -> String {
    let has_problems = project["problems"].as_array().is_some_and(|problems| !problems.is_empty());
    match (converged, until, because) {
        (true, Value::String(_), _) => "at rest, suspended".to_owned(),
        (true, ..) => "at rest".to_owned(),
        // A suspension hides no failure.
        (false, Value::String(_), _) if has_problems => "SUSPENDED, with problems".to_owned(),
        (false, Value::String(_), _) => "SUSPENDED".to_owned(),
        (false, _, Value::String(why)) => format!("NOT AT REST: {}{}", one_line(why), unread(project)),
        (false, ..) => "NOT AT REST".to_owned(),
    }
}

/// What of the newest pass is not sent yet.
fn still_going(progress: &Value) -> Option<String> {
    let left = progress["left"].as_u64().filter(|left| *left > 0)?;
    let total = progress["total"].as_u64()?;
    let plural = if total == 1 { "" } else { "s" };
    Some(format!("{left} of {total} change{plural} still to go"))
}

/// How much of what takes a call of its own nobody looked at yet: what the lists show may all be in sync before.
fn unread(project: &Value) -> String {
    let kinds = project["kinds"].as_array().into_iter().flatten();
    let of = |field| kinds.clone().filter_map(|kind| kind["details"][field].as_u64()).sum::<u64>();
    match (of("unread"), of("parts")) {
        (0, _) => String::new(),
        (unread, parts) => format!(" ({unread} of {parts} details not looked at yet)"),
    }
}

/// Why no replica is known to hold it; `None` where one does. What was known of it may have passed long ago.
pub fn unheld(project: &Value) -> Option<&'static str> {
    let lease = &project["lease"];
    (!lease.is_null() && lease["holder"].is_null())
        .then(|| if is_unknown(lease) { "the database of state.url does not answer" } else { "no replica holds it" })
}

/// Can nobody tell who holds it?
fn is_unknown(lease: &Value) -> bool {
    lease["unknownSince"].is_string()
}

/// Where another replica than the one that was asked writes it: which, and how old what it says is.
fn elsewhere(project: &Value) -> Option<String> {
    let lease = &project["lease"];
    if lease.is_null() || lease["isMine"] == true {
        return None;
    }
    let holder = match (lease["holder"].as_str(), unheld(project)) {
        (Some(holder), _) => format!("written by the replica {}", legible(holder)),
        (None, Some(cause)) if is_unknown(lease) => format!("NOT KNOWN WHICH REPLICA HOLDS IT, as {cause}"),
        (None, _) => "NO REPLICA HOLDS IT at the moment".to_owned(),
    };
    let here =
        if project["lastPass"].is_null() { "nothing is known of it here" } else { "this is what was known here last" };
    let said = lease["statusOf"].as_str().zip(lease["statusAgeSeconds"].as_u64());
    let said = said
        .map_or_else(|| format!("; {here}"), |(who, age)| format!("; this is what {} said {age}s ago", legible(who)));
    Some(format!("{holder}{said}"))
}

/// Files of which no plan was made yet, and those that plan and counts are of. What is put aside is told as that.
pub fn not_compared(project: &Value) -> Option<(String, String)> {
    let short = |revision: &Value| revision.as_str().map(|revision| revision.get(..12).unwrap_or(revision).to_owned());
    let is_aside = project["holds"]
        .as_array()
        .is_some_and(|all| all.iter().any(|it| it["stopsProject"] == true && it["reason"] == "stale_revision"));
    let (newer, older) = (short(&project["desired"]["revision"])?, short(&project["plannedRevision"])?);
    (newer != older && !is_aside).then(|| {
        let newer = project["desired"]["commit"]
            .as_str()
            .map_or(newer.clone(), |commit| format!("{} ({newer})", legible(commit)));
        (newer, older)
    })
}

/// That Descope refuses the project, and which replicas it refuses, though another may write it.
fn refused(project: &Value, now: SystemTime) -> Vec<String> {
    let whole = project["refusedBecause"].as_str();
    let replicas = || project["checkouts"]["replicas"].as_array().into_iter().flatten();
    let is_mine = |replica: &Value| replica["isMine"] == true;
    let line = |replica: &Value| {
        let (refused, name) = (replica["refused"].as_str()?, replica["replica"].as_str()?);
        let refused = whole.filter(|_| is_mine(replica)).unwrap_or(refused);
        let since = ago(&replica["refusedSince"], now);
        Some(format!("REFUSED at the replica {}: {} since {since}", legible(name), one_line(refused)))
    };
    let is_told = replicas().any(|replica| is_mine(replica) && replica["refused"].is_string());
    let whole = whole.filter(|_| !is_told).map(|refused| {
        let since = project["refusedSince"].as_str().map(|_| format!(" since {}", ago(&project["refusedSince"], now)));
        let (refused, since) = (one_line(refused), since.unwrap_or_default());
        format!("REFUSED: {refused}{since}; nothing is sent meanwhile, and one request per interval asks again")
    });
    whole.into_iter().chain(replicas().filter_map(line)).collect()
}

/// Lists that cannot be read, in a line those of one cause, but for what refuses the project as a whole.
fn unread_lists(problems: &[Value], refused: Option<&str>, now: SystemTime) -> Vec<String> {
    let mut causes: Vec<(String, Vec<&Value>)> = Vec::new();
    for problem in problems {
        let message = problem["message"].as_str().unwrap_or_default();
        let of = cause(message);
        if refused.is_some_and(|refused| cause(refused) == of) {
            continue;
        }
        let is_same = |(known, all): &&mut (String, Vec<&Value>)| {
            *known == of && all.iter().all(|one| one["state"] == problem["state"])
        };
        match causes.iter_mut().find(is_same) {
            Some((_, all)) => all.push(problem),
            None => causes.push((of, vec![problem])),
        }
    }
    let line = |(_, all): (String, Vec<&Value>)| {
        let first = all.first()?;
        let kinds: Vec<String> = all.iter().map(|problem| word(&problem["kind"])).collect();
        let kinds = listed(&kinds.iter().map(String::as_str).collect::<Vec<_>>());
        Some(format!("{}: {kinds}: {}{}", plight(first), word(&first["message"]), next_try(first, now)))
    };
    causes.into_iter().filter_map(line).collect()
}

fn next_try(problem: &Value, now: SystemTime) -> String {
    let next = &problem["nextAttemptAt"];
    next.as_str().map_or_else(String::new, |_| format!("; next try {}", ahead(next, now)))
}

/// The command to give it with and what that does, or why there is none.
fn order(can_order: bool, command: &str, then: &str) -> String {
    if can_order { format!("`descope-gitops {command}`{then}") } else { NO_ORDERS.to_owned() }
}

/// What lets go ahead what is held.
fn to_release(held: &Value, can_order: bool, is_of_older: bool) -> Option<String> {
    let approve = order(can_order, &format!("approve {}", one_line(held["fingerprint"].as_str()?)), "");
    let deletes = number(&held["deletes"]);
    let plural = if deletes == "1" { "" } else { "s" };
    let what = match held["changes"].as_u64() {
        Some(0) => "the project".to_owned(),
        _ => format!("{deletes} delete{plural}"),
    };
    let older = if is_of_older { ", of the older files: what the newer ones do not want is not done" } else { "" };
    Some(format!("to release ({what}{older}): {approve}"))
}

/// Which parts of it are suspended by themselves.
fn suspended(parts: &Value, project: &str, can_order: bool) -> Vec<String> {
    let line = |part: &Value| {
        let id = part["id"].as_str().map(|id| format!("/{}", legible(id))).unwrap_or_default();
        let by = part["by"].as_str().map_or_else(String::new, |by| format!(" by {}", one_line(by)));
        let (kind, since, until) = (word(&part["kind"]), word(&part["since"]), word(&part["until"]));
        let part = if id.is_empty() { format!("--kind {kind}") } else { format!("--target {kind}{id}") };
        let resume = order(can_order, &format!("resume {project} {part}"), " ends it");
        format!("suspended: {kind}{id}{by} since {since} until {until}: {resume}")
    };
    parts.as_array().into_iter().flatten().map(line).collect()
}

/// What somebody should know of a project that is not at rest.
/// `can_order`: may anybody give the daemon an order?
fn below(project: &Value, can_order: bool, now: SystemTime) -> Vec<String> {
    let mut lines = Vec::new();
    // Without it an order is for all projects of the daemon.
    let option = project_option(&word(&project["name"]));
    lines.extend(elsewhere(project));
    lines.extend(not_compared(project).map(|(newer, older)| {
        format!("NEWER FILES ARE NOT COMPARED YET: {newer}; what is said of resources is of {older}")
    }));
    lines.extend(refused(project, now));
    if let Some(until) = project["suspendedUntil"].as_str() {
        let by = project["suspendedBy"].as_str().map_or_else(String::new, |by| format!(" by {}", one_line(by)));
        let resume = order(can_order, &format!("resume {option}"), " ends it");
        lines.push(format!("suspended{by} until {}: {resume}", one_line(until)));
    }
    lines.extend(suspended(&project["suspensions"], &option, can_order));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    add(&mut lines, &list(&project["contested"]), |fight| {
        let actor = one_line(&who(fight["actor"].as_str(), fight["formerActor"].as_str()));
        let (path, declared, live) = (word(&fight["path"]), word(&fight["declared"]), word(&fight["live"]));
        let (times, since) = (number(&fight["times"]), ago(&fight["since"], now));
        format!(
            "contested: {} {path}: the files say {declared}, {actor} sets {live}, {times} times, the first {since}",
            named(fight)
        )
    });
    let errors = list(&project["desired"]["errors"]);
    let is_good = !project["desired"]["revision"].is_null();
    add(&mut lines, &errors, |error| invalid(error, is_good));
    let waits = list(&project["waits"]);
    add(&mut lines, &list(&project["holds"]), |hold| {
        let since =
            if hold["since"].is_null() { String::new() } else { format!(" since {}", ago(&hold["since"], now)) };
        let until =
            hold["until"].as_str().map_or_else(String::new, |_| format!(" (the first {})", ago(&hold["until"], now)));
        let (changes, reason, ends) = (number(&hold["changes"]), word(&hold["reason"]), word(&hold["endsWith"]));
        if let Some(why) = hold["why"].as_str() {
            let changes = if changes == "0" { String::new() } else { format!("{changes} by ") };
            return format!("held: {changes}{reason}{since}: {}; ends with {ends}", one_line(why));
        }
        let names = held(&waits, &reason, hold);
        format!("held: {changes} by {reason}{names}{since}; ends with {ends}{until}")
    });
    lines.extend(to_release(&project["held"], can_order, not_compared(project).is_some()));
    let problems = list(&project["problems"]);
    let (lists, others): (Vec<Value>, Vec<Value>) =
        problems.iter().cloned().partition(|problem| problem["id"].as_str() == Some(""));
    lines.extend(unread_lists(&lists, project["refusedBecause"].as_str(), now));
    add(&mut lines, &others, |problem| {
        let place = match (problem["file"].as_str(), &problem["line"]) {
            (Some(file), line) => format!("   {}:{}", one_line(file), number(line)),
            (None, _) => String::new(),
        };
        let next = next_try(problem, now);
        let (state, name) = (plight(problem), named(problem));
        let is_it = |wait: &&Value| (&wait["kind"], &wait["id"]) == (&problem["kind"], &problem["id"]);
        let since = waits.iter().find(is_it).map(|wait| since(wait, now)).unwrap_or_default();
        format!("{state}: {name}: {}{since}{next}{place}", word(&problem["message"]))
    });
    add(&mut lines, &list(&project["drift"]["resources"]), |drift| {
        let did = if drift["isDeleted"] == true { "deleted" } else { "what is there now is" };
        let actor = drift["actor"].as_str().map(|actor| format!("; {did} by {}", one_line(actor)));
        let (kind, id, since) = (word(&drift["kind"]), id(&drift["id"]), ago(&drift["since"], now));
        format!("drifted: {kind}/{id}, first seen {since}{}", actor.unwrap_or_default())
    });
    // Holds and problems are told above, in more words.
    let told: Vec<String> = list(&project["holds"]).iter().map(|hold| word(&hold["reason"])).collect();
    let is_problem = |wait: &Value| {
        let is_it = |problem: &Value| (&wait["kind"], &wait["id"]) == (&problem["kind"], &problem["id"]);
        matches!(&*reason(wait), "parked" | "backoff" | "dependency" | "unobserved") && problems.iter().any(is_it)
    };
    let is_told = |wait: &&Value| is_problem(wait) || told.contains(&reason(wait)) && !is_of_whole(wait);
    let others: Vec<&Value> = waits.iter().filter(|wait| !is_told(wait)).collect();
    let groups = alike(&others);
    let words: Vec<String> = groups.iter().map(|group| waiting(group, &project["waitCounts"], now)).collect();
    lines.extend(words.iter().take(MOST).cloned());
    if words.len() > MOST {
        lines.push(format!("... and {} more of these (`status -o json`)", words.len() - MOST));
    }
    let progress = &project["progress"];
    if !progress.is_null() {
        let ends = progress["endsAt"].as_str().and_then(|at| humantime::parse_rfc3339(at).ok());
        let left = match ends.and_then(|at| at.duration_since(now).ok()) {
            Some(left) => format!(", about {} to go", span(left)),
            None if ends.is_some() => ", done any moment".to_owned(),
            None => String::new(),
        };
        lines.push(format!(
            "under way: {} of {} changes left{left}",
            number(&progress["left"]),
            number(&progress["total"])
        ));
    }
    if project["undeclared"].as_u64().is_some_and(|count| count > 0) {
        lines.push(format!("{} live and declared nowhere, left alone", number(&project["undeclared"])));
    }
    if project["look"].is_object() {
        lines.push(looking(&project["look"], now));
    } else if project["converged"] == false && project["nextPassAt"].is_string() {
        lines.push(format!("next pass {}", ahead(&project["nextPassAt"], now)));
    }
    lines
}

/// A look that takes long: what comes of it is known after that.
fn looking(look: &Value, now: SystemTime) -> String {
    let gate = look["until"].as_str().map_or_else(String::new, |_| {
        format!("; it waits for Descope's rate limit, which opens {}", ahead(&look["until"], now))
    });
    let budget = look["freeAt"].as_str().map_or_else(String::new, |_| {
        format!("; it waits for the rate budget, all of which is in use: more {}", ahead(&look["freeAt"], now))
    });
    format!("a pass is under way, looking at Descope since {}{gate}{budget}", ago(&look["since"], now))
}

/// In a word what is wrong. A kind as a whole is nothing that could be parked: its list cannot be read.
fn plight(problem: &Value) -> String {
    match (problem["id"].as_str(), problem["state"].as_str()) {
        (Some(""), Some("retrying")) => "cannot be read for now".to_owned(),
        (Some(""), _) => "cannot be read".to_owned(),
        _ => word(&problem["state"]),
    }
}

/// In a word.
fn reason(wait: &Value) -> String {
    let why = word(&wait["why"]);
    why.split(':').next().unwrap_or_default().to_owned()
}

/// Does it wait for the end of a suspension of the project, and no part of it? No hold is of that.
fn is_of_whole(wait: &Value) -> bool {
    wait["why"].as_str().is_some_and(|why| why.split_once(": ").is_some_and(|(_, what)| what == ONLY_OBSERVES))
}

fn since(wait: &Value, now: SystemTime) -> String {
    wait["since"].as_str().map_or_else(String::new, |_| format!("; since {}", ago(&wait["since"], now)))
}

/// Those that wait for the same, together.
fn alike<'a>(waits: &[&'a Value]) -> Vec<Vec<&'a Value>> {
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    for wait in waits {
        let is_same = |group: &&mut Vec<&Value>| group[0]["why"] == wait["why"] && group[0]["until"] == wait["until"];
        match groups.iter_mut().find(is_same) {
            Some(group) => group.push(wait),
            None => groups.push(vec![wait]),
        }
    }
    groups
}

/// A fault of the newest files. `is_good`: earlier ones stand. Those of before a restart are not known any more.
fn invalid(error: &Value, is_good: bool) -> String {
    let place = format!("{}:{}", word(&error["file"]), number(&error["line"]));
    let in_force = if is_good {
        "the last good files stay in force"
    } else {
        "none were good since the daemon started: nothing is in force, and nothing is changed"
    };
    format!("invalid: {place}: {}; {in_force}", word(&error["message"]))
}

/// One group in a line. `counts` knows of more than the status names.
fn waiting(group: &[&Value], counts: &Value, now: SystemTime) -> String {
    const NAMED: usize = 3;
    let Some(first) = group.first() else { return String::new() };
    let all = counts[reason(first)].as_u64().and_then(|all| usize::try_from(all).ok()).unwrap_or_default();
    // Where the status names as many as it ever does, the others wait for the same.
    let count = if group.len() >= TOLD { all.max(group.len()) } else { group.len() };
    let shown = if count > NAMED + 1 { NAMED } else { count };
    let names: Vec<String> = group.iter().take(shown).map(|wait| named(wait)).collect();
    let more = if count > shown { format!(" and {} more", count - shown) } else { String::new() };
    let oldest = group.iter().min_by_key(|wait| wait["since"].as_str().unwrap_or("9")).unwrap_or(first);
    let until = first["until"].as_str().map_or_else(String::new, |_| format!("; ends {}", ago(&first["until"], now)));
    format!("waits: {}{more}: {}{}{until}", names.join(", "), word(&first["why"]), since(oldest, now))
}

/// Who waits for that, with what would be done where the plan says so, the first of them.
fn held(waits: &[Value], reason_of_hold: &str, hold: &Value) -> String {
    const NAMED: usize = 3;
    let told = |wait: &Value| {
        let why = word(&wait["why"]);
        // Drift has a line of its own.
        let is_told = |what: &&str| reason_of_hold != "drift_reported" && !what.starts_with("ends with ");
        let what = why.split_once(": ").map(|(_, what)| what).filter(is_told);
        named(wait) + &what.map_or_else(String::new, |what| format!(": {what}"))
    };
    // Of one reason some may end with time, and others not.
    let is_of = |wait: &&Value| {
        reason(wait) == reason_of_hold
            && !is_of_whole(wait)
            && (reason_of_hold != "drift_reported" || wait["until"].is_string() == hold["until"].is_string())
    };
    let mut names: Vec<String> = waits.iter().filter(is_of).map(told).collect();
    names.dedup();
    let more = if names.len() > NAMED { "; ..." } else { "" };
    names.truncate(NAMED);
    if names.is_empty() { String::new() } else { format!(" ({}{more})", names.join("; ")) }
}

/// A resource, or a kind as a whole.
fn named(wait: &Value) -> String {
    let slash = if wait["id"].as_str().unwrap_or_default().is_empty() { "" } else { "/" };
    format!("{}{slash}{}", word(&wait["kind"]), id(&wait["id"]))
}

fn add(lines: &mut Vec<String>, items: &[Value], text: impl Fn(&Value) -> String) {
    lines.extend(items.iter().take(MOST).map(text));
    if items.len() > MOST {
        lines.push(format!("... and {} more of these (`status -o json`)", items.len() - MOST));
    }
}

fn daemon(status: &Value, now: SystemTime) -> String {
    let queue = &status["queue"];
    format!(
        "descope-gitops {}, started {}; queue: {} ready, {} delayed, {} in flight",
        word(&status["version"]),
        ago(&status["startedAt"], now),
        number(&queue["ready"]),
        number(&queue["delayed"]),
        number(&queue["inFlight"]),
    )
}

fn budget(limiter: &Value, now: SystemTime) -> String {
    let host = word(&limiter["host"]);
    let closed = match limiter["pausedUntil"].as_str() {
        Some(_) => format!(", CLOSED, opens {}", ago(&limiter["pausedUntil"], now)),
        None => String::new(),
    };
    let refused = limiter["throttledTotal"].as_u64().unwrap_or_default();
    let answers = if refused == 1 { "answer" } else { "answers" };
    let used = match limiter["budget"].as_f64() {
        Some(budget) => of_window(limiter["used"].as_u64().unwrap_or_default(), budget),
        None => "no limit known".to_owned(),
    };
    let back = limiter["wayBack"]["budget"].as_f64().map_or_else(String::new, |budget| {
        let at = &limiter["wayBack"]["at"];
        format!(", {} again {} at the latest unless one is refused", rounded(budget), ahead(at, now))
    });
    format!("budget of {host}: {used}{closed}{back}; {refused} {answers} with 429 so far")
}

/// Columns as wide as what is in them.
fn aligned(rows: &[[String; 7]], style: Style) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = String::new();
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let padded = format!("{cell}{}", " ".repeat(width - cell.chars().count()));
                match (n, column) {
                    (0, _) => style.bold(&padded),
                    (_, 1) if cell.starts_with("at rest") => style.good(&padded),
                    (_, 1) => style.bad(&padded),
                    _ => padded,
                }
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn word(value: &Value) -> String {
    one_line(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn id(value: &Value) -> String {
    one_line(&legible(value.as_str().unwrap_or_default()))
}

fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |number| number.to_string())
}

/// The label from git, else the digest, cut to what tells two apart.
fn label(commit: &Value, revision: &Value) -> String {
    const DIRTY: &str = "-dirty";
    let text = commit.as_str().or(revision.as_str()).unwrap_or("-");
    let (text, dirty) = text.strip_suffix(DIRTY).map_or((text, ""), |clean| (clean, DIRTY));
    let short: String = text.chars().take(12).collect();
    one_line(&format!("{short}{dirty}"))
}

/// `3m ago`, `in 20s`, `never`.
fn ago(time: &Value, now: SystemTime) -> String {
    let Some(text) = time.as_str() else { return "never".to_owned() };
    let Ok(time) = humantime::parse_rfc3339(text) else { return one_line(text) };
    match now.duration_since(time) {
        Ok(passed) => format!("{} ago", span(passed)),
        Err(ahead) => format!("in {}", span(ahead.duration())),
    }
}

/// Of what is to happen then: `in 20s`, and `now` where it is time, or it is under way.
fn ahead(time: &Value, now: SystemTime) -> String {
    let is_past = time.as_str().and_then(|text| humantime::parse_rfc3339(text).ok()).is_some_and(|at| at <= now);
    if is_past { "now".to_owned() } else { ago(time, now) }
}

/// In one unit or two: what is left out is an eighth of it at most.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let both = |unit: u64, name: char, part: u64, rest: char| match seconds % unit / part {
        0 => format!("{}{name}", seconds / unit),
        left => format!("{}{name}{left}{rest}", seconds / unit),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => both(60, 'm', 1, 's'),
        600..7200 => format!("{}m", seconds / 60),
        7200..28_800 => both(3600, 'h', 60, 'm'),
        28_800..172_800 => format!("{}h", seconds / 3600),
        172_800..691_200 => both(86_400, 'd', 3600, 'h'),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_is_told_to_an_eighth_of_it_or_nearer() {
        let told = |seconds: u64| span(Duration::from_secs(seconds));
        let few = [119, 120, 239, 599, 600, 7199, 7200, 14_460, 28_799, 28_800, 172_799, 172_800, 180_000, 691_200];
        let texts =
            ["119s", "2m", "3m59s", "9m59s", "10m", "119m", "2h", "4h1m", "7h59m", "8h", "47h", "2d", "2d2h", "8d"];

        assert_eq!(few.map(told), texts);
        for seconds in 0..1_000_000 {
            let (mut read, mut number) = (0, 0);
            for sign in told(seconds).chars() {
                match (sign.to_digit(10), sign) {
                    (Some(digit), _) => number = 10 * number + u64::from(digit),
                    (None, 's') => read += std::mem::take(&mut number),
                    (None, 'm') => read += 60 * std::mem::take(&mut number),
                    (None, 'h') => read += 3600 * std::mem::take(&mut number),
                    (None, _) => read += 86_400 * std::mem::take(&mut number),
                }
            }
            assert!(read <= seconds && 8 * (seconds - read) <= seconds, "{seconds} is told as {read}");
        }
    }

    fn status() -> Value {
        let project = |name: &str, converged: bool| {
            json!({
                "name": name, "policy": "sync", "converged": converged, "notConvergedBecause": if converged { Value::Null } else { json!("held") },
                "suspendedUntil": null, "undeclared": 0, "lastSuccessAt": "2026-11-29T11:58:00Z", "nextPassAt": "2026-11-29T12:00:20Z",
                "desired": { "valid": true, "revision": "abcdef0123456789", "commit": null, "resources": 12, "errors": [] },
                "applied": { "revision": "abcdef0123456789", "commit": "0123456789abcdef-dirty" }, "counts": { "inSync": 10 },
                "lastPass": { "result": "held", "finishedAt": "2026-11-29T11:59:57Z" }, "holds": [], "problems": [], "waits": [],
                "drift": { "resources": [] }, "progress": null, "held": null,
            })
        };
        let mut held = project("staging\u{1b}[2J", false);
        held["held"] = json!({ "fingerprint": "f00d", "deletes": 2, "changes": 3 });
        held["holds"] = json!([{ "reason": "max_deletes", "since": "2026-11-29T10:00:00Z", "until": null, "changes": 3, "endsWith": "approval" }]);
        held["problems"] = json!([{ "kind": "roles", "id": "A", "state": "parked", "message": "no such permission", "file": "a.yaml", "line": 3, "nextAttemptAt": null }]);
        held["waits"] = json!([
            { "kind": "roles", "id": "B", "why": "dependency: permissions/p", "since": null, "until": null },
            { "kind": "tenants", "id": "t", "why": "max_deletes", "since": null, "until": null },
        ]);
        json!({
            "version": "0.1.0", "startedAt": "2026-11-29T09:00:00Z", "projects": [project("production", true), held],
            "queue": { "ready": 0, "delayed": 1, "inFlight": 0 },
            "limiters": [{ "host": "api.descope.com", "budget": 90.0, "used": 12, "pausedUntil": "2026-11-29T12:00:30Z", "throttledTotal": 1 }],
        })
    }

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-29T12:00:00Z").unwrap()
    }

    #[test]
    fn a_look_that_takes_long_is_the_next_pass_and_a_cut_budget_says_when_it_is_over() {
        let told = |look: Value| {
            let mut status = status();
            status["projects"][1]["look"] = look;
            text(&status, now(), Style::default())
        };
        assert!(told(Value::Null).contains("  next pass in 20s\n"));
        let look = |until: Value| told(json!({ "since": "2026-11-29T11:59:20Z", "until": until }));
        let text = look(Value::Null);
        assert!(
            text.contains("  a pass is under way, looking at Descope since 40s ago\n") && !text.contains("next pass"),
            "{text}"
        );
        let text = look(json!("2026-11-29T12:00:30Z"));
        let waits = "looking at Descope since 40s ago; it waits for Descope's rate limit, which opens in 30s\n";
        assert!(text.contains(waits) && !text.contains("next pass"), "{text}");

        let text = told(json!({ "since": "2026-11-29T11:59:20Z", "until": null, "freeAt": "2026-11-29T12:00:19Z" }));
        let waits = "since 40s ago; it waits for the rate budget, all of which is in use: more in 19s\n";
        assert!(text.contains(waits), "{text}");

        let mut status = status();
        status["limiters"][0]["wayBack"] =
            json!({ "at": "2026-11-29T12:04:00Z", "budget": 100.0, "requestsPerSecond": 1.67 });
        let text = super::text(&status, now(), Style::default());
        assert!(text.contains("opens in 30s, 100 again in 4m at the latest unless one is refused; 1 answer"), "{text}");
    }

    /// The hold named what waits for the other, and that had no line.
    #[test]
    fn a_part_that_is_suspended_in_a_suspended_project_is_told_beside_the_rest() {
        let mut status = status();
        let [of_part, of_whole] = ["2026-11-29T12:00:09Z", "2026-11-29T12:00:45Z"];
        status["projects"][1]["holds"] = json!([{ "reason": "suspended", "changes": 1, "approvable": false, "until": of_part, "endsWith": "`resume`, or time", "since": null, "why": null }]);
        let wait = |id: &str, why: &str, until: &str| json!({ "kind": "tenants", "id": id, "why": why, "since": null, "until": until });
        let whole = "suspended: the project only observes";
        status["projects"][1]["waits"] =
            json!([wait("a", whole, of_whole), wait("b", whole, of_whole), wait("z", "suspended: by ops", of_part)]);

        let text = super::text(&status, now(), Style::default());

        assert!(
            text.contains(
                "  held: 1 by suspended (tenants/z: by ops); ends with `resume`, or time (the first in 9s)\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("  waits: tenants/a, tenants/b: suspended: the project only observes; ends in 45s\n"),
            "{text}"
        );
    }

    /// Each line named what is of both.
    #[test]
    fn of_two_holds_of_one_reason_each_names_its_own() {
        let mut status = status();
        let hold = |until: Value| json!({ "reason": "drift_reported", "changes": 1, "approvable": false, "until": until, "endsWith": "it", "since": null, "why": null });
        let wait = |id: &str, until: Value| json!({ "kind": "tenants", "id": id, "why": "drift_reported", "since": null, "until": until });
        let end = json!("2026-11-29T12:01:00Z");
        status["projects"][1]["holds"] = json!([hold(Value::Null), hold(end.clone())]);
        status["projects"][1]["waits"] = json!([wait("left", Value::Null), wait("young", end)]);

        let text = text(&status, now(), Style::default());

        assert!(text.contains("  held: 1 by drift_reported (tenants/left); ends with it\n"), "{text}");
        assert!(
            text.contains("  held: 1 by drift_reported (tenants/young); ends with it (the first in 60s)\n"),
            "{text}"
        );
    }

    /// Everything in sync and not at rest read like a contradiction.
    #[test]
    fn what_nobody_looked_at_yet_is_told_beside_what_is_in_sync() {
        let mut status = status();
        status["projects"][1]["notConvergedBecause"] = json!("pending");
        status["projects"][1]["kinds"] = json!([{ "kind": "tenants", "details": { "parts": 80, "unread": 40 } }, { "kind": "roles", "details": null }]);

        let text = text(&status, now(), Style::default());

        assert!(text.contains("NOT AT REST: pending (40 of 80 details not looked at yet)  10 of 12"), "{text}");
    }

    #[test]
    fn what_another_replica_says_is_told_with_who_and_how_old() {
        let told = |lease: Value| {
            let mut status = status();
            status["projects"][0]["lease"] = lease;
            text(&status, now(), Style::default())
        };
        let said =
            |holder: Value| json!({ "isMine": false, "holder": holder, "statusOf": "a/1", "statusAgeSeconds": 3 });

        let text = told(said(json!("a/1")));
        assert!(text.contains("\nproduction\n  written by the replica a/1; this is what a/1 said 3s ago\n"), "{text}");
        let text = told(said(Value::Null));
        assert!(text.contains("  NO REPLICA HOLDS IT at the moment; this is what a/1 said 3s ago\n"), "{text}");
        assert!(text.contains("production        NOT KNOWN: no replica holds it  ? of 12"), "{text}");
        let mut unknown = said(Value::Null);
        unknown["unknownSince"] = json!("2026-11-29T11:59:00Z");
        let text = told(unknown);
        let holds = "  NOT KNOWN WHICH REPLICA HOLDS IT, as the database of state.url does not answer; this is what a/1 said 3s ago\n";
        assert!(text.contains(holds) && !text.contains("NO REPLICA"), "{text}");
        assert!(
            text.contains("production        NOT KNOWN: the database of state.url does not answer  ? of 12"),
            "{text}"
        );
        let text = told(json!({ "isMine": false, "holder": "a/1", "statusOf": null, "statusAgeSeconds": null }));
        assert!(text.contains("  written by the replica a/1; this is what was known here last\n"), "{text}");
        let mut status = status();
        status["projects"][0]["lease"] = json!({ "isMine": false, "holder": "a/1" });
        status["projects"][0]["lastPass"] = Value::Null;
        let text = super::text(&status, now(), Style::default());
        assert!(text.contains("  written by the replica a/1; nothing is known of it here\n"), "{text}");
        assert!(!told(json!({ "isMine": true, "holder": "a/1" })).contains("a/1"));
    }

    #[test]
    fn a_fight_is_told_with_both_values_and_a_suspension_with_what_ends_it() {
        let mut status = status();
        status["projects"][0]["suspendedUntil"] = json!("2026-11-29T13:00:00Z");
        let held = &mut status["projects"][1];
        held["suspendedUntil"] = json!("2026-11-29T13:00:00Z");
        held["contested"] = json!([{ "kind": "roles", "id": "A", "path": "description", "declared": "\"ours\"", "live": "\"theirs\"",
            "times": 5, "since": "2026-11-29T11:00:00Z", "until": "2026-11-29T13:00:00Z", "actor": "ops@example.com" }]);
        held["suspensions"] = json!([
            { "kind": "roles", "id": null, "since": "S", "until": "U", "by": "127.0.0.1" },
            { "kind": "tenants", "id": "acme", "since": "S", "until": "U", "by": null },
        ]);

        let text = text(&status, now(), Style::default());

        let option = project_option(&word(&status["projects"][1]["name"]));
        let resume = |part: &str| format!("`descope-gitops resume {option} {part}` ends it\n");
        for line in [
            "production        at rest, suspended        10",
            "SUSPENDED, with problems  10",
            "  contested: roles/A description: the files say \"ours\", ops@example.com sets \"theirs\", 5 times, the first 60m ago\n",
            &format!("  suspended: roles by 127.0.0.1 since S until U: {}", resume("--kind roles")),
            &format!("  suspended: tenants/acme since S until U: {}", resume("--target tenants/acme")),
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }

    /// The commands were named nevertheless, and refused.
    #[test]
    fn where_no_orders_are_taken_no_command_is_named_that_is_one() {
        let mut status = status();
        let held = &mut status["projects"][1];
        held["suspendedUntil"] = json!("2026-11-29T13:00:00Z");
        held["suspensions"] = json!([{ "kind": "roles", "id": null, "since": "S", "until": "U", "by": null }]);
        held["holds"] = json!([{ "reason": "stale_revision", "since": null, "until": null, "changes": 0, "why": "put aside",
            "revision": "abc", "endsWith": "newer files, or `descope-gitops approve abc`" }]);
        let commands = |status: &Value| {
            let text = text(status, now(), Style::default());
            let option = project_option(&word(&status["projects"][1]["name"]));
            let orders =
                ["approve f00d`".to_owned(), format!("resume {option}`"), format!("resume {option} --kind roles`")];
            let orders = orders.map(|order| text.contains(&order));
            (orders, text.matches(NO_ORDERS).count())
        };

        assert_eq!(commands(&status), ([true; 3], 0), "an older daemon does not say");
        status["canOrder"] = json!(true);
        assert_eq!(commands(&status), ([true; 3], 0));
        status["canOrder"] = json!(false);
        assert_eq!(commands(&status), ([false; 3], 3), "what is put aside says so itself");
    }

    /// The reason stood there twice, once as that of something parked.
    #[test]
    fn a_list_that_cannot_be_read_is_told_once_as_what_it_is() {
        let mut status = status();
        let held = &mut status["projects"][1];
        let problem = |kind: &str, state: &str| json!({ "kind": kind, "id": "", "state": state, "message": "no licence", "file": null, "nextAttemptAt": null });
        let wait = |kind: &str| json!({ "kind": kind, "id": "", "why": "unobserved: no licence", "since": null, "until": null });
        held["problems"] = json!([problem("roles", "parked"), problem("lists", "retrying")]);
        held["waits"] = json!([wait("roles"), wait("lists"), wait("theme")]);

        let text = text(&status, now(), Style::default());

        let told: Vec<&str> = text.lines().filter(|line| line.contains("no licence")).map(str::trim).collect();
        let expected = [
            "cannot be read: roles: no licence",
            "cannot be read for now: lists: no licence",
            "waits: theme: unobserved: no licence",
        ];
        assert_eq!(told, expected, "{text}");
    }

    /// Each kind had a line of its own, and the refusal none.
    #[test]
    fn lists_of_one_cause_are_a_line_and_none_beside_what_refuses_the_project() {
        let mut status = status();
        let held = &mut status["projects"][1];
        let problem = |kind: &str, state: &str, status: u16| {
            let message = format!("Descope could not answer GET /v1/{kind}/all: status {status}: no");
            let next = if state == "retrying" { json!("2026-11-29T12:00:05Z") } else { Value::Null };
            json!({ "kind": kind, "id": "", "state": state, "message": message, "file": null, "nextAttemptAt": next })
        };
        held["problems"] = json!([
            problem("a", "retrying", 500),
            problem("b", "parked", 500),
            problem("c", "retrying", 500),
            problem("d", "retrying", 502),
            problem("e", "retrying", 500)
        ]);
        let lines = |status: &Value| -> Vec<String> {
            let text = text(status, now(), Style::default());
            let told = text.lines().filter(|line| line.contains("could not answer"));
            told.map(|line| line.trim().replace("Descope could not answer GET /v1", "")).collect()
        };

        let expected = [
            "cannot be read for now: a, c and e: /a/all: status 500: no; next try in 5s",
            "cannot be read: b: /b/all: status 500: no",
            "cannot be read for now: d: /d/all: status 502: no; next try in 5s",
        ];
        assert_eq!(lines(&status), expected);
        status["projects"][1]["refusedBecause"] = json!("Descope could not answer GET /v1/x: status 500: no");
        let refused = "REFUSED: /x: status 500: no; nothing is sent meanwhile, and one request per interval asks again";
        assert_eq!(lines(&status), [refused, expected[2]]);
        // A replica that is refused has a line of its own.
        let replica = |is_mine: bool| json!({ "replica": "r", "isMine": is_mine, "refused": "key", "refusedSince": "2026-11-29T11:59:00Z" });
        status["projects"][1]["checkouts"] = json!({ "replicas": [replica(true)] });
        assert_eq!(lines(&status), ["REFUSED at the replica r: /x: status 500: no since 60s ago", expected[2]]);
        status["projects"][1]["checkouts"] = json!({ "replicas": [replica(false)] });
        assert_eq!(lines(&status), [refused, expected[2]]);
        assert!(text(&status, now(), Style::default()).contains("REFUSED at the replica r: key since 60s ago\n"));
        status["projects"][1]["refusedSince"] = json!("2026-11-29T11:58:00Z");
        let refused = refused.replace(": no;", ": no since 2m ago;");
        assert_eq!(lines(&status), [&refused, expected[2]]);
    }

    #[test]
    fn a_project_that_is_held_though_nothing_differs_is_released_as_a_whole() {
        let mut status = status();
        status["projects"][1]["held"] = json!({ "fingerprint": "f00d", "deletes": 0, "changes": 0 });

        let text = text(&status, now(), Style::default());

        assert!(text.contains("  to release (the project): `descope-gitops approve f00d`\n"), "{text}");
    }

    /// A full disk was told by nothing but a wait of each change.
    #[test]
    fn a_state_that_cannot_be_written_has_a_line_of_its_own() {
        let mut status = status();
        status["components"] = json!([
            { "name": "source", "project": "production", "status": "ok", "reason": null, "since": "2026-11-29T11:00:00Z" },
            { "name": "lease", "project": null, "status": "ok", "reason": null, "since": "2026-11-29T11:00:00Z" },
            { "name": "state", "project": null, "status": "degraded", "reason": "cannot be written", "since": "2026-11-29T11:57:00Z" },
            { "name": "notifications", "project": null, "status": "degraded", "reason": "not delivered", "since": "2026-11-29T11:57:00Z" },
        ]);

        let text = text(&status, now(), Style::default());

        let line =
            "\nSTATE: cannot be written, since 3m ago; nothing is created, renamed or deleted until that is over\n";
        assert!(text.contains(line) && !text.contains("LEASE"), "{text}");
        // One database, one cause.
        status["components"][1]["status"] = json!("degraded");
        let shared = super::text(&status, now(), Style::default());
        assert!(shared.contains("\nLEASE: ") && !shared.contains("STATE: "), "{shared}");
        assert!(text.contains("\nNOTIFICATIONS: not delivered, since 3m ago; a receiver is not told"), "{text}");
    }

    /// Of a short label "-dirty" stood there one and a half times.
    #[test]
    fn a_label_is_cut_before_what_says_that_files_were_changed() {
        for (commit, expected) in [
            ("d5ef157-dirty", "d5ef157-dirty"),
            ("0123456789abcdef-dirty", "0123456789ab-dirty"),
            ("0123456789abcdef", "0123456789ab"),
            ("d5ef157", "d5ef157"),
        ] {
            assert_eq!(label(&json!(commit), &Value::Null), expected);
        }
        assert_eq!(
            (label(&Value::Null, &json!("abcdef")), label(&Value::Null, &Value::Null)),
            ("abcdef".to_owned(), "-".to_owned())
        );
    }

    /// 59 of 400 were done, and it was "applied".
    #[test]
    fn a_pass_whose_changes_still_go_out_is_not_told_as_applied() {
        let mut status = status();
        let pass = |result: &str, progress: Value, status: &mut Value| {
            status["projects"][1]["lastPass"]["result"] = json!(result);
            status["projects"][1]["progress"] = progress;
            text(status, now(), Style::default())
        };
        let progress = json!({ "left": 341, "total": 400, "secondsLeft": 9, "endsAt": "2026-11-29T12:04:00Z" });

        let told = pass("applied", progress.clone(), &mut status);
        assert!(told.contains("  341 of 400 changes still to go, planned 3s ago\n"), "{told}");
        assert!(told.contains("under way: 341 of 400 changes left, about 4m to go"), "{told}");
        let told = pass("held", progress, &mut status);
        assert!(told.contains("  held, 341 of 400 changes still to go, planned 3s ago\n"), "{told}");
        assert!(pass("applied", Value::Null, &mut status).contains("  applied 3s ago\n"));
    }

    #[test]
    fn what_is_held_is_told_with_what_it_would_do() {
        let mut status = status();
        let wait =
            |id: &str, why: &str| json!({ "kind": "tenants", "id": id, "why": why, "since": null, "until": null });
        status["projects"][1]["waits"] =
            json!([wait("a", "max_deletes: disabled is turned on"), wait("b", "max_deletes: ends with an approval")]);

        let text = text(&status, now(), Style::default());

        assert!(text.contains("held: 3 by max_deletes (tenants/a: disabled is turned on; tenants/b) since"), "{text}");
    }

    #[test]
    fn what_is_due_is_not_told_as_long_ago() {
        let mut status = status();
        status["projects"][1]["nextPassAt"] = json!("2026-11-29T11:59:51Z");
        status["projects"][1]["problems"][0]["nextAttemptAt"] = json!("2026-11-29T11:59:51Z");

        let text = text(&status, now(), Style::default());

        assert!(text.contains("  next pass now\n") && text.contains("; next try now  "), "{text}");
    }

    #[test]
    fn it_says_at_a_glance_what_is_at_rest_and_what_to_do() {
        let text = text(&status(), now(), Style::default());

        let expected = "\
PROJECT           STATE              IN SYNC   WANTED        APPLIED             LAST SUCCESS  LAST PASS
production        at rest            10 of 12  abcdef012345  0123456789ab-dirty  2m ago        held 3s ago
staging\\u{1b}[2J  NOT AT REST: held  10 of 12  abcdef012345  0123456789ab-dirty  2m ago        held 3s ago

staging\\u{1b}[2J
  held: 3 by max_deletes (tenants/t) since 2h ago; ends with approval
  to release (2 deletes): `descope-gitops approve f00d`
  parked: roles/A: no such permission   a.yaml:3
  waits: roles/B: dependency: permissions/p
  next pass in 20s

descope-gitops 0.1.0, started 3h ago; queue: 0 ready, 1 delayed, 0 in flight
budget of api.descope.com: 12 of 90 requests of the window used, CLOSED, opens in 30s; 1 answer with 429 so far
";
        assert_eq!(text, expected);
    }

    #[test]
    fn colours_show_what_is_well_and_what_is_not() {
        let text = text(&status(), now(), Style { color: true });

        assert!(text.contains("\u{1b}[32mat rest"), "{text}");
        assert!(text.contains("\u{1b}[1;31mNOT AT REST: held"), "{text}");
        assert!(!text.contains("\u{1b}[2J"), "{text}");
    }
}
