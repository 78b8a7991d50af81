//! A write of what a call of its own shows: that call comes right before it, and the write is built on what it says. What
//! an earlier call of the same plan wrote, or somebody else a moment ago, is carried along and not put back.

use super::Conclusion;
use super::Target;
use super::Upshot;
use super::Young;
use super::look;
use super::send;
use super::unseen;
use crate::descope;
use crate::observed;
use crate::plan;
use crate::plan::Task;
use crate::queue::Verdict;
use crate::queue::Work;
use crate::resource::Document;
use crate::resource::Kind;
use crate::resource::Part;
use crate::resource::Write;
use crate::resource::form;
use nonempty::NonEmpty;
use tokio::time::Instant;

/// Is it a write that has to be built on a look of its own?
pub(super) fn is_needed(part: &Part, work: &Work) -> bool {
    part.carries_unlisted() && work.tasks.iter().all(|task| matches!(task.write, Write::Overwrite { .. }))
}

/// Looks and writes; such parts have no batches.
pub(super) async fn attempt(target: &Target, kind: &'static dyn Kind, part: &'static Part, work: &Work) -> Conclusion {
    let task = &work.tasks.head;
    let mut trusted_for = target.trusted_for;
    loop {
        let (reader, writer) = match target.looks.leave(target).await {
            Ok(leave) => leave,
            Err(error) => return unseen(target, work, &error).await,
        };
        let at = Instant::now();
        let live = match read(&reader, kind, part, task).await {
            Ok(live) => target.deep.settled(&task.slot.key, part, live),
            Err(error) if error.is_forbidden() => {
                let message = error.to_string();
                target.note_forbidden(kind.name(), &message);
                return Conclusion::all(work, &Verdict::Forbid { message });
            }
            // What was made a moment ago may not be there yet for who reads.
            Err(error @ descope::Error::Rejected { .. }) if task.seen == 0 => {
                return Conclusion::all(work, &Verdict::Retry { message: error.to_string(), ambiguous: false });
            }
            Err(error @ descope::Error::Rejected { .. }) => {
                return Conclusion::all(work, &Verdict::Park { message: error.to_string() });
            }
            Err(error) => return unseen(target, work, &error).await,
        };
        let Some(plan::Afresh { write, fields }) = plan::afresh(kind, part, task, &live) else {
            target.deep.forget(&task.slot.key, part.name);
            return Conclusion::all(work, &Verdict::Superseded);
        };
        if fields.is_empty() {
            // A call before this one has done it, or it is as it comes.
            return Conclusion::all(work, &Verdict::Done);
        }
        let task = Task { write: write.pack(), fields: fields.into(), ..task.clone() };
        let young = Young { until: at.checked_add(trusted_for) };
        let client = writer.unwrap_or_else(|| target.client.clone());
        let target_now = young.only(&Target { client, ..target.clone() });
        let verdict = match send(&target_now, kind, &NonEmpty::new(&task), work.attempts, Some(&live)).await {
            Upshot::Each(Verdict::Released) if young.is_over() => {
                trusted_for = trusted_for.saturating_mul(2);
                continue;
            }
            Upshot::Each(verdict) => verdict,
            Upshot::Refused(message) | Upshot::InDoubt(message) => Verdict::Park { message },
        };
        match (&verdict, write.body()) {
            (Verdict::Done, Some(body)) => {
                let declared = task.declared.as_ref().map(|declared| observed::declared(declared, part));
                target.deep.wrote(&task.slot.key, part, live, body, declared.unwrap_or_default());
            }
            // Nobody knows what of it took effect.
            _ => target.deep.forget(&task.slot.key, part.name),
        }
        return Conclusion::all(work, &verdict);
    }
}

async fn read(
    client: &descope::Client,
    kind: &'static dyn Kind,
    part: &'static Part,
    task: &Task,
) -> Result<Document, descope::Error> {
    let read = kind.read(client, part, &look::present_key(task), task.id.as_deref()).await?;
    let fields = read.unwrap_or_default();
    let undocumented = |what| descope::Error::Undocumented { operation: kind.name(), what };
    form::check_part(part.fields, &fields).map_err(undocumented)?;
    Ok(fields)
}
