//! Worker with a real provider, for a service that grants everything.

use std::collections::BTreeMap;

use campaign_process::Health;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{
    AuthorizeDecision, CallOutcome, Credit, Interaction, RenewResult, RenewedLease, Welcome,
};
use clap::Parser;
use dialer_worker::config::Config;
use dialer_worker::metrics::Metrics;
use dialer_worker::{Summary, dialer, run};
use prost_types::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeService, FakeStream, outcome, within};

/// Worker with a real provider, and its stream.
pub struct CallingWorker {
    pub stream: FakeStream,
    /// Slots released.
    pub released: Vec<i32>,
    pub credit: i32,
    /// Reasons for which the provider fails, as the worker told.
    failures: Vec<String>,
    leases: u32,
    shutdown: CancellationToken,
    running: JoinHandle<Summary>,
    #[allow(dead_code, reason = "the tests of the HTTP provider use it")]
    pub service: FakeService,
}

/// Reports of the worker.
#[derive(Debug, Default)]
pub struct Reported {
    /// Ends of calls, by attempt. A second end is an error, unless the first was provisional.
    pub ends: BTreeMap<String, Interaction>,
    /// All other facts.
    pub facts: Vec<Interaction>,
}

impl Reported {
    pub fn count(&self, wanted: CallOutcome) -> u64 {
        self.ends.values().filter(|end| outcome(end) == Some(wanted)).count() as u64
    }
}

/// Whether a report is an end that the provider may still correct.
pub fn is_provisional(report: &Interaction) -> bool {
    matches!(&report.fact, Some(Fact::CallEnded(ended)) if ended.provisional)
}

impl CallingWorker {
    /// Starts a worker with the SIP provider.
    pub async fn over_sip(trunk: &str, flags: &[&str]) -> Self {
        let sip = ["--provider", "sip", "--sip-trunk", trunk];
        Self::start(&[&sip, flags].concat()).await
    }

    pub async fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, Welcome::default()).await
    }

    pub async fn start_with(flags: &[&str], welcome: Welcome) -> Self {
        let mut service = FakeService::start().await;
        let program = ["dialer-worker", "--service-url", &service.url, "--worker-id", "w"];
        let config = Config::try_parse_from([&program, flags].concat()).expect("flags are right");
        let dialer = dialer(&config, &Metrics::default()).await.expect("the provider starts");
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let health = Health::new().await;
        let running = tokio::spawn(async move {
            run(&config.worker(), dialer, health, std::sync::Arc::default(), stop).await
        });
        let (stream, credit) = service.welcome_with(welcome).await;
        Self {
            stream,
            released: Vec::new(),
            credit,
            failures: Vec::new(),
            leases: 0,
            shutdown,
            running,
            service,
        }
    }

    /// Leases up to `contacts` contacts, limited by the credit. Returns how many.
    pub async fn lease(&mut self, contacts: i32) -> i32 {
        let contacts = contacts.min(self.credit).min(500);
        if contacts > 0 {
            self.leases += 1;
            self.credit -= contacts;
            self.stream.lease(self.leases, contacts).await;
        }
        contacts
    }

    /// Answers the next message. Returns the facts reported in it.
    pub async fn answer_next(&mut self) -> Vec<Interaction> {
        let message = self.stream.next().await;
        self.answer(message).await
    }

    async fn answer(&mut self, message: Request) -> Vec<Interaction> {
        match message {
            Request::Credit(Credit { contacts }) => self.credit += contacts,
            Request::Authorize(asked) => {
                let granted = vec![AuthorizeDecision::Granted; asked.slots.len()];
                self.stream.decide(&asked, &granted).await;
            }
            Request::Renew(renew) => {
                let expire_time = Some(Timestamp::default());
                let leases = renew.leases.into_iter();
                let leases =
                    leases.map(|key| RenewedLease { lease: key.lease, expire_time, lost: false });
                let leases = leases.collect();
                self.stream.send(Response::RenewResult(RenewResult { leases })).await;
            }
            Request::Report(report) => {
                self.stream.acknowledge(&report).await;
                return report.interactions;
            }
            Request::Release(release) => {
                self.stream.acknowledge_release(&release).await;
                self.released.extend(release.slots);
            }
            Request::ProviderReport(report) => self.failures.push(report.reason),
            Request::Hello(_) => panic!("hello came twice"),
        }
        Vec::new()
    }

    pub async fn until_credit(&mut self) {
        while self.credit == 0 {
            self.answer_next().await;
        }
    }

    /// Answers until the worker has told the service that the provider fails, for this reason.
    pub async fn until_provider_report(&mut self, reason: &str) {
        while !self.failures.iter().any(|failure| failure.contains(reason)) {
            self.answer_next().await;
        }
    }

    /// Leases contacts until `contacts` calls have ended.
    pub async fn call(&mut self, contacts: i32) -> Reported {
        let mut left = contacts;
        let mut reported = Reported::default();
        while reported.ends.len() < usize::try_from(contacts).expect("not negative") {
            left -= self.lease(left).await;
            self.note_next(&mut reported).await;
        }
        reported
    }

    pub async fn note_next(&mut self, reported: &mut Reported) {
        let message = self.stream.next().await;
        self.note(message, reported).await;
    }

    pub async fn note(&mut self, message: Request, reported: &mut Reported) {
        for fact in self.answer(message).await {
            if outcome(&fact).is_none() {
                reported.facts.push(fact);
                continue;
            }
            let attempt_id = fact.attempt_id.clone();
            let before = reported.ends.insert(attempt_id, fact);
            // The real end replaces UNKNOWN, which a slow machine may bring about.
            let gives_way = |end: &Interaction| {
                outcome(end) == Some(CallOutcome::Unknown) || is_provisional(end)
            };
            assert!(before.as_ref().is_none_or(gives_way), "an end came twice");
        }
    }

    /// Stops the worker in order.
    pub async fn stop(self) -> Summary {
        self.shutdown.cancel();
        self.stream.end().await;
        within("the worker's end", self.running).await.expect("no panic")
    }
}
