//! When calls may be placed: start, end, weekly windows and blackout dates, in the contact's zone.

use crate::Instant;
use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

/// Most weekly windows.
pub const MAX_WINDOWS: usize = 100;
/// Most blackout dates.
pub const MAX_BLACKOUT_DATES: usize = 400;
/// Calls are allowed from 08:00 to 21:00 local time unless the campaign names other hours:
/// 47 CFR 64.1200(c)(1).
const LEGAL_HOURS: std::ops::Range<i32> = 8 * 60..21 * 60;
/// How far ahead an opening is looked for: past any run of blackout dates.
const SEARCH_DAYS: u64 = MAX_BLACKOUT_DATES as u64 + 8;

/// When calls may be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Nothing before.
    pub start_time: Option<Instant>,
    /// The end, unless the run is live forever.
    pub end_time: Option<Instant>,
    /// IANA zone for contacts without their own.
    pub time_zone: String,
    /// Weekly hours; none means the legal hours, every day.
    pub windows: Vec<WeeklyWindow>,
    /// Days without calls.
    pub blackout_dates: Vec<NaiveDate>,
}

/// A half-open span of one weekday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeeklyWindow {
    /// 1 is Monday.
    pub weekday: i32,
    /// Minute of the day it opens.
    pub start_minute: i32,
    /// Minute of the day it shuts.
    pub end_minute: i32,
}

/// Whether calls may be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// Now.
    Open,
    /// From then on.
    ShutUntil(Instant),
    /// Not in the foreseeable future, or the zone is not known.
    Shut,
}

/// Reads an IANA zone.
#[must_use]
pub fn zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

impl Schedule {
    /// Whether it ends before anything can be dialled.
    #[must_use]
    pub fn ends_before_it_starts(&self) -> bool {
        matches!((self.start_time, self.end_time), (Some(start), Some(end)) if end <= start)
    }

    /// Whether a contact in `contact_zone` (the schedule's when empty) may be called at `now`.
    ///
    /// Hours are judged on the wall clock: those that a clock change skips do not happen, those that
    /// it repeats happen twice. An unknown zone is never open.
    #[must_use]
    pub fn hours(&self, contact_zone: &str, now: Instant) -> Hours {
        let name = if contact_zone.is_empty() { &self.time_zone } else { contact_zone };
        let Some(zone) = zone(name) else { return Hours::Shut };
        if self.is_open(zone, now) {
            return Hours::Open;
        }
        self.next_opening(zone, now).map_or(Hours::Shut, Hours::ShutUntil)
    }

    /// Until when a contact that may be called at `now` surely may be. Windows that follow each other
    /// count one by one, so it may be longer.
    #[must_use]
    pub fn open_until(&self, contact_zone: &str, now: Instant) -> Instant {
        let name = if contact_zone.is_empty() { &self.time_zone } else { contact_zone };
        let Some(zone) = zone(name) else { return now };
        let today = now.with_timezone(&zone).date_naive();
        self.windows_on(today)
            .into_iter()
            .flat_map(|window| instants_of(zone, minute_of(today, window.end)))
            .filter(|end| *end > now)
            .min()
            .unwrap_or(now)
    }

    fn is_open(&self, zone: Tz, now: Instant) -> bool {
        let local = now.with_timezone(&zone).naive_local();
        let minute = i32::try_from(local.hour() * 60 + local.minute()).unwrap_or(0);
        self.windows_on(local.date()).iter().any(|window| window.contains(&minute))
    }

    fn windows_on(&self, date: NaiveDate) -> Vec<std::ops::Range<i32>> {
        if self.blackout_dates.contains(&date) {
            return Vec::new();
        }
        if self.windows.is_empty() {
            return vec![LEGAL_HOURS];
        }
        let weekday = i32::try_from(date.weekday().number_from_monday()).unwrap_or(0);
        self.windows
            .iter()
            .filter(|window| window.weekday == weekday)
            .map(|window| window.start_minute..window.end_minute)
            .collect()
    }

    fn next_opening(&self, zone: Tz, now: Instant) -> Option<Instant> {
        let today = now.with_timezone(&zone).date_naive();
        (0..SEARCH_DAYS).find_map(|days| {
            let date = today.checked_add_days(Days::new(days))?;
            self.windows_on(date)
                .into_iter()
                .flat_map(|window| instants_of(zone, minute_of(date, window.start)))
                .filter(|opening| *opening > now && self.is_open(zone, *opening))
                .min()
        })
    }
}

fn minute_of(date: NaiveDate, minute: i32) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN) + TimeDelta::minutes(i64::from(minute))
}

