//! Commands that keys give to a campaign of a view, after a question.

use super::board::Watched;
use crate::connection::Connection;
use crate::failure::Failure;
use crate::running::{cancel_question, run_of};
use crate::show::state;
use crate::text::clean;
use campaign_proto::v1;

/// Command on a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Pause,
    Resume,
    Cancel,
}

/// Command that waits for a yes, with the campaign that the question named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub act: Act,
    pub name: String,
    pub display_name: String,
    pub text: String,
}

impl Act {
    /// Returns the command of a key.
    pub fn of_key(key: char) -> Option<Self> {
        match key {
            'p' => Some(Self::Pause),
            'r' => Some(Self::Resume),
            'c' => Some(Self::Cancel),
            _ => None,
        }
    }

    /// Returns the question before the command on this campaign.
    pub fn question(self, watched: &Watched) -> Question {
        // Before there are counts, the run is not known.
        let progress = watched.progress.as_ref();
        let run = progress.map_or_else(
            || clean(&watched.display_name),
            |progress| run_of(&watched.display_name, progress.run),
        );
        let text = match self {
            Self::Pause => format!("Pause {run}? No call begins, and calls in progress finish."),
            Self::Resume => format!("Resume {run}? Calls begin again."),
            Self::Cancel => cancel_question(&run, progress.map(|progress| progress.in_call)),
        };
        let (name, display_name) = (watched.name.clone(), watched.display_name.clone());
        Question { act: self, name, display_name, text: format!("{text} (y/n)") }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Cancel => "cancelled",
        }
    }
}

/// Sends the command that was agreed to. Returns its result in words.
pub async fn send(connection: &Connection, question: &Question) -> String {
    let display_name = clean(&question.display_name);
    match command(connection, question).await {
        Ok(campaign) => {
            format!("{display_name}: {}, run {}", state(campaign.state()), campaign.run)
        }
        Err(failure) => {
            let message = clean(failure.message());
            format!("{display_name} was not {}: {message}", question.act.done())
        }
    }
}

async fn command(connection: &Connection, question: &Question) -> Result<v1::Campaign, Failure> {
    let (name, actor) = (question.name.clone(), connection.actor.clone());
    let mut campaigns = connection.campaigns();
    let answer = match question.act {
        Act::Pause => {
            let request = v1::PauseCampaignRequest { name, actor, ..Default::default() };
            campaigns.pause_campaign(request).await?
        }
        Act::Resume => {
            let request = v1::ResumeCampaignRequest { name, actor, ..Default::default() };
            campaigns.resume_campaign(request).await?
        }
        Act::Cancel => {
            let request = v1::CancelCampaignRequest { name, actor, ..Default::default() };
            campaigns.cancel_campaign(request).await?
        }
    };
    Ok(answer.into_inner())
}
