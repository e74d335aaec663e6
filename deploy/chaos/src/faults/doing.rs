//! Doing of the planned faults.

use super::plan::{Action, Fault, Planned, Wire};
use crate::Result;
use crate::postgres;
use crate::proxy::{Kind, Mode, Point, Proxy, Verdict};
use crate::supervised::Supervised;
use crate::world::{REPLICAS, Who, World};
use campaign_testkit::signal;
use rand::Rng;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Longest wait for a message to reach a named point.
const TRAP_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait in a trap for a process that another fault holds.
const TURN_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait for an order to PostgreSQL, which may be frozen.
const ORDER_LIMIT: Duration = Duration::from_secs(3);

/// Settings that an operator may have chosen. Sessions end, so that sessions with these settings are used for long.
const DEFAULTS: &str = "ALTER SYSTEM SET default_transaction_isolation = 'repeatable read'; \
    ALTER SYSTEM SET synchronous_commit = off; ALTER SYSTEM SET lock_timeout = '20ms'; SELECT pg_reload_conf(); \
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'campaign-service'";
const OWN_DEFAULTS: &str = "ALTER SYSTEM RESET default_transaction_isolation; \
    ALTER SYSTEM RESET synchronous_commit; ALTER SYSTEM RESET lock_timeout; SELECT pg_reload_conf()";
/// Broken `pg_notify`: the queue itself takes 8 GB to fill.
const NO_NOTICES: &str = "CREATE OR REPLACE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void \
    LANGUAGE sql AS 'SELECT 1/0'";
const NOTICES: &str = "CREATE OR REPLACE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void \
    LANGUAGE internal AS 'pg_notify'";

/// Result of the faults.
#[derive(Debug, Default)]
pub struct Done {
    /// Faults done, by kind. Faults at named points that nobody reached are left out.
    pub kinds: BTreeMap<String, usize>,
    /// Faults that could not be done.
    pub failed: Vec<String>,
}

/// Does all planned faults, and returns when the last is over.
pub async fn run(world: &Arc<World>, planned: &[Planned]) -> Done {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for Planned { at, fault } in planned.iter().copied() {
        let world = Arc::clone(world);
        tasks.spawn(async move {
            sleep_until(start + at).await;
            note(&world, start, &format!("begins: {fault}"));
            let done = act(&world, fault).await;
            note(&world, start, &format!("over: {fault}: {done:?}"));
            (fault, done)
        });
    }
    let mut all = Done::default();
    for (fault, done) in tasks.join_all().await {
        match done {
            Ok(true) => *all.kinds.entry(fault.kind()).or_default() += 1,
            Ok(false) => {}
            Err(error) => all.failed.push(format!("{fault}: {error}")),
        }
    }
    all
}

/// Notes a fault in a log for people who look into a failed round.
fn note(world: &World, start: Instant, text: &str) {
    let path = world.folder.join("faults.log");
    if let Ok(mut log) = std::fs::File::options().create(true).append(true).open(path) {
        let at = crate::now_micros();
        let _ = writeln!(log, "{at} {:.3} {text}", start.elapsed().as_secs_f64());
    }
}

/// Does one fault. Returns whether anything was broken.
async fn act(world: &World, fault: Fault) -> Result<bool> {
    match fault {
        Fault::At(wire, point, passes, action) => {
            return at_point(world, wire, point, passes, action).await;
        }
        Fault::Stall(n, passes, time) => {
            let point = Point { kind: Kind::Commit, is_after: false };
            let action = Action::Freeze(Who::Replica(n), time);
            return at_point(world, Wire::Database(n), point, passes, action).await;
        }
        Fault::Clock(n, seconds) => return world.clocks.jump(n, seconds),
        Fault::Kill(who, time) => kill(world, who, time).await,
        Fault::Freeze(who, time) => freeze(world, who, time).await,
        Fault::CrashBackend => crash_backend(world).await,
        Fault::Network(wire, mode, time, resets) => {
            let line = line(world, wire);
            line.set(mode);
            sleep(time).await;
            line.heal(resets && mode == Mode::HalfOpen).await;
            Ok(())
        }
        Fault::ReadOnly(time) => read_only(world, time).await,
        Fault::Defaults(time) => for_a_while(world, time, DEFAULTS, OWN_DEFAULTS).await,
        Fault::NoNotices(time) => for_a_while(world, time, NO_NOTICES, NOTICES).await,
        Fault::DiskFull(time) => disk_full(world, time).await,
        Fault::RollingRestart => rolling_restart(world).await,
        Fault::Upgrade => world.upgrade().await,
    }?;
    Ok(true)
}

fn line(world: &World, wire: Wire) -> &Proxy {
    match wire {
        Wire::Database(n) => &world.database_lines[n],
        Wire::Service(n) => &world.service_lines[n],
        Wire::Provider => &world.provider_line,
    }
}

