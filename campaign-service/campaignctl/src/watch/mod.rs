//! Live view of campaigns.

mod acting;
mod board;
mod view;

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::names;
use crate::printing::Printer;
use crate::running::is_under_way;
use crate::text::Format;
use acting::{Act, Question};
use board::{Board, Watched};
use campaign_proto::v1;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tonic::Status;

/// Most streams at once, since one connection carries about a hundred requests.
const MAX_STREAMS: usize = 100;
/// Most events that wait to be drawn.
const MAX_WAITING: usize = 64;
/// Campaigns that are shown when none is under way.
const LATEST_CAMPAIGNS: i32 = 5;
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
    /// Result of a command.
    Done(String),
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
    // Text has no page to turn.
    board.page = board.campaigns.len();
    printer.text(&frame_text(&board))
}

/// Returns the campaigns that were named, else those under way, else the newest.
async fn chosen(connection: &Connection, named: &[String]) -> Result<Vec<v1::Campaign>, Failure> {
    let mut campaigns = Vec::new();
    for name in named {
        campaigns.push(names::get(connection, name).await?);
    }
    if !named.is_empty() {
        return Ok(campaigns);
    }
    let fits = |one: &v1::Campaign| is_under_way(one.state());
    let under_way = names::all(connection, fits, String::new()).await?;
    if !under_way.is_empty() {
        return Ok(under_way);
    }
    let newest = names::page(connection, LATEST_CAMPAIGNS, String::new()).await?.campaigns;
    if newest.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there are no campaigns yet")
            .next("create one with: campaignctl campaigns create"));
    }
    Ok(newest)
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
    let count = board.campaigns.len();
    if count > MAX_STREAMS && !once {
        let text = format!("{count} campaigns are too many to follow; at most {MAX_STREAMS}");
        return Err(Failure::usage(text).next("name the campaigns, or add --once"));
    }
    let (sender, mut received) = mpsc::channel(MAX_STREAMS);
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
    let (sender, mut received) = mpsc::channel(MAX_WAITING);
    let keys = sender.clone();
    // This thread waits for keys, and ends with the process.
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let Event::Key(key) = event else { continue };
            if keys.blocking_send(Happening::Key(key)).is_err() {
                return;
            }
        }
    });
    let mut live = Live {
        connection: connection.clone(),
        interval_seconds,
        sender,
        followed: HashMap::new(),
        question: None,
    };
    let mut terminal = ratatui::try_init()?;
    let shown = live.show(&mut terminal, board, &mut received).await;
    ratatui::restore();
    Ok(shown?)
}

/// View that is live: it follows the campaigns that are shown, and sends commands.
struct Live {
    connection: Connection,
    interval_seconds: i32,
    sender: mpsc::Sender<Happening>,
    /// Streams of the campaigns that are shown.
    followed: HashMap<usize, AbortHandle>,
    /// Command that waits for a yes.
    question: Option<Question>,
}

impl Live {
    /// Draws the view after each event, until the user quits.
    async fn show(
        &mut self,
        terminal: &mut DefaultTerminal,
        board: &mut Board,
        received: &mut mpsc::Receiver<Happening>,
    ) -> std::io::Result<()> {
        let began = Instant::now();
        loop {
            self.follow_shown(board);
            let now = began.elapsed();
            terminal.draw(|frame| view::render(board, now, frame.area(), frame.buffer_mut()))?;
            let Ok(happening) = tokio::time::timeout(TICK_INTERVAL, received.recv()).await else {
                continue;
            };
            match happening {
                Some(Happening::Progress(at, progress)) => {
                    board.campaigns[at].update(*progress, began.elapsed());
                }
                Some(Happening::Trouble(at, trouble)) => board.campaigns[at].lose(trouble),
                // A question that came meanwhile stays.
                Some(Happening::Done(text)) if self.question.is_none() => board.status = text,
                Some(Happening::Done(_)) => {}
                Some(Happening::Key(key)) if key.kind == KeyEventKind::Release => {}
                Some(Happening::Key(key)) if is_interrupt(key) => return Ok(()),
                Some(Happening::Key(key)) => match press(key.code, board, &mut self.question) {
                    Pressed::Quit => return Ok(()),
                    Pressed::Agreed(question) => self.send(question),
                    Pressed::Nothing => {}
                },
                None => return Ok(()),
            }
        }
    }

