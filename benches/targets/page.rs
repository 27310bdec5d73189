//! docs/PERFORMANCE.md: what lies between two markers of one name is written anew, and nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Options;
use crate::machine::{self, Begun};
use crate::table::Table;

/// Puts the machine, the table of the targets and, where there is a CSV of it, the table of threads into the page.
///
/// # Errors
/// The page or the CSV cannot be read, the page not be written, or it lacks a marker; then it stays as it is.
pub(crate) fn write(begun: &Begun, options: &Options, table: &Table) -> Result<(), String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PERFORMANCE.md"));
    let mut page = read(&path)?;
    page = replace(&page, "machine", &machine::describe(begun, options))?;
    page = replace(&page, "targets", &format!("{}\n{}.", table.text(), table.closing()))?;
    if let Some(csv) = &options.threads_csv {
        page = replace(&page, "threads", &threads_table(&read(csv)?)?)?;
    }
    fs::write(&path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn replace(page: &str, name: &str, text: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- bench:begin {name} -->\n"), format!("<!-- bench:end {name} -->"));
    let missing = || format!("the page has no part between {} and {end}", begin.trim());
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

/// One mode's figures in a row.
struct Figures {
    per_second: f64,
    times_one: f64,
    p99: f64,
}

/// c_tests/benchmark_lockless.c writes a line for each mode; here the modes stand side by side, ratios first.
fn threads_table(csv: &str) -> Result<String, String> {
    // In the order of the file, which the number keeps.
    let mut rows: BTreeMap<usize, (String, BTreeMap<String, Figures>)> = BTreeMap::new();
    let mut last = String::new();
    for (number, line) in csv.lines().enumerate().skip(1) {
        let (key, mode, figures) = csv_line(line).ok_or_else(|| format!("not understood: {line}"))?;
        if key != last {
            rows.insert(number, (key.clone(), BTreeMap::new()));
            last = key;
        }
        rows.last_entry().expect("inserted above").into_mut().1.insert(mode, figures);
    }
    let mut text = String::from(
        "| operation | on | threads | x tmpfs: locked | lockless | lockless x locked | x one thread: locked | lockless | tmpfs | \
         million/s: locked | lockless | tmpfs | p99 us: locked | lockless | tmpfs |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (key, modes) in rows.values() {
        let of = |mode: &str, what: fn(&Figures) -> f64| modes.get(mode).map(what);
        let ratio = |a: &str, b: &str| Some(of(a, |f| f.per_second)? / of(b, |f| f.per_second)?);
        let mut cells =
            vec![ratio("locked", "tmpfs"), ratio("lockless", "tmpfs"), ratio("lockless", "locked")];
        let each: [fn(&Figures) -> f64; 3] = [|f| f.times_one, |f| f.per_second / 1e6, |f| f.p99 / 1e3];
        for what in each {
            cells.extend(["locked", "lockless", "tmpfs"].map(|mode| of(mode, what)));
        }
        let cells =
            cells.into_iter().map(|cell| cell.map_or(String::from("–"), |value| format!("{value:.2}")));
        text += &format!("| {key} | {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(text)
}

/// The row that a line of the CSV belongs to, its mode and its figures. The operation is quoted, and may hold a comma.
fn csv_line(line: &str) -> Option<(String, String, Figures)> {
    let (operation, rest) = line.strip_prefix('"')?.split_once("\",")?;
    let fields: Vec<&str> = rest.split(',').collect();
    let [files, threads, mode, per_second, times_one, _, _, _, p99, ..] = fields.as_slice() else {
        return None;
    };
    let figures = Figures {
        per_second: per_second.parse().ok()?,
        times_one: times_one.parse().ok()?,
        p99: p99.parse().ok()?,
    };
    Some((format!("{operation} | {files} | {threads}"), (*mode).to_owned(), figures))
}
