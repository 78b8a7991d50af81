//! `descope-gitops apply`: one pass to its end, then exit.

use crate::cli::Exit;
use crate::cli::Output;
use crate::cli::UsageError;
use crate::cli::bar::Bar;
use crate::cli::output;
use crate::cli::plan::desired;
use crate::cli::plan::selected;
use crate::cli::plan::show_findings;
use crate::cli::select;
use crate::cli::select::Selection;
use crate::cli::shutdown::shutdown_on_hangup_too;
use crate::config::Config;
use crate::config::StateAt;
use crate::config::process_env;
use crate::daemon::Parts;
use crate::daemon::Project;
use crate::daemon::settings;
use crate::desired::Desired;
use crate::limiter::Limiter;
use crate::limiter::Priority;
use crate::plan::Contact;
use crate::plan::Hold;
use crate::plan::Origin;
use crate::plan::Plan;
use crate::plan::render;
use crate::plan::render::Listed;
use crate::plan::render::ProjectReport;
use crate::plan::render::RefusedReport;
use crate::plan::render::Report;
use crate::queue::Queue;
use crate::reconcile::Reconciler;
use crate::reconcile::assess::Assessment;
use crate::reconcile::new_pass;
use crate::resource::Action;
use crate::resource::Key;
use crate::resource::legible::legible;
use crate::source::Trigger;
use crate::source::loader::Loader;
use crate::state;
use crate::telemetry::line::one_line;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::project_option;
use crate::telemetry::status::rfc3339;
use crate::telemetry::traces;
use crate::worker::recent::Unconfirmed;
use anyhow::bail;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io::BufWriter;
use std::io::IsTerminal;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

mod outcome;

pub use outcome::Applied;

const EXAMPLES: &str = "\
Examples:
  descope-gitops apply -c gitops.yaml                          asks before it changes anything
  descope-gitops apply -c gitops.yaml --auto-approve           elsewhere than on a terminal
  descope-gitops apply -c gitops.yaml --target roles/Editor    one resource, and what it needs
  descope-gitops apply -c gitops.yaml --approve 9ebe5f6e3955c92b";

/// What may go ahead, and how the outcome is shown.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct ApplyArgs {
    /// Do not ask; releases a first contact, but no guard
    #[arg(long)]
    pub auto_approve: bool,
    /// Release the held plan with this fingerprint
    #[arg(long, value_name = "FINGERPRINT")]
    pub approve: Option<String>,
    /// Which resources, with what they need; a delete has to be named by --target
    #[command(flatten)]
    pub selection: Selection,
    /// How to write the outcome
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: Output,
    /// Only these projects; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub project: Vec<String>,
}

/// Looks again so often at most where what was found differs from what was planned, e.g. because somebody else created
/// a resource meanwhile.
const ROUNDS: usize = 3;

/// Often enough for a bar to show that a pause comes to its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After a signal, for a reader that has stalled.
const LONGEST_PRINT: Duration = Duration::from_secs(1);

