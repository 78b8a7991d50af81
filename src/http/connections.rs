//! The open connections: so many at most that peers which hang take nothing from Descope, the files and the state.

use crate::http::events::Lasting;
use rustix::process::Resource;
use rustix::process::getrlimit;
use std::collections::VecDeque;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

/// Whoever scrapes, probes and looks at the page opens a few.
const MOST: usize = 1000;
/// However few descriptors there are.
const LEAST: usize = 16;

/// Connections in the order in which they came. Beyond the bound the oldest one gives way: whoever asks something now is
/// served, and a peer that hangs is the one that is missed least.
pub struct Connections {
    tasks: JoinSet<()>,
    oldest_first: VecDeque<(AbortHandle, Lasting)>,
    most: usize,
}

impl Connections {
    /// None yet; at most half of the descriptors that the process may have.
    pub fn new() -> Self {
        let descriptors =
            getrlimit(Resource::Nofile).current.map_or(MOST, |most| usize::try_from(most).unwrap_or(MOST));
        Self::at_most((descriptors / 2).clamp(LEAST, MOST))
    }

    fn at_most(most: usize) -> Self {
        Self { tasks: JoinSet::new(), oldest_first: VecDeque::new(), most }
    }

    /// One more, once what gave way for it has let go of its descriptor. `lasting` tells that it may stay: only where all
    /// of them do, the oldest of those gives way.
    pub async fn open(&mut self, lasting: Lasting, connection: impl Future<Output = ()> + Send + 'static) {
        if self.oldest_first.len() >= self.most {
            self.oldest_first.retain(|(task, _)| !task.is_finished());
        }
        if self.oldest_first.len() >= self.most {
            let hanging = self.oldest_first.iter().position(|(_, lasting)| !lasting.is_set());
            if let Some((task, _)) = self.oldest_first.remove(hanging.unwrap_or_default()) {
                task.abort();
            }
        }
        while self.tasks.len() >= self.most && self.ended().await.is_some() {}
        self.oldest_first.push_back((self.tasks.spawn(connection), lasting));
    }

    /// Waits until one ends; `None` where there is none.
    pub async fn ended(&mut self) -> Option<()> {
        let (Ok(()) | Err(_)) = self.tasks.join_next().await?;
        // A handle keeps all that its connection was made of, also when that has ended.
        if self.oldest_first.len() > 2 * self.tasks.len() + LEAST {
            self.oldest_first.retain(|(task, _)| !task.is_finished());
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory of a thousand that had ended was kept until there was one more.
    #[tokio::test]
    async fn nothing_is_kept_of_what_has_ended() {
        let mut connections = Connections::at_most(1000);
        let hanging = Lasting::default();
        connections.open(hanging, std::future::pending()).await;
        for _ in 0..500 {
            connections.open(Lasting::default(), async {}).await;
        }
        while connections.tasks.len() > 1 {
            connections.ended().await;
        }

        assert!(connections.oldest_first.len() <= 2 + LEAST, "{}", connections.oldest_first.len());
    }

    #[tokio::test]
    async fn beyond_the_bound_the_oldest_that_does_not_last_gives_way() {
        let mut connections = Connections::at_most(3);
        let (ended, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let hanging = |name: &'static str| {
            let ended = ended.clone();
            async move {
                struct Told(&'static str, tokio::sync::mpsc::UnboundedSender<&'static str>);
                impl Drop for Told {
                    fn drop(&mut self) {
                        self.1.send(self.0).unwrap_or_default();
                    }
                }
                let _told = Told(name, ended);
                std::future::pending::<()>().await;
            }
        };
        let lasting = Lasting::default();
        lasting.set();

        connections.open(Lasting::default(), async {}).await;
        connections.ended().await;
        connections.open(lasting, hanging("stream")).await;
        connections.open(Lasting::default(), hanging("first")).await;
        tokio::task::yield_now().await;
        for name in ["second", "third", "fourth"] {
            connections.open(Lasting::default(), hanging(name)).await;
            assert!(connections.tasks.len() <= 3);
            tokio::task::yield_now().await;
        }

        assert_eq!((seen.try_recv(), seen.try_recv()), (Ok("first"), Ok("second")));
        assert!(seen.try_recv().is_err());
    }
}
