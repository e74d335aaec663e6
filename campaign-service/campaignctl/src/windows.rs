//! Calling hours as people write them, such as `mon-fri=9am-5:30pm` or `sat=22:00-02:00`.

use crate::text::{DAYS, clock, day_name};
use campaign_proto::v1;
use std::str::FromStr;

/// Minutes of a day.
const DAY: i32 = 24 * 60;

/// Hours on a range of weekdays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    typed: String,
    days: (i32, i32),
    /// First minute, and the minute after the last. The end lies on the next day if it comes before the start. It is
    /// 24:00 for hours that end at midnight.
    minutes: (i32, i32),
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let dashed = text.replace(['–', '—'], "-");
        let read = || {
            let (days, hours) = dashed.split_once('=')?;
            let (from, to) = days.split_once('-').unwrap_or((days, days));
            let (start, end) = hours.split_once('-')?;
            Some(((day(from)?, day(to)?), (minute(start)?, minute(end)?)))
        };
        let (days, minutes) = read()
            .ok_or("write it as in mon-fri=09:00-17:30, mon-fri=9am-5:30pm, or sat=22:00-02:00")?;
        match minutes {
            (DAY, _) => Err("no hours begin at 24:00; begin at 00:00 of the next day".to_owned()),
            (start, end) if start == end => {
                Err("it begins when it ends; a whole day is 00:00-24:00".to_owned())
            }
            (start, end) => {
                let end = if end == 0 { DAY } else { end };
                Ok(Self { typed: text.to_owned(), days, minutes: (start, end) })
            }
        }
    }
}

fn day(text: &str) -> Option<i32> {
    let at = DAYS.iter().position(|day| text.trim().eq_ignore_ascii_case(day))?;
    i32::try_from(at + 1).ok()
}

/// Returns the number of a weekday. Days after Sunday belong to the next week.
fn weekday(day: i32) -> i32 {
    (day - 1) % 7 + 1
}

/// Reads a time: 17:30, 17.30, 5:30pm or 5pm. Rejects an hour alone, since 5 could mean morning or evening.
fn minute(text: &str) -> Option<i32> {
    let text = text.trim().to_lowercase().replace('.', ":");
    let in_half = |(name, hour)| Some((text.strip_suffix(name)?, Some(hour)));
    let found = [("am", 0), ("pm", 12)].into_iter().find_map(in_half);
    let (time, half) = found.unwrap_or((&text, None));
    let (hour, minute) = match (time.trim().split_once(':'), half) {
        (Some((hour, minute)), _) if minute.len() == 2 => (hour, minute),
        (None, Some(_)) => (time.trim(), "00"),
        _ => return None,
    };
    let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok());
    let (hour, minute): (i32, i32) = (number(hour)??, number(minute)??);
    let is_time = match half {
        Some(_) => (1..=12).contains(&hour) && minute < 60,
        None => hour < 24 && minute < 60 || (hour, minute) == (24, 0),
    };
    // Twelve is the first hour of each half.
    let hour = half.map_or(hour, |half| hour % 12 + half);
    is_time.then_some(hour * 60 + minute)
}

impl Window {
    /// Returns one window for each day, and one for the rest after midnight. The range from Saturday to Monday
    /// includes Sunday.
    pub fn to_api(&self) -> Vec<v1::WeeklyWindow> {
        let (from, to) = self.days;
        let last = if to < from { to + 7 } else { to };
        let (start, end) = self.minutes;
        let of = |day, start_minute, end_minute| v1::WeeklyWindow {
            weekday: weekday(day),
            start_minute,
            end_minute,
        };
        let on = |day: i32| {
            if start < end {
                return vec![of(day, start, end)];
            }
            vec![of(day, start, DAY), of(day + 1, 0, end)]
        };
        (from..=last).flat_map(on).collect()
    }

    /// Returns how the window was understood, if that is not how it was written.
    pub fn understood(&self) -> Option<String> {
        let (from, to) = self.days;
        let days = |add: i32| {
            let (first, last) = (day_name(weekday(from + add)), day_name(weekday(to + add)));
            if first == last { first.to_owned() } else { format!("{first}-{last}") }
        };
        let (start, end) = (clock(self.minutes.0), clock(self.minutes.1));
        let understood = if self.minutes.0 < self.minutes.1 {
            format!("{}={start}-{end}", days(0))
        } else {
            format!("{}={start}-24:00 and {}=00:00-{end}", days(0), days(1))
        };
        (!understood.eq_ignore_ascii_case(&self.typed))
            .then(|| format!("window {} is {understood}", self.typed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(text: &str) -> Vec<(i32, i32, i32)> {
        let window: Window = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let api = window.to_api();
        api.iter().map(|one| (one.weekday, one.start_minute, one.end_minute)).collect()
    }

    #[test]
    fn windows_are_read_as_people_write_them() {
        let days = |text: &str| -> Vec<i32> { windows(text).iter().map(|one| one.0).collect() };
        assert_eq!(days("mon-fri=09:00-17:30"), [1, 2, 3, 4, 5]);
        assert_eq!(days("Sat-Mon=10:00-24:00"), [6, 7, 1]);
        assert_eq!(days("sun=00:00-24:00"), [7]);
        assert_eq!(windows("mon=09:05-17:30"), [(1, 545, 1_050)]);
        assert_eq!(windows("mon=9:00am-5pm"), [(1, 540, 1_020)]);
        assert_eq!(windows("mon=9am - 5:30 PM"), [(1, 540, 1_050)]);
        assert_eq!(windows("mon=09.00–17.00"), [(1, 540, 1_020)]);
        assert_eq!(windows("mon=12am-12pm"), [(1, 0, 720)]);
        for wrong in [
            "",
            "mon",
            "mon=9",
            "mon=9-17",
            "mon=09:00-25:00",
            "day=09:00-10:00",
            "mon=09:60-10:00",
            "mon=13pm-2pm",
            "mon=0am-2am",
            "mon=9:0-10:00",
            "mon=+9:00-10:00",
            "mon=09:00-09:00",
            "mon=24:00-02:00",
            "mon=pm-9pm",
        ] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn hours_over_midnight_end_on_the_next_day() {
        let night = windows("mon-fri=22:00-02:00");
        assert_eq!(night.len(), 10);
        assert_eq!(night[..2], [(1, 1_320, 1_440), (2, 0, 120)]);
        assert_eq!(night[8..], [(5, 1_320, 1_440), (6, 0, 120)]);
        assert_eq!(windows("sun=10pm-2am"), [(7, 1_320, 1_440), (1, 0, 120)]);
        assert_eq!(windows("sun=22:00-00:00"), [(7, 1_320, 1_440)]);
        assert_eq!(windows("sun=10pm-12am"), [(7, 1_320, 1_440)]);
    }

    #[test]
    fn a_window_says_how_it_was_understood() {
        let understood = |text: &str| text.parse::<Window>().expect("a window").understood();
        assert_eq!(understood("mon-fri=09:00-17:30"), None);
        assert_eq!(
            understood("mon-fri=22:00-02:00").as_deref(),
            Some("window mon-fri=22:00-02:00 is mon-fri=22:00-24:00 and tue-sat=00:00-02:00")
        );
        assert_eq!(
            understood("sun=9am-5pm").as_deref(),
            Some("window sun=9am-5pm is sun=09:00-17:00")
        );
        assert_eq!(
            understood("sun=22:00-00:00").as_deref(),
            Some("window sun=22:00-00:00 is sun=22:00-24:00")
        );
    }
}
