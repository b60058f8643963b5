//! Medians with their spread, and the table of what was to be reached.

use std::fmt;

/// The median of some rounds, with the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Figure {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len() / 2), least: at(0), most: at(values.len().saturating_sub(1)) }
    }

    /// How many times the other it is, round by round: rounds that took turns share the machine's moods.
    pub(crate) fn ratio(own: &[f64], other: &[f64]) -> Self {
        Self::of(own.iter().zip(other).map(|(own, other)| own / other))
    }
}

/// As a median and a range, with the digits that are asked for.
impl fmt::Display for Figure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = formatter.precision().unwrap_or(2);
        let text = format!("{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.least, self.most);
        // Not `pad`, to which digits would be the length of the text.
        write!(formatter, "{text:>width$}", width = formatter.width().unwrap_or_default())
    }
}

/// What was to be reached, and was or not.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<[String; 4]>);

/// A bound on a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    AtMost(f64),
    AtLeast(f64),
}

impl Report {
    /// Notes a figure with its unit and what it should be.
    pub(crate) fn note(&mut self, what: &str, figure: Figure, unit: &str, reach: Reach) {
        let (bound, is_met) = match reach {
            Reach::AtMost(most) => (format!("at most {most}"), figure.median <= most),
            Reach::AtLeast(least) => (format!("at least {least}"), figure.median >= least),
        };
        let met = if is_met { "yes" } else { "no" };
        self.0.push([what.to_owned(), format!("{figure}{unit}"), format!("{bound}{unit}"), met.to_owned()]);
    }

    pub(crate) fn print(&self) {
        println!("| what | median (least–most) | to reach | reached |\n|---|---|---|---|");
        for [what, figure, bound, met] in &self.0 {
            println!("| {what} | {figure} | {bound} | {met} |");
        }
    }
}
