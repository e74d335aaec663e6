//! Calling hours: start, end, weekly windows and blackout dates, in the contact's zone.

use crate::Instant;
use crate::zones::zone;
use chrono::{DateTime, NaiveDate};
use jiff::civil::{Date, DateTime as LocalTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// Most weekly windows.
pub const MAX_WINDOWS: usize = 100;
/// Most blackout dates.
pub const MAX_BLACKOUT_DATES: usize = 400;
/// Legal hours: 08:00 to 21:00 local time, 47 CFR 64.1200(c)(1). They apply unless the campaign
/// sets other hours.
const LEGAL_HOURS: std::ops::Range<i32> = 8 * 60..21 * 60;
/// Days to search ahead for an opening: more than any run of blackout dates.
const SEARCH_DAYS: i64 = MAX_BLACKOUT_DATES as i64 + 8;

/// Times at which calls may be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Earliest time of a call.
    pub start_time: Option<Instant>,
    /// End of the run, unless it is live forever.
    pub end_time: Option<Instant>,
    /// IANA zone for contacts without their own.
    pub time_zone: String,
    /// Weekly hours; an empty list means the legal hours, every day.
    pub windows: Vec<WeeklyWindow>,
    /// Days without calls.
    pub blackout_dates: Vec<NaiveDate>,
}

/// Half-open span of one weekday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeeklyWindow {
    /// Weekday, 1 is Monday.
    pub weekday: i32,
    /// Minute of the day at which the window opens.
    pub start_minute: i32,
    /// Minute of the day at which the window closes.
    pub end_minute: i32,
}

/// Calling hours at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hours {
    /// Open now.
    Open,
    /// Closed until this time.
    ShutUntil(Instant),
    /// Closed for the foreseeable future, or the zone is unknown.
    Shut,
}

impl Schedule {
    /// Whether the schedule ends before any call can be placed.
    #[must_use]
    pub fn ends_before_it_starts(&self) -> bool {
        matches!((self.start_time, self.end_time), (Some(start), Some(end)) if end <= start)
    }

    /// Returns whether a contact in `contact_zone` (the schedule's when empty) may be called at
    /// `now`.
    ///
    /// Hours are judged on the wall clock. Hours that a clock change skips do not happen; hours
    /// that it repeats happen twice. An unknown zone is never open.
    #[must_use]
    pub fn hours(&self, contact_zone: &str, now: Instant) -> Hours {
        let name = if contact_zone.is_empty() { &self.time_zone } else { contact_zone };
        let Some(zone) = zone(name) else { return Hours::Shut };
        let now = timestamp(now);
        if self.is_open(&zone, now) {
            return Hours::Open;
        }
        let opening = self.next_opening(&zone, now).map(instant);
        opening.map_or(Hours::Shut, Hours::ShutUntil)
    }

    /// Returns until when a contact that may be called at `now` may certainly be called. Adjacent
    /// windows are not joined, so the contact may be callable for longer.
    #[must_use]
    pub fn open_until(&self, contact_zone: &str, now: Instant) -> Instant {
        let name = if contact_zone.is_empty() { &self.time_zone } else { contact_zone };
        let Some(zone) = zone(name) else { return now };
        let now = timestamp(now);
        let today = zone.to_datetime(now).date();
        let ends = self
            .windows_on(today)
            .into_iter()
            .flat_map(|window| instants_of(&zone, minute_of(today, window.end)));
        let Some(end) = ends.filter(|end| *end > now).min() else { return instant(now) };
        // The clock may be set to a closed hour.
        let shuts = |change: &Timestamp| *change < end && !self.is_open(&zone, *change);
        instant(changes_after(&zone, now).take(1).find(shuts).unwrap_or(end))
    }

    fn is_open(&self, zone: &TimeZone, now: Timestamp) -> bool {
        let local = zone.to_datetime(now);
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        self.windows_on(local.date()).iter().any(|window| window.contains(&minute))
    }

    fn windows_on(&self, date: Date) -> Vec<std::ops::Range<i32>> {
        if self.blackout_dates.iter().any(|blackout| is_same(*blackout, date)) {
            return Vec::new();
        }
        if self.windows.is_empty() {
            return vec![LEGAL_HOURS];
        }
        let weekday = i32::from(date.weekday().since(Weekday::Monday)) + 1;
        self.windows
            .iter()
            .filter(|window| window.weekday == weekday)
            .map(|window| window.start_minute..window.end_minute)
            .collect()
    }

