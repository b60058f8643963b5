//! `convgroups export`.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use convgroups_host::UserId;
use convgroups_host::store::Store;

use super::format::{self, Counts, Line, Tally};
use super::ordered::in_order;
use super::partial::Partial;
use super::stored::{self, Users};
use crate::progress::{Progress, rate};
use crate::{Done, Failed, Outcome, say};

/// Users that are read at a time.
const READERS: usize = 8;

pub(crate) fn export(store: &dyn Store, file: &Path, resume: bool) -> Outcome {
    let tally = if file == Path::new("-") {
        if resume {
            return Err(Failed::Usage("what went to standard output cannot be resumed; name a file".to_owned()));
        }
        to_standard_output(store)?
    } else {
        to_file(store, file, resume)?
    };
    say(&format!("exported {}, SHA-256 {}", tally.counts, tally.sha256()));
    Ok(Done::Well)
}

fn to_standard_output(store: &dyn Store) -> Result<Tally, Failed> {
    let mut output = BufWriter::new(io::stdout().lock());
    let tally = whole(store, true, |lines| output.write_all(lines).map_err(|error| Failed::output(&error)))?;
    output.flush().map_err(|error| Failed::output(&error))?;
    Ok(tally)
}

fn to_file(store: &dyn Store, file: &Path, resume: bool) -> Result<Tally, Failed> {
    let (mut partial, begun) = Partial::open(file, resume, store)?;
    let written = match begun {
        Some(begun) => {
            say(&format!("going on after user {}: {} are there", begun.last, begun.tally.counts));
            go_on(store, Some(begun.last), begun.tally, false, |lines| partial.write(lines))
        }
        None => whole(store, false, |lines| partial.write(lines)),
    };
    match written {
        Ok(tally) => partial.finish().map(|()| tally),
        Err(Failed::Run(reason)) => Err(Failed::Run(format!("{reason}; go on with --resume"))),
        Err(failed) => Err(failed),
    }
}

fn whole(
    store: &dyn Store,
    printed: bool,
    mut write: impl FnMut(&[u8]) -> Result<(), Failed>,
) -> Result<Tally, Failed> {
    let header = format::header()?;
    let mut tally = Tally::default();
    tally.add(&header, Counts::default());
    write(&header)?;
    go_on(store, None, tally, printed, write)
}

/// Writes the users after `last`, and the last line.
fn go_on(
    store: &dyn Store,
    last: Option<UserId>,
    mut tally: Tally,
    printed: bool,
    mut write: impl FnMut(&[u8]) -> Result<(), Failed>,
) -> Result<Tally, Failed> {
    let mut progress = Progress::start("exporting", None, printed);
    let mut users = 0;
    let read = |user: UserId| {
        // What a user has is of one moment.
        let part = stored::whole(store, &user)?;
        Ok((part.encode()?, part.counts()))
    };
    let take = |(lines, counts): (Vec<u8>, Counts)| {
        write(&lines)?;
        tally.add(&lines, counts);
        users += 1;
        progress.update(0, |elapsed| format!("{}, {} users/s", tally.counts, rate(users, elapsed)));
        Ok(())
    };
    in_order(READERS, Users::after(store, last), |user| user, read, take)?;
    drop(progress);
    write(&Line::End(tally.end()).encode()?)?;
    Ok(tally)
}
