//! All projects of the queue, in turn; pure: time and chance are given.

use super::Counts;
use super::PausedBy;
use super::Verdict;
use super::Work;
use super::lane::After;
use super::lane::Lane;
use crate::backoff::Backoff;
use crate::plan::ProjectName;
use crate::plan::Task;
use nonempty::NonEmpty;
use std::collections::HashMap;
use tokio::time::Instant;

/// The queue without its waiting.
#[derive(Debug)]
pub(super) struct Core {
    backoff: Backoff,
    lanes: Vec<(ProjectName, Lane)>,
    by_project: HashMap<ProjectName, usize>,
    /// Whose turn it is.
    turn: usize,
    closed: bool,
}

/// The answer to [`Core::take`].
#[derive(Debug)]
pub(super) enum Taken {
    /// Something to do.
    Work(Box<Work>),
    /// Nothing before then, unless something changes.
    Wait(Option<Instant>),
    /// Nothing ever again.
    Closed,
}

impl Core {
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, lanes: Vec::new(), by_project: HashMap::new(), turn: 0, closed: false }
    }

    pub fn lane(&self, project: &str) -> Option<&Lane> {
        self.by_project.get(project).map(|&index| &self.lanes[index].1)
    }

    pub fn lane_mut(&mut self, project: &ProjectName) -> &mut Lane {
        let index = *self.by_project.entry(project.clone()).or_insert_with(|| {
            self.lanes.push((project.clone(), Lane::default()));
            self.lanes.len() - 1
        });
        &mut self.lanes[index].1
    }

    pub fn close(&mut self) {
        self.closed = true;
    }

    pub fn counts(&self) -> Counts {
        self.lanes.iter().map(|(_, lane)| lane.counts()).sum()
    }

    /// The same, with what was refused before it got here.
    pub fn counts_with_refused(&self) -> Counts {
        self.lanes.iter().map(|(_, lane)| lane.counts_with_refused()).sum()
    }

    /// The same, without the projects that another replica writes now.
    pub fn own_counts(&self) -> Counts {
        let is_own = |lane: &&Lane| !lane.paused_by().contains(&PausedBy::Lease);
        self.lanes.iter().map(|(_, lane)| lane).filter(is_own).map(Lane::counts_with_refused).sum()
    }

    /// What is done with, to be let go of once nobody waits.
    pub fn take_emptied(&mut self) -> Vec<Lane> {
        self.lanes.iter_mut().flat_map(|(_, lane)| lane.take_emptied()).collect()
    }

    /// One call's worth of work, of the project whose turn it is. Stale tasks on the way are `dropped`.
    pub fn take(&mut self, now: Instant, dropped: &mut Vec<(ProjectName, Task)>) -> Taken {
        if self.closed {
            return Taken::Closed;
        }
        let projects = self.lanes.len();
        for offset in 0..projects {
            let index = (self.turn + offset) % projects;
            let (project, lane) = &mut self.lanes[index];
            let mut stale = Vec::new();
            let handed = lane.take(now, &mut stale);
            dropped.extend(stale.into_iter().map(|task| (project.clone(), task)));
            let Some(handed) = handed else { continue };
            let Some(tasks) = NonEmpty::from_vec(handed.tasks) else { continue };
            self.turn = index + 1;
            return Taken::Work(Box::new(Work {
                project: project.clone(),
                tasks,
                attempts: handed.attempts,
                last_failure: handed.last_failure,
                waited: handed.waited,
                verify: handed.verify,
                woken_at: handed.woken_at,
            }));
        }
        Taken::Wait(self.lanes.iter().filter_map(|(_, lane)| lane.next_due()).min())
    }

    /// Takes in what became of each task of `work`; a task without a verdict is put back.
    pub fn finish(&mut self, work: Work, verdicts: Vec<Verdict>, now: Instant, random: f64) -> Vec<After> {
        let Work { project, tasks, verify, .. } = work;
        let backoff = self.backoff;
        let lane = self.lane_mut(&project);
        let verdicts = verdicts.into_iter().chain(std::iter::repeat(Verdict::Released));
        // One draw for all: what failed in one call comes back in one call.
        tasks
            .iter()
            .zip(verdicts)
            .map(|(task, verdict)| lane.finish(task, verdict, verify, (now, &backoff, random)))
            .collect()
    }

    /// Takes in the verdicts there are, and puts both halves of the rest of a refused batch back, each to be sent alone. How
    /// many tasks.
    pub fn finish_split(
        &mut self,
        work: Work,
        decided: Vec<Option<Verdict>>,
        now: Instant,
        random: f64,
    ) -> (usize, Vec<After>) {
        let Work { project, tasks, verify, .. } = work;
        let backoff = self.backoff;
        let lane = self.lane_mut(&project);
        let mut after = Vec::new();
        let mut open = Vec::new();
        for (task, verdict) in Vec::from(tasks).into_iter().zip(decided) {
            match verdict {
                Some(verdict) => after.push(lane.finish(&task, verdict, verify, (now, &backoff, random))),
                None => open.push(task),
            }
        }
        let (left, right) = open.split_at(open.len().div_ceil(2));
        let mut count = 0;
        for half in [left, right] {
            let (tasks, what) = lane.put_back_apart(half, verify, now);
            count += tasks;
            after.push(what);
        }
        (count, after)
    }
}
