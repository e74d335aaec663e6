//! Drawing of a view: a pure function from its data to a frame.

use super::board::{Board, Watched};
use crate::show::{idle, left_out, removed, state};
use crate::text::{clean, grouped};
use campaign_proto::v1;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table, Widget, Wrap};
use std::time::Duration;

/// Lines of the details, with their border.
const DETAIL_HEIGHT: u16 = 9;
/// Lines of a question or a result.
const STATUS_HEIGHT: u16 = 2;
/// Cells of the bar that shows how much is done.
const BAR_WIDTH: usize = 10;

/// Returns the height of a frame in which everything has its place.
pub fn height(board: &Board) -> u16 {
    let rows = u16::try_from(board.shown().len()).unwrap_or(u16::MAX / 2);
    rows.saturating_add(2).saturating_add(DETAIL_HEIGHT)
}

/// Draws a frame. `now` is the time since the view began.
pub fn render(board: &Board, now: Duration, area: Rect, buffer: &mut Buffer) {
    let rows = u16::try_from(board.shown().len()).unwrap_or(u16::MAX);
    let status_height = if board.status.is_empty() { 0 } else { STATUS_HEIGHT };
    let parts = Layout::vertical([
        Constraint::Length(rows.saturating_add(1)),
        Constraint::Min(DETAIL_HEIGHT),
        Constraint::Length(status_height),
        Constraint::Length(1),
    ]);
    let [list, detail, status, keys] = parts.areas(area);
    campaigns(board, now, list, buffer);
    if let Some(watched) = board.campaigns.get(board.chosen) {
        details(watched, detail, buffer);
    }
    let line = Line::from(clean(&board.status)).fg(Color::Yellow).bold();
    Paragraph::new(line).wrap(Wrap { trim: false }).render(status, buffer);
    Line::from(footer(board)).dim().render(keys, buffer);
}

/// Returns the line that names the keys, and the place in a list of several pages.
fn footer(board: &Board) -> String {
    let (shown, count) = (board.shown(), board.campaigns.len());
    let keys = "q quit   up, down choose   p pause   r resume   c cancel";
    if shown.len() == count {
        return keys.to_owned();
    }
    format!("{keys}   {}-{} of {count} campaigns", shown.start + 1, shown.end)
}

fn campaigns(board: &Board, now: Duration, area: Rect, buffer: &mut Buffer) {
    let header =
        ["CAMPAIGN", "STATE", "RUN", "DONE", "WAITING", "RETRY", "AT WORKER", "IN CALL", "CALLS/S"];
    let widths = [
        Constraint::Min(16),
        Constraint::Length(9),
        Constraint::Length(3),
        Constraint::Length(15),
        Constraint::Length(10),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(7),
        Constraint::Length(8),
    ];
    let shown = board.shown();
    let all = board.campaigns.iter().enumerate();
    let rows = all.take(shown.end).skip(shown.start).map(|(at, watched)| {
        let style = if at == board.chosen {
            Style::new().add_modifier(Modifier::BOLD)
        } else {
            Style::new()
        };
        row(watched, now).style(style)
    });
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::UNDERLINED));
    Widget::render(Table::new(rows, widths).header(header), area, buffer);
}

fn row(watched: &Watched, now: Duration) -> Row<'static> {
    let name = clean(&watched.display_name);
    let Some(progress) = &watched.progress else {
        let what = if watched.trouble.is_some() { "no answer" } else { "asking" };
        return Row::new([name, what.to_owned()]);
    };
    let rate = watched.rate(now).map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
    let state_text = if watched.trouble.is_some() {
        Line::from("no answer").fg(Color::Red)
    } else {
        Line::from(state(progress.state())).fg(colour(progress.state()))
    };
    Row::new([
        Line::from(name),
        state_text,
        Line::from(progress.run.to_string()),
        Line::from(bar(progress)),
        Line::from(grouped(progress.waiting)),
        Line::from(grouped(progress.waiting_retry)),
        Line::from(grouped(progress.leased)),
        Line::from(grouped(progress.in_call)),
        Line::from(rate),
    ])
}

fn colour(state: v1::CampaignState) -> Color {
    match state {
        v1::CampaignState::Running => Color::Green,
        v1::CampaignState::Paused | v1::CampaignState::Scheduled => Color::Yellow,
        v1::CampaignState::Cancelled => Color::Red,
        _ => Color::Reset,
    }
}

fn bar(progress: &v1::CampaignProgress) -> String {
    let (done, total) = (left_out(progress), progress.total.max(1));
    // The share is rounded down, so 100% means that no contact is left.
    let percent = done.saturating_mul(100) / total;
    let filled = usize::try_from(percent).unwrap_or(0) * BAR_WIDTH / 100;
    format!("{}{} {percent:>3}%", "█".repeat(filled), "░".repeat(BAR_WIDTH.saturating_sub(filled)))
}

fn details(watched: &Watched, area: Rect, buffer: &mut Buffer) {
    let block = Block::bordered().title(format!(" {} ", clean(&watched.display_name)));
    let mut lines = vec![Line::from(clean(&watched.name)).dim()];
    if let Some(progress) = &watched.progress {
        lines.extend(facts(progress));
    }
    if let Some(trouble) = &watched.trouble {
        lines.push(Line::from(format!("no news: {}", clean(trouble))).fg(Color::Red));
    }
    Paragraph::new(lines).block(block).wrap(Wrap { trim: false }).render(area, buffer);
}

