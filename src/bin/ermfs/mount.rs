//! `ermfs mount` and `ermfs umount`.
//!
//! Promises: without `-f` the command returns once the directory can be used, or with the error that kept it from that; the
//! process that goes on is a daemon of its own session. A signal that asks for the end unmounts first. The process forks
//! before it makes its first thread.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use ermfs_core::{Credentials, Fs};
use ermfs_fuse::Mount;
use rustix::pipe::PipeFlags;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::explain;
use crate::mounts;
use crate::options::Options;
use crate::stats;

/// What the daemon tells its parent when the directory can be used.
const MOUNTED: &str = "mounted\n";

/// # Errors
/// A sentence.
pub(crate) fn mount(dir: &Path, options: &Options, foreground: bool) -> Result<(), String> {
    explain::look_at(dir)?;
    if foreground {
        let mounted = Served::new(dir, options)?;
        return mounted.serve(true);
    }
    // Close-on-exec: what the server starts must not keep the parent waiting.
    let (read, write) =
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("no pipe: {error}"))?;
    // SAFETY: the process has one thread, so the child is a whole copy of it.
    match unsafe { libc::fork() } {
        -1 => Err(format!("cannot start a process: {}", std::io::Error::last_os_error())),
        0 => {
            drop(read);
            daemon(dir, options, File::from(write))
        }
        _ => {
            drop(write);
            let mut told = String::new();
            File::from(read).read_to_string(&mut told).map_err(|error| error.to_string())?;
            match told.as_str() {
                MOUNTED => Ok(()),
                "" => Err("the server ended before it had mounted".into()),
                message => Err(message.trim_end().to_owned()),
            }
        }
    }
}

/// The child's part: mounts, tells how that went, and serves.
fn daemon(dir: &Path, options: &Options, mut parent: File) -> Result<(), String> {
    // A session of its own, so that the terminal's end is not the mount's. It is no group leader, so this cannot fail.
    let _ = rustix::process::setsid();
    let mounted = Served::new(dir, options).and_then(|mounted| detach_from_terminal().map(|()| mounted));
    match mounted {
        Ok(mounted) => {
            // A parent that is gone does not want to know.
            let _ = parent.write_all(MOUNTED.as_bytes());
            drop(parent);
            mounted.serve(false)
        }
        Err(message) => {
            // The parent says it, and exits as we would.
            let _ = parent.write_all(message.as_bytes());
            std::process::exit(1);
        }
    }
}

/// Keeps no directory and no terminal busy.
///
/// # Errors
/// A sentence.
fn detach_from_terminal() -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot go into the background: {error}");
    rustix::process::chdir("/").map_err(|error| failed(error.into()))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    for redirect in [rustix::stdio::dup2_stdin, rustix::stdio::dup2_stdout, rustix::stdio::dup2_stderr] {
        redirect(null.as_fd()).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

/// A mounted filesystem and the signals that are for it.
struct Served {
    fs: Arc<Fs>,
    mount: Arc<Mount>,
    signals: Signals,
}

impl Served {
    fn new(dir: &Path, options: &Options) -> Result<Served, String> {
        // Before anything is mounted, so that no signal finds it unguarded.
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1])
            .map_err(|error| format!("no signals: {error}"))?;
        let fs = Fs::new(&options.config).map_err(explain::not_made)?;
        let root = fs.root();
        let who = Credentials::superuser_as(0, 0);
        root.chown(options.uid, options.gid, &who)
            .and_then(|()| root.chmod(options.root_mode, &who))
            .map_err(explain::not_made)?;
        let mount = Mount::new(Arc::clone(&fs), dir, &options.mount)
            .map_err(|error| explain::not_mounted(dir, &options.mount, &error))?;
        Ok(Served { fs, mount: Arc::new(mount), signals })
    }

    /// Answers signals until it is mounted no more.
    fn serve(self, foreground: bool) -> Result<(), String> {
        let Served { fs, mount, mut signals } = self;
        let (watched, handle) = (Arc::clone(&mount), signals.handle());
        let watcher = std::thread::Builder::new()
            .name("ermfs-watch".into())
            .spawn(move || {
                watched.wait();
                handle.close();
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let mut detached = false;
        for signal in signals.forever() {
            match signal {
                SIGUSR1 => say(&stats::table(&stats::of(&fs.statistics())), foreground),
                // Asked again while somebody still uses it: whoever asks knows.
                _ if detached => std::process::exit(1),
                _ => detached = end(&mount, foreground),
            }
        }
        let _ = watcher.join();
        Ok(())
    }
}

/// Takes the mount away; `true`: out of sight only, because it is in use.
fn end(mount: &Mount, foreground: bool) -> bool {
    let Err(error) = mount.unmount() else { return false };
    let dir = mount.path().display();
    let detached = error.raw_os_error() == Some(libc::EBUSY) && mount.detach().is_ok();
    let message = match detached {
        true => format!("{dir} is in use: it is out of sight, and goes with the last who uses it\n"),
        false => format!("cannot unmount {dir}: {error}\n"),
    };
    say(&message, foreground);
    detached
}

/// Says something: to standard error, or, of a daemon, to the system log.
fn say(text: &str, foreground: bool) {
    if foreground {
        // Nobody may be listening any more. `eprint!` panics then, and would leave the mount without its server.
        let _ = std::io::stderr().write_all(text.as_bytes());
        return;
    }
    for line in text.lines() {
        if let Ok(line) = CString::new(format!("ermfs: {line}")) {
            // SAFETY: the format takes one string, which outlives the call.
            unsafe { libc::syslog(libc::LOG_DAEMON | libc::LOG_NOTICE, c"%s".as_ptr(), line.as_ptr()) };
        }
    }
}

/// # Errors
/// A sentence.
pub(crate) fn umount(dir: &Path, lazy: bool) -> Result<(), String> {
    // As root it would take away any mount; a mistyped path must not.
    match mounts::type_at(dir) {
        Ok(Some(kind)) if kind == mounts::TYPE => {}
        Ok(Some(kind)) => return Err(explain::not_ours(dir, &kind)),
        Ok(None) => {
            return Err(explain::not_unmounted(dir, &std::io::Error::from_raw_os_error(libc::EINVAL)));
        }
        Err(error) => return Err(explain::not_unmounted(dir, &error)),
    }
    ermfs_fuse::unmount(dir, lazy).map_err(|error| explain::not_unmounted(dir, &error))
}