/// Applies.
pub async fn run(config: Config, args: ApplyArgs, redactor: &Redactor) -> anyhow::Result<Exit> {
    let names = selected(&config, &args.project)?;
    args.selection.kinds()?;
    let is_asked = !args.auto_approve && args.approve.is_none();
    if is_asked && !std::io::stdin().is_terminal() {
        return Err(UsageError("apply asks on a terminal; elsewhere say --auto-approve".to_owned()).into());
    }
    if matches!(config.state, StateAt::Database(_)) {
        return Err(UsageError(
            "apply has the state to itself; with state.url the replicas write: ask one of them with approve and reconcile"
                .to_owned(),
        )
        .into());
    }
    let signals = shutdown_on_hangup_too()?;
    let stop = signals.token();
    let mut parts = Parts::build(&config, &process_env, redactor, &stop)?;
    parts.projects.retain(|project| names.contains(&project.name.to_string()));
    let mut errors = Vec::new();
    let mut desired_states = Vec::new();
    for project in &mut parts.projects {
        // It has one pass: what is not seen now is not applied.
        project.reconciler.assessor.deep.read_all();
        let Some(loader) = &mut project.reconciler.loader else { continue };
        match desired(loader) {
            Ok(desired) => desired_states.push(desired),
            Err(findings) => errors.extend(findings),
        }
    }
    if !errors.is_empty() {
        show_findings(&errors)?;
        return Ok(Exit::Invalid);
    }

    let mut plans = assess(&parts, &desired_states, &args).await?;
    find_targets(&args.selection, &desired_states, &plans)?;
    if is_asked {
        if !ask(&report(&config, &parts, &plans), &plans)? {
            return Ok(Exit::Held);
        }
        for planned in plans.iter_mut().filter(|planned| !planned.is_suspended) {
            planned.plan.release(|hold| *hold == Hold::FirstContact(Contact::Project));
        }
    }
    let told = report(&config, &parts, &plans).projects.into_iter().map(ProjectReport::into_rendered);
    let mut report = Report::new(told.collect());
    let mut workers = start_workers(&config, &parts);
    let mut tasks = vec![0; parts.projects.len()];
    enqueue(&parts, &desired_states, plans, args.selection.is_narrow(), &mut tasks);
    drain(&parts, &stop).await;
    for _ in 1..ROUNDS {
        let is_asked_for = parts.projects.iter_mut().any(|project| project.triggers.try_recv().is_some());
        // What failed stays as it is: looking again would only hide it.
        let has_problems = parts.projects.iter().any(|project| parts.queue.counts_of(&project.name).total() > 0);
        if !is_asked_for || has_problems || stop.is_cancelled() {
            break;
        }
        let again = ApplyArgs { approve: None, ..args.clone() };
        let mut plans = assess(&parts, &desired_states, &again).await?;
        if let Some(until) = plans.iter().filter_map(|planned| planned.unconfirmed.until).max() {
            tracing::info!(
                "Descope shows what was there before the write: it is looked at again when that proves something"
            );
            if stop.run_until_cancelled(tokio::time::sleep_until(until)).await.is_none() {
                break;
            }
            plans = assess(&parts, &desired_states, &again).await?;
        }
        for (project, planned) in report.projects.iter_mut().zip(&plans) {
            project.is_incomplete |= !planned.plan.unobserved.is_empty();
            if !planned.plan.without_effect.is_empty() {
                project.is_without_effect = true;
                project.refused = RefusedReport::all(&planned.plan);
            }
        }
        enqueue(&parts, &desired_states, plans, args.selection.is_narrow(), &mut tasks);
        drain(&parts, &stop).await;
    }
    for project in parts.projects.iter().filter(|_| args.approve.is_some()) {
        // An approval is for this one time.
        let state = &project.reconciler.state;
        state.drop_approvals()?;
    }
    parts.queue.close();
    while workers.join_next().await.is_some() {}
    for (host, limiter) in &parts.limiters {
        settings::save(host, limiter, &parts.state, &mut 0);
    }

    let outcome = Applied::of(report, &parts.projects, &tasks, &parts.queue);
    let text = match args.output {
        Output::Text => outcome.text(),
        Output::Json => serde_json::to_string_pretty(&outcome)? + "\n",
    };
    let was_stopped = stop.is_cancelled();
    print(text, &stop).await?;
    ended(outcome.exit(), was_stopped)
}

/// A signal makes no difference to what was applied.
fn ended(exit: Exit, was_stopped: bool) -> anyhow::Result<Exit> {
    if was_stopped && exit != Exit::Partly {
        bail!("stopped before everything was applied; run it again to go on");
    }
    if was_stopped {
        tracing::error!("stopped before everything was applied; run it again to go on");
    }
    Ok(exit)
}

/// A signal ends it although the reader has stalled.
async fn print(text: String, stop: &CancellationToken) -> anyhow::Result<()> {
    let writing = tokio::task::spawn_blocking(move || output::stdout().write_all(text.as_bytes()));
    tokio::select! {
        written = writing => Ok(written??),
        () = async { stop.cancelled().await; tokio::time::sleep(LONGEST_PRINT).await } => {
            bail!("stopped while nobody read the outcome; `audit` has what was done")
        }
    }
}

/// The plan of a project.
struct Planned {
    plan: Plan,
    /// As in [`Assessment`].
    gone: HashSet<Key>,
    /// It was never seen before.
    first_contact: bool,
    /// As in [`Assessment`].
    unconfirmed: Unconfirmed,
    /// Nothing of it goes ahead, whatever is approved.
    is_suspended: bool,
}

