/*
 * ERMFS: an ephemeral filesystem in the memory of a process. Link with -lermfs.
 *
 * ermfs_NAME has the parameters, the return value and the errno of its POSIX namesake NAME; what is said here is what a
 * caller may rely on beyond that. Offsets, sizes and lengths are in bytes unless said otherwise.
 *
 * Errors: -1 or NULL with errno set, which a success leaves alone. No call aborts, prints, or lets a panic out: one inside
 * the library gives EIO and makes that filesystem answer EIO from then on. NULL where a pointer is needed gives EFAULT; a
 * pointer that is wild, or to less than a call says it needs, is the caller's crash. Buffers and paths that a call is given
 * stay as they are until it returns. Any call may also give EIO as said, and ENOMEM when the machine has no memory left.
 *
 * Threads: every function may be called from any thread at any time, except that one ermfs_dir and one FILE position belong
 * to one thread at a time. None is async-signal-safe. After fork the child has its own private copy of everything, usable
 * at once, whatever other threads were doing.
 *
 * Descriptors: an ERMFS descriptor is not the kernel's. They are handed out lowest first from 1,048,576 on and mean
 * something to ermfs_ functions only.
 *
 * Paths are bytes and end with a NUL: names up to 255 bytes, paths up to 4,095, 40 symbolic links. Every function without a
 * dirfd means the default filesystem, made at its first use, and its working directory. An absolute path starts at the root
 * of the dirfd's filesystem. rename and link across filesystems give EXDEV.
 *
 * Ownership: new files belong to the process's effective user and group, and permission bits are enforced for these and
 * for the supplementary groups as the kernel would; user 0 passes all checks. The ids are those that the process had when
 * the filesystem was made, and are read again by ermfs_refresh_credentials. The umask starts as 022.
 */


#ifndef ERMFS_H
#define ERMFS_H

/* Made by cbindgen from ermfs-capi; `make header` makes it anew. */

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <time.h>
#if !defined(__linux__) || !defined(__LP64__)
#error "ERMFS is for 64-bit Linux"
#endif

/* Refused here, at compile time: an off_t of 32 bits. */
typedef char ermfs_off_t_has_64_bits[sizeof(off_t) == 8 ? 1 : -1];

/* Strict ISO C hides some of these in the system's headers. */
struct dirent;
struct iovec;
struct stat;
struct statvfs;
struct timespec;

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Opens a file and answers its descriptor. A last parameter `mode_t mode` is read when flags hold O_CREAT or O_TMPFILE:
 * the permission bits of a new file, before the umask. Beside the flags of open(2) there is ERMFS_O_ANYFD.
 * EACCES, EEXIST, EFAULT, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EPERM.
 * Source: open(2).
 */
int ermfs_open(const char *path, int flags, ...);

/**
 * ermfs_open relative to a directory; EBADF also. Source: openat(2).
 */
int ermfs_openat(int dirfd, const char *path, int flags, ...);

/**
 * F_DUPFD and F_DUPFD_CLOEXEC (int: the lowest number wanted), F_GETFD, F_SETFD (int), F_GETFL, F_SETFL (int).
 * F_GETLK, F_SETLK and F_SETLKW (struct flock *): record locks of the process. They never keep out another thread, they go
 * with the first close of any descriptor of the file, and a fork child has none. F_OFD_GETLK, F_OFD_SETLK and F_OFD_SETLKW
 * (struct flock *, l_pid 0): of the open file description, with whose last descriptor they go; a fork child has its own
 * copy of them. A wait, which no other thread's close ends, does not hold up a fork, and the child has none.
 * EAGAIN (locked), EBADF, EDEADLK, EFAULT, EINTR (a signal handler ran during the wait), EINVAL (another command, a number
 * out of range, a bad lock), EMFILE, ENOLCK (no memory), EOVERFLOW, EPERM (O_NOATIME, and not the owner). Source: fcntl(2).
 */
int ermfs_fcntl(int fd, int command, ...);

#ifdef __cplusplus
}
#endif

/**
 * The version that a program is compiled for; ermfs_version gives the one that it runs with.
 */
#define ERMFS_VERSION_MAJOR 0

/**
 * See ERMFS_VERSION_MAJOR.
 */
#define ERMFS_VERSION_MINOR 1

/**
 * See ERMFS_VERSION_MAJOR.
 */
#define ERMFS_VERSION_PATCH 0

/**
 * compress: a file is packed by the call that closes its last writable description.
 */
#define ERMFS_COMPRESS_ON_CLOSE 0

/**
 * compress: a thread of the library packs files after they were closed.
 */
#define ERMFS_COMPRESS_BACKGROUND 1

/**
 * compress: files are never packed.
 */
#define ERMFS_COMPRESS_NEVER 2

/**
 * mode: what the process is set to.
 */
