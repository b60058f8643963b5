//! A progress bar on standard error, for people who watch.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over so many bytes, or a count without end. Hidden unless standard error is a terminal; and where lines are
/// `printed` to a terminal too, for they would run into it.
pub(crate) fn bar(total_bytes: Option<u64>, printed: bool) -> ProgressBar {
    let watched = std::io::stderr().is_terminal() && !(printed && std::io::stdout().is_terminal());
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(total_bytes, target);
    let template = match total_bytes {
        Some(_) => "{elapsed_precise} {wide_bar} {percent}% {msg}",
        None => "{elapsed_precise} {spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
