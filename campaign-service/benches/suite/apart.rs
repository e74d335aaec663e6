//! Separation of clients and servers, as if they were on machines of their own. The benchmark has the last processor,
//! the service and PostgreSQL have the others.

use crate::scratch::Scratch;
use std::process::{Command, Stdio};

/// Separation that lasts until this value is dropped.
pub struct Apart {
    processors: usize,
    postmaster: Option<u32>,
}

impl Apart {
    /// Separates the processors. Returns `None`, and prints a line that says so, if they cannot be separated.
    pub async fn keep(scratch: &Scratch, service: u32) -> Option<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let others = processors.checked_sub(2).map(|last| format!("0-{last}"));
        let Some(others) = others.filter(|others| pin(service, others)) else {
            println!(
                "  clients and servers share the processors: no taskset, or only one processor"
            );
            return None;
        };
        let backends = backends(scratch).await;
        let postmaster =
            backends.first().copied().and_then(parent).filter(|pid| pin(*pid, &others));
        if postmaster.is_none() || !backends.into_iter().all(|pid| pin(pid, &others)) {
            println!("  PostgreSQL is elsewhere, or not ours, and keeps its processors");
        }
        pin(std::process::id(), &(processors - 1).to_string());
        Some(Self { processors, postmaster })
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let all = format!("0-{}", self.processors - 1);
        for pid in self.postmaster.into_iter().chain([std::process::id()]) {
            pin(pid, &all);
        }
    }
}

/// Returns the processes that serve connections to the database now.
async fn backends(scratch: &Scratch) -> Vec<u32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
    let rows = scratch.client().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get::<_, i32>(0).cast_unsigned()).collect()
}

/// Returns the process whose children serve connections, if it is on this machine.
fn parent(backend: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{backend}/stat")).ok()?;
    // Format: pid (name) state parent …
    let (name, rest) = stat.split_once(" (")?.1.rsplit_once(") ")?;
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    name.starts_with("postgres").then_some(parent)
}

fn pin(pid: u32, processors: &str) -> bool {
    let mut taskset = Command::new("taskset");
    taskset.args(["--all-tasks", "--cpu-list", "--pid", processors, &pid.to_string()]);
    taskset.stdout(Stdio::null()).stderr(Stdio::null());
    taskset.status().is_ok_and(|status| status.success())
}