#define ERMFS_MODE_DEFAULT 0

/**
 * mode: readers of a file share its lock.
 */
#define ERMFS_MODE_LOCKED 1

/**
 * mode: readers take no lock.
 */
#define ERMFS_MODE_LOCKLESS 2

/**
 * file_info.form: no content, holes only included.
 */
#define ERMFS_FORM_EMPTY 0

/**
 * file_info.form: no block is packed.
 */
#define ERMFS_FORM_RAW 1

/**
 * file_info.form: every block is packed.
 */
#define ERMFS_FORM_PACKED 2

/**
 * file_info.form: packed and raw blocks.
 */
#define ERMFS_FORM_MIXED 3

/**
 * In the flags of an open: any free descriptor will do, not the lowest. Faster when many threads open and close.
 */
#define ERMFS_O_ANYFD 1073741824

/**
 * As a dirfd: the default filesystem's working directory.
 */
#define ERMFS_AT_FDCWD -100

/**
 * A flag of the exports: read-only and sealed; repeated exports of the unchanged file share its memory.
 */
#define ERMFS_EXPORT_SEALED 1

/**
 * A flag of the exports: not close-on-exec, which fexecve of a #! script needs.
 */
#define ERMFS_EXPORT_NOCLOEXEC 2

/**
 * A flag of the exports: not executable, for good.
 */
#define ERMFS_EXPORT_NOEXEC 4

/**
 * A directory stream. It belongs to one thread at a time.
 */
typedef struct ermfs_dir ermfs_dir;

/**
 * Pieces of a file as they were at one moment. Any thread may use them and any one may close the view.
 */
typedef struct ermfs_view ermfs_view;

/**
 * How a filesystem is set up. A member that is 0 has its default.
 */
typedef struct ermfs_config {
    /**
     * sizeof(struct ermfs_config)
     */
    size_t struct_size;
    /**
     * Hard budget in bytes for all memory of this filesystem, beyond which calls fail with ENOSPC. Default: 1 GiB.
     */
    uint64_t max_bytes;
    /**
     * Largest single file's allocated bytes, beyond which calls fail with EFBIG. Default: no limit but max_bytes.
     */
    uint64_t max_file_bytes;
    /**
     * In per cent of max_bytes; crossing it counts in soft_limit_hits. At most 100. Default: 85.
     */
    uint32_t soft_limit_percent;
    /**
     * ERMFS_COMPRESS_ON_CLOSE (the default), ERMFS_COMPRESS_BACKGROUND or ERMFS_COMPRESS_NEVER.
     */
    uint32_t compress;
    /**
     * gzip level as libdeflate has them, 1 to 12. Default: 1, or 6 in the background.
     */
    int32_t level;
    /**
     * Inflated blocks kept for closed files, in bytes. Default: max_bytes / 8.
     */
    uint64_t cache_bytes;
    /**
     * ERMFS_MODE_DEFAULT, ERMFS_MODE_LOCKED or ERMFS_MODE_LOCKLESS.
     */
    uint32_t mode;
    /**
     * 0
     */
    uint32_t reserved;
} ermfs_config;

/**
 * What a filesystem holds and costs at one moment.
 */
typedef struct ermfs_stats {
    /**
     * Files and symbolic links, unlinked but open ones too.
     */
    uint64_t files;
    /**
     * Directories, the root too.
     */
    uint64_t directories;
    /**
     * Open file descriptions.
     */
    uint64_t open_descriptions;
    /**
     * Sum of the files' sizes in bytes, holes not counted.
     */
    uint64_t logical_bytes;
    /**
     * Memory of blocks that are not packed, in bytes.
     */
    uint64_t raw_bytes;
    /**
     * Memory of packed blocks, in bytes.
     */
    uint64_t packed_bytes;
    /**
     * Memory of inflated copies of packed blocks, in bytes.
     */
    uint64_t cached_bytes;
    /**
     * Memory of shared exports, in bytes.
     */
    uint64_t exported_bytes;
    /**
     * Memory of names, inodes and block maps, in bytes.
     */
    uint64_t metadata_bytes;
    /**
     * The sum of the five above.
     */
    uint64_t bytes_in_use;
    /**
     * The largest bytes_in_use so far, give or take the 128 KiB that each of a few threads may have charged ahead.
     */
    uint64_t peak_bytes;
    /**
     * The budget.
     */
    uint64_t max_bytes;
    /**
     * Blocks packed so far.
     */
    uint64_t blocks_packed;
    /**
     * Blocks inflated so far.
     */
    uint64_t blocks_inflated;
    /**
     * Blocks that did not shrink and were left as they were, so far.
     */
    uint64_t blocks_stored;
    /**
     * How often the soft limit was crossed upwards, what threads have charged ahead included.
     */
    uint64_t soft_limit_hits;
    /**
     * Calls that failed for lack of budget.
     */
    uint64_t hard_limit_hits;
    /**
     * Damaged blocks met, and panics inside the library.
     */
    uint64_t errors;
} ermfs_stats;

