//! Commands that need a terminal: the questions of a launch, and the live view.

use super::{Ctl, DONE, NOT_FOUND, REFUSED, Ran, USAGE, finished, ran};
use crate::support::processes::beside;
use crate::support::{Clients, Service, TestDb, eventually};
use crate::walkthrough::{blocks, walk_through};
use campaign_proto::v1;
use serde_json::json;
use std::process::{Command, Stdio};

/// Script that runs a program on a terminal, waits for words, and types the answer to each. An answer that begins
/// with `$` is run as a command beside it.
const TYPIST: &str = r#"
import json, os, pty, subprocess, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
import fcntl, struct, termios
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
shown, end = "", time.monotonic() + 20
def more():
    global shown
    try:
        read = os.read(terminal, 65536)
    except OSError:
        return False
    shown += read.decode(errors="replace")
    return bool(read)
for words, typed in json.loads(sys.argv[1]):
    at = len(shown)
    while words not in shown:
        if time.monotonic() > end or not more():
            sys.exit(f"never saw {words!r} in:\n{shown}")
    print(shown)
    shown = ""
    if typed.startswith("$"):
        subprocess.run(typed[1:], shell=True, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    else:
        os.write(terminal, typed.encode())
while more():
    pass
print(shown)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// Runs a command on a terminal, with words to wait for and the answer to each.
async fn typed(ctl: &Ctl, args: &[&str], dialogue: &[(&str, &str)]) -> Ran {
    let mut command = Command::new("python3");
    ctl.surround(&mut command);
    command.env("TERM", "xterm").args(["-c", TYPIST, &json!(dialogue).to_string()]);
    command.arg(beside("campaignctl")).args(args).stdin(Stdio::null());
    ran(command).await
}

#[tokio::test]
async fn a_launch_shows_settings_and_counts_and_asks() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = ctl.create("Spring offer").await;
    clients.add_contacts(&name, 0..3).await;
    let launch = ["launch", "Spring offer", "--exclude-texted"];

    let no = typed(&ctl, &launch, &[("Launch?", "\n")]).await;
    assert_eq!(no.code, REFUSED, "{no:?}");
    for wanted in
        ["Launch Spring offer", "exclude.texted", "contacts that received a text are excluded"]
    {
        assert!(no.out.contains(wanted), "{wanted}: {}", no.out);
    }
    assert!(no.out.contains("3 of 3 contacts would be engaged"), "{}", no.out);
    // A typo is forgiven twice.
    let typos = [("Launch?", "yse\n"), ("is no answer", "l\n"), ("is no answer", "n\n")];
    let no = typed(&ctl, &launch, &typos).await;
    assert_eq!(no.code, REFUSED, "{no:?}");
    assert_eq!(no.out.matches("Launch? y, N").count(), 3, "{}", no.out);
    let wrong_name = [("Launch?", "7\n"), ("Launch?", "y\n"), ("Type its name", "spring\n")];
    let no = typed(&ctl, &launch, &wrong_name).await;
    assert_eq!(no.code, REFUSED, "{no:?}");
    assert!(no.out.contains("All history is cleared for good"), "the warning: {}", no.out);
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Draft);

    // The eighth setting is changed, and the reset is confirmed.
    let dialogue = [
        ("Launch?", "8\n"),
        ("Launch?", "7\n"),
        ("Launch?", "y\n"),
        ("Type its name", "Spring offer\n"),
    ];
    let yes = typed(&ctl, &launch, &dialogue).await;
    assert_eq!(yes.code, DONE, "{yes:?}");
    assert!(yes.out.contains("launched Spring offer, run 1: RUNNING"), "{}", yes.out);
    let settings = clients.campaign(&name).await.launch_settings.unwrap();
    assert!(settings.live_forever && settings.reset_contact_history, "{settings:?}");
    assert!(settings.exclude.unwrap().texted, "{settings:?}");
}

#[tokio::test]
async fn cancel_and_delete_ask_before_they_act() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = live_campaign(&ctl, &mut clients).await;
    let cancel = ["cancel", "Spring offer"];
    let question =
        "Cancel Spring offer, run 1? No call is in progress. It cannot be resumed. [y/N]";
    for no in ["n\n", "\n"] {
        let refused = typed(&ctl, &cancel, &[(question, no)]).await;
        assert_eq!(refused.code, REFUSED, "{refused:?}");
        assert!(refused.out.contains("nothing was cancelled"), "{refused:?}");
    }
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Running);
    let silent = ctl.refused(&cancel, USAGE).await;
    assert!(silent.contains("no terminal") && silent.contains("--yes"), "{silent}");

    let yes = typed(&ctl, &cancel, &[(question, "yse\n"), ("is no answer", "y\n")]).await;
    assert_eq!(yes.code, DONE, "{yes:?}");
    assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Cancelled);
    // The service says why there is nothing to cancel, so there is no question.
    let again = typed(&ctl, &cancel, &[("CANCELLED", "")]).await;
    assert!(again.code == REFUSED && !again.out.contains("[y/N]"), "{again:?}");

    let delete = ["campaigns", "delete", "Spring offer"];
    let silent = ctl.refused(&delete, USAGE).await;
    assert!(silent.contains("--yes"), "{silent}");
    let question = "Delete Spring offer (CANCELLED, 3 contacts)? It cannot be brought back. [y/N]";
    let no = typed(&ctl, &delete, &[(question, "n\n")]).await;
    assert!(no.code == REFUSED && no.out.contains("nothing was deleted"), "{no:?}");
    let yes = typed(&ctl, &delete, &[(question, "y\n")]).await;
    assert_eq!(yes.code, DONE, "{yes:?}");
    ctl.refused(&["campaigns", "get", "Spring offer"], NOT_FOUND).await;
}

