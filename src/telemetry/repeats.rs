//! What was said already. A failure that stays is told when it begins, and then ever more seldom, with how often it was
//! met: a log that repeats it at every pass hides what is new.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// Who asks for the same thing again so soon asks for it in the same breath.
const BREATH: Duration = Duration::from_secs(1);

/// What was met in the rounds so far, each round being one look at everything.
#[derive(Debug, Default)]
pub struct Repeats {
    /// How often, and whether in this round. By digest: texts may be many and long.
    met: HashMap<u64, (u64, bool)>,
}

impl Repeats {
    /// Met in this round. How often so far, where that is worth a line: the first time, the second, the fourth, ...;
    /// always where `is_asked`, that is, where somebody did something and waits for what comes of it. Once a round.
    pub fn met(&mut self, what: impl Hash, is_asked: bool) -> Option<u64> {
        let (times, in_this_round) = self.met.entry(digest(what)).or_default();
        if std::mem::replace(in_this_round, true) {
            return None;
        }
        *times += 1;
        is_worth_a_line(*times, is_asked).then_some(*times)
    }

    /// The end of a round: what was not met in it is over, and news when it comes back.
    pub fn end_round(&mut self) {
        self.met.retain(|_, (_, in_this_round)| std::mem::take(in_this_round));
    }
}

/// For whoever counts by himself.
pub fn is_worth_a_line(times: u64, is_asked: bool) -> bool {
    is_asked || times.is_power_of_two()
}

/// Whoever fails again so soon had not recovered: on a full disk one write or the other still finds room.
const RECOVERED: Duration = Duration::from_secs(60);

/// What was tried at several places, each as often as it comes to that, and failed. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Failures(Arc<Mutex<HashMap<u64, Failing>>>);

/// What fails at one place.
#[derive(Debug, Default)]
struct Failing {
    /// How often, and when last, for what reason. By digest.
    met: HashMap<u64, (u64, Instant)>,
    /// Since when it succeeds again.
    over: Option<Instant>,
}

impl Failures {
    /// It failed at this place, for this reason. How often so far, once a breath, where that is worth a line.
    pub fn met(&self, place: impl Hash, reason: impl Hash) -> Option<u64> {
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = all.entry(digest(place)).or_default();
        if failing.over.take().is_some_and(|over| now.duration_since(over) >= RECOVERED) {
            failing.met.clear();
        }
        let (times, newest) = failing.met.entry(digest(reason)).or_insert((0, now));
        if *times > 0 && now.duration_since(*newest) < BREATH {
            return None;
        }
        (*times, *newest) = (*times + 1, now);
        is_worth_a_line(*times, false).then_some(*times)
    }

    /// It did not fail there. Once that lasts, what was met there is news when it comes back.
    pub fn over(&self, place: impl Hash) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let place = digest(place);
        let Some(failing) = all.get_mut(&place) else { return };
        if failing.over.get_or_insert_with(Instant::now).elapsed() >= RECOVERED {
            all.remove(&place);
        }
    }
}

fn digest(what: impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    what.hash(&mut digest);
    digest.finish()
}

/// One failure that several places meet, until it is over. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Spell(Arc<Mutex<(u64, Option<Instant>)>>);

impl Spell {
    /// It was met. How often so far, once a breath, where that is worth a line.
    pub fn met(&self) -> Option<u64> {
        let mut spell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (times, newest) = &mut *spell;
        if newest.is_some_and(|at| at.elapsed() < BREATH) {
            return None;
        }
        (*times, *newest) = (*times + 1, Some(Instant::now()));
        is_worth_a_line(*times, false).then_some(*times)
    }

    /// It did not fail.
    pub fn over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was told three times in one millisecond.
    #[tokio::test(start_paused = true)]
    async fn what_several_places_meet_at_once_is_met_once() {
        let spell = Spell::default();
        let all = spell.clone();
        let mut told = Vec::new();
        for _ in 0..8 {
            told.extend([spell.met(), all.met(), all.met()].into_iter().flatten());
            tokio::time::advance(BREATH).await;
        }

        assert_eq!(told, [1, 2, 4, 8]);
        all.over();
        assert_eq!((spell.met(), spell.met()), (Some(1), None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_at_a_place_is_news_for_another_reason_or_once_it_had_recovered() {
        let failures = Failures::default();
        let met = async |reason: &str| {
            tokio::time::advance(BREATH).await;
            failures.met("a", reason)
        };

        assert_eq!((met("full").await, met("full").await, met("full").await), (Some(1), Some(2), None));
        assert_eq!(
            (met("gone").await, failures.met("gone", "gone"), failures.met("b", "full")),
            (Some(1), Some(1), Some(1))
        );
        failures.over("a");
        failures.over("never failed");
        assert_eq!((met("full").await, met("gone").await), (Some(4), Some(2)), "one that found room");
        failures.over("a");
        tokio::time::advance(RECOVERED).await;
        assert_eq!((met("full").await, met("full").await), (Some(1), Some(2)));
        failures.over("a");
        tokio::time::advance(RECOVERED).await;
        failures.over("a");
        assert_eq!(met("full").await, Some(1));
    }

    #[test]
    fn what_stays_is_told_ever_more_seldom_and_anew_after_it_was_over() {
        let mut repeats = Repeats::default();
        let mut round = |is_there: bool, is_asked: bool| {
            let told = if is_there { repeats.met("gone", is_asked) } else { None };
            repeats.end_round();
            told
        };

        let told: Vec<u64> = (0..20).filter_map(|_| round(true, false)).collect();
        assert_eq!(told, [1, 2, 4, 8, 16]);
        assert_eq!(round(true, true), Some(21));
        assert_eq!(round(false, false), None);
        assert_eq!(round(true, false), Some(1));
    }

    #[test]
    fn twice_in_a_round_is_once() {
        let mut repeats = Repeats::default();

        assert_eq!((repeats.met("a", false), repeats.met("a", false)), (Some(1), None));
        repeats.end_round();
        assert_eq!(repeats.met(("a", 1), false), Some(1));
    }
}