/**
 * In what form a file's content lies in memory.
 */
typedef struct ermfs_file_info {
    /**
     * st_size, in bytes.
     */
    uint64_t size;
    /**
     * Memory that the content takes now, in bytes.
     */
    uint64_t stored_bytes;
    /**
     * ERMFS_FORM_EMPTY, ERMFS_FORM_RAW, ERMFS_FORM_PACKED or ERMFS_FORM_MIXED.
     */
    uint32_t form;
    /**
     * Blocks of 65,536 bytes, the last one perhaps begun; the three below add up to it. 2^32 - 1 for more than that.
     */
    uint32_t blocks;
    /**
     * Packed blocks.
     */
    uint32_t blocks_packed;
    /**
     * Blocks that lie there as they are.
     */
    uint32_t blocks_raw;
    /**
     * Blocks that take no memory.
     */
    uint32_t blocks_hole;
} ermfs_file_info;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Makes a new, empty filesystem and answers a directory descriptor of its root, close-on-exec. It lives as long as
 * any descriptor or view of it. NULL: the defaults. Not a POSIX function.
 * E2BIG (a member unknown to this library is not 0), EINVAL, EMFILE, ENOMEM.
 */
int ermfs_fsmount(const struct ermfs_config *config);

/**
 * Sets up the default filesystem, the one that every path without a dirfd means, before its first use. NULL: the
 * defaults. Errors as ermfs_fsmount, and EBUSY after the first use. Not a POSIX function.
 */
int ermfs_configure_default(const struct ermfs_config *config);

/**
 * Fills what the filesystem of `dirfd` (any descriptor of it, or ERMFS_AT_FDCWD) holds and costs. `size` is
 * sizeof(struct ermfs_stats) as the caller was compiled; the smaller of that and the library's is filled.
 * EBADF, EFAULT. Not a POSIX function.
 */
int ermfs_get_stats(int dirfd, struct ermfs_stats *stats, size_t size);

/**
 * Fills in what form an open file's content lies in memory. `size` as for ermfs_get_stats, of
 * struct ermfs_file_info. EBADF, EFAULT, EINVAL (not a regular file). Not a POSIX function.
 */
int ermfs_fget_info(int fd, struct ermfs_file_info *info, size_t size);

/**
 * Sets whether readers take locks, for the process and its default filesystem; files survive the switch, and calls
 * in flight are waited for; other filesystems keep their mode. EBUSY while any descriptor or directory stream is open;
 * ENOSPC, ENOMEM when there is no room for the directories' tables twice, for a moment: nothing has changed then. Not a POSIX
 * function.
 */
int ermfs_set_lockless_mode(bool enable);

/**
 * What ermfs_set_lockless_mode or the environment variable ERMFS_LOCKLESS set; never fails. Not a POSIX function.
 */
bool ermfs_is_lockless(void);

/**
 * The library's version, "major.minor.patch"; stays valid. Not a POSIX function.
 */
const char *ermfs_version(void);

/**
 * Opens a new or emptied file for writing: ermfs_open with O_CREAT | O_WRONLY | O_TRUNC, and with its errors.
 * Answers a descriptor. Source: creat(2).
 */
int ermfs_creat(const char *path, mode_t mode);

/**
 * Closes a descriptor. The last descriptor of the last writable description of a file packs the file (see
 * struct ermfs_config), which never makes the close fail. EBADF. Source: close(2).
 */
int ermfs_close(int fd);

/**
 * Reads at most `count` bytes at the offset and moves it. Answers the bytes read, 0 at the end of the file; the
 * read and the move are one step for all who share the description.
 * EBADF, EFAULT, EINVAL (count over SSIZE_MAX), EIO (a damaged block), EISDIR. Source: read(2).
 */
ssize_t ermfs_read(int fd, void *buf, size_t count);

/**
 * Writes at most `count` bytes at the offset (with O_APPEND at the end of the file) and moves it. Answers the bytes
 * written: fewer than asked when space or the largest size ends on the way.
 * EBADF, EFAULT, EFBIG, EINVAL, EIO, ENOMEM, ENOSPC. Source: write(2).
 */
ssize_t ermfs_write(int fd, const void *buf, size_t count);

/**
 * Reads at most `count` bytes at `offset` (in bytes), whatever the description's offset is; that does not move.
 * Errors as ermfs_read, and EINVAL for a negative offset. Source: pread(2).
 */
ssize_t ermfs_pread(int fd, void *buf, size_t count, off_t offset);

