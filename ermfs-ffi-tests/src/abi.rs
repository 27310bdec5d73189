//! One table of C functions with POSIX signatures, filled from libc or from the ERMFS library.
//!
//! Promises that a test written against [`Abi`] runs unchanged on the kernel ([`Abi::kernel`]) and on ERMFS
//! ([`Ermfs::load`]). Owns the loaded library, which stays loaded until the process ends. Never wraps, checks or
//! corrects an answer of ERMFS; on the kernel's side only `fchmodat` is ours, because glibc needs /proc for its flags.

use libc::{
    DIR, c_char, c_int, c_long, c_uint, dev_t, dirent, gid_t, iovec, mode_t, off_t, size_t, ssize_t, stat,
    statvfs, timespec, uid_t,
};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

macro_rules! abi {
    (
        fixed { $( $name:ident ( $($ty:ty),* ) $( -> $ret:ty )?; )* }
        variadic { $( $vname:ident ( $($vty:ty),* ) -> $vret:ty; )* }
    ) => {
        /// The functions under test, each with the signature of its POSIX namesake.
        #[derive(Clone, Copy)]
        pub struct Abi {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                pub $name: unsafe extern "C" fn($($ty),*) $( -> $ret )?,
            )*
            $(
                #[doc = concat!("`", stringify!($vname), "`, variadic")]
                pub $vname: unsafe extern "C" fn($($vty,)* ...) -> $vret,
            )*
        }

        impl Abi {
            /// The kernel's functions, through libc.
            pub fn kernel() -> Abi {
                Abi {
                    $( $name: libc_functions::$name, )*
                    $( $vname: libc_functions::$vname, )*
                }
            }

            fn ermfs(library: &Library) -> Result<Abi, String> {
                let mut missing = Vec::new();
                $( let $name = library.symbol(concat!("ermfs_", stringify!($name)), &mut missing); )*
                $( let $vname = library.symbol(concat!("ermfs_", stringify!($vname)), &mut missing); )*
                if !missing.is_empty() {
                    return Err(format!("the library lacks {}", missing.join(", ")));
                }
                Ok(Abi {
                    // SAFETY: the symbol is not null, and c-api says that ermfs_NAME has the type of NAME.
                    $( $name: unsafe { std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn($($ty),*) $( -> $ret )?>($name) }, )*
                    // SAFETY: as above.
                    $( $vname: unsafe { std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn($($vty,)* ...) -> $vret>($vname) }, )*
                })
            }
        }
    };
}

