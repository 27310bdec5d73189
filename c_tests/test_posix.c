/*
 * POSIX behaviour of ERMFS, by families of calls.
 *
 * Built with -DORACLE, the families of posix_files.h, posix_names.h, posix_metadata.h, posix_permissions.h, posix_xattr.h and
 * posix_locks.h run against the kernel's tmpfs, which proves every expectation; built against ermfs.h they are followed by those
 * of posix_own.h, which only ERMFS has.
 * Each family works in a directory of its own and leaves nothing behind.
 */
#define _GNU_SOURCE
#include "target.h"

#include "check.h"

#define LONG_PATH 4096
#define MIB ((size_t)1 << 20)
#define GIB ((off_t)1 << 30)

/* Read at run time, so that the compiler does not reject what is wrong on purpose. */
static void *volatile nothing = NULL;
static volatile int minus_one = -1;

/* ---- helpers ---- */

/* A descriptor of a new or emptied file, open for reading and writing. */
static int make_open(const char *path)
{
    int fd = E(open)(path, O_RDWR | O_CREAT | O_TRUNC, 0644);

    CHECK(fd >= 0);
    return fd;
}

static void make_file(const char *path, const char *text)
{
    int fd = make_open(path);

    CHECK(E(write)(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(E(close)(fd) == 0);
}

static bool fd_holds(int fd, const char *text)
{
    char bytes[256];
    ssize_t length = E(pread)(fd, bytes, sizeof bytes, 0);

    return length == (ssize_t)strlen(text) && memcmp(bytes, text, (size_t)length) == 0;
}

static bool holds(const char *path, const char *text)
{
    int fd = E(open)(path, O_RDONLY);
    bool same = fd >= 0 && fd_holds(fd, text);

    if (fd >= 0)
        E(close)(fd);
    return same;
}

static struct stat stat_of(const char *path)
{
    struct stat status = {0};

    CHECK(E(lstat)(path, &status) == 0);
    return status;
}

static struct stat stat_of_fd(int fd)
{
    struct stat status = {0};

    CHECK(E(fstat)(fd, &status) == 0);
    return status;
}

static bool exists(const char *path)
{
    struct stat status;

    return E(lstat)(path, &status) == 0;
}

static bool all_zero(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return false;
    return true;
}

static bool later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static bool dot_name(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Removes everything below an open directory, whose descriptor it takes. */
static void empty_directory(int fd)
{
    e_dir *dir = E(fdopendir)(fd);
    struct dirent *entry;

    if (!CHECK(dir != NULL))
        return;
    while ((entry = E(readdir)(dir)) != NULL) {
        struct stat status;
        if (dot_name(entry->d_name))
            continue;
        CHECK(E(fstatat)(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0);
        if (S_ISDIR(status.st_mode))
            empty_directory(E(openat)(fd, entry->d_name, O_RDONLY | O_DIRECTORY));
        CHECK(E(unlinkat)(fd, entry->d_name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0) == 0);
    }
    CHECK(E(closedir)(dir) == 0);
}

/* Runs one family in a directory of its own. */
static void run_family(const char *name, void (*family)(void))
{
    CHECK(E(mkdir)(name, 0755) == 0);
    CHECK(E(chdir)(name) == 0);
    family();
    CHECK(E(chdir)("/") == 0);
    empty_directory(E(open)(name, O_RDONLY | O_DIRECTORY));
    CHECK(E(rmdir)(name) == 0);
}

#include "posix_files.h"
#include "posix_locks.h"
#include "posix_metadata.h"
#include "posix_names.h"
#include "posix_permissions.h"
#include "posix_xattr.h"

#ifndef ORACLE
#include "posix_own.h"
#endif

static int run_all(void)
{
    run_family("files", files);
    run_family("vectors", vectors);
    run_family("seeking", seeking);
    run_family("big_offsets", big_offsets);
    run_family("truncating", truncating);
    run_family("allocating", allocating);
    run_family("flags", flags);
    run_family("descriptors", descriptors);
    run_family("unlinked", unlinked);
    run_family("links", links);
    run_family("symlinks", symlinks);
    run_family("renames", renames);
    run_family("reading_directories", reading_directories);
    run_family("removed_directories", removed_directories);
    run_family("working_directory", working_directory);
    run_family("metadata", metadata);
    run_family("attributes", attributes);
    run_family("permissions", permissions);
    run_family("locks", locks);
    run_family("limits", limits);
    run_family("bad_arguments", bad_arguments);
#ifndef ORACLE
    run_own_families();
#endif
    return check_summary();
}

int main(void)
{
    return target_run(run_all);
}
