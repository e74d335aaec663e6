//! Progress of an import on standard error: a bar on a terminal, a line now and then elsewhere.

use crate::text::grouped;
use campaign_proto::v1;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tonic::Status;

/// Interval of progress lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
const TICK_INTERVAL: Duration = Duration::from_millis(200);

/// Reporter of an import's progress to people.
#[derive(Debug)]
pub struct Telling {
    /// Progress bar, on a terminal.
    bar: Option<ProgressBar>,
    bytes: Arc<AtomicU64>,
    first_row: i64,
    began: Instant,
    last_line: Mutex<Instant>,
}

impl Telling {
    pub fn start(
        import_id: &str,
        next_row: i64,
        length: Option<u64>,
        bytes: Arc<AtomicU64>,
    ) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(length));
        let began = Instant::now();
        let telling = Self { bar, bytes, first_row: next_row, began, last_line: Mutex::new(began) };
        if next_row > 1 {
            telling.line(&format!("import {import_id} goes on at row {}", grouped(next_row)));
        } else {
            telling.line(&format!("import {import_id} begins"));
        }
        telling
    }

    /// Reports that rows were committed.
    pub fn update(&self, import: &v1::Import) {
        let rows = import.next_row - 1;
        let text = format!(
            "{} rows, {} a second, {} rejected",
            grouped(rows),
            grouped(rate(import.next_row - self.first_row, self.began.elapsed())),
            grouped(import.rejected)
        );
        if let Some(bar) = &self.bar {
            bar.set_position(self.bytes.load(Ordering::Relaxed));
            bar.set_message(text);
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            self.line(&text);
        }
    }

    /// Reports that the stream broke and will be retried.
    pub fn broken(&self, status: &Status, wait: Duration) {
        let seconds = wait.as_secs_f32();
        let why = crate::text::clean(status.message());
        self.line(&format!("the import broke off ({why}); it goes on in {seconds:.1} s"));
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self, text: &str) {
        if let Some(bar) = &self.bar {
            return bar.println(text);
        }
        // If this fails, there is no other place to report it.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

fn rate(rows: i64, time: Duration) -> i64 {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1);
    rows.saturating_mul(1_000) / millis
}

fn bar(length: Option<u64>) -> ProgressBar {
    let template = if length.is_some() {
        "{bar:30} {percent:>3}%  {msg}  {eta} left"
    } else {
        "{spinner} {msg}  {elapsed}"
    };
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}
