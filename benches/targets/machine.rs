//! What the figures were measured on, and with which versions.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::{Options, corpus};

/// The moment before the first measurement.
pub(crate) struct Begun {
    at: Instant,
    load: String,
}

impl Begun {
    pub(crate) fn now() -> Begun {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        Begun { at: Instant::now(), load }
    }
}

/// Machine, versions and corpora, a list in Markdown.
pub(crate) fn describe(begun: &Begun, options: &Options) -> String {
    let processors = std::thread::available_parallelism().map_or(0, |count| count.get());
    let mut lines = vec![
        format!(
            "Machine: {processors} processors ({}), {} MiB of memory, {}, {}; load at the start {}.",
            field("/proc/cpuinfo", "model name"),
            memory(),
            first_line("uname", &["-sr"]),
            field_of("/etc/os-release", "PRETTY_NAME=").trim_matches('"'),
            begun.load
        ),
        format!("Versions: {}.", versions().join(", ")),
        format!(
            "Medians of the targets' lines: {} round(s){}, {} minutes.",
            options.rounds,
            if options.quick { ", quick: smaller data than the targets ask for" } else { "" },
            (begun.at.elapsed().as_secs() + 30) / 60
        ),
    ];
    lines.push(format!("Corpora, {} MiB together, in turns of 1 MiB:", corpus::mixed_size(options) >> 20));
    let origins = corpus::origins(options).into_iter().map(|origin| format!("  - {origin}"));
    let lines = lines.into_iter().map(|line| format!("- {line}")).chain(origins);
    lines.collect::<Vec<_>>().join("\n")
}

fn memory() -> u64 {
    let total = field("/proc/meminfo", "MemTotal");
    total.trim_end_matches(" kB").parse::<u64>().map_or(0, |kibibytes| kibibytes / 1024)
}

/// The value of the first line that begins so.
fn field_of(path: &str, start: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("unknown").trim().to_owned()
}

/// The same of a line `name : value`.
fn field(path: &str, name: &str) -> String {
    field_of(path, name).trim_start_matches(':').trim().to_owned()
}

fn versions() -> Vec<String> {
    let mut versions = vec![first_line("rustc", &["--version"]), first_line("gcc", &["--version"])];
    versions.extend([("gzip", "gzip"), ("bgzip", "tabix"), ("sqlite3", "sqlite3")].map(
        |(command, package)| {
            match first_line(command, &["--version"]) {
                line if line.is_empty() => format!("no {command} (Debian: {package})"),
                // sqlite3 says only its number and when it was made.
                line if command == "sqlite3" => {
                    format!("sqlite3 {}", line.split(' ').next().unwrap_or_default())
                }
                line => line,
            }
        },
    ));
    versions.push(format!("libdeflate-sys {}", locked_version("libdeflate-sys")));
    versions.retain(|version| !version.is_empty());
    versions
}

/// Of a crate, as Cargo.lock has it.
fn locked_version(name: &str) -> String {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap_or_default();
    let package = format!("name = \"{name}\"");
    let version =
        lock.lines().skip_while(|line| *line != package).find_map(|line| line.strip_prefix("version = "));
    version.unwrap_or("unknown").trim_matches('"').to_owned()
}

/// What a command says first, or nothing if it is not there.
fn first_line(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
