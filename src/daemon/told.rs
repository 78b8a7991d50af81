//! What `/api/v1/plan` tells: what would change from now on, which is what the newest plans hold, and what of them is not done
//! yet; of a project that another replica writes, what that one says.

use super::Project;
use crate::plan::ProjectName;
use crate::plan::published::Plans;
use crate::plan::published::Published;
use crate::plan::render::Pace;
use crate::plan::render::ProjectReport;
use crate::plan::waits;
use crate::plan::waits::Rows;
use crate::plan::window::ProjectWindow;
use crate::plan::window::Wanted;
use crate::plan::window::Window;
use crate::queue::Queue;
use crate::resource::Key;
use crate::telemetry::status::Board;
use crate::telemetry::status::HoldStatus;
use crate::telemetry::status::Waits;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

type Newest = watch::Receiver<Option<Published>>;

/// By project; nothing where the other replica has no plan.
type Others = BTreeMap<ProjectName, Option<Arc<ProjectWindow>>>;

/// Everything that has a part in it. Clones tell the same.
#[derive(Clone)]
pub struct Told {
    /// The newest plan of each project, in the order of the config.
    plans: Vec<(ProjectName, Newest)>,
    /// What replicas say that write projects which this one does not.
    others: Arc<watch::Sender<Others>>,
    /// How far they are.
    queue: Queue,
    /// What waits.
    board: Arc<Board>,
    /// For the forecast.
    pace: Pace,
}

/// Where the plan of a project comes from.
enum Source {
    Here(HashSet<Key>, Published),
    Elsewhere(Box<ProjectWindow>),
}

/// One plan or the other.
#[derive(Serialize)]
#[serde(untagged)]
enum One<P> {
    Here(P),
    Elsewhere(Box<ProjectReport<'static>>),
}

impl Told {
    /// Of these projects; no other replica has said anything.
    pub fn of(projects: &[Project], queue: &Queue, board: &Arc<Board>, pace: Pace) -> Self {
        let newest = |project: &Project| (project.name.clone(), project.reconciler.plans.subscribe());
        let plans = projects.iter().map(newest).collect();
        let others = Arc::new(watch::Sender::default());
        Self { plans, others, queue: queue.clone(), board: Arc::clone(board), pace }
    }

    /// Another replica writes the project, and this is its plan, where it has one.
    pub fn hear(&self, project: &ProjectName, said: Option<ProjectWindow>) {
        self.others.send_modify(|others| {
            others.insert(project.clone(), said.map(Arc::new));
        });
    }

    /// No other replica writes it.
    pub fn forget(&self, project: &ProjectName) {
        self.others.send_modify(|others| {
            others.remove(project);
        });
    }

    fn put_aside(&self, project: &str) -> Vec<HoldStatus> {
        let can_order = self.board.can_order();
        self.board.look_at(project, |status| status.put_aside(can_order)).unwrap_or_default()
    }

    fn sources(&self) -> Vec<Source> {
        let others = self.others.borrow().clone();
        let source = |(name, plan): &(ProjectName, Newest)| {
            let put_aside = self.put_aside(name);
            // Files that are put aside have no plan, and are not passed over in silence.
            let empty = || Published::new(name, Arc::default(), Arc::default());
            let plan = match others.get(name) {
                Some(Some(said)) => return Some(Source::Elsewhere(Box::new(said.with_put_aside(put_aside)))),
                Some(None) => None,
                None => plan.borrow().clone(),
            };
            let plan = plan.or_else(|| (!put_aside.is_empty()).then(empty))?;
            Some(Source::Here(self.queue.unfinished(name), plan))
        };
        self.plans.iter().filter_map(source).collect()
    }

    /// Writes all of it, change by change.
    pub fn write(&self, to: &mut dyn io::Write) -> io::Result<()> {
        let sources = self.sources();
        let left = sources.iter().map(|source| match source {
            Source::Here(unfinished, plan) => {
                let held = |waits: &mut Waits| plan.add_held(waits);
                let rows = self.rows(&plan.name, &|key| unfinished.contains(key), held);
                One::Here(plan.left(unfinished, rows, self.pace))
            }
            Source::Elsewhere(said) => One::Elsewhere(Box::new(said.report())),
        });
        serde_json::to_writer(to, &Plans::new(left.collect())).map_err(io::Error::from)
    }

    /// The same, cut to what is wanted.
    pub fn window(&self, wanted: &Wanted) -> String {
        let mut window = Window::new();
        for source in self.sources() {
            match source {
                Source::Here(unfinished, plan) => {
                    window.add(&plan, &unfinished, wanted, self.pace, |report| self.rows_of(report));
                }
                Source::Elsewhere(said) => window.add_window(&said, wanted),
            }
        }
        serde_json::to_string(&window).unwrap_or_default()
    }

    /// The first of each list of one project, with the counts of all.
    pub fn excerpt(&self, project: &ProjectName, most: usize) -> Option<ProjectWindow> {
        let (name, plan) = self.plans.iter().find(|(name, _)| name == project)?;
        let plan = plan.borrow().clone()?;
        let (mut window, wanted) = (Window::new(), Wanted { limit: most, ..Wanted::default() });
        window.add(&plan, &self.queue.unfinished(name), &wanted, self.pace, |report| self.rows_of(report));
        window.into_first()
    }

    fn rows_of(&self, report: &ProjectReport<'_>) -> Rows {
        let changes: HashSet<(&str, Cow<'_, str>)> =
            report.changes.iter().map(|change| (change.kind(), change.id())).collect();
        let held = |waits: &mut Waits| waits::add_held(&report.holds, report.changes.iter(), waits);
        self.rows(&report.name, &|key| changes.contains(&(key.kind, key.id().into())), held)
    }

    /// What each change waits for that is `told`, and what waits beside.
    fn rows(&self, project: &str, is_told: &dyn Fn(&Key) -> bool, add_held: impl FnOnce(&mut Waits)) -> Rows {
        let known =
            self.board.look_at(project, |known| (known.turn.clone(), known.waits.clone(), known.wait_counts.clone()));
        let Some((turn, known, counts)) = known else { return Rows::default() };
        let mut waits = Waits::of_plan();
        self.queue.waits(project, &turn, is_told, &mut waits);
        add_held(&mut waits);
        Rows { holds: self.put_aside(project), ..Rows::of_daemon(waits, &known, &counts) }
    }
}
