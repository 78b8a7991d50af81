//! Creates whose answer shows a secret, this once. A place for it is proven before, and the create is done only when the
//! secret is there; one of which nobody knows whether it was done is never sent again.

use super::Target;
use crate::desired::secret_file;
use crate::desired::secret_file::Kept;
use crate::desired::secret_file::Reserved;
use crate::plan::Task;
use crate::resource::Action;
use crate::resource::Answer;
use crate::resource::Kind;
use crate::resource::Write;
use crate::state::Digest;
use std::sync::Arc;

/// Where a secret goes.
pub(super) struct Place {
    /// As the YAML writes it.
    pub name: Arc<str>,
    file: Reserved,
}

/// Is this a write whose answer shows a secret?
pub(super) fn shows_secret<Body>(kind: &dyn Kind, write: &Write<Body>) -> bool {
    kind.spec().shows_secret && matches!(write, Write::Create(_))
}

/// Will every replica have the secret that the answer to this task shows? The text says why not.
pub(super) fn prove_volume(target: &Target, kind: &dyn Kind, task: &Task) -> Result<(), String> {
    if task.action != Action::Create || !shows_secret(kind, &task.write) {
        return Ok(());
    }
    target.secrets.prove_volume(&target.state).map_err(|why| format!("secretFile: {why}"))
}

/// A place for the secret that the answer to this task shows; `None` where it shows none. The text says why it may not be
/// sent.
pub(super) fn reserve(target: &Target, kind: &dyn Kind, task: &Task) -> Result<Option<Place>, String> {
    if task.action != Action::Create || !shows_secret(kind, &task.write) {
        return Ok(None);
    }
    let name = task.secret_file().cloned().ok_or("secretFile: is missing; there is no place for the secret")?;
    match target.state.open_create(&task.slot.key) {
        Ok(None) => {}
        Ok(Some(open)) => {
            let message = open.intent.server_id.map(|id| secret_file::lost(&name, &id));
            return Err(message.unwrap_or_else(|| secret_file::in_doubt(&name)));
        }
        Err(error) => return Err(format!("nothing is created meanwhile: {error}")),
    }
    let is_ours = |path: &str, secret: &_| {
        let kept = target.state.kept(path).ok().flatten();
        kept.is_some_and(|kept| kept == target.state.fingerprint_secret(secret))
    };
    if let Ok(Kept { path, secret: Some(secret) }) = target.secrets.kept(&name)
        && !is_ours(&path, &secret)
        && target.state.is_kept_by_another(&path).unwrap_or_default()
    {
        return Err(format!("secretFile: {}", secret_file::of_another(&name)));
    }
    let file = target.secrets.reserve(&name, is_ours).map_err(|why| format!("secretFile: {why}"))?;
    Ok(Some(Place { name, file }))
}

/// Puts the secret of the answer there. Returns its fingerprint, by the path of the file. The text says why it is lost.
pub(super) fn keep(target: &Target, place: Place, answer: Option<&Answer>) -> Result<(String, Digest), String> {
    let secret =
        answer.and_then(|answer| answer.shown_once.as_ref()).ok_or("the answer to its create has no secret")?;
    target.secrets.redactor.add(secret);
    let path = place.file.path();
    place.file.keep(secret)?;
    Ok((path, target.state.fingerprint_secret(secret)))
}
