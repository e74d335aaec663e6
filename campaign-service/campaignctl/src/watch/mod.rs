//! Live view of campaigns.

mod board;
mod view;

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::names;
use crate::printing::Printer;
use crate::text::Format;
use board::{Board, Watched};
use campaign_proto::v1;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Status;

/// Most campaigns in a view.
const MAX_CAMPAIGNS: usize = 20;
/// Campaigns that are shown when none is under way.
const LATEST_CAMPAIGNS: usize = 5;
/// Wait before a stream that ended is opened again.
const REOPEN_DELAY: Duration = Duration::from_secs(3);
/// Interval of redrawing while nothing happens.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Width of a frame that is printed as text.
const TEXT_WIDTH: u16 = 110;

#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Campaigns: campaigns/ID, ID, or display name of each [default: those under way, or the newest]
    campaigns: Vec<String>,
    /// Shortest time in seconds between two counts; each count reads the campaign's whole list, 1 to 60
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=60))]
    interval_seconds: i32,
    /// Print one frame as text and exit
    #[arg(long)]
    once: bool,
}

/// Event of a view.
enum Happening {
    Progress(usize, Box<v1::CampaignProgress>),
    Trouble(usize, String),
    Key(KeyEvent),
}

pub async fn run(
    connection: &Connection,
    printer: &Printer,
    args: WatchArgs,
) -> Result<(), Failure> {
    let campaigns = chosen(connection, &args.campaigns).await?;
    let watched = campaigns.into_iter().map(|one| Watched::new(one.name, one.display_name));
    let mut board = Board::new(watched.collect());
    let interval = args.interval_seconds;
    if printer.format == Format::Json {
        return print_all(connection, printer, &board, interval, args.once).await;
    }
    if !args.once && std::io::stdout().is_terminal() && std::io::stdin().is_terminal() {
        return live(connection, &mut board, interval).await;
    }
    for at in 0..board.campaigns.len() {
        let name = board.campaigns[at].name.clone();
        let progress = names::progress(connection, &name).await?;
        board.campaigns[at].update(progress, Duration::ZERO);
    }
    printer.text(&frame_text(&board))
}

/// Returns the campaigns that were named, else those under way, else the newest.
async fn chosen(connection: &Connection, named: &[String]) -> Result<Vec<v1::Campaign>, Failure> {
    if named.len() > MAX_CAMPAIGNS {
        return Err(Failure::usage(format!("name at most {MAX_CAMPAIGNS} campaigns to watch")));
    }
    let mut campaigns = Vec::new();
    for name in named {
        campaigns.push(names::get(connection, name).await?);
    }
    if !named.is_empty() {
        return Ok(campaigns);
    }
    let request = v1::ListCampaignsRequest { page_size: 200, ..Default::default() };
    let newest = connection.campaigns().list_campaigns(request).await?.into_inner().campaigns;
    if newest.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there are no campaigns yet")
            .next("create one with: campaignctl campaigns create"));
    }
    let is_under_way = |one: &&v1::Campaign| {
        let state = one.state();
        matches!(
            state,
            v1::CampaignState::Running | v1::CampaignState::Paused | v1::CampaignState::Scheduled
        )
    };
    let under_way: Vec<_> =
        newest.iter().filter(is_under_way).take(MAX_CAMPAIGNS).cloned().collect();
    let newest = newest.into_iter().take(LATEST_CAMPAIGNS);
    Ok(if under_way.is_empty() { newest.collect() } else { under_way })
}

/// Returns one frame as lines.
fn frame_text(board: &Board) -> String {
    let area = Rect::new(0, 0, TEXT_WIDTH, view::height(board));
    let mut buffer = Buffer::empty(area);
    view::render(board, Duration::ZERO, area, &mut buffer);
    view::lines(&buffer).iter().map(|line| format!("{line}\n")).collect()
}

