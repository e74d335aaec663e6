//! Options of a program: from flags, the environment and a file, in that order, with the source of
//! each.

use crate::files::read_key_file;
use crate::telemetry::LogFilter;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Parser};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::{Table, Value};
use tracing::{error, info, warn};

/// Interval between two checks of the file.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Option that may change while the program runs.
const LOG: &str = "log";
/// Options that a file cannot set.
const NOT_IN_FILES: [&str; 2] = ["config_file", "print_config"];

/// Sources of options besides flags and the environment.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// TOML file with more options: `lease_ttl_seconds = 30` for --lease-ttl-seconds 30. Flags and
    /// the environment take precedence. A changed `log` takes effect within seconds, other options
    /// after a restart
    #[arg(long, global = true, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Print every option with its value and source, then exit
    #[arg(long, global = true)]
    pub print_config: bool,
}

/// Options, and the file that holds some of them.
#[derive(Debug)]
pub struct Options<T> {
    /// Parsed options.
    pub options: T,
    /// File to follow, if there is one.
    pub file: Option<OptionsFile>,
}

/// Reads the options of this program. `file_variable` is the environment variable that names the
/// file. Exits after --help, after --print-config and on an error.
#[must_use]
pub fn options<T: Parser>(file_variable: &'static str) -> Options<T> {
    let command = T::command().mut_arg("config_file", |arg| arg.env(file_variable));
    let read = read(command, std::env::args_os().collect());
    let parsed = read.and_then(|mut read| {
        if read.matches.get_flag("print_config") {
            print(&read.shown());
        }
        let options = T::from_arg_matches_mut(&mut read.matches)?;
        Ok(Options { options, file: read.file })
    });
    parsed.unwrap_or_else(|error| error.exit())
}

#[allow(clippy::print_stdout, reason = "it was asked for")]
fn print(text: &str) {
    print!("{text}");
    std::process::exit(0);
}

/// Options as read.
struct Read {
    command: Command,
    matches: ArgMatches,
    file: Option<OptionsFile>,
    from_file: Vec<String>,
}

fn read(mut command: Command, mut args: Vec<OsString>) -> Result<Read, clap::Error> {
    command.build();
    // First pass: finds the options file and the options set elsewhere. Errors are reported in the
    // second pass.
    let first = command.clone().ignore_errors(true).try_get_matches_from(&args)?;
    let path = first.get_one::<PathBuf>("config_file").cloned();
    let Some(path) = path else {
        let matches = command.clone().try_get_matches_from(args)?;
        return Ok(Read { command, matches, file: None, from_file: Vec::new() });
    };
    let wrong = |text: String| command.clone().error(ErrorKind::InvalidValue, text);
    let table = load(&path).map_err(wrong)?;
    known(&command, &table, &path).map_err(wrong)?;
    let (chosen, given) = deepest(&command, &first);
    let comes_first = |id| {
        let source = given.value_source(id);
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let mut from_file = Vec::new();
    for (key, value) in &table {
        // Skipped: an option of another command, or one that a flag or the environment has set.
        let Some(arg) = chosen.get_arguments().find(|arg| name(arg).as_ref() == Some(key)) else {
            continue;
        };
        let id = arg.get_id().as_str();
        if comes_first(id) {
            continue;
        }
        let said = flags(arg, key, value);
        args.extend(said.map_err(|error| wrong(format!("{}: {error}", path.display())))?);
        from_file.push(id.to_owned());
    }
    let matches = command.clone().try_get_matches_from(args)?;
    let file =
        OptionsFile { path, command: command.clone(), table, log_is_fixed: comes_first(LOG) };
    Ok(Read { command, matches, file: Some(file), from_file })
}

/// Returns the selected command and its arguments.
fn deepest<'a>(command: &'a Command, matches: &'a ArgMatches) -> (&'a Command, &'a ArgMatches) {
    match matches.subcommand() {
        Some((name, matches)) => match command.find_subcommand(name) {
            Some(command) => deepest(command, matches),
            None => (command, matches),
        },
        None => (command, matches),
    }
}

fn load(path: &Path) -> Result<Table, String> {
    let bytes = read_key_file(path)
        .map_err(|error| format!("--config-file {} cannot be read: {error}", path.display()))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| format!("--config-file {} is not UTF-8 text", path.display()))?;
    text.parse().map_err(|error| format!("--config-file {}: {error}", path.display()))
}

/// Rejects an option that no command of the program has.
fn known(command: &Command, table: &Table, path: &Path) -> Result<(), String> {
    let unknown = table.keys().find(|key| !knows(command, key));
    match unknown {
        Some(key) => Err(format!(
            "{}: {key:?} is not an option; write an option's name without dashes in front, and with _ for -, as \
             in --help",
            path.display()
        )),
        None => Ok(()),
    }
}