abi! {
    fixed {
        creat(*const c_char, mode_t) -> c_int;
        close(c_int) -> c_int;
        read(c_int, *mut libc::c_void, size_t) -> ssize_t;
        write(c_int, *const libc::c_void, size_t) -> ssize_t;
        pread(c_int, *mut libc::c_void, size_t, off_t) -> ssize_t;
        pwrite(c_int, *const libc::c_void, size_t, off_t) -> ssize_t;
        readv(c_int, *const iovec, c_int) -> ssize_t;
        writev(c_int, *const iovec, c_int) -> ssize_t;
        preadv(c_int, *const iovec, c_int, off_t) -> ssize_t;
        pwritev(c_int, *const iovec, c_int, off_t) -> ssize_t;
        lseek(c_int, off_t, c_int) -> off_t;
        truncate(*const c_char, off_t) -> c_int;
        ftruncate(c_int, off_t) -> c_int;
        fallocate(c_int, c_int, off_t, off_t) -> c_int;
        posix_fadvise(c_int, off_t, off_t, c_int) -> c_int;
        fsync(c_int) -> c_int;
        fdatasync(c_int) -> c_int;
        copy_file_range(c_int, *mut off_t, c_int, *mut off_t, size_t, c_uint) -> ssize_t;
        dup(c_int) -> c_int;
        dup2(c_int, c_int) -> c_int;
        dup3(c_int, c_int, c_int) -> c_int;
        flock(c_int, c_int) -> c_int;
        umask(mode_t) -> mode_t;
        mkdir(*const c_char, mode_t) -> c_int;
        mkdirat(c_int, *const c_char, mode_t) -> c_int;
        mknod(*const c_char, mode_t, dev_t) -> c_int;
        mknodat(c_int, *const c_char, mode_t, dev_t) -> c_int;
        rmdir(*const c_char) -> c_int;
        unlink(*const c_char) -> c_int;
        unlinkat(c_int, *const c_char, c_int) -> c_int;
        rename(*const c_char, *const c_char) -> c_int;
        renameat(c_int, *const c_char, c_int, *const c_char) -> c_int;
        renameat2(c_int, *const c_char, c_int, *const c_char, c_uint) -> c_int;
        link(*const c_char, *const c_char) -> c_int;
        linkat(c_int, *const c_char, c_int, *const c_char, c_int) -> c_int;
        symlink(*const c_char, *const c_char) -> c_int;
        symlinkat(*const c_char, c_int, *const c_char) -> c_int;
        readlink(*const c_char, *mut c_char, size_t) -> ssize_t;
        readlinkat(c_int, *const c_char, *mut c_char, size_t) -> ssize_t;
        access(*const c_char, c_int) -> c_int;
        faccessat(c_int, *const c_char, c_int, c_int) -> c_int;
        chdir(*const c_char) -> c_int;
        fchdir(c_int) -> c_int;
        getcwd(*mut c_char, size_t) -> *mut c_char;
        realpath(*const c_char, *mut c_char) -> *mut c_char;
        stat(*const c_char, *mut stat) -> c_int;
        lstat(*const c_char, *mut stat) -> c_int;
        fstat(c_int, *mut stat) -> c_int;
        fstatat(c_int, *const c_char, *mut stat, c_int) -> c_int;
        statvfs(*const c_char, *mut statvfs) -> c_int;
        fstatvfs(c_int, *mut statvfs) -> c_int;
        chmod(*const c_char, mode_t) -> c_int;
        fchmod(c_int, mode_t) -> c_int;
        fchmodat(c_int, *const c_char, mode_t, c_int) -> c_int;
        chown(*const c_char, uid_t, gid_t) -> c_int;
        lchown(*const c_char, uid_t, gid_t) -> c_int;
        fchown(c_int, uid_t, gid_t) -> c_int;
        fchownat(c_int, *const c_char, uid_t, gid_t, c_int) -> c_int;
        utimensat(c_int, *const c_char, *const timespec, c_int) -> c_int;
        futimens(c_int, *const timespec) -> c_int;
        getxattr(*const c_char, *const c_char, *mut libc::c_void, size_t) -> ssize_t;
        setxattr(*const c_char, *const c_char, *const libc::c_void, size_t, c_int) -> c_int;
        listxattr(*const c_char, *mut c_char, size_t) -> ssize_t;
        removexattr(*const c_char, *const c_char) -> c_int;
        lgetxattr(*const c_char, *const c_char, *mut libc::c_void, size_t) -> ssize_t;
        lsetxattr(*const c_char, *const c_char, *const libc::c_void, size_t, c_int) -> c_int;
        llistxattr(*const c_char, *mut c_char, size_t) -> ssize_t;
        lremovexattr(*const c_char, *const c_char) -> c_int;
        fgetxattr(c_int, *const c_char, *mut libc::c_void, size_t) -> ssize_t;
        fsetxattr(c_int, *const c_char, *const libc::c_void, size_t, c_int) -> c_int;
        flistxattr(c_int, *mut c_char, size_t) -> ssize_t;
        fremovexattr(c_int, *const c_char) -> c_int;
        opendir(*const c_char) -> *mut DIR;
        fdopendir(c_int) -> *mut DIR;
        readdir(*mut DIR) -> *mut dirent;
        closedir(*mut DIR) -> c_int;
        rewinddir(*mut DIR);
        telldir(*mut DIR) -> c_long;
        seekdir(*mut DIR, c_long);
        dirfd(*mut DIR) -> c_int;
    }
    variadic {
        open(*const c_char, c_int) -> c_int;
        openat(c_int, *const c_char, c_int) -> c_int;
        fcntl(c_int, c_int) -> c_int;
    }
}

/// libc's functions under one path, `fchmodat` replaced.
mod libc_functions {
    pub(super) use libc::{
        access, chdir, chmod, chown, close, closedir, copy_file_range, creat, dirfd, dup, dup2, dup3,
        faccessat, fallocate, fchdir, fchmod, fchown, fchownat, fcntl, fdatasync, fdopendir, fgetxattr,
        flistxattr, flock, fremovexattr, fsetxattr, fstat, fstatat, fstatvfs, fsync, ftruncate, futimens,
        getcwd, getxattr, lchown, lgetxattr, link, linkat, listxattr, llistxattr, lremovexattr, lseek,
        lsetxattr, lstat, mkdir, mkdirat, mknod, mknodat, open, openat, opendir, posix_fadvise, pread,
        preadv, pwrite, pwritev, read, readdir, readlink, readlinkat, readv, realpath, removexattr, rename,
        renameat, renameat2, rewinddir, rmdir, seekdir, setxattr, stat, statvfs, symlink, symlinkat, telldir,
        truncate, umask, unlink, unlinkat, utimensat, write, writev,
    };
    use libc::{c_char, c_int, mode_t};

    const SYS_FCHMODAT2: libc::c_long = 452;