/// Prints progress as JSON, one line each, until the runs of all campaigns are over.
async fn print_all(
    connection: &Connection,
    printer: &Printer,
    board: &Board,
    interval_seconds: i32,
    once: bool,
) -> Result<(), Failure> {
    let (sender, mut received) = mpsc::channel(MAX_CAMPAIGNS);
    let mut streams = JoinSet::new();
    for watched in &board.campaigns {
        let (connection, name, sender) = (connection.clone(), watched.name.clone(), sender.clone());
        streams.spawn(async move {
            let request = v1::WatchCampaignRequest { name, interval_seconds };
            let mut stream = connection.watching().watch_campaign(request).await?.into_inner();
            while let Some(progress) = stream.message().await? {
                if sender.send(progress).await.is_err() || once {
                    break;
                }
            }
            Ok::<(), Failure>(())
        });
    }
    drop(sender);
    while let Some(progress) = received.recv().await {
        printer.answer_of_many(&progress)?;
    }
    streams.join_all().await.into_iter().collect()
}

/// Shows the view on a terminal until the user quits.
async fn live(
    connection: &Connection,
    board: &mut Board,
    interval_seconds: i32,
) -> Result<(), Failure> {
    let (sender, mut received) = mpsc::channel(64);
    let mut following = JoinSet::new();
    for (at, watched) in board.campaigns.iter().enumerate() {
        let request = v1::WatchCampaignRequest { name: watched.name.clone(), interval_seconds };
        following.spawn(follow(connection.clone(), at, request, sender.clone()));
    }
    // This thread waits for keys, and ends with the process.
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Event::Key(key) = event else { continue };
            if sender.blocking_send(Happening::Key(key)).is_err() {
                return;
            }
        }
    });
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, board, &mut received).await;
    ratatui::restore();
    Ok(shown?)
}

/// Draws the view after each event, until the user quits.
async fn show(
    terminal: &mut DefaultTerminal,
    board: &mut Board,
    received: &mut mpsc::Receiver<Happening>,
) -> std::io::Result<()> {
    let began = Instant::now();
    loop {
        let now = began.elapsed();
        terminal.draw(|frame| view::render(board, now, frame.area(), frame.buffer_mut()))?;
        let Ok(happening) = tokio::time::timeout(TICK_INTERVAL, received.recv()).await else {
            continue;
        };
        match happening {
            Some(Happening::Progress(at, progress)) => {
                board.campaigns[at].update(*progress, began.elapsed());
            }
            Some(Happening::Trouble(at, trouble)) => board.campaigns[at].trouble = Some(trouble),
            Some(Happening::Key(key)) if !is_quit(key) => match key.code {
                KeyCode::Down | KeyCode::Char('j') => board.choose_next(),
                KeyCode::Up | KeyCode::Char('k') => board.choose_previous(),
                _ => {}
            },
            Some(Happening::Key(_)) | None => return Ok(()),
        }
    }
}

fn is_quit(key: KeyEvent) -> bool {
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_key = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    key.kind != KeyEventKind::Release && (is_key || is_interrupt)
}

/// Passes on a campaign's progress, over broken streams, ended runs and new launches.
async fn follow(
    connection: Connection,
    at: usize,
    request: v1::WatchCampaignRequest,
    sender: mpsc::Sender<Happening>,
) {
    loop {
        if let Err(status) = pass_on(&connection, at, &request, &sender).await {
            let text = Failure::from(status).message().to_owned();
            if sender.send(Happening::Trouble(at, text)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(REOPEN_DELAY).await;
    }
}

/// Passes on the progress of one stream.
async fn pass_on(
    connection: &Connection,
    at: usize,
    request: &v1::WatchCampaignRequest,
    sender: &mpsc::Sender<Happening>,
) -> Result<(), Status> {
    let mut stream = connection.watching().watch_campaign(request.clone()).await?.into_inner();
    while let Some(progress) = stream.message().await? {
        if sender.send(Happening::Progress(at, Box::new(progress))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
