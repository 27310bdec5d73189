//! The connection to the kernel: /dev/fuse, and a mount that belongs to it.
//!
//! Promises: a mount is there when a connection is, and nothing when there is none. By mount(2) where that is permitted, else by
//! fusermount3, which hands over the connection on a socket. Not by fuser, which takes a mount away by its path when its
//! session ends, whoever has mounted something else there meanwhile. Owns nothing that it has handed out.

use std::ffi::{CString, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::mount::MountOptions;

/// As mounts(8) and `df -t` know it.
const TYPE: &str = "fuse.ermfs";

/// A mounted connection.
pub(crate) struct Connection {
    pub(crate) device: OwnedFd,
    pub(crate) helper: Option<Helper>,
}

/// A fusermount3 that unmounts, unless that was done, when the process ends or this is dropped.
pub(crate) struct Helper {
    socket: Option<UnixStream>,
    child: Child,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its sign to go.
        drop(self.socket.take());
        let _ = self.child.wait();
    }
}

/// Mounts on a directory.
///
/// # Errors
/// `ENOENT` or `ENODEV` where there is no FUSE, `EPERM`, what mount(2) gives; what fusermount3 says.
pub(crate) fn connect(path: &Path, options: &MountOptions) -> io::Result<Connection> {
    if options.auto_unmount {
        return by_helper(path, options);
    }
    match by_kernel(path, options) {
        // Not permitted to open the device, or to mount.
        Err(error)
            if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
                && !rustix::process::geteuid().is_root() =>
        {
            by_helper(path, options)
        }
        done => done,
    }
}

fn by_kernel(path: &Path, options: &MountOptions) -> io::Result<Connection> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let mut flags = MountFlags::empty();
    for (on, flag) in [
        (options.read_only, MountFlags::RDONLY),
        (options.noexec, MountFlags::NOEXEC),
        (options.nosuid, MountFlags::NOSUID),
        (options.nodev, MountFlags::NODEV),
        (options.noatime, MountFlags::NOATIME),
    ] {
        flags.set(flag, on);
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let others = if options.allow_other { ",allow_other" } else { "" };
    // The kernel judges permissions, by the attributes that it is given.
    let data = format!(
        "fd={},rootmode={:o},user_id={uid},group_id={gid},default_permissions{others}",
        device.as_raw_fd(),
        libc::S_IFDIR
    );
    let data = CString::new(data)?;
    rustix::mount::mount(options.fsname.as_str(), path, TYPE, flags, &*data)?;
    Ok(Connection { device, helper: None })
}

fn by_helper(path: &Path, options: &MountOptions) -> io::Result<Connection> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut list = format!("fsname={},subtype=ermfs,default_permissions", escaped(&options.fsname));
    for (on, word) in [
        (options.allow_other, ",allow_other"),
        (options.auto_unmount, ",auto_unmount"),
        (options.read_only, ",ro"),
        (options.noexec, ",noexec"),
        (options.noatime, ",noatime"),
        // Only root may give the other two.
        (options.nosuid, ",nosuid"),
        (options.nodev, ",nodev"),
    ] {
        if on {
            list.push_str(word);
        }
    }
    let arguments: [OsString; 4] = ["-o".into(), list.into(), "--".into(), path.into()];
    let mut child = Command::new("fusermount3")
        .args(arguments)
        // As its standard input, so that no other child of the process inherits it.
        .env("_FUSE_COMMFD", "0")
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::piped())
        .spawn()?;
    match received(&ours) {
        Ok(device) => {
            if options.auto_unmount {
                // It stays, and waits for the socket's end.
                return Ok(Connection { device, helper: Some(Helper { socket: Some(ours), child }) });
            }
            child.wait()?;
            Ok(Connection { device, helper: None })
        }
        Err(error) => {
            let output = child.wait_with_output()?;
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(if said.is_empty() { error } else { io::Error::other(said) })
        }
    }
}

/// The descriptor that comes over a socket.
fn received(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0u8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut messages = RecvAncillaryBuffer::new(&mut space);
    rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut messages,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut descriptors = messages.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.next().ok_or_else(|| io::Error::from_raw_os_error(libc::EPROTO))
}

/// A comma ends an option, unless it is escaped.
fn escaped(name: &str) -> String {
    name.replace('\\', "\\\\").replace(',', "\\,")
}
