//! What `/api/v1/plan` tells: what would change from now on, which is what the newest plans hold, and what of them is not done
//! yet.

use crate::plan::published::Plans;
use crate::plan::published::Published;
use crate::plan::render::Pace;
use crate::plan::render::ProjectReport;
use crate::plan::waits;
use crate::plan::waits::Rows;
use crate::plan::window::Wanted;
use crate::plan::window::Window;
use crate::queue::Queue;
use crate::resource::Key;
use crate::telemetry::status::Board;
use crate::telemetry::status::Waits;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use tokio::sync::watch;

/// Everything that has a part in it.
#[derive(Clone)]
pub struct Told {
    /// The newest plan of each project, in the order of the config.
    pub plans: Vec<watch::Receiver<Option<Published>>>,
    /// How far they are.
    pub queue: Queue,
    /// What waits.
    pub board: Arc<Board>,
    /// For the forecast.
    pub pace: Pace,
}

impl Told {
    /// Writes all of it, change by change.
    pub fn write(&self, to: &mut dyn io::Write) -> io::Result<()> {
        let plans = self.plans.iter().filter_map(|plan| plan.borrow().clone());
        let plans: Vec<_> = plans.map(|plan| (self.queue.unfinished(&plan.name), plan)).collect();
        let left = plans.iter().map(|(unfinished, plan)| {
            let held = |waits: &mut Waits| plan.add_held(waits);
            plan.left(unfinished, self.rows(&plan.name, &|key| unfinished.contains(key), held), self.pace)
        });
        serde_json::to_writer(to, &Plans::new(left.collect())).map_err(io::Error::from)
    }

    /// The same, cut to what is wanted.
    pub fn window(&self, wanted: &Wanted) -> String {
        let mut window = Window::new();
        for plan in &self.plans {
            let Some(plan) = plan.borrow().clone() else { continue };
            let unfinished = self.queue.unfinished(&plan.name);
            window.add(&plan, &unfinished, wanted, self.pace, |report| self.rows_of(report));
        }
        serde_json::to_string(&window).unwrap_or_default()
    }

    fn rows_of(&self, report: &ProjectReport) -> Rows {
        let changes = report.changes.iter().map(|change| (&*change.kind, &*change.id));
        let changes: HashSet<(&str, &str)> = changes.collect();
        let held = |waits: &mut Waits| waits::add_held(&report.holds, report.changes.iter(), waits);
        self.rows(&report.name, &|key| changes.contains(&(key.kind, &*key.id())), held)
    }

    /// What each change waits for that is `told`, and what waits beside.
    fn rows(&self, project: &str, is_told: &dyn Fn(&Key) -> bool, add_held: impl FnOnce(&mut Waits)) -> Rows {
        let known =
            self.board.look_at(project, |known| (known.turn.clone(), known.waits.clone(), known.wait_counts.clone()));
        let Some((turn, known, counts)) = known else { return Rows::default() };
        let mut waits = Waits::of_plan();
        self.queue.waits(project, &turn, is_told, &mut waits);
        add_held(&mut waits);
        Rows::of_daemon(waits, &known, &counts)
    }
}
