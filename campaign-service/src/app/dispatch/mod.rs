//! Dispatch of contacts to workers: leases, and the authorisation of attempts.

pub mod authorizing;
pub mod batch;
pub mod dispatcher;
pub mod leasing;
mod past_runs;
mod picking;
mod settling;

use super::DispatchLimits;
use crate::links::Links;
use crate::store::Db;
use past_runs::PastRuns;

/// Use cases of workers that engage contacts.
#[derive(Debug)]
pub struct Dispatch {
    db: Db,
    pub limits: DispatchLimits,
    /// Links for texts; `None` if texts carry no links.
    links: Option<Links>,
    past_runs: PastRuns,
}

impl Dispatch {
    /// Creates the use cases on a database.
    #[must_use]
    pub fn new(db: Db, limits: DispatchLimits, links: Option<Links>) -> Self {
        Self { db, limits, links, past_runs: PastRuns::default() }
    }
}