/**
 * Writes at most `count` bytes at `offset` (in bytes), whatever the description's offset is; that does not move.
 * As on Linux, a description with O_APPEND appends. Errors as ermfs_write, and EINVAL for a negative offset.
 * Source: pwrite(2).
 */
ssize_t ermfs_pwrite(int fd, const void *buf, size_t count, off_t offset);

/**
 * ermfs_read into several buffers, one after the other. EINVAL also for a count outside 0..1024 and for a sum
 * of lengths over SSIZE_MAX. Source: readv(2).
 */
ssize_t ermfs_readv(int fd, const struct iovec *iov, int iovcnt);

/**
 * ermfs_write from several buffers, one after the other. EINVAL also for a count outside 0..1024 and for a sum
 * of lengths over SSIZE_MAX. Source: writev(2).
 */
ssize_t ermfs_writev(int fd, const struct iovec *iov, int iovcnt);

/**
 * ermfs_pread into several buffers. Errors as ermfs_readv and ermfs_pread. Source: preadv(2).
 */
ssize_t ermfs_preadv(int fd, const struct iovec *iov, int iovcnt, off_t offset);

/**
 * ermfs_pwrite from several buffers. Errors as ermfs_writev and ermfs_pwrite. Source: pwritev(2).
 */
ssize_t ermfs_pwritev(int fd, const struct iovec *iov, int iovcnt, off_t offset);

/**
 * Moves the offset, in bytes, by SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA or SEEK_HOLE; answers where it is now.
 * EBADF, EINVAL (an unknown whence, a negative result), ENXIO (no data, or past the end), EOVERFLOW.
 * Source: lseek(2).
 */
off_t ermfs_lseek(int fd, off_t offset, int whence);

/**
 * Sets a file's size to `length` bytes; what is new reads as zeros and takes no memory.
 * EACCES, EFAULT, EFBIG, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR. Source: truncate(2).
 */
int ermfs_truncate(const char *path, off_t length);

/**
 * Sets an open file's size to `length` bytes. EBADF, EFBIG, EINVAL (negative, not a file, not open for writing),
 * ENOSPC. Source: ftruncate(2).
 */
int ermfs_ftruncate(int fd, off_t length);

/**
 * Allocates, frees, zeroes, removes or inserts the `length` bytes at `offset`. mode: 0, FALLOC_FL_KEEP_SIZE,
 * FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE with or without KEEP_SIZE, and
 * FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE in multiples of st_blksize (65,536 bytes).
 * EBADF, EFBIG, EINVAL, ENODEV, ENOSPC, EOPNOTSUPP, ESPIPE. Source: fallocate(2), as ext4 behaves.
 */
int ermfs_fallocate(int fd, int mode, off_t offset, off_t length);

/**
 * Advice on `length` bytes at `offset`, which changes nothing that a program can see. Answers 0 or an error number
 * (EBADF, EINVAL) and leaves errno alone, as POSIX asks. Source: posix_fadvise(2).
 */
int ermfs_posix_fadvise(int fd, off_t offset, off_t length, int advice);

/**
 * Nothing outlives the process, so there is nothing to do. EBADF, EINVAL. Source: fsync(2).
 */
int ermfs_fsync(int fd);

/**
 * As ermfs_fsync. EBADF, EINVAL. Source: fdatasync(2).
 */
int ermfs_fdatasync(int fd);

/**
 * Copies at most `length` bytes from one open file to another, or within one when the ranges do not overlap. The
 * offsets pointed to, or those of the descriptions for NULL, are used and moved. Answers the bytes copied. Blocks are
 * shared, not copied, where they line up. EBADF, EFBIG, EINVAL, EIO, EISDIR, ENOSPC, EOVERFLOW, EXDEV.
 * Source: copy_file_range(2).
 */
ssize_t ermfs_copy_file_range(int fd_in, off_t *off_in, int fd_out, off_t *off_out, size_t length, unsigned int flags);

/**
 * Opens a file as a stream for fread, fprintf, fclose and the rest of stdio; fileno has no descriptor to give. The
 * letters of `mode`: r, w or a, then + x e and, without effect, b c m. A file is made with 0666 & ~umask.
 * EINVAL (another mode), ENOMEM, and the errors of ermfs_open. Source: fopen(3), as glibc has it.
 */
FILE *ermfs_fopen(const char *path, const char *mode);

/**
 * Locks a file as a whole for the open file description: LOCK_SH beside others, LOCK_EX alone, with LOCK_NB without
 * waiting; or unlocks it, LOCK_UN. Another kind of lock that the description has is given up first. A lock goes with
 * the last descriptor of the description, and is apart from those of ermfs_fcntl. It keeps nobody from reading or writing.
 * EBADF, EINTR, EINVAL, ENOLCK (no memory), EWOULDBLOCK. Source: flock(2).
 */
int ermfs_flock(int fd, int operation);

