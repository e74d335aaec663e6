//! Data of a live view.

use campaign_proto::v1;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

/// Time over which rates are taken.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Campaigns that a live view shows and follows at once.
const PAGE: usize = 20;
/// Most samples that are kept for rates.
const MAX_SAMPLES: usize = 64;

/// Campaigns of a view, and the one whose details are shown.
#[derive(Clone, Debug, Default)]
pub struct Board {
    pub campaigns: Vec<Watched>,
    pub chosen: usize,
    /// Most campaigns that are shown at once.
    pub page: usize,
    /// Line below the details: a question, or the result of a command.
    pub status: String,
}

/// One campaign of a view.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub name: String,
    pub display_name: String,
    pub progress: Option<v1::CampaignProgress>,
    /// Reason why there is no news of the campaign.
    pub trouble: Option<String>,
    /// Times of counts since the view began, with their attempts.
    samples: VecDeque<(Duration, i64)>,
}

impl Board {
    pub fn new(campaigns: Vec<Watched>) -> Self {
        Self { campaigns, page: PAGE, ..Self::default() }
    }

    /// Returns the campaigns that are shown: the page with the chosen one.
    pub fn shown(&self) -> Range<usize> {
        let page = self.page.max(1);
        let start = self.chosen / page * page;
        start..(start + page).min(self.campaigns.len())
    }

    pub fn choose_next(&mut self) {
        self.chosen = (self.chosen + 1).min(self.campaigns.len().saturating_sub(1));
    }

    pub fn choose_previous(&mut self) {
        self.chosen = self.chosen.saturating_sub(1);
    }
}

impl Watched {
    pub fn new(name: String, display_name: String) -> Self {
        Self { name, display_name, ..Self::default() }
    }

    /// Stores new counts.
    pub fn update(&mut self, progress: v1::CampaignProgress, now: Duration) {
        let attempts = progress.history.unwrap_or_default().attempts;
        if self.samples.back().is_some_and(|(_, last)| *last > attempts) {
            // The history was reset.
            self.samples.clear();
        }
        // The last sample before the window stays: it has the attempts at the window's begin.
        let begin = now.saturating_sub(RATE_WINDOW);
        while self.samples.get(1).is_some_and(|(time, _)| *time <= begin)
            || self.samples.len() >= MAX_SAMPLES
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, attempts));
        self.progress = Some(progress);
        self.trouble = None;
    }

    /// Forgets the counts so far. After a time without news, the rate would have the attempts of all that time.
    pub fn restart_rate(&mut self) {
        self.samples.clear();
    }

    /// Stores the reason why there is no news.
    pub fn lose(&mut self, trouble: String) {
        self.restart_rate();
        self.trouble = Some(trouble);
    }

    /// Returns the attempts that lately ended per second, or `None` before there are two counts.
    pub fn rate(&self, now: Duration) -> Option<f64> {
        let begin = now.saturating_sub(RATE_WINDOW);
        let before = self.samples.iter().rev().find(|(time, _)| *time <= begin);
        let (since, count) = before.or(self.samples.front()).copied()?;
        let (_, last) = self.samples.back()?;
        let span = now.saturating_sub(since.max(begin)).as_secs_f64();
        let ended = f64::from(i32::try_from(last - count).unwrap_or(i32::MAX));
        (span >= 1.0).then(|| ended / span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_attempts(attempts: i64) -> v1::CampaignProgress {
        let history = Some(v1::HistoryTotals { attempts, ..Default::default() });
        v1::CampaignProgress { history, ..Default::default() }
    }

    #[test]
    fn the_page_of_the_chosen_campaign_is_shown() {
        let mut board = Board::new(vec![Watched::default(); PAGE + 3]);
        assert_eq!(board.shown(), 0..PAGE);
        (0..PAGE).for_each(|_| board.choose_next());
        assert_eq!(board.shown(), PAGE..PAGE + 3);
        board.choose_previous();
        assert_eq!(board.shown(), 0..PAGE);
        assert_eq!(Board::default().shown(), 0..0);
    }

    #[test]
    fn rates_are_of_the_last_seconds_and_end_with_the_calls() {
        let at = Duration::from_secs;
        let mut watched = Watched::default();
        assert_eq!(watched.rate(at(0)), None);
        watched.update(with_attempts(1_000), at(0));
        assert_eq!(watched.rate(at(0)), None, "one count says nothing");
        for second in 1..=30 {
            let attempts = 1_000 + i64::try_from(second).expect("small") * 20;
            watched.update(with_attempts(attempts), at(second));
        }
        assert_eq!(watched.rate(at(30)), Some(20.0));
        // Nothing new happened: the same attempts over ever later windows.
        assert_eq!(watched.rate(at(35)), Some(10.0));
        assert_eq!(watched.rate(at(60)), Some(0.0));
        watched.update(with_attempts(0), at(61));
        assert_eq!(watched.rate(at(63)), Some(0.0), "a reset is no negative rate");
    }

    #[test]
    fn attempts_of_a_time_without_news_are_in_no_rate() {
        let at = Duration::from_secs;
        let mut watched = Watched::default();
        watched.update(with_attempts(0), at(0));
        watched.lose("no answer in time".to_owned());
        watched.update(with_attempts(6_000), at(600));
        assert_eq!(watched.rate(at(600)), None, "one count says nothing");
        watched.update(with_attempts(6_040), at(602));
        assert_eq!(watched.rate(at(602)), Some(20.0));
    }
}
