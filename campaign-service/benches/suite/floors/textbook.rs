//! Textbook queue: an indexed status column, FOR UPDATE SKIP LOCKED, an UPDATE when done.

use crate::args::{BATCH_CONTACTS, CONNECTIONS};
use crate::scratch::Scratch;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

/// Least number of contacts that wait while the queue is refilled.
const BACKLOG_CONTACTS: usize = 50_000;
/// Contacts added at once.
const REFILL_CONTACTS: usize = 10_000;
/// Time between two looks at the backlog.
const REFILL_POLL: Duration = Duration::from_millis(5);

/// Returns the contacts leased and completed per second.
pub async fn run(scratch: &Scratch, contacts: usize) -> f64 {
    let client = scratch.client().await;
    create(&client).await;
    add(&client, 0, contacts).await;
    client.batch_execute("ANALYZE queue").await.unwrap();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = scratch.client().await;
        tasks.spawn(async move {
            let statements = Statements::prepare(&client).await;
            let mut done = 0;
            loop {
                match statements.take_batch(&client).await {
                    0 => return done,
                    taken => done += taken,
                }
            }
        });
    }
    let done: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(done, contacts);
    contacts as f64 / started.elapsed().as_secs_f64()
}

async fn create(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE queue (id bigint PRIMARY KEY, phone text NOT NULL, name text NOT NULL,
                 status text NOT NULL, outcome text, updated_at timestamptz);
             CREATE INDEX queue_by_status ON queue (status, id)",
        )
        .await
        .unwrap();
}

async fn add(client: &Client, from: usize, contacts: usize) {
    let until = from + contacts;
    client
        .batch_execute(&format!(
            "INSERT INTO queue SELECT n, '+1' || (2125550000 + n), 'Contact ' || n, 'waiting'
             FROM generate_series({from} + 1, {until}) n"
        ))
        .await
        .unwrap();
}

/// Statements, prepared once for each connection.
struct Statements {
    lease: Statement,
    complete: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Self {
        let lease = format!(
            "UPDATE queue SET status = 'leased', updated_at = now() WHERE id IN (
                 SELECT id FROM queue WHERE status = 'waiting' ORDER BY id
                 LIMIT {BATCH_CONTACTS} FOR UPDATE SKIP LOCKED)
             RETURNING id, phone, name"
        );
        let complete = "UPDATE queue SET status = 'done', outcome = 'answered', updated_at = now()
             WHERE id = ANY($1)";
        Self {
            lease: client.prepare(&lease).await.unwrap(),
            complete: client.prepare(complete).await.unwrap(),
        }
    }

    /// Leases a batch and completes it. Returns the number of its contacts.
    async fn take_batch(&self, client: &Client) -> usize {
        let rows = client.query(&self.lease, &[]).await.unwrap();
        let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        if !ids.is_empty() {
            let completed = client.execute(&self.complete, &[&ids]).await.unwrap();
            assert_eq!(completed, ids.len() as u64);
        }
        ids.len()
    }
}

/// Queue that is refilled as it is emptied. The work ends when this value is dropped.
pub struct Steady {
    done: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Steady {
    pub async fn start(scratch: &Scratch) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let client = scratch.client().await;
        create(&client).await;
        add(&client, 0, BACKLOG_CONTACTS).await;
        client.batch_execute("ANALYZE queue").await.unwrap();
        let counted = Arc::clone(&done);
        tasks.spawn(async move {
            let mut added = BACKLOG_CONTACTS;
            loop {
                if added - counted.load(Ordering::Relaxed) < BACKLOG_CONTACTS {
                    add(&client, added, REFILL_CONTACTS).await;
                    added += REFILL_CONTACTS;
                } else {
                    tokio::time::sleep(REFILL_POLL).await;
                }
            }
        });
        for _ in 0..CONNECTIONS {
            let (client, done) = (scratch.client().await, Arc::clone(&done));
            tasks.spawn(async move {
                let statements = Statements::prepare(&client).await;
                loop {
                    done.fetch_add(statements.take_batch(&client).await, Ordering::Relaxed);
                }
            });
        }
        Self { done, _tasks: tasks }
    }

    /// Returns the contacts done so far.
    pub fn count(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}
