//! Writes that are asked for at about the same time go to the disk in one transaction: a drain makes thousands of them
//! a second, and a disk confirms a few hundred.
//!
//! Each is one method's, and stands for itself all the same: it is told done when all of it is on the disk and not
//! before, and one that fails takes none of the others with it.

use super::Error;
use super::State;
use super::project::ProjectState;
use super::sql;
use super::sql::Tx;
use std::mem;
use std::slice;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::SystemTime;
use tokio::sync::oneshot;

/// Writes that wait for the next transaction.
#[derive(Default)]
pub(super) struct Together(Mutex<Line>);

#[derive(Default)]
struct Line {
    waiting: Vec<Box<dyn Write>>,
    /// Somebody takes them to the disk, and comes back for more.
    is_served: bool,
}

impl Together {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True for the first, who has to see to it that the line is served.
    fn join(&self, write: Box<dyn Write>) -> bool {
        let mut line = self.line();
        line.waiting.push(write);
        !mem::replace(&mut line.is_served, true)
    }

    /// All that wait; without any, nobody serves them from now on.
    fn next(&self) -> Vec<Box<dyn Write>> {
        let mut line = self.line();
        line.is_served = !line.waiting.is_empty();
        mem::take(&mut line.waiting)
    }
}

/// One method's part of a transaction.
trait Write: Send {
    /// May be asked again, where a transaction came to nothing.
    fn add(&mut self, transaction: &Tx<'_>, now: SystemTime) -> sql::Result<()>;

    /// It is on the disk, or nothing of it is.
    fn tell(self: Box<Self>, written: Result<(), Error>);
}

struct Method<T, W> {
    project: ProjectState,
    work: W,
    result: Option<T>,
    told: oneshot::Sender<Result<T, Error>>,
}

impl<T, W> Write for Method<T, W>
where
    T: Send,
    W: FnMut(&Tx<'_>, i64, SystemTime) -> sql::Result<T> + Send,
{
    fn add(&mut self, transaction: &Tx<'_>, now: SystemTime) -> sql::Result<()> {
        let id = self.project.id_to_write(transaction)?;
        self.result = Some((self.work)(transaction, id, now)?);
        Ok(())
    }

    fn tell(self: Box<Self>, written: Result<(), Error>) {
        let Self { result, told, .. } = *self;
        let outcome = written.and_then(|()| result.ok_or(Error::Unfinished));
        // Whoever asked may be gone.
        told.send(outcome).unwrap_or_default();
    }
}

impl ProjectState {
    /// Runs `work` as [`ProjectState::write_by_clock`] does, in one transaction with what others ask for meanwhile. Once
    /// asked for, it is written, also where nobody waits for it any more.
    pub(super) async fn write_together<T, W>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnMut(&Tx<'_>, i64, SystemTime) -> sql::Result<T> + Send + 'static,
    {
        let (told, outcome) = oneshot::channel();
        let write = Method { project: self.clone(), work, result: None, told };
        if self.state.shared.together.join(Box::new(write)) {
            let state = self.state.clone();
            // It ends by itself, and with it the wait of everybody in line.
            drop(tokio::task::spawn_blocking(move || state.serve()));
        }
        outcome.await.unwrap_or(Err(Error::Unfinished))
    }
}

/// Whoever waits is told so, and the next to ask serves again.
struct Serving<'a>(&'a Together);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.line() = Line::default();
        }
    }
}

impl State {
    fn serve(&self) {
        // Outlives `serving`: whoever learns of a defect by it finds the line free.
        let mut group;
        let serving = Serving(&self.shared.together);
        loop {
            group = serving.0.next();
            if group.is_empty() {
                return;
            }
            let written = self.write_group(&mut group);
            for (write, written) in group.drain(..).zip(written) {
                write.tell(written);
            }
        }
    }

    fn write_group(&self, group: &mut [Box<dyn Write>]) -> Vec<Result<(), Error>> {
        if group.len() > 1 && self.add_all(group).is_ok() {
            return group.iter().map(|_| self.noted(Ok(()))).collect();
        }
        // What spoilt it for all is found where each stands alone.
        group.iter_mut().map(|write| self.noted(self.add_all(slice::from_mut(write)))).collect()
    }

