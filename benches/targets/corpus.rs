//! What is compressed: source text, programs, JSON and database pages, made of what a Debian machine and cargo's registry hold anyway.
//!
//! Each kind is one file under cargo's target directory, made at the first run, with a line beside it that says what it was made of.
//! Where there is too little of a kind it is repeated, which gzip and ERMFS do not notice: neither looks further back than
//! 32 or 64 KiB. The same machine gives the same bytes.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Options;
use crate::stage::is_installed;

const MIB: usize = 1 << 20;
const DIR: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/bench-corpus");

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Source,
    Elf,
    Json,
    Database,
}

const KINDS: [Kind; 4] = [Kind::Source, Kind::Elf, Kind::Json, Kind::Database];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Source => "source",
            Kind::Elf => "elf",
            Kind::Json => "json",
            Kind::Database => "database",
        }
    }

    fn file(self, options: &Options, extension: &str) -> PathBuf {
        Path::new(DIR).join(format!("{}-{}.{extension}", self.name(), kind_size(options) / MIB))
    }
}

/// Bytes of each kind.
fn kind_size(options: &Options) -> usize {
    if options.quick { 8 * MIB } else { 64 * MIB }
}

/// Bytes of all kinds together.
pub(crate) fn mixed_size(options: &Options) -> usize {
    KINDS.len() * kind_size(options)
}

/// The kinds that this machine has.
pub(crate) fn kinds(options: &Options) -> impl Iterator<Item = Kind> {
    KINDS.into_iter().filter(|kind| kind.file(options, "bin").exists())
}

/// What each kind was made of.
pub(crate) fn origins(options: &Options) -> Vec<String> {
    kinds(options).map(|kind| fs::read_to_string(kind.file(options, "txt")).unwrap_or_default()).collect()
}

/// The whole of a kind.
pub(crate) fn load_all(kind: Kind, options: &Options) -> Vec<u8> {
    load(kind, options, kind_size(options))
}

/// The first `len` bytes of a kind.
pub(crate) fn load(kind: Kind, options: &Options, len: usize) -> Vec<u8> {
    let path = kind.file(options, "bin");
    let mut bytes = vec![0; len];
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.read_exact_at(&mut bytes, 0).expect("the corpus is as long as it was made");
    bytes
}

/// All kinds in turns of 1 MiB.
pub(crate) fn mixed(options: &Options) -> Vec<u8> {
    let parts = Parts::open(options);
    let mut bytes = vec![0; mixed_size(options)];
    bytes.chunks_mut(MIB).enumerate().for_each(|(part, chunk)| parts.read(part, chunk));
    bytes
}

/// The same, a MiB at a time and without an end.
pub(crate) struct Parts {
    files: Vec<File>,
    each: usize,
}

impl Parts {
    pub(crate) fn open(options: &Options) -> Parts {
        let open = |kind: Kind| File::open(kind.file(options, "bin")).expect("it exists");
        let files: Vec<File> = kinds(options).map(open).collect();
        assert!(!files.is_empty(), "the corpus is made before anything is measured");
        Parts { files, each: kind_size(options) / MIB }
    }

    pub(crate) fn read(&self, part: usize, chunk: &mut [u8]) {
        let (file, place) = (part % self.files.len(), part / self.files.len() % self.each);
        self.files[file]
            .read_exact_at(chunk, (place * MIB) as u64)
            .expect("the corpus is as long as it was made");
    }
}

/// Makes what is not there yet.
///
/// # Errors
/// Nothing to make it of, or no room for it.
pub(crate) fn prepare(options: &Options) -> Result<(), String> {
    fs::create_dir_all(DIR).map_err(|error| format!("{DIR}: {error}"))?;
    for kind in KINDS {
        let path = kind.file(options, "bin");
        if path.exists() {
            continue;
        }
        eprintln!("bench: making {}", path.display());
        let Some((bytes, origin)) = make(kind, kind_size(options))? else { continue };
        let new = kind.file(options, "new");
        fs::write(kind.file(options, "txt"), origin)
            .and_then(|()| fs::write(&new, bytes))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// The bytes and what they are, or nothing where a tool is missing.
fn make(kind: Kind, size: usize) -> Result<Option<(Vec<u8>, String)>, String> {
    let registry = registry();
    let made = match kind {
        Kind::Source => {
            let files = gather(&[Path::new("/usr/include"), &registry], size, &is_source);
            repeated(files, size, "source text: headers of /usr/include, then C and Rust of crates")
        }
        Kind::Elf => {
            let files = gather(&[Path::new("/usr/bin"), Path::new("/usr/lib")], size, &is_elf);
            repeated(files, size, "ELF: programs of /usr/bin, then libraries of /usr/lib")
        }
        Kind::Json => {
            let is_json = |path: &Path, _: &[u8]| has_extension(path, &["json"]);
            let mut files = gather(&[Path::new("/usr/share"), &registry], size / 2, &is_json);
            let found = files.bytes.len();
            json_records(size - found, &mut files.bytes);
            let what = format!(
                "JSON: {:.1} MiB found in /usr/share and crates, the rest generated: records like an indexer's log, one a line, each with \
                 a line of source text",
                found as f64 / MIB as f64
            );
            repeated(files, size, &what)
        }
        Kind::Database => return database(size),
    };
    made.map(Some)
}

/// What files hold, one after the other.
struct Files {
    count: usize,
    bytes: Vec<u8>,
}

type IsWanted<'a> = &'a dyn Fn(&Path, &[u8]) -> bool;

/// Where cargo keeps the crates that it fetched.
fn registry() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    home.unwrap_or_default().join("registry/src")
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| extensions.contains(&extension))
}

