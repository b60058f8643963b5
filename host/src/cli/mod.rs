//! Commands, one module each.

mod args;
mod call;
mod config;
mod events;
mod inspect;
mod progress;
mod run;
mod table;
mod transfer;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use convgroups_host::store::{self, Store};
use convgroups_host::{Host, PluginSource, Settings};

use self::args::{Arguments, Command, PluginCommand};

/// Something that ends a command, told on standard error.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The command line or the settings are wrong.
    Usage(String),
    /// It was tried, and it failed.
    Run(String),
    /// Who reads the output has gone, which is nobody's fault.
    OutputClosed,
}

impl Failed {
    pub(crate) fn run(error: impl std::fmt::Display) -> Self {
        Self::Run(error.to_string())
    }

    /// For errors of writing to standard output.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Run(format!("could not write the output: {error}")),
        }
    }
}

/// How a command that worked ends.
pub(crate) enum Done {
    /// All is well.
    Well,
    /// It worked, and the answer was a failure.
    WithCode,
}

pub(crate) type Outcome = Result<Done, Failed>;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log(&arguments);
    match dispatch(arguments) {
        Ok(Done::Well) | Err(Failed::OutputClosed) => ExitCode::SUCCESS,
        Ok(Done::WithCode) => ExitCode::from(1),
        Err(Failed::Run(message)) => {
            eprintln!("convgroups: {message}");
            ExitCode::from(1)
        }
        Err(Failed::Usage(message)) => {
            eprintln!("convgroups: {message}");
            ExitCode::from(2)
        }
    }
}

fn start_log(arguments: &Arguments) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("CONVGROUPS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if arguments.log_json { log.json().init() } else { log.with_target(false).init() }
}

fn dispatch(arguments: Arguments) -> Outcome {
    let Arguments { global, command, .. } = arguments;
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "convgroups", &mut script);
            print(&script)
        }
        Command::Plugin { command: PluginCommand::Export { path } } => inspect::export(&path),
        Command::Config => config::print(&config::load(&global)?),
        Command::Call(command) => call::call(&host(&settings(&global)?)?, &command),
        Command::Run(command) => run::run(&host(&settings(&global)?)?, &command),
        Command::Events(command) => events::events(readable(&settings(&global)?)?, &command),
        Command::Inspect(command) => inspect::inspect(&settings(&global)?, &command),
        Command::Export { file } => transfer::export(&*readable(&settings(&global)?)?, &file),
        Command::Import { file } => {
            let settings = settings(&global)?;
            let store = store::open(&settings.store).map_err(Failed::run)?;
            transfer::import(&*store, &file, settings.events.keep_per_user)
        }
        Command::Backup { destination } => transfer::backup(&settings(&global)?.store, &destination),
    }
}

fn settings(global: &args::Global) -> Result<Settings, Failed> {
    config::load(global).map(|loaded| loaded.settings)
}

fn readable(settings: &Settings) -> Result<Arc<dyn Store>, Failed> {
    store::open_read_only(&settings.store).map_err(Failed::run)
}

fn host(settings: &Settings) -> Result<Host, Failed> {
    let store = store::open(&settings.store).map_err(Failed::run)?;
    let host = Host::builder().settings(settings.clone()).shared_store(store).plugin(plugin_source(settings));
    host.build().map_err(|error| match error {
        convgroups_host::BuildError::Setting(error) => Failed::Usage(error.to_string()),
        error => Failed::run(error),
    })
}

fn plugin_source(settings: &Settings) -> PluginSource {
    if settings.plugin.as_os_str().is_empty() {
        PluginSource::Bundled
    } else {
        PluginSource::File(settings.plugin.clone())
    }
}

/// Writes to standard output, at once.
pub(crate) fn print(text: &[u8]) -> Outcome {
    let mut output = std::io::stdout().lock();
    output.write_all(text).and_then(|()| output.flush()).map_err(|error| Failed::output(&error))?;
    Ok(Done::Well)
}
