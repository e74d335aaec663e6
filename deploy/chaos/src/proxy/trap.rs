//! Trap at a named point: a message that reaches the point waits until the fault that set the trap is done.

use super::framing::Point;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// Fate of the unit in the trap, and of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The unit goes on.
    Pass,
    /// The connection is cut here.
    Cut,
}

/// Notice to the fault that set the trap; its answer says how the unit goes on.
pub type Sprung = oneshot::Sender<Verdict>;

#[derive(Debug)]
struct Armed {
    point: Point,
    /// Number of units that pass before.
    passes: u32,
    report: oneshot::Sender<Sprung>,
}

/// Trap of one proxy.
#[derive(Debug, Default)]
pub struct Trap {
    armed: Mutex<Option<Armed>>,
    is_armed: AtomicBool,
}

impl Trap {
    /// Sets the trap. The unit that comes to the point after `passes` others springs it.
    pub fn arm(&self, point: Point, passes: u32) -> oneshot::Receiver<Sprung> {
        let (report, sprung) = oneshot::channel();
        *self.lock() = Some(Armed { point, passes, report });
        self.is_armed.store(true, Ordering::Release);
        sprung
    }

    /// Takes the trap away.
    pub fn disarm(&self) {
        self.is_armed.store(false, Ordering::Release);
        *self.lock() = None;
    }

    pub(super) fn is_armed(&self) -> bool {
        self.is_armed.load(Ordering::Acquire)
    }

    pub(super) async fn spring(&self, point: Point) -> Verdict {
        let Some(report) = self.take(point) else { return Verdict::Pass };
        let (verdict, decided) = oneshot::channel();
        if report.send(verdict).is_err() {
            return Verdict::Pass;
        }
        decided.await.unwrap_or(Verdict::Pass)
    }

    /// Returns the channel to the fault that set the trap, if this point springs it.
    fn take(&self, point: Point) -> Option<oneshot::Sender<Sprung>> {
        let mut armed = self.lock();
        let waiting = armed.as_mut().filter(|armed| armed.point == point)?;
        if waiting.passes > 0 {
            waiting.passes -= 1;
            return None;
        }
        self.is_armed.store(false, Ordering::Release);
        armed.take().map(|armed| armed.report)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Armed>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
