//! Why a change waits, in one word each, and what ends the wait.

use crate::plan::drift::Left;

/// Why a change waits. The earlier one wins where several apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// The policy does not permit it; nobody can approve it.
    Policy,
    /// Somebody else changed it, and that is only reported, or too young to be put back. Nobody can approve it: what holds
    /// it beside that holds it once this is over.
    DriftReported(Left),
    /// The list of this kind lacks more of what we own than the guards allow to disappear.
    ObservationShrank,
    /// The files still name what is to be deleted. Nobody can approve that it is taken away: they would ask for it again.
    StillDeclared,
    /// The YAML declares none of this kind any more, or does not name it.
    KindEmptied,
    /// It may be one resource under a new name.
    MaybeRename(NewName),
    /// More deletes in 24 hours than `maxDeletes`.
    MaxDeletes,
    /// More deletes in 24 hours than `maxDeletePercent`.
    MaxDeletePercent,
    /// More updates in one plan than `maxChangePercent`.
    MaxChangePercent,
    /// The call would reset fields that nobody declared and nobody can read. An approval counts for one write.
    WouldReset,
    /// It lowers protection compared with what is live.
    Weakening,
    /// It may lock people out.
    Lockout,
    /// Somebody else turns it back again and again.
    Contested,
    /// Something that stays refers to what is to be deleted, or may.
    StillReferenced(Referrer),
    /// The project, its kind or its part was never seen before and is not empty. What a guard holds is held by that: to
    /// let the first contact go ahead is no word on guards.
    FirstContact(Contact),
    /// What refers to it is about to let go, and has not: that change is held, or cannot be planned. It follows by itself.
    Blocked,
    /// It left the YAML less than `deleteAfter` ago. Time alone releases it.
    DeleteAfter,
    /// It is only observed for now: one kind or resource, or, of an `apply`, the project. A daemon keeps the changes of a
    /// suspended project waiting instead.
    Suspended,
}

/// What there is of the name that something may go on under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NewName {
    /// A rename of this kind is refused.
    Refused,
    /// Something of this kind is to be created.
    Planned,
    /// Something of this kind was created since the old name left the files.
    Made,
}

/// What still refers to something that is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Referrer {
    /// Somebody else's, or what ships with Descope.
    Undeclared,
    /// Perhaps something of a kind that could not be observed.
    Unseen,
}

/// What is seen for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Contact {
    /// The whole project.
    Project,
    /// A kind or a part of it, in a project that is known.
    Part,
}

impl Hold {
    /// All of a daemon, one for each word, for metrics that start at 0.
    pub const ALL: [Self; 17] = [
        Self::Policy,
        Self::DriftReported(Left::Reported),
        Self::ObservationShrank,
        Self::StillReferenced(Referrer::Undeclared),
        Self::KindEmptied,
        Self::MaybeRename(NewName::Planned),
        Self::MaxDeletes,
        Self::MaxDeletePercent,
        Self::MaxChangePercent,
        Self::WouldReset,
        Self::Weakening,
        Self::Lockout,
        Self::Contested,
        Self::FirstContact(Contact::Project),
        Self::Blocked,
        Self::DeleteAfter,
        Self::Suspended,
    ];

