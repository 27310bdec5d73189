//! From an error to a sentence that says what to do.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use ermfs_core::Errno;
use ermfs_fuse::MountOptions;

const FUSE: &str = "/dev/fuse";

/// Why a filesystem could not be made.
pub(crate) fn not_made(error: Errno) -> String {
    match error {
        Errno::ENOSPC => "size is too small to hold a root directory; give it some megabytes".into(),
        Errno::ENOMEM => "the machine has no memory left".into(),
        error => format!("cannot make a filesystem: {error}"),
    }
}

/// What keeps a directory from being mounted on, as far as it can be seen before.
///
/// # Errors
/// The sentence.
pub(crate) fn look_at(dir: &Path) -> Result<(), String> {
    let shown = dir.display();
    match std::fs::metadata(dir) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(format!("{shown} is not a directory; mount on one")),
        Err(error) => {
            return Err(match error.raw_os_error() {
                Some(libc::ENOENT) => format!("{shown} does not exist; make it first: mkdir -p {shown}"),
                Some(libc::ENOTCONN) => left_over(dir),
                _ => format!("{shown}: {error}"),
            });
        }
    }
    if !Path::new(FUSE).exists() {
        return Err("there is no /dev/fuse: load the module (modprobe fuse), or start the container with \
                    --device /dev/fuse --cap-add SYS_ADMIN"
            .into());
    }
    Ok(())
}

/// A mount whose server was killed.
pub(crate) fn left_over(dir: &Path) -> String {
    let shown = dir.display();
    format!(
        "{shown} is a mount whose server is gone; take it away first: umount {shown} (or fusermount3 -u {shown})"
    )
}

/// Why it could not be mounted.
pub(crate) fn not_mounted(dir: &Path, options: &MountOptions, error: &io::Error) -> String {
    let shown = dir.display();
    let said = error.to_string();
    let said = said.trim_end();
    let root = rustix::process::geteuid().is_root();
    // fusermount3 tells what the kernel answered it in words.
    let refused =
        matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES)) || said.contains("not permitted");
    match error.raw_os_error() {
        Some(libc::ENOTCONN) => return left_over(dir),
        Some(libc::ENODEV) => return "the kernel has no FUSE: load the module (modprobe fuse)".into(),
        _ => {}
    }
    if (!root || options.auto_unmount) && !on_path("fusermount3") {
        let who = if root { "auto_unmount needs" } else { "only root can mount without" };
        return format!("{who} fusermount3; install it (Debian: apt-get install fuse3)");
    }
    if said.contains("open /dev/fuse: Permission denied") {
        return "only root may open /dev/fuse here; chmod 666 /dev/fuse lets everybody mount, as distributions have it".into();
    }
    if !root && options.allow_other && !others_permitted() {
        return "allow_other is for root, unless /etc/fuse.conf has a line user_allow_other; add it, or leave the option out".into();
    }
    if refused && root {
        return format!(
            "not permitted to mount on {shown}: {said}; in a container it takes --device /dev/fuse --cap-add SYS_ADMIN"
        );
    }
    format!("cannot mount on {shown}: {said}")
}

/// Whether others than root may give `allow_other`.
fn others_permitted() -> bool {
    std::fs::read_to_string("/etc/fuse.conf")
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"))
}

/// Why another filesystem is left mounted.
pub(crate) fn not_ours(dir: &Path, kind: &OsStr) -> String {
    let (shown, kind) = (dir.display(), kind.display());
    format!("what is mounted on {shown} is no ERMFS but {kind}; if it has to go: umount {shown}")
}

/// Why it could not be unmounted.
pub(crate) fn not_unmounted(dir: &Path, error: &io::Error) -> String {
    let shown = dir.display();
    match error.raw_os_error() {
        Some(libc::EBUSY) => {
            format!("{shown} is in use (fuser -vm {shown} shows by whom); end that, or give --lazy")
        }
        Some(libc::EINVAL) => format!("nothing is mounted on {shown}"),
        Some(libc::ENOENT) => format!("{shown} does not exist"),
        Some(libc::EPERM | libc::EACCES) => somebody_elses(dir),
        // So says fusermount3 of a mount that another user made.
        _ if error.to_string().contains("not found in /etc/mtab") => somebody_elses(dir),
        _ => format!("cannot unmount {shown}: {}", error.to_string().trim_end()),
    }
}

fn somebody_elses(dir: &Path) -> String {
    format!("not permitted to unmount {}: it is somebody else's", dir.display())
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