/**
 * The lowest free descriptor as a second name of the same open file description. EBADF, EMFILE. Source: dup(2).
 */
int ermfs_dup(int fd);

/**
 * Makes `newfd` a second name of fd's open file description, closing what it named before, in one step. newfd is an
 * ERMFS number, 1,048,576 or above; it may be fd itself. EBADF. Source: dup2(2).
 */
int ermfs_dup2(int fd, int newfd);

/**
 * ermfs_dup2 with flags (0 or O_CLOEXEC). EINVAL also for newfd equal to fd. Source: dup3(2).
 */
int ermfs_dup3(int fd, int newfd, int flags);

/**
 * Sets the process's mask for ERMFS, 022 at first, apart from the kernel's. Answers the one before; never fails.
 * Source: umask(2).
 */
mode_t ermfs_umask(mode_t mask);

/**
 * Makes a directory with mode & ~umask. EACCES, EEXIST, EFAULT, ELOOP, EMLINK, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC,
 * ENOTDIR. Source: mkdir(2).
 */
int ermfs_mkdir(const char *path, mode_t mode);

/**
 * ermfs_mkdir relative to a directory; EBADF also. Source: mkdirat(2).
 */
int ermfs_mkdirat(int dirfd, const char *path, mode_t mode);

/**
 * Makes a regular file (S_IFREG, or no kind) or a special node (S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK; dev counts for the
 * last two) with mode & ~umask. A special node is a name: to open it gives ENXIO. EACCES, EEXIST, EFAULT, EINVAL
 * (another kind), ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC, ENOTDIR, EPERM (a directory; a device, unless the
 * process is root). Source: mknod(2).
 */
int ermfs_mknod(const char *path, mode_t mode, dev_t dev);

/**
 * ermfs_mknod relative to a directory; EBADF also. Source: mknodat(2).
 */
int ermfs_mknodat(int dirfd, const char *path, mode_t mode, dev_t dev);

/**
 * Removes an empty directory. EACCES, EBUSY, EFAULT, EINVAL (the last part is "."), ELOOP, ENAMETOOLONG, ENOENT,
 * ENOTDIR, ENOTEMPTY, EPERM. Source: rmdir(2).
 */
int ermfs_rmdir(const char *path);

/**
 * Removes a name; the file goes with its last name and descriptor. Works in a full filesystem.
 * EACCES, EFAULT, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM. Source: unlink(2).
 */
int ermfs_unlink(const char *path);

/**
 * ermfs_unlink or, with AT_REMOVEDIR, ermfs_rmdir, relative to a directory; EBADF, EINVAL (unknown flags) also.
 * Source: unlinkat(2).
 */
int ermfs_unlinkat(int dirfd, const char *path, int flags);

/**
 * Gives a file or directory another name, replacing what had it, in one step. EACCES, EBUSY, EFAULT, EINVAL (into
 * itself), EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EPERM, EXDEV. Source: rename(2).
 */
int ermfs_rename(const char *oldpath, const char *newpath);

/**
 * ermfs_rename relative to directories; EBADF, and EXDEV when they are of two filesystems. Source: renameat(2).
 */
int ermfs_renameat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath);

/**
 * ermfs_renameat with RENAME_NOREPLACE (EEXIST) or RENAME_EXCHANGE; EINVAL for both or others.
 * Source: renameat2(2).
 */
int ermfs_renameat2(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, unsigned int flags);

/**
 * Gives a file one more name; a symbolic link is linked itself. EACCES, EEXIST, EFAULT, ELOOP, EMLINK, ENAMETOOLONG,
 * ENOENT, ENOSPC, ENOTDIR, EPERM (a directory), EXDEV. Source: link(2).
 */
int ermfs_link(const char *oldpath, const char *newpath);

/**
 * ermfs_link relative to directories, with AT_SYMLINK_FOLLOW or, for an open file (one made with O_TMPFILE, say),
 * AT_EMPTY_PATH; EBADF, EINVAL also. Source: linkat(2).
 */
int ermfs_linkat(int olddirfd, const char *oldpath, int newdirfd, const char *newpath, int flags);

/**
 * Makes a symbolic link at `linkpath` that holds `target`, any path. EACCES, EEXIST, EFAULT, ELOOP, ENAMETOOLONG,
 * ENOENT (an empty target also), ENOSPC, ENOTDIR. Source: symlink(2).
 */
int ermfs_symlink(const char *target, const char *linkpath);

/**
 * ermfs_symlink relative to a directory; EBADF also. Source: symlinkat(2).
 */
int ermfs_symlinkat(const char *target, int newdirfd, const char *linkpath);

/**
 * Copies what a symbolic link holds, at most `bufsiz` bytes and without a NUL; answers how many. EACCES, EFAULT,
 * EINVAL (not a symbolic link; bufsiz 0), ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR. Source: readlink(2).
 */
