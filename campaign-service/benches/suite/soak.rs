//! Command of `make soak`: compares speed and memory with those of the first minute.

use crate::args::{Args, CONNECTIONS};
use crate::report::{Figure, Goal, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED, resident_megabytes};
use crate::steady::{Steady, mean};
use serde_json::{Value, json};

/// Campaigns that are launched again and again.
const CAMPAIGNS: usize = 3;
/// Seconds that are not counted at the start.
const WARM_UP_SECONDS: u64 = 10;
const MINUTE_SECONDS: u64 = 60;
/// Tables shown in each minute, those with the most dead rows.
const SHOWN_TABLES: usize = 3;

/// Figures of one minute.
struct Minute {
    per_second: f64,
    dead_rows: i64,
    database_megabytes: f64,
    service_megabytes: f64,
    tables: Value,
}

pub async fn run(args: Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let contacts = (args.contacts / CAMPAIGNS).max(1);
    println!("  {CAMPAIGNS} campaigns of {contacts} contacts, {} minutes", args.soak_minutes);
    let mut steady = Steady::start(&replica, CAMPAIGNS, contacts, CONNECTIONS).await;
    steady.rates(WARM_UP_SECONDS).await;
    let mut minutes = Vec::new();
    for number in 1..=args.soak_minutes {
        let per_second = mean(&steady.rates(MINUTE_SECONDS).await);
        let minute = look(&scratch, &replica, per_second).await;
        println!(
            "  minute {number} of {}: {:.0} contacts/s, {} dead rows, database {:.0} MB, service {:.0} MB",
            args.soak_minutes,
            minute.per_second,
            minute.dead_rows,
            minute.database_megabytes,
            minute.service_megabytes
        );
        minutes.push(minute);
    }
    figures(&minutes)
}

fn figures(minutes: &[Minute]) -> Vec<Figure> {
    let (Some(first), Some(last)) = (minutes.first(), minutes.last()) else { return Vec::new() };
    let all = minutes.iter().map(|minute| {
        json!({
            "contacts_per_second": minute.per_second,
            "dead_rows": minute.dead_rows,
            "database_megabytes": minute.database_megabytes,
            "service_megabytes": minute.service_megabytes,
            "tables": minute.tables,
        })
    });
    let mut rate = Measure::new("last minute", last.per_second);
    rate.detail = json!({ "minutes": all.collect::<Vec<_>>() });
    let beside = |name: &str, unit, pick: fn(&Minute) -> f64| {
        Figure::new(unit, Measure::new(format!("{name}, last minute"), pick(last)))
            .beside(Measure::new(format!("{name}, first minute"), pick(first)))
    };
    vec![
        Figure::new("contacts/s", rate)
            .beside(Measure::new("first minute", first.per_second))
            .goal(Goal::AtLeast(0.9)),
        beside("service memory", "MB", |minute| minute.service_megabytes),
        beside("dead rows", "rows", |minute| minute.dead_rows as f64),
        beside("database", "MB", |minute| minute.database_megabytes),
    ]
}

/// Reads the tables with their sizes and dead rows, partitions counted with their table.
async fn look(scratch: &Scratch, replica: &Replica, per_second: f64) -> Minute {
    let sql = "SELECT COALESCE(parent.relname, s.relname)::text AS name,
            sum(pg_total_relation_size(s.relid))::bigint AS bytes,
            sum(s.n_dead_tup)::bigint AS dead, sum(s.n_live_tup)::bigint AS live
        FROM pg_stat_user_tables s
            LEFT JOIN pg_inherits i ON i.inhrelid = s.relid
            LEFT JOIN pg_class parent ON parent.oid = i.inhparent
        GROUP BY 1 ORDER BY dead DESC, bytes DESC";
    let rows = scratch.client().await.query(sql, &[]).await.unwrap();
    let (mut bytes, mut dead, mut tables) = (0, 0, Vec::new());
    for row in &rows {
        let (name, size): (String, i64) = (row.get("name"), row.get("bytes"));
        let (dead_rows, live_rows): (i64, i64) = (row.get("dead"), row.get("live"));
        if tables.len() < SHOWN_TABLES {
            println!(
                "    {name:<24} {:>8.1} MB {dead_rows:>9} dead {live_rows:>9} live",
                size as f64 / 1e6
            );
        }
        bytes += size;
        dead += dead_rows;
        tables.push(json!({ "table": name, "bytes": size, "dead": dead_rows, "live": live_rows }));
    }
    Minute {
        per_second,
        dead_rows: dead,
        database_megabytes: bytes as f64 / 1e6,
        service_megabytes: resident_megabytes(&replica.program),
        tables: Value::Array(tables),
    }
}
