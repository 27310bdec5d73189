//! Mounting, and taking the mount away.
//!
//! Promises: when [`Mount::new`] returns, programs can use the directory; when [`Mount::unmount`] has succeeded, nothing of
//! the mount is left. A mount that something is still open on is busy, and stays until it is taken away again or, by
//! [`Mount::detach`], out of everybody's sight. Owns the session and its threads.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use ermfs_core::{Fs, Observer};
use fuser::{BackgroundSession, Config, Session, SessionACL};
use parking_lot::{Condvar, Mutex};
use rustix::mount::UnmountFlags;

use crate::connect::{Connection, Helper, connect};
use crate::handles::Handles;
use crate::nodes::Nodes;
use crate::observer::Changes;
use crate::operations::Operations;
use crate::server::Server;

/// How a filesystem is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// What `df` and `/proc/mounts` show as the source.
    pub fsname: String,
    /// Other users than the one who mounts may use it, as permissions have it.
    pub allow_other: bool,
    /// The mount goes when the process ends, however it ends. Needs fusermount3 and `allow_other`.
    pub auto_unmount: bool,
    /// Nothing can be changed through the mount.
    pub read_only: bool,
    /// Programs on it cannot be executed.
    pub noexec: bool,
    /// Set-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes have no effect.
    pub nodev: bool,
    /// Access times do not move. They never do on a mount that is read-only.
    pub noatime: bool,
    /// How many requests are worked on at once; 0 is taken as 1.
    pub threads: usize,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            fsname: "ermfs".into(),
            allow_other: false,
            auto_unmount: false,
            read_only: false,
            noexec: false,
            nosuid: false,
            nodev: false,
            noatime: false,
            threads: std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 8)),
        }
    }
}

impl MountOptions {
    fn session(&self) -> (SessionACL, Config) {
        let acl = if self.allow_other { SessionACL::All } else { SessionACL::Owner };
        let mut config = Config::default();
        config.acl = acl;
        config.n_threads = Some(self.threads.max(1));
        config.clone_fd = true;
        (acl, config)
    }
}

/// A mounted filesystem. Dropping it unmounts, lazily where something is still open.
pub struct Mount {
    path: PathBuf,
    /// Its number among the process's mounts, as far as it could be learnt: what is mounted there is ours if it has it.
    id: Option<u64>,
    /// Held until it is unmounted, for fusermount3 to see when the process ends before that.
    helper: Mutex<Option<Helper>>,
    fs: Arc<Fs>,
    nodes: Arc<Nodes>,
    changes: Arc<Changes>,
    observer: Arc<dyn Observer>,
    notifier: Option<JoinHandle<()>>,
    session: Arc<Running>,
}

/// Whether the session runs.
struct Running {
    running: Mutex<bool>,
    ended: Condvar,
}

impl Running {
    /// Starts a thread that waits for the session's end.
    fn watch(session: BackgroundSession) -> io::Result<Arc<Running>> {
        let running = Arc::new(Running { running: Mutex::new(true), ended: Condvar::new() });
        let watched = Arc::clone(&running);
        Builder::new().name("ermfs-session".into()).spawn(move || {
            // What ended it is of no consequence: it is over.
            let _ = session.join();
            *watched.running.lock() = false;
            watched.ended.notify_all();
        })?;
        Ok(running)
    }
}

impl Mount {
    /// Mounts `fs` on the directory `dir`.
    ///
    /// # Errors
    /// Those of finding `dir`; `ENOENT` or `ENODEV` where there is no /dev/fuse; `EPERM`; what fusermount3 says, which other
    /// users than root need.
    pub fn new(fs: Arc<Fs>, dir: &Path, options: &MountOptions) -> io::Result<Mount> {
        let path = dir.canonicalize()?;
        if !path.is_dir() {
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        }
        let nodes = Arc::new(Nodes::new(fs.root()));
        let changes = Changes::new(Arc::clone(&nodes));
        let observer: Arc<dyn Observer> = changes.clone();
        fs.observe(Arc::clone(&observer)).map_err(|error| io::Error::from_raw_os_error(error.raw()))?;
        let operations = Operations {
            fs: Arc::clone(&fs),
            nodes: Arc::clone(&nodes),
            handles: Handles::default(),
            moves_atime: !options.noatime && !options.read_only,
        };
        let started = connect(&path, options).and_then(|Connection { device, helper }| {
            let id = mounted_at(&path);
            let (acl, config) = options.session();
            let served = Session::from_fd(Server::new(operations), device, acl, config).and_then(|session| {
                Ok((changes.start(session.notifier())?, Running::watch(session.spawn()?)?))
            });
            // A mount that nobody serves is taken away again; that it may be gone already is no news.
            let (notifier, session) = served.inspect_err(|_| drop(unmount(&path, true)))?;
            Ok((id, helper, notifier, session))
        });
        match started {
            Ok((id, helper, notifier, session)) => {
                let (notifier, helper) = (Some(notifier), Mutex::new(helper));
                Ok(Mount { path, id, helper, fs, nodes, changes, observer, notifier, session })
            }
            Err(error) => {
                changes.end();
                fs.stop_observing(&observer);
                Err(error)
            }
        }
    }

