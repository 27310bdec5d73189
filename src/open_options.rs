//! How a file is opened.

use std::io;
use std::path::Path;

use ermfs_core::Errno;
use ermfs_core::process::OpenFile;

use crate::error::os;
use crate::file::File;
use crate::fs::Fs;

/// How a file is to be opened, with the methods and rules of [`std::fs::OpenOptions`] and its Unix extension.
///
/// There is no umask: a new file has exactly the mode it is given, 0o644 if nothing is said.
///
/// ```
/// use std::io::Write;
/// use ermfs::{Fs, OpenOptions};
///
/// let fs = Fs::new()?;
/// let mut log = OpenOptions::new().append(true).create(true).mode(0o600).open(&fs, "/log")?;
/// log.write_all(b"one line\n")?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
    custom_flags: i32,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions::new()
    }
}

impl OpenOptions {
    /// Nothing allowed, nothing created.
    pub fn new() -> OpenOptions {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o644,
            custom_flags: 0,
        }
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.read = read;
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.write = write;
        self
    }

    /// For writing, every write at what is the end then: appends of several threads never overlap (`O_APPEND`).
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.append = append;
        self
    }

    /// A file that is there is emptied.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.truncate = truncate;
        self
    }

    /// A file that is not there is made.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.create = create;
        self
    }

    /// The file is made by this call, or the call fails with `EEXIST`; [`create`] and [`truncate`] do not count then.
    ///
    /// [`create`]: OpenOptions::create
    /// [`truncate`]: OpenOptions::truncate
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.create_new = create_new;
        self
    }

    /// The permission bits of a file that is made; 0o644 by default.
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.mode = mode;
        self
    }

    /// More of `open(2)`'s flags, `O_NOFOLLOW` or `O_TMPFILE` say. The access mode in them is ignored.
    pub fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.custom_flags = flags;
        self
    }

    /// Opens `path` in `fs`. Where the path starts is told at [`Fs`]. Source: `open(2)`.
    ///
    /// # Errors
    /// `EINVAL` for options that make no sense together (nothing allowed; creating or truncating without writing;
    /// truncating with append) and for a NUL in the path; `ENOENT`, `EEXIST`, `EISDIR`, `ENOTDIR`, `ELOOP`,
    /// `ENAMETOOLONG`, `ENOSPC`, `ENOMEM`.
    pub fn open(&self, fs: &Fs, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = self.flags().map_err(os)?;
        fs.at(path.as_ref(), |at, path| OpenFile::open(at, path, flags, self.mode)).map(File::new)
    }

    /// As the flags of `open(2)`, by the rules of the standard library.
    fn flags(&self) -> ermfs_core::Result<i32> {
        let access = match (self.read, self.write, self.append) {
            (true, false, false) => libc::O_RDONLY,
            (false, true, false) => libc::O_WRONLY,
            (true, true, false) => libc::O_RDWR,
            (false, _, true) => libc::O_WRONLY | libc::O_APPEND,
            (true, _, true) => libc::O_RDWR | libc::O_APPEND,
            (false, false, false) => return Err(Errno::EINVAL),
        };
        let creates = self.truncate || self.create || self.create_new;
        let writes = self.write || self.append;
        if creates && !writes || self.append && self.truncate && !self.create_new {
            return Err(Errno::EINVAL);
        }
        let creation = match (self.create, self.truncate, self.create_new) {
            (_, _, true) => libc::O_CREAT | libc::O_EXCL,
            (create, truncate, false) => {
                (if create { libc::O_CREAT } else { 0 }) | (if truncate { libc::O_TRUNC } else { 0 })
            }
        };
        Ok(access | creation | self.custom_flags & !libc::O_ACCMODE)
    }
}
