//! The command line of convgroups: a thin shell over the library.

mod cli;

use std::process::ExitCode;

use convgroups_host::plugin::examiner_main;

fn main() -> ExitCode {
    // Before anything else, so that a process which is to examine a plugin has nothing that it does not need.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cli::EXAMINE) {
        return examiner_main();
    }
    cli::main()
}
