//! Facts about contacts: reports, clicks on links, and attempts whose worker vanished.

mod clicks;
mod ledger;
pub mod recording;
pub mod report;

use super::DispatchLimits;
use crate::metrics::Metrics;
use crate::store::Db;
use report::Recorder;
use std::sync::Arc;

/// Use cases of recording what happened to contacts.
#[derive(Debug)]
pub struct Facts {
    db: Db,
    limits: DispatchLimits,
    metrics: Arc<Metrics>,
    recorder: Recorder,
}

impl Facts {
    /// Creates the use cases on a database.
    #[must_use]
    pub fn new(db: Db, limits: DispatchLimits, metrics: Arc<Metrics>) -> Self {
        Self { db, limits, metrics, recorder: report::recorder() }
    }
}
