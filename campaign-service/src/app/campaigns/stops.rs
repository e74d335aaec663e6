//! Stopped runs, for callers that may have missed a notice: notices are best effort.

use super::Campaigns;
use crate::app::error::Result;
use crate::store::notify::StopCause;
use crate::store::standings::{self, Standing};
use campaign_domain::lifecycle::State;
use uuid::Uuid;

/// Stopped runs of a campaign, which are paused or over: `run` and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    pub campaign: Uuid,
    pub run: i32,
    pub cause: StopCause,
    /// Whether calls in progress are hung up.
    pub hang_up: bool,
}

impl Campaigns {
    /// Returns what stopped in some campaigns, one stop for each.
    pub async fn stops(&self, ids: &[Uuid]) -> Result<Vec<Stop>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.db.connect().await?;
        let standings = standings::find(&connection, ids).await?;
        let of = |id: &Uuid| {
            let standing = standings.iter().find(|standing| standing.campaign == *id);
            stop_of(*id, standing.filter(|standing| !standing.is_deleted))
        };
        Ok(ids.iter().map(of).collect())
    }
}

fn stop_of(campaign: Uuid, standing: Option<&Standing>) -> Stop {
    let stop = |run, cause, hang_up| Stop { campaign, run, cause, hang_up };
    let Some(standing) = standing else { return stop(i32::MAX, StopCause::Cancelled, true) };
    let run = standing.run;
    match standing.state {
        State::Paused => stop(run, StopCause::Paused, standing.hangs_up),
        State::Completed => stop(run, StopCause::Completed, false),
        State::Cancelled => stop(run, StopCause::Cancelled, true),
        // A newer run is under way: the run before it was ended.
        State::Running | State::Scheduled | State::Draft => {
            stop(run - 1, StopCause::Cancelled, true)
        }
    }
}
