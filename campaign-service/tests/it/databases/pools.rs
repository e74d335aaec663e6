//! PgBouncer between the service and the database.

use crate::support::access::Folder;
use crate::support::processes::run;
use crate::support::{Service, TestDb, Worker, eventually};
use campaign_proto::v1::RevokeReason;
use campaign_testkit::postgres::unprivileged;
use campaign_testkit::{Program, free_port};
use std::path::Path;
use std::process::{Command, Stdio};

/// PgBouncer process, and the database's URL through it.
struct Pool {
    _process: Program,
    url: String,
    /// Folder of its configuration.
    _folder: Folder,
}

async fn pool(db: &TestDb, mode: &str, more: &str) -> Pool {
    let config: tokio_postgres::Config = db.url.parse().unwrap();
    let (name, port) = (config.get_dbname().unwrap(), free_port());
    let password = String::from_utf8(config.get_password().unwrap_or_default().to_vec()).unwrap();
    let folder = Folder::new();
    let file = folder.write(
        "pgbouncer.ini",
        &format!(
            "[databases]\n{name} = host=127.0.0.1 port={} user={} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\n\
             unix_socket_dir =\npool_mode = {mode}\n{more}\n",
            config.get_ports()[0],
            config.get_user().unwrap(),
        ),
    );
    let debian = Path::new("/usr/sbin/pgbouncer");
    let program = if debian.exists() { debian } else { Path::new("pgbouncer") };
    let mut command = Command::new(program);
    if unprivileged().unwrap().is_some() {
        // PgBouncer does not run as root.
        command.args(["-u", "nobody"]);
    }
    command.arg("-q").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    let process = Program::start(&mut command)
        .expect("pgbouncer cannot be run: install it (Debian: apt-get install pgbouncer), in PATH");
    let url = format!("postgres://campaign:x@127.0.0.1:{port}/{name}");
    eventually("pgbouncer answers", || async {
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.ok().map(|_| ())
    })
    .await;
    Pool { _process: process, url, _folder: folder }
}

#[tokio::test]
async fn a_pool_that_changes_backends_within_a_session_is_refused() {
    let db = TestDb::new().await;
    for (mode, more) in [
        ("transaction", ""),
        ("transaction", "default_pool_size = 1"),
        ("transaction", "server_round_robin = 1\nmin_pool_size = 5"),
        ("statement", ""),
    ] {
        let pool = pool(&db, mode, more).await;
        for command in ["serve", "migrate", "doctor"] {
            let (is_fine, said) = run(&pool.url, command);
            assert!(!is_fine && said.contains("pool_mode=session"), "{mode} {more}: {said}");
        }
    }
}

#[tokio::test]
async fn a_pool_that_keeps_sessions_works() {
    let mut db = TestDb::new().await;
    let pool = pool(&db, "session", "default_pool_size = 40").await;
    let (is_fine, said) = run(&pool.url, "doctor");
    assert!(is_fine, "{said}");
    db.url.clone_from(&pool.url);
    let service = Service::start(&db).await;
    let mut clients = service.clients.clone();
    let name = clients.create_campaign().await;
    clients.add_contacts(&name, 0..10).await;
    clients.launch(&name).await;
    let mut worker = Worker::connect(&clients, "w", &name).await;
    assert_eq!(worker.lease(10).await.len(), 10);
    clients.pause(&name).await;
    assert_eq!(worker.revoked().await.reason(), RevokeReason::Paused);
}
