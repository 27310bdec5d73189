//! Kernel descriptors and views: export_memfd, export_memfdat, fexport_memfd, export_gzip, execve,
//! import_fd, import_gzip, view_open. None of them is a POSIX call; see [`crate::export`] for what they
//! promise.

use core::ffi::c_char;
use core::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::{check_offset, with_file};
use crate::content::View;
use crate::errno::{Errno, Result};
use crate::export::{self, ExportFlags, Program};
use crate::fs::Fs;
use crate::gate;
use crate::namespace::EXECUTE;
use crate::process::AT_FDCWD;
use crate::process::exchange::content_of;
use crate::process::filesystems::{Target, with_inode, with_start};

/// A symlink at the end is followed.
const FOLLOW: Target = Target { follow: true, empty_path: false };

/// [`export_memfdat`] from the working directory.
///
/// # Errors
/// As [`export_memfdat`].
pub fn export_memfd(path: &[u8], flags: i32) -> Result<OwnedFd> {
    export_memfdat(AT_FDCWD, path, flags)
}

/// See [`Fs::export_memfd`]; `flags` are those of [`ExportFlags`].
///
/// # Errors
/// `EINVAL` for an unknown flag, `EBADF`, and those of [`Fs::export_memfd`].
pub fn export_memfdat(dirfd: i32, path: &[u8], flags: i32) -> Result<OwnedFd> {
    let flags = ExportFlags::from_raw(flags)?;
    with_start(dirfd, path, |at| Fs::export_memfd(at, path, flags))
}

/// See [`OpenFile::export_memfd`](crate::process::OpenFile::export_memfd).
///
/// # Errors
/// `EINVAL` for an unknown flag; `EBADF` when `fd` is not open for reading; otherwise as
/// [`Fs::export_memfd`].
pub fn fexport_memfd(fd: i32, flags: i32) -> Result<OwnedFd> {
    let flags = ExportFlags::from_raw(flags)?;
    with_file(fd, |file| file.export_memfd(flags))
}

/// See [`Fs::export_gzip`]; from the working directory.
///
/// # Errors
/// `EINVAL` for an unknown flag, and those of [`Fs::export_gzip`].
pub fn export_gzip(path: &[u8], flags: i32) -> Result<OwnedFd> {
    let flags = ExportFlags::from_raw(flags)?;
    with_start(AT_FDCWD, path, |at| Fs::export_gzip(at, path, flags))
}

/// Replaces the process image by the file, an ELF program or a `#!` script, as execve(2). Returns only
/// on failure, and then nothing has changed.
///
/// A script's interpreter gets `/proc/self/fd/N` as the script's name, for which /proc must be
/// mounted. The program's own descriptor is close-on-exec; a script's stays open in the interpreter.
///
/// # Errors
/// `EACCES` for what is no regular file or has is not executable for the process, or where the machine forbids
/// executable memfds; `ENOEXEC`, `E2BIG`, `ENOENT` (of the path, or a missing interpreter) and what else
/// the kernel answers; those of [`export_memfdat`].
///
/// # Safety
/// `argv` and `envp` are null or arrays of pointers to NUL-terminated strings, the last of them null.
pub unsafe fn execve(path: &[u8], argv: *const *const c_char, envp: *const *const c_char) -> Errno {
    let program = with_inode(AT_FDCWD, path, FOLLOW, |fs, inode| {
        let content = content_of(inode).map_err(|_| Errno::EACCES)?;
        inode.require(fs.credentials(), EXECUTE)?;
        Program::new(content, path)
    });
    match program {
        // SAFETY: the arrays are the caller's promise.
        Ok(program) => unsafe { export::execute(program, argv, envp) },
        Err(error) => error,
    }
}