    /// `fchmodat` as the kernel's fchmodat2 (Linux 6.6) answers it. glibc's own emulation of the flags looks into
    /// /proc, which a changed root does not have.
    pub(super) unsafe extern "C" fn fchmodat(
        dir: c_int,
        path: *const c_char,
        mode: mode_t,
        flags: c_int,
    ) -> c_int {
        if flags == 0 {
            // SAFETY: the caller's pointer, handed on.
            return unsafe { libc::fchmodat(dir, path, mode, 0) };
        }
        // SAFETY: as above; the kernel checks every argument.
        unsafe { libc::syscall(SYS_FCHMODAT2, dir, path, mode, flags) as c_int }
    }
}

/// `struct ermfs_config` of the C interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ErmfsConfig {
    /// sizeof(struct ermfs_config)
    pub struct_size: size_t,
    /// Hard budget in bytes; 0: the default of 1 GiB.
    pub max_bytes: u64,
    /// Largest single file's allocated bytes; 0: no limit but `max_bytes`.
    pub max_file_bytes: u64,
    /// In per cent of `max_bytes`; 0: the default.
    pub soft_limit_percent: u32,
    /// 0: on close, 1: in the background, 2: never.
    pub compress: u32,
    /// libdeflate's level; 0: the default.
    pub level: i32,
    /// Inflated blocks kept for closed files, in bytes; 0: the default.
    pub cache_bytes: u64,
    /// 0: the default mode, 1: locked, 2: lockless.
    pub mode: u32,
    /// 0
    pub reserved: u32,
}

/// The loaded ERMFS library.
pub struct Ermfs {
    /// Its functions that have a POSIX namesake.
    pub abi: Abi,
    /// `ermfs_fsmount`: a new filesystem's root descriptor.
    pub fsmount: unsafe extern "C" fn(*const ErmfsConfig) -> c_int,
    /// `ermfs_configure_default`: before the default filesystem's first use.
    pub configure_default: unsafe extern "C" fn(*const ErmfsConfig) -> c_int,
    /// `ermfs_refresh_credentials`: reads the thread's ids again.
    pub refresh_credentials: unsafe extern "C" fn() -> c_int,
}

impl Ermfs {
    /// Loads the library into this process, for good.
    ///
    /// # Errors
    /// The dynamic linker's own words, or the names of all functions that the library lacks.
    pub fn load(path: &Path) -> Result<Ermfs, String> {
        let library = Library::open(path)?;
        let abi = Abi::ermfs(&library)?;
        let mut missing = Vec::new();
        let fsmount = library.symbol("ermfs_fsmount", &mut missing);
        let configure = library.symbol("ermfs_configure_default", &mut missing);
        let refresh = library.symbol("ermfs_refresh_credentials", &mut missing);
        if !missing.is_empty() {
            return Err(format!("the library lacks {}", missing.join(", ")));
        }
        type Configure = unsafe extern "C" fn(*const ErmfsConfig) -> c_int;
        Ok(Ermfs {
            abi,
            // SAFETY: not null, and the C interface gives this function this type.
            fsmount: unsafe { std::mem::transmute::<*mut libc::c_void, Configure>(fsmount) },
            // SAFETY: as above.
            configure_default: unsafe { std::mem::transmute::<*mut libc::c_void, Configure>(configure) },
            // SAFETY: as above, with a type of its own.
            refresh_credentials: unsafe {
                std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn() -> c_int>(refresh)
            },
        })
    }
}

/// A library that dlopen loaded and nobody unloads.
struct Library(*mut libc::c_void);

impl Library {
    fn open(path: &Path) -> Result<Library, String> {
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: a NUL-terminated path; the library's constructors are its own affair.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: after a failed dlopen, dlerror gives a NUL-terminated text that stays until the next dl call.
            let text = unsafe { CStr::from_ptr(libc::dlerror()) };
            return Err(text.to_string_lossy().into_owned());
        }
        Ok(Library(handle))
    }

    fn symbol(&self, name: &str, missing: &mut Vec<String>) -> *mut libc::c_void {
        let symbol = CString::new(name).expect("a symbol has no NUL");
        // SAFETY: the handle is open and the name NUL-terminated.
        let address = unsafe { libc::dlsym(self.0, symbol.as_ptr()) };
        if address.is_null() {
            missing.push(name.to_owned());
        }
        address
    }
}

/// The path of the library under test: `ERMFS_LIBRARY`, else what `scripts/build-library.sh` of the project builds
/// (its last line of output), run once per process.
///
/// # Errors
/// A text that says why there is no library.
pub fn library() -> Result<&'static Path, String> {
    static PATH: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PATH.get_or_init(find_library).as_deref().map_err(Clone::clone)
}

fn find_library() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ERMFS_LIBRARY") {
        return Ok(PathBuf::from(path));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/build-library.sh");
    let output = Command::new(&script).output().map_err(|error| format!("{}: {error}", script.display()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}\n{text}", script.display(), output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().ok_or("build-library.sh printed no path")?;
    Ok(PathBuf::from(line.trim()))
}
