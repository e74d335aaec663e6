//! The textbook queue: an indexed status column, FOR UPDATE SKIP LOCKED, an UPDATE when done.

use crate::scratch::Scratch;
use crate::{BATCH_CONTACTS, CONNECTIONS};
use std::time::Instant;
use tokio::task::JoinSet;

/// Contacts leased and completed a second.
pub async fn run(scratch: &Scratch, contacts: usize) -> f64 {
    let client = scratch.client().await;
    client
        .batch_execute(&format!(
            "CREATE TABLE queue (id bigint PRIMARY KEY, phone text NOT NULL, name text NOT NULL,
                 status text NOT NULL, outcome text, updated_at timestamptz);
             INSERT INTO queue SELECT n, '+1415' || (5550000 + n), 'Contact ' || n, 'waiting'
                 FROM generate_series(1, {contacts}) n;
             CREATE INDEX queue_by_status ON queue (status, id);
             ANALYZE queue"
        ))
        .await
        .unwrap();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = scratch.client().await;
        tasks.spawn(async move {
            let lease = client
                .prepare(&format!(
                    "UPDATE queue SET status = 'leased', updated_at = now() WHERE id IN (
                         SELECT id FROM queue WHERE status = 'waiting' ORDER BY id
                         LIMIT {BATCH_CONTACTS} FOR UPDATE SKIP LOCKED)
                     RETURNING id, phone, name"
                ))
                .await
                .unwrap();
            let complete = client
                .prepare(
                    "UPDATE queue SET status = 'done', outcome = 'answered', updated_at = now()
                     WHERE id = ANY($1)",
                )
                .await
                .unwrap();
            let mut done = 0;
            loop {
                let rows = client.query(&lease, &[]).await.unwrap();
                if rows.is_empty() {
                    return done;
                }
                let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
                done += client.execute(&complete, &[&ids]).await.unwrap();
            }
        });
    }
    let done: u64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(done, contacts as u64);
    contacts as f64 / started.elapsed().as_secs_f64()
}
