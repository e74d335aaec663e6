//! Privacy: nothing that the programs print contains people's numbers or names, or secrets.

use super::support::processes::{campaign_service, dialer_worker, scrape};
use super::support::{Clients, TestDb, always, eventually};
use campaign_proto::v1;
use campaign_proto::v1::interaction::Fact;
use campaign_testkit::{Program, free_port};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tonic::Code;

const NAMES: [&str; 3] = ["Xaverine Quintessa", "Zebulon Ypsilanti", "Wilhelmina Kowalczyk"];
const NUMBERS: [&str; 4] = ["+12015550147", "+12025550163", "+442079460958", "+12035550171"];
const LINK_KEY: &str = "link-key-that-nobody-may-ever-see-printed";
const DATABASE_PASSWORD: &str = "database-password-nobody-may-see";
const API_KEY: &str = "api-key-that-nobody-may-see";
const CALLBACK_SECRET: &str = "callback-secret-that-nobody-may-see";
const TOKEN: &str = "token-that-nobody-may-ever-see";

/// Output of the programs, each in a file of its own.
struct Printed {
    folder: PathBuf,
}

impl Printed {
    fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("campaign-privacy-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    fn run(&self, name: &str, command: &mut Command) -> Program {
        let file = || File::create(self.folder.join(name)).unwrap();
        let errors = File::create(self.folder.join(format!("{name}.err"))).unwrap();
        Program::start(command.stdin(Stdio::null()).stdout(file()).stderr(errors)).unwrap()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(format!("{name}.err"))).unwrap_or_default()
    }

    fn all(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let text =
            |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        files.map(|path| (path.display().to_string(), text(&path))).collect()
    }
}

impl Drop for Printed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Returns the URL with a password, which PostgreSQL accepts without asking for one.
fn with_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (user, server) = rest.rsplit_once('@').unwrap();
    let user = user.split(':').next().unwrap();
    // The URL of a server that asks for a password has one already.
    let password = rest.split_once('@').and_then(|(user, _)| user.split_once(':'));
    let password = password.map_or(DATABASE_PASSWORD, |(_, password)| password);
    format!("{scheme}://{user}:{password}@{server}")
}

fn contact(number: &str, name: &str) -> v1::Contact {
    v1::Contact {
        phone_number: number.to_owned(),
        display_name: name.to_owned(),
        attributes: [("note".to_owned(), name.to_owned())].into(),
        ..Default::default()
    }
}

async fn create(clients: &mut Clients, campaign: &str, contact: v1::Contact) -> Result<(), Code> {
    let parent = campaign.to_owned();
    let request = v1::CreateContactRequest { parent, contact: Some(contact), ..Default::default() };
    clients.contacts.create_contact(request).await.map(drop).map_err(|status| {
        for name in NAMES {
            assert!(!format!("{status:?}").contains(name), "{status:?}");
        }
        status.code()
    })
}

