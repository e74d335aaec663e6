//! The program `campaign-service`.
#![forbid(unsafe_code)]

use campaign_process::{init_logs, install_tls_provider, shutdown_signal};
use campaign_service::config::{Cli, Command, DatabaseArgs, ServeArgs};
use campaign_service::server::{self, Listeners, Options};
use campaign_service::store::migrations;
use clap::Parser;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tracing::{error, info};

/// Contacts come and go by the hundred thousand a second, on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match init_logs(&cli.logs) {
        Ok(()) => run(cli.command).await,
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
        Command::Serve(args) => serve(args).await,
        Command::Diagram => {
            use std::io::Write;
            Ok(std::io::stdout().write_all(campaign_domain::lifecycle::diagram().as_bytes())?)
        }
    }
}

async fn migrate(args: &DatabaseArgs) -> Outcome {
    install_tls_provider();
    let db = args.open()?;
    let applied = migrations::migrate(&db).await?;
    info!(applied, "the schema is up to date");
    Ok(())
}

async fn serve(args: Box<ServeArgs>) -> Outcome {
    let stop = shutdown_signal()?;
    install_tls_provider();
    let access = args.access.access(args.listen)?;
    let db = args.database.open()?;
    if !migrations::is_current(&db).await? {
        return Err("the database schema is too old; run `campaign-service migrate` first".into());
    }
    let links = args.links.links()?;
    let api = listen(args.listen).await?;
    info!(address = %api.local_addr()?, "serving");
    let clicks = match args.links.link_listen {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let options = Options {
        limits: args.dispatch_limits(),
        chores: args.chore_options(),
        links,
        access,
        calls: args.calls.limits(),
    };
    server::serve(Listeners { api, links: clicks }, db, options, stop).await?;
    info!("stopped");
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| format!("cannot listen on {address}: {error}"))
}
