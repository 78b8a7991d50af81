//! Are the files of a replica newer than those in force? The rule, and nothing else.
//!
//! A digest says nothing of age. What does: that the very checkout stood on the newest entry and moved on; what git says of two
//! commits, which is proof where one is known to build on the other, and a good sign where only their times are known (a shallow
//! checkout has no more); and who else is there. An old commit written over a newer one is worse than a wait, so that what
//! nobody can tell waits. The first line that fits decides:
//!
//! | what is known of files that are not those of the newest entry | they are |
//! | --- | --- |
//! | this checkout stood on the newest entry, since that is the newest, and moved to them | in force at once |
//! | they were in force before | older |
//! | their commit builds on that of the newest entry | in force at once |
//! | the commit of the newest entry builds on theirs, or was made later | older |
//! | their commit was made later, and no replica that runs has the newest files | in force at once |
//! | the same, and one has; this checkout moved to them from files that were in force | in force after one life |
//! | the same; this process began with them, or came from files nobody knows | in force once no such replica runs |
//! | nothing | in force after one life of looking without a gap, unless one that runs, or stopped within it, had the newest |
//!
//! What is older stays so until the checkout moves on, or somebody says otherwise.

use std::sync::Arc;

/// A commit, as far as a checkout knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its hash, in hexadecimal.
    pub id: Arc<str>,
    /// When it was made, in seconds since 1970, by the clock of whoever made it.
    pub at: i64,
    /// What it builds on: its parents, and what could be read beyond them.
    pub ancestors: Vec<Arc<str>>,
}

/// How a commit stands to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is the other.
    Same,
    /// It builds on the other.
    Newer,
    /// The other builds on it.
    Older,
    /// It was made later; more is not known.
    Later,
    /// It was made earlier; more is not known.
    Earlier,
    /// Nothing is known.
    Unknown,
}

impl Relation {
    /// Of the first to the second.
    pub fn of(one: Option<&Commit>, other: Option<&Commit>) -> Self {
        let (Some(one), Some(other)) = (one, other) else { return Self::Unknown };
        if one.id == other.id {
            return Self::Same;
        }
        if one.ancestors.contains(&other.id) {
            return Self::Newer;
        }
        if other.ancestors.contains(&one.id) {
            return Self::Older;
        }
        match one.at.cmp(&other.at) {
            std::cmp::Ordering::Greater => Self::Later,
            std::cmp::Ordering::Less => Self::Earlier,
            std::cmp::Ordering::Equal => Self::Unknown,
        }
    }
}

/// Where a checkout was before it moved to the files that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// On the newest entry, as that is now, since it is the newest.
    Newest,
    /// On files that were in force once.
    Line,
    /// The process began with them, or it was on files that nobody knows.
    Nowhere,
}

/// Which other replicas have the newest files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// One that runs, or was heard of within one life.
    Have,
    /// One that stopped within one life.
    Had,
    /// None.
    Lack,
}

/// What is known of files that are not the newest entry's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub origin: Origin,
    /// They, or others of the same commit, are an earlier entry.
    pub was_in_force: bool,
    /// Of their commit to that of the newest entry.
    pub relation: Relation,
    pub others: Others,
    /// They are here for one life, in which the database was looked at without a gap.
    pub has_waited: bool,
}

/// What follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They are the newest from now on.
    InForce,
    /// They are not, whatever time passes.
    Older,
    /// Nobody can tell yet.
    Wait,
}

