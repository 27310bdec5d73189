//! A filesystem, and what is done by path.

use std::fmt;
use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use ermfs_core::process::{OpenFile, Operation};
use ermfs_core::{At, Config, Credentials, ExportFlags, Fs as Engine, InodeRef, RenameFlags, Statistics};

use crate::builder::Builder;
use crate::dir::ReadDir;
use crate::error::{bytes, os};
use crate::file::File;
use crate::held::Held;
use crate::metadata::{Metadata, time_set};
use crate::open_options::OpenOptions;
use crate::tree;

/// The mode of a new directory.
const DIRECTORY_MODE: u32 = 0o755;

/// A filesystem in memory: one tree, one budget, independent of all others.
///
/// A clone is another handle to the same filesystem. It goes, with all that is in it, when the last handle and the last
/// open [`File`] are dropped. `Send` and `Sync`; every method may be called from any thread.
///
/// **Paths** are bytes. A filesystem has no working directory: a relative path starts at its root, so `"a/b"` and
/// `"/a/b"` are the same, and `..` stays at the root. A name has up to 255 bytes, a path up to 4,095, and leads
/// through up to 40 symbolic links. Every method that takes a path fails with `EINVAL` for a NUL in it,
/// `ENAMETOOLONG`, `ENOENT` or `ENOTDIR` where a part of it is missing or no directory, `ELOOP`, and with `EIO` once
/// the library has met a fault of its own in this filesystem. These are not repeated below.
///
/// **Ownership.** What is made belongs to the effective ids of the process as they were when the filesystem was made, or
/// when [`refresh_credentials`](crate::refresh_credentials) was called last, and permission bits bind the process by them:
/// `EACCES` where they do not let a call pass, and `EPERM` where only an owner may do it. There is no umask.
#[derive(Clone)]
pub struct Fs {
    tree: Held<Tree>,
}

#[derive(Clone)]
struct Tree {
    // Dropped first: whoever drops the filesystem holds nothing in it.
    root: InodeRef,
    engine: Arc<Engine>,
}