    /// The word in plan, status and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::DriftReported(_) => "drift_reported",
            Self::ObservationShrank => "observation_shrank",
            Self::StillDeclared | Self::StillReferenced(_) => "still_referenced",
            Self::KindEmptied => "kind_emptied",
            Self::MaybeRename(_) => "maybe_rename",
            Self::MaxDeletes => "max_deletes",
            Self::MaxDeletePercent => "max_delete_percent",
            Self::MaxChangePercent => "max_change_percent",
            Self::WouldReset => "would_reset",
            Self::Weakening => "weakening",
            Self::Lockout => "lockout",
            Self::Contested => "contested",
            Self::FirstContact(_) => "first_contact",
            Self::Blocked => "blocked",
            Self::DeleteAfter => "delete_after",
            Self::Suspended => "suspended",
        }
    }

    /// The word that reads so.
    pub fn word(text: &str) -> Option<&'static str> {
        Self::usual(text).map(Self::as_str)
    }

    /// The one that is meant by its word alone, where several have it.
    pub fn usual(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.as_str() == word)
    }

    /// Can an operator let it go ahead?
    pub fn can_be_approved(&self) -> bool {
        match self {
            Self::Policy
            | Self::DriftReported(_)
            | Self::StillDeclared
            | Self::Blocked
            | Self::DeleteAfter
            | Self::Suspended => false,
            Self::FirstContact(_)
            | Self::ObservationShrank
            | Self::StillReferenced(_)
            | Self::KindEmptied
            | Self::MaybeRename(_)
            | Self::MaxDeletes
            | Self::MaxDeletePercent
            | Self::MaxChangePercent
            | Self::WouldReset
            | Self::Weakening
            | Self::Lockout
            | Self::Contested => true,
        }
    }

    /// Does it take more than time, or another config, to end it?
    pub fn is_guard(self) -> bool {
        !matches!(self, Self::Policy | Self::DriftReported(_) | Self::DeleteAfter | Self::Suspended)
    }

    /// Does it take somebody to do something, so that it is worth to call for one?
    pub fn needs_a_person(self) -> bool {
        self.is_guard() && self != Self::Blocked || self == Self::DriftReported(Left::Reported)
    }

    /// Is a project with such a change at rest all the same? What the policy forbids waits for nothing.
    pub fn is_rest(self) -> bool {
        self == Self::Policy
    }

    /// What ends the wait, for the operator.
    pub fn ends_with(self) -> &'static str {
        match self {
            Self::Policy => "another `policy` in the config",
            Self::DriftReported(Left::Reported) => {
                "files that say what is live (to keep it) or say it anew, or `drift.mode: heal` (to put it back)"
            }
            Self::DriftReported(Left::Young) => "time: `drift.minAge`; or files that say what is live (to keep it)",
            Self::DriftReported(Left::Suspended) => {
                "time: the end of the suspension, later than `drift.minAge`; or files that say what is live (to keep it)"
            }
            Self::ObservationShrank => "a list that is whole again, or an approval, which accepts the loss",
            Self::StillDeclared => "files that no longer refer to it",
            Self::StillReferenced(Referrer::Undeclared) => "an approval, or the referrer letting go in Descope",
            Self::StillReferenced(Referrer::Unseen) => "an approval, or a look at what may refer to it",
            Self::KindEmptied => "an approval, or files that declare one of this kind",
            Self::MaybeRename(NewName::Refused) => "an approval, or an end of what the rename is refused for",
            Self::MaybeRename(NewName::Planned) => {
                "an approval, or `renamedFrom` on the new one: before that is made, which a daemon does at once, or once it \
                 is deleted in Descope again"
            }
            Self::MaybeRename(NewName::Made) => "an approval, or files that declare the old one again",
            Self::MaxDeletes => "an approval, or a plan within the limit, `guards.maxDeletes`",
            Self::MaxDeletePercent => "an approval, or a plan within the limit, `guards.maxDeletePercent`",
            Self::MaxChangePercent => "an approval, or a plan within the limit, `guards.maxChangePercent`",
            Self::WouldReset => "an approval, which counts for one write, or a declaration of the field",
            Self::Weakening => "an approval, or files that keep the protection",
            Self::Contested => "an approval, a commit that changes it, or an hour in which nobody touches it",
            Self::Lockout => "an approval, or files that leave a way in",
            Self::FirstContact(Contact::Project) => "an approval, `apply --auto-approve`, or `firstContact: apply`",
            Self::FirstContact(Contact::Part) => "an approval, or `firstContact: apply`",
            Self::Blocked => "the change that it waits for",
            Self::DeleteAfter => "time: `deleteAfter`, which begins with the first `run` or `apply` without it",
            Self::Suspended => "`resume`, or time",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_the_config_or_another_change_ends_calls_for_nobody() {
        let nobody =
            [Hold::Policy, Hold::DriftReported(Left::Young), Hold::Blocked, Hold::DeleteAfter, Hold::Suspended];

        let found: Vec<Hold> = Hold::ALL.into_iter().filter(|hold| !hold.needs_a_person()).collect();

        assert!(found.iter().all(|hold| nobody.contains(hold)), "{found:?}");
        assert!(!nobody.into_iter().any(Hold::needs_a_person));
        assert!(Hold::DriftReported(Left::Reported).needs_a_person() && !Hold::DeleteAfter.is_guard());
    }
}