/// C++'s headers have no extension.
fn is_source(path: &Path, bytes: &[u8]) -> bool {
    let in_include = path.starts_with("/usr/include") && !bytes.contains(&0);
    in_include || has_extension(path, &["c", "h", "cc", "cpp", "rs"])
}

fn is_elf(_: &Path, bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

fn gather(dirs: &[&Path], most: usize, is_wanted: IsWanted) -> Files {
    let mut files = Files { count: 0, bytes: Vec::new() };
    dirs.iter().for_each(|dir| gather_from(dir, most, is_wanted, &mut files));
    files.bytes.truncate(most);
    files
}

/// In the order of names, so that it is the same each time.
fn gather_from(dir: &Path, most: usize, is_wanted: IsWanted, files: &mut Files) {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if files.bytes.len() >= most {
            return;
        }
        match path.symlink_metadata() {
            Ok(status) if status.is_dir() => gather_from(&path, most, is_wanted, files),
            Ok(status) if status.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                if is_wanted(&path, &bytes) {
                    files.count += 1;
                    files.bytes.extend(bytes);
                }
            }
            _ => {}
        }
    }
}

fn repeated(files: Files, size: usize, what: &str) -> Result<(Vec<u8>, String), String> {
    let found = files.bytes.len();
    if found == 0 {
        return Err(format!("nothing on this machine for the corpus of {what}"));
    }
    let mut origin = format!("{what} ({} files)", files.count);
    if found < size {
        let _ =
            write!(origin, "; {:.1} MiB of it, repeated to {} MiB", found as f64 / MIB as f64, size / MIB);
    }
    Ok((files.bytes.into_iter().cycle().take(size).collect(), origin))
}

/// Lines of source text, for what is generated.
fn source_lines(size: usize) -> Vec<String> {
    let files = gather(&[Path::new("/usr/include"), &registry()], size, &is_source);
    let text = String::from_utf8_lossy(&files.bytes);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn json_records(size: usize, bytes: &mut Vec<u8>) {
    const SERVICES: [&str; 5] = ["indexer", "fetcher", "gateway", "scheduler", "store"];
    let end = bytes.len() + size;
    let lines = source_lines(size);
    let mut time = 1_767_225_600_000u64;
    for (i, line) in lines.iter().cycle().enumerate() {
        if bytes.len() >= end || lines.is_empty() {
            return;
        }
        let hash = line.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        time += hash % 977;
        let text = line
            .chars()
            .filter(|c| !c.is_control())
            .collect::<String>()
            .replace('\\', "\\\\")
            .replace('"', "\\\"");
        let record = format!(
            "{{\"time\":{time},\"level\":\"{}\",\"service\":\"{}\",\"request\":\"{hash:016x}\",\"sequence\":{i},\"bytes\":{},\
             \"took_ms\":{}.{},\"tags\":[\"{}\",\"line\"],\"text\":\"{text}\"}}\n",
            if hash % 29 == 0 { "warn" } else { "info" },
            SERVICES[(hash >> 8) as usize % SERVICES.len()],
            line.len(),
            hash >> 16 & 127,
            hash >> 24 & 7,
            if line.ends_with(';') { "statement" } else { "other" },
        );
        bytes.extend(record.as_bytes());
    }
}

/// A database of source lines, two tables and two indexes, by the sqlite3 command or by Python's module.
fn database(size: usize) -> Result<Option<(Vec<u8>, String)>, String> {
    const PYTHON: &str = "import sqlite3,sys; sqlite3.connect(sys.argv[1],isolation_level=None).executescript(sys.stdin.read())";
    let path = Path::new(DIR).join(format!("new-{}.sqlite", std::process::id()));
    let mut command = if is_installed("sqlite3") {
        Command::new("sqlite3")
    } else if is_installed("python3") {
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON]);
        python
    } else {
        eprintln!(
            "bench: SKIPPED: the corpus of database pages needs sqlite3 (Debian: apt-get install sqlite3) or python3"
        );
        return Ok(None);
    };
    let failed = |error: std::io::Error| format!("the database: {error}");
    let mut child = command.arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(failed)?;
    let script = database_script(size);
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(size as u64).read_to_end(&mut bytes));
    let _ = fs::remove_file(&path);
    read.map_err(failed)?;
    if !status.success() {
        return Err(format!("the database: {status}"));
    }
    let what = "database: pages of an SQLite file, lines of source text in two tables with two indexes";
    repeated(Files { count: 1, bytes }, size, what).map(Some)
}

fn database_script(size: usize) -> String {
    let mut script = String::from(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN;\n\
         CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT, lines INTEGER, size INTEGER);\n\
         CREATE TABLE lines (file INTEGER, number INTEGER, hash INTEGER, text TEXT);\n\
         CREATE INDEX lines_by_file ON lines (file, number); CREATE INDEX lines_by_hash ON lines (hash);\n",
    );
    // Rows with their indexes take somewhat more than their text.
    for (i, part) in source_lines(size * 3 / 4).chunks(200).enumerate() {
        let bytes: usize = part.iter().map(String::len).sum();
        let _ = writeln!(script, "INSERT INTO files VALUES ({i}, 'part-{i:06}', {}, {bytes});", part.len());
        for (number, line) in part.iter().enumerate() {
            let hash = line.bytes().fold(5381u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
            let text = line.replace('\0', "").replace('\'', "''");
            let _ = writeln!(script, "INSERT INTO lines VALUES ({i}, {number}, {hash}, '{text}');");
        }
    }
    script.push_str("COMMIT;\n");
    script
}
