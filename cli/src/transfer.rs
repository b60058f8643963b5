//! `convgroups export` and `import`.

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use convgroups_host::store::Store;
use convgroups_host::transfer::{
    Counts, Export, Import, ImportOptions, Phase, Progress, Source, TransferError, export_to,
};

use super::progress::{self, rate};
use super::{Done, Failed, Outcome, say};

/// For a file: standard input or output.
const DASH: &str = "-";

pub(crate) fn export(store: &dyn Store, file: &Path, resume: bool) -> Outcome {
    let exported = if file == Path::new(DASH) {
        if resume {
            return Err(Failed::Usage("what went to standard output cannot be resumed; name a file".to_owned()));
        }
        export_to(store, io::BufWriter::new(io::stdout().lock()), &mut Told::new(Counts::default(), true))?
    } else {
        let export = Export::begin(store, file, resume)?;
        let there = export.resumed().map(|(last, there)| {
            say(&format!("going on after user {last}: {there} are there"));
            there
        });
        let exported = export.run(&mut Told::new(there.unwrap_or_default(), false));
        exported.map_err(|error| Failed::Run(format!("{error}; go on with --resume")))?
    };
    say(&format!("exported {}, SHA-256 {}", exported.counts, exported.sha256));
    Ok(Done::Well)
}

pub(crate) fn import<S: Deref<Target = dyn Store>>(
    file: &Path,
    resume: bool,
    open: impl FnOnce() -> Result<S, Failed>,
    keep: u32,
) -> Outcome {
    let source = if file == Path::new(DASH) { Source::copy(file, io::stdin()) } else { Source::file(file) }?;
    let store = open()?;
    let progress = &mut Told::new(Counts::default(), false);
    let import = Import::check(&*store, source, ImportOptions { resume, keep }, progress)?;
    let written = import
        .write(progress)
        .map_err(|error| Failed::Run(format!("{error}; part of the file is imported, go on with --resume")))?;
    say(&format!("imported {written}{}", if resume { ", the rest was there already" } else { "" }));
    let verified = import.verify(progress).map_err(|error| Failed::Run(format!("not verified: {error}")))?;
    let digest = verified.sha256.map(|digest| format!(", SHA-256 {digest}")).unwrap_or_default();
    say(&format!("verified: the store has all of it{digest}"));
    Ok(Done::Well)
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Output(error) => Self::output(&error),
            TransferError::AlreadyThere { .. } => {
                Self::Run(format!("{error}; if an import of this file was interrupted, go on with --resume"))
            }
            TransferError::Interrupted { .. } => {
                Self::Run(format!("{error}: go on with --resume, or remove it to begin anew"))
            }
            error => Self::run(error),
        }
    }
}

/// Tells people how far it is.
struct Told {
    /// What was there before.
    before: Counts,
    /// Whether the output is printed.
    printed: bool,
    phase: Option<(Phase, progress::Progress)>,
}

impl Told {
    fn new(before: Counts, printed: bool) -> Self {
        Self { before, printed, phase: None }
    }
}

impl Progress for Told {
    fn begin(&mut self, phase: Phase, bytes: Option<u64>) {
        let what = match phase {
            Phase::Exporting => "exporting",
            Phase::Checking => "checking",
            Phase::Importing => "importing",
            Phase::Verifying => "verifying",
            _ => "working",
        };
        // The bar of the phase before goes first.
        self.phase = None;
        self.phase = Some((phase, progress::Progress::start(what, bytes, self.printed)));
    }

    fn advance(&mut self, bytes: u64, counts: &Counts) {
        let Some((phase, progress)) = &mut self.phase else { return };
        let users = counts.users.saturating_sub(self.before.users);
        progress.update(bytes, |elapsed: Duration| match phase {
            Phase::Exporting => format!("{counts}, {} users/s", rate(users, elapsed)),
            _ => format!("{counts}, {} groups/s", rate(counts.groups, elapsed)),
        });
    }
}