    /// Returns the first instant of the next opening: a window begins, or the clock is set to an
    /// hour inside one.
    fn next_opening(&self, zone: &TimeZone, now: Timestamp) -> Option<Timestamp> {
        let today = zone.to_datetime(now).date();
        let opens = |opening: &Timestamp| *opening > now && self.is_open(zone, *opening);
        let begins = (0..SEARCH_DAYS).find_map(|days| {
            let date = today.checked_add(days.days()).ok()?;
            self.windows_on(date)
                .into_iter()
                .flat_map(|window| instants_of(zone, minute_of(date, window.start)))
                .filter(opens)
                .min()
        })?;
        let mut changes = changes_after(zone, now).take_while(|change| *change < begins);
        Some(changes.find(opens).unwrap_or(begins))
    }
}

fn is_same(date: NaiveDate, other: Date) -> bool {
    use chrono::Datelike;
    let (year, month, day) = (other.year(), other.month(), other.day());
    date.year() == i32::from(year)
        && u32::try_from(month) == Ok(date.month())
        && u32::try_from(day) == Ok(date.day())
}

/// Converts an instant. One beyond the calendar's years becomes the nearest that the calendar has.
fn timestamp(instant: Instant) -> Timestamp {
    let nearest = if instant < DateTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_microsecond(instant.timestamp_micros()).unwrap_or(nearest)
}

fn instant(timestamp: Timestamp) -> Instant {
    DateTime::from_timestamp_micros(timestamp.as_microsecond()).unwrap_or(DateTime::UNIX_EPOCH)
}

fn minute_of(date: Date, minute: i32) -> LocalTime {
    let midnight = date.to_datetime(jiff::civil::Time::midnight());
    midnight.saturating_add(i64::from(minute).minutes())
}

/// Returns the times of a zone's next clock changes, in order.
fn changes_after(zone: &TimeZone, now: Timestamp) -> impl Iterator<Item = Timestamp> {
    zone.following(now).map(|change| change.timestamp())
}

