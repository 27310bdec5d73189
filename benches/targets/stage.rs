//! A stage: what is prepared, which measurements are taken in turn, and the lines of the table that they give.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::Options;
use crate::player::Player;
use crate::side::Who;
use crate::table::Table;

/// Takes the measurement of this name: its figure first, and then what goes with it.
pub(crate) type Measure = Box<dyn FnMut(&str) -> Vec<f64>>;

pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// Memory is measured once, in a fresh process, both modes at the same time; times are measured in rounds.
    pub(crate) once: bool,
    pub(crate) prepare: fn(Who, &Options) -> Measure,
    pub(crate) lines: fn(&Options) -> Vec<Line>,
}

/// How a line is judged.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// `other / ours` is at least this.
    TimesFaster(f64),
    /// `ours / other` is at least this.
    AtLeast(f64),
    /// Ours is at most so much above the other.
    Beyond(f64),
    /// Ours is at most this.
    Under(f64),
    /// Ours is at least this, of what the text says.
    TimesOf(f64, &'static str),
}

/// A measurement of the other side, and what it is called.
#[derive(Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) measurement: &'static str,
    pub(crate) name: &'static str,
}

/// A command that a line needs.
#[derive(Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) command: &'static str,
    pub(crate) package: &'static str,
}

/// A line of the table.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    /// The measurement of both modes.
    pub(crate) ours: &'static str,
    pub(crate) theirs: Option<Beside>,
    /// What nothing can go beyond; only shown.
    pub(crate) limit: Option<Beside>,
    pub(crate) needs: Option<Tool>,
    /// The targets ask it of the lockless mode only.
    pub(crate) lockless_only: bool,
    /// Says more of a mode's figures than the first of them.
    pub(crate) detail: Option<fn(&[f64]) -> String>,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, goal: Goal, ours: &'static str) -> Line {
        Line {
            what: what.into(),
            unit,
            goal,
            ours,
            theirs: None,
            limit: None,
            needs: None,
            lockless_only: false,
            detail: None,
        }
    }

    pub(crate) fn beside(self, name: &'static str, measurement: &'static str) -> Line {
        Line { theirs: Some(Beside { measurement, name }), ..self }
    }

    pub(crate) fn limit(self, name: &'static str, measurement: &'static str) -> Line {
        Line { limit: Some(Beside { measurement, name }), ..self }
    }

    pub(crate) fn needs(self, command: &'static str, package: &'static str) -> Line {
        Line { needs: Some(Tool { command, package }), ..self }
    }

    pub(crate) fn lockless_only(self) -> Line {
        Line { lockless_only: true, ..self }
    }

    pub(crate) fn detail(self, detail: fn(&[f64]) -> String) -> Line {
        Line { detail: Some(detail), ..self }
    }

    fn is_possible(&self) -> bool {
        self.needs.is_none_or(|tool| is_installed(tool.command))
    }

    /// The measurements it is made of: the other side's first, so that both modes follow it.
    fn measurements(&self) -> impl Iterator<Item = (bool, &'static str)> {
        let other = [self.limit, self.theirs].into_iter().flatten().map(|beside| (false, beside.measurement));
        other.chain([(true, self.ours)])
    }
}

pub(crate) fn is_installed(command: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(command).is_file()))
}

/// Figures by side and measurement, a round after the other.
#[derive(Default)]
pub(crate) struct Samples(HashMap<(Who, &'static str), Vec<Vec<f64>>>);

impl Samples {
    /// The figures of each round.
    pub(crate) fn of(&self, who: Who, measurement: &'static str) -> &[Vec<f64>] {
        self.0.get(&(who, measurement)).expect("each round takes all measurements")
    }
}

impl Stage {
    /// The one that another command measures.
    pub(crate) fn instructions() -> Stage {
        Stage {
            name: "instructions",
            once: true,
            prepare: |_, _| unreachable!("it is never played"),
            lines: |_| Vec::new(),
        }
    }

    /// Measures everything and writes the lines.
    pub(crate) fn play(&self, options: &Options, table: &mut Table) -> Result<(), String> {
        let (lines, without): (Vec<Line>, Vec<Line>) =
            (self.lines)(options).into_iter().partition(Line::is_possible);
        let samples = match lines.is_empty() {
            true => Ok(Samples::default()),
            false => self.measure(options, &lines),
        };
        match &samples {
            Ok(samples) => lines.iter().for_each(|line| table.line(line, samples)),
            Err(_) => lines.iter().for_each(|line| table.not_measured(line, "failed")),
        }
        for line in &without {
            let tool = line.needs.expect("it was left out for that");
            table.not_measured(line, &format!("needs {} (Debian: {})", tool.command, tool.package));
        }
        samples.map(drop)
    }

    fn measure(&self, options: &Options, lines: &[Line]) -> Result<Samples, String> {
        let place = Place::new(self.name)?;
        let others = lines.iter().any(|line| line.theirs.or(line.limit).is_some());
        let wanted = Who::ALL.into_iter().filter(|who| *who != Who::Other || others);
        let mut players: HashMap<Who, Player> = HashMap::new();
        for who in wanted {
            let mut player = Player::start(self, who, &place.0, options)?;
            if !self.once {
                player.wait_until_ready()?;
            }
            players.insert(who, player);
        }
        if self.once {
            players.values_mut().try_for_each(Player::wait_until_ready)?;
        }
        let mut samples = Samples::default();
        for round in 0..if self.once { 1 } else { options.rounds } {
            let mut taken = Vec::new();
            for measurement in lines.iter().flat_map(Line::measurements) {
                if !taken.contains(&measurement) {
                    self.take(measurement, round, &mut players, &mut samples)?;
                    taken.push(measurement);
                }
            }
        }
        Ok(samples)
    }

    /// One measurement: of the other side, or of both modes, which begin in turns.
    fn take(
        &self,
        (ours, measurement): (bool, &'static str),
        round: usize,
        players: &mut HashMap<Who, Player>,
        samples: &mut Samples,
    ) -> Result<(), String> {
        let mut sides = if ours { Who::OURS.to_vec() } else { vec![Who::Other] };
        if round % 2 == 1 {
            sides.reverse();
        }
        let ask = |players: &mut HashMap<Who, Player>, who| player(players, who).ask(measurement);
        if self.once {
            sides.iter().try_for_each(|who| ask(players, *who))?;
        }
        for who in &sides {
            if !self.once {
                ask(players, *who)?;
            }
            let figures = player(players, *who)
                .answer()
                .map_err(|why| format!("{measurement}, {}: {why}", who.name()))?;
            samples.0.entry((*who, measurement)).or_default().push(figures);
        }
        Ok(())
    }
}

fn player(players: &mut HashMap<Who, Player>, who: Who) -> &mut Player {
    players.get_mut(&who).expect("started before anything is asked of it")
}

/// A directory on a tmpfs, removed with all that is in it.
struct Place(PathBuf);

const TMPFS: &str = "/dev/shm";
/// In front of the number of the process that the directory belongs to.
const PREFIX: &str = "ermfs-bench-";

impl Place {
    fn new(stage: &str) -> Result<Place, String> {
        Place::clear();
        let dir = Path::new(TMPFS).join(format!("{PREFIX}{}-{stage}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        Ok(Place(dir))
    }

    /// Takes away what a bench that was killed has left.
    fn clear() {
        for entry in std::fs::read_dir(TMPFS).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
            if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
