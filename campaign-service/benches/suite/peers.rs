//! Other queues that a user would pick, each with its best documented settings, fetching and completing jobs of no
//! work. deploy/bench/peers.py installs them.

use crate::args::{Args, BATCH_CONTACTS, CONNECTIONS};
use crate::scratch::Scratch;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use tokio::task::JoinSet;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
/// Time for which a message that was read stays hidden from others, in seconds.
const VISIBILITY_SECONDS: i32 = 60;

/// Queue to compare with.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    GraphileWorker,
    PgBoss,
    Pgmq,
}

impl Peer {
    pub fn all() -> &'static [Self] {
        &[Self::GraphileWorker, Self::PgBoss, Self::Pgmq]
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::GraphileWorker => "graphile-worker, local queue of 500",
            Self::PgBoss => "pg-boss, batches of 500",
            Self::Pgmq => "pgmq, batches of 500, read and archive",
        }
    }

    /// Returns how many times as fast we mean to be. pg-boss is slower than graphile-worker.
    pub fn goal(self) -> f64 {
        match self {
            Self::GraphileWorker | Self::PgBoss => 3.0,
            Self::Pgmq => 1.2,
        }
    }
}

/// Message when the queues are not installed.
pub const MISSING: &str = "other queues are not installed: run `make bench`, or set BENCH_PEERS_HOME to \
     what `python3 deploy/bench/peers.py` prints, or leave them out with BENCH_PEERS=0";

/// Returns the jobs completed per second.
pub async fn run(peer: Peer, scratch: &Scratch, args: &Args) -> f64 {
    let home = args.peers_home.as_deref().expect(MISSING);
    let jobs = args.peer_jobs;
    let seconds = match peer {
        Peer::GraphileWorker => {
            let seconds = run_script("graphile_worker.cjs", home, scratch, jobs);
            // Completed jobs are deleted.
            let left = "SELECT count(*) FROM graphile_worker.jobs";
            assert_eq!(count(scratch, left).await, 0, "graphile-worker left jobs");
            seconds
        }
        Peer::PgBoss => {
            let seconds = run_script("pg_boss.cjs", home, scratch, jobs);
            let completed = "SELECT count(*) FROM pgboss.job WHERE state = 'completed'";
            assert_eq!(count(scratch, completed).await, jobs, "pg-boss completed all");
            seconds
        }
        Peer::Pgmq => run_pgmq(home, scratch, jobs).await,
    };
    jobs as f64 / seconds
}

async fn count(scratch: &Scratch, sql: &str) -> usize {
    let count: i64 = scratch.client().await.query_one(sql, &[]).await.unwrap().get(0);
    usize::try_from(count).unwrap()
}

/// Runs a script that measures itself, from its first fetch to its last completion.
fn run_script(script: &str, home: &Path, scratch: &Scratch, jobs: usize) -> f64 {
    let output = Command::new("node")
        .arg(Path::new(SCRIPTS).join(script))
        .arg(jobs.to_string())
        .env("NODE_PATH", home.join("node_modules"))
        .env("DATABASE_URL", &scratch.url)
        .stderr(Stdio::inherit())
        .output()
        .expect("node is not installed (Debian: apt-get install nodejs npm); or BENCH_PEERS=0");
    assert!(output.status.success(), "{script} failed; see above");
    let text = String::from_utf8(output.stdout).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    last["seconds"].as_f64().unwrap()
}

/// Runs pgmq with the extension's functions, without the machinery of extensions.
async fn run_pgmq(home: &Path, scratch: &Scratch, jobs: usize) -> f64 {
    let functions = std::fs::read_to_string(home.join("pgmq.sql")).unwrap();
    let client = scratch.client().await;
    client.batch_execute("CREATE SCHEMA IF NOT EXISTS pgmq").await.unwrap();
    client.batch_execute(&functions).await.unwrap();
    let fill = format!(
        "SELECT pgmq.create('noop');
         SELECT count(*) FROM pgmq.send_batch('noop',
             ARRAY(SELECT jsonb_build_object('n', n) FROM generate_series(1, {jobs}) n));"
    );
    client.batch_execute(&fill).await.unwrap();
    client.batch_execute("VACUUM ANALYZE").await.unwrap();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = scratch.client().await;
        tasks.spawn(async move {
            let read =
                client.prepare("SELECT msg_id FROM pgmq.read('noop', $1, $2)").await.unwrap();
            let archive = client
                .prepare("SELECT count(*) FROM pgmq.archive('noop', $1::bigint[])")
                .await
                .unwrap();
            let batch = i32::try_from(BATCH_CONTACTS).unwrap();
            let mut done = 0;
            loop {
                let rows = client.query(&read, &[&VISIBILITY_SECONDS, &batch]).await.unwrap();
                if rows.is_empty() {
                    return done;
                }
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                done += client.query_one(&archive, &[&ids]).await.unwrap().get::<_, i64>(0);
            }
        });
    }
    let done: i64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(usize::try_from(done).unwrap(), jobs);
    started.elapsed().as_secs_f64()
}
