//! `libermfs.a` in a program: it shows its functions and nothing else, gets on with another static library of Rust's, and
//! catches its own panics.

use ermfs_ffi_tests::abi::library;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library of another build of Rust's, as far as the linker can tell: it has std's symbols, and panics too.
const OTHER: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn other_catches(number: i32) -> i32 {
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(|| if number < 0 { panic!("below zero") } else { number }) {
        Ok(number) => number,
        Err(_) => -1,
    }
}
"#;

const BESIDE: &str = r#"
#include <ermfs.h>
int other_catches(int number);
/* A name that the library uses itself. */
void *libdeflate_alloc_compressor(int level) { (void)level; return 0; }

int main(void)
{
    int fd = ermfs_open("/file", O_CREAT | O_RDWR, 0600);
    char text[8192];
    int i;

    for (i = 0; i < (int)sizeof text; i++)
        text[i] = 'a';
    if (fd < 0 || ermfs_write(fd, text, sizeof text) != sizeof text || ermfs_close(fd) != 0)
        return 1;
    if (other_catches(3) != 3 || other_catches(-3) != -1)
        return 2;
    fd = ermfs_open("/file", O_RDONLY);
    text[8191] = 0;
    if (fd < 0 || ermfs_read(fd, text, sizeof text) != sizeof text || text[8191] != 'a')
        return 3;
    return 0;
}
"#;

/// Every large allocation of an import is refused in turn. One of them is the state that the decoder cannot do without: it
/// panics there, and the library catches that. The program counts the unwindings that were begun.
const PANICS: &str = r#"
#define _GNU_SOURCE
#include <ermfs.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static long large, refused = -1, unwindings;

static int refuses(size_t size)
{
    return size >= 16384 && large++ == refused;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
int __real_posix_memalign(void **place, size_t alignment, size_t size);
int __real__Unwind_RaiseException(void *exception);

void *__wrap_malloc(size_t size)
{
    return refuses(size) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuses(count * size) ? NULL : __real_calloc(count, size);
}

int __wrap_posix_memalign(void **place, size_t alignment, size_t size)
{
    return refuses(size) ? ENOMEM : __real_posix_memalign(place, alignment, size);
}

int __wrap__Unwind_RaiseException(void *exception)
{
    unwindings++;
    return __real__Unwind_RaiseException(exception);
}

int main(void)
{
    /* gzip of "hello". */
    static const unsigned char member[] = {
        31, 139, 8, 0, 0, 0, 0, 0, 0, 3, 203, 72, 205, 201, 201, 7, 0, 134, 166, 16, 54, 5, 0, 0, 0,
    };
    int memory = memfd_create("member", 0), fd, done = 0;
    char text[6] = "";

    if (memory < 0 || write(memory, member, sizeof member) != sizeof member)
        return 1;
    if (ermfs_import_gzip("/warm", memory, 0600) != 0)
        return 2;
    for (refused = 0; !done && refused < 100; refused++) {
        large = 0;
        errno = 0;
        if (ermfs_import_gzip("/file", memory, 0600) == 0)
            done = large <= refused;
        else if (errno != ENOMEM)
            return 3;
    }
    if (!done)
        return 4;
    if (unwindings == 0)
        return 5;
    fd = ermfs_open("/file", O_RDONLY);
    if (fd < 0 || ermfs_read(fd, text, 5) != 5 || strcmp(text, "hello") != 0)
        return 6;
    return 0;
}
"#;

fn archive() -> PathBuf {
    library().unwrap().with_file_name("libermfs.a")
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file of the tests' own folder that holds `text`.
fn written(name: &str, text: &str) -> PathBuf {
    let path = scratch(name);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path
}

#[track_caller]
fn output_of(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles a C program with the arguments given after its source, and runs it.
#[track_caller]
fn runs(name: &str, source: &Path, arguments: &[&Path], options: &[&str]) {
    let program = scratch(name);
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
    output_of(
        Command::new("cc")
            .args(["-Wall", "-Wextra", "-Werror", "-O1", "-I"])
            .arg(include)
            .arg("-o")
            .arg(&program)
            .arg(source)
            .args(arguments)
            .args(options),
    );
    output_of(&mut Command::new(&program));
}

#[test]
fn archive_shows_its_functions_and_nothing_else() {
    let defined = output_of(
        Command::new("nm").args(["--defined-only", "--extern-only", "--format=posix"]).arg(archive()),
    );
    let defined: BTreeSet<&str> =
        defined.lines().filter_map(|line| line.split_once(' ').map(|(name, _)| name)).collect();
    let golden = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/symbols.txt"))
        .expect("the golden list");
    let golden: BTreeSet<&str> = golden.lines().map(|line| line.split('@').next().expect("a name")).collect();
    assert_eq!(defined, golden);
    // A group of sections is one for all that have its name, whoever made them.
    let groups = output_of(Command::new("readelf").arg("--section-groups").arg(archive()));
    assert!(groups.contains("There are no section groups"), "{groups}");
}

#[test]
fn archive_stands_beside_another_of_rusts() {
    let other = scratch("libother.a");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    output_of(
        Command::new(rustc)
            .args(["--edition=2024", "--crate-type=staticlib", "--crate-name=other", "-o"])
            .arg(&other)
            .arg(written("other.rs", OTHER)),
    );
    let (source, archive) = (written("beside.c", BESIDE), archive());
    for (name, options) in [("shared", &[][..]), ("static", &["-static"]), ("pie", &["-static-pie"])] {
        runs(&format!("beside_{name}_1"), &source, &[&archive, &other], options);
        runs(&format!("beside_{name}_2"), &source, &[&other, &archive], options);
    }
}

#[test]
fn archive_catches_its_panics() {
    let wraps = ["malloc", "calloc", "posix_memalign", "_Unwind_RaiseException"]
        .map(|name| format!("-Wl,--wrap={name}"));
    let source = written("panics.c", PANICS);
    for (name, options) in [("panics_shared", &[][..]), ("panics_static", &["-static"])] {
        let options: Vec<&str> = wraps.iter().map(String::as_str).chain(options.iter().copied()).collect();
        runs(name, &source, &[&archive()], &options);
    }
}