/// The rule.
pub(super) fn judge(known: Known) -> Verdict {
    let Known { origin, was_in_force, relation, others, has_waited } = known;
    let is_in_force = match relation {
        _ if origin == Origin::Newest => true,
        _ if was_in_force => return Verdict::Older,
        Relation::Newer => true,
        Relation::Older | Relation::Earlier => return Verdict::Older,
        Relation::Later => others != Others::Have || origin == Origin::Line && has_waited,
        Relation::Same | Relation::Unknown => others == Others::Lack && has_waited,
    };
    if is_in_force { Verdict::InForce } else { Verdict::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The table of this file, line by line; a blank fits all. The first line that fits decides.
    const TABLE: &[(&str, &str, &str, &str, &str, Verdict)] = &[
        // from, was in force, relation, others, waited
        ("newest", "", "", "", "", Verdict::InForce),
        ("", "yes", "", "", "", Verdict::Older),
        ("", "", "newer", "", "", Verdict::InForce),
        ("", "", "older earlier", "", "", Verdict::Older),
        ("", "", "later", "had lack", "", Verdict::InForce),
        ("line", "", "later", "have", "yes", Verdict::InForce),
        ("", "", "same unknown", "lack", "yes", Verdict::InForce),
        ("", "", "", "", "", Verdict::Wait),
    ];

    #[test]
    fn the_table_says_what_the_rule_does() {
        let origins = [(Origin::Newest, "newest"), (Origin::Line, "line"), (Origin::Nowhere, "nowhere")];
        let relations = [
            (Relation::Same, "same"),
            (Relation::Newer, "newer"),
            (Relation::Older, "older"),
            (Relation::Later, "later"),
            (Relation::Earlier, "earlier"),
            (Relation::Unknown, "unknown"),
        ];
        let others = [(Others::Have, "have"), (Others::Had, "had"), (Others::Lack, "lack")];
        let truths = [(true, "yes"), (false, "no")];
        let mut seen = 0;
        for (origin, from) in origins {
            for ((relation, to_newest), (others, who)) in
                relations.into_iter().flat_map(|relation| others.into_iter().map(move |others| (relation, others)))
            {
                for ((was_in_force, was), (has_waited, waited)) in
                    truths.into_iter().flat_map(|was| truths.into_iter().map(move |waited| (was, waited)))
                {
                    let fits = |cell: &str, value: &str| cell.is_empty() || cell.split(' ').any(|one| one == value);
                    let line = TABLE.iter().find(|(a, b, c, d, e, _)| {
                        fits(a, from) && fits(b, was) && fits(c, to_newest) && fits(d, who) && fits(e, waited)
                    });
                    let known = Known { origin, was_in_force, relation, others, has_waited };
                    assert_eq!(judge(known), line.unwrap().5, "{known:?}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 216);
    }

    /// A repo in which each commit builds on one or two before it, by clocks that are off by so many seconds.
    fn history(skew: i64) -> impl Strategy<Value = Vec<(Vec<usize>, i64)>> {
        let commit = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..100_i64, -skew..=skew);
        prop::collection::vec(commit, 2..30).prop_map(|commits| {
            let (mut now, mut made) = (0, Vec::new());
            for (number, (one, other, passed, off)) in commits.into_iter().enumerate() {
                now += passed;
                let parents = if number == 0 { Vec::new() } else { vec![one.index(number), other.index(number)] };
                made.push((parents, now + off));
            }
            made
        })
    }

    /// All that a commit builds on, found the long way.
    fn builds_on(history: &[(Vec<usize>, i64)], commit: usize) -> Vec<usize> {
        let mut all: Vec<usize> = history[commit].0.clone();
        for parent in &history[commit].0 {
            all.extend(builds_on_once(history, *parent, &all));
        }
        all
    }

    fn builds_on_once(history: &[(Vec<usize>, i64)], commit: usize, known: &[usize]) -> Vec<usize> {
        let mut marks = vec![false; history.len()];
        let mut open = history[commit].0.clone();
        while let Some(next) = open.pop() {
            if !std::mem::replace(&mut marks[next], true) {
                open.extend(&history[next].0);
            }
        }
        (0..history.len()).filter(|one| marks[*one] && !known.contains(one)).collect()
    }

    fn commit(history: &[(Vec<usize>, i64)], number: usize, depth: usize) -> Commit {
        let ancestors = builds_on(history, number).into_iter().take(depth).map(|one| one.to_string().into());
        Commit { id: number.to_string().into(), at: history[number].1, ancestors: ancestors.collect() }
    }

    proptest! {
        /// However shallow the checkouts are: with clocks that are right, nobody takes an older commit for a newer one, nor the
        /// other way round.
        #[test]
        fn with_clocks_that_are_right_no_older_commit_is_newer(
            history in history(0),
            (one, other) in any::<(prop::sample::Index, prop::sample::Index)>(),
            (depth, depth_of_other) in (0_usize..40, 0_usize..40),
        ) {
            let (one, other) = (one.index(history.len()), other.index(history.len()));
            let of = |number: usize, depth: usize| commit(&history, number, depth);

            let relation = Relation::of(Some(&of(one, depth)), Some(&of(other, depth_of_other)));

            if builds_on(&history, other).contains(&one) {
                prop_assert!(matches!(relation, Relation::Older | Relation::Earlier), "{:?}", relation);
            }
            if builds_on(&history, one).contains(&other) {
                prop_assert!(matches!(relation, Relation::Newer | Relation::Later), "{:?}", relation);
            }
        }

        /// Proof is proof, whatever the clocks say.
        #[test]
        fn what_was_read_of_the_history_counts_before_the_clocks(
            history in history(1_000),
            (one, other) in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let (one, other) = (one.index(history.len()), other.index(history.len()));
            let of = |number: usize| commit(&history, number, usize::MAX);

            let relation = Relation::of(Some(&of(one)), Some(&of(other)));

            prop_assert_eq!(relation == Relation::Newer, builds_on(&history, one).contains(&other), "{:?}", relation);
            prop_assert_eq!(relation == Relation::Older, builds_on(&history, other).contains(&one), "{:?}", relation);
        }
    }
}