ssize_t ermfs_readlink(const char *path, char *buf, size_t bufsiz);

/**
 * ermfs_readlink relative to a directory; an empty path means dirfd itself, opened with O_PATH | O_NOFOLLOW; EBADF
 * also. Source: readlinkat(2).
 */
ssize_t ermfs_readlinkat(int dirfd, const char *path, char *buf, size_t bufsiz);

/**
 * Whether the process may use a file: F_OK, or R_OK, W_OK, X_OK together. EACCES, EFAULT, EINVAL, ELOOP,
 * ENAMETOOLONG, ENOENT, ENOTDIR. Source: access(2).
 */
int ermfs_access(const char *path, int mode);

/**
 * ermfs_access relative to a directory, with AT_EACCESS, AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF also.
 * Source: faccessat(2).
 */
int ermfs_faccessat(int dirfd, const char *path, int mode, int flags);

/**
 * Makes a directory of the default filesystem the working directory of the process. EACCES, EFAULT, ELOOP,
 * ENAMETOOLONG, ENOENT, ENOTDIR. Source: chdir(2).
 */
int ermfs_chdir(const char *path);

/**
 * ermfs_chdir to an open directory, of any filesystem: relative paths follow it there. EACCES, EBADF, ENOTDIR.
 * Source: fchdir(2).
 */
int ermfs_fchdir(int fd);

/**
 * Writes the working directory's path and a NUL into `buf` of `size` bytes and answers buf. For NULL the memory comes
 * from malloc, `size` bytes of it or, for 0, as many as it takes; the caller frees it.
 * EINVAL (size 0 with a buffer), ENOENT (it was removed), ENOMEM, ERANGE. Source: getcwd(3).
 */
char *ermfs_getcwd(char *buf, size_t size);

/**
 * Writes the absolute path of a file, without ".", ".." and symbolic links, and a NUL into `resolved` of PATH_MAX
 * bytes and answers it. For NULL the memory comes from malloc and the caller frees it. EACCES, EINVAL (path is
 * NULL), ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR. Source: realpath(3).
 */
char *ermfs_realpath(const char *path, char *resolved);

/**
 * The status of the file that a path names. st_blksize is 65,536; st_blocks is what the content takes now, in units
 * of 512 bytes, and falls when the file is packed. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR.
 * Source: stat(2).
 */
int ermfs_stat(const char *path, struct stat *statbuf);

/**
 * ermfs_stat of a symbolic link itself. Source: lstat(2).
 */
int ermfs_lstat(const char *path, struct stat *statbuf);

/**
 * ermfs_stat of an open file. EBADF, EFAULT. Source: fstat(2).
 */
int ermfs_fstat(int fd, struct stat *statbuf);

/**
 * ermfs_stat relative to a directory, with AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF, EINVAL also.
 * Source: fstatat(2).
 */
int ermfs_fstatat(int dirfd, const char *path, struct stat *statbuf, int flags);

/**
 * The room of the filesystem that a path lies in, in units of f_frsize bytes: its budget and what is left of it.
 * EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR. Source: statvfs(3).
 */
int ermfs_statvfs(const char *path, struct statvfs *buf);

/**
 * ermfs_statvfs of an open file's filesystem. EBADF, EFAULT. Source: fstatvfs(3).
 */
int ermfs_fstatvfs(int fd, struct statvfs *buf);

/**
 * Sets the permission bits, set-id bits and sticky bit. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
 * (not the owner). Source: chmod(2).
 */
int ermfs_chmod(const char *path, mode_t mode);

/**
 * ermfs_chmod of an open file. EBADF, EPERM. Source: fchmod(2).
 */
int ermfs_fchmod(int fd, mode_t mode);

/**
 * ermfs_chmod relative to a directory; with AT_SYMLINK_NOFOLLOW a symbolic link gives EOPNOTSUPP; EBADF, EINVAL also.
 * Source: fchmodat(2).
 */
int ermfs_fchmodat(int dirfd, const char *path, mode_t mode, int flags);

/**
 * Sets a file's owner and group; (uid_t) -1 and (gid_t) -1 leave them. EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT,
 * ENOTDIR, EPERM. Source: chown(2).
 */
int ermfs_chown(const char *path, uid_t owner, gid_t group);

/**
 * ermfs_chown of a symbolic link itself. Source: lchown(2).
 */
int ermfs_lchown(const char *path, uid_t owner, gid_t group);

/**
 * ermfs_chown of an open file. EBADF, EPERM. Source: fchown(2).
 */
int ermfs_fchown(int fd, uid_t owner, gid_t group);

/**
 * ermfs_chown relative to a directory, with AT_SYMLINK_NOFOLLOW or AT_EMPTY_PATH; EBADF, EINVAL also.
 * Source: fchownat(2).
 */