impl Fs {
    /// A new, empty filesystem with a budget of 1 GiB that compresses files when they are closed.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> io::Result<Fs> {
        Fs::builder().build()
    }

    /// The settings of a new filesystem.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn with_config(config: &Config) -> io::Result<Fs> {
        let _inside = ermfs_core::gate::enter();
        let engine = Engine::new(config).map_err(os)?;
        Ok(Fs { tree: Held::new(Tree { root: engine.root(), engine }) })
    }

    /// Runs one call on a path.
    pub(crate) fn at<R>(
        &self,
        path: &Path,
        call: impl FnOnce(At<'_>, &[u8]) -> ermfs_core::Result<R>,
    ) -> io::Result<R> {
        let path = bytes(path)?;
        let _operation = Operation::begin(&self.tree.engine).map_err(os)?;
        call(self.start(), path).map_err(os)
    }

    /// Runs one call on the inode that a path names, for who walked the path.
    fn with_inode<R>(
        &self,
        path: &Path,
        follow: bool,
        call: impl FnOnce(&InodeRef, &Credentials) -> ermfs_core::Result<R>,
    ) -> io::Result<R> {
        self.at(path, |at, path| call(&Engine::lookup(at, path, follow)?, at.who))
    }

    fn start(&self) -> At<'_> {
        let engine = &self.tree.engine;
        At { fs: engine, dir: &self.tree.root, who: engine.credentials(), umask: 0 }
    }

    // ---- files

    /// Opens a file for reading. Source: `open(2)`.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(self, path)
    }

    /// Opens a file for writing; one that is not there is made with mode 0o644, one that is, is emptied. Source:
    /// `creat(2)`.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub fn create(&self, path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(self, path)
    }

    /// The whole content of a file. As [`std::fs::read`].
    ///
    /// # Errors
    /// As [`Fs::open`]; `EISDIR`; `EIO` for a corrupt block; `ENOMEM`.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open(path)?.read_to_end(&mut content)?;
        Ok(content)
    }

    /// The whole content of a file, as text. As [`std::fs::read_to_string`].
    ///
    /// # Errors
    /// As [`Fs::read`], and [`io::ErrorKind::InvalidData`] for what is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Makes or empties a file and writes its whole content. As [`std::fs::write`].
    ///
    /// # Errors
    /// As [`Fs::create`]; `ENOSPC`, `EFBIG` and `ENOMEM`, after which the file holds the start of `content`.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> io::Result<()> {
        self.create(path)?.write_all(content.as_ref())
    }

    /// Copies content and permission bits of a file to another, which is made or replaced, and answers the number of
    /// bytes. The two share memory until either is written to. As [`std::fs::copy`].
    ///
    /// # Errors
    /// `EINVAL` when both are the same file; `EISDIR`; `ENOSPC`; `ENOMEM`; `EIO`.
    pub fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<u64> {
        tree::copy(self, from.as_ref(), to.as_ref())
    }

    // ---- names

    /// Makes a directory, with mode 0o755. Source: `mkdir(2)`.
    ///
    /// # Errors
    /// `EEXIST`, `ENOSPC`, `ENOMEM`.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.at(path.as_ref(), |at, path| Engine::mkdir(at, path, DIRECTORY_MODE))
    }

    /// Makes a directory and those above it, as far as they are missing. As [`std::fs::create_dir_all`].
    ///
    /// # Errors
    /// `EEXIST` when the path names something else, `ENOSPC`, `ENOMEM`. What was made by then stays.
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        tree::create_dir_all(self, path.as_ref())
    }

    /// Takes away the name of a file or symbolic link. The content goes with the last name, open file and view. Needs
    /// no memory. Source: `unlink(2)`.
    ///
    /// # Errors
    /// `EISDIR` for a directory.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.at(path.as_ref(), Engine::unlink)
    }

    /// Removes an empty directory. Source: `rmdir(2)`.
    ///
    /// # Errors
    /// `ENOTEMPTY`, `ENOTDIR`, `EBUSY` for the root, `EINVAL` for a path that ends in `.`.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.at(path.as_ref(), Engine::rmdir)
    }

    /// Removes a directory and all that is in it; of a symbolic link, the link. As [`std::fs::remove_dir_all`].
    ///
    /// # Errors
    /// `ENOTDIR` for a file; `ENOTEMPTY` when others go on making entries; `EBUSY` for the root, which is empty then.
    /// What was removed before an error stays removed.
    pub fn remove_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        tree::remove_dir_all(self, path.as_ref())
    }

    /// Gives a file, directory or link another name. What has that name is replaced in the same moment: nobody sees
    /// neither or both. Source: `rename(2)`.
    ///
    /// # Errors
    /// `EISDIR`, `ENOTDIR` (a directory replaces only a directory), `ENOTEMPTY`, `EINVAL` (into itself), `EBUSY` for
    /// the root, `ENOSPC`, `ENOMEM`.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), RenameFlags::default())
    }

    /// As [`Fs::rename`], but replaces nothing. Source: `renameat2(2)`, `RENAME_NOREPLACE`.
    ///
    /// # Errors
    /// `EEXIST` when the new name is taken; those of [`Fs::rename`].
    pub fn rename_noreplace(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        self.rename_with(from.as_ref(), to.as_ref(), RenameFlags { no_replace: true, exchange: false })
    }

    /// Swaps two names, of whatever kind, in one moment. Source: `renameat2(2)`, `RENAME_EXCHANGE`.
    ///
    /// # Errors
    /// `ENOENT` unless both are there, `EINVAL` when one lies in the other, `EBUSY` for the root.
    pub fn exchange(&self, one: impl AsRef<Path>, other: impl AsRef<Path>) -> io::Result<()> {
        self.rename_with(one.as_ref(), other.as_ref(), RenameFlags { no_replace: false, exchange: true })
    }

    fn rename_with(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
        let to = bytes(to)?;
        self.at(from, |at, from| Engine::rename(at, from, at, to, flags))
    }

    /// Gives a file a second name, `link`. A symbolic link at the end of `original` is not followed. Source: `link(2)`.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a directory, `EMLINK`, `ENOSPC`, `ENOMEM`.
    pub fn hard_link(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
        let link = bytes(link.as_ref())?;
        self.at(original.as_ref(), |at, original| Engine::link(at, original, at, link, false))
    }

    /// Makes a symbolic link at `link` that points to `original`, whatever that is. A relative `original` starts at the
    /// directory of the link. Source: `symlink(2)`.
    ///
    /// # Errors
    /// `EEXIST`; `ENOENT` for an empty `original`; `ENOSPC`; `ENOMEM`.
    pub fn symlink(&self, original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
        let original = bytes(original.as_ref())?;
        self.at(link.as_ref(), |at, link| Engine::symlink(original, at, link))
    }

    /// Where a symbolic link points, as it was given. Source: `readlink(2)`.
    ///
    /// # Errors
    /// `EINVAL` for what is no symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        tree::read_link(self, path.as_ref())
    }

    /// The path from the root of what `path` names, without links, `.` and `..`. Source: `realpath(3)`.
    ///
    /// # Errors
    /// `ENOENT` also when a directory on the way is removed meanwhile.
    pub fn canonicalize(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        tree::canonicalize(self, path.as_ref())
    }

    /// The entries of a directory, in the order they were made. Source: `readdir(3)`.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOMEM`.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<ReadDir> {
        let path = path.as_ref();
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        let directory = self.at(path, |at, path| OpenFile::open(at, path, flags, 0))?;
        Ok(ReadDir::new(directory, path.to_owned()))
    }

    // ---- metadata

    /// What `path` names, links followed. Source: `stat(2)`.
    ///
    /// # Errors
    /// Those of the path.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        self.with_inode(path.as_ref(), true, |inode, _| {
            Ok(Metadata::new(inode.stat(), self.tree.engine.device()))
        })
    }

    /// What `path` names, a link at its end not followed. Source: `lstat(2)`.
    ///
    /// # Errors
    /// Those of the path.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        self.with_inode(path.as_ref(), false, |inode, _| {
            Ok(Metadata::new(inode.stat(), self.tree.engine.device()))
        })
    }

    /// Whether `path` names something, links followed. As [`std::fs::exists`].
    ///
    /// # Errors
    /// Those of the path, but for `ENOENT`, which is the answer `false`.
    pub fn exists(&self, path: impl AsRef<Path>) -> io::Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sets the permission bits, links followed. Source: `chmod(2)`.
    ///
    /// # Errors
    /// `EPERM` for who is not the owner; those of the path.
    pub fn set_permissions(&self, path: impl AsRef<Path>, permissions: Permissions) -> io::Result<()> {
        self.with_inode(path.as_ref(), true, |inode, who| inode.chmod(permissions.mode(), who))
    }

    /// Sets owner and group, links followed; `None` leaves one. Source: `chown(2)`.
    ///
    /// # Errors
    /// `EPERM`: only the superuser gives files away, an owner may choose among its groups; those of the path.
    pub fn chown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.with_inode(path.as_ref(), true, |inode, who| inode.chown(uid, gid, who))
    }

    /// As [`Fs::chown`], of a symbolic link itself. Source: `lchown(2)`.
    ///
    /// # Errors
    /// As [`Fs::chown`].
    pub fn lchown(&self, path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        self.with_inode(path.as_ref(), false, |inode, who| inode.chown(uid, gid, who))
    }

    /// Makes a regular file, fifo, socket or device node, as the kind in `mode` says, of exactly these permission bits. All
    /// but regular files are names only: to open one is `ENXIO`. Source: `mknod(2)`.
    ///
    /// # Errors
    /// `EEXIST`; `EPERM` for a directory, or for a device without privilege; `EINVAL` for another kind; `ENOSPC`; `ENOMEM`;
    /// those of the path.
    pub fn mknod(&self, path: impl AsRef<Path>, mode: u32, device: u64) -> io::Result<()> {
        self.at(path.as_ref(), |at, path| Engine::mknod(at, path, mode, device))
    }

    /// Sets the times of last access and change, links followed; `None` leaves one. Times outside 1677 to 2262 become
    /// the nearest inside. Source: `utimensat(2)`.
    ///
    /// # Errors
    /// `EPERM` for who is not the owner; those of the path.
    pub fn set_times(
        &self,
        path: impl AsRef<Path>,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> io::Result<()> {
        let (accessed, modified) = (time_set(accessed)?, time_set(modified)?);
        self.with_inode(path.as_ref(), true, |inode, who| inode.set_times(accessed, modified, who))
    }

    // ---- kernel descriptors

    /// A kernel descriptor (a memfd) of the bytes of a file as they are now, at offset 0: for `mmap`, `sendfile`, other
    /// processes, `/proc/self/fd/N` as a path. The kernel's copy is its holder's; the file goes on by itself.
    ///
    /// Without flags it is private, open for reading and writing, executable and close-on-exec. See [`ExportFlags`].
    /// Source: `memfd_create(2)`.
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// let fs = ermfs::Fs::new()?;
    /// fs.write("/greeting", "hello, kernel")?;
    /// let fd = fs.export_memfd("/greeting", ermfs::ExportFlags::empty())?;
    ///
    /// let mut text = String::new();
    /// std::fs::File::from(fd).read_to_string(&mut text)?;
    /// assert_eq!(text, "hello, kernel");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// `EISDIR`; `EIO` for a corrupt block; `ENOSPC`; `ENOMEM`; `EMFILE` and what else the kernel answers.
    pub fn export_memfd(&self, path: impl AsRef<Path>, flags: ExportFlags) -> io::Result<OwnedFd> {
        self.at(path.as_ref(), |at, path| Engine::export_memfd(at, path, flags))
    }

    /// A kernel descriptor of a `.gz` of the file as it is now, in BGZF layout: `gunzip` reads it whole, `bgzip` at
    /// random. Blocks at rest are not compressed again. Source: RFC 1952; SAM specification, 4.1.
    ///
    /// # Errors
    /// `EFBIG` for a file of more than 2^40 bytes; those of [`Fs::export_memfd`].
    pub fn export_gzip(&self, path: impl AsRef<Path>, flags: ExportFlags) -> io::Result<OwnedFd> {
        self.at(path.as_ref(), |at, path| Engine::export_gzip(at, path, flags))
    }

    /// Makes the file `path`, with the mode given, of all that a kernel descriptor has: a file from its start,
    /// whatever its offset; a pipe or socket until its end. What had the name is replaced when everything is there,
    /// and not before.
    ///
    /// # Errors
    /// `EBADF` unless open for reading, `EISDIR`, what reading it gives, `ENOSPC`, `EFBIG`, `ENOMEM`; names and
    /// budget are as before then.
    pub fn import_fd(&self, path: impl AsRef<Path>, from: impl AsFd, mode: u32) -> io::Result<()> {
        self.at(path.as_ref(), |at, path| Engine::import_fd(at, path, from.as_fd(), mode))
    }

    /// As [`Fs::import_fd`], with the content of the gzip stream that the descriptor gives. Any gzip stream will do.
    /// Source: RFC 1952.
    ///
    /// # Errors
    /// `EIO` for a stream that is cut off, damaged or not gzip; those of [`Fs::import_fd`].
    pub fn import_gzip(&self, path: impl AsRef<Path>, from: impl AsFd, mode: u32) -> io::Result<()> {
        self.at(path.as_ref(), |at, path| Engine::import_gzip(at, path, from.as_fd(), mode))
    }

    // ---- what it costs

    /// What the filesystem holds and costs now.
    ///
    /// # Errors
    /// `EIO` for a filesystem that answers nothing else any more.
    pub fn statistics(&self) -> io::Result<Statistics> {
        let _operation = Operation::begin(&self.tree.engine).map_err(os)?;
        Ok(self.tree.engine.statistics())
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs").field("device", &self.tree.engine.device()).finish()
    }
}
