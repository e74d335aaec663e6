//! The program `campaignctl`, which controls campaigns from a terminal. It calls the service through gRPC only.
#![forbid(unsafe_code)]

mod args;
mod asking;
mod campaigns;
mod cli;
mod config_args;
mod connection;
mod contacts;
mod doctor;
mod failure;
mod import;
mod interactions;
mod json;
mod launching;
#[cfg(test)]
mod methods;
mod names;
mod nearness;
mod pages;
mod printing;
mod profile;
mod running;
mod settings;
mod show;
mod suppressions;
mod text;
mod watch;
mod windows;
mod zones;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, ServiceCommand};
use connection::Connection;
use failure::Failure;
use printing::Printer;
use profile::Setup;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.global.output;
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` may close our output early; that is no error.
        Err(failure) if failure.is_broken_pipe => ExitCode::SUCCESS,
        Err(failure) => {
            failure.tell(format, &mut std::io::stderr());
            failure.exit.into()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    campaign_process::install_tls_provider();
    let printer = Printer::new(cli.global.output)?;
    match cli.command {
        Command::Completions { shell } => Ok(completions(shell)?),
        Command::Doctor => doctor::run(&printer, &cli.global).await,
        Command::Service(command) => {
            let setup = Setup::read(&cli.global)?;
            let connection = Connection::open(&setup).await?;
            obey(command, &connection, &printer).await.map_err(|failure| failure.at(&setup.url))
        }
    }
}

async fn obey(
    command: ServiceCommand,
    connection: &Connection,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        ServiceCommand::Campaigns(command) => campaigns::run(connection, printer, *command).await,
        ServiceCommand::Contacts(command) => contacts::run(connection, printer, *command).await,
        ServiceCommand::Suppressions(command) => {
            suppressions::run(connection, printer, command).await
        }
        ServiceCommand::Interactions(command) => {
            interactions::run(connection, printer, *command).await
        }
        ServiceCommand::Preview(args) => launching::preview(connection, printer, &args).await,
        ServiceCommand::Launch(args) => launching::launch(connection, printer, *args).await,
        ServiceCommand::Pause(args) => running::pause(connection, printer, args).await,
        ServiceCommand::Resume(args) => running::resume(connection, printer, args).await,
        ServiceCommand::Cancel(args) => running::cancel(connection, printer, args).await,
        ServiceCommand::Import(args) => import::run(connection, printer, *args).await,
        ServiceCommand::Watch(args) => watch::run(connection, printer, args).await,
    }
}

fn completions(shell: clap_complete::Shell) -> std::io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "campaignctl", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)
}