/// The instants at which a zone's clock shows this: two when it is set back over it, and when it is
/// set forward over it the first instant after.
fn instants_of(zone: Tz, local: NaiveDateTime) -> Vec<Instant> {
    use chrono::LocalResult;
    match zone.from_local_datetime(&local) {
        LocalResult::Single(instant) => vec![instant.to_utc()],
        LocalResult::Ambiguous(first, second) => vec![first.to_utc(), second.to_utc()],
        // Clocks skip at most a day (islands that changed sides of the date line).
        LocalResult::None => (1..=24 * 60)
            .find_map(|minutes| {
                zone.from_local_datetime(&(local + TimeDelta::minutes(minutes))).earliest()
            })
            .map(|instant| vec![instant.to_utc()])
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(windows: &[(i32, i32, i32)]) -> Schedule {
        Schedule {
            start_time: None,
            end_time: None,
            time_zone: "Europe/Berlin".to_owned(),
            windows: windows
                .iter()
                .map(|&(weekday, start_minute, end_minute)| WeeklyWindow {
                    weekday,
                    start_minute,
                    end_minute,
                })
                .collect(),
            blackout_dates: Vec::new(),
        }
    }

    fn utc(text: &str) -> Instant {
        text.parse().expect("an instant")
    }

    #[test]
    fn legal_hours_are_half_open_and_local() {
        let schedule = schedule(&[]);
        // Berlin is UTC+1 in winter.
        assert_eq!(
            schedule.hours("", utc("2026-01-14T06:59:59Z")),
            Hours::ShutUntil(utc("2026-01-14T07:00:00Z"))
        );
        assert_eq!(schedule.hours("", utc("2026-01-14T07:00:00Z")), Hours::Open);
        assert_eq!(schedule.hours("", utc("2026-01-14T19:59:59Z")), Hours::Open);
        assert_eq!(
            schedule.hours("", utc("2026-01-14T20:00:00Z")),
            Hours::ShutUntil(utc("2026-01-15T07:00:00Z"))
        );
        // The contact's own zone wins.
        assert_eq!(schedule.hours("America/New_York", utc("2026-01-14T20:00:00Z")), Hours::Open);
        assert_eq!(schedule.hours("Mars/Olympus", utc("2026-01-14T12:00:00Z")), Hours::Shut);
    }

    #[test]
    fn open_hours_last_until_their_end() {
        let schedule = schedule(&[(3, 600, 660), (3, 660, 720), (7, 120, 150)]);
        let until = |now| schedule.open_until("", utc(now));
        assert_eq!(until("2026-01-14T09:30:00Z"), utc("2026-01-14T10:00:00Z"));
        assert_eq!(until("2026-01-14T10:00:00Z"), utc("2026-01-14T11:00:00Z"));
        assert_eq!(until("2026-01-14T11:00:00Z"), utc("2026-01-14T11:00:00Z"), "shut by then");
        // The hour that Berlin repeats on 2026-10-25 shuts twice.
        assert_eq!(until("2026-10-25T00:10:00Z"), utc("2026-10-25T00:30:00Z"));
        assert_eq!(until("2026-10-25T01:10:00Z"), utc("2026-10-25T01:30:00Z"));
    }

    #[test]
    fn blackouts_and_weekdays_are_skipped() {
        let mut schedule = schedule(&[(3, 600, 660)]);
        let wednesday = utc("2026-01-14T10:30:00Z");
        assert_eq!(
            schedule.hours("", wednesday),
            Hours::ShutUntil(utc("2026-01-21T09:00:00Z")),
            "11:30 in Berlin is after the window"
        );
        schedule.blackout_dates.push(NaiveDate::from_ymd_opt(2026, 1, 21).expect("a date"));
        assert_eq!(schedule.hours("", wednesday), Hours::ShutUntil(utc("2026-01-28T09:00:00Z")));
    }

    #[test]
    fn a_window_that_the_clock_skips_does_not_happen() {
        // Berlin skips 02:00 to 03:00 on Sunday 2026-03-29.
        let schedule = schedule(&[(7, 120, 180)]);
        assert_eq!(
            schedule.hours("", utc("2026-03-28T12:00:00Z")),
            Hours::ShutUntil(utc("2026-04-05T00:00:00Z"))
        );
        // A window that begins in the gap opens when the gap ends.
        let longer = self::schedule(&[(7, 150, 240)]);
        assert_eq!(
            longer.hours("", utc("2026-03-28T12:00:00Z")),
            Hours::ShutUntil(utc("2026-03-29T01:00:00Z"))
        );
    }

    #[test]
    fn a_window_that_the_clock_repeats_happens_twice() {
        // Berlin repeats 02:00 to 03:00 on Sunday 2026-10-25: at 00:00Z and at 01:00Z.
        let schedule = schedule(&[(7, 120, 150)]);
        assert_eq!(
            schedule.hours("", utc("2026-10-24T12:00:00Z")),
            Hours::ShutUntil(utc("2026-10-25T00:00:00Z"))
        );
        assert_eq!(schedule.hours("", utc("2026-10-25T00:10:00Z")), Hours::Open);
        assert_eq!(
            schedule.hours("", utc("2026-10-25T00:40:00Z")),
            Hours::ShutUntil(utc("2026-10-25T01:00:00Z"))
        );
        assert_eq!(schedule.hours("", utc("2026-10-25T01:10:00Z")), Hours::Open);
    }

    #[test]
    fn no_window_is_ever_open_when_all_are_blacked_out() {
        let mut schedule = schedule(&[]);
        let first = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date");
        schedule.blackout_dates = first.iter_days().take(MAX_BLACKOUT_DATES).collect();
        let opening = first + Days::new(MAX_BLACKOUT_DATES as u64);
        let expected = instants_of(chrono_tz::Europe::Berlin, minute_of(opening, 480));
        assert_eq!(schedule.hours("", utc("2026-01-01T12:00:00Z")), Hours::ShutUntil(expected[0]));
    }
}
