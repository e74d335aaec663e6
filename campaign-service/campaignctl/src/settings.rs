//! Launch settings: their flags, their values, and their meaning in words.

use campaign_proto::v1;
use clap::{Args, ValueEnum};

/// Settings of one run; every launch has its own.
#[derive(Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// Also engage contacts that opted out before this launch (needs the role admin)
    #[arg(long)]
    pub include_refused: bool,
    /// Exclude contacts that were transferred
    #[arg(long, value_enum, value_name = "AFTER")]
    pub exclude_transferred: Option<Transferred>,
    /// Exclude contacts that met the campaign's goal
    #[arg(long)]
    pub exclude_success: bool,
    /// Exclude contacts that clicked a link
    #[arg(long)]
    pub exclude_link_opened: bool,
    /// Exclude contacts that received a text
    #[arg(long)]
    pub exclude_texted: bool,
    /// Engage everyone again, whatever happened before; opted-out contacts stay excluded
    #[arg(long)]
    pub rerun_all_contacts: bool,
    /// Clear all history and opt-outs of the campaign for good (needs the role admin)
    #[arg(long)]
    pub reset_contact_history: bool,
    /// Run without end: contacts that arrive join the run
    #[arg(long)]
    pub live_forever: bool,
}

/// Time on a call after which a transferred contact is excluded.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Transferred {
    AnyTime,
    #[value(name = "more-than-60s")]
    MoreThan60s,
    #[value(name = "more-than-90s")]
    MoreThan90s,
    #[value(name = "more-than-120s")]
    MoreThan120s,
}

impl SettingsArgs {
    pub fn settings(&self) -> v1::LaunchSettings {
        let transferred = match self.exclude_transferred {
            None => v1::TransferredExclusion::Ignore,
            Some(Transferred::AnyTime) => v1::TransferredExclusion::AnyTime,
            Some(Transferred::MoreThan60s) => v1::TransferredExclusion::MoreThan60s,
            Some(Transferred::MoreThan90s) => v1::TransferredExclusion::MoreThan90s,
            Some(Transferred::MoreThan120s) => v1::TransferredExclusion::MoreThan120s,
        };
        v1::LaunchSettings {
            exclude: Some(v1::Exclusions {
                refused: Some(!self.include_refused),
                transferred: transferred.into(),
                success: self.exclude_success,
                link_opened: self.exclude_link_opened,
                texted: self.exclude_texted,
            }),
            rerun_all_contacts: self.rerun_all_contacts,
            reset_contact_history: self.reset_contact_history,
            live_forever: self.live_forever,
        }
    }
}

/// One setting with its value, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub name: &'static str,
    pub value: &'static str,
    pub meaning: &'static str,
}

/// Number of settings.
pub const COUNT: usize = 8;

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

/// Returns all settings, in the order of [`change`].
pub fn described(settings: &v1::LaunchSettings) -> [Setting; COUNT] {
    let exclude = settings.exclude.unwrap_or_default();
    let refused = exclude.refused.unwrap_or(true);
    let of = |name, value, meaning| Setting { name, value, meaning };
    [
        of(
            "exclude.refused",
            yes(refused),
            if refused {
                "contacts that opted out are excluded"
            } else {
                "contacts that opted out BEFORE this launch are called again"
            },
        ),
        of(
            "exclude.transferred",
            bound(exclude.transferred()),
            "contacts that were transferred after more than this time on a call are excluded",
        ),
        of(
            "exclude.success",
            yes(exclude.success),
            "contacts that met the campaign's goal are excluded",
        ),
        of(
            "exclude.link_opened",
            yes(exclude.link_opened),
            "contacts that clicked a link are excluded",
        ),
        of("exclude.texted", yes(exclude.texted), "contacts that received a text are excluded"),
        of(
            "rerun_all_contacts",
            yes(settings.rerun_all_contacts),
            "everyone is engaged again, whatever happened before; opted-out contacts stay excluded",
        ),
        of(
            "reset_contact_history",
            yes(settings.reset_contact_history),
            "all history and opt-outs of the campaign are cleared FOR GOOD",
        ),
        of("live_forever", yes(settings.live_forever), "no end; contacts that arrive join the run"),
    ]
}

fn bound(transferred: v1::TransferredExclusion) -> &'static str {
    match transferred {
        v1::TransferredExclusion::Unspecified | v1::TransferredExclusion::Ignore => "no",
        v1::TransferredExclusion::AnyTime => "any time",
        v1::TransferredExclusion::MoreThan60s => "60 s",
        v1::TransferredExclusion::MoreThan90s => "90 s",
        v1::TransferredExclusion::MoreThan120s => "120 s",
    }
}

/// Changes the setting of this number, counted from 1: to its other value, or to the next of several.
pub fn change(settings: &mut v1::LaunchSettings, number: usize) {
    let exclude = settings.exclude.get_or_insert_default();
    match number {
        1 => exclude.refused = Some(!exclude.refused.unwrap_or(true)),
        2 => {
            let next = match exclude.transferred() {
                v1::TransferredExclusion::Unspecified | v1::TransferredExclusion::Ignore => {
                    v1::TransferredExclusion::AnyTime
                }
                v1::TransferredExclusion::AnyTime => v1::TransferredExclusion::MoreThan60s,
                v1::TransferredExclusion::MoreThan60s => v1::TransferredExclusion::MoreThan90s,
                v1::TransferredExclusion::MoreThan90s => v1::TransferredExclusion::MoreThan120s,
                v1::TransferredExclusion::MoreThan120s => v1::TransferredExclusion::Ignore,
            };
            exclude.set_transferred(next);
        }
        3 => exclude.success = !exclude.success,
        4 => exclude.link_opened = !exclude.link_opened,
        5 => exclude.texted = !exclude.texted,
        6 => settings.rerun_all_contacts = !settings.rerun_all_contacts,
        7 => settings.reset_contact_history = !settings.reset_contact_history,
        8 => settings.live_forever = !settings.live_forever,
        _ => {}
    }
}

/// Returns the settings that differ from their defaults, in a line.
pub fn summary(settings: &v1::LaunchSettings) -> String {
    let default = described(&v1::LaunchSettings::default());
    let changed = described(settings).into_iter().zip(default).filter(|(now, usual)| now != usual);
    let changed: Vec<String> =
        changed.map(|(now, _)| format!("{}={}", now.name, now.value)).collect();
    if changed.is_empty() { "as by default".to_owned() } else { changed.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_changes_by_its_number_and_shows_it() {
        for number in 1..=COUNT {
            let mut settings = SettingsArgs::default().settings();
            let before = described(&settings);
            change(&mut settings, number);
            let after = described(&settings);
            for at in 0..COUNT {
                assert_eq!(before[at].value != after[at].value, at + 1 == number, "{number} {at}");
            }
        }
    }

    #[test]
    fn a_launch_without_flags_is_as_by_default() {
        assert_eq!(summary(&SettingsArgs::default().settings()), "as by default");
        let args = SettingsArgs {
            include_refused: true,
            exclude_transferred: Some(Transferred::MoreThan90s),
            ..SettingsArgs::default()
        };
        assert_eq!(summary(&args.settings()), "exclude.refused=no, exclude.transferred=90 s");
    }
}
