/*
 * The family of test_posix.c about permissions and special nodes. Included by test_posix.c only.
 *
 * As root it takes on the ids of two users; as anybody else only what needs no other ids is tested.
 */

#include <sys/sysmacros.h>

#define OWNER 1000
#define STRANGER 1001
#define SHARED_GROUP 2000

/* The ids are the process's; ERMFS is told of them, the kernel knows. */
static void refresh(void)
{
#ifndef ORACLE
    CHECK(ermfs_refresh_credentials() == 0);
#endif
}

static void act_as(uid_t uid, gid_t gid)
{
    CHECK(seteuid(0) == 0 && setegid(gid) == 0 && seteuid(uid) == 0);
    refresh();
}

/* Whether fs.protected_hardlinks, which ERMFS always has, holds for the target. */
static bool hard_links_are_protected(void)
{
#ifdef ORACLE
    /* The root directory is another one by now, and /proc is not below it. */
    return false;
#else
    return true;
#endif
}

static void searching_and_opening(void)
{
    struct stat status;

    CHECK(E(mkdir)("dir", 0700) == 0);
    make_file("dir/file", "text");
    CHECK(E(chmod)("dir/file", 0640) == 0 && E(chown)("dir/file", OWNER, SHARED_GROUP) == 0);
    act_as(STRANGER, STRANGER);
    CHECK_ERRNO(E(stat)("dir/file", &status), EACCES);
    CHECK_ERRNO(E(stat)("dir/none", &status), EACCES);
    CHECK_ERRNO(E(open)("dir", O_RDONLY), EACCES);
    CHECK_ERRNO(E(chdir)("dir"), EACCES);
    act_as(0, 0);
    CHECK(E(chmod)("dir", 0755) == 0);
    act_as(STRANGER, STRANGER);
    CHECK(E(stat)("dir/file", &status) == 0);
    CHECK_ERRNO(E(open)("dir/file", O_RDONLY), EACCES);
    CHECK_ERRNO(E(truncate)("dir/file", 0), EACCES);
    CHECK_ERRNO(E(faccessat)(E_AT_FDCWD, "dir/file", R_OK, AT_EACCESS), EACCES);
    /* By the real ids, which are root's. */
    CHECK(E(access)("dir/file", R_OK | W_OK) == 0);
    CHECK_ERRNO(E(access)("dir/file", X_OK), EACCES);
    CHECK_ERRNO(E(open)("dir/new", O_CREAT | O_WRONLY, 0600), EACCES);
    CHECK_ERRNO(E(mkdir)("dir/new", 0700), EACCES);
    CHECK_ERRNO(E(unlink)("dir/file"), EACCES);
    CHECK_ERRNO(E(rename)("dir/file", "dir/other"), EACCES);
    act_as(STRANGER, SHARED_GROUP);
    CHECK(E(close)(E(open)("dir/file", O_RDONLY)) == 0);
    CHECK_ERRNO(E(open)("dir/file", O_WRONLY), EACCES);
    CHECK_ERRNO(E(open)("dir/file", O_RDONLY | O_TRUNC), EACCES);
    CHECK_ERRNO(E(open)("dir/file", O_RDONLY | O_NOATIME), EPERM);
    act_as(OWNER, OWNER);
    CHECK(E(close)(E(open)("dir/file", O_RDWR | O_NOATIME)) == 0);
    act_as(0, 0);
    CHECK(E(unlink)("dir/file") == 0 && E(rmdir)("dir") == 0);
}

static void owners(void)
{
    struct stat status;
    struct timespec times[2] = {{1, 0}, {2, 0}};

    make_file("file", "text");
    CHECK(E(chown)("file", OWNER, SHARED_GROUP) == 0 && E(chmod)("file", 0666) == 0);
    act_as(STRANGER, SHARED_GROUP);
    CHECK_ERRNO(E(chmod)("file", 0600), EPERM);
    CHECK_ERRNO(E(chown)("file", STRANGER, minus_one), EPERM);
    CHECK_ERRNO(E(utimensat)(E_AT_FDCWD, "file", times, 0), EPERM);
    CHECK(E(utimensat)(E_AT_FDCWD, "file", nothing, 0) == 0);
    act_as(OWNER, OWNER);
    CHECK(E(utimensat)(E_AT_FDCWD, "file", times, 0) == 0);
    CHECK_ERRNO(E(chown)("file", STRANGER, minus_one), EPERM);
    CHECK_ERRNO(E(chown)("file", OWNER, STRANGER), EPERM);
    CHECK(E(chown)("file", OWNER, OWNER) == 0);
    CHECK(E(chmod)("file", 02755) == 0 && E(stat)("file", &status) == 0 && (status.st_mode & 07777) == 02755);
    act_as(OWNER, STRANGER);
    CHECK(E(chmod)("file", 06777) == 0 && E(stat)("file", &status) == 0 && (status.st_mode & 07777) == 04777);
    act_as(STRANGER, STRANGER);
    int fd = E(open)("file", O_WRONLY);
    CHECK(fd >= 0 && E(write)(fd, "x", 1) == 1 && E(fstat)(fd, &status) == 0 && (status.st_mode & 07777) == 0777);
    CHECK(E(close)(fd) == 0);
    act_as(0, 0);
    CHECK(E(unlink)("file") == 0);
}

