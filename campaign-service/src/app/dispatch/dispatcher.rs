//! Dispatcher of one replica. Workers that wait register with it, and campaigns with work are read
//! from the agenda: once an interval for all workers, and when a notice tells of work. It leases in
//! the background and hands over, so that a worker's stream never waits for a lease.

use super::Dispatch;
use super::batch::{LeaseKey, Leased, LeasedBatch, Want};
use crate::app::control::ControlBus;
use crate::app::error::{Error, Result};
use crate::metrics::Metrics;
use crate::store::agenda::{self, Place};
use crate::store::notify::ControlEvent;
use campaign_domain::roster::{Assignment, Offer, Roster, Service, WorkerNumber, Yield};
use campaign_domain::serving::Abilities;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use uuid::Uuid;

/// Time between looks at the agenda while workers wait.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Shortest time between two looks.
const LOOK_GAP: Duration = Duration::from_millis(5);
/// Campaigns read from the agenda at once.
const PAGE_CAMPAIGNS: i64 = 1_000;
/// Pages of the agenda in one look. The next look goes on after them.
const LOOK_PAGES: usize = 5;
/// Time for which a campaign that had nothing is left alone, unless a notice tells of work or a
/// worker asks.
const REST: Duration = Duration::from_millis(500);
/// Most contacts leased in one transaction, unless one worker takes more.
const MAX_CONTACTS: usize = 4_000;
/// Results that may wait for a worker: those of one lease, and that there is nothing.
const MAILBOX_CAPACITY: usize = 4;

/// Message of the dispatcher to a worker.
#[derive(Debug)]
pub enum Delivery {
    Batch {
        batch: Box<LeasedBatch>,
        /// Number of stops heard on this replica before the lease began. If there were more since,
        /// the run may have stopped meanwhile.
        stops_heard: u64,
    },
    /// Nothing is there for the credit left.
    Idle { credit: usize },
}

/// Dispatcher of this replica.
#[derive(Debug)]
pub struct Dispatcher {
    dispatch: Arc<Dispatch>,
    control: ControlBus,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Raised when a look at the agenda is wanted at once.
    look_wanted: Notify,
}

#[derive(Debug)]
struct State {
    roster: Roster,
    mailboxes: HashMap<WorkerNumber, Mailbox>,
    last_number: WorkerNumber,
    /// Requests of workers so far.
    asks: u64,
    /// Campaigns that had nothing.
    resting: HashMap<Uuid, Rest>,
    /// Place in the agenda where the next look goes on; `None`: at its start.
    place: Option<Place>,
}

/// Rest of a campaign that had nothing. The next request of a worker ends it too.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    /// Requests of workers before the lease that found nothing.
    asks: u64,
}

#[derive(Clone, Debug)]
struct Mailbox {
    worker_id: String,
    abilities: Arc<Abilities>,
    sender: mpsc::Sender<Delivery>,
}

/// Registration of a waiting worker. The worker leaves when its registration is dropped.
#[derive(Debug)]
pub struct Registration {
    number: WorkerNumber,
    dispatcher: Arc<Dispatcher>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.dispatcher.state();
        state.roster.leave(self.number);
        state.mailboxes.remove(&self.number);
    }
}

impl Registration {
    /// Returns how many contacts the worker takes.
    #[must_use]
    pub fn credit(&self) -> usize {
        self.dispatcher.state().roster.credit(self.number)
    }

    /// Lets the worker take more contacts.
    pub fn ask(&self, contacts: usize) {
        {
            let mut state = self.dispatcher.state();
            state.asks += 1;
            state.roster.ask(self.number, contacts);
        }
        self.dispatcher.pump();
    }
}