int ermfs_fchownat(int dirfd, const char *path, uid_t owner, gid_t group, int flags);

/**
 * Reads the process's effective and real ids again: permissions are judged by them, and new files belong to them, in all
 * its filesystems. Without it a filesystem goes by the ids that the process had when it was made. ENOMEM. Not a POSIX
 * function; see credentials(7).
 */
int ermfs_refresh_credentials(void);

/**
 * Sets the times of last access (times[0]) and last change (times[1]), in seconds and nanoseconds; NULL, UTIME_NOW
 * and UTIME_OMIT as on Linux. EACCES, EBADF, EFAULT, EINVAL, ELOOP, ENAMETOOLONG,
 * ENOENT, ENOTDIR, EPERM. Source: utimensat(2).
 */
int ermfs_utimensat(int dirfd, const char *path, const struct timespec *times, int flags);

/**
 * ermfs_utimensat of an open file. EACCES, EBADF, EINVAL, EPERM. Source: futimens(3).
 */
int ermfs_futimens(int fd, const struct timespec *times);

/**
 * Copies the value of an extended attribute and answers its length in bytes; size 0 asks for the length only. EACCES,
 * EFAULT, EINVAL (a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOMEM, ENOTDIR, EOPNOTSUPP (neither user.,
 * trusted. nor security.; security.capability), ERANGE (size too small; a name of 0 or more than 255 bytes).
 * Source: getxattr(2).
 */
ssize_t ermfs_getxattr(const char *path, const char *name, void *value, size_t size);

/**
 * ermfs_getxattr of a symbolic link itself. Source: lgetxattr(2).
 */
ssize_t ermfs_lgetxattr(const char *path, const char *name, void *value, size_t size);

/**
 * ermfs_getxattr of an open file; EBADF, also for O_PATH. Source: fgetxattr(2).
 */
ssize_t ermfs_fgetxattr(int fd, const char *name, void *value, size_t size);

/**
 * Sets an extended attribute; flags: 0, XATTR_CREATE, XATTR_REPLACE. A value has at most 65,536 bytes. E2BIG, EACCES,
 * EEXIST, EFAULT, EINVAL (unknown flags; a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT, ENOMEM, ENOSPC,
 * ENOTDIR, EOPNOTSUPP (as ermfs_getxattr), EPERM, ERANGE (a name of 0 or more than 255 bytes). Source: setxattr(2).
 */
int ermfs_setxattr(const char *path, const char *name, const void *value, size_t size, int flags);

/**
 * ermfs_setxattr of a symbolic link itself. Source: lsetxattr(2).
 */
int ermfs_lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags);

/**
 * ermfs_setxattr of an open file; EBADF, also for O_PATH. Source: fsetxattr(2).
 */
int ermfs_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);

/**
 * Copies the names of the extended attributes, a NUL after each, in no particular order, and answers how many bytes that
 * is; size 0 asks for the number only. E2BIG (more than 65,536), EACCES, EFAULT, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM,
 * ENOTDIR, ERANGE (size too small). Source: listxattr(2).
 */
ssize_t ermfs_listxattr(const char *path, char *list, size_t size);

/**
 * ermfs_listxattr of a symbolic link itself. Source: llistxattr(2).
 */
ssize_t ermfs_llistxattr(const char *path, char *list, size_t size);

/**
 * ermfs_listxattr of an open file; EBADF, also for O_PATH. Source: flistxattr(2).
 */
ssize_t ermfs_flistxattr(int fd, char *list, size_t size);

/**
 * Removes an extended attribute. EACCES, EFAULT, EINVAL (a namespace alone), ELOOP, ENAMETOOLONG, ENODATA, ENOENT,
 * ENOTDIR, EOPNOTSUPP (as ermfs_getxattr), EPERM, ERANGE (a name of 0 or more than 255 bytes). Source: removexattr(2).
 */
int ermfs_removexattr(const char *path, const char *name);

/**
 * ermfs_removexattr of a symbolic link itself. Source: lremovexattr(2).
 */
int ermfs_lremovexattr(const char *path, const char *name);

/**
 * ermfs_removexattr of an open file; EBADF, also for O_PATH. Source: fremovexattr(2).
 */
int ermfs_fremovexattr(int fd, const char *name);

/**
 * Opens a stream of a directory's entries; ermfs_closedir ends it. EACCES, EFAULT, ELOOP, EMFILE, ENAMETOOLONG, ENOENT,
 * ENOMEM, ENOTDIR. Source: opendir(3).
 */
struct ermfs_dir *ermfs_opendir(const char *name);

/**
 * Makes an open directory a stream, which owns the descriptor from then on. EBADF, ENOMEM, ENOTDIR.
 * Source: fdopendir(3).
 */
struct ermfs_dir *ermfs_fdopendir(int fd);