fn knows(command: &Command, key: &str) -> bool {
    command.get_arguments().any(|arg| name(arg).as_deref() == Some(key))
        || command.get_subcommands().any(|command| knows(command, key))
}

/// Returns the option's name in a file, if a file can set it.
fn name(arg: &Arg) -> Option<String> {
    let action = arg.get_action();
    let name = arg.get_long()?.replace('-', "_");
    let is_option = action.takes_values() || matches!(action, ArgAction::SetTrue);
    (is_option && !NOT_IN_FILES.contains(&name.as_str())).then_some(name)
}

/// Converts a value of the file to flags, so that the rules of flags hold for files.
fn flags(arg: &Arg, key: &str, value: &Value) -> Result<Vec<OsString>, String> {
    let long = arg.get_long().unwrap_or_default();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value {
            Value::Boolean(true) => Ok(vec![format!("--{long}").into()]),
            Value::Boolean(false) => Ok(Vec::new()),
            _ => Err(format!("{key} must be true or false")),
        };
    }
    let values = match value {
        Value::Array(values) if matches!(arg.get_action(), ArgAction::Append) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    let said = |value: &Value| match value {
        Value::String(text) => Ok(format!("--{long}={text}").into()),
        Value::Integer(_) | Value::Float(_) => Ok(format!("--{long}={value}").into()),
        _ => Err(format!("{key} must be a text or a number")),
    };
    values.iter().map(said).collect()
}

impl Read {
    /// Renders every option in the format of the file.
    fn shown(&self) -> String {
        let (command, matches) = deepest(&self.command, &self.matches);
        let mut text = String::new();
        for (arg, key) in command.get_arguments().filter_map(|arg| Some((arg, name(arg)?))) {
            let id = arg.get_id().as_str();
            let source = match matches.value_source(id) {
                None => {
                    let _ = writeln!(text, "# {key} is not set");
                    continue;
                }
                Some(_) if self.from_file.iter().any(|from| from == id) => "file".to_owned(),
                Some(ValueSource::CommandLine) => "flag".to_owned(),
                Some(ValueSource::EnvVariable) => {
                    let variable = arg.get_env().unwrap_or_default().to_string_lossy();
                    format!("environment, {variable}")
                }
                Some(_) => "default".to_owned(),
            };
            let _ = writeln!(text, "{key} = {}  # {source}", value(arg, matches));
        }
        text
    }
}

fn value(arg: &Arg, matches: &ArgMatches) -> String {
    let id = arg.get_id().as_str();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return matches.get_flag(id).to_string();
    }
    // An option whose value is hidden in the help text is a secret.
    if arg.is_hide_env_values_set() {
        return Value::from("(not shown)").to_string();
    }
    let raw = matches.get_raw(id).into_iter().flatten();
    let mut values: Vec<Value> = raw.map(|value| plain(&value.to_string_lossy())).collect();
    match arg.get_action() {
        ArgAction::Append => Value::Array(values).to_string(),
        _ => values.pop().map(|value| value.to_string()).unwrap_or_default(),
    }
}

/// Parses a number as a number.
fn plain(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| Value::from(text), Value::from)
}

/// File of options while the program runs.
#[derive(Debug)]
pub struct OptionsFile {
    path: PathBuf,
    command: Command,
    table: Table,
    /// Whether a flag or the environment sets `log`.
    log_is_fixed: bool,
}

impl OptionsFile {
    /// Applies changes of `log` as long as the program runs. A file with an error is reported and
    /// changes nothing.
    pub async fn follow(mut self, logs: LogFilter) {
        let mut last_error = String::new();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            match self.look(&logs) {
                Ok(()) => last_error.clear(),
                Err(error) if error == last_error => {}
                Err(error) => {
                    error!("{error}; the options from before stay in use");
                    last_error = error;
                }
            }
        }
    }

    fn look(&mut self, logs: &LogFilter) -> Result<(), String> {
        let new = load(&self.path)?;
        if new == self.table {
            return Ok(());
        }
        known(&self.command, &new, &self.path)?;
        if new.get(LOG) != self.table.get(LOG) && !self.log_is_fixed {
            let log = match new.get(LOG) {
                Some(value) => value.as_str().ok_or("log must be a text")?,
                None => crate::telemetry::DEFAULT_LOG,
            };
            logs.set(log)?;
            info!(log, "what is logged changed");
        }
        let keys = self.table.keys().chain(new.keys().filter(|key| !self.table.contains_key(*key)));
        let changed: Vec<&str> = keys
            .filter(|key| *key != LOG && self.table.get(*key) != new.get(*key))
            .map(String::as_str)
            .collect();
        if !changed.is_empty() {
            warn!(
                options = changed.join(", "),
                "options changed that are in use after a restart only"
            );
        }
        self.table = new;
        Ok(())
    }
}
