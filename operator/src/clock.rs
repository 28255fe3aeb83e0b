//! The only room that asks for the time.

use chrono::{DateTime, Utc};

/// The seam: what time it is. Waiting is tokio's, so that paused time drives tests; wall instants are this trait's.
pub trait Clock: Send + Sync {
    /// The wall clock's instant.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}
