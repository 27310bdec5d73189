/*
 * The three variadic calls. Each finds out whether its last argument was given, as the manual pages open(2) and fcntl(2)
 * say, and hands it to a Rust function with fixed parameters, which does the work and is not exported by the library.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/types.h>

int ermfs_fixed_open(const char *path, int flags, mode_t mode);
int ermfs_fixed_openat(int dirfd, const char *path, int flags, mode_t mode);
int ermfs_fixed_fcntl(int fd, int command, int argument);
int ermfs_fixed_lock(int fd, int command, struct flock *lock);

int ermfs_open(const char *path, int flags, ...);
int ermfs_openat(int dirfd, const char *path, int flags, ...);
int ermfs_fcntl(int fd, int command, ...);

/* O_TMPFILE contains O_DIRECTORY's bit: it is asked for only when all of its bits are there. */
static bool wants_mode(int flags)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
}

int ermfs_open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (wants_mode(flags)) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return ermfs_fixed_open(path, flags, mode);
}

int ermfs_openat(int dirfd, const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (wants_mode(flags)) {
        va_list arguments;
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return ermfs_fixed_openat(dirfd, path, flags, mode);
}

int ermfs_fcntl(int fd, int command, ...)
{
    int argument = 0;

    /* The commands that take something. Reading more than was passed would be undefined. */
    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
    case F_SETFD:
    case F_SETFL: {
        va_list arguments;
        va_start(arguments, command);
        argument = va_arg(arguments, int);
        va_end(arguments);
        break;
    }
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: {
        struct flock *lock;
        va_list arguments;
        va_start(arguments, command);
        lock = va_arg(arguments, struct flock *);
        va_end(arguments);
        return ermfs_fixed_lock(fd, command, lock);
    }
    default:
        break;
    }
    return ermfs_fixed_fcntl(fd, command, argument);
}
