/*
 * Families of test_posix.c about the working directory, metadata, limits and bad arguments. Included by test_posix.c only.
 */

/* ---- working directory, realpath ---- */

static void working_directory(void)
{
    char cwd[LONG_PATH], *path;
    int dir, fd;

    CHECK(E(getcwd)(cwd, sizeof cwd) == cwd && strcmp(cwd, "/working_directory") == 0);
    CHECK_NULL_ERRNO(E(getcwd)(cwd, 18), ERANGE);
    CHECK(E(getcwd)(cwd, 19) == cwd);
    CHECK_NULL_ERRNO(E(getcwd)(cwd, 0), EINVAL);
    CHECK(E(mkdir)("a", 0755) == 0 && E(mkdir)("a/b", 0755) == 0 && E(symlink)("a/b", "s") == 0);
    CHECK(E(chdir)("s") == 0 && E(getcwd)(cwd, sizeof cwd) && strcmp(cwd, "/working_directory/a/b") == 0);
    make_file("here", "x");
    CHECK(E(chdir)("/working_directory") == 0 && exists("a/b/here"));
    CHECK_ERRNO(E(chdir)("missing"), ENOENT);
    CHECK_ERRNO(E(chdir)("a/b/here"), ENOTDIR);
    CHECK_ERRNO(E(chdir)(""), ENOENT);
    dir = E(open)("a", O_RDONLY);
    fd = E(open)("a/b/here", O_RDONLY);
    CHECK(E(fchdir)(dir) == 0 && exists("b/here"));
    CHECK_ERRNO(E(fchdir)(fd), ENOTDIR);
    CHECK(E(close)(dir) == 0 && E(close)(fd) == 0);
    CHECK_ERRNO(E(fchdir)(dir), EBADF);
    CHECK(E(chdir)("/") == 0 && E(getcwd)(cwd, sizeof cwd) && strcmp(cwd, "/") == 0);
    CHECK(E(chdir)("../..") == 0 && E(getcwd)(cwd, 2) == cwd && strcmp(cwd, "/") == 0);
    CHECK(E(chdir)("working_directory") == 0);

    CHECK(E(realpath)("s/../../s/./here", cwd) == cwd && strcmp(cwd, "/working_directory/a/b/here") == 0);
    path = E(realpath)("//..//working_directory//", NULL);
    CHECK(path && strcmp(path, "/working_directory") == 0);
    free(path);
    CHECK(E(realpath)("/", cwd) == cwd && strcmp(cwd, "/") == 0);
    CHECK_NULL_ERRNO(E(realpath)("missing", cwd), ENOENT);
    CHECK_NULL_ERRNO(E(realpath)("a/b/here/x", cwd), ENOTDIR);
    CHECK_NULL_ERRNO(E(realpath)("", cwd), ENOENT);
}

/* ---- access and metadata ---- */

