//! The clock of a story.

use certmon::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Day 0 of every story: 2027-01-01T00:00:00Z.
pub(crate) fn epoch() -> DateTime<Utc> {
    DateTime::from_timestamp(1_798_761_600, 0).expect("an instant")
}

/// Wall time is day 0, plus the paused time that has passed, plus an offset that can jump.
pub(crate) struct StageClock {
    started: Instant,
    offset: Mutex<TimeDelta>,
}

impl StageClock {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            offset: Mutex::new(TimeDelta::zero()),
        }
    }

    /// Paused time since the story began: it only goes on.
    pub(crate) fn elapsed(&self) -> TimeDelta {
        TimeDelta::from_std(self.started.elapsed()).expect("a story is shorter than that")
    }

    /// When paused time has come to `elapsed`.
    pub(crate) fn instant(&self, elapsed: TimeDelta) -> Instant {
        self.started + elapsed.to_std().expect("stories begin on day 0")
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&self, by: TimeDelta) {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for StageClock {
    fn now(&self) -> DateTime<Utc> {
        epoch() + self.elapsed() + *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `day 69 14:00:00`.
pub(crate) fn label(instant: DateTime<Utc>) -> String {
    let days = (instant - epoch()).num_seconds().div_euclid(86_400);
    format!("day {days:>3} {}", instant.format("%H:%M:%S"))
}
