//! Worker whose calls take a while, which gives back its contacts when it is told to stop. Every
//! tenth worker ignores that and asks once more, as a worker would that missed the message.

use crate::stream::{Stream, assert_recorded, call_ended};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Contacts in a batch, and calls of a worker at the same time.
pub const BATCH: usize = 10;
/// Batches that a worker has credit for: one in calls, the others waiting.
const CREDIT_BATCHES: usize = 3;
/// Length of a call.
const CALL: Duration = Duration::from_millis(200);

/// Event of a worker.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Calls are in progress, and more contacts wait.
    Granted(usize),
    Refused(usize),
    Told(usize, std::time::Instant),
    /// Contacts whose report was acknowledged.
    Ended(usize),
}

/// Whether a worker goes on asking when told to stop.
pub fn ignores(number: usize) -> bool {
    number.is_multiple_of(10)
}

pub struct Worker {
    number: usize,
    stream: Stream,
    events: mpsc::UnboundedSender<Event>,
    waiting: VecDeque<v1::Batch>,
    asked: HashMap<i64, v1::Batch>,
    next_question: i64,
    in_calls: Vec<v1::Interaction>,
    calls_end: Instant,
}

impl Worker {
    pub fn new(number: usize, stream: Stream, events: mpsc::UnboundedSender<Event>) -> Self {
        Self {
            number,
            stream,
            events,
            waiting: VecDeque::new(),
            asked: HashMap::new(),
            next_question: 0,
            in_calls: Vec::new(),
            calls_end: Instant::now(),
        }
    }

    /// Works until dropped.
    pub async fn run(mut self) {
        self.stream.credit(BATCH * CREDIT_BATCHES);
        loop {
            tokio::select! {
                biased;
                response = self.stream.next() => self.hear(response),
                () = sleep_until(self.calls_end), if !self.in_calls.is_empty() => {
                    let interactions = std::mem::take(&mut self.in_calls);
                    self.stream.send(Request::Report(v1::Report {
                    report_number: 1,
                    interactions,
                    ..Default::default()
                }));
                }
            }
            if self.in_calls.is_empty() && self.asked.is_empty() {
                self.ask();
            }
        }
    }

    fn tell(&self, event: Event) {
        // An error only says that all is over.
        let _ = self.events.send(event);
    }

    /// Asks to authorise the next batch that waits.
    fn ask(&mut self) {
        let Some(batch) = self.waiting.pop_front() else { return };
        self.next_question += 1;
        let slots = batch.contacts.iter().map(|contact| contact.slot).collect();
        let (request_number, lease) = (self.next_question, batch.lease.clone());
        self.asked.insert(request_number, batch);
        let authorize = v1::Authorize { request_number, lease, slots, ..Default::default() };
        self.stream.send(Request::Authorize(authorize));
    }

    fn hear(&mut self, response: Response) {
        match response {
            Response::Batch(batch) => self.waiting.push_back(batch),
            Response::AuthorizeResult(result) => self.hear_result(result),
            Response::ReportAck(ack) => {
                assert_recorded(&ack);
                self.stream.credit(ack.results.len());
                self.tell(Event::Ended(ack.results.len()));
            }
            Response::Revoke(_) => self.hear_revoke(),
            _ => {}
        }
    }

    fn hear_revoke(&mut self) {
        self.tell(Event::Told(self.number, std::time::Instant::now()));
        if !ignores(self.number) {
            for batch in std::mem::take(&mut self.waiting) {
                self.give_back(batch.lease, batch.contacts.len());
            }
            return;
        }
        self.ask();
        if self.asked.is_empty() {
            // A worker with nothing to ask about is refused nothing.
            self.tell(Event::Refused(self.number));
        }
    }

    fn hear_result(&mut self, result: v1::AuthorizeResult) {
        let batch = self.asked.remove(&result.request_number).unwrap();
        let (contacts, before) = (batch.contacts.len(), self.in_calls.len());
        for (contact, attempt) in batch.contacts.into_iter().zip(result.attempts) {
            if attempt.decision() == v1::AuthorizeDecision::Granted {
                self.in_calls.push(call_ended(contact.contact, attempt.attempt_id));
            }
        }
        let granted = self.in_calls.len() - before;
        if granted < contacts {
            self.give_back(batch.lease, contacts - granted);
        }
        if granted == 0 {
            self.tell(Event::Refused(self.number));
            return;
        }
        self.calls_end = Instant::now() + CALL;
        if !self.waiting.is_empty() {
            self.tell(Event::Granted(self.number));
        }
    }

    /// Gives back the contacts of a lease that are not authorised, and asks for as many.
    fn give_back(&self, lease: Option<v1::LeaseKey>, contacts: usize) {
        self.stream.send(Request::Release(v1::Release { lease, slots: Vec::new() }));
        self.stream.credit(contacts);
    }
}
