//! The table of results: medians, the judgement of each line, and Markdown, a line on standard output as soon as it is known.

use std::fmt::Write;

use crate::side::Who;
use crate::stage::{Goal, Line, Samples};

const HEAD: &str = "| what | target | locked (min .. max) | lockless (min .. max) | reached: locked, lockless | locked; lockless; beside |\n\
                    | --- | --- | --- | --- | --- | --- |";

pub(crate) struct Table {
    text: String,
    /// Lines judged and lines reached, by mode.
    judged: [usize; 2],
    reached: [usize; 2],
    not_measured: Vec<String>,
}

/// One mode's part of a line.
struct Verdict {
    /// The figure that is judged, with its spread.
    figure: String,
    absolute: String,
    reached: bool,
}

impl Table {
    pub(crate) fn begin() -> Table {
        println!("{HEAD}");
        Table { text: format!("{HEAD}\n"), judged: [0; 2], reached: [0; 2], not_measured: Vec::new() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Judges a line and writes it.
    pub(crate) fn line(&mut self, line: &Line, samples: &Samples) {
        let verdicts = Who::OURS.map(|who| judge(line, samples, who));
        let judged = [!line.lockless_only, true];
        let mut words = [""; 2];
        for mode in 0..2 {
            let reached = judged[mode] && verdicts[mode].reached;
            self.judged[mode] += usize::from(judged[mode]);
            self.reached[mode] += usize::from(reached);
            words[mode] = match (judged[mode], reached) {
                (false, _) => "–",
                (true, true) => "yes",
                (true, false) => "**no**",
            };
        }
        let [locked, lockless] = verdicts;
        let mut absolute = [locked.absolute, lockless.absolute].join("; ");
        for beside in [line.theirs, line.limit].into_iter().flatten() {
            let value = median(&firsts(samples.of(Who::Other, beside.measurement)));
            let _ = write!(absolute, "; {} {} {}", beside.name, figure(value), line.unit);
        }
        self.row(&[
            &line.what,
            &target(line),
            &locked.figure,
            &lockless.figure,
            &words.join(", "),
            &absolute,
        ]);
    }

    /// Writes a line that this machine cannot measure.
    pub(crate) fn not_measured(&mut self, line: &Line, why: &str) {
        self.not_measured.push(line.what.clone());
        self.row(&[&line.what, &target(line), "not measured", "not measured", "", why]);
    }

    /// Writes a line that another command measures.
    pub(crate) fn elsewhere(&mut self, what: &str, target: &str, command: &str) {
        self.not_measured.push(what.to_owned());
        self.row(&[what, target, "not measured here", "", "", &format!("`{command}`")]);
    }

    fn row(&mut self, cells: &[&str]) {
        let row = format!("| {} |", cells.join(" | "));
        println!("{row}");
        self.text += &row;
        self.text.push('\n');
    }

    /// How much was reached.
    pub(crate) fn closing(&self) -> String {
        let [locked, lockless] =
            [0, 1].map(|mode| format!("{} of {}", self.reached[mode], self.judged[mode]));
        let mut text =
            format!("locked mode: {locked} lines reached; lockless mode: {lockless} lines reached");
        if !self.not_measured.is_empty() {
            let _ = write!(text, "; not measured: {}", self.not_measured.join(", "));
        }
        text
    }
}

fn judge(line: &Line, samples: &Samples, who: Who) -> Verdict {
    let ours = firsts(samples.of(who, line.ours));
    let theirs = line.theirs.map(|beside| firsts(samples.of(Who::Other, beside.measurement)));
    let pairs = |of: fn(f64, f64) -> f64| -> Vec<f64> {
        let theirs = theirs.as_ref().expect("a line of this goal has another side");
        ours.iter().zip(theirs).map(|(a, b)| of(*a, *b)).collect()
    };
    let (values, unit) = match line.goal {
        Goal::TimesFaster(_) => (pairs(|a, b| b / a), ""),
        Goal::AtLeast(_) => (pairs(|a, b| a / b), ""),
        Goal::Beyond(_) => (pairs(|a, b| a - b), line.unit),
        Goal::Under(_) => (ours.clone(), line.unit),
        Goal::TimesOf(..) => (ours.clone(), ""),
    };
    let value = median(&values);
    let reached = match line.goal {
        Goal::TimesFaster(least) | Goal::AtLeast(least) | Goal::TimesOf(least, _) => value >= least,
        Goal::Beyond(most) | Goal::Under(most) => value <= most,
    };
    let shown = with_spread(&values, unit);
    let all = columns(samples.of(who, line.ours));
    let absolute = match line.detail {
        Some(detail) => detail(&all),
        None if line.theirs.is_none() => String::from("–"),
        None => format!("{} {}", figure(all[0]), line.unit),
    };
    Verdict { figure: shown, absolute, reached }
}

fn target(line: &Line) -> String {
    let other = line.theirs.map_or("", |beside| beside.name);
    match line.goal {
        Goal::TimesFaster(times) | Goal::AtLeast(times) => format!("{times} x {other}"),
        Goal::Beyond(extra) => format!("{other} + {} {}", figure(extra), line.unit),
        Goal::Under(most) => format!("under {} {}", figure(most), line.unit),
        Goal::TimesOf(times, of) => format!("{times} x {of}"),
    }
}

fn with_spread(values: &[f64], unit: &str) -> String {
    let space = if unit.is_empty() { "" } else { " " };
    let value = figure(median(values));
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match values {
        [_] => format!("{value}{space}{unit}"),
        _ => format!("{value}{space}{unit} ({} .. {})", figure(least), figure(most)),
    }
}

fn firsts(rounds: &[Vec<f64>]) -> Vec<f64> {
    rounds.iter().map(|figures| figures[0]).collect()
}

/// The medians of each figure over the rounds.
fn columns(rounds: &[Vec<f64>]) -> Vec<f64> {
    (0..rounds[0].len())
        .map(|i| median(&rounds.iter().map(|figures| figures[i]).collect::<Vec<_>>()))
        .collect()
}

/// Of an even number of values the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// Three digits or so.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size < 0.005 => String::from("0"),
        _ => format!("{value:.2}"),
    }
}
