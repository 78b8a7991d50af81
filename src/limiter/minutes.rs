//! How often something happened in each minute of the last hour.

use std::collections::VecDeque;
use std::time::Duration;

const MINUTES: u64 = 60;

/// Counts by minute; older ones go.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    /// The minutes in which something happened, oldest first.
    counts: VecDeque<(u64, u32)>,
}

impl Minutes {
    /// It happened once more; `now` never goes back.
    pub fn count(&mut self, now: Duration) {
        let minute = now.as_secs() / 60;
        match self.counts.back_mut() {
            Some((newest, count)) if *newest == minute => *count = count.saturating_add(1),
            Some(_) | None => self.counts.push_back((minute, 1)),
        }
        while self.counts.front().is_some_and(|(oldest, _)| oldest + MINUTES <= minute) {
            self.counts.pop_front();
        }
    }

    /// Of each minute, oldest first, the current one last.
    pub fn last_hour(&self, now: Duration) -> Vec<u32> {
        let newest = now.as_secs() / 60;
        let mut hour = vec![0; 60];
        for (minute, count) in &self.counts {
            let place = (minute + MINUTES).checked_sub(newest + 1).and_then(|place| usize::try_from(place).ok());
            if let Some(slot) = place.and_then(|place| hour.get_mut(place)) {
                *slot = *count;
            }
        }
        hour
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_has_its_count_for_an_hour() {
        let mut minutes = Minutes::default();
        for second in [5, 59, 60, 3599] {
            minutes.count(Duration::from_secs(second));
        }
        let at = |second| minutes.last_hour(Duration::from_secs(second));

        assert_eq!((at(3599)[0], at(3599)[1], at(3599)[59]), (2, 1, 1));
        assert_eq!((at(3600)[0], at(3600)[58], at(3600)[59]), (1, 1, 0));
        assert_eq!(at(3600 + 3599).iter().sum::<u32>(), 0);
        assert_eq!(at(0).len(), 60);
    }
}