/**
 * The next entry, which is the stream's own until its next call; NULL at the end, with errno untouched. "." and ".." are
 * entries. An entry that nobody makes or removes meanwhile is seen exactly once. EBADF, EFAULT, EIO.
 * Source: readdir(3).
 */
struct dirent *ermfs_readdir(struct ermfs_dir *dirp);

/**
 * Closes a stream and its descriptor. EFAULT. Source: closedir(3).
 */
int ermfs_closedir(struct ermfs_dir *dirp);

/**
 * Goes back to the first entry and looks at the directory anew. Source: rewinddir(3).
 */
void ermfs_rewinddir(struct ermfs_dir *dirp);

/**
 * Where the stream is, for ermfs_seekdir of the same stream. EFAULT. Source: telldir(3).
 */
long ermfs_telldir(struct ermfs_dir *dirp);

/**
 * Goes to where ermfs_telldir was called. Source: seekdir(3).
 */
void ermfs_seekdir(struct ermfs_dir *dirp, long loc);

/**
 * The stream's descriptor, which stays the stream's. EFAULT. Source: dirfd(3).
 */
int ermfs_dirfd(struct ermfs_dir *dirp);

/**
 * Fills iov with up to *iovcnt pieces of the file's own memory, for `length` bytes at `offset` as they are at the call,
 * valid and unchanging until ermfs_view_close, whatever happens to the file. *iovcnt and the pieces' sum say how much
 * is covered: less than asked at the end of the file or when the pieces do not suffice. The pieces are only to be read.
 * Packed blocks are inflated first. EBADF, EFAULT, EINVAL, EIO (a damaged block), EISDIR, ENOMEM, ENOSPC. Not a POSIX
 * function.
 */
struct ermfs_view *ermfs_view_open(int fd, off_t offset, size_t length, struct iovec *iov, int *iovcnt);

/**
 * Ends a view; its pieces are gone. NULL does nothing. Not a POSIX function.
 */
void ermfs_view_close(struct ermfs_view *view);

/**
 * A kernel descriptor, at offset 0, of a memfd with the file's bytes, size and holes as they are at the call, named
 * after the last 249 bytes of the path; the caller closes it with close. It is a private copy, read-write and
 * close-on-exec, unless flags (ERMFS_EXPORT_...) say otherwise. It takes the permission to read. EACCES, EFAULT, EINVAL, EIO (a damaged
 * block), EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO (a special node). Not a POSIX function; see memfd_create(2).
 */
int ermfs_export_memfd(const char *path, int flags);

/**
 * ermfs_export_memfd relative to a directory; EBADF also. Not a POSIX function.
 */
int ermfs_export_memfdat(int dirfd, const char *path, int flags);

/**
 * ermfs_export_memfd of an open file, unlinked ones too; the memfd is called "ermfs". EBADF (not open for reading)
 * also. Not a POSIX function.
 */
int ermfs_fexport_memfd(int fd, int flags);

/**
 * A kernel descriptor, at offset 0, of a memfd that holds a .gz of the file as it is at the call: gunzip reads it
 * whole, bgzip at random. It is never executable. Errors as ermfs_export_memfd, and EFBIG for a file over 2^40 bytes.
 * Not a POSIX function. Format: RFC 1952, BGZF (SAM specification, 4.1).
 */
int ermfs_export_gzip(const char *path, int flags);

/**
 * Replaces the process image by the file, an ELF program or a #! script, which finds /proc/self/fd/N as its name. All
 * filesystems go with the process image. argv and envp end with NULL. Returns only on error, with -1. E2BIG, EACCES (not a
 * regular file, or no x bit), EFAULT, ELOOP, ENAMETOOLONG, ENOENT (the interpreter also), ENOEXEC, ENOMEM, ENOTDIR.
 * Source: execve(2).
 */
int ermfs_execve(const char *path, char *const *argv, char *const *envp);

/**
 * Makes all that a kernel descriptor gives a file named `path`, with mode & ~umask. What can be read at an offset is read
 * from its start, its offset staying; a pipe or socket to its end. The file appears when it is complete, replacing what
 * was there as a rename would; a failed import changes nothing. The descriptor stays open during the call. EACCES,
 * EAGAIN, EBADF, EFAULT, EFBIG, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM, ENOSPC, ENOTDIR, and what read(2) gives.
 * Not a POSIX function.
 */
int ermfs_import_fd(const char *path, int kernel_fd, mode_t mode);

/**
 * ermfs_import_fd of the content of any .gz, of one member or many. Errors as ermfs_import_fd, and EIO when it is cut
 * off, damaged or not gzip. Not a POSIX function. Format: RFC 1952.
 */
int ermfs_import_gzip(const char *path, int kernel_fd, mode_t mode);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* ERMFS_H */