/// Returns the instants at which a zone's clock shows `local`. A clock set back over it yields two
/// instants. A clock set forward over it yields the instant of the change.
fn instants_of(zone: &TimeZone, local: LocalTime) -> Vec<Timestamp> {
    let at = |offset: jiff::tz::Offset| offset.to_timestamp(local).ok();
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => at(offset).into_iter().collect(),
        AmbiguousOffset::Fold { before, after } => {
            at(before).into_iter().chain(at(after)).collect()
        }
        // Read with the later offset, the time falls before the clock change.
        AmbiguousOffset::Gap { after, .. } => {
            at(after).and_then(|early| changes_after(zone, early).next()).into_iter().collect()
        }
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
        // The contact's own zone takes precedence.
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
        // The hour that Berlin repeats on 2026-10-25 closes twice.
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
        // The opening is 400 days later, at 08:00 in Berlin.
        let opening = utc("2027-02-05T07:00:00Z");
        assert_eq!(schedule.hours("", utc("2026-01-01T12:00:00Z")), Hours::ShutUntil(opening));
    }

    #[test]
    fn an_opening_is_foreseen_408_days_ahead() {
        let mut schedule = schedule(&[(7, 600, 660)]);
        // Sundays. The 58th after this one is 406 days away, and the 59th 413 days.
        let first = NaiveDate::from_ymd_opt(2026, 1, 4).expect("a date");
        schedule.blackout_dates = first.iter_weeks().take(58).collect();
        let opening = Hours::ShutUntil(utc("2027-02-14T09:00:00Z"));
        assert_eq!(schedule.hours("", utc("2026-01-04T12:00:00Z")), opening);
        schedule.blackout_dates = first.iter_weeks().take(59).collect();
        assert_eq!(schedule.hours("", utc("2026-01-04T12:00:00Z")), Hours::Shut);
    }

    #[test]
    fn a_blackout_is_one_day_of_one_month_of_one_year() {
        let mut schedule = schedule(&[]);
        schedule.blackout_dates = vec![NaiveDate::from_ymd_opt(2026, 1, 21).expect("a date")];
        let is_open = |date: &str| schedule.hours("", utc(date)) == Hours::Open;
        assert!(!is_open("2026-01-21T12:00:00Z"));
        for other in ["2026-01-20", "2026-01-22", "2026-02-21", "2027-01-21", "2025-01-21"] {
            assert!(is_open(&format!("{other}T12:00:00Z")), "{other}");
        }
    }

    #[test]
    fn a_schedule_ends_after_it_starts() {
        let at = |seconds| Some(Instant::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds));
        let ends_early = |start_time, end_time| {
            Schedule { start_time, end_time, ..schedule(&[]) }.ends_before_it_starts()
        };
        assert!(ends_early(at(5), at(4)));
        assert!(ends_early(at(5), at(5)), "no call fits in");
        assert!(!ends_early(at(5), at(6)));
        assert!(!ends_early(None, at(5)) && !ends_early(at(5), None) && !ends_early(None, None));
    }

    #[test]
    fn a_time_beyond_the_calendar_is_the_nearest_that_the_calendar_has() {
        assert_eq!(timestamp(Instant::MIN_UTC), Timestamp::MIN);
        assert_eq!(timestamp(Instant::MAX_UTC), Timestamp::MAX);
        let now = utc("2026-01-14T12:00:00.000001Z");
        assert_eq!(instant(timestamp(now)), now);
    }

    #[test]
    fn a_clock_that_is_set_back_into_a_window_opens_it_again() {
        // The window is Sunday 01:30 to 02:30 in Berlin. On 2026-10-25, 02:00 to 03:00 comes twice.
        let schedule = schedule(&[(7, 90, 150)]);
        assert_eq!(schedule.hours("", utc("2026-10-25T00:10:00Z")), Hours::Open);
        let between = schedule.hours("", utc("2026-10-25T00:40:00Z"));
        assert_eq!(between, Hours::ShutUntil(utc("2026-10-25T01:00:00Z")));
        assert_eq!(schedule.hours("", utc("2026-10-25T01:10:00Z")), Hours::Open);
        let after = schedule.hours("", utc("2026-10-25T01:30:00Z"));
        assert_eq!(after, Hours::ShutUntil(utc("2026-11-01T00:30:00Z")));
        // The clock is set back out of this window: it is open, closed and open again.
        let later = self::schedule(&[(7, 130, 240)]);
        assert_eq!(later.hours("", utc("2026-10-25T00:30:00Z")), Hours::Open);
        let until = later.open_until("", utc("2026-10-25T00:30:00Z"));
        assert_eq!(until, utc("2026-10-25T01:00:00Z"));
        let shut = later.hours("", utc("2026-10-25T01:00:00Z"));
        assert_eq!(shut, Hours::ShutUntil(utc("2026-10-25T01:10:00Z")));
    }

    /// Checks every minute over a year of changes, for zones with different kinds of clock changes.
    #[test]
    fn an_opening_is_the_first_minute_that_is_open() {
        let windows = [(1, 0, 90), (6, 1_380, 1_440), (7, 30, 100), (7, 150, 200), (5, 60, 61)];
        for zone in [
            "Europe/Berlin",
            "America/New_York",
            "Australia/Lord_Howe",
            "America/Santiago",
            "Africa/Casablanca",
            "Asia/Gaza",
        ] {
            let schedule = Schedule { time_zone: zone.to_owned(), ..schedule(&windows) };
            for change in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z", "2026-09-05T00:00:00Z"] {
                let start = utc(change);
                let minutes = (0..3_000).map(|minute| start + chrono::TimeDelta::minutes(minute));
                let mut announced: Option<Instant> = None;
                for now in minutes {
                    let hours = schedule.hours("", now);
                    if let Some(opening) = announced {
                        assert_eq!(hours == Hours::Open, now >= opening, "{zone} {now} {opening}");
                    }
                    announced = match hours {
                        Hours::ShutUntil(opening) => Some(opening),
                        Hours::Open | Hours::Shut => None,
                    };
                    if hours == Hours::Open {
                        let until = schedule.open_until("", now);
                        let last = until - chrono::TimeDelta::minutes(1);
                        assert!(until > now, "{zone} {now}");
                        assert_eq!(schedule.hours("", last), Hours::Open, "{zone} {now} {until}");
                    }
                }
            }
        }
    }
}
