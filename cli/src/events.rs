//! `convgroups events`: what changed.

use std::sync::Arc;
use std::time::Duration;

use convgroups_host::escape::json_for_people;
use convgroups_host::events::{Event, EventReader};
use convgroups_host::store::Store;
use serde::Serialize;

use super::args::{Events, Output};
use super::{Done, Failed, Outcome, print, table};

/// How long a single wait takes; it is begun again at once.
const WAIT: Duration = Duration::from_secs(60);

/// A line for programs: the event as apps receive it, and the ID to go on from.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    #[serde(flatten)]
    event: &'a Event,
}

pub(crate) fn events(store: Arc<dyn Store>, command: &Events) -> Outcome {
    let mut reader = EventReader::new(store, command.user.clone(), command.after);
    loop {
        let wait = if command.follow { WAIT } else { Duration::ZERO };
        let events = reader.wait(wait).map_err(Failed::run)?;
        if events.is_empty() {
            if command.follow {
                continue;
            }
            return Ok(Done::Well);
        }
        let text = match command.output {
            Output::Table => table::events(&events) + "\n",
            Output::Json => {
                let line = |event| Line { id: reader.id(event).to_string(), event };
                let mut text = String::new();
                for event in &events {
                    let json = serde_json::to_string(&line(event)).map_err(Failed::run)?;
                    text += &json_for_people(&json);
                    text.push('\n');
                }
                text
            }
        };
        print(text.as_bytes())?;
    }
}
