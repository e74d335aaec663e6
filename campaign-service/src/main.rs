//! Program `campaign-service`.
#![forbid(unsafe_code)]

use campaign_process::{
    Options, init_logs, install_tls_provider, listen, options, shutdown_signal,
};
use campaign_service::app::campaigns::auditing::{self, Verified};
use campaign_service::app::people::erased::Erased;
use campaign_service::config::{Cli, Command, DatabaseArgs, ServeArgs};
use campaign_service::server::{self, Listeners};
use campaign_service::starting::until_usable;
use campaign_service::store::fitness::{self, Finding, Verdict};
use campaign_service::store::migrations;
use campaign_service::zone_data::ZoneArgs;
use std::io::Write;
use std::process::ExitCode;
use tracing::{error, info};
use uuid::Uuid;

/// Allocator for several threads that allocate and free contacts, hundreds of thousands a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let Options { options: cli, file } = options::<Cli>("CAMPAIGN_CONFIG_FILE");
    let outcome = match init_logs(&cli.logs) {
        Ok(logs) => {
            if let Some(file) = file {
                tokio::spawn(file.follow(logs));
            }
            run(cli.command).await
        }
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Migrate { database } => migrate(&database).await,
        Command::Doctor { database, zones } => doctor(&database, &zones).await,
        Command::Serve(args) => serve(args).await,
        Command::VerifyAudit { database, campaign } => {
            verify_audit(&database, campaign.as_deref()).await
        }
        Command::Diagram => {
            Ok(std::io::stdout().write_all(campaign_domain::lifecycle::diagram().as_bytes())?)
        }
    }
}

async fn migrate(args: &DatabaseArgs) -> Outcome {
    install_tls_provider();
    let db = args.open()?;
    let findings = fitness::check_server(&db).await?;
    if let Some(unfit) = findings.into_iter().find(|finding| finding.verdict == Verdict::Unfit) {
        return Err(unfit.text.into());
    }
    let applied = migrations::migrate(&db).await?;
    info!(applied, "the schema is up to date");
    Ok(())
}

/// Reports the state of the database. Fails if the service cannot use the database.
async fn doctor(args: &DatabaseArgs, zones: &ZoneArgs) -> Outcome {
    install_tls_provider();
    let mut findings = fitness::check(&args.open()?).await?;
    findings.push(zones.finding());
    let mut report = std::io::stdout();
    for Finding { verdict, text } in &findings {
        let word = match verdict {
            Verdict::Good => "ok",
            Verdict::Risky => "warn",
            Verdict::NotYet | Verdict::Unfit => "FAIL",
        };
        writeln!(report, "{word:<4}  {text}")?;
    }
    match findings.iter().filter(|finding| finding.verdict > Verdict::Risky).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} checks failed", findings.len()).into()),
    }
}

/// Reports for each audit log whether it is intact. Fails if a log was altered.
async fn verify_audit(args: &DatabaseArgs, campaign: Option<&str>) -> Outcome {
    install_tls_provider();
    let db = args.open()?;
    let mut report = std::io::stdout();
    let (mut logs, mut changed) = (0_u64, 0_u64);
    let mut todo = match campaign {
        Some(name) => vec![campaign_id(name)?],
        None => auditing::next_campaigns(&db, Uuid::nil()).await?,
    };
    while let Some(last) = todo.last().copied() {
        for id in todo {
            let verified = auditing::verify(&db, id).await?;
            logs += 1;
            changed += u64::from(!verified.findings.is_empty());
            tell(&mut report, &verified)?;
        }
        todo = match campaign {
            Some(_) => Vec::new(),
            None => auditing::next_campaigns(&db, last).await?,
        };
    }
    if changed > 0 {
        return Err(format!("{changed} of {logs} audit logs were altered").into());
    }
    Ok(writeln!(report, "{logs} audit logs are intact")?)
}

fn campaign_id(name: &str) -> Result<Uuid, String> {
    let id = name.strip_prefix("campaigns/").unwrap_or(name).parse();
    id.map_err(|_| format!("--campaign {name:?} must be as in campaigns/ID"))
}

fn tell(report: &mut impl Write, verified: &Verified) -> std::io::Result<()> {
    let Verified { campaign, events, without_hash, findings, head } = verified;
    let what = if findings.is_empty() { "intact" } else { "CHANGED" };
    write!(report, "campaigns/{campaign}: {what}, {events} events")?;
    if *without_hash > 0 {
        write!(report, ", the first {without_hash} from before hashes, not verified")?;
    }
    if let Some(head) = head {
        let hex: String = head.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(report, ", event {} has {hex}", head.number)?;
    }
    writeln!(report)?;
    findings.iter().try_for_each(|finding| writeln!(report, "  {finding}"))
}

async fn serve(args: Box<ServeArgs>) -> Outcome {
    let stop = shutdown_signal()?;
    install_tls_provider();
    args.zones.install()?;
    tokio::spawn(args.zones.clone().follow());
    let access = args.access.access(args.listen)?;
    let db = args.database.open()?;
    let traces = args.traces.start("campaign-service")?;
    let health = args.health.start().await?;
    tokio::select! {
        usable = until_usable(&db) => usable?,
        () = stop.cancelled() => return Ok(()),
    }
    let links = args.links.links()?;
    let eraser = args.eraser()?;
    Erased::new(eraser.clone()).check(&db).await?;
    let api = listen(args.listen).await?;
    info!(address = %api.local_addr()?, "serving");
    let clicks = match args.links.link_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let metrics = match args.metrics_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let options = server::Options {
        limits: args.dispatch_limits(),
        chores: args.chore_options(),
        links,
        eraser,
        access,
        calls: args.calls.limits(),
        connections: args.calls.connections(),
        reading: args.calls.reading(),
        side: args.health.side.limits(),
    };
    let listeners = Listeners { api, links: clicks, metrics };
    let served = server::serve(listeners, db, options, health, stop).await;
    traces.finish().await;
    served?;
    info!("stopped");
    Ok(())
}
