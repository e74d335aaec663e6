//! Sharing of readings: all who look at a campaign in this process share one reading, so that the
//! database is not asked once for each of them.

use crate::app::error::Result;
use crate::app::lanes::{InLane, Lanes};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

/// Least time between two readings for watchers, in times of what a reading takes. So watching
/// takes at most a tenth of one connection for each campaign.
const REST: u32 = 10;

/// Readings of the campaigns that somebody looks at.
pub type Shared<T> = Lanes<Lane<T>>;

/// Last reading of one campaign. The lock is held during a reading.
pub type Lane<T> = Mutex<Option<Reading<T>>>;

/// Reading of a campaign.
#[derive(Debug)]
pub struct Reading<T> {
    began: Instant,
    took: Duration,
    value: Arc<T>,
}

/// Somebody who looks at a campaign.
#[derive(Debug)]
pub struct Viewer<T> {
    lane: InLane<Lane<T>>,
    /// Time when the reading began that this viewer saw last.
    seen: Option<Instant>,
}

impl<T> Reading<T> {
    /// Returns whether a watcher shares this reading: the watcher has not seen it and it is younger
    /// than the watcher's interval, or the time for the next reading has not come.
    fn suits(&self, seen: Instant, interval: Duration) -> bool {
        let age = self.began.elapsed();
        (self.began > seen && age < interval) || age < self.took * REST
    }
}

impl<T> Viewer<T> {
    /// Creates a viewer of a campaign.
    pub fn new(shared: &Shared<T>, campaign: Uuid) -> Self {
        Self { lane: shared.enter(campaign, Mutex::default), seen: None }
    }

    /// Returns a reading that began after this call. At most one reading of a campaign runs at a
    /// time, and all callers that wait meanwhile share the next one.
    pub async fn fresh<Work, Reads>(&mut self, read: Work) -> Result<Arc<T>>
    where
        Work: FnOnce() -> Reads,
        Reads: Future<Output = Result<T>>,
    {
        let asked = Instant::now();
        self.look(|last| last.began >= asked, read).await
    }

    /// Returns a reading that is as recent as a watcher needs. The first one is fresh.
    pub async fn recent<Work, Reads>(&mut self, interval: Duration, read: Work) -> Result<Arc<T>>
    where
        Work: FnOnce() -> Reads,
        Reads: Future<Output = Result<T>>,
    {
        match self.seen {
            None => self.fresh(read).await,
            Some(seen) => self.look(|last| last.suits(seen, interval), read).await,
        }
    }

    async fn look<Work, Reads>(
        &mut self,
        suits: impl FnOnce(&Reading<T>) -> bool,
        read: Work,
    ) -> Result<Arc<T>>
    where
        Work: FnOnce() -> Reads,
        Reads: Future<Output = Result<T>>,
    {
        let mut last = self.lane.lock().await;
        let reading = match last.take().filter(suits) {
            Some(reading) => reading,
            None => {
                let began = Instant::now();
                let value = Arc::new(read().await?);
                Reading { began, took: began.elapsed(), value }
            }
        };
        self.seen = Some(reading.began);
        let value = Arc::clone(&reading.value);
        *last = Some(reading);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::Error;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::task::JoinSet;
    use tokio::time::sleep;

    const READING: Duration = Duration::from_millis(10);
    const INTERVAL: Duration = Duration::from_millis(200);

    /// Reading that takes a while. Its value is its number.
    async fn number(count: Arc<AtomicU32>) -> Result<u32> {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(READING).await;
        Ok(number)
    }

    #[tokio::test]
    async fn any_number_of_watchers_costs_one_reading_an_interval() {
        let (shared, count) = (Shared::default(), Arc::new(AtomicU32::new(0)));
        let (began, mut watchers) = (Instant::now(), JoinSet::new());
        for watcher in 0..50 {
            let (mut viewer, count) = (Viewer::new(&shared, Uuid::nil()), Arc::clone(&count));
            watchers.spawn(async move {
                sleep(INTERVAL * watcher / 50).await;
                let (mut seen, began) = (Vec::new(), Instant::now());
                while began.elapsed() < 10 * INTERVAL {
                    let read = || number(Arc::clone(&count));
                    seen.push(*viewer.recent(INTERVAL, read).await.expect("a reading"));
                    sleep(INTERVAL).await;
                }
                seen.windows(2).for_each(|pair| assert!(pair[0] <= pair[1], "{seen:?}"));
            });
        }
        watchers.join_all().await;
        // While the watchers begin, one reading follows the other.
        let most = 1
            + INTERVAL.div_duration_f64(READING) as u32
            + began.elapsed().div_duration_f64(INTERVAL) as u32;
        let readings = count.load(Ordering::SeqCst);
        assert!(readings <= most, "{readings} readings, and one an interval makes {most}");
        assert!(shared.are_empty());
    }

    #[tokio::test]
    async fn a_slow_reading_is_shared_for_longer_than_the_interval() {
        let shared = Shared::default();
        let mut viewer = Viewer::new(&shared, Uuid::nil());
        let count = AtomicU32::new(0);
        let began = Instant::now();
        while began.elapsed() < READING * 95 {
            let read = || async {
                count.fetch_add(1, Ordering::SeqCst);
                sleep(READING).await;
                Ok(())
            };
            viewer.recent(READING, read).await.expect("a reading");
            sleep(READING).await;
        }
        assert!((1..=10).contains(&count.load(Ordering::SeqCst)), "{count:?} in 95 times of one");
    }

    #[tokio::test]
    async fn a_fresh_reading_begins_after_the_question_and_all_who_wait_share_it() {
        let (shared, count) = (Shared::default(), Arc::new(AtomicU32::new(0)));
        let mut callers = JoinSet::new();
        for caller in 0..30 {
            let (mut viewer, count) = (Viewer::new(&shared, Uuid::nil()), Arc::clone(&count));
            callers.spawn(async move {
                sleep(READING * caller / 30).await;
                let before = count.load(Ordering::SeqCst);
                let seen = *viewer.fresh(|| number(count)).await.expect("a reading");
                assert!(seen > before, "{seen} began before the question");
            });
        }
        callers.join_all().await;
        let readings = count.load(Ordering::SeqCst);
        assert!(readings <= 4, "{readings} readings for callers within the time of one");
    }

    #[tokio::test]
    async fn a_reading_that_fails_or_is_given_up_is_read_again() {
        let shared = Shared::default();
        let (mut one, mut other) =
            (Viewer::new(&shared, Uuid::nil()), Viewer::new(&shared, Uuid::nil()));
        let failed = one.fresh(|| async { Err(Error::Interrupted) }).await;
        assert!(failed.is_err());
        let given_up = one.fresh(std::future::pending);
        assert!(tokio::time::timeout(INTERVAL, given_up).await.is_err());
        assert_eq!(*other.recent(INTERVAL, || async { Ok(7) }).await.expect("a reading"), 7);
    }
}
