//! With the feature `header-check`: fails the build when include/ermfs.h is not what cbindgen makes of ermfs-capi.
//!
//! Never writes into the source tree. The header as it should be lies in the build folder, and where the environment
//! variable ERMFS_HEADER_OUT says; with that set nothing is compared, which is how `make header` gets it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "header-check")]
    header::check();
}

#[cfg(feature = "header-check")]
mod header {
    use std::path::{Path, PathBuf};
    use std::{env, fs, process};

    /// The order of the header.
    const SOURCES: [&str; 10] = [
        "filesystem",
        "files",
        "stream",
        "descriptors",
        "names",
        "metadata",
        "xattr",
        "directory",
        "view",
        "export",
    ];

    pub(super) fn check() {
        let capi = Path::new("ermfs-capi");
        let config = capi.join("cbindgen.toml");
        let checked_in = Path::new("include/ermfs.h");
        println!("cargo::rerun-if-env-changed=ERMFS_HEADER_OUT");
        for path in [&config, &capi.join("src"), &checked_in.to_path_buf()] {
            println!("cargo::rerun-if-changed={}", path.display());
        }

        let config = cbindgen::Config::from_file(&config).unwrap_or_else(|error| fail(&error));
        let builder = SOURCES.iter().fold(cbindgen::Builder::new().with_config(config), |builder, source| {
            builder.with_src(capi.join("src").join(source).with_extension("rs"))
        });
        let bindings = builder.generate().unwrap_or_else(|error| fail(&error.to_string()));
        let mut made = Vec::new();
        bindings.write(&mut made);

        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("ermfs.h");
        let wanted = env::var_os("ERMFS_HEADER_OUT").map(PathBuf::from);
        for path in [Some(&out), wanted.as_ref()].into_iter().flatten() {
            fs::write(path, &made).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
        }
        if wanted.is_none() && fs::read(checked_in).ok().as_ref() != Some(&made) {
            fail(&format!(
                "{} is not current: run `make header` (compare with {})",
                checked_in.display(),
                out.display()
            ));
        }
    }

    fn fail(message: &str) -> ! {
        println!("cargo::error={message}");
        process::exit(1)
    }
}
