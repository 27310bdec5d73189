//! Listing a directory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::iter::FusedIterator;
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use ermfs_core::process::{OpenFileRef, Operation};
use ermfs_core::{At, Errno, Fs as Engine, InodeKind};

use crate::error::os;
use crate::held::Held;
use crate::metadata::{FileType, Metadata};
use crate::tree::copied;

/// How many entries are taken at a time.
const BATCH: usize = 128;

/// The entries of a directory, without `.` and `..`: from [`Fs::read_dir`].
///
/// An entry that is there all the time is given exactly once, whatever is made and removed meanwhile; one that comes or
/// goes, at most once. In a directory that is removed the entries end. `Send` and `Sync`.
///
/// [`Fs::read_dir`]: crate::Fs::read_dir
pub struct ReadDir {
    directory: Held<OpenFileRef>,
    path: Arc<PathBuf>,
    batch: VecDeque<DirEntry>,
    ended: bool,
}

impl ReadDir {
    pub(crate) fn new(directory: OpenFileRef, path: PathBuf) -> ReadDir {
        ReadDir {
            directory: Held::new(directory),
            path: Arc::new(path),
            batch: VecDeque::new(),
            ended: false,
        }
    }

    fn fill(&mut self) -> ermfs_core::Result<()> {
        self.batch.try_reserve(BATCH)?;
        let (batch, directory, path) = (&mut self.batch, &self.directory, &self.path);
        let (mut ended, mut result) = (true, Ok(()));
        directory.read_directory(&mut |entry| {
            if batch.len() == BATCH {
                ended = false;
                return ControlFlow::Break(());
            }
            if entry.name != b"." && entry.name != b".." {
                let name = match copied(entry.name) {
                    Ok(name) => OsString::from_vec(name),
                    Err(error) => {
                        result = Err(error);
                        return ControlFlow::Break(());
                    }
                };
                batch.push_back(DirEntry {
                    directory: directory.clone(),
                    path: Arc::clone(path),
                    name,
                    ino: entry.ino,
                    kind: entry.kind,
                });
            }
            ControlFlow::Continue(())
        })?;
        self.ended = ended;
        result
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    /// The next entry. `ENOMEM` and `EIO` can come instead; after an error there are no more entries.
    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        if self.batch.is_empty()
            && !self.ended
            && let Err(error) = self.fill()
        {
            self.ended = true;
            // A directory that was removed has no entries any more; readdir(3) sees it so too.
            return (error != Errno::ENOENT).then(|| Err(os(error)));
        }
        self.batch.pop_front().map(Ok)
    }
}

impl FusedIterator for ReadDir {}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// One entry of a directory, from [`ReadDir`]. It keeps the directory open.
#[derive(Clone)]
pub struct DirEntry {
    directory: Held<OpenFileRef>,
    path: Arc<PathBuf>,
    name: OsString,
    ino: u64,
    kind: InodeKind,
}

impl DirEntry {
    /// The name, without a path.
    pub fn file_name(&self) -> OsString {
        self.name.clone()
    }

    /// The path that was given to [`Fs::read_dir`], and the name.
    ///
    /// [`Fs::read_dir`]: crate::Fs::read_dir
    pub fn path(&self) -> PathBuf {
        self.path.join(&self.name)
    }

    /// The file's number, see [`Metadata::ino`].
    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// What the entry was when it was listed; links are not followed.
    ///
    /// # Errors
    /// None; the signature is that of [`std::fs::DirEntry::file_type`].
    pub fn file_type(&self) -> io::Result<FileType> {
        Ok(FileType::new(self.kind))
    }

    /// What the name stands for now, in this very directory; links are not followed.
    ///
    /// # Errors
    /// `ENOENT` when the entry is gone, `EIO`.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let engine: &Arc<Engine> = self.directory.fs();
        let _operation = Operation::begin(engine).map_err(os)?;
        let at = At { fs: engine, dir: self.directory.inode(), who: engine.credentials(), umask: 0 };
        let inode = Engine::lookup(at, self.name.as_bytes(), false).map_err(os)?;
        Ok(Metadata::new(inode.stat(), engine.device()))
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
