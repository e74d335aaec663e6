//! Greeting of a worker: its hello, and what it may do.

use super::holding::Holdings;
use super::{Incoming, MAX_NAMES, Outgoing, Session, SessionParts, unknown};
use crate::app::dispatch::dispatcher::Delivery;
use crate::app::error::Error;
use crate::grpc::access::Admitted;
use crate::grpc::check::Check;
use crate::grpc::facts::outcome_to_api;
use crate::grpc::names;
use crate::grpc::reading::Unread;
use campaign_domain::facts::CallOutcome;
use campaign_domain::roster::Service;
use campaign_domain::serving::{Abilities, MAX_CHANNEL_LENGTH, MAX_POOL_LENGTH};
use campaign_proto::v1;
use campaign_proto::v1::dispatch_request::Message as Request;
use campaign_proto::v1::dispatch_response::Message as Response;
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tonic::Status;
use uuid::Uuid;

/// Version of the protocol.
const PROTOCOL_VERSION: i32 = 1;
/// Longest wait for a worker's hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// Most reports of one worker that are recorded concurrently. At the limit nothing is read from the
/// worker.
const REPORTS_AT_ONCE: usize = 4;
/// Longest name of a worker, in characters.
const MAX_WORKER_ID_LENGTH: usize = 100;
/// Error about lost leases that are not among the leases.
pub(super) const AMONG_LEASES: &str = "must be names of those in leases";

/// Waits for the hello, which must be the first message.
async fn hello(incoming: &mut Incoming, unread: &Unread) -> Result<v1::Hello, Status> {
    let late = |_| Status::deadline_exceeded("hello must come within 10 seconds");
    match timeout(HELLO_LIMIT, incoming.message()).await.map_err(late)?? {
        Some(v1::DispatchRequest { message: Some(Request::Hello(hello)) }) => Ok(hello),
        Some(v1::DispatchRequest { message: None }) => {
            Err(unread.next().unwrap_or_else(unknown).into())
        }
        _ => Err(Error::invalid("hello", "must be the first message").into()),
    }
}

impl Session {
    /// Waits for a worker's hello, opens its session, and welcomes it. Returns the channel of what
    /// the worker gets.
    pub(super) async fn greet(
        parts: SessionParts,
        admitted: Admitted,
        outgoing: Outgoing,
        incoming: &mut Incoming,
        unread: Unread,
    ) -> Result<(Self, mpsc::Receiver<Delivery>), Status> {
        let hello = hello(incoming, &unread).await?;
        check(&hello)?;
        let reach = admitted.caller.reach_at_work();
        let mut only = BTreeSet::new();
        for name in &hello.campaigns {
            only.insert(names::campaign("hello.campaigns", name)?.unproven());
        }
        let tenant = &admitted.caller.tenant;
        let worker_id = if tenant.is_empty() {
            hello.worker_id.clone()
        } else {
            format!("{tenant}/{}", hello.worker_id)
        };
        let SessionParts {
            campaigns,
            dispatch,
            dispatcher,
            facts,
            metrics,
            control,
            stop,
            streams,
        } = parts;
        let place = streams.open(&worker_id);
        let place = place.inspect_err(|_| metrics.refused("TOO_MANY_STREAMS"))?;
        let id = Uuid::new_v4();
        let max_age = dispatch.limits.stream_max_age.map(|age| with_jitter(age, id));
        let abilities = Arc::new(abilities_of(&hello));
        let service = Service { reach: reach.clone(), only, abilities: Arc::clone(&abilities) };
        let (registration, deliveries) = dispatcher.join(worker_id.clone(), service);
        let session = Self {
            campaigns,
            dispatch,
            facts,
            metrics,
            control,
            admitted,
            reach,
            abilities,
            stop,
            max_age,
            outgoing,
            _place: place,
            id,
            worker_id,
            registration: Mutex::new(Some(registration)),
            held: Mutex::new(Holdings::default()),
            is_in_trouble: AtomicBool::new(false),
            reports: Arc::new(Semaphore::new(REPORTS_AT_ONCE)),
            unread,
        };
        session.welcome(&hello).await?;
        Ok((session, deliveries))
    }

    async fn welcome(&self, hello: &v1::Hello) -> Result<(), Status> {
        let leases = self.renew(&hello.leases, &hello.lost_leases).await?;
        let limits = &self.dispatch.limits;
        let seconds = i64::try_from(limits.lease_ttl.as_secs()).unwrap_or(i64::MAX);
        let nanos = i32::try_from(limits.lease_ttl.subsec_nanos()).unwrap_or(0);
        let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        let welcome = v1::Welcome {
            lease_ttl: Some(prost_types::Duration { seconds, nanos }),
            max_batch_contacts: count(limits.max_batch_contacts),
            max_credit_contacts: count(limits.max_credit_contacts),
            max_report_interactions: count(limits.max_report_interactions),
            leases,
            call_outcomes: CallOutcome::ALL.map(|one| outcome_to_api(one).into()).to_vec(),
        };
        self.send(Response::Welcome(welcome)).await?;
        // A run may have stopped while the worker was away.
        self.check_held().await
    }
}

fn check(hello: &v1::Hello) -> Result<(), Error> {
    let mut check = Check::default();
    check.text("hello.worker_id", &hello.worker_id, 1..=MAX_WORKER_ID_LENGTH);
    check.require(hello.leases.len() <= MAX_NAMES, "hello.leases", "must be at most 100");
    let are_held = hello.lost_leases.len() <= hello.leases.len();
    check.require(are_held, "hello.lost_leases", AMONG_LEASES);
    check.require(hello.campaigns.len() <= MAX_NAMES, "hello.campaigns", "must be at most 100");
    check.names("hello.pools", &hello.pools, MAX_NAMES, MAX_POOL_LENGTH);
    check.names("hello.channels", &hello.channels, MAX_NAMES, MAX_CHANNEL_LENGTH);
    check.require(
        hello.protocol_version == PROTOCOL_VERSION,
        "hello.protocol_version",
        "must be 1; use a worker of this service's version",
    );
    check.finish()
}

fn abilities_of(hello: &v1::Hello) -> Abilities {
    let set = |names: &[String]| names.iter().cloned().collect();
    Abilities { pools: set(&hello.pools), channels: set(&hello.channels) }
}

/// Shortens a time by up to a fifth, at random, so that streams that were opened together do not end
/// together.
fn with_jitter(age: Duration, random: Uuid) -> Duration {
    let share = u32::try_from(random.as_u128() % 1_000).unwrap_or(0);
    age - age / 5 * share / 1_000
}
