//! How commands end.

/// Something that ends a command, told on standard error.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The command line or the settings are wrong.
    Usage(String),
    /// It was tried, and it failed.
    Run(String),
    /// The reader of the output has gone. This is not an error.
    OutputClosed,
}

impl Failed {
    pub(crate) fn usage(error: impl std::fmt::Display) -> Self {
        Self::Usage(error.to_string())
    }

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
