//! Group commit: what many workers report of one campaign at the same time is recorded in one
//! transaction. Nobody waits for company: whoever comes while a turn is free takes it, and takes along
//! what others left meanwhile.

use super::App;
use super::error::{Error, Result};
use super::recording::{Outcome, Report};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

/// Transactions of one campaign at the same time: one computes while the other waits for the disk.
const TURNS: usize = 2;
/// Most facts in one transaction, unless one report has more.
const MAX_FACTS: usize = 2_000;

/// The campaigns that have reports under way in this process.
#[derive(Debug, Default)]
pub struct Recorder {
    lanes: Mutex<HashMap<Uuid, Arc<Lane>>>,
}

#[derive(Debug)]
struct Lane {
    waiting: Mutex<VecDeque<Waiting>>,
    turns: Arc<Semaphore>,
}

/// Facts of one caller, and where the answer goes.
#[derive(Debug)]
struct Waiting {
    reports: Vec<Report>,
    answer: oneshot::Sender<Result<Vec<Outcome>>>,
}

impl Recorder {
    fn lane(&self, id: Uuid) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let (waiting, turns) = (Mutex::default(), Arc::new(Semaphore::new(TURNS)));
            Arc::new(Lane { waiting, turns })
        };
        Arc::clone(lanes.entry(id).or_insert_with(new))
    }

    /// Forgets a campaign that nobody reports about.
    fn leave(&self, id: Uuid, lane: &Arc<Lane>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's, and ours: under the map's lock nobody gets another.
        if Arc::strong_count(lane) <= 2 {
            lanes.remove(&id);
        }
    }
}

impl Lane {
    fn join(&self, reports: Vec<Report>) -> oneshot::Receiver<Result<Vec<Outcome>>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Waiting { reports, answer });
        receiver
    }

    /// The reports that waited longest, those whose caller is gone excepted.
    fn take_group(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let (mut group, mut facts) = (Vec::new(), 0);
        while let Some(next) = waiting.front() {
            facts += next.reports.len();
            if facts > MAX_FACTS && !group.is_empty() {
                break;
            }
            group.extend(waiting.pop_front());
        }
        group
    }
}

impl App {
    /// Records facts about contacts of one campaign; one outcome each, in order, all durable.
    pub async fn record(&self, id: Uuid, reports: Vec<Report>) -> Result<Vec<Outcome>> {
        let refusing = reports.iter().filter(|report| report.fact.suppresses());
        let refusing: Vec<i64> = refusing.map(|report| report.position).collect();
        let lane = self.recorder.lane(id);
        let mut answer = lane.join(reports);
        let outcomes = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                turn = Arc::clone(&lane.turns).acquire_owned() => {
                    let Ok(turn) = turn else { continue };
                    // On its own: it is for others too, who must not depend on our caller staying.
                    let task = self.clone().record_group(id, lane.take_group(), turn);
                    let _ = tokio::spawn(task).await;
                }
            }
        };
        self.recorder.leave(id, &lane);
        // Only a panic leaves without an answer.
        let outcomes = outcomes.unwrap_or(Err(Error::Interrupted))?;
        // Also of what was recorded before: its caller may have gone unanswered at this point.
        self.take_back_contacts(id, &refusing).await?;
        Ok(outcomes)
    }

    async fn record_group(self, id: Uuid, group: Vec<Waiting>, _turn: OwnedSemaphorePermit) {
        let reports: Vec<Report> =
            group.iter().flat_map(|waiting| waiting.reports.iter().cloned()).collect();
        if reports.is_empty() {
            return;
        }
        match self.record_now(id, &reports).await {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for Waiting { reports, answer } in group {
                    let own = outcomes.by_ref().take(reports.len()).collect();
                    // An error only says that the caller is gone; it will report again.
                    let _ = answer.send(Ok(own));
                }
            }
            // One caller's trouble must not be everyone's.
            Err(_) if group.len() > 1 => {
                for Waiting { reports, answer } in group {
                    let _ = answer.send(self.record_now(id, &reports).await);
                }
            }
            Err(error) => {
                if let Some(Waiting { answer, .. }) = group.into_iter().next() {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}
