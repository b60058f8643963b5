//! Examines plugins for the tests' hosts, as a program of an embedder's own does.

fn main() -> std::process::ExitCode {
    convgroups_host::plugin::examiner_main()
}
