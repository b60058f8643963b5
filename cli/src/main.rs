//! The command line of convgroups: a thin shell over the library and the server. Commands have one module each.

mod args;
mod backup;
mod call;
mod config;
mod events;
mod inspect;
mod log;
mod migrate;
mod outcome;
mod outlet;
mod progress;
mod restore;
mod run;
mod serve;
mod settings;
mod table;
mod transfer;
mod usersig;
mod verify;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use convgroups_host::files;
use convgroups_host::plugin::examiner_main;
use convgroups_host::store::{self, Store};
use convgroups_host::{BuildError, Examiner, Host, PluginSource};

use self::args::{Arguments, Command, PluginCommand};
pub(crate) use self::outcome::{Done, Failed, Outcome};
use self::settings::Settings;

/// The argument by which this program starts itself to examine a plugin's file. It is not for people, and not in the help.
const EXAMINE: &str = "examine-plugin";

fn main() -> ExitCode {
    // Before anything else, so that a process that is to examine a plugin has nothing that it does not need.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == EXAMINE) {
        return examiner_main();
    }
    let arguments = Arguments::parse();
    // Dropped after the last word, which goes the same way.
    let _log = log::start(&arguments);
    let ended = dispatch(arguments);
    match ended {
        Ok(Done::Well) | Err(Failed::OutputClosed) => ExitCode::SUCCESS,
        Ok(Done::WithCode) => ExitCode::from(1),
        Err(Failed::Run(message)) => {
            say(&format!("convgroups: {message}"));
            ExitCode::from(1)
        }
        Err(Failed::Usage(message)) => {
            say(&format!("convgroups: {message}"));
            ExitCode::from(2)
        }
    }
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
        Command::Call(command) => call::call(&command, || host(&settings(&global)?)),
        Command::Run(command) => run::run(&command, || host(&settings(&global)?)),
        Command::Serve(command) => serve::serve(&global, &command),
        Command::Usersig(command) => usersig::usersig(&settings(&global)?, &command),
        Command::Events(command) => events::events(readable(&settings(&global)?)?, &command),
        Command::Inspect(command) => inspect::inspect(&settings(&global)?, &command),
        Command::Export { file, resume } => transfer::export(&*readable(&settings(&global)?)?, &file, resume),
        Command::Import { file, resume } => {
            let settings = settings(&global)?;
            let open = || store::open(&settings.store, &settings.postgres).map_err(Failed::run);
            transfer::import(&file, resume, open, settings.events.keep_per_user)
        }
        Command::Migrate => migrate::migrate(&settings(&global)?),
        Command::Backup { destination } => backup::backup(&settings(&global)?.store, &destination),
        Command::Restore { file, .. } => restore::restore(&settings(&global)?, file.as_deref()),
        Command::VerifyStore => verify::verify(&settings(&global)?),
    }
}

fn settings(global: &args::Global) -> Result<Settings, Failed> {
    config::load(global).map(|loaded| loaded.settings)
}

fn readable(settings: &Settings) -> Result<Arc<dyn Store>, Failed> {
    store::open_read_only(&settings.store, &settings.postgres).map_err(Failed::run)
}

fn host(settings: &Settings) -> Result<Host, Failed> {
    let store = store::open(&settings.store, &settings.postgres).map_err(Failed::run)?;
    let examiner = examiner()?;
    let built = settings.with_cache(|settings_of_host| {
        let host = Host::builder().settings(settings_of_host).store(Arc::clone(&store));
        host.plugin(plugin_source(settings)).plugin_examiner(examiner.clone()).build()
    });
    built.map_err(|error| match error {
        BuildError::Setting(error) => Failed::usage(error),
        error => Failed::run(error),
    })
}

/// A child process of this program.
fn examiner() -> Result<Examiner, Failed> {
    Examiner::this_program([EXAMINE]).map_err(Failed::run)
}

fn plugin_source(settings: &Settings) -> PluginSource {
    if settings.plugin.as_os_str().is_empty() {
        PluginSource::Bundled
    } else {
        PluginSource::File(settings.plugin.clone())
    }
}

/// Tells people something on standard error, if anybody can hear it.
pub(crate) fn say(message: &str) {
    let _ = outlet::write(format!("{message}\n").as_bytes());
}

/// Makes a file that appears under its name when it is complete and on disk. Refuses to replace one.
pub(crate) fn create(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Failed>) -> Result<(), Failed> {
    let failed = |error: &dyn std::fmt::Display| Failed::Run(format!("could not write {}: {error}", path.display()));
    if path.exists() {
        return Err(failed(&"the file exists already; name a new one"));
    }
    let mut partial = tempfile::NamedTempFile::new_in(files::parent(path)).map_err(|error| failed(&error))?;
    let mut output = BufWriter::new(partial.as_file_mut());
    write(&mut output)?;
    output.flush().map_err(|error| failed(&error))?;
    drop(output);
    partial.as_file().sync_all().map_err(|error| failed(&error))?;
    partial.persist_noclobber(path).map(drop).map_err(|error| failed(&error.error))
}

/// Writes to standard output, at once.
pub(crate) fn print(text: &[u8]) -> Outcome {
    let mut output = std::io::stdout().lock();
    output.write_all(text).and_then(|()| output.flush()).map_err(|error| Failed::output(&error))?;
    Ok(Done::Well)
}
