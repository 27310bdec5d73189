//! The single-thread lines of the project's targets, each paired in one run with what it is compared to.
//!
//! `make bench` runs it and puts the table into docs/PERFORMANCE.md. Through the C library, as a program sees it;
//! the kernel's side makes the same calls on a tmpfs. Each round times one side and then the other, and the ratio
//! is the median of the rounds' ratios, so that a machine whose speed drifts does not tilt it.
//!
//! `--quick` runs three rounds on smaller data. `--rounds N` sets the number of rounds (default 5). `--only GROUP` runs the
//! lines of one group: memory, names, raw or packed.

mod corpus;
mod memory;
mod names;
mod packed;
mod raw;
mod side;

use std::process::ExitCode;

use side::{Sides, Table};

/// What the command line asks for.
pub(crate) struct Options {
    rounds: usize,
    quick: bool,
    only: Option<String>,
}

type Group = fn(&Sides, &Options, &mut Table);

fn options() -> Options {
    let mut options = Options { rounds: 5, quick: false, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => (options.quick, options.rounds) = (true, 3),
            "--rounds" => {
                options.rounds =
                    arguments.next().and_then(|n| n.parse().ok()).expect("--rounds takes a number")
            }
            "--only" => options.only = arguments.next(),
            // What cargo bench adds.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    options
}

fn main() -> ExitCode {
    let options = options();
    let sides = match Sides::open() {
        Ok(sides) => sides,
        Err(why) => {
            eprintln!("bench: {why}");
            return ExitCode::FAILURE;
        }
    };
    let mut table = Table::begin(&options);
    for (group, run) in
        [("memory", memory::run as Group), ("names", names::run), ("raw", raw::run), ("packed", packed::run)]
    {
        if options.only.as_deref().is_none_or(|only| only == group) {
            run(&sides, &options, &mut table);
        }
    }
    table.end();
    ExitCode::SUCCESS
}