    /// Opens streams of the campaigns that are shown, and closes those of others.
    fn follow_shown(&mut self, board: &mut Board) {
        let shown = board.shown();
        self.followed.retain(|at, task| {
            if !shown.contains(at) {
                task.abort();
            }
            shown.contains(at)
        });
        for at in shown {
            let Entry::Vacant(place) = self.followed.entry(at) else { continue };
            let watched = &mut board.campaigns[at];
            watched.restart_rate();
            let (name, interval_seconds) = (watched.name.clone(), self.interval_seconds);
            let request = v1::WatchCampaignRequest { name, interval_seconds };
            let (connection, sender) = (self.connection.clone(), self.sender.clone());
            place.insert(tokio::spawn(follow(connection, at, request, sender)).abort_handle());
        }
    }

    fn send(&self, question: Question) {
        let (connection, sender) = (self.connection.clone(), self.sender.clone());
        tokio::spawn(async move {
            let text = acting::send(&connection, &question).await;
            // The receiver is gone only after the view has ended.
            let _ = sender.send(Happening::Done(text)).await;
        });
    }
}

/// Effect of a key.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    Quit,
    Agreed(Question),
}

/// Applies a key to the view. While a question waits, keys answer it and choose no other campaign.
fn press(key: KeyCode, board: &mut Board, waiting: &mut Option<Question>) -> Pressed {
    if let Some(question) = waiting.take() {
        match key {
            KeyCode::Char('y' | 'Y') => {
                board.status = format!("asking the service about {}", question.display_name);
                return Pressed::Agreed(question);
            }
            KeyCode::Char('n' | 'N') | KeyCode::Esc => board.status.clear(),
            KeyCode::Char('q') => return Pressed::Quit,
            _ => *waiting = Some(question),
        }
        return Pressed::Nothing;
    }
    match key {
        KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
        KeyCode::Down | KeyCode::Char('j') => board.choose_next(),
        KeyCode::Up | KeyCode::Char('k') => board.choose_previous(),
        KeyCode::Char(key) => {
            let chosen = board.campaigns.get(board.chosen);
            if let Some((act, watched)) = Act::of_key(key).zip(chosen) {
                let question = act.question(watched);
                board.status.clone_from(&question.text);
                *waiting = Some(question);
            }
        }
        _ => {}
    }
    Pressed::Nothing
}

fn is_interrupt(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_asks_and_only_a_yes_agrees() {
        let names = ["Spring", "Autumn"].map(str::to_owned);
        let mut board = Board::new(names.map(|name| Watched::new(name.clone(), name)).into());
        let progress = v1::CampaignProgress { run: 3, in_call: 12, ..Default::default() };
        board.campaigns[1].update(progress, Duration::ZERO);
        let (board, mut waiting) = (&mut board, None);
        let mut press = |key: KeyCode| {
            let pressed = press(key, board, &mut waiting);
            (pressed, board.status.clone(), board.chosen)
        };
        press(KeyCode::Down);
        let (_, asked, _) = press(KeyCode::Char('c'));
        assert_eq!(
            asked,
            "Cancel Autumn, run 3? 12 calls in progress are hung up. It cannot be resumed. (y/n)"
        );
        // No other key answers, and the selection stays.
        assert_eq!(press(KeyCode::Up), (Pressed::Nothing, asked.clone(), 1));
        assert_eq!(press(KeyCode::Enter), (Pressed::Nothing, asked, 1));
        assert_eq!(press(KeyCode::Esc), (Pressed::Nothing, String::new(), 1));
        assert_eq!(press(KeyCode::Char('y')).0, Pressed::Nothing, "nothing was asked");
        assert!(press(KeyCode::Char('p')).1.starts_with("Pause Autumn, run 3?"));
        let Pressed::Agreed(question) = press(KeyCode::Char('y')).0 else { panic!("no command") };
        assert_eq!((question.act, question.name.as_str()), (Act::Pause, "Autumn"));
        assert!(press(KeyCode::Char('r')).1.starts_with("Resume Autumn"));
        assert_eq!(press(KeyCode::Char('n')).0, Pressed::Nothing);
        assert_eq!(press(KeyCode::Char('q')).0, Pressed::Quit);
    }
}