impl Dispatcher {
    /// Creates a dispatcher that makes at most `max_leases` leases at the same time.
    #[must_use]
    pub fn new(
        dispatch: Arc<Dispatch>,
        control: ControlBus,
        metrics: Arc<Metrics>,
        max_leases: usize,
    ) -> Self {
        let state = State {
            roster: Roster::new(MAX_CONTACTS, max_leases.max(1)),
            mailboxes: HashMap::new(),
            last_number: 0,
            asks: 0,
            resting: HashMap::new(),
            place: None,
        };
        let look_wanted = Notify::new();
        Self { dispatch, control, metrics, state: Mutex::new(state), look_wanted }
    }

    /// Registers a worker. Returns its registration, and the channel of what it gets.
    pub fn join(
        self: &Arc<Self>,
        worker_id: String,
        service: Service,
    ) -> (Registration, mpsc::Receiver<Delivery>) {
        let (sender, receiver) = mpsc::channel(MAILBOX_CAPACITY);
        let mut state = self.state();
        state.last_number += 1;
        let number = state.last_number;
        let abilities = Arc::clone(&service.abilities);
        state.roster.join(number, service);
        state.mailboxes.insert(number, Mailbox { worker_id, abilities, sender });
        (Registration { number, dispatcher: Arc::clone(self) }, receiver)
    }

