//! How far a long job is, on standard error: a bar for people who watch, a line now and then for logs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;

/// How often a line is written where there is no bar.
const LINES_EVERY: Duration = Duration::from_secs(10);
/// How often the bar's text changes.
const TEXT_EVERY: Duration = Duration::from_millis(100);

/// A bar over this many bytes, or a count without end. Hidden unless standard error is a terminal; and where lines are
/// `printed` to a terminal too, for they would run into it.
pub(crate) fn bar(total_bytes: Option<u64>, printed: bool) -> ProgressBar {
    let watched = std::io::stderr().is_terminal() && !(printed && std::io::stdout().is_terminal());
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total_bytes, target);
    let template = match total_bytes {
        Some(_) => "{elapsed_precise} {prefix}{wide_bar} {percent}% {msg}",
        None => "{elapsed_precise} {prefix}{spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A job that tells how far it is until it is dropped: by a bar, or in lines where standard error is no terminal.
pub(crate) struct Progress {
    what: &'static str,
    total_bytes: Option<u64>,
    bar: ProgressBar,
    lines: bool,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// As [`bar`], of something that is being done.
    pub(crate) fn start(what: &'static str, total_bytes: Option<u64>, printed: bool) -> Self {
        let bar = bar(total_bytes, printed);
        bar.set_prefix(format!("{what} "));
        let now = Instant::now();
        Self { what, total_bytes, bar, lines: !std::io::stderr().is_terminal(), started: now, told: now }
    }

    /// This many bytes are done, and what is to be said about it, given the time it took.
    pub(crate) fn update(&mut self, bytes: u64, text: impl FnOnce(Duration) -> String) {
        let interval = if self.lines { LINES_EVERY } else { TEXT_EVERY };
        if self.told.elapsed() < interval {
            return;
        }
        self.told = Instant::now();
        let text = text(self.started.elapsed());
        if self.lines {
            say(&line(self.what, bytes, self.total_bytes, &text));
        } else {
            self.bar.set_position(bytes);
            self.bar.set_message(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn line(what: &str, bytes: u64, total_bytes: Option<u64>, text: &str) -> String {
    let percent = total_bytes.and_then(|total| bytes.saturating_mul(100).checked_div(total));
    match percent {
        Some(percent) => format!("{what}: {percent}%, {text}"),
        None => format!("{what}: {text}"),
    }
}

/// Items per second.
pub(crate) fn rate(items: u64, elapsed: Duration) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "shown to people, rounded"
    )]
    let rate = (items as f64 / elapsed.as_secs_f64().max(1e-9)) as u64;
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_the_share_where_the_whole_is_known() {
        assert_eq!(line("importing", 50, Some(200), "7 users"), "importing: 25%, 7 users");
        assert_eq!(line("importing", 0, Some(0), "0 users"), "importing: 0 users");
        assert_eq!(line("exporting", 0, None, "7 users"), "exporting: 7 users");
    }
}
