//! Callbacks from strangers: they cannot exhaust the worker's descriptors, memory or log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use campaign_testkit::{Program, free_address};
use serde_json::json;

use crate::chaos::{flags, worker};
use crate::platform::{Faults, Platform, callback, sign};

/// Number of connections, more than the listener keeps.
const CONNECTIONS: usize = 400;
/// Longest wait for the worker to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

fn half(address: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a time");
    let _ = stream.write_all(bytes);
    Some(stream)
}

fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_requests_keep_the_platform_from_nothing() {
    let platform = Platform::start(Faults::default(), false).await;
    let (worker, url) = worker(&platform, &["--side-request-seconds", "1"]).await;
    let address = url.trim_start_matches("http://").trim_end_matches("/callbacks").to_owned();
    let head = "POST /callbacks HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n";
    let sent = [b"".to_vec(), head[..30].into(), [head.as_bytes(), &[b'x'; 59_000]].concat()];
    let before = descriptors(std::process::id());
    let mut held: Vec<_> =
        (0..CONNECTIONS).filter_map(|n| half(&address, &sent[n % sent.len()])).collect();
    let body = json!({"type": "answered", "key": "a.2-9-7", "contact": "campaigns/a/contacts/7",
        "attempt_id": "2-9-7"});
    let body = body.to_string();
    assert_eq!(callback(&url, &body, &sign(&body, 0)).await, StatusCode::NO_CONTENT);
    // Both ends are in this process.
    let grown = descriptors(std::process::id()) - before - held.len();
    assert!(grown < 200, "{grown} descriptors for {} connections", held.len());
    // The remaining connections end by themselves.
    let newest = held.last_mut().expect("some were opened");
    newest.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    let ended = newest.read_to_end(&mut Vec::new());
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_signatures_are_counted_and_seldom_logged() {
    let platform = Platform::start(Faults::default(), false).await;
    let (callbacks, metrics) = (free_address(), free_address());
    let mut worker = Command::new(env!("CARGO_BIN_EXE_dialer-worker"));
    worker
        .args(flags(&platform.url, &callbacks.to_string()))
        .args(["--service-url", "http://127.0.0.1:9", "--metrics-listen", &metrics.to_string()])
        .args(["--log", "warn,dialer_worker::worker=error"])
        .stderr(Stdio::piped());
    let mut worker = Program::start(&mut worker).expect("the program");
    let mut said = worker.take_stderr().expect("a pipe");
    let (sender, lines) = mpsc::channel();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = said.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    let url = format!("http://{callbacks}/callbacks");
    worker.until_listening(callbacks.port(), START_LIMIT).await.expect("it listens for callbacks");
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(callback(&url, "{}", "t=1,v1=00").await, StatusCode::UNAUTHORIZED);
    }
    let most = begun.elapsed().as_secs() + 1;
    let mut scrape = TcpStream::connect(metrics).expect("metrics");
    scrape
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let mut shown = String::new();
    scrape.read_to_string(&mut shown).expect("shown");
    assert!(shown.contains("dialer_refused_callbacks_total 100"), "{shown}");
    worker.kill();
    let text = lines.recv().expect("what it said");
    reading.join().expect("no panic");
    let count = text.matches("a callback is refused").count() as u64;
    assert!((1..=most).contains(&count), "{count} lines in {most} s: {text}");
}
