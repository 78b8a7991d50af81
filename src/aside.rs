//! Work that keeps a thread busy for long, out of the way of what is answered at once.

use tokio::runtime::Handle;
use tokio::runtime::RuntimeFlavor;

/// Runs it here, and lets another thread go on with whatever else this one had to do: no probe waits for a plan. Where
/// there is no other thread, it just runs.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let has_others = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if has_others { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// With one thread for everything, a long piece of work held up all else.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn everything_else_goes_on_meanwhile() {
        let (answer, is_answered) = mpsc::channel();
        #[allow(clippy::disallowed_methods, reason = "a probe of the test's own")]
        let busy = tokio::spawn(async move {
            #[allow(clippy::disallowed_methods, reason = "a probe of the test's own")]
            let probe = tokio::spawn(async move { answer.send(()).unwrap() });
            aside(|| is_answered.recv().unwrap());
            probe.await.unwrap();
        });

        busy.await.unwrap();
    }

    #[tokio::test]
    async fn without_another_thread_it_just_runs() {
        assert_eq!(aside(|| 7), 7);
    }
}
