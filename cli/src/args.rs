//! What can stand on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use convgroups_host::api::Method;
use convgroups_host::{EventId, UserId};

const EXAMPLES: &str = "\
Examples:
  convgroups call createConversationGroup --user alice \\
      --params '{\"groupName\":\"Work\",\"conversationIDList\":[\"c2c_bob\",\"group_42\"]}'
  convgroups call deleteConversationsFromGroup --user alice \\
      --params '{\"groupName\":\"Work\",\"conversationIDList\":[\"c2c_bob\"]}'
  convgroups run calls.ndjson --concurrency 64 > answers.ndjson
  convgroups events --user alice --follow
  convgroups inspect my-plugin.wasm
  convgroups serve --dev

Settings come from defaults, then the file convgroups.toml, then the environment (CONVGROUPS_LIMITS__MAX_GROUPS=30),
then flags; `convgroups config` shows the result. CONVGROUPS_LOG=info makes the log on standard error more talkative.";

/// Conversation groups for chat back ends, by a sandboxed plugin.
#[derive(Debug, Parser)]
#[command(name = "convgroups", version, after_help = EXAMPLES, max_term_width = 120)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Write the log as JSON lines.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Settings that can be given to every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The file with settings [default: convgroups.toml, if it is there].
    #[arg(long, global = true, value_name = "FILE", env = "CONVGROUPS_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where groups are kept: sqlite:PATH, postgres://USER@HOST/DATABASE or memory: [default: sqlite:convgroups.db].
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) store: Option<String>,
    /// The plugin's component [default: the reference plugin, built in].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) plugin: Option<PathBuf>,
    /// What plugins may do with WASI: refuse or inert [default: refuse].
    #[arg(long, global = true, value_name = "MODE")]
    pub(crate) wasi: Option<String>,
    /// Any setting, by its path: --set limits.max_groups=30.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one operation for one user and print its answer.
    ///
    /// Prints {"code":…,"desc":…,"data":…}. Exits with 0 when the code is 0, with 1 for another code, with 2 for wrong
    /// usage.
    #[command(after_help = "Example:\n  convgroups call getConversationGroupList --user alice")]
    Call(Call),
    /// Run operations from a file, one JSON object a line, and print their answers, one a line in the same order.
    ///
    /// A line is {"user":…,"method":…,"params":{…}}. Operations of one user keep their order, those of different users run
    /// side by side. An answer that was printed is durable. A line that cannot be read is answered with code 60003. Exits
    /// with 0 when every line was answered, whatever the answers say; the summary counts them.
    #[command(after_help = "Example:\n  convgroups run calls.ndjson --concurrency 64 > answers.ndjson")]
    Run(Run),
    /// Answer calls over HTTP: the SDK-shaped API (/v1), Tencent's REST API (/v4), a stream of events, and a console.
    ///
    /// Callers prove who they are by a UserSig. Its keys come from the file that auth.keys_file names, or from the
    /// environment variable CONVGROUPS_USERSIG_KEYS, never from a flag. Stops on SIGTERM or Ctrl-C when the calls in flight
    /// have ended. Reads keys, certificates and some settings again on SIGHUP; SIGUSR1 and SIGUSR2 are ignored.
    #[command(
        after_help = "Examples:\n  convgroups serve --dev\n  convgroups serve --listen 127.0.0.1:8080 --config production.toml"
    )]
    Serve(Serve),
    /// Make a UserSig, or look at one.
    ///
    /// Signs with the first of the app's keys (see `serve`). For tools and development: anybody with a UserSig can act as that user.
    #[command(
        after_help = "Examples:\n  convgroups usersig alice --set auth.sdk_app_id=1400000000\n  convgroups usersig --verify < signature"
    )]
    Usersig(Usersig),
    /// Print what changed for a user, one JSON object a line for each call that changed something.
    #[command(after_help = "Example:\n  convgroups events --user alice --after 17 --follow")]
    Events(Events),
    /// Tell what a plugin is and whether it can be loaded. Exits with 1 when it cannot.
    #[command(after_help = "Example:\n  convgroups inspect my-plugin.wasm --json")]
    Inspect(Inspect),
    /// Work with the built-in plugin.
    Plugin {
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Write everything of all users as JSON lines: groups, marks, custom data, versions.
    ///
    /// The data of a user are of one moment; the data of all users are of one moment only if no host changes the store. The last line has
    /// counts and a SHA-256, by which `import` tells a file that was cut off or damaged. A file grows as FILE.partial and
    /// gets its name when all of it is on disk.
    #[command(after_help = "Examples:\n  convgroups export --store sqlite:chat.db | gzip > groups.ndjson.gz\n  \
                            convgroups export groups.ndjson --resume")]
    Export {
        /// Where to; - is standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Go on with FILE.partial where an export was interrupted, if there is one; users in it are not read again.
        #[arg(long)]
        resume: bool,
    },
    /// Read what `export` wrote into a store.
    ///
    /// All of the file is checked before any of it is written, and read back from the store and compared afterwards. Users
    /// may have groups already, but none of the names in the file, and marks and custom data, but not of the conversations
    /// that have some in the file. Versions go on after those in the file, with a gap, so that readers of events who come
    /// from the other store begin with the whole state.
    #[command(after_help = "Examples:\n  convgroups import groups.ndjson --store sqlite:new.db\n  \
                            convgroups import groups.ndjson --store sqlite:new.db --resume")]
    Import {
        /// Where from; - is standard input.
        file: PathBuf,
        /// Go on where an import of the same file was interrupted: what is there exactly as in the file is left alone.
        #[arg(long)]
        resume: bool,
    },
    /// Copy a SQLite store, consistently, while a host may be writing to it.
    #[command(after_help = "Example:\n  convgroups backup monday.db --store sqlite:chat.db")]
    Backup {
        /// The file to make; it must not exist.
        destination: PathBuf,
    },
    /// Put a backup in the place of a SQLite store, and begin a new history of it.
    ///
    /// Refuses while a host runs or another program reads the store. The backup is checked as by `verify-store` before anything
    /// is changed, and is left as it is. Readers of events who have seen the store as it was begin with the whole state, instead
    /// of missing what came after the backup.
    #[command(after_help = "Examples:\n  convgroups restore monday.db --store sqlite:chat.db\n  \
                            convgroups restore --new-history --store postgres://chat@db.example.com/chat")]
    Restore {
        /// The backup.
        #[arg(required_unless_present = "new_history")]
        file: Option<PathBuf>,
        /// Only begin a new history, of a store that was set back by other means. Hosts on PostgreSQL may be running.
        #[arg(long, conflicts_with = "file")]
        new_history: bool,
    },
    /// Check a store: its structure, and that what it has of each user can be true. Prints a line for each thing that is wrong.
    ///
    /// Reads the store as of one moment, beside a host that may be writing to it. Exits with 1 when something is wrong.
    #[command(after_help = "Example:\n  convgroups verify-store --store sqlite:chat.db")]
    VerifyStore,
    /// Bring a store's schema to this program's version.
    ///
    /// Hosts do that themselves when they start, but for PostgreSQL with the setting postgres.migrate = false.
    #[command(after_help = "Example:\n  convgroups migrate --store postgres://chat@db.example.com/chat")]
    Migrate,
    /// Print the settings in force and where each comes from.
    Config,
    /// Print a script that completes commands in a shell.
    #[command(after_help = "Example:\n  convgroups completions bash > /etc/bash_completion.d/convgroups")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Write the built-in plugin to a file, for other hosts.
    #[command(after_help = "Example:\n  convgroups plugin export conversation-groups.wasm")]
    Export {
        /// The file to write; it must not exist.
        path: PathBuf,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For programs.
    Json,
    /// For people.
    Table,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The operation, as the SDK spells it (deleteConversationsFromGroup) or in kebab case.
    pub(crate) method: Method,
    /// The calling user.
    #[arg(long, value_name = "ID")]
    pub(crate) user: UserId,
    /// The parameters, by the SDK's names.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) params: String,
    /// How to print the answer.
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The file with operations; - is standard input.
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Operations at a time.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// How to print the answers.
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 for any that is free [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// For a first look: makes a key and an admin, prints calls that are ready to paste, and lifts the limits on rates.
    #[arg(long)]
    pub(crate) dev: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Usersig {
    /// Who it is for.
    #[arg(required_unless_present = "verify")]
    pub(crate) identifier: Option<UserId>,
    /// How long it holds, in seconds [default: 180 days].
    #[arg(long, value_name = "SECONDS", conflicts_with = "verify")]
    pub(crate) expire: Option<u64>,
    /// Check the UserSig on standard input instead, and print who it is for and until when, or which field is wrong.
    #[arg(long, conflicts_with = "identifier")]
    pub(crate) verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Whose.
    #[arg(long, value_name = "ID")]
    pub(crate) user: UserId,
    /// Only what came after this event: the "id" of its line, or its version alone.
    ///
    /// When the store was restored meanwhile, all of what the user has is printed instead of changes. With a version alone that
    /// is noticed only if the store has not reached the version.
    #[arg(long, value_name = "ID", default_value = "0")]
    pub(crate) after: EventId,
    /// Go on waiting for more.
    #[arg(long)]
    pub(crate) follow: bool,
    /// How to print them.
    #[arg(long, value_name = "FORM", default_value = "json")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The component.
    pub(crate) plugin: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