    fn add_all(&self, group: &mut [Box<dyn Write>]) -> Result<(), Error> {
        self.transact(|transaction, now| group.iter_mut().try_for_each(|write| write.add(transaction, now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::Key;
    use crate::state::Owned;
    use crate::state::project::own;
    use std::collections::BTreeSet;
    use tokio::task::JoinSet;

    fn project() -> (tempfile::TempDir, ProjectState) {
        let dir = tempfile::tempdir().unwrap();
        let project = State::open(dir.path()).unwrap().project("api.example.com", "P1", "default");
        (dir, project)
    }

    const MANY: usize = 20;

    fn role(n: usize) -> Key {
        Key::new("roles", &n.to_string())
    }

    /// Asks for many writes while one is held up; which of them fail is told by `fails`.
    #[allow(clippy::await_holding_lock, reason = "that is what holds it up")]
    async fn write_many(project: &ProjectState, fails: fn(usize) -> bool) -> Vec<Result<usize, Error>> {
        let connection = project.state.connection();
        let mut asked = JoinSet::new();
        let first = project.clone();
        asked.spawn(async move { first.write_together(|_, _, _| Ok(0)).await });
        in_line(project, 0).await;
        for n in 1..MANY {
            let project = project.clone();
            let work = move |transaction: &Tx<'_>, id, _| {
                own(transaction, id, &role(n), &Owned::default())?;
                if fails(n) { Err(rusqlite::Error::InvalidQuery.into()) } else { Ok(n) }
            };
            asked.spawn(async move { project.write_together(work).await });
        }
        in_line(project, MANY - 1).await;
        drop(connection);
        asked.join_all().await
    }

    /// Until so many wait for a transaction that is not under way.
    async fn in_line(project: &ProjectState, count: usize) {
        let is_reached = || {
            let line = project.state.shared.together.line();
            line.is_served && line.waiting.len() == count
        };
        while !is_reached() {
            tokio::task::yield_now().await;
        }
    }

    fn owned(project: &ProjectState) -> BTreeSet<Key> {
        project.inventory().unwrap().keys().cloned().collect()
    }

    #[tokio::test]
    async fn all_that_wait_are_written_and_each_gets_its_own_result() {
        let (_dir, project) = project();

        let outcomes = write_many(&project, |_| false).await;

        let results: BTreeSet<usize> = outcomes.into_iter().map(Result::unwrap).collect();
        assert_eq!(results, (0..MANY).collect());
        assert_eq!(owned(&project), (1..MANY).map(role).collect());
        // It looks for more right after it has told them.
        while project.state.shared.together.line().is_served {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn one_that_fails_takes_no_other_with_it_and_leaves_nothing() {
        let (_dir, project) = project();
        let fails = |n| n % 7 == 3;

        let outcomes = write_many(&project, fails).await;

        let results: BTreeSet<usize> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(results, (0..MANY).filter(|n| !fails(*n)).collect());
        assert_eq!(owned(&project), (1..MANY).filter(|n| !fails(*n)).map(role).collect());
        assert!(!project.state.is_failing(), "the newest was written");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_written_all_the_same() {
        let (_dir, project) = project();
        let work = |transaction: &Tx<'_>, id, _| own(transaction, id, &role(1), &Owned::default());

        // Held up, so that it is asked for and cannot be done yet.
        let connection = project.state.connection();
        let outcome = futures_util::FutureExt::now_or_never(project.write_together(work));
        drop(connection);
        assert!(outcome.is_none());
        project.write_together(|_, _, _| Ok(())).await.unwrap();

        assert_eq!(owned(&project), [role(1)].into());
    }

    #[tokio::test]
    async fn a_defect_in_one_method_does_not_hold_up_the_next() {
        let (_dir, project) = project();
        let broken = |_: &Tx<'_>, _, _| -> sql::Result<()> { panic!("as intended") };

        let outcome = project.write_together(broken).await;

        assert!(matches!(outcome, Err(Error::Unfinished)));
        project.write_together(|_, _, _| Ok(())).await.unwrap();
    }
}
