//! Block leases: one row for a block of contacts, outcomes by COPY, and a narrow state row for each contact.

use crate::args::{BATCH_CONTACTS, CONNECTIONS};
use crate::scratch::Scratch;
use futures_util::SinkExt;
use std::fmt::Write;
use std::time::Instant;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

/// Returns the contacts leased and completed per second.
pub async fn run(scratch: &Scratch, contacts: usize) -> f64 {
    let client = scratch.client().await;
    client
        .batch_execute(&format!(
            "CREATE TABLE contacts (position bigint PRIMARY KEY, phone text NOT NULL,
                 name text NOT NULL);
             INSERT INTO contacts SELECT n, '+1415' || (5550000 + n), 'Contact ' || n
                 FROM generate_series(0, {contacts} - 1) n;
             CREATE TABLE frontier (next bigint NOT NULL);
             INSERT INTO frontier VALUES (0);
             CREATE TABLE leases (lease bigserial PRIMARY KEY, first bigint, expires_at timestamptz);
             CREATE TABLE outcomes (position bigint, outcome text, at timestamptz);
             CREATE TABLE states (position bigint PRIMARY KEY, flags int, attempts int, finished bool);
             ANALYZE contacts"
        ))
        .await
        .unwrap();
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut client = scratch.client().await;
        tasks.spawn(async move {
            let statements = Statements::prepare(&client).await;
            let mut done = 0;
            while let Some((lease, positions)) = statements.lease(&mut client).await {
                statements.complete(&mut client, lease, &positions).await;
                done += positions.len();
            }
            done
        });
    }
    let done: usize = tasks.join_all().await.into_iter().sum();
    assert_eq!(done, contacts);
    contacts as f64 / started.elapsed().as_secs_f64()
}

/// Statements, prepared once for each connection.
struct Statements {
    relax: Statement,
    advance: Statement,
    add: Statement,
    read: Statement,
    states: Statement,
    end: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Self {
        let prepare = async |sql| client.prepare(sql).await.unwrap();
        Self {
            // A lease that a crash forgets was never given; only outcomes wait for the disk.
            relax: prepare("SET LOCAL synchronous_commit = off").await,
            advance: prepare("UPDATE frontier SET next = next + $1 RETURNING next - $1").await,
            add: prepare(
                "INSERT INTO leases (first, expires_at) VALUES ($1, now()) RETURNING lease",
            )
            .await,
            read: prepare(
                "SELECT position, phone, name FROM contacts WHERE position >= $1 AND position < $2",
            )
            .await,
            states: prepare(
                "INSERT INTO states SELECT p, 0, 1, true FROM unnest($1::int8[]) p
                 ON CONFLICT (position) DO UPDATE SET attempts = states.attempts + 1",
            )
            .await,
            end: prepare("DELETE FROM leases WHERE lease = $1").await,
        }
    }

    async fn lease(&self, client: &mut Client) -> Option<(i64, Vec<i64>)> {
        let block = i64::try_from(BATCH_CONTACTS).unwrap();
        let transaction = client.transaction().await.unwrap();
        transaction.execute(&self.relax, &[]).await.unwrap();
        let first: i64 = transaction.query_one(&self.advance, &[&block]).await.unwrap().get(0);
        let lease: i64 = transaction.query_one(&self.add, &[&first]).await.unwrap().get(0);
        let rows = transaction.query(&self.read, &[&first, &(first + block)]).await.unwrap();
        transaction.commit().await.unwrap();
        (!rows.is_empty()).then(|| (lease, rows.iter().map(|row| row.get(0)).collect()))
    }

    async fn complete(&self, client: &mut Client, lease: i64, positions: &[i64]) {
        let transaction = client.transaction().await.unwrap();
        let copy = transaction.copy_in("COPY outcomes FROM STDIN").await.unwrap();
        let mut lines = String::new();
        for position in positions {
            writeln!(lines, "{position}\tanswered\t2026-01-01 00:00:00+00").unwrap();
        }
        let mut copy = std::pin::pin!(copy);
        copy.send(bytes::Bytes::from(lines)).await.unwrap();
        copy.finish().await.unwrap();
        transaction.execute(&self.states, &[&positions]).await.unwrap();
        transaction.execute(&self.end, &[&lease]).await.unwrap();
        transaction.commit().await.unwrap();
    }
}
