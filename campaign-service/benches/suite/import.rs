//! Import through gRPC beside raw COPY of the very same rows into a table with the same columns,
//! constraints and indexes.

use crate::api::Api;
use crate::args::Args;
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::Replica;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, TryStreamExt};
use std::pin::pin;
use std::time::Instant;

/// Bytes sent to COPY in one message.
const CHUNK_BYTES: usize = 1 << 20;

pub async fn run(args: Args) -> Vec<Figure> {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        println!("round {round} of {}, {} rows", args.rounds, args.contacts);
        let scratch = Scratch::new(&args.database_url).await;
        let replica = Replica::first(&scratch.url).await;
        let mut api = Api::new(&replica.channel);
        let name = api.create().await;
        let started = Instant::now();
        api.import(&name, args.contacts).await;
        ours.push(args.contacts as f64 / started.elapsed().as_secs_f64());
        raw.push(args.contacts as f64 / copy(&scratch).await);
        println!("  ours {:>9.0} a second", ours[ours.len() - 1]);
        println!("  COPY {:>9.0} a second", raw[raw.len() - 1]);
    }
    let ours = Measure::of_rounds("import through gRPC", &ours);
    vec![
        Figure::new("rows/s", ours)
            .beside(Measure::of_rounds("COPY, same columns, same indexes", &raw))
            .goal(Goal::AtLeast(0.5)),
    ]
}

/// Returns the seconds that one COPY of all imported rows takes.
async fn copy(scratch: &Scratch) -> f64 {
    let client = scratch.client().await;
    let rows = client.copy_out("COPY (SELECT * FROM contacts) TO STDOUT").await.unwrap();
    let text = rows
        .try_fold(BytesMut::new(), |mut all, row| async move {
            all.extend_from_slice(&row);
            Ok(all)
        })
        .await
        .unwrap()
        .freeze();
    let table = "CREATE TABLE raw_contacts (LIKE contacts INCLUDING ALL); CHECKPOINT";
    client.batch_execute(table).await.unwrap();
    let started = Instant::now();
    let sink = client.copy_in::<_, Bytes>("COPY raw_contacts FROM STDIN").await.unwrap();
    let mut sink = pin!(sink);
    for first in (0..text.len()).step_by(CHUNK_BYTES) {
        let chunk = text.slice(first..(first + CHUNK_BYTES).min(text.len()));
        sink.send(chunk).await.unwrap();
    }
    sink.finish().await.unwrap();
    started.elapsed().as_secs_f64()
}
