//! A side's process: the bench starts itself anew for each side of a stage and asks it for one measurement at a time.
//!
//! The process prepares its files, says so, and answers each name of a measurement, a line on its standard input, with the figures, a
//! line on its standard output. It ends with its input.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Options;
use crate::side::Who;
use crate::stage::Stage;

const READY: &str = "ready";

/// The bench's end of it. The process ends when this is dropped.
pub(crate) struct Player {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Player {
    /// Starts a side, which begins to prepare its files; `dir` is its working directory.
    pub(crate) fn start(stage: &Stage, who: Who, dir: &Path, options: &Options) -> Result<Player, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["--stage", stage.name, "--side", who.name()]).current_dir(dir);
        command.env("ERMFS_LOCKLESS", if who == Who::Lockless { "1" } else { "0" });
        if options.quick {
            command.arg("--quick");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("a process for {}: {error}", who.name()))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Ok(Player { child, input, output })
    }

    /// Waits until the side has prepared its files.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), String> {
        match self.line()?.as_str() {
            READY => Ok(()),
            other => Err(format!("a side answered {other:?}")),
        }
    }

    /// Has it begin a measurement.
    pub(crate) fn ask(&mut self, measurement: &str) -> Result<(), String> {
        let input = self.input.as_mut().expect("open until the end");
        writeln!(input, "{measurement}").map_err(|error| format!("a side has ended: {error}"))
    }

    /// Waits for the figures.
    pub(crate) fn answer(&mut self) -> Result<Vec<f64>, String> {
        let line = self.line()?;
        let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match figures {
            Ok(figures) if !figures.is_empty() => Ok(figures),
            _ => Err(format!("a side answered {line:?}")),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.output.read_line(&mut line) {
            Ok(0) => Err(String::from("a side ended without an answer")),
            Ok(_) => Ok(line.trim().to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

/// What a side's process does.
pub(crate) fn serve(stage: &Stage, who: Who, options: &Options) -> Result<(), String> {
    // A thread that fails ends the process: others may wait for it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::exit(101);
    }));
    let mut measure = (stage.prepare)(who, options);
    let say = |text: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| error.to_string())
    };
    say(READY)?;
    for line in std::io::stdin().lines() {
        let figures = measure(line.map_err(|error| error.to_string())?.trim());
        let words: Vec<String> = figures.iter().map(f64::to_string).collect();
        say(&words.join(" "))?;
    }
    Ok(())
}
