//! A project that the state knows under another entry of the config: by another name, or with its files elsewhere. Somebody has
//! to say that this one may have it before anything of it is written, owned or let go, also where nothing differs: files that
//! say what lives in the project are no proof that it is theirs.

use super::Contact;
use super::Hold;
use super::Inputs;
use super::Plan;
use super::guards;

/// The entry that the state knows the project under, where it is not the one that is planned for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// Its name and, line by line, its paths.
    pub before: String,
    /// The same of the one that is planned for.
    pub now: String,
    /// That one under another name or path, and not another one that was given its project.
    pub is_same: bool,
}

/// Somebody has the project who did not have it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The same entry under another name or path: what it owns stays owned, whatever its files say by now.
    pub is_same: bool,
    /// Nobody let it go ahead yet, and somebody has to.
    pub is_held: bool,
    /// Somebody did.
    pub is_approved: bool,
    /// Identifies it; empty where nobody has to approve it.
    pub digest: String,
    /// For the operator.
    pub why: String,
}

impl Takeover {
    /// Of the project that is planned; `None` where it is known under its own entry, or not at all.
    pub fn of(inputs: &Inputs<'_>) -> Option<Self> {
        let former = inputs.former?;
        let digest = if inputs.first_contact { guards::digest_of_former(inputs.scope, former) } else { String::new() };
        let is_approved = inputs.first_contact && (inputs.is_approved)(&digest);
        Some(Self {
            is_same: former.is_same,
            is_held: inputs.first_contact && !is_approved,
            is_approved,
            digest,
            why: why(former),
        })
    }

    /// What becomes of it, for the operator; nothing where somebody let it go ahead.
    pub fn warning(&self) -> Option<String> {
        let Self { why, is_same, is_held, is_approved, .. } = self;
        let then = if *is_same {
            "all that it owns stays owned, and what the files do not declare any more is treated as if it had left them under the \
             old name"
        } else {
            "what that one owns and these files do not declare is owned no more: it is listed as undeclared, and never deleted"
        };
        match (is_held, is_same) {
            _ if *is_approved => None,
            (true, true) => Some(format!(
                "{why}: this is a first contact, and nothing is written, owned or let go before it is approved; with the old name and \
                 path back, nothing has happened; once it is approved, {then}"
            )),
            (true, false) => Some(format!(
                "{why}: this is a first contact, and nothing is written, owned or let go before it is approved; put the projectId \
                 back, unless these files are meant to have the project: once it is approved, {then}"
            )),
            (false, _) => Some(format!("{why}; nobody is asked, with `firstContact: apply`: {then}")),
        }
    }
}

fn why(former: &Former) -> String {
    let paths = former.before.split('\n').skip(1).map(|path| if path.is_empty() { "." } else { path });
    let name = former.before.split('\n').take(1);
    let before = name.map(str::to_owned).chain(paths.map(|path| format!("path {path}"))).collect::<Vec<_>>().join(", ");
    format!("the state knows this project under another entry of the config ({before})")
}

impl Plan {
    /// Does somebody have to say first that this entry of the config may have the project?
    pub fn awaits_contact(&self) -> bool {
        self.takeover.as_ref().is_some_and(|takeover| takeover.is_held)
    }

    /// Lets it have the project, where that is among what is released.
    pub(super) fn release_takeover(&mut self, released: impl Fn(&Hold) -> bool) {
        if let Some(takeover) = self.takeover.as_mut().filter(|takeover| takeover.is_held)
            && released(&Hold::FirstContact(Contact::Project))
        {
            (takeover.is_held, takeover.is_approved) = (false, true);
        }
    }
}
