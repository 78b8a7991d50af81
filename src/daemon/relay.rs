//! Orders reach whoever may write the project: the replica that was asked carries them out itself, or leaves them in the
//! shared state for the one that holds the lease and waits for its answer.

use super::control::Levers;
use crate::http::Answer;
use crate::http::Control;
use crate::http::Order;
use crate::http::Part;
use crate::resource;
use crate::state;
use crate::state::Claim;
use crate::state::Fate;
use crate::state::Relay;
use crate::state::Taken;
use crate::telemetry::repeats::is_worth_a_line;
use serde::Deserialize;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Orders are looked for this often, and at least as often as leases.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often the one who asked looks for the answer.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// For so long an order waits to be taken up: a take-over with the usual lease included. Whoever asked over HTTP is cut off after
/// 30 s.
const PATIENCE: Duration = Duration::from_secs(24);

/// And so long for what comes of it then.
const GRACE: Duration = Duration::from_secs(3);

/// Longer ones name nothing that exists.
const LONGEST: usize = 4096;

/// An order as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "order")]
enum Said {
    Reconcile,
    Retry,
    Approve { plan: String },
    Suspend { millis: u64, part: Option<Named> },
    Resume { part: Option<Named> },
}

/// A part of a project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    kind: String,
    id: Option<String>,
}

/// An order, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    by: Option<IpAddr>,
    #[serde(flatten)]
    said: Said,
}

impl Said {
    fn of(order: Order<'_>) -> Self {
        let named = |part: Part<'_>| Named { kind: part.kind.to_owned(), id: part.id.map(str::to_owned) };
        match order {
            Order::Reconcile => Self::Reconcile,
            Order::Retry => Self::Retry,
            Order::Approve(plan) => Self::Approve { plan: plan.to_owned() },
            Order::Suspend(wait, part) => {
                let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                Self::Suspend { millis, part: part.map(named) }
            }
            Order::Resume(part) => Self::Resume { part: part.map(named) },
        }
    }

    /// `None` for one of a kind that this release does not know.
    fn order(&self) -> Option<Order<'_>> {
        Some(match self {
            Self::Reconcile => Order::Reconcile,
            Self::Retry => Order::Retry,
            Self::Approve { plan } => Order::Approve(plan),
            Self::Suspend { millis, part } => Order::Suspend(Duration::from_millis(*millis), known(part.as_ref())?),
            Self::Resume { part } => Order::Resume(known(part.as_ref())?),
        })
    }
}

#[allow(clippy::option_option, reason = "all of the project, and a kind that is not known, are two things")]
fn known(part: Option<&Named>) -> Option<Option<Part<'_>>> {
    let Some(Named { kind, id }) = part else { return Some(None) };
    resource::kind(kind).map(|kind| Some(Part { kind: kind.name(), id: id.as_deref() }))
}

/// Carries out orders for one project, wherever that has to be done.
pub fn control(levers: Arc<Levers>, relay: Option<Relay>) -> Control {
    Box::new(move |order, by| {
        let (levers, relay) = (Arc::clone(&levers), relay.clone());
        Box::pin(async move {
            let Some(relay) = relay else {
                let by = by.map(|by| by.to_string()).unwrap_or_default();
                return answer(levers.carry_out(order, &by));
            };
            if levers.can(order) {
                match levers.carry_out(order, &asked(by, relay.name())) {
                    Err(state::Error::NotHeld) => {}
                    done => return answer(done),
                }
            }
            pass_on(&relay, &levers, order, by).await.unwrap_or_else(|error| {
                // Who writes it is known from that database alone.
                Answer::Nobody(format!(
                    "no order reaches the replica that writes {}, as the state that they share cannot be used: {error}",
                    levers.name()
                ))
            })
        })
    })
}

pub(super) fn answer(done: Result<Answer, state::Error>) -> Answer {
    done.unwrap_or_else(|error| Answer::Failed(error.to_string()))
}

/// For the audit trail.
fn asked(by: Option<IpAddr>, replica: &str) -> String {
    match by {
        Some(by) => format!("{by} at {replica}"),
        None => format!("somebody at {replica}"),
    }
}

/// Leaves it for the holder and waits for the answer.
async fn pass_on(relay: &Relay, levers: &Levers, order: Order<'_>, by: Option<IpAddr>) -> Result<Answer, state::Error> {
    let name = levers.name();
    let said = serde_json::to_string(&Asked { by, said: Said::of(order) }).unwrap_or_default();
    if said.len() > LONGEST {
        return Ok(Answer::Stale);
    }
    let Some(id) = relay.order(&levers.claim(), &said, PATIENCE)? else {
        let what =
            format!("too many orders for {name} wait to be carried out: look at its status, and try again later");
        return Ok(Answer::Nobody(what));
    };
    let asked = Instant::now();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let fate = if asked.elapsed() < PATIENCE { relay.fate(id) } else { relay.withdraw(id) };
        match fate {
            Ok(Fate::Answered(answer)) => {
                let unread =
                    |_| Answer::Failed(format!("{name}: another release carried it out; look at the audit trail"));
                return Ok(serde_json::from_str(&answer).unwrap_or_else(unread));
            }
            Ok(Fate::Void) => {
                let what =
                    format!("no replica holds {name}, or can carry it out now: nothing was done; try again later");
                return Ok(Answer::Nobody(what));
            }
            Ok(Fate::Open | Fate::TakenUp) | Err(_) if asked.elapsed() < PATIENCE + GRACE => {}
            Ok(Fate::Open | Fate::TakenUp) => {
                let what = format!(
                    "the replica that took it up for {name} did not say what came of it: look at the status and the audit trail"
                );
                return Ok(Answer::Nobody(what));
            }
            Err(error) => return Err(error),
        }
    }
}