/// Looks at every project, and releases what the arguments approve.
async fn assess(parts: &Parts, desired_states: &[Arc<Desired>], args: &ApplyArgs) -> anyhow::Result<Vec<Planned>> {
    let mut plans = Vec::new();
    let mut is_approved = args.approve.is_none();
    for (project, desired) in parts.projects.iter().zip(desired_states) {
        let reconciler = &project.reconciler;
        // Who names what left the files asks for its delete; of the rest a narrowed run notes nothing.
        let selection = &args.selection;
        reconciler.note_absences(desired, &|key| !selection.is_narrow() || selection.names(key));
        let lost = reconciler.lost_calls();
        let assessment = reconciler.assessor.assess(desired, Priority::Change, &lost).await;
        reconciler.resolve(&lost, &assessment);
        let Assessment { mut plan, gone, refusal, first_contact, unconfirmed, outlived, .. } = assessment;
        if let Some(reason) = refusal {
            tracing::error!(project = &*project.name, %reason, "this project is refused; the others go on");
        }
        if args.selection.is_narrow() {
            if plan.takeover.is_none() {
                reconciler.note_shown(&plan);
            }
            plan.narrow(&|key| args.selection.wants(key), &|key| args.selection.names(key));
        }
        let is_meant = args.approve.as_ref().is_some_and(|fingerprint| *fingerprint == plan.fingerprint);
        is_approved |= is_meant;
        let suspended_until = reconciler.pause.suspended_until();
        if let Some(until) = suspended_until {
            plan.suspend(format!(
                "suspended until {}: nothing is sent; start the daemon and `descope-gitops resume {}`, or wait",
                rfc3339(until),
                project_option(&project.name)
            ));
        } else {
            if is_meant {
                approve(reconciler, &plan)?;
            }
            release(&mut plan, args);
        }
        if is_ours(&plan, args.selection.is_narrow()) {
            reconciler.note_outlived(&outlived);
        }
        if !args.selection.is_narrow() {
            reconciler.note_held(&mut plan);
        }
        plans.push(Planned { plan, gone, first_contact, unconfirmed, is_suspended: suspended_until.is_some() });
    }
    match &args.approve {
        Some(fingerprint) if !is_approved => bail!(
            "no plan has the fingerprint {fingerprint}: it was approved already, or what it covers changed; run plan \
             again"
        ),
        Some(_) | None => Ok(plans),
    }
}

/// Errs where a target is nowhere to be found.
fn find_targets(selection: &Selection, desired_states: &[Arc<Desired>], plans: &[Planned]) -> Result<(), UsageError> {
    let is_known = |target: &&String| {
        let mut all = plans.iter().zip(desired_states);
        all.any(|(planned, desired)| select::knows(target, desired, &planned.plan))
    };
    let lost = selection.target.iter().find(|target| !is_known(target));
    lost.map_or(Ok(()), |target| Err(select::nowhere(target)))
}

/// Noted as the daemon does: the guards count anew from here, and another round knows of it.
fn approve(reconciler: &Reconciler, plan: &Plan) -> Result<(), state::Error> {
    reconciler.state.approve(&plan.approvable(), reconciler.assessor.rules.approval_expiry)
}

fn report<'p>(config: &Config, parts: &Parts, plans: &'p [Planned]) -> Report<'p> {
    let pace = settings::pace(config);
    let of = |(project, planned): (&Project, &'p Planned)| ProjectReport::new(&project.name, &planned.plan, pace);
    Report::new(parts.projects.iter().zip(plans).map(of).collect())
}

/// Do these files say what is remembered of the project? Where it is known under another entry of the config that one's do,
/// until this one has it.
fn is_ours(plan: &Plan, is_narrow: bool) -> bool {
    plan.takeover.is_none() || !is_narrow && !plan.awaits_contact()
}

/// A narrowed plan ends no first contact, and says nothing of what it leaves out. Adds to the number of `tasks` of each project.
fn enqueue(parts: &Parts, desired_states: &[Arc<Desired>], plans: Vec<Planned>, is_narrow: bool, tasks: &mut [usize]) {
    for (((project, desired), planned), number) in parts.projects.iter().zip(desired_states).zip(plans).zip(tasks) {
        let Planned { mut plan, gone, first_contact, unconfirmed, .. } = planned;
        if !is_narrow {
            project.reconciler.adopt(desired, &plan, &gone, first_contact);
        }
        if is_ours(&plan, is_narrow) {
            if !is_narrow {
                project.reconciler.keep_drift(desired, &plan);
            }
            project.reconciler.note_effects(desired, &plan, &unconfirmed);
            project.reconciler.note_renames(desired, &plan, &unconfirmed);
        }
        let loader = project.reconciler.loader.as_ref();
        let revision = loader.and_then(Loader::revision).unwrap_or_default();
        let commit = loader.and_then(Loader::commit_in_force);
        let origin = Arc::new(Origin {
            pass: new_pass(),
            trigger: Trigger::Startup.as_str(),
            revision,
            commit,
            span: traces::origin(),
        });
        let tasks = plan.take_tasks(&origin);
        *number += tasks.len();
        parts.queue.replace(&project.name, tasks, false);
    }
}