fn facts(progress: &v1::CampaignProgress) -> Vec<Line<'static>> {
    let reasons: Vec<String> = removed(&progress.removed)
        .into_iter()
        .map(|(reason, contacts)| format!("{reason} {}", grouped(contacts)))
        .collect();
    let history = progress.history.unwrap_or_default();
    let mut lines = vec![
        Line::from(format!(
            "contacts {}, done or excluded {}{}{}",
            grouped(progress.total),
            grouped(left_out(progress)),
            if reasons.is_empty() { "" } else { ": " },
            reasons.join(", ")
        )),
        Line::from(format!(
            "attempts {}, success {}, transferred {}, opted out {}, texted {}, link opened {}",
            grouped(history.attempts),
            grouped(history.success),
            grouped(history.transferred),
            grouped(history.refused),
            grouped(history.texted),
            grouped(history.link_opened)
        )),
        Line::from(format!(
            "workers hold {} contacts and have {} calls in progress",
            grouped(progress.leased),
            grouped(progress.in_call)
        )),
    ];
    let idle = idle(progress);
    if !idle.is_empty() {
        lines.push(Line::from(format!("idle: {}", clean(&idle))).fg(Color::Yellow));
    }
    if let Some(purge) = progress.purge.filter(|purge| purge.running) {
        let (done, total) = (grouped(purge.contacts_done), grouped(purge.contacts_total));
        lines.push(Line::from(format!("old history is being deleted: {done} of {total}")));
    }
    lines
}

/// Returns a frame as lines of text.
pub fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y: u16| {
        let cells = (area.left()..area.right()).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (area.top()..area.bottom()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn drawn(board: &Board, now: Duration, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        let draw = |frame: &mut ratatui::Frame<'_>| {
            let area = frame.area();
            render(board, now, area, frame.buffer_mut());
        };
        terminal.draw(draw).expect("drawn");
        lines(terminal.backend().buffer()).join("\n")
    }

    fn progress(attempts: i64) -> v1::CampaignProgress {
        let finished = v1::ExclusionReason::Finished.into();
        v1::CampaignProgress {
            state: v1::CampaignState::Running.into(),
            run: 3,
            total: 10_000,
            waiting: 5_600,
            waiting_retry: 90,
            leased: 200,
            in_call: 10,
            removed: vec![v1::ReasonCount { reason: finished, contacts: 4_100 }],
            history: Some(v1::HistoryTotals { attempts, success: 12, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_frame_shows_buckets_rate_and_why_nothing_happens() {
        let names = ["Spring", "Autumn"].map(str::to_owned);
        let mut board = Board::new(names.map(|name| Watched::new(name.clone(), name)).into());
        assert!(drawn(&board, Duration::ZERO, 110, 14).contains("asking"));
        board.campaigns[0].update(progress(1_000), Duration::ZERO);
        board.campaigns[0].update(progress(1_400), Duration::from_secs(5));
        let frame = drawn(&board, Duration::from_secs(5), 110, 14);
        for wanted in [
            "Spring",
            "RUNNING",
            "████░░░░░░  41%",
            "5,600",
            "80.0",
            "finished 4,100",
            "success 12",
        ] {
            assert!(frame.contains(wanted), "{wanted}:\n{frame}");
        }
        assert!(!frame.contains("idle"), "{frame}");
        board.campaigns[0].update(
            v1::CampaignProgress {
                idle_reason: v1::IdleReason::ProviderFailing.into(),
                idle_message: "503 from\u{1b}[2J the platform".to_owned(),
                ..progress(1_400)
            },
            Duration::from_secs(6),
        );
        board.campaigns[1].trouble = Some("the database is away".to_owned());
        let frame = drawn(&board, Duration::from_secs(6), 110, 14);
        assert!(frame.contains("idle: the workers' provider fails: 503 from"), "{frame}");
        assert!(!frame.contains('\u{1b}') && frame.contains("no answer"), "{frame}");
        board.choose_next();
        assert!(drawn(&board, Duration::from_secs(6), 110, 14).contains("no news: the database"));
        assert!(frame.contains("p pause   r resume   c cancel"), "{frame}");
        board.status = "Pause Autumn, run 3? (y/n)".to_owned();
        assert!(drawn(&board, Duration::ZERO, 110, 14).contains("run 3? (y/n)"));
        // A long list is shown page by page.
        let many = (0..57).map(|n| Watched::new(String::new(), format!("Campaign {n}.")));
        let mut many = Board::new(many.collect());
        many.chosen = 20;
        let frame = drawn(&many, Duration::ZERO, 110, 40);
        assert!(frame.contains("Campaign 39.") && !frame.contains("Campaign 19."), "{frame}");
        assert!(frame.contains("21-40 of 57 campaigns"), "{frame}");
        // A terminal of any size can be drawn.
        for (width, height) in [(0, 0), (1, 1), (20, 3), (500, 100)] {
            drawn(&board, Duration::ZERO, width, height);
        }
    }
}
