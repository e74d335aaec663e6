//! Facts as callers report them, and the outcome of each report.

use crate::app::group_commit::GroupCommit;
use crate::app::people::revoking::PendingRevocation;
use campaign_domain::Instant;
use campaign_domain::facts::Fact;
use campaign_domain::lease::AttemptId;
use std::sync::Arc;

/// Fact about a contact of the campaign it is recorded in.
#[derive(Clone, Debug)]
pub struct Report {
    pub position: i64,
    /// Id given by the reporter. The end of a call is identified by its attempt instead.
    pub interaction_id: String,
    pub attempt: Option<AttemptId>,
    pub fact: Fact,
    pub occurred_at: Option<Instant>,
}

/// Outcome of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The fact is durable, and in the history.
    Recorded,
    /// The fact was recorded before.
    Duplicate,
    /// The fact belongs to history that is gone: a reset cleared it, or the person was erased.
    BeforeReset,
    /// The fact cannot be recorded; the text says why.
    Rejected(String),
}

/// Most transactions of one campaign at the same time: one computes while the other waits for the
/// disk.
const TURNS: usize = 2;
/// Most facts in one transaction, unless one caller has more.
const MAX_FACTS: usize = 2_000;

/// Reports of many callers, recorded together.
pub(super) type Recorder = GroupCommit<Arc<[Report]>, PendingRevocation<Vec<Outcome>>>;

pub(super) fn recorder() -> Recorder {
    GroupCommit::new(TURNS, MAX_FACTS, |reports| reports.len())
}
