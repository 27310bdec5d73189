//! Two sides of one sequence: the first difference, and a short sequence that shows it.
//!
//! Promises that a shrunk sequence still ends in a difference of the same shape. Owns nothing. Never changes the order
//! of steps.

use super::Setting;
use super::op::{Op, Step};
use super::sandbox::{Side, start};
use super::size;
use std::time::{Duration, Instant};

/// Where two sides part.
#[derive(Clone, Debug)]
pub(super) struct Mismatch {
    /// Which step.
    pub(super) index: usize,
    /// The answers of the two sides.
    pub(super) answers: [String; 2],
}

/// How long a sequence is shrunk at most.
const SHRINK_TIME: Duration = Duration::from_secs(40);

/// Runs a sequence on both sides.
pub(super) fn compare(
    sides: &[Side; 2],
    setting: &Setting,
    steps: &[Step],
) -> Result<Option<Mismatch>, String> {
    let left = start(&sides[0], setting, steps)?;
    let right = start(&sides[1], setting, steps);
    let left = left.finish();
    let (left, right) = (left?, right?.finish()?);
    let none = || "no answer".to_owned();
    let count = steps.len().max(left.len()).max(right.len());
    let parted = (0..count).find(|&index| {
        steps.get(index).is_none_or(|step| !agree(&step.op, left.get(index), right.get(index)))
    });
    let complains = right.iter().position(|answer| answer.contains("WRONG"));
    let index = [parted, complains].into_iter().flatten().min();
    Ok(index.map(|index| Mismatch {
        index: index.min(steps.len().saturating_sub(1)),
        answers: [
            left.get(index).cloned().unwrap_or_else(none),
            right.get(index).cloned().unwrap_or_else(none),
        ],
    }))
}

/// Whether both sides answered alike, where three lapses of tmpfs need not be shared: it may show an entry of a changing
/// directory twice after `seekdir`; it finds no data, and holes that overflow, near the largest offset; and at a `link` it gives the directory the
/// file's change time, which within one tick of the clock may be what it had.
fn agree(op: &Op, kernel: Option<&String>, other: Option<&String>) -> bool {
    let (Some(kernel), Some(other)) = (kernel, other) else { return kernel == other };
    match kernel.split_once("WRONG") {
        Some(("", _)) => other == size::FITTING,
        Some((kept, _)) => other == kept.trim_end_matches(", "),
        None if matches!(op, Op::Link { .. }) => kernel == other || link_moved_too_little(kernel, other),
        None => kernel == other,
    }
}

/// Whether the answers of a `link` differ only in change times that did not move on the kernel's side.
fn link_moved_too_little(kernel: &str, other: &str) -> bool {
    let parts = |answer: &str| {
        let (result, moved) = answer.split_once("times moved:")?;
        Some((result.to_owned(), moved.replace('c', ""), moved.matches('c').count()))
    };
    parts(kernel).zip(parts(other)).is_some_and(|(k, o)| (&k.0, &k.1) == (&o.0, &o.1) && k.2 < o.2)
}

/// What a difference has in common with its shorter forms: the call, and both answers without their numbers.
pub(super) fn shape(steps: &[Step], found: &Mismatch) -> String {
    let op = &steps[found.index].op;
    if op.is_walk() {
        return op.name().to_owned();
    }
    let plain = |answer: &String| {
        answer.chars().filter(|c| c.is_alphabetic() || *c == '=').take(24).collect::<String>()
    };
    format!("{} {}", op.name(), found.answers.each_ref().map(plain).join(" | "))
}

/// A short sequence whose last step is answered differently.
pub(super) fn shrink(
    sides: &[Side; 2],
    setting: &Setting,
    steps: &[Step],
    found: &Mismatch,
) -> (Vec<Step>, Mismatch) {
    let mut shrinker = Shrinker {
        sides,
        setting,
        shape: shape(steps, found),
        steps: steps[..=found.index].to_vec(),
        found: found.clone(),
        until: Instant::now() + SHRINK_TIME,
    };
    loop {
        let before = shrinker.steps.clone();
        shrinker.remove_chunks();
        shrinker.simplify_steps();
        if shrinker.steps == before || Instant::now() > shrinker.until {
            return (shrinker.steps, shrinker.found);
        }
    }
}

struct Shrinker<'a> {
    sides: &'a [Side; 2],
    setting: &'a Setting,
    shape: String,
    steps: Vec<Step>,
    found: Mismatch,
    until: Instant,
}

impl Shrinker<'_> {
    /// Takes the candidate when it still shows a difference of the same shape.
    fn accept(&mut self, candidate: Vec<Step>) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        let Ok(Some(found)) = compare(self.sides, self.setting, &candidate) else { return false };
        if shape(&candidate, &found) != self.shape {
            return false;
        }
        self.steps = candidate[..=found.index].to_vec();
        self.found = found;
        true
    }

    fn remove_chunks(&mut self) {
        let mut size = (self.steps.len() / 2).max(1);
        loop {
            let mut start = 0;
            while start + 1 < self.steps.len() {
                let end = (start + size).min(self.steps.len() - 1);
                let candidate = [&self.steps[..start], &self.steps[end..]].concat();
                if !self.accept(candidate) {
                    start = end;
                }
            }
            if size == 1 {
                return;
            }
            size /= 2;
        }
    }

    fn simplify_steps(&mut self) {
        let mut index = 0;
        while index < self.steps.len() {
            let step = &self.steps[index];
            let mut simpler: Vec<Step> =
                step.op.simpler().into_iter().map(|op| Step { watch: step.watch, op }).collect();
            if step.watch {
                simpler.insert(0, Step { watch: false, op: step.op.clone() });
            }
            let better = simpler.into_iter().any(|step| {
                let mut candidate = self.steps.clone();
                candidate[index] = step;
                self.accept(candidate)
            });
            // A step that became simpler is tried again.
            if !better {
                index += 1;
            }
        }
    }
}
