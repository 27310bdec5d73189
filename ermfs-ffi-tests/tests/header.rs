//! `include/ermfs.h` as C and C++ compilers see it, and programs linked against both forms of the library.

use ermfs_ffi_tests::abi::library;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A file written and read back through the header's functions.
const PROGRAM: &str = r#"
#include "ermfs.h"
#include <string.h>

int main(void)
{
    struct ermfs_config config;
    struct ermfs_stats stats;
    char back[6];
    int root, fd;

    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.max_bytes = 1 << 20;
    root = ermfs_fsmount(&config);
    if (root < 0)
        return 1;
    fd = ermfs_openat(root, "file", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ermfs_write(fd, "hello", 6) != 6 || ermfs_pread(fd, back, 6, 0) != 6 || strcmp(back, "hello") != 0)
        return 2;
    if (ermfs_get_stats(root, &stats, sizeof stats) != 0 || stats.max_bytes != config.max_bytes || stats.files != 1)
        return 3;
    if (ermfs_close(fd) != 0 || ermfs_unlinkat(root, "file", 0) != 0 || ermfs_close(root) != 0)
        return 4;
    return ermfs_version()[0] == 0 ? 5 : 0;
}
"#;

fn project(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// Runs a compiler over `source`, given on its standard input.
fn compile(compiler: &str, arguments: &[&str], source: &str) -> Output {
    let language = if compiler == "g++" { "c++" } else { "c" };
    let mut child = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic"])
        .arg("-I")
        .arg(project("include"))
        .args(["-x", language, "-"])
        .args(["-x", "none"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    child.stdin.take().expect("piped").write_all(source.as_bytes()).expect("the compiler reads");
    child.wait_with_output().expect("the compiler ends")
}

/// The C++ compiler, where there is one.
fn cxx() -> Option<&'static str> {
    let there = Command::new("g++").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIPPED: C++ (needs g++; Debian: apt-get install g++)");
    }
    there.then_some("g++")
}

#[track_caller]
fn compiles(compiler: &str, arguments: &[&str], source: &str) {
    let output = compile(compiler, arguments, source);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} {}:\n{text}", arguments.join(" "));
}

#[test]
fn header_is_clean_c_and_cplusplus() {
    for standard in ["-std=c99", "-std=c11", "-std=gnu99", "-std=gnu17"] {
        compiles("gcc", &[standard, "-fsyntax-only"], PROGRAM);
    }
    if let Some(cxx) = cxx() {
        for standard in ["-std=c++11", "-std=c++17", "-std=gnu++20"] {
            compiles(cxx, &[standard, "-fsyntax-only"], PROGRAM);
        }
    }
    // Alone, and twice.
    compiles(
        "gcc",
        &["-std=c99", "-Wstrict-prototypes", "-fsyntax-only"],
        "#include \"ermfs.h\"\n#include \"ermfs.h\"\n",
    );
}

#[test]
fn header_refuses_what_is_not_lp64() {
    let output = compile("gcc", &["-std=c99", "-U__LP64__", "-fsyntax-only"], PROGRAM);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("ERMFS is for 64-bit Linux"));
}

/// Every function with a POSIX namesake can be assigned to a pointer to the namesake's type.
#[test]
fn functions_have_the_types_of_their_namesakes() {
    let list =
        std::fs::read_to_string(project("ermfs-ffi-tests/golden/symbols.txt")).expect("the golden list");
    let own = [
        "fsmount",
        "configure_default",
        "view_open",
        "view_close",
        "set_lockless_mode",
        "is_lockless",
        "export_memfd",
        "export_memfdat",
        "fexport_memfd",
        "export_gzip",
        "import_fd",
        "import_gzip",
        "get_stats",
        "fget_info",
        "version",
        "refresh_credentials",
        // The stream's type is the library's own.
        "opendir",
        "fdopendir",
        "readdir",
        "closedir",
        "rewinddir",
        "telldir",
        "seekdir",
        "dirfd",
    ];
    let mut source = String::from("#include <stdlib.h>\n#include <unistd.h>\n#include \"ermfs.h\"\n");
    let mut namesakes = 0;
    for symbol in list.lines() {
        let name = symbol.split('@').next().and_then(|name| name.strip_prefix("ermfs_")).expect("ermfs_NAME");
        if !own.contains(&name) {
            source += &format!("extern __typeof__({name}) *pointer_to_{name};\n");
            source += &format!("__typeof__({name}) *pointer_to_{name} = ermfs_{name};\n");
            namesakes += 1;
        }
    }
    assert!(namesakes >= 60, "only {namesakes}");
    compiles("gcc", &["-std=gnu11", "-D_GNU_SOURCE", "-fsyntax-only"], &source);
}

fn runs(name: &str, compiler: &str, arguments: &[&str]) {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let out = program.to_str().expect("a path in UTF-8");
    compiles(compiler, &[arguments, &["-o", out]].concat(), PROGRAM);
    let status = Command::new(&program).status().expect("the program runs");
    assert!(status.success(), "{name}: {status}");
}

#[test]
fn program_runs_with_the_shared_library() {
    let directory = library().unwrap().parent().expect("a folder").to_str().expect("a path in UTF-8");
    let rpath = format!("-Wl,-rpath,{directory}");
    runs("header_shared_c", "gcc", &["-std=c99", "-L", directory, &rpath, "-lermfs"]);
    if let Some(cxx) = cxx() {
        runs("header_shared_cxx", cxx, &["-std=c++11", "-L", directory, &rpath, "-lermfs"]);
    }
}

#[test]
fn program_runs_with_the_static_library() {
    let archive = library().unwrap().with_file_name("libermfs.a");
    let archive = archive.to_str().expect("a path in UTF-8");
    runs("header_static_c", "gcc", &["-std=c99", archive, "-lpthread", "-lm", "-ldl"]);
}
