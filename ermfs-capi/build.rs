//! Compiles what Rust cannot say: the variadic functions, and the weak symbols of stdio's lock.

fn main() {
    println!("cargo::rerun-if-changed=src/variadic.c");
    println!("cargo::rerun-if-changed=src/stdio_lock.c");
    cc::Build::new()
        .file("src/variadic.c")
        .file("src/stdio_lock.c")
        .std("c11")
        .warnings(true)
        .extra_warnings(true)
        .warnings_into_errors(true)
        .flag("-fvisibility=default")
        .compile("ermfs_variadic");
}
