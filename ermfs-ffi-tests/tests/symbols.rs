//! What `libermfs.so` promises the dynamic linker: which symbols it has, at which version, and what it asks of others.

use ermfs_ffi_tests::abi::library;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "ERMFS_0.1";

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(project(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn run(tool: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(tool).args(arguments).arg(file).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert!(
        output.status.success(),
        "{tool} {}: {}",
        file.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("ASCII")
}

/// The values of one kind of entry of the dynamic section, `[value]` or the words after the kind.
fn dynamic(kind: &str) -> Vec<String> {
    run("readelf", &["-dW"], library().unwrap())
        .lines()
        .filter_map(|line| line.split_once(&format!("({kind})")))
        .map(|(_, rest)| {
            rest.rsplit_once('[').map_or(rest, |(_, name)| name).trim_end_matches(']').trim().to_owned()
        })
        .collect()
}

fn golden() -> BTreeSet<String> {
    read("ermfs-ffi-tests/golden/symbols.txt").lines().map(str::to_owned).collect()
}

#[test]
fn exported_symbols_are_those_of_the_golden_list() {
    let text = run("nm", &["-D", "--defined-only", "--format=posix"], library().unwrap());
    let exported: BTreeSet<String> = text
        .lines()
        .map(|line| line.split(' ').next().expect("a name").to_owned())
        .filter(|name| *name != format!("{VERSION}@@{VERSION}") && name != VERSION)
        .collect();
    assert_eq!(exported, golden());
    for symbol in &exported {
        assert!(symbol.starts_with("ermfs_") && symbol.ends_with(&format!("@@{VERSION}")), "{symbol}");
    }
}

#[test]
fn header_declares_what_is_exported_and_nothing_else() {
    let header = read("include/ermfs.h");
    let declared: BTreeSet<String> = header
        .lines()
        .filter(|line| {
            !line.starts_with([' ', '/', '#']) && line.contains('(') && !line.starts_with("typedef")
        })
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next())
        .map(|name| format!("{name}@@{VERSION}"))
        .collect();
    assert_eq!(declared, golden());
}

#[test]
fn library_has_its_name_stays_loaded_and_is_bound_at_once() {
    assert_eq!(dynamic("SONAME"), ["libermfs.so.0"]);
    let flags = dynamic("FLAGS_1").join(" ");
    assert!(flags.contains("NODELETE"), "dlclose would unmap it: {flags}");
    assert!(flags.contains("NOW"), "{flags}");
    let segments = run("readelf", &["-lW"], library().unwrap());
    assert!(segments.contains("GNU_RELRO"));
    assert!(
        segments.lines().any(|line| line.contains("GNU_STACK") && line.contains("RW ")),
        "an executable stack"
    );
    assert!(dynamic("TEXTREL").is_empty());
}

#[test]
fn library_asks_only_for_the_c_library_and_the_unwinder() {
    for needed in dynamic("NEEDED") {
        let known =
            ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
        assert!(known.contains(&needed.as_str()), "{needed}");
    }
    for line in run("nm", &["-D", "--undefined-only", "--format=posix"], library().unwrap()).lines() {
        let mut words = line.split_whitespace();
        let (name, kind) = (words.next().expect("a name"), words.next().expect("a kind"));
        let versioned = name.contains("@GLIBC_") || name.contains("@GCC_");
        assert!(versioned || kind == "w", "{name} comes from nowhere");
    }
}

#[test]
fn no_function_that_prints_or_ends_the_process_on_purpose_is_called() {
    let undefined = run("nm", &["-D", "--undefined-only", "--format=posix"], library().unwrap());
    for line in undefined.lines() {
        let name = line.split(['@', ' ']).next().expect("a name");
        let forbidden = ["printf", "fprintf", "puts", "fputs", "perror", "exit", "_exit", "system"];
        assert!(!forbidden.contains(&name), "{name}");
    }
}