/// The kernel descriptor of that number, to be imported.
///
/// # Errors
/// `EBADF` when no kernel descriptor has it.
///
/// # Safety
/// Nobody closes it during `'f`.
pub unsafe fn kernel_fd<'f>(fd: i32) -> Result<BorrowedFd<'f>> {
    // SAFETY: any number may be asked about; F_GETFD is no cancellation point.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: it is open, as was just seen, and stays so by this function's contract; it is not -1.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// See [`Fs::import_fd`]; from the working directory, with `mode` less the umask.
///
/// # Errors
/// Those of [`Fs::import_fd`].
pub fn import_fd(path: &[u8], fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    with_start(AT_FDCWD, path, |at| Fs::import_fd(at, path, fd, mode))
}

/// See [`Fs::import_gzip`]; from the working directory, with `mode` less the umask.
///
/// # Errors
/// Those of [`Fs::import_gzip`].
pub fn import_gzip(path: &[u8], fd: BorrowedFd<'_>, mode: u32) -> Result<()> {
    with_start(AT_FDCWD, path, |at| Fs::import_gzip(at, path, fd, mode))
}

/// Pieces of a file's memory, and the filesystem they are charged to, which stays as long. Send and
/// Sync.
pub struct FileView(Option<(View, Arc<Fs>)>);

impl Deref for FileView {
    type Target = View;

    fn deref(&self) -> &View {
        let (view, _) = self.0.as_ref().expect("held until dropped");
        view
    }
}

impl Drop for FileView {
    fn drop(&mut self) {
        let _inside = gate::enter();
        // The view before the filesystem that it may be the last to hold.
        if let Some((view, fs)) = self.0.take() {
            drop(view);
            drop(fs);
        }
    }
}

/// See [`OpenFile::view`](crate::process::OpenFile::view).
///
/// # Errors
/// `EINVAL` for a negative offset or no pieces, and those of
/// [`OpenFile::view`](crate::process::OpenFile::view).
pub fn view_open(fd: i32, offset: i64, len: usize, max_pieces: usize) -> Result<FileView> {
    check_offset(offset)?;
    with_file(fd, |file| {
        let view = file.view(offset.cast_unsigned(), len, max_pieces)?;
        Ok(FileView(Some((view, Arc::clone(file.fs())))))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::content::Source;
    use crate::fs::Config;
    use crate::process::{close, fsmount, mkdirat, openat, pwrite, symlinkat, unlinkat};
    use crate::space::Compress;

    const CREATE: i32 = libc::O_RDWR | libc::O_CREAT;

    fn file(dirfd: i32, path: &[u8], bytes: &[u8]) -> i32 {
        let fd = openat(dirfd, path, CREATE, 0o755).unwrap();
        assert_eq!(pwrite(fd, &mut Source::new(bytes), 0), Ok(bytes.len()));
        fd
    }

    fn bytes_of(fd: impl AsFd) -> Vec<u8> {
        let mut bytes = vec![0; 100];
        let n = rustix::io::read(fd, &mut bytes).unwrap();
        bytes.truncate(n);
        bytes
    }

    #[test]
    fn descriptors_and_paths_are_checked_as_for_a_read() {
        let root = fsmount(&Config::default()).unwrap();
        let fd = file(root, b"f", b"content");
        mkdirat(root, b"dir", 0o755).unwrap();
        symlinkat(b"f", root, b"link").unwrap();
        assert_eq!(bytes_of(export_memfdat(root, b"link", 0).unwrap()), b"content");
        assert_eq!(bytes_of(fexport_memfd(fd, 1).unwrap()), b"content");
        for (path, flags, error) in [
            (&b"dir"[..], 0, Errno::EISDIR),
            (b".", 0, Errno::EISDIR),
            (b"none", 0, Errno::ENOENT),
            (b"", 0, Errno::ENOENT),
            (b"f/g", 0, Errno::ENOTDIR),
            (b"f", 8, Errno::EINVAL),
            (b"f", -1, Errno::EINVAL),
        ] {
            assert_eq!(export_memfdat(root, path, flags).unwrap_err(), error);
        }
        for (flags, error) in [(libc::O_WRONLY, Errno::EBADF), (libc::O_PATH, Errno::EBADF)] {
            let fd = openat(root, b"f", flags, 0).unwrap();
            assert_eq!(fexport_memfd(fd, 0).unwrap_err(), error);
            assert_eq!(view_open(fd, 0, 1, 1).err(), Some(error));
            close(fd).unwrap();
        }
        assert_eq!(fexport_memfd(root, 0).unwrap_err(), Errno::EISDIR);
        assert_eq!(fexport_memfd(fd, 16).unwrap_err(), Errno::EINVAL);
        assert_eq!(view_open(root, 0, 1, 1).err(), Some(Errno::EISDIR));
        // A name is not needed.
        unlinkat(root, b"f", 0).unwrap();
        assert_eq!(bytes_of(fexport_memfd(fd, 0).unwrap()), b"content");
        close(fd).unwrap();
        assert_eq!(fexport_memfd(fd, 0).unwrap_err(), Errno::EBADF);
        close(root).unwrap();
    }

    #[test]
    fn a_view_keeps_its_bytes_and_its_filesystem() {
        let root = fsmount(&Config::default()).unwrap();
        let fd = file(root, b"f", b"before");
        let view = view_open(fd, 2, 100, 4).unwrap();
        assert_eq!(view_open(fd, -1, 1, 1).err(), Some(Errno::EINVAL));
        assert_eq!(view_open(fd, 0, 1, 0).err(), Some(Errno::EINVAL));
        pwrite(fd, &mut Source::new(b"after."), 0).unwrap();
        close(fd).unwrap();
        close(root).unwrap();
        assert_eq!(view.pieces().collect::<Vec<_>>().concat(), b"fore");
    }

    #[test]
    fn imports_and_exports_by_path_meet_in_the_default_filesystem() {
        let input = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::pwrite(&input, b"#!/no/such/file\n", 0).unwrap();
        import_fd(b"/calls-export", input.as_fd(), 0o707).unwrap();
        assert_eq!(bytes_of(export_memfd(b"/calls-export", 5).unwrap()), b"#!/no/such/file\n");
        let gz = export_gzip(b"/calls-export", 0).unwrap();
        import_gzip(b"/calls-export.copy", gz.as_fd(), 0o600).unwrap();
        assert_eq!(bytes_of(export_memfd(b"/calls-export.copy", 0).unwrap()), b"#!/no/such/file\n");
        assert_eq!(import_gzip(b"/calls-export", input.as_fd(), 0o600), Err(Errno::EIO));
        assert_eq!(export_gzip(b"/", 0).unwrap_err(), Errno::EISDIR);
        let argv = [c"name".as_ptr(), core::ptr::null()];
        for (path, error) in [
            (&b"/calls-export"[..], Errno::ENOENT),
            (b"/calls-export.copy", Errno::EACCES),
            (b"/", Errno::EACCES),
            (b"/calls-export.none", Errno::ENOENT),
        ] {
            // SAFETY: the array ends with null; an empty environment is null.
            assert_eq!(unsafe { execve(path, argv.as_ptr(), core::ptr::null()) }, error);
        }
        for path in [&b"/calls-export"[..], b"/calls-export.copy"] {
            unlinkat(AT_FDCWD, path, 0).unwrap();
        }
    }

    #[test]
    fn what_is_imported_is_packed_by_the_policy() {
        let input = rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::io::pwrite(&input, &[b'x'; 20_000], 0).unwrap();
        for compress in [Compress::OnClose, Compress::Background, Compress::Never] {
            let fs = Fs::new(&Config { compress, ..Config::default() }).unwrap();
            let root = fs.root();
            let at = crate::namespace::At { fs: &fs, dir: &root, who: fs.credentials(), umask: 0 };
            let wants_packing =
                export::import(at, b"f", 0o600, |content| export::fill_from_fd(content, input.as_fd()));
            assert_eq!(wants_packing.unwrap().is_some(), compress == Compress::Background);
            let packed = Fs::lookup(at, b"f", true).unwrap().content().unwrap().info().blocks_packed;
            assert_eq!(packed, u64::from(compress == Compress::OnClose));
        }
    }

    #[test]
    fn only_open_kernel_descriptors_can_be_imported() {
        for fd in [-1, i32::MIN, 1 << 20, i32::MAX] {
            // SAFETY: nobody closes what nobody has open.
            assert_eq!(unsafe { kernel_fd(fd) }.unwrap_err(), Errno::EBADF);
        }
        let null = std::fs::File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&null);
        // SAFETY: `null` is open to the end.
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&unsafe { kernel_fd(number) }.unwrap()), number);
    }
}
