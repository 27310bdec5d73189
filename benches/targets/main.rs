//! Every line of the project's targets for speed and memory, in both modes, each beside what it is compared to.
//!
//! `make bench` runs it and has it write docs/PERFORMANCE.md; `make bench-quick` takes smaller data, three rounds and
//! writes nothing. Through the C library, as a program sees it. A stage is some files and what is measured on them; each
//! has three processes of its own, one in locked mode, one in lockless mode, one for the other side (the same calls on a tmpfs, the
//! bare codec, a command). Each round measures them in turn, and a ratio is the median of the rounds' ratios, so that a
//! machine whose speed drifts does not tilt it.
//!
//! `--quick`: three rounds on smaller data. `--rounds N`: their number (5; at most 8). `--only TEXT`: the stages whose names hold the
//! text; `--list` names them. `--page`: docs/PERFORMANCE.md is written, of a whole run only. `--threads-csv FILE`: what
//! c_tests/benchmark_lockless.c wrote becomes the page's table of threads.

mod codec;
mod corpus;
mod machine;
mod memory;
mod names;
mod packed;
mod page;
mod player;
mod raw;
mod rest;
mod side;
mod stage;
mod table;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;

use side::Who;
use stage::Stage;
use table::Table;

/// What the command line asks for.
pub(crate) struct Options {
    rounds: usize,
    quick: bool,
    only: Option<String>,
    page: bool,
    threads_csv: Option<PathBuf>,
    list: bool,
    /// This process is a side of a stage.
    stage: Option<String>,
    side: Option<Who>,
}

/// A random read must find its block cold: each round has an eighth of the blocks.
const MOST_ROUNDS: usize = 8;

fn options() -> Result<Options, String> {
    let mut options = Options {
        rounds: 5,
        quick: false,
        only: None,
        page: false,
        threads_csv: None,
        list: false,
        stage: None,
        side: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--quick" => (options.quick, options.rounds) = (true, 3),
            "--rounds" => {
                options.rounds = value()?.parse().map_err(|_| "--rounds takes a number")?;
            }
            "--only" => options.only = Some(value()?),
            "--page" => options.page = true,
            "--threads-csv" => options.threads_csv = Some(value()?.into()),
            "--list" => options.list = true,
            "--stage" => options.stage = Some(value()?),
            "--side" => options.side = Some(value()?.parse()?),
            // What cargo bench adds.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if !(1..=MOST_ROUNDS).contains(&options.rounds) {
        return Err(format!("1 to {MOST_ROUNDS} rounds"));
    }
    if options.page && options.only.is_some() {
        return Err(String::from("the page is written of a whole run, without --only"));
    }
    Ok(options)
}

/// All stages, in the order of the targets.
fn stages() -> Vec<Stage> {
    let groups = [
        names::stages(),
        raw::stages(),
        packed::stages(),
        threads::stages(),
        rest::stages(),
        memory::stages(),
    ];
    groups.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if let Some(name) = &options.stage {
        let stage = stages().into_iter().find(|stage| stage.name == *name).ok_or("no such stage")?;
        return player::serve(&stage, options.side.ok_or("--stage needs --side")?, options);
    }
    if options.list {
        stages().iter().for_each(|stage| println!("{}", stage.name));
        return Ok(());
    }
    let begun = machine::Begun::now();
    corpus::prepare(options)?;
    let mut table = Table::begin();
    let wanted = |stage: &Stage| options.only.as_deref().is_none_or(|only| stage.name.contains(only));
    let mut failed = Vec::new();
    for stage in stages().iter().filter(|stage| wanted(stage)) {
        if let Err(why) = stage.play(options, &mut table) {
            eprintln!("bench: {}: {why}", stage.name);
            failed.push(stage.name);
        }
    }
    if wanted(&Stage::instructions()) {
        table.elsewhere(
            "locked mode, one thread, instructions per call",
            "within 3 % of a build without lockless",
            "make counts",
        );
    }
    println!("\n{}", machine::describe(&begun, options));
    println!("\n{}", table.closing());
    if options.page {
        page::write(&begun, options, &table)?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failed.join(", "))),
    }
}