/// Creates a campaign of three contacts and launches it to live forever.
async fn live_campaign(ctl: &Ctl, clients: &mut Clients) -> String {
    let name = ctl.create("Spring offer").await;
    clients.add_contacts(&name, 0..3).await;
    let settings = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&name, settings).await;
    name
}

#[tokio::test]
async fn a_watch_is_live_on_a_terminal_and_a_frame_elsewhere() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = live_campaign(&ctl, &mut clients).await;
    let frame = ctl.text(&["watch"]).await;
    for wanted in ["Spring offer", "RUNNING", "no worker takes its contacts", "contacts 3"] {
        assert!(frame.contains(wanted), "{wanted}:\n{frame}");
    }
    let watched = typed(&ctl, &["watch", "Spring offer"], &[("no worker takes", "q")]).await;
    assert_eq!(watched.code, DONE, "{watched:?}");
    assert!(watched.out.contains("\u{1b}[?1049l"), "the screen before is back: {watched:?}");

    let once = ctl.json(&["watch", &name, "--once"]).await;
    assert_eq!((&once["waiting"], &once["state"]), (&"3".into(), &"CAMPAIGN_STATE_RUNNING".into()));
    // The stream ends with the campaign.
    let mut child = ctl.command(&["watch", &name, "-o", "json"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    clients.cancel(&name).await;
    let ran = finished(child).await;
    assert_eq!(ran.code, DONE, "{ran:?}");
    let last: serde_json::Value = serde_json::from_str(ran.out.lines().last().unwrap()).unwrap();
    assert_eq!(last["state"], "CAMPAIGN_STATE_CANCELLED");
}

#[tokio::test]
async fn a_live_view_goes_on_over_ends_and_new_launches() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = live_campaign(&ctl, &mut clients).await;
    let program = beside("campaignctl");
    let beside = |args: &str| format!("${} {args}", program.display());
    let pause = beside(&format!("pause {name}"));
    let cancel = beside(&format!("cancel {name} --yes"));
    let launch = beside(&format!("launch {name} --live-forever --yes"));
    // Only cells that changed are drawn, so the awaited words share none with the text before.
    let dialogue = [
        ("no worker takes", pause.as_str()),
        ("PAUSED", &cancel),
        // The stream has ended with the run. The view opens another one and shows the next run.
        ("LLED", &launch),
        ("worker takes its contacts", "q"),
    ];
    let watched = typed(&ctl, &["watch", "Spring offer"], &dialogue).await;
    assert_eq!(watched.code, DONE, "{watched:?}");
    assert_eq!(clients.campaign(&name).await.run, 2);
}

#[tokio::test]
async fn keys_of_a_view_pause_resume_and_cancel_after_a_question() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let ctl = Ctl::new(&service.url);
    let name = live_campaign(&ctl, &mut clients).await;
    // Only cells that changed are drawn, so the awaited words share none with the text before.
    let dialogue = [
        ("no worker takes", "r"),
        ("Resume Spring offer, run 1? Calls begin again. (y/n)", "y"),
        ("RUNNING", "p"),
        // The no is followed by the same question.
        ("(y/n)", "np"),
        ("(y/n)", "y"),
        ("PAUSED", "c"),
        ("(y/n)", "y"),
        ("LLED", "q"),
    ];
    let watched = typed(&ctl, &["watch", "Spring offer"], &dialogue).await;
    assert_eq!(watched.code, DONE, "{watched:?}");
    let audit = ctl.json(&["campaigns", "audit", &name]).await;
    let commands: Vec<&str> = audit["auditEvents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["command"].as_str().unwrap())
        .collect();
    assert_eq!(commands, ["CANCEL", "PAUSE", "LAUNCH", "CREATE"]);
}

#[tokio::test]
async fn the_guide_works_as_it_stands_twice_and_after_the_guide_of_the_api() {
    let db = TestDb::new().await;
    let service = Service::start(&db).await;
    let ctl = Ctl::new(&service.url);
    // The health status is known a moment after the start.
    eventually("the service is healthy", || async {
        (ctl.run(&["doctor"]).await.code == DONE).then_some(())
    })
    .await;
    walk_through(service.url.strip_prefix("http://").unwrap()).await;
    let lines = blocks("campaign-service/campaignctl/README.md", "shell").concat();
    assert!(lines.contains("campaignctl watch"), "{lines}");
    let script = format!("set -e\n{lines}").replace("target/errors.csv", &ctl.path("errors.csv"));
    let program = beside("campaignctl");
    let folder = program.parent().unwrap();
    let script = script.replace("$PWD/target/debug", &folder.display().to_string());
    for _ in 0..2 {
        let mut command = Command::new("sh");
        ctl.surround(&mut command);
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        command.args(["-c", &script]).current_dir(root).stdin(Stdio::null());
        let ran = ran(command).await;
        assert_eq!(ran.code, DONE, "{ran:?}");
        for wanted in ["launched Summer offer, run 1: RUNNING", "PAUSED", "CANCELLED", "deleted"] {
            assert!(ran.out.contains(wanted), "{wanted}: {ran:?}");
        }
    }
}
