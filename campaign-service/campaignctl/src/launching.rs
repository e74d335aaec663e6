//! Preview and launch. A launch carries the token of the preview that the user saw.

use crate::args::ChangeArgs;
use crate::asking::{self, Reply, prompt};
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::names;
use crate::printing::Printer;
use crate::settings::{self, SettingsArgs};
use crate::show::Show;
use crate::text::{Format, clean, table};
use campaign_proto::v1;
use clap::Args;
use std::io::{BufRead, Write};

#[derive(Args, Debug)]
pub struct PreviewArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Args, Debug)]
pub struct LaunchArgs {
    /// Campaign: campaigns/ID, ID, or display name
    campaign: String,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Launch without asking
    #[arg(long)]
    yes: bool,
    /// Display name of the campaign, to confirm --reset-contact-history with --yes
    #[arg(long, value_name = "NAME", requires = "yes")]
    confirm_reset: Option<String>,
    /// Token of a preview (previewToken of `preview -o json`): the launch is rejected if the counts have changed
    #[arg(long, value_name = "TOKEN", requires = "yes")]
    preview_token: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Decision of the user after the preview.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Launch,
    Change(usize),
    Stop(&'static str),
}

pub async fn preview(
    connection: &Connection,
    printer: &Printer,
    args: &PreviewArgs,
) -> Result<(), Failure> {
    let name = names::campaign(connection, &args.campaign).await?;
    printer.answer(&counts(connection, &name, &args.settings.settings()).await?)
}

async fn counts(
    connection: &Connection,
    name: &str,
    settings: &v1::LaunchSettings,
) -> Result<v1::PreviewLaunchResponse, Failure> {
    let request = v1::PreviewLaunchRequest { name: name.to_owned(), settings: Some(*settings) };
    Ok(connection.campaigns().preview_launch(request).await?.into_inner())
}

pub async fn launch(
    connection: &Connection,
    printer: &Printer,
    args: LaunchArgs,
) -> Result<(), Failure> {
    if !args.yes {
        asking::need_terminal("launch", "--yes, and for a reset --confirm-reset NAME")?;
    }
    let campaign = names::get(connection, &args.campaign).await?;
    let mut settings = args.settings.settings();
    let preview_token = if args.yes {
        confirmed(&campaign, &settings, args.confirm_reset.as_deref())?;
        match args.preview_token {
            Some(token) => token,
            None => {
                let preview = counts(connection, &campaign.name, &settings).await?;
                if printer.format == Format::Human {
                    printer.text(&preview.human())?;
                }
                preview.preview_token
            }
        }
    } else {
        agreed(connection, &campaign, &mut settings).await?
    };
    let confirm_reset =
        if settings.reset_contact_history { campaign.display_name } else { String::new() };
    let request = v1::LaunchCampaignRequest {
        name: campaign.name,
        settings: Some(settings),
        preview_token,
        confirm_reset,
        etag: args.change.etag,
        request_id: args.change.request_id,
        actor: connection.actor.clone(),
        reason: args.change.reason,
    };
    let launched = connection.campaigns().launch_campaign(request).await?.into_inner();
    if printer.format == Format::Json {
        return printer.answer(&launched);
    }
    let (name, state) = (clean(&launched.display_name), crate::show::state(launched.state()));
    printer.text(&format!("launched {name}, run {}: {state}", launched.run))?;
    printer.text(&format!("watch it with: campaignctl watch {}", launched.name))
}

/// Rejects a reset that the campaign's name does not confirm.
fn confirmed(
    campaign: &v1::Campaign,
    settings: &v1::LaunchSettings,
    name: Option<&str>,
) -> Result<(), Failure> {
    let message = match (settings.reset_contact_history, name) {
        (false, None) => return Ok(()),
        (true, Some(name)) if name == campaign.display_name => return Ok(()),
        (false, Some(_)) => "--confirm-reset goes with --reset-contact-history only".to_owned(),
        (true, _) => {
            "a reset clears all history and opt-outs of the campaign for good, and was not \
             confirmed by its name; nothing was done"
                .to_owned()
        }
    };
    let next = format!("--confirm-reset {:?}", campaign.display_name);
    if settings.reset_contact_history {
        Err(Failure::new(Exit::Refused, message).next(next))
    } else {
        Err(Failure::usage(message))
    }
}

/// Shows settings and counts and asks, until the user agrees. Returns the token of the last preview shown.
async fn agreed(
    connection: &Connection,
    campaign: &v1::Campaign,
    settings: &mut v1::LaunchSettings,
) -> Result<String, Failure> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stderr());
    loop {
        let preview = counts(connection, &campaign.name, settings).await?;
        show(&mut output, campaign, settings, &preview)?;
        match ask(&mut input, &mut output, campaign, settings)? {
            Answer::Launch => return Ok(preview.preview_token),
            Answer::Change(number) => settings::change(settings, number),
            Answer::Stop(why) => {
                return Err(Failure::new(Exit::Refused, format!("{why}; nothing was launched")));
            }
        }
    }
}