static void sticky_directories(void)
{
    CHECK(E(mkdir)("shared", 0) == 0 && E(chmod)("shared", 01777) == 0);
    act_as(OWNER, OWNER);
    make_file("shared/file", "text");
    CHECK(E(chmod)("shared/file", 0666) == 0);
    act_as(STRANGER, STRANGER);
    CHECK_ERRNO(E(unlink)("shared/file"), EPERM);
    CHECK_ERRNO(E(rename)("shared/file", "shared/mine"), EPERM);
    make_file("shared/mine", "mine");
    CHECK_ERRNO(E(rename)("shared/mine", "shared/file"), EPERM);
    if (hard_links_are_protected()) {
        CHECK(E(link)("shared/file", "shared/link") == 0);
        CHECK_ERRNO(E(unlink)("shared/link"), EPERM);
        act_as(OWNER, OWNER);
        CHECK(E(chmod)("shared/file", 0644) == 0 && E(unlink)("shared/link") == 0);
        act_as(STRANGER, STRANGER);
        CHECK_ERRNO(E(link)("shared/file", "shared/link"), EPERM);
    }
    act_as(OWNER, OWNER);
    CHECK(E(rename)("shared/file", "shared/other") == 0 && E(unlink)("shared/other") == 0);
    act_as(0, 0);
    CHECK(E(unlink)("shared/mine") == 0 && E(rmdir)("shared") == 0);
}

static void special_node(const char *name, mode_t kind, dev_t device)
{
    struct stat status;

    CHECK(E(mknod)(name, kind | 0640, device) == 0);
    CHECK_ERRNO(E(mknodat)(E_AT_FDCWD, name, kind | 0640, device), EEXIST);
    CHECK(E(lstat)(name, &status) == 0 && status.st_mode == (kind | 0640) && status.st_size == 0 && status.st_nlink == 1);
    CHECK(status.st_rdev == ((kind == S_IFCHR || kind == S_IFBLK) ? device : 0));
    if (kind != S_IFIFO)
        CHECK(E(open)(name, O_RDWR | O_NONBLOCK) == -1 && (errno == ENXIO || errno == EACCES));
    CHECK_ERRNO(E(open)(name, O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_ERRNO(E(truncate)(name, 0), EINVAL);
    int fd = E(open)(name, O_PATH);
    CHECK(fd >= 0 && E(fstat)(fd, &status) == 0 && (status.st_mode & S_IFMT) == kind && E(close)(fd) == 0);
    CHECK(E(link)(name, "linked") == 0 && E(rename)("linked", "moved") == 0 && E(unlink)("moved") == 0);
    CHECK(E(unlink)(name) == 0);
}

static void special_nodes(void)
{
    struct stat status;

    special_node("fifo", S_IFIFO, 77);
    special_node("socket", S_IFSOCK, 77);
    if (geteuid() == 0) {
        special_node("character", S_IFCHR, makedev(4000, 1));
        special_node("block", S_IFBLK, makedev(4000, 70000));
    } else {
        CHECK_ERRNO(E(mknod)("character", S_IFCHR | 0600, makedev(4000, 1)), EPERM);
    }
    CHECK(E(mknod)("plain", 0666, 0) == 0 && E(stat)("plain", &status) == 0 && status.st_mode == (S_IFREG | 0644));
    CHECK(E(unlink)("plain") == 0);
    CHECK_ERRNO(E(mknod)("d", S_IFDIR | 0700, 0), EPERM);
    CHECK_ERRNO(E(mknod)("l", S_IFLNK | 0700, 0), EINVAL);
    CHECK_ERRNO(E(mknod)("none/f", S_IFIFO | 0600, 0), ENOENT);
    CHECK_ERRNO(E(mknod)("f/", S_IFIFO | 0600, 0), ENOENT);
}

static void permissions(void)
{
    special_nodes();
    if (geteuid() != 0) {
        puts("SKIPPED: the tests of permissions need root");
        return;
    }
    searching_and_opening();
    owners();
    sticky_directories();
}
