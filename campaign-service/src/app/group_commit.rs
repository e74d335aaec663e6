//! Group commit: requests of many callers to one campaign at the same time are done in one
//! transaction. No caller waits for company. A caller that finds a free turn takes it, together
//! with the requests that have arrived meanwhile.

use super::error::{Error, Result};
use super::lanes::Lanes;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};
use uuid::Uuid;

/// Campaigns with open requests in this process.
pub struct GroupCommit<Ask, Answer> {
    lanes: Lanes<Lane<Ask, Answer>>,
    /// Most groups of one campaign that are worked on at the same time.
    turns: usize,
    /// Largest total size of one group, unless one caller asks for more.
    max_size: usize,
    /// Size of one caller's request.
    size: fn(&Ask) -> usize,
}

#[derive(Debug)]
struct Lane<Ask, Answer> {
    waiting: Mutex<VecDeque<Waiting<Ask, Answer>>>,
    turns: Arc<Semaphore>,
}

/// Request of one caller, and the channel for its answer.
#[derive(Debug)]
struct Waiting<Ask, Answer> {
    ask: Ask,
    answer: oneshot::Sender<Result<Answer>>,
}

impl<Ask, Answer> fmt::Debug for GroupCommit<Ask, Answer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("turns", &self.turns).finish_non_exhaustive()
    }
}

impl<Ask, Answer> GroupCommit<Ask, Answer>
where
    Ask: Clone + Send + 'static,
    Answer: Send + 'static,
{
    pub fn new(turns: usize, max_size: usize, size: fn(&Ask) -> usize) -> Self {
        Self { lanes: Lanes::default(), turns, max_size, size }
    }

    /// Sends a request to a campaign and returns the answer. `work` answers a group of callers, one
    /// answer each, in order.
    pub async fn ask<Work, Working>(&self, id: Uuid, ask: Ask, work: Work) -> Result<Answer>
    where
        Work: Fn(Vec<Ask>) -> Working + Clone + Send + 'static,
        Working: Future<Output = Result<Vec<Answer>>> + Send,
    {
        let lane = self.lanes.enter(id, || Lane::new(self.turns));
        let mut answer = lane.join(ask);
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer,
                turn = Arc::clone(&lane.turns).acquire_owned() => {
                    let Ok(turn) = turn else { continue };
                    let (group, work) = (lane.take_group(self.max_size, self.size), work.clone());
                    // The group runs in a task of its own, because other callers must not depend on
                    // this caller staying.
                    let task = async move {
                        answer_group(group, work).await;
                        drop(turn);
                    };
                    let _ = tokio::spawn(task).await;
                }
            }
        };
        // Only a panic leaves a caller without an answer.
        answer.unwrap_or(Err(Error::Interrupted))
    }
}

impl<Ask, Answer> Lane<Ask, Answer> {
    fn new(turns: usize) -> Self {
        Self { waiting: Mutex::default(), turns: Arc::new(Semaphore::new(turns)) }
    }

    fn join(&self, ask: Ask) -> oneshot::Receiver<Result<Answer>> {
        let (answer, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(Waiting { ask, answer });
        receiver
    }

    /// Takes the callers that waited longest. Leaves out callers that are gone.
    fn take_group(&self, max_size: usize, size: fn(&Ask) -> usize) -> Vec<Waiting<Ask, Answer>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let (mut group, mut total) = (Vec::new(), 0);
        while let Some(next) = waiting.front() {
            total += size(&next.ask);
            if total > max_size && !group.is_empty() {
                break;
            }
            group.extend(waiting.pop_front());
        }
        group
    }
}

async fn answer_group<Ask, Answer, Work, Working>(group: Vec<Waiting<Ask, Answer>>, work: Work)
where
    Ask: Clone,
    Work: Fn(Vec<Ask>) -> Working,
    Working: Future<Output = Result<Vec<Answer>>>,
{
    if group.len() > 1 {
        let asked = group.iter().map(|waiting| waiting.ask.clone()).collect();
        if let Ok(answers) = work(asked).await {
            for (waiting, answer) in group.into_iter().zip(answers) {
                // An error only says that the caller is gone, and will retry.
                let _ = waiting.answer.send(Ok(answer));
            }
            return;
        }
    }
    // A single caller, or all callers again one by one: one caller's error must not be everyone's.
    for waiting in group {
        let answers = work(vec![waiting.ask]).await;
        let answer = answers.and_then(|mut answers| answers.pop().ok_or(Error::Interrupted));
        let _ = waiting.answer.send(answer);
    }
}
