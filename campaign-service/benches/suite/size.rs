//! Size of a contact in the database: imported, after its first call, and after its second.

use crate::api::{Api, rerun};
use crate::args::Args;
use crate::report::{Figure, Measure};
use crate::scratch::Scratch;
use crate::service::{Replica, UNCAPPED};
use crate::stream::call_all;
use campaign_proto::v1;
use serde_json::{Map, Value, json};

pub async fn run(args: Args) -> Vec<Figure> {
    let scratch = Scratch::new(&args.database_url).await;
    let replica = Replica::first_with(&scratch.url, UNCAPPED).await;
    let mut api = Api::new(&replica.channel);
    let name = api.create_with(args.contacts).await;
    let imported = look(&scratch, &args, "imported").await;
    api.launch(&name, v1::LaunchSettings::default()).await;
    call_all(&mut api, &name, args.contacts).await;
    let once = look(&scratch, &args, "called once").await;
    api.launch(&name, rerun()).await;
    call_all(&mut api, &name, args.contacts).await;
    let twice = look(&scratch, &args, "called twice").await;
    vec![imported, once, twice]
}

/// Measures the tables with their indexes, and with the room that dead rows left in them.
async fn look(scratch: &Scratch, args: &Args, when: &str) -> Figure {
    let client = scratch.client().await;
    client.batch_execute("VACUUM").await.unwrap();
    let sql = "SELECT COALESCE(parent.relname, c.relname)::text AS name,
            sum(pg_total_relation_size(c.oid))::bigint AS bytes
        FROM pg_class c
            LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
            LEFT JOIN pg_class parent ON parent.oid = i.inhparent
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        GROUP BY 1 ORDER BY bytes DESC";
    let rows = client.query(sql, &[]).await.unwrap();
    let (mut tables, mut all) = (Map::new(), 0.0);
    for row in rows {
        let bytes = row.get::<_, i64>("bytes") as f64 / args.contacts as f64;
        all += bytes;
        if bytes >= 1.0 {
            println!("  {when}: {:<24} {bytes:>6.0} bytes a contact", row.get::<_, &str>("name"));
            tables.insert(row.get("name"), Value::from(bytes));
        }
    }
    let name = format!("a contact {when}");
    Figure::new("bytes", Measure { name, value: all, detail: json!({ "tables": tables }) })
}
