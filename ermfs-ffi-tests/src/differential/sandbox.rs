//! Runs one side of a sequence in a child process of its own.
//!
//! Promises that a side starts from an empty filesystem and that nothing is left of it, however it ends: the kernel's
//! side has a tmpfs in a mount namespace that dies with the child, and a changed root, so that no path leads out of it;
//! ERMFS's side loads the library afresh; a directory's side has a new directory, removed afterwards. A crash or a hang is an answer like any other. Owns the child and the pipe.
//! Never mounts anything that another process can see.

use super::model::Model;
use super::op::Step;
use super::world::World;
use super::{Compress, Setting};
use crate::abi::{Abi, Ermfs, ErmfsConfig};
use libc::{c_int, pid_t};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What answers a sequence.
#[derive(Clone)]
pub(super) enum Side {
    /// These functions on a tmpfs: the kernel's own, or some of them replaced.
    Kernel(Box<Abi>),
    /// The library at this path.
    Ermfs(PathBuf),
    /// The kernel's own functions in a new directory under this one.
    Directory(PathBuf),
    /// A vector of bytes; knows sequences of `generate::file_sequence` only.
    Model,
}

/// Descriptors below this one are not the world's.
const ROOT: c_int = 40;
/// Where the child writes its answers.
const ANSWERS: c_int = 3;
/// A child that answers nothing for so long is ended.
const PATIENCE_MS: c_int = 20_000;
/// The mode of a new filesystem's root, type bits included.
const TMPFS_ROOT_MODE: u32 = 0o41777;
/// The budget on both sides.
const MAX_BYTES: u64 = 1 << 30;
/// The first words of an answer that comes instead of the first step's.
const SETUP: &str = "setup: ";

/// A side under way.
pub(super) struct Child {
    pid: pid_t,
    answers: c_int,
    /// The directory of its own, to be removed.
    own: Option<PathBuf>,
}

/// Starts a side.
pub(super) fn start(side: &Side, setting: &Setting, steps: &[Step]) -> Result<Child, String> {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let own = match side {
        Side::Directory(parent) => Some(parent.join(format!("world-{}", STARTED.fetch_add(1, Relaxed)))),
        _ => None,
    };
    let mut ends = [0; 2];
    // SAFETY: an array of two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(last_error("pipe"));
    }
    // SAFETY: the child uses what glibc keeps usable after fork (allocation, the loader) and this thread's own data,
    // and leaves by _exit.
    match unsafe { libc::fork() } {
        -1 => Err(last_error("fork")),
        0 => {
            child(side, own.as_deref(), setting, steps, ends[1]);
            // SAFETY: ends the child at once, without the test harness's handlers.
            unsafe { libc::_exit(0) }
        }
        pid => {
            // SAFETY: the writing end is the child's.
            unsafe { libc::close(ends[1]) };
            Ok(Child { pid, answers: ends[0], own })
        }
    }
}

impl Child {
    /// All answers, the last of which may tell how the child died.
    ///
    /// # Errors
    /// A text that says why the side could not begin.
    pub(super) fn finish(self) -> Result<Vec<String>, String> {
        let mut bytes = Vec::new();
        let hung = !self.read_all(&mut bytes);
        let mut answers = split(&bytes);
        if hung {
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
            answers.push(format!("no answer for {PATIENCE_MS} ms"));
        }
        let mut status = 0;
        // SAFETY: our own child and a local status.
        unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        if let Some(own) = &self.own {
            std::fs::remove_dir_all(own).map_err(|error| format!("{}: {error}", own.display()))?;
        }
        if !hung && status != 0 {
            answers.push(death_text(status));
        }
        match answers.first().and_then(|first| first.strip_prefix(SETUP)) {
            Some(why) => Err(why.to_owned()),
            None => Ok(answers),
        }
    }

