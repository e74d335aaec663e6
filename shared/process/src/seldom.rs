use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two log lines of the same kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// Limit of a log line to once per second, however often strangers cause it.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// Returns `Some` if the line may be written now, with the number of lines left out since the
    /// last one.
    pub fn may_say(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|last| last.elapsed() < INTERVAL) {
            said.left_out += 1;
            return None;
        }
        said.last = Some(Instant::now());
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_a_second_with_the_count_of_the_others() {
        let seldom = Seldom::default();
        assert_eq!(seldom.may_say(), Some(0));
        assert_eq!((seldom.may_say(), seldom.may_say()), (None, None));
        seldom.0.lock().expect("not poisoned").last = Instant::now().checked_sub(INTERVAL);
        assert_eq!(seldom.may_say(), Some(2));
    }
}