static void access_checks(void)
{
    make_file("f", "x");
    CHECK(E(symlink)("missing", "dangling") == 0);
    CHECK(E(access)("f", F_OK) == 0 && E(access)("f", R_OK | W_OK) == 0);
    CHECK(E(access)(".", R_OK | W_OK | X_OK) == 0);
    CHECK_ERRNO(E(access)("missing", F_OK), ENOENT);
    CHECK_ERRNO(E(access)("dangling", F_OK), ENOENT);
    CHECK_ERRNO(E(access)("f/x", F_OK), ENOTDIR);
    CHECK_ERRNO(E(access)("f", 8), EINVAL);
    CHECK(E(faccessat)(E_AT_FDCWD, "f", R_OK, AT_EACCESS) == 0);
    CHECK(E(faccessat)(E_AT_FDCWD, "dangling", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK_ERRNO(E(faccessat)(E_AT_FDCWD, "f", F_OK, 0x40000000), EINVAL);
    CHECK_ERRNO(E(faccessat)(-1, "f", F_OK, 0), EBADF);
}

static void modes_and_owners(void)
{
    struct stat before, after;
    int fd = make_open("m");

    before = stat_of("m");
    CHECK(E(chmod)("m", 0604) == 0);
    after = stat_of("m");
    CHECK(after.st_mode == (S_IFREG | 0604) && later(after.st_ctim, before.st_ctim));
    CHECK(after.st_mtim.tv_sec == before.st_mtim.tv_sec && after.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
    CHECK(E(fchmod)(fd, 0640) == 0 && (stat_of("m").st_mode & 07777) == 0640);
    CHECK(E(fchmodat)(E_AT_FDCWD, "m", 01777, 0) == 0 && (stat_of("m").st_mode & 07777) == 01777);
    CHECK(E(chmod)("m", 0x10000 | 0644) == 0 && stat_of("m").st_mode == (S_IFREG | 0644));
    CHECK(E(mkdir)("md", 0755) == 0 && E(chmod)("md", 01777) == 0 && stat_of("md").st_mode == (S_IFDIR | 01777));
    CHECK(E(symlink)("m", "ml") == 0 && E(chmod)("ml", 0600) == 0 && (stat_of("m").st_mode & 07777) == 0600);
    CHECK_ERRNO(E(chmod)("missing", 0600), ENOENT);
    CHECK_ERRNO(E(fchmod)(-1, 0600), EBADF);

    CHECK(E(chown)("m", (uid_t)-1, (gid_t)-1) == 0);
    CHECK(E(chown)("m", geteuid(), getegid()) == 0 && stat_of("m").st_uid == geteuid());
    if (geteuid() == 0 && E(chown)("m", 1234, 2345) == 0) {
        CHECK(stat_of("m").st_uid == 1234 && stat_of("m").st_gid == 2345);
        CHECK(E(fchown)(fd, 7, (gid_t)-1) == 0 && stat_of("m").st_uid == 7 && stat_of("m").st_gid == 2345);
        CHECK(E(lchown)("ml", 99, 98) == 0 && stat_of("ml").st_uid == 99 && stat_of("m").st_uid == 7);
        CHECK(E(fchownat)(E_AT_FDCWD, "ml", 5, 6, 0) == 0 && stat_of("m").st_uid == 5);
        CHECK(E(fchownat)(fd, "", 8, 9, AT_EMPTY_PATH) == 0 && stat_of("m").st_gid == 9);
        CHECK(E(chmod)("m", 06755) == 0 && E(chown)("m", 5, 6) == 0 && (stat_of("m").st_mode & 07777) == 0755);
    }
    CHECK_ERRNO(E(chown)("missing", 0, 0), ENOENT);
    CHECK_ERRNO(E(fchown)(-1, 0, 0), EBADF);
    CHECK_ERRNO(E(fchownat)(E_AT_FDCWD, "m", 0, 0, 0x40000000), EINVAL);
    CHECK(E(close)(fd) == 0);
}

static void times_set(void)
{
    struct timespec both[2] = {{1000000001, 123456789}, {-5, 987654321}};
    struct timespec partial[2] = {{0, UTIME_OMIT}, {7, 1}}, now[2] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
    struct timespec bad[2] = {{0, 1000000000}, {0, 0}}, negative[2] = {{0, -1}, {0, 0}};
    struct stat status;
    int fd = make_open("times");

    CHECK(E(utimensat)(E_AT_FDCWD, "times", both, 0) == 0);
    status = stat_of("times");
    CHECK(status.st_atim.tv_sec == 1000000001 && status.st_atim.tv_nsec == 123456789);
    CHECK(status.st_mtim.tv_sec == -5 && status.st_mtim.tv_nsec == 987654321);
    CHECK(E(futimens)(fd, partial) == 0);
    status = stat_of("times");
    CHECK(status.st_atim.tv_nsec == 123456789 && status.st_mtim.tv_sec == 7 && status.st_mtim.tv_nsec == 1);
    CHECK(E(futimens)(fd, now) == 0 && stat_of("times").st_atim.tv_sec > 1500000000 && stat_of("times").st_mtim.tv_sec == 7);
    CHECK(E(futimens)(fd, NULL) == 0 && stat_of("times").st_mtim.tv_sec > 1500000000);
    CHECK_ERRNO(E(futimens)(fd, bad), EINVAL);
    CHECK_ERRNO(E(futimens)(fd, negative), EINVAL);
    CHECK_ERRNO(E(futimens)(-1, both), EBADF);
    CHECK_ERRNO(E(utimensat)(E_AT_FDCWD, "missing", both, 0), ENOENT);
    CHECK_ERRNO(E(utimensat)(E_AT_FDCWD, "times", both, 0x40000000), EINVAL);
    CHECK(E(symlink)("times", "tl") == 0 && E(utimensat)(E_AT_FDCWD, "tl", both, AT_SYMLINK_NOFOLLOW) == 0);
    CHECK(stat_of("tl").st_mtim.tv_sec == -5 && stat_of("times").st_mtim.tv_sec > 1500000000);
    CHECK(E(close)(fd) == 0);
}

/* Every change is seen as later than a time read before it. */
static void times_follow_changes(void)
{
    struct stat a, b;
    int fd;

    CHECK(E(mkdir)("td", 0755) == 0);
    a = stat_of("td");
    fd = make_open("td/f");
    b = stat_of("td");
    CHECK(later(b.st_mtim, a.st_mtim) && later(b.st_ctim, a.st_ctim));
    a = stat_of_fd(fd);
    CHECK(E(write)(fd, "x", 1) == 1);
    b = stat_of_fd(fd);
    CHECK(later(b.st_mtim, a.st_mtim) && later(b.st_ctim, a.st_ctim));
    CHECK(E(ftruncate)(fd, 0) == 0);
    a = stat_of_fd(fd);
    CHECK(later(a.st_mtim, b.st_mtim));
    CHECK(E(link)("td/f", "td/g") == 0);
    b = stat_of_fd(fd);
    CHECK(later(b.st_ctim, a.st_ctim) && !later(b.st_mtim, a.st_mtim));
    CHECK(E(rename)("td/g", "td/h") == 0);
    a = stat_of_fd(fd);
    CHECK(later(a.st_ctim, b.st_ctim));
    CHECK(E(unlink)("td/h") == 0);
    b = stat_of_fd(fd);
    CHECK(later(b.st_ctim, a.st_ctim));
    CHECK(E(close)(fd) == 0);
}

static void metadata(void)
{
    access_checks();
    modes_and_owners();
    times_set();
    times_follow_changes();
}

/* ---- limits ---- */

static void limits(void)
{
    char name[257], path[LONG_PATH + 2];
    int fd, found = 0;
    struct dirent *entry;
    e_dir *dir;

    memset(name, 'n', sizeof name);
    name[256] = 0;
    CHECK_ERRNO(E(open)(name, O_RDWR | O_CREAT, 0644), ENAMETOOLONG);
    CHECK_ERRNO(E(mkdir)(name, 0755), ENAMETOOLONG);
    CHECK_ERRNO(E(symlink)("x", name), ENAMETOOLONG);
    make_file("f", "x");
    CHECK_ERRNO(E(rename)("f", name), ENAMETOOLONG);
    CHECK_ERRNO(E(link)("f", name), ENAMETOOLONG);
    name[255] = 0;
    make_file(name, "longest");
    CHECK(holds(name, "longest"));
    dir = E(opendir)(".");
    while ((entry = E(readdir)(dir)) != NULL)
        found += strcmp(entry->d_name, name) == 0;
    CHECK(found == 1 && E(closedir)(dir) == 0);

    for (int i = 0; i < LONG_PATH; i += 2)
        memcpy(path + i, "./", 2);
    path[LONG_PATH] = 0;
    CHECK_ERRNO(E(open)(path, O_RDONLY), ENAMETOOLONG);
    path[LONG_PATH - 2] = 'f';
    path[LONG_PATH - 1] = 0;
    CHECK(strlen(path) == LONG_PATH - 1 && holds(path, "x"));
    path[LONG_PATH - 2] = 'g';
    fd = E(open)(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    CHECK(fd >= 0 && E(close)(fd) == 0 && exists("g"));
    path[LONG_PATH - 1] = 'g';
    CHECK_ERRNO(E(open)(path, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
    CHECK_ERRNO(E(unlink)(path), ENAMETOOLONG);
    CHECK_ERRNO(E(chdir)(path), ENAMETOOLONG);

    /* Names are bytes. */
    for (int byte = 1; byte < 256; byte++) {
        char odd[3] = {(char)byte, 'z', 0};
        if (byte == '/')
            continue;
        fd = E(open)(odd, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0 || E(close)(fd) || E(unlink)(odd))
            CHECK(!"a name of any byte");
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(path, sizeof path, "link%d", i);
        if (E(link)("f", path))
            CHECK(!"a thousand links");
    }
    CHECK(stat_of("f").st_nlink == 1001);
}

/* ---- bad arguments ---- */

static void bad_pointers(void)
{
    struct stat status;
    int fd = make_open("f");

    CHECK(E(write)(fd, "text", 4) == 4);
    CHECK_ERRNO(E(open)(nothing, O_RDONLY), EFAULT);
    CHECK_ERRNO(E(openat)(E_AT_FDCWD, nothing, O_RDONLY), EFAULT);
    CHECK_ERRNO(E(creat)(nothing, 0644), EFAULT);
    CHECK_ERRNO(E(pread)(fd, nothing, 4, 0), EFAULT);
    CHECK_ERRNO(E(pwrite)(fd, nothing, 4, 0), EFAULT);
    CHECK_ERRNO(E(write)(fd, nothing, 4), EFAULT);
    CHECK_ERRNO(E(stat)(nothing, &status), EFAULT);
    CHECK_ERRNO(E(lstat)(nothing, &status), EFAULT);
    CHECK_ERRNO(E(stat)("f", nothing), EFAULT);
    CHECK_ERRNO(E(fstat)(fd, nothing), EFAULT);
    CHECK_ERRNO(E(mkdir)(nothing, 0755), EFAULT);
    CHECK_ERRNO(E(rmdir)(nothing), EFAULT);
    CHECK_ERRNO(E(unlink)(nothing), EFAULT);
    CHECK_ERRNO(E(rename)(nothing, "x"), EFAULT);
    CHECK_ERRNO(E(rename)("f", nothing), EFAULT);
    CHECK_ERRNO(E(link)(nothing, "x"), EFAULT);
    CHECK_ERRNO(E(link)("f", nothing), EFAULT);
    CHECK_ERRNO(E(symlink)(nothing, "x"), EFAULT);
    CHECK_ERRNO(E(symlink)("x", nothing), EFAULT);
    CHECK_ERRNO(E(readlink)(nothing, (char[4]){0}, 4), EFAULT);
    CHECK_ERRNO(E(truncate)(nothing, 0), EFAULT);
    CHECK_ERRNO(E(access)(nothing, F_OK), EFAULT);
    CHECK_ERRNO(E(chdir)(nothing), EFAULT);
    CHECK_ERRNO(E(chmod)(nothing, 0644), EFAULT);
    CHECK_ERRNO(E(chown)(nothing, 0, 0), EFAULT);
    CHECK_ERRNO(E(statvfs)(nothing, nothing), EFAULT);
    CHECK(fd_holds(fd, "text"));
    CHECK(E(symlink)("f", "s") == 0);
    CHECK_ERRNO(E(readlink)("s", nothing, 4), EFAULT);
    CHECK(E(close)(fd) == 0);
}

static void bad_descriptors(void)
{
    char byte = 0;
    struct stat status;
    int fd = make_open("g"), wrong[3] = {-1, 0, 0};

    wrong[1] = fd + 500;
    wrong[2] = INT_MAX;
    for (int i = 0; i < 3; i++) {
        CHECK_ERRNO(E(read)(wrong[i], &byte, 1), EBADF);
        CHECK_ERRNO(E(write)(wrong[i], &byte, 1), EBADF);
        CHECK_ERRNO(E(pread)(wrong[i], &byte, 1, 0), EBADF);
        CHECK_ERRNO(E(pwrite)(wrong[i], &byte, 1, 0), EBADF);
        CHECK_ERRNO(E(close)(wrong[i]), EBADF);
        CHECK_ERRNO(E(fstat)(wrong[i], &status), EBADF);
        CHECK_ERRNO(E(fsync)(wrong[i]), EBADF);
        CHECK_ERRNO(E(dup)(wrong[i]), EBADF);
        CHECK_ERRNO(E(openat)(wrong[i], "x", O_RDONLY), EBADF);
        CHECK_ERRNO(E(mkdirat)(wrong[i], "x", 0755), EBADF);
        CHECK_ERRNO(E(unlinkat)(wrong[i], "x", 0), EBADF);
        CHECK_ERRNO(E(fchdir)(wrong[i]), EBADF);
        CHECK(E(posix_fadvise)(wrong[i], 0, 0, 0) == EBADF);
    }
    CHECK_ERRNO(E(pread)(fd, &byte, 1, -1), EINVAL);
    CHECK_ERRNO(E(pwrite)(fd, &byte, 1, -1), EINVAL);
    CHECK_ERRNO(E(pread)(fd, &byte, 1, INT64_MIN), EINVAL);
    CHECK(E(close)(fd) == 0);
}

static void bad_arguments(void)
{
    bad_pointers();
    bad_descriptors();
}
