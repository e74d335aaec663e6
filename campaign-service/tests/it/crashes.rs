//! P7, and P2 again: real processes, killed with kill -9.

use crate::support::processes::{Killed, dials, free_port, serve, work};
use crate::support::{Clients, PATIENCE, Worker, eventually, once, phone};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_proto::v1::{CallOutcome, InteractionStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A PostgreSQL server of this test's own, to be killed.
struct Postgres {
    folder: PathBuf,
    port: u16,
    server: Option<Killed>,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.server = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Postgres {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("campaign-crash-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        }
        let made = program("initdb")
            .args(["-U", "campaign", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(folder.join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let mut postgres = Self { folder, port: free_port(), server: None };
        postgres.run();
        postgres
    }

    /// Durable settings are PostgreSQL's defaults.
    fn run(&mut self) {
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        let child = program("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", &format!("port={}", self.port)])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(Killed(child));
    }

    fn url(&self) -> String {
        format!("postgres://campaign@127.0.0.1:{}/postgres", self.port)
    }

    async fn wait_until_up(&mut self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while tokio_postgres::connect(&self.url(), tokio_postgres::NoTls).await.is_err() {
            // Until the killed server's children are gone, a new one refuses to start.
            let server = self.server.as_mut().unwrap();
            if server.0.try_wait().unwrap().is_some() {
                self.run();
            }
            assert!(tokio::time::Instant::now() < deadline, "PostgreSQL did not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A program of PostgreSQL, run as the user that owns its data.
fn program(name: &str) -> Command {
    let folder = std::env::var_os("CAMPAIGN_PG_BIN").map(PathBuf::from).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    });
    let folder = folder.expect(
        "CAMPAIGN_PG_BIN is not set and initdb is not on PATH: this test kills a PostgreSQL of its own; \
         run `make test` without DATABASE_URL, or set CAMPAIGN_PG_BIN",
    );
    let mut command = Command::new(folder.join(name));
    command.current_dir("/").stdin(Stdio::null());
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

/// Whom to run PostgreSQL as, when we are root.
fn unprivileged() -> Option<(u32, u32)> {
    let number = |args: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if number(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| Some((number(&["-u", name])?, number(&["-g", name])?)))
}

fn migrate(url: &str) {
    let status = Command::new(env!("CARGO_BIN_EXE_campaign-service"))
        .arg("migrate")
        .env("DATABASE_URL", url)
        .status()
        .unwrap();
    assert!(status.success());
}

/// P7: everything that was acknowledged before the service and PostgreSQL were killed is there after.
#[tokio::test]
async fn p7_what_was_acknowledged_survives_kill_9_of_everything() {
    let mut postgres = Postgres::start();
    postgres.wait_until_up().await;
    migrate(&postgres.url());
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut service = serve(&postgres.url(), port, 300);
    let mut clients = Clients::connect(&url).await;
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..300).await;
    clients.launch(&name).await;

    let mut acknowledged: BTreeMap<String, CallOutcome> = BTreeMap::new();
    let mut granted: BTreeSet<String> = BTreeSet::new();
    let mut opted_out = Vec::new();
    for round in 0..3_usize {
        let mut worker = Worker::connect(&clients, &format!("w{round}"), &name).await;
        let held = worker.lease(60).await;
        assert_eq!(held.len(), 60);
        for (n, held) in held.iter().enumerate().take(50) {
            let attempt = worker.granted(held).await;
            assert!(granted.insert(attempt.clone()), "granted twice: {attempt}");
            if n % 5 == 0 {
                let fact = Fact::OptedOut(v1::OptedOut::default());
                let status = worker.tell(held, &attempt, "stop", fact).await;
                assert_eq!(status, InteractionStatus::Recorded);
                opted_out.push(held.contact.clone());
            }
            // The last ones are in their calls when everything dies.
            if n < 45 {
                let outcome = if n % 2 == 0 { CallOutcome::Answered } else { CallOutcome::Busy };
                assert_eq!(worker.end(held, &attempt, outcome).await, InteractionStatus::Recorded);
                acknowledged.insert(held.contact.clone(), outcome);
            }
        }
        let contact = v1::Contact { phone_number: phone(1_000 + round), ..Default::default() };
        let request = v1::CreateContactRequest {
            parent: name.clone(),
            contact: Some(contact),
            ..Default::default()
        };
        let created = clients.contacts.create_contact(request).await.unwrap().into_inner();
        clients.pause(&name).await;

        // Not a moment later.
        postgres.server.as_mut().unwrap().kill();
        service.kill();
        postgres.run();
        postgres.wait_until_up().await;
        service = serve(&postgres.url(), port, 300);
        clients = Clients::connect(&url).await;

        assert_eq!(clients.campaign(&name).await.state(), v1::CampaignState::Paused);
        let get = v1::GetContactRequest { name: created.name };
        clients.contacts.get_contact(get).await.unwrap();
        for (contact, outcome) in &acknowledged {
            let history = clients.history(contact).await;
            assert_eq!((history.attempts, history.last_outcome()), (1, *outcome), "{contact}");
        }
        for contact in &opted_out {
            assert!(clients.history(contact).await.refused, "{contact}");
        }
        let progress = clients.progress(&name).await;
        assert_eq!(progress.in_call, i64::try_from(5 * (round + 1)).unwrap());
        clients.resume(&name).await;
    }
}

/// P2: a worker is killed in the middle of its calls; by the provider's own log none of them is dialled
/// again, as the policy says, and nobody is lost.
#[tokio::test]
async fn p2_calls_of_a_killed_worker_are_not_dialled_again() {
    let db = crate::support::TestDb::new().await;
    let port = free_port();
    let _service = serve(&db.url, port, 1);
    let mut clients = Clients::connect(&format!("http://127.0.0.1:{port}")).await;
    let name = clients.create_campaign_retrying(once()).await;
    clients.add_contacts(&name, 0..400).await;
    clients.launch(&name).await;
    let log = std::env::temp_dir().join(format!("campaign-dials-{}", uuid::Uuid::new_v4()));
    // Calls of seconds, so that the kill comes in the middle of them.
    let mut first = work("first", &[port], &log, "0.05");
    eventually("the first worker is in its calls", || async {
        (dials(&log).len() >= 60).then_some(())
    })
    .await;
    first.kill();
    let _second = work("second", &[port], &log, "0.001");
    clients.wait_for(&name, v1::CampaignState::Completed).await;
    let dials = dials(&log);
    let contacts: BTreeSet<&str> = dials.iter().map(|dial| dial.contact.as_str()).collect();
    assert_eq!(dials.len(), contacts.len(), "someone was dialled twice");
    let progress = clients.progress(&name).await;
    let attempts = progress.history.unwrap().attempts;
    assert_eq!(attempts, 400, "everyone had one attempt, unknown ones counted");
    // An attempt may be authorised and its worker killed before it dials; no more than were asked for.
    assert!(dials.len() <= 400 && dials.len() >= 350, "{} dials", dials.len());
    std::fs::remove_file(log).unwrap();
}
