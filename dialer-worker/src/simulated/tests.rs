use std::path::PathBuf;

use campaign_process::traces::TraceContext;
use tokio::sync::mpsc;

use super::*;
use crate::call::{CallEvent, CallId, Leave, News};

const CALLS: i32 = 300;

fn dialer(time_scale: f64, dial_log: Option<PathBuf>) -> SimulatedDialer {
    let config = SimulatedConfig { seed: 1, time_scale, congested_percent: 0, dial_log };
    SimulatedDialer::new(&config).expect("the log opens")
}

fn attempt(slot: i32) -> Attempt {
    Attempt {
        attempt_id: format!("1-1-{slot}"),
        contact: format!("campaigns/a/contacts/{slot}"),
        phone_number: "+15550001111".to_owned(),
        display_name: String::new(),
        time_zone: String::new(),
        attributes: [].into(),
        attempt_number: 1,
        link: String::new(),
        leave: Leave::until(Instant::now() + Duration::from_secs(60)),
    }
}

fn events(slot: i32, sender: &mpsc::Sender<CallEvent>) -> CallEvents {
    let call = CallId {
        lease: "campaigns/a/leases/1".to_owned(),
        slot,
        attempt_id: format!("1-1-{slot}"),
        contact: format!("campaigns/a/contacts/{slot}"),
        campaign: "campaigns/a".to_owned(),
        run: 1,
        trace: TraceContext::default(),
    };
    CallEvents { call: Arc::new(call), sender: sender.clone() }
}

/// Dials many attempts at once. Returns all ends and facts, in order of the attempts.
async fn dial_all(dialer: &SimulatedDialer) -> (Vec<CallEnd>, Vec<String>) {
    dial_all_with(dialer, "").await
}

async fn dial_all_with(dialer: &SimulatedDialer, link: &str) -> (Vec<CallEnd>, Vec<String>) {
    let (sender, mut told) = mpsc::channel(10_000);
    let calls = (0..CALLS).map(|slot| {
        let attempt = Attempt { link: link.to_owned(), ..attempt(slot) };
        dialer.dial(attempt, events(slot, &sender), CancellationToken::new())
    });
    let ends = futures_util::future::join_all(calls).await;
    drop(sender);
    let mut facts = Vec::new();
    while let Some(event) = told.recv().await {
        if let News::Fact(fact, _) = event.news {
            facts.push(format!("{} {fact:?}", event.call.attempt_id));
        }
    }
    facts.sort();
    (ends, facts)
}

#[tokio::test]
async fn calls_and_facts_do_not_depend_on_timing() {
    let at_once = dial_all(&dialer(0.0, None)).await;
    let slower = dial_all(&dialer(0.000_1, None)).await;
    assert_eq!(at_once, slower);
    assert!(at_once.1.iter().any(|fact| fact.contains("LinkOpened")));
}

#[tokio::test]
async fn the_link_that_is_opened_is_the_contacts_own_if_it_has_one() {
    for (link, expected) in [("", LINK), ("https://a.example/l/x", "https://a.example/l/x")] {
        let (_, facts) = dial_all_with(&dialer(0.0, None), link).await;
        let opened: Vec<_> = facts.iter().filter(|fact| fact.contains("LinkOpened")).collect();
        assert!(!opened.is_empty());
        assert!(opened.iter().all(|fact| fact.contains(&format!("{expected:?}"))), "{opened:?}");
    }
}

#[tokio::test]
async fn hanging_up_ends_a_call_at_once() {
    let dialer = dialer(1_000.0, None);
    let (sender, _told) = mpsc::channel(10);
    let hang_up = CancellationToken::new();
    let call = dialer.dial(attempt(0), events(0, &sender), hang_up.clone());
    hang_up.cancel();
    let end = call.await;
    assert_eq!((end.outcome, end.detail.hung_up_by), (Outcome::Cancelled, Some(Party::Caller)));
}

#[tokio::test]
async fn nobody_is_dialled_while_the_trunk_is_congested() {
    let path = std::env::temp_dir().join(format!("congested-{}.jsonl", uuid::Uuid::new_v4()));
    let dial_log = Some(path.clone());
    let config = SimulatedConfig { seed: 1, time_scale: 0.0, congested_percent: 100, dial_log };
    let dialer = SimulatedDialer::new(&config).expect("the log opens");
    let (ends, facts) = dial_all(&dialer).await;
    let text = std::fs::read_to_string(&path).expect("it is there");
    std::fs::remove_file(&path).expect("it is ours");
    assert_eq!((text.as_str(), facts.len()), ("", 0));
    let is_told = |end: &CallEnd| {
        end.outcome == Outcome::Congested && end.detail.hung_up_by == Some(Party::Provider)
    };
    assert!(ends.iter().all(is_told), "{ends:?}");
}

#[tokio::test]
async fn the_log_has_a_line_before_it_rings_and_one_at_the_end() {
    let path = std::env::temp_dir().join(format!("dials-{}.jsonl", uuid::Uuid::new_v4()));
    let dialer = dialer(1_000.0, Some(path.clone()));
    let (sender, _told) = mpsc::channel(10);
    let hang_up = CancellationToken::new();
    let mut call = dialer.dial(attempt(0), events(0, &sender), hang_up.clone());
    assert!((&mut call).now_or_never().is_none());
    let ringing = std::fs::read_to_string(&path).expect("written");
    hang_up.cancel();
    call.await;
    let text = std::fs::read_to_string(&path).expect("written");
    std::fs::remove_file(&path).expect("it is ours");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(ringing.lines().count(), 1);
    assert_eq!((&lines[0]["event"], &lines[1]["event"]), (&"dialed".into(), &"ended".into()));
    assert_eq!(lines[0]["phone_number"], "+15550001111");
    assert_eq!(lines[1]["outcome"], "cancelled");
    assert!(lines[0]["unix_millis"].as_u64() <= lines[1]["unix_millis"].as_u64());
}