    /// Where it is mounted, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many inodes the kernel holds beside the root.
    pub fn inodes_held(&self) -> usize {
        self.nodes.count()
    }

    /// Whether it is still mounted: false once somebody has unmounted it from outside.
    pub fn is_running(&self) -> bool {
        *self.session.running.lock()
    }

    /// Waits until it is mounted no more, whoever took it away, and the last request is answered.
    pub fn wait(&self) {
        let mut running = self.session.running.lock();
        while *running {
            self.session.ended.wait(&mut running);
        }
    }

    /// Takes the mount away and waits for its threads.
    ///
    /// # Errors
    /// `EBUSY` while something is open on it; it stays mounted then.
    pub fn unmount(&self) -> io::Result<()> {
        if self.is_running() {
            if !self.is_in_place() {
                return Err(io::Error::from_raw_os_error(libc::EBUSY));
            }
            unmount(&self.path, false)?;
        }
        self.wait();
        drop(self.helper.lock().take());
        Ok(())
    }

    /// Takes the mount out of sight at once. Who has something open on it goes on using it, and is served until the last of
    /// them is done; [`Mount::wait`] waits for that.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn detach(&self) -> io::Result<()> {
        if self.is_running() && self.is_in_place() { unmount(&self.path, true) } else { Ok(()) }
    }

    /// Whether it is what one sees there: not once it was detached, or something was mounted over it.
    fn is_in_place(&self) -> bool {
        // One that is not known is taken for ours.
        self.id.is_none() || self.id == mounted_at(&self.path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.unmount().is_err() {
            // Whoever still uses it is served by threads that outlive this value.
            let _ = self.detach();
        }
        self.fs.stop_observing(&self.observer);
        self.changes.end();
        if let Some(notifier) = self.notifier.take() {
            let _ = notifier.join();
        }
    }
}

/// The number of the topmost mount on a directory, if there is one. Read from the list of mounts: to ask the directory itself
/// would be a request to our own threads, and a process that is killed while it waits for itself never ends.
fn mounted_at(path: &Path) -> Option<u64> {
    let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
    topmost(&mounts, path)
}

/// Finds it in the lines of proc_pid_mountinfo(5): number, parent, device, root, mount point, ... The last one is on top.
fn topmost(mounts: &[u8], path: &Path) -> Option<u64> {
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            byte => escaped.push(byte),
        }
    }
    let fields = mounts.split(|&byte| byte == b'\n').map(|line| line.split(|&byte| byte == b' '));
    let mut of_path = fields.rev().filter(|line| line.clone().nth(4) == Some(&escaped[..]));
    std::str::from_utf8(of_path.next()?.next()?).ok()?.parse().ok()
}

/// Unmounts what is mounted on a directory, as root would; where that is not permitted, by fusermount3. Lazily: out of sight at
/// once, and gone when nothing on it is open any more.
///
/// # Errors
/// `EBUSY`, `EINVAL` where nothing is mounted, and what else the kernel or fusermount3 answers.
pub fn unmount(path: &Path, lazily: bool) -> io::Result<()> {
    let flags = if lazily { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(path, flags) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::PERM) => {
            let mut command = Command::new("fusermount3");
            command.arg("-u").args(lazily.then_some("-z")).arg("--").arg(path);
            let output = command.output()?;
            if output.status.success() {
                return Ok(());
            }
            let busy = output.stderr.windows(4).any(|word| word.eq_ignore_ascii_case(b"busy"));
            match busy {
                true => Err(io::Error::from_raw_os_error(libc::EBUSY)),
                false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
            }
        }
        Err(error) => Err(error.into()),
    }
}

impl core::fmt::Debug for Mount {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = self.path.as_os_str().as_bytes().escape_ascii().to_string();
        f.debug_struct("Mount").field("path", &name).field("running", &self.is_running()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_mount_is_found_by_its_path() {
        let mounts = b"21 1 0:5 / / rw - ext4 /dev/a rw\n22 21 0:6 / /mnt/a\\040b rw - fuse x rw\n\
            23 22 0:7 / /mnt/a\\040b rw - tmpfs x rw\n24 21 0:8 / /mnt/a rw - tmpfs x rw\n";
        assert_eq!(topmost(mounts, Path::new("/mnt/a b")), Some(23));
        assert_eq!(topmost(mounts, Path::new("/mnt/a")), Some(24));
        assert_eq!(topmost(mounts, Path::new("/mnt")), None);
        assert_eq!(topmost(b"", Path::new("/")), None);
    }
}
