//! What the holder of a project knows is shown by every replica: the holder leaves it in the shared state, the others read it
//! there. It is cut to a bounded size, and says so.

use super::told::Told;
use crate::aside::aside;
use crate::plan::ProjectName;
use crate::plan::window::ProjectWindow;
use crate::queue::Queue;
use crate::state;
use crate::state::Claim;
use crate::state::Relay;
use crate::state::Shown;
use crate::telemetry::redact::Redactor;
use crate::telemetry::status::Board;
use crate::telemetry::status::Elsewhere;
use crate::telemetry::status::Said;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The others are looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What changes is left this often at the most, and the more seldom the longer it takes to write it out: a drain of thousands of
/// changes must not do little else.
const LEAVE_EVERY: Duration = Duration::from_secs(2);
const SHARE: u32 = 20;

/// A sign of life where nothing changes.
const REPEAT_EVERY: Duration = Duration::from_secs(5);

/// So much of each list of a status, and of each list of a plan.
const MOST: usize = 200;

/// Bytes of a plan; more is cut further.
const LARGEST_PLAN: usize = 256 * 1024;

/// What is left of one project.
#[derive(Debug, Serialize, Deserialize)]
struct Left {
    #[serde(flatten)]
    status: Said,
    plan: Option<ProjectWindow>,
}

/// What was left of a project that this process holds.
#[derive(Debug)]
struct Mine {
    term: i64,
    said: String,
    /// When it was last said.
    said_at: Instant,
    next_at: Instant,
}

/// The loop that leaves and reads it.
pub struct Mirror {
    relay: Relay,
    projects: Vec<(Claim, ProjectName)>,
    board: Arc<Board>,
    queue: Queue,
    plans: Told,
    redactor: Redactor,
    mine: BTreeMap<ProjectName, Mine>,
    marks: BTreeMap<ProjectName, (i64, i64)>,
}

impl Mirror {
    /// Nothing was left or read yet.
    pub fn new(
        relay: Relay,
        projects: Vec<(Claim, ProjectName)>,
        board: Arc<Board>,
        queue: Queue,
        plans: Told,
        redactor: Redactor,
    ) -> Self {
        let (mine, marks) = (BTreeMap::new(), BTreeMap::new());
        Self { relay, projects, board, queue, plans, redactor, mine, marks }
    }

    /// Until `stop`. While the database does not answer, what was read last grows old; the leases say what is wrong.
    pub async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if let Err(error) = aside(|| self.turn()) {
                tracing::debug!(%error, "cannot leave or read what replicas show of projects");
            }
        }
    }

    fn turn(&mut self) -> Result<(), state::Error> {
        let shown = self.relay.shown()?;
        for (claim, name) in self.projects.clone() {
            if let Some(term) = self.relay.term(&claim) {
                self.hear(&name, None)?;
                self.leave(&claim, &name, term)?;
            } else {
                self.mine.remove(&name);
                let there = shown.iter().find(|shown| shown.claim == claim && !shown.is_mine);
                self.hear(&name, there)?;
            }
        }
        Ok(())
    }

    fn leave(&mut self, claim: &Claim, name: &ProjectName, term: i64) -> Result<(), state::Error> {
        let began = Instant::now();
        let known = self.mine.get_mut(name).filter(|mine| mine.term == term);
        if known.as_ref().is_some_and(|mine| began < mine.next_at) {
            return Ok(());
        }
        let Some(said) = Self::said(&self.board, &self.queue, &self.plans, name) else { return Ok(()) };
        let said = self.redactor.redact(&said);
        let next_at = Instant::now() + LEAVE_EVERY.max(began.elapsed() * SHARE);
        match known {
            Some(mine) if mine.said == said => {
                mine.next_at = next_at;
                if mine.said_at.elapsed() >= REPEAT_EVERY {
                    mine.said_at = began;
                    self.relay.still_true(claim)?;
                }
            }
            _ => {
                self.relay.show(claim, &said)?;
                self.mine.insert(name.clone(), Mine { term, said, said_at: began, next_at });
            }
        }
        Ok(())
    }

    fn said(board: &Board, queue: &Queue, plans: &Told, name: &ProjectName) -> Option<String> {
        let queue = super::refresh::shown(&queue.counts_of(name));
        let status = Said { project: board.excerpt(name, MOST)?, queue };
        let mut most = MOST;
        let plan = loop {
            let plan = plans.excerpt(name, most);
            if most == 0 || serde_json::to_string(&plan).is_ok_and(|text| text.len() <= LARGEST_PLAN) {
                break plan;
            }
            most /= 4;
        };
        serde_json::to_string(&Left { status, plan }).ok()
    }

    /// Takes in what another replica left, where that is new.
    fn hear(&mut self, name: &ProjectName, there: Option<&Shown>) -> Result<(), state::Error> {
        let Some(there) = there else {
            if self.marks.remove(name).is_some() {
                self.board.elsewhere(name, None);
                self.plans.forget(name);
            }
            return Ok(());
        };
        let known = self.marks.get(name).copied();
        if known == Some(there.mark) {
            return Ok(());
        }
        let same = self.board.said_of(name).filter(|_| known.is_some_and(|(version, _)| version == there.mark.0));
        if let Some(same) = same {
            self.board.elsewhere(name, Some(same.again(&there.name, there.age)));
        } else {
            let Some(said) = self.relay.said(&there.claim)? else { return Ok(()) };
            // Of a release that says it another way.
            let Ok(Left { status, plan }) = serde_json::from_str(&said) else { return Ok(()) };
            self.plans.hear(name, plan);
            self.board.elsewhere(name, Some(Elsewhere::new(&there.name, there.age, status)));
        }
        self.marks.insert(name.clone(), there.mark);
        Ok(())
    }
}