    /// False when the child fell silent.
    fn read_all(&self, bytes: &mut Vec<u8>) -> bool {
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let mut poll = libc::pollfd { fd: self.answers, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE_MS) };
            if ready == 0 {
                return false;
            }
            // SAFETY: the buffer is as long as stated.
            let got = unsafe { libc::read(self.answers, buffer.as_mut_ptr().cast(), buffer.len()) };
            match got {
                1.. => bytes.extend_from_slice(&buffer[..got as usize]),
                0 => return true,
                _ if last_errno() == libc::EINTR => {}
                _ => return true,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: the reading end is this struct's.
        unsafe { libc::close(self.answers) };
    }
}

fn death_text(status: c_int) -> String {
    if libc::WIFSIGNALED(status) {
        format!("died of signal {}", libc::WTERMSIG(status))
    } else {
        format!("ended with status {}", libc::WEXITSTATUS(status))
    }
}

fn split(bytes: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    let mut rest = bytes;
    while let Some((len, more)) = rest.split_first_chunk::<4>() {
        let len = (u32::from_le_bytes(*len) as usize).min(more.len());
        answers.push(String::from_utf8_lossy(&more[..len]).into_owned());
        rest = &more[len..];
    }
    answers
}

fn send(text: &str) {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        // SAFETY: a buffer of the stated length.
        let done = unsafe { libc::write(ANSWERS, rest.as_ptr().cast(), rest.len()) };
        if done <= 0 {
            return;
        }
        rest = &rest[done as usize..];
    }
}

fn child(side: &Side, own: Option<&Path>, setting: &Setting, steps: &[Step], answers: c_int) {
    let result = std::panic::catch_unwind(|| run(side, own, setting, steps, answers));
    match result {
        Ok(Ok(())) => {}
        Ok(Err(text)) => send(&format!("{SETUP}{text}")),
        Err(_) => send("the test itself panicked"),
    }
}

fn run(
    side: &Side,
    own: Option<&Path>,
    setting: &Setting,
    steps: &[Step],
    answers: c_int,
) -> Result<(), String> {
    own_descriptors(answers)?;
    become_root()?;
    if let Side::Model = side {
        let mut model = Model::default();
        steps.iter().for_each(|step| send(&model.run(&step.op)));
        return Ok(());
    }
    let mut world = match side {
        Side::Ermfs(path) => ermfs_world(path, setting)?,
        Side::Kernel(abi) => {
            mount_tmpfs()?;
            kernel_world(abi, c"/dev/shm", setting)?
        }
        Side::Directory(_) => {
            let own = own.expect("a side with a directory");
            kernel_world(&Abi::kernel(), &new_directory(own)?, setting)?
        }
        Side::Model => unreachable!("ran above"),
    };
    let root_mode = world.root_mode();
    if root_mode != TMPFS_ROOT_MODE {
        return Err(format!("the root has the mode {root_mode:o}"));
    }
    // ERMFS promises that a change after a time was read is seen; so does the kernel since Linux 6.13.
    let coarse_times = world.probe_coarse_times();
    world.coarse_times = coarse_times && matches!(side, Side::Kernel(_) | Side::Directory(_));
    if setting.people {
        world.share_root();
    }
    steps.iter().for_each(|step| send(&world.run(step)));
    Ok(())
}

/// Leaves descriptors 0 to 2 and the answers' end, fills what is between them and ROOT and closes all others, so that
/// the lowest free descriptor is ROOT.
fn own_descriptors(answers: c_int) -> Result<(), String> {
    // SAFETY: descriptors of this process, which nobody else uses any more.
    unsafe {
        if libc::dup2(answers, ANSWERS) < 0 {
            return Err(last_error("dup2"));
        }
        libc::close_range(ANSWERS as u32 + 1, u32::MAX, 0);
        let filler = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
        if filler < 0 {
            return Err(last_error("/dev/null"));
        }
        for number in ANSWERS + 1..ROOT {
            if number != filler && libc::dup2(filler, number) < 0 {
                return Err(last_error("dup2"));
            }
        }
    }
    Ok(())
}