async fn kill(world: &World, who: Who, time: Duration) -> Result<()> {
    let mut program = world.program(who).lock().await;
    program.kill();
    sleep(time).await;
    program.start()
}

async fn freeze(world: &World, who: Who, time: Duration) -> Result<()> {
    freeze_held(&*world.program(who).lock().await, time).await;
    Ok(())
}

async fn freeze_held(program: &Supervised, time: Duration) {
    signal_all(program, "STOP");
    sleep(time).await;
    signal_all(program, "CONT");
}

/// Sends a signal to all of PostgreSQL's processes, so that they stand still together.
fn signal_all(program: &Supervised, name: &str) {
    let Some(id) = program.id() else { return };
    // One of the processes may be gone by now.
    let _ = signal(name, children(id).into_iter().chain([id]));
}

fn children(id: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    listed.unwrap_or_default().split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

async fn crash_backend(world: &World) -> Result<()> {
    let program = world.program(Who::Postgres).lock().await;
    let children = program.id().map(children).unwrap_or_default();
    // Processes that serve a connection come last, after the helpers.
    let newest = children.len().saturating_sub(1);
    if let Some(id) = children.get(rand::rng().random_range(newest / 2..=newest)) {
        // The process may be gone by now.
        let _ = signal("KILL", [*id]);
    }
    Ok(())
}

/// Sets a trap at a named point. Returns whether anybody reached it.
async fn at_point(
    world: &World,
    wire: Wire,
    point: Point,
    passes: u32,
    action: Action,
) -> Result<bool> {
    let trap = line(world, wire).trap();
    let held = match timeout(TRAP_LIMIT, trap.arm(point, passes)).await {
        Ok(Ok(held)) => held,
        // Another trap took its place.
        Ok(Err(_)) => return Ok(false),
        Err(_) => {
            trap.disarm();
            return Ok(false);
        }
    };
    let verdict = match action {
        Action::Kill(who, time) => {
            // Another fault may hold the process, and wait in its turn for the connection held here.
            let Ok(mut program) = timeout(TURN_LIMIT, world.program(who).lock()).await else {
                let _ = held.send(Verdict::Cut);
                return Ok(true);
            };
            program.kill();
            // Dead processes neither send nor receive any more.
            let _ = held.send(Verdict::Cut);
            sleep(time).await;
            program.start()?;
            return Ok(true);
        }
        Action::Freeze(who, time) => {
            if let Ok(program) = timeout(TURN_LIMIT, world.program(who).lock()).await {
                freeze_held(&program, time).await;
            }
            Verdict::Pass
        }
        Action::Hold(time) => {
            sleep(time).await;
            Verdict::Pass
        }
        Action::Cut => Verdict::Cut,
    };
    // The connection may be gone.
    let _ = held.send(verdict);
    Ok(true)
}

async fn order(world: &World, sql: &str) -> Result<()> {
    let (client, connection) =
        tokio_postgres::connect(&postgres::url(world.database_port), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    for statement in sql.split(';') {
        client.batch_execute(statement).await?;
    }
    Ok(())
}

async fn read_only(world: &World, time: Duration) -> Result<()> {
    let set = "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()";
    let reset = "SET default_transaction_read_only = off; \
        ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()";
    for_a_while(world, time, set, reset).await
}

/// Gives PostgreSQL an order, and another after a while, as soon as PostgreSQL answers.
async fn for_a_while(world: &World, time: Duration, set: &str, reset: &str) -> Result<()> {
    // PostgreSQL may be away; then there is nothing to change.
    let _ = timeout(ORDER_LIMIT, order(world, set)).await;
    sleep(time).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match timeout(ORDER_LIMIT, order(world, reset)).await {
            Ok(Ok(())) => return Ok(()),
            other if Instant::now() > deadline => {
                return Err(format!("PostgreSQL does not undo {set:?}: {other:?}").into());
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Fills the disk to its last byte for a while. Without a disk of its own, writes are forbidden instead.
async fn disk_full(world: &World, time: Duration) -> Result<()> {
    if !world.disk.is_small {
        return read_only(world, time).await;
    }
    let ballast = world.disk.path.join("ballast");
    let filled = ballast.clone();
    tokio::task::spawn_blocking(move || {
        let Ok(mut file) = std::fs::File::create(filled) else { return };
        let piece = vec![0_u8; 1 << 20];
        while file.write_all(&piece).is_ok() {}
        while file.write_all(&piece[..4_096]).is_ok() {}
    })
    .await?;
    sleep(time).await;
    // Another fault may have removed the file.
    let _ = std::fs::remove_file(ballast);
    // PostgreSQL may have given up for good.
    world.program(Who::Postgres).lock().await.start()
}

async fn rolling_restart(world: &World) -> Result<()> {
    for n in 0..REPLICAS {
        let mut replica = world.program(Who::Replica(n)).lock().await;
        replica.stop().await?;
        replica.until_up().await?;
    }
    Ok(())
}