/// The loop that carries out what was asked of other replicas.
pub struct Clerk {
    /// To the others.
    pub relay: Relay,
    /// All that the config has.
    pub projects: Vec<(Claim, Arc<Levers>)>,
    /// Of the leases.
    pub every: Duration,
}

impl Clerk {
    /// Until `stop`: what comes later is for whoever takes over.
    pub async fn run(self, stop: CancellationToken) {
        let every = self.every.min(LOOK_EVERY);
        let mut failures = 0;
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            match self.turn() {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if is_worth_a_line(failures, false) {
                        tracing::warn!(%error, times = failures, "cannot look for orders that other replicas were given");
                    }
                }
            }
        }
    }

    /// Takes up what there is, and answers.
    fn turn(&self) -> Result<(), state::Error> {
        let is_ready = |claim: &Claim, said: &str| {
            let Some(levers) = self.levers(claim) else { return false };
            // What cannot be read is answered at once.
            let asked: Option<Asked> = serde_json::from_str(said).ok();
            asked.as_ref().and_then(|asked| asked.said.order()).is_none_or(|order| levers.can(order))
        };
        for order in self.relay.take_up(&is_ready)? {
            let Some(levers) = self.levers(&order.claim) else { continue };
            match carry_out(levers, &order) {
                Err(state::Error::NotHeld) => self.relay.put_back(order.id)?,
                done => {
                    let answer = serde_json::to_string(&answer(done)).unwrap_or_default();
                    self.relay.answer(order.id, &answer)?;
                }
            }
        }
        Ok(())
    }

    fn levers(&self, claim: &Claim) -> Option<&Levers> {
        self.projects.iter().find(|(known, _)| known == claim).map(|(_, levers)| &**levers)
    }
}

fn carry_out(levers: &Levers, order: &Taken) -> Result<Answer, state::Error> {
    let asked_for: Option<Asked> = serde_json::from_str(&order.said).ok();
    let Some((by, order_of)) = asked_for.as_ref().and_then(|asked| Some((asked.by, asked.said.order()?))) else {
        let what =
            "the replica that holds the project is of another release and does not know this order: ask that one";
        return Ok(Answer::Failed(what.to_owned()));
    };
    levers.carry_out(order_of, &asked(by, &order.replica))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_read_as_it_was_written() {
        let part = Part { kind: "tenants", id: Some("acme") };
        for order in [
            Order::Reconcile,
            Order::Retry,
            Order::Approve("f00d"),
            Order::Suspend(Duration::from_millis(90_001), None),
            Order::Suspend(Duration::from_secs(60), Some(part)),
            Order::Resume(None),
            Order::Resume(Some(Part { kind: "roles", id: None })),
        ] {
            for by in [None, Some(IpAddr::from([127, 0, 0, 1]))] {
                let written = serde_json::to_string(&Asked { by, said: Said::of(order) }).unwrap();

                let read: Asked = serde_json::from_str(&written).unwrap();

                assert_eq!((read.by, read.said.order()), (by, Some(order)), "{written}");
            }
        }
    }

    #[test]
    fn every_answer_is_read_as_it_was_written() {
        let ordered = |suspended_until| crate::http::Ordered {
            projects: vec!["one".to_owned()],
            approved: Some(3),
            waits_until: Some("2026-01-31T10:00:00Z".to_owned()),
            newer_files: Some("abc".to_owned()),
            in_force: Some("f00d".to_owned()),
            suspended_until,
            part: Some("roles".to_owned()),
            was_suspended: Some(true),
            still_suspended: Some(Vec::new()),
            warning: None,
        };
        for answer in [
            Answer::Done(crate::http::Ordered::default()),
            Answer::Done(ordered(None)),
            Answer::Done(ordered(Some(None))),
            Answer::Done(ordered(Some(Some("2026-01-31T10:00:00Z".to_owned())))),
            Answer::Stale,
            Answer::Aside("f00d at one".to_owned()),
            Answer::Failed("the disk is full".to_owned()),
        ] {
            let written = serde_json::to_string(&answer).unwrap();

            assert_eq!(serde_json::from_str::<Answer>(&written).unwrap(), answer, "{written}");
        }
    }

    #[test]
    fn a_kind_of_another_release_is_no_order_for_the_whole_project() {
        let said = r#"{"by":null,"order":"suspend","millis":1000,"part":{"kind":"later","id":null}}"#;

        let read: Asked = serde_json::from_str(said).unwrap();

        assert_eq!(read.said.order(), None);
    }
}