/// Gives the child a mount namespace in which it is root; without being root already, through a user namespace.
fn become_root() -> Result<(), String> {
    // SAFETY: asks for numbers only.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let flags = if uid == 0 { libc::CLONE_NEWNS } else { libc::CLONE_NEWNS | libc::CLONE_NEWUSER };
    // SAFETY: changes only what this single-threaded child sees.
    if unsafe { libc::unshare(flags) } != 0 {
        return Err(format!("{}: this test needs root or user namespaces", last_error("unshare")));
    }
    if uid != 0 {
        let map = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("{file}: {error}"))
        };
        map("setgroups", "deny".into())?;
        map("uid_map", format!("0 {uid} 1"))?;
        map("gid_map", format!("0 {gid} 1"))?;
    }
    // SAFETY: sets a mask.
    unsafe { libc::umask(0o022) };
    Ok(())
}

fn mount_tmpfs() -> Result<(), String> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: NUL-terminated strings; the namespace is this child's own.
    if unsafe { libc::mount(null(), c"/".as_ptr(), null(), private, null()) } != 0 {
        return Err(last_error("making mounts private"));
    }
    let options = |huge: &str| {
        let text = format!("size={MAX_BYTES}{huge}");
        let (text, place) = (CString::new(text).expect("no NUL"), c"/dev/shm");
        // SAFETY: as above.
        unsafe { libc::mount(c"tmpfs".as_ptr(), place.as_ptr(), c"tmpfs".as_ptr(), 0, text.as_ptr().cast()) }
    };
    // A kernel without huge pages does not know the option.
    if options(",huge=never") != 0 && options("") != 0 {
        return Err(last_error("mounting a tmpfs"));
    }
    Ok(())
}

/// Makes a directory like the root of a tmpfs.
fn new_directory(own: &Path) -> Result<CString, String> {
    let path = CString::new(own.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: NUL-terminated strings.
    if unsafe { libc::mkdir(path.as_ptr(), 0o700) | libc::chmod(path.as_ptr(), TMPFS_ROOT_MODE & 0o7777) }
        != 0
    {
        return Err(last_error("making a directory"));
    }
    Ok(path)
}

/// The world below a directory, which becomes the root.
fn kernel_world(abi: &Abi, place: &CStr, setting: &Setting) -> Result<World, String> {
    // SAFETY: NUL-terminated strings.
    if unsafe { libc::chdir(place.as_ptr()) | libc::chroot(c".".as_ptr()) } != 0 {
        return Err(last_error("chroot"));
    }
    // SAFETY: a NUL-terminated string.
    let root = unsafe { libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    if root != ROOT {
        return Err(format!("the root is descriptor {root}"));
    }
    Ok(World::new(*abi, root, setting.access_times))
}

fn ermfs_world(path: &Path, setting: &Setting) -> Result<World, String> {
    let library = Ermfs::load(path)?;
    let config = ErmfsConfig {
        struct_size: size_of::<ErmfsConfig>(),
        max_bytes: MAX_BYTES,
        compress: match setting.compress {
            Compress::Close => 0,
            Compress::Background => 1,
            Compress::Never => 2,
        },
        ..ErmfsConfig::default()
    };
    let root = if setting.mounted {
        // SAFETY: a config of the stated size.
        unsafe { (library.fsmount)(&raw const config) }
    } else {
        // SAFETY: a config of the stated size, and a NUL-terminated path.
        unsafe {
            if (library.configure_default)(&raw const config) != 0 {
                return Err(last_error("ermfs_configure_default"));
            }
            (library.abi.open)(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
        }
    };
    if root < 0 {
        return Err(last_error("the root of ERMFS"));
    }
    let mut world = World::new(library.abi, root, setting.access_times);
    world.refresh = Some(library.refresh_credentials);
    Ok(world)
}

fn last_errno() -> c_int {
    // SAFETY: glibc gives this thread's own errno.
    unsafe { *libc::__errno_location() }
}

fn last_error(what: &str) -> String {
    format!("{what}: {}", std::io::Error::last_os_error())
}