fn show(
    output: &mut impl Write,
    campaign: &v1::Campaign,
    settings: &v1::LaunchSettings,
    preview: &v1::PreviewLaunchResponse,
) -> std::io::Result<()> {
    writeln!(output, "\nLaunch {}\n", clean(&campaign.display_name))?;
    let rows = settings::described(settings).into_iter().enumerate().map(|(at, setting)| {
        let number = (at + 1).to_string();
        [number, setting.name.to_owned(), setting.value.to_owned(), setting.meaning.to_owned()]
    });
    writeln!(output, "{}", table(["", "SETTING", "VALUE", "MEANING"], rows))?;
    writeln!(output, "{}", preview.human())
}

/// Asks what to do. Before a reset, asks for the campaign's name.
fn ask(
    input: &mut impl BufRead,
    output: &mut impl Write,
    campaign: &v1::Campaign,
    settings: &v1::LaunchSettings,
) -> std::io::Result<Answer> {
    let question = "Launch? y, N, or a number to change a setting: ";
    let wanted = format!("answer y, n, or a number from 1 to {}", settings::COUNT);
    let number =
        |typed: &str| typed.parse().ok().filter(|number| (1..=settings::COUNT).contains(number));
    match asking::ask(input, output, question, &wanted, number)? {
        Reply::Yes => named(input, output, campaign, settings),
        Reply::No => Ok(Answer::Stop("not confirmed")),
        Reply::End => Ok(Answer::Stop("no answer")),
        Reply::Choice(number) => Ok(Answer::Change(number)),
    }
}

/// Asks for the campaign's name before a reset, and decides.
fn named(
    input: &mut impl BufRead,
    output: &mut impl Write,
    campaign: &v1::Campaign,
    settings: &v1::LaunchSettings,
) -> std::io::Result<Answer> {
    if !settings.reset_contact_history {
        return Ok(Answer::Launch);
    }
    let question = format!(
        "All history and opt-outs of this campaign are cleared for good.\nType its name, {}, to confirm: ",
        clean(&campaign.display_name)
    );
    let is_named =
        prompt(input, output, &question)?.as_deref() == Some(campaign.display_name.trim());
    let wrong = "the name that was typed is not the campaign's";
    Ok(if is_named { Answer::Launch } else { Answer::Stop(wrong) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(typed: &str, reset: bool) -> Answer {
        let campaign =
            v1::Campaign { display_name: "Spring offer".to_owned(), ..Default::default() };
        let settings = v1::LaunchSettings { reset_contact_history: reset, ..Default::default() };
        ask(&mut typed.as_bytes(), &mut Vec::new(), &campaign, &settings).expect("asked")
    }

    #[test]
    fn only_a_yes_launches_and_a_reset_wants_the_name() {
        assert_eq!(answer("y\n", false), Answer::Launch);
        assert_eq!(answer("YES\n", false), Answer::Launch);
        for no in ["\n", "n\n", "", "yep\n", "9\n", "0\n"] {
            assert!(matches!(answer(no, false), Answer::Stop(_)), "{no:?}");
        }
        assert_eq!(answer("8\n", false), Answer::Change(8));
        // A typo is forgiven twice.
        assert_eq!(answer("yse\n9\ny\n", false), Answer::Launch);
        assert_eq!(answer("yse\n4\n", false), Answer::Change(4));
        assert!(matches!(answer("a\nb\nc\ny\n", false), Answer::Stop("not confirmed")));
        assert_eq!(answer("y\nSpring offer\n", true), Answer::Launch);
        for no in ["y\n", "y\ny\n", "y\nspring offer\n", "y\nSpring\n"] {
            assert!(matches!(answer(no, true), Answer::Stop(_)), "{no:?}");
        }
    }
}