/// `--auto-approve` stands for the first contact, a fingerprint for whatever it covers.
fn release(plan: &mut Plan, args: &ApplyArgs) {
    let covers_all = args.approve.as_ref().is_some_and(|fingerprint| *fingerprint == plan.fingerprint);
    let auto = args.auto_approve;
    plan.release(|hold| covers_all || (auto && *hold == Hold::FirstContact(Contact::Project)));
}

/// Shows what would happen and asks. A yes stands for the first contact.
fn ask(report: &Report<'_>, plans: &[Planned]) -> anyhow::Result<bool> {
    if !report.has_differences() {
        // The outcome says so.
        return Ok(true);
    }
    // As in `plan`.
    let mut err = BufWriter::new(output::stderr());
    render::write_text(report, output::style_of_stderr(), &mut err)?;
    if plans.iter().all(|planned| planned.is_suspended) {
        err.flush()?;
        return Ok(true);
    }
    for danger in dangers(report, plans) {
        writeln!(err, "{}", output::style_of_stderr().bad(&one_line(&danger)))?;
    }
    write!(err, "Apply this? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// What somebody who says yes should have seen.
fn dangers(report: &Report<'_>, plans: &[Planned]) -> Vec<String> {
    // More does not fit into a line that is read.
    const SHOWN: usize = 5;
    let mut dangers = Vec::new();
    for (project, planned) in report.projects.iter().zip(plans) {
        let is_delete = |change: &Listed<'_>| change.action() == Action::Delete.as_str() && change.held().is_none();
        let deletes: Vec<String> = project
            .changes
            .iter()
            .filter(is_delete)
            .map(|change| format!("{}/{}", change.kind(), legible(&change.id())))
            .collect();
        if !deletes.is_empty() {
            let more = if deletes.len() > SHOWN { ", ..." } else { "" };
            let shown: Vec<&str> = deletes.iter().take(SHOWN).map(String::as_str).collect();
            let (name, count) = (&project.name, deletes.len());
            dangers.push(format!("DANGER: in {name} this deletes {count} for good: {}{more}", shown.join(", ")));
        }
        if let Some(takeover) = planned.plan.takeover.as_ref().filter(|takeover| takeover.is_held) {
            dangers.push(format!("DANGER: {}; a yes gives it to {}", takeover.why, project.name));
            continue;
        }
        let whole = Hold::FirstContact(Contact::Project);
        let first = planned.plan.changes.iter().filter(|change| change.held == Some(whole)).count();
        if first > 0 {
            let name = &project.name;
            dangers.push(format!(
                "DANGER: this repo never managed {name}; a yes lets all {first} changes go to a project that is not empty"
            ));
        }
    }
    dangers
}

fn start_workers(config: &Config, parts: &Parts) -> JoinSet<()> {
    let mut worker = parts.worker.clone();
    worker.give_up_after = Some(config.retry.max_attempts);
    let mut workers = JoinSet::new();
    for _ in 0..config.concurrency.get() {
        workers.spawn(worker.clone().run());
    }
    workers
}

/// Waits until the queue is worked off, with a bar on a terminal.
async fn drain(parts: &Parts, stop: &CancellationToken) {
    let total = parts.projects.iter().map(|project| parts.queue.counts_of(&project.name).total()).sum::<usize>();
    if total == 0 {
        return;
    }
    let bar = Bar::start("changes");
    let traffic = || traffic(&parts.limiters);
    let settled = async {
        for project in &parts.projects {
            settle(&parts.queue, &project.reconciler, &|left| bar.show(total.saturating_sub(left), total, traffic()))
                .await;
        }
    };
    tokio::select! {
        () = settled => {}
        () = stop.cancelled() => {}
    }
    bar.finish();
}

/// Until nothing of this project happens any more, or the key is refused.
async fn settle(queue: &Queue, reconciler: &Reconciler, show: &impl Fn(usize)) {
    let mut changes = queue.changes();
    let mut refusals = reconciler.pause.refusals();
    loop {
        changes.borrow_and_update();
        show(queue.counts().total());
        if queue.is_settled(&reconciler.assessor.project) || refusals.borrow_and_update().is_some() {
            return;
        }
        tokio::select! {
            news = changes.changed() => if news.is_err() { return },
            news = refusals.changed() => if news.is_err() { return },
            // What the limiter does is no news of the queue.
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// What the limiters do: whose gate is closed, else how much of the window is used.
fn traffic(limiters: &BTreeMap<String, Limiter>) -> String {
    let states = limiters.iter().map(|(host, limiter)| {
        let of = if limiters.len() > 1 { format!("{host}: ") } else { String::new() };
        format!("{of}{}", limiter.status().in_words(SystemTime::now()))
    });
    states.collect::<Vec<_>>().join(", ")
}
