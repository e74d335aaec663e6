//! Random campaigns, histories and commands: the running service must behave as the model does.
//!
//! The test runs 1,000 sequences; `MODEL_SEQUENCES=20000 make test` runs more. A failure prints the shortest
//! sequence that shows it.

mod comparing;
mod facts;
mod run;
mod since;
mod state;

use crate::support::{Service, TestDb, without_chores};
use campaign_proto::v1::CallOutcome;
use campaign_service::app::campaigns::Campaigns;
use campaign_service::app::facts::Facts;
use campaign_service::app::kept_counts::KeptCounts;
use campaign_service::server::Options;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use state::{Kind, Settings};
use std::sync::Arc;

/// Tests that share the sequences, to use both cores.
const SHARES: u32 = 4;

/// Use cases of the service that the clock sets off.
struct Clock {
    campaigns: Campaigns,
    facts: Facts,
    counting: KeptCounts,
}

impl Clock {
    fn new(db: &TestDb, options: &Options) -> Self {
        let limits = options.limits.clone();
        Self {
            campaigns: Campaigns { db: db.db() },
            facts: Facts::new(db.db(), limits, Arc::default()),
            counting: crate::counts::counting(db),
        }
    }
}

/// Acts of a worker with a leased contact.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// The contact is released undialled.
    Release,
    /// The worker keeps the contact, never asks to dial, and vanishes.
    Abandon,
    /// A fact happens before the worker asks to dial.
    Interrupt(Kind),
    /// The contact is dialled: a fact of the call, and its outcome.
    Call(Option<Kind>, CallOutcome),
    /// The contact is dialled, and the worker vanishes.
    Vanish,
}

/// Step of a sequence. Contacts are picked by a number modulo the number of contacts.
#[derive(Clone, Debug)]
pub enum Step {
    AddContacts(usize),
    Launch(Settings),
    Pause,
    Resume,
    Cancel,
    Record(usize, Kind),
    /// A fact that happened an hour ago is reported.
    RecordLate(usize, Kind),
    /// A fact of a call whose worker vanished is reported now.
    TellLate(usize, Kind),
    /// A day passes between the launches so far and the next steps.
    Age,
    /// The person calls in. The call ends some steps later or never.
    CallIn(usize),
    HangUp(usize),
    /// The schedule changes: its hours are open, or closed for days.
    Hours(bool),
    /// A contact is suppressed between a preview and the launch on it.
    LaunchUnseen(Settings, usize),
    Suppress(usize),
    Unsuppress(usize),
    Delete(usize),
    CreateAgain(usize),
    /// A worker leases all contacts that it can get.
    Dispatch(Vec<Act>),
    ExpireLeases,
    /// The end of an attempt whose worker vanished is reported after all.
    ReportLate(usize, CallOutcome),
    /// The clock completes a list that is done.
    Clock,
    Preview(Settings),
}

fn settings() -> impl Strategy<Value = Settings> {
    let transferred = proptest::sample::select(vec![None, Some(-1), Some(60), Some(90), Some(120)]);
    let rarely = || proptest::bool::weighted(0.2);
    (
        (proptest::bool::weighted(0.7), transferred, any::<bool>(), any::<bool>(), any::<bool>()),
        (rarely(), rarely(), rarely()),
    )
        .prop_map(
            |((refused, transferred, success, link_opened, texted), (rerun, reset, live))| {
                Settings { refused, transferred, success, link_opened, texted, rerun, reset, live }
            },
        )
}

fn fact() -> impl Strategy<Value = Kind> {
    let seconds = proptest::sample::select(vec![0, 59, 60, 61, 90, 91, 120, 121]);
    prop_oneof![
        3 => seconds.prop_map(Kind::Transfer),
        2 => Just(Kind::OptOut),
        2 => Just(Kind::Success),
        2 => Just(Kind::Link),
        2 => Just(Kind::Text),
    ]
}

fn outcome() -> impl Strategy<Value = CallOutcome> {
    proptest::sample::select(vec![
        CallOutcome::Answered,
        CallOutcome::NoAnswer,
        CallOutcome::Busy,
        CallOutcome::Voicemail,
        CallOutcome::Failed,
        CallOutcome::Rejected,
        CallOutcome::InvalidNumber,
        CallOutcome::Congested,
        CallOutcome::Abandoned,
        CallOutcome::Cancelled,
    ])
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Release),
        1 => Just(Act::Abandon),
        2 => fact().prop_map(Act::Interrupt),
        6 => (proptest::option::of(fact()), outcome()).prop_map(|(fact, end)| Act::Call(fact, end)),
        1 => Just(Act::Vanish),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..12_usize;
    prop_oneof![
        3 => (1..4_usize).prop_map(Step::AddContacts),
        5 => settings().prop_map(Step::Launch),
        2 => Just(Step::Pause),
        2 => Just(Step::Resume),
        2 => Just(Step::Cancel),
        5 => (who(), fact()).prop_map(|(who, fact)| Step::Record(who, fact)),
        3 => (who(), fact()).prop_map(|(who, fact)| Step::RecordLate(who, fact)),
        2 => (who(), fact()).prop_map(|(who, fact)| Step::TellLate(who, fact)),
        1 => Just(Step::Age),
        2 => who().prop_map(Step::CallIn),
        2 => who().prop_map(Step::HangUp),
        2 => proptest::bool::weighted(0.7).prop_map(Step::Hours),
        1 => (settings(), who()).prop_map(|(settings, who)| Step::LaunchUnseen(settings, who)),
        1 => who().prop_map(Step::Suppress),
        1 => who().prop_map(Step::Unsuppress),
        1 => who().prop_map(Step::Delete),
        1 => who().prop_map(Step::CreateAgain),
        6 => proptest::collection::vec(act(), 12).prop_map(Step::Dispatch),
        2 => Just(Step::ExpireLeases),
        2 => (who(), outcome()).prop_map(|(who, end)| Step::ReportLate(who, end)),
        2 => Just(Step::Clock),
        2 => settings().prop_map(Step::Preview),
    ]
}

fn sequence() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..16).prop_map(|mut steps| {
        // Without contacts, there is little to compare.
        steps.insert(0, Step::AddContacts(4));
        steps
    })
}

/// Runs this test's share of the sequences.
fn agree() {
    let all: u32 = match std::env::var("MODEL_SEQUENCES") {
        Ok(text) => text.parse().expect("MODEL_SEQUENCES must be a number"),
        Err(_) => 1_000,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (db, service, clock) = runtime.block_on(async {
        let db = TestDb::new().await;
        // The model decides when the clock acts.
        let options = without_chores();
        let clock = Clock::new(&db, &options);
        let service = Service::start_with(&db, options).await;
        (db, service, clock)
    });
    let config =
        Config { cases: all.div_ceil(SHARES), failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&sequence(), |steps| {
        runtime.block_on(run::sequence(&db, &service, &clock, &steps)).map_err(TestCaseError::fail)
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn service_and_model_agree_1() {
    agree();
}

#[test]
fn service_and_model_agree_2() {
    agree();
}

#[test]
fn service_and_model_agree_3() {
    agree();
}

#[test]
fn service_and_model_agree_4() {
    agree();
}