    /// Looks at the agenda again and again, until told to stop.
    pub async fn run(self: Arc<Self>, stop: &CancellationToken) {
        let mut events = self.control.subscribe();
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                event = events.recv() => match event {
                    Ok(ControlEvent::Work { campaign }) => self.expect_work(campaign),
                    Ok(ControlEvent::Missed) | Err(RecvError::Lagged(_)) => self.expect_any_work(),
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                },
                () = self.look_wanted.notified() => {
                    self.look().await;
                    tokio::time::sleep(LOOK_GAP).await;
                }
                _ = ticks.tick() => {
                    let is_anybody_waiting = {
                        let mut state = self.state();
                        let now = Instant::now();
                        state.resting.retain(|_, rest| rest.until > now);
                        state.roster.is_anybody_waiting()
                    };
                    if is_anybody_waiting {
                        self.look().await;
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect_work(&self, campaign: Uuid) {
        let mut state = self.state();
        state.resting.remove(&campaign);
        if state.roster.is_anybody_waiting() {
            self.look_wanted.notify_one();
        }
    }

    fn expect_any_work(&self) {
        let mut state = self.state();
        state.resting.clear();
        if state.roster.is_anybody_waiting() {
            self.look_wanted.notify_one();
        }
    }

    /// Reads the campaigns with work, leases from them, and tells the workers for which there is
    /// nothing.
    async fn look(self: &Arc<Self>) {
        let number = self.state().roster.begin_look();
        match self.read_agenda().await {
            Ok(offers) => {
                let mut state = self.state();
                let now = Instant::now();
                for offer in offers {
                    let rest = state.resting.get(&offer.campaign);
                    if rest.is_none_or(|rest| rest.until <= now || rest.asks < state.asks) {
                        state.roster.offer(offer);
                    }
                }
            }
            // An unavailable database is reported elsewhere, and the next look is soon.
            Err(error) => {
                debug!(%error, "the agenda could not be read");
                return;
            }
        }
        self.pump();
        let mut state = self.state();
        for (worker, credit) in state.roster.end_look(number) {
            if let Some(mailbox) = state.mailboxes.get(&worker) {
                // A worker with that much unread has not read that it waits.
                let _ = mailbox.sender.try_send(Delivery::Idle { credit });
            }
        }
    }

    async fn read_agenda(&self) -> Result<Vec<Offer>> {
        let mut place = self.state().place;
        let connection = self.dispatch.db.connect().await?;
        let mut offers = Vec::new();
        for _ in 0..LOOK_PAGES {
            let page = agenda::work_due(&connection, place, PAGE_CAMPAIGNS).await?;
            offers.extend(page.0);
            place = page.1;
            if place.is_none() {
                break;
            }
        }
        self.state().place = place;
        Ok(offers)
    }

    /// Makes all leases that can be made now.
    fn pump(self: &Arc<Self>) {
        let mut state = self.state();
        while let Some(assignment) = state.roster.next_assignment() {
            let wants = assignment.wants.iter().map(|(worker, contacts)| {
                let known = state.mailboxes.get(worker);
                let known = known.map(|known| (known.worker_id.clone(), known.abilities.clone()));
                let (worker_id, abilities) = known.unwrap_or_default();
                Want { worker_id, contacts: *contacts, abilities }
            });
            let wants = wants.collect();
            tokio::spawn(Arc::clone(self).run_assignment(assignment, wants, state.asks));
        }
        if state.roster.wants_look() {
            self.look_wanted.notify_one();
        }
    }

    async fn run_assignment(self: Arc<Self>, assignment: Assignment, wants: Vec<Want>, asks: u64) {
        let (campaign, stops_heard) = (assignment.campaign, self.control.stops_heard());
        let (dispatch, began_at) = (Arc::clone(&self.dispatch), Instant::now());
        // A task of its own, so that a panic ends the lease and not the assignment.
        let leasing = tokio::spawn(async move { dispatch.lease(campaign, wants).await });
        let leased = leasing.await.unwrap_or(Err(Error::Interrupted));
        self.metrics.calls.lease_duration.observe(began_at.elapsed().as_secs_f64());
        // Trouble with one campaign does not keep the others from the workers.
        let leased = leased.unwrap_or_else(|error| {
            if !matches!(error, Error::NotFound(_)) {
                warn!(%campaign, %error, "contacts could not be leased; leasing is retried");
            }
            Leased::nothing()
        });
        let left = leased.left;
        if left == Yield::NoMore {
            let rest = Rest { until: Instant::now() + REST, asks };
            self.state().resting.insert(campaign, rest);
        }
        self.hand_over(&assignment, leased, stops_heard);
        self.pump();
        if left == Yield::NoMore {
            self.settle(campaign).await;
        }
    }

    /// Ends an assignment, and hands its batches to the workers. A batch without a taker is given back.
    fn hand_over(
        self: &Arc<Self>,
        assignment: &Assignment,
        Leased { batches, left, unmet }: Leased,
        stops_heard: u64,
    ) {
        let count =
            |batch: &Option<LeasedBatch>| batch.as_ref().map_or(0, |batch| batch.contacts.len());
        let handed: Vec<usize> = batches.iter().map(count).collect();
        let total: usize = handed.iter().sum();
        let is_fruitless = total == 0 && left == Yield::More && unmet.is_none();
        // A search that found nobody cost about as much as a full batch, so others come first.
        let cost = if is_fruitless { self.dispatch.limits.max_batch_contacts } else { total };
        let mut state = self.state();
        state.roster.end(assignment, &handed, cost, left);
        if let Some(needs) = unmet {
            state.roster.correct(assignment.campaign, needs);
        }
        for ((worker, _), batch) in assignment.wants.iter().zip(batches) {
            let Some(batch) = batch.map(Box::new) else { continue };
            let key = batch.key();
            let sender = state.mailboxes.get(worker).map(|mailbox| mailbox.sender.clone());
            let is_taken = sender.is_some_and(|sender| {
                sender.try_send(Delivery::Batch { batch, stops_heard }).is_ok()
            });
            if !is_taken {
                tokio::spawn(Arc::clone(self).give_back(key));
            }
        }
    }

    async fn give_back(self: Arc<Self>, key: LeaseKey) {
        if let Err(error) = self.dispatch.release(key, &[]).await {
            debug!(%error, "a batch without a taker could not be given back; its lease expires");
        }
    }

    /// Lets a campaign that had nothing sleep. A campaign that does not sleep is looked into again
    /// after its rest, or when a notice tells of work.
    async fn settle(&self, campaign: Uuid) {
        match self.dispatch.settle(campaign).await {
            Ok(true) => {
                self.state().resting.remove(&campaign);
            }
            Ok(false) => {}
            Err(error) => warn!(%campaign, %error, "a campaign could not be put to sleep"),
        }
    }
}