/// Makes the service report errors about rows with people's data.
async fn provoke(db: &TestDb, clients: &mut Clients, campaign: &str) {
    let sql = db.client().await;
    let mut bad = contact("not a number, Zebulon Ypsilanti", NAMES[1]);
    bad.time_zone = NAMES[1].to_owned();
    assert_eq!(create(clients, campaign, bad).await, Err(Code::InvalidArgument));
    let again = contact(NUMBERS[0], NAMES[0]);
    assert_eq!(create(clients, campaign, again).await, Err(Code::AlreadyExists));
    // This statement is rejected, and PostgreSQL's answer has the row.
    let forbid = format!(
        "ALTER TABLE contacts ADD CONSTRAINT nobody CHECK (display_name <> '{}')",
        NAMES[2]
    );
    sql.batch_execute(&forbid).await.unwrap();
    let refused = contact(NUMBERS[3], NAMES[2]);
    assert_eq!(create(clients, campaign, refused).await, Err(Code::Internal));
    // The service did not write this value and cannot read it.
    let spoil = format!("UPDATE contacts SET attributes = '\"{}\"'", NAMES[0]);
    sql.batch_execute(&spoil).await.unwrap();
    let request = v1::GetContactRequest { name: format!("{campaign}/contacts/0") };
    let status = clients.contacts.get_contact(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    sql.batch_execute("UPDATE contacts SET attributes = '{}'").await.unwrap();
    db.go_away().await;
    let late = contact(NUMBERS[2], NAMES[1]);
    assert_eq!(create(clients, campaign, late).await, Err(Code::Unavailable));
    db.come_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_programs_print_names_nobody() {
    let (db, printed) = (TestDb::new().await, Printed::new());
    let (port, metrics_ports) = (free_port(), [free_port(), free_port()]);
    let url = format!("http://127.0.0.1:{port}");
    let metrics = metrics_ports.map(|port| format!("127.0.0.1:{port}"));
    let _service = printed.run(
        "service",
        campaign_service()
            .args(["serve", "--log", "debug", "--listen", &format!("127.0.0.1:{port}")])
            .args(["--link-listen", "127.0.0.1:0", "--link-base-url", "http://go.example"])
            .args(["--metrics-listen", &metrics[0]])
            .env("CAMPAIGN_LINK_KEY", LINK_KEY)
            .env("DATABASE_URL", with_password(&db.url)),
    );
    let mut clients = Clients::connect(&url).await.with_token(TOKEN);
    let campaign = clients
        .create_campaign_with(v1::Campaign {
            display_name: "Spring".to_owned(),
            description: "For tests".to_owned(),
            schedule: Some(always()),
            link_url: "http://shop.example".to_owned(),
            ..Default::default()
        })
        .await;
    for (number, name) in NUMBERS.iter().zip(NAMES).take(2) {
        create(&mut clients, &campaign, contact(number, name)).await.unwrap();
    }
    let live_forever = v1::LaunchSettings { live_forever: true, ..Default::default() };
    clients.launch_with(&campaign, live_forever).await;
    let worker = |name: &str| {
        let mut command = dialer_worker();
        command.args(["--log", "debug", "--service-url", &url, "--worker-id", name]);
        command
    };
    // The first provider does not answer; the second does.
    let platform = format!("http://127.0.0.1:{}", free_port());
    let mut fails = printed.run(
        "http-worker",
        worker("http")
            .args(["--provider", "http", "--http-url", &platform])
            .args(["--http-callback-listen", &format!("127.0.0.1:{}", free_port())])
            .env("DIALER_HTTP_API_KEY", API_KEY)
            .env("DIALER_HTTP_CALLBACK_SECRET", CALLBACK_SECRET),
    );
    eventually("the platform fails", || async {
        printed.read("http-worker").contains("no connection to the platform").then_some(())
    })
    .await;
    fails.kill();
    let mut works = worker("simulated");
    works.args(["--time-scale", "0.001", "--metrics-listen", &metrics[1]]);
    let _works = printed.run("worker", &mut works);
    clients.add_contacts(&campaign, 0..20).await;
    eventually("calls end", || async {
        printed.read("worker").contains("call ended").then_some(())
    })
    .await;
    let opted_out =
        Fact::OptedOut(v1::OptedOut { channel: NAMES[0].to_owned(), everywhere: false });
    clients.record(&format!("{campaign}/contacts/0"), "said-so", opted_out).await;
    provoke(&db, &mut clients, &campaign).await;
    eventually("the service says what was refused", || async {
        let said = printed.read("service");
        let all = ["rejected a statement", "nobody", "the database did not answer"];
        all.iter().all(|text| said.contains(text)).then_some(())
    })
    .await;
    check_that_nothing_shows(&printed, metrics_ports).await;
}

/// Checks that neither output nor metrics show people or secrets.
async fn check_that_nothing_shows(printed: &Printed, metrics_ports: [u16; 2]) {
    let numbers = NUMBERS.iter().map(|number| number.trim_start_matches('+').to_owned());
    let imported = (0..20).map(|n| super::support::phone(n).trim_start_matches('+').to_owned());
    let names = NAMES.iter().flat_map(|name| name.split(' ')).map(str::to_owned);
    let secrets = [LINK_KEY, DATABASE_PASSWORD, API_KEY, CALLBACK_SECRET, TOKEN].map(str::to_owned);
    let hidden: Vec<String> = numbers.chain(imported).chain(names).chain(secrets).collect();
    let mut texts = printed.all();
    assert!(texts.iter().map(|(_, text)| text.len()).sum::<usize>() > 1_000);
    for (port, shows) in
        metrics_ports.into_iter().zip(["campaign_authorizations_total", "dialer_calls_total"])
    {
        let text = scrape(port).await;
        assert!(text.contains(shows), "{text}");
        texts.push((format!("/metrics with {shows}"), text));
    }
    for (file, text) in texts {
        for hidden in &hidden {
            let line = text.lines().find(|line| line.contains(hidden));
            assert_eq!(line, None, "{file} shows {hidden:?}");
        }
    }
}

#[test]
fn settings_are_shown_without_secrets() {
    use clap::Parser;
    let url = format!("postgres://ann:{DATABASE_PASSWORD}@localhost/campaigns");
    let cli = campaign_service::config::Cli::parse_from([
        "campaign-service",
        "serve",
        "--database-url",
        &url,
        "--link-listen",
        "127.0.0.1:0",
        "--link-base-url",
        "http://go.example",
        "--link-key",
        LINK_KEY,
    ]);
    let shown = format!("{cli:?}");
    assert!(!shown.contains(DATABASE_PASSWORD) && !shown.contains(LINK_KEY), "{shown}");
    let campaign_service::config::Command::Serve(args) = cli.command else { unreachable!() };
    let shown = format!("{:?} {:?}", args.database.open(), args.links.links());
    assert!(!shown.contains(DATABASE_PASSWORD) && !shown.contains(LINK_KEY), "{shown}");
}
