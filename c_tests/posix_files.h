/*
 * Families of test_posix.c about files and descriptors: reading, writing, vectors, seeking, holes, sizes, the flags of open,
 * dup and fcntl. Included by test_posix.c only.
 */

/* ---- files ---- */

static void files_create(void)
{
    int fd = E(creat)("a", 0666);

    CHECK(fd >= 0);
    CHECK((stat_of("a").st_mode & 07777) == 0644);
    CHECK(S_ISREG(stat_of("a").st_mode));
    CHECK(stat_of("a").st_nlink == 1);
    CHECK(stat_of("a").st_size == 0);
    CHECK(stat_of("a").st_uid == geteuid());
    CHECK(E(write)(fd, "hello", 5) == 5);
    CHECK_ERRNO(E(read)(fd, (char[4]){0}, 4), EBADF);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(close)(fd), EBADF);
    CHECK(holds("a", "hello"));

    CHECK(E(umask)(077) == 022);
    fd = E(open)("private", O_WRONLY | O_CREAT | O_EXCL, 0777);
    CHECK(fd >= 0 && E(close)(fd) == 0);
    CHECK((stat_of("private").st_mode & 07777) == 0700);
    CHECK(E(umask)(022) == 077);

    fd = E(open)("modeless", O_RDWR | O_CREAT, 0);
    CHECK(fd >= 0 && E(write)(fd, "x", 1) == 1 && E(close)(fd) == 0);
    CHECK((stat_of("modeless").st_mode & 07777) == 0);

    CHECK_ERRNO(E(open)("a", O_WRONLY | O_CREAT | O_EXCL, 0644), EEXIST);
    fd = E(open)("a", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && E(close)(fd) == 0);
    CHECK(holds("a", ""));
    CHECK((stat_of("a").st_mode & 07777) == 0644);
}

static void files_read_write(void)
{
    char bytes[16];
    int fd = make_open("f"), reader;

    CHECK(E(write)(fd, "0123456789", 10) == 10);
    CHECK(E(read)(fd, bytes, 4) == 0);
    CHECK(E(lseek)(fd, 4, SEEK_SET) == 4);
    CHECK(E(read)(fd, bytes, 4) == 4 && memcmp(bytes, "4567", 4) == 0);
    CHECK(E(read)(fd, bytes, sizeof bytes) == 2 && memcmp(bytes, "89", 2) == 0);
    CHECK(E(read)(fd, bytes, sizeof bytes) == 0);
    CHECK(E(pread)(fd, bytes, 3, 1) == 3 && memcmp(bytes, "123", 3) == 0);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 8) == 2);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 10) == 0);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 1 << 30) == 0);
    CHECK(E(pwrite)(fd, "AB", 2, 3) == 2);
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 10);
    CHECK(fd_holds(fd, "012AB56789"));
    CHECK(E(write)(fd, nothing, 0) == 0);
    CHECK(E(read)(fd, nothing, 0) == 0);
    CHECK(E(pwrite)(fd, "x", 0, 100) == 0);
    CHECK(stat_of_fd(fd).st_size == 10);
    CHECK(E(fsync)(fd) == 0);
    CHECK(E(fdatasync)(fd) == 0);
    CHECK(E(posix_fadvise)(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
    CHECK(E(posix_fadvise)(fd, 0, 0, 77) == EINVAL);

    reader = E(open)("f", O_RDONLY);
    CHECK_ERRNO(E(write)(reader, "x", 1), EBADF);
    CHECK_ERRNO(E(pwrite)(reader, "x", 1, 0), EBADF);
    CHECK(E(pwrite)(fd, "Z", 1, 0) == 1);
    CHECK(E(read)(reader, bytes, 1) == 1 && bytes[0] == 'Z');
    CHECK(E(close)(reader) == 0);
    CHECK(E(close)(fd) == 0);
}

static void files_path_errors(void)
{
    int fd;

    make_file("f", "x");
    CHECK(E(mkdir)("d", 0777) == 0);
    CHECK((stat_of("d").st_mode & 07777) == 0755);
    CHECK_ERRNO(E(open)("missing", O_RDONLY), ENOENT);
    CHECK_ERRNO(E(open)("missing/f", O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK_ERRNO(E(open)("", O_RDONLY), ENOENT);
    CHECK_ERRNO(E(open)("f/x", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(E(open)("f/", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(E(open)("f/.", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(E(open)("f/..", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(E(open)("new/", O_WRONLY | O_CREAT, 0644), EISDIR);
    CHECK_ERRNO(E(open)("d", O_WRONLY), EISDIR);
    CHECK_ERRNO(E(open)("d", O_RDWR), EISDIR);
    CHECK_ERRNO(E(open)("d", O_RDONLY | O_CREAT, 0644), EISDIR);
    CHECK_ERRNO(E(open)("d", O_RDONLY | O_TRUNC), EISDIR);
    CHECK_ERRNO(E(open)("d", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    CHECK_ERRNO(E(mkdir)("d", 0755), EEXIST);
    CHECK_ERRNO(E(mkdir)("f", 0755), EEXIST);
    CHECK_ERRNO(E(mkdir)("f/x", 0755), ENOTDIR);
    CHECK_ERRNO(E(mkdir)("missing/x", 0755), ENOENT);
    CHECK_ERRNO(E(mkdir)("", 0755), ENOENT);
    CHECK_ERRNO(E(rmdir)("f"), ENOTDIR);
    CHECK_ERRNO(E(rmdir)("missing"), ENOENT);
    CHECK_ERRNO(E(unlink)("d"), EISDIR);
    CHECK_ERRNO(E(unlink)("missing"), ENOENT);
    CHECK_ERRNO(E(unlink)("f/"), ENOTDIR);
    CHECK_ERRNO(E(unlinkat)(E_AT_FDCWD, "f", AT_REMOVEDIR), ENOTDIR);
    CHECK_ERRNO(E(unlinkat)(E_AT_FDCWD, "f", AT_SYMLINK_NOFOLLOW), EINVAL);
    fd = E(open)("d", O_RDONLY);
    CHECK(fd >= 0);
    CHECK_ERRNO(E(read)(fd, (char[4]){0}, 4), EISDIR);
    CHECK_ERRNO(E(write)(fd, "x", 1), EBADF);
    CHECK_ERRNO(E(ftruncate)(fd, 0), EINVAL);
    CHECK(E(fsync)(fd) == 0);
    CHECK(E(close)(fd) == 0);
    CHECK(exists("d//.//../d"));
    CHECK(exists("d/../../../../../.."));
    CHECK(E(mkdir)("trailing//", 0755) == 0 && E(rmdir)("trailing/") == 0);
}

static void files_at(void)
{
    int dir, fd;
    struct stat status;

    CHECK(E(mkdir)("sub", 0755) == 0);
    dir = E(open)("sub", O_RDONLY | O_DIRECTORY);
    fd = E(openat)(dir, "f", O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0);
    CHECK(E(mkdirat)(dir, "inner", 0755) == 0);
    CHECK(E(fstatat)(dir, "inner", &status, 0) == 0 && S_ISDIR(status.st_mode));
    CHECK(E(fstatat)(dir, "/", &status, 0) == 0 && status.st_ino == stat_of("/").st_ino);
    CHECK(E(fstatat)(fd, "", &status, AT_EMPTY_PATH) == 0 && S_ISREG(status.st_mode));
    CHECK(E(fstatat)(E_AT_FDCWD, "", &status, AT_EMPTY_PATH) == 0 && S_ISDIR(status.st_mode));
    CHECK_ERRNO(E(fstatat)(fd, "", &status, 0), ENOENT);
    CHECK_ERRNO(E(fstatat)(fd, "x", &status, 0), ENOTDIR);
    CHECK_ERRNO(E(fstatat)(dir, "f", &status, 0x40000000), EINVAL);
    CHECK_ERRNO(E(openat)(fd, "x", O_RDONLY), ENOTDIR);
    CHECK_ERRNO(E(openat)(-1, "x", O_RDONLY), EBADF);
    CHECK(E(unlinkat)(dir, "f", 0) == 0);
    CHECK_ERRNO(E(unlinkat)(dir, "inner", 0), EISDIR);
    CHECK(E(unlinkat)(dir, "inner", AT_REMOVEDIR) == 0);
    CHECK(E(close)(fd) == 0 && E(close)(dir) == 0);
}

static void files_copy_range(void)
{
    int from = make_open("from"), to = make_open("to");
    off_t in = 2, out = 1;

    CHECK(E(write)(from, "0123456789", 10) == 10);
    CHECK(E(copy_file_range)(from, &in, to, &out, 4, 0) == 4);
    CHECK(in == 6 && out == 5);
    CHECK(E(lseek)(from, 0, SEEK_CUR) == 10 && E(lseek)(to, 0, SEEK_CUR) == 0);
    CHECK(stat_of_fd(to).st_size == 5);
    CHECK(E(lseek)(from, 8, SEEK_SET) == 8);
    CHECK(E(copy_file_range)(from, NULL, to, NULL, 100, 0) == 2);
    CHECK(E(lseek)(from, 0, SEEK_CUR) == 10 && E(lseek)(to, 0, SEEK_CUR) == 2);
    CHECK(fd_holds(to, "89345"));
    CHECK(E(copy_file_range)(from, NULL, to, NULL, 100, 0) == 0);
    in = 0, out = 5;
    CHECK(E(copy_file_range)(from, &in, from, &out, 5, 0) == 5);
    CHECK(fd_holds(from, "0123401234"));
    in = 0, out = 3;
    CHECK_ERRNO(E(copy_file_range)(from, &in, from, &out, 5, 0), EINVAL);
    CHECK_ERRNO(E(copy_file_range)(from, NULL, to, NULL, 1, 1), EINVAL);
    CHECK(E(close)(from) == 0);
    from = E(open)("from", O_WRONLY);
    CHECK_ERRNO(E(copy_file_range)(from, NULL, to, NULL, 1, 0), EBADF);
    CHECK(E(close)(from) == 0 && E(close)(to) == 0);
}

static void files_filesystem(void)
{
    struct statvfs about;
    int fd = make_open("f");

    CHECK(E(statvfs)(".", &about) == 0);
    CHECK(about.f_namemax == 255 && about.f_bsize > 0 && about.f_blocks > 0 && about.f_bfree <= about.f_blocks);
    CHECK(E(fstatvfs)(fd, &about) == 0 && about.f_namemax == 255);
    CHECK_ERRNO(E(statvfs)("missing", &about), ENOENT);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(fstatvfs)(fd, &about), EBADF);
}

static void files(void)
{
    files_create();
    files_read_write();
    files_path_errors();
    files_at();
    files_copy_range();
    files_filesystem();
}

/* ---- vectors ---- */

static void vectors(void)
{
    char a[3], b[4], rest[32];
    struct iovec out[] = {{"abc", 3}, {NULL, 0}, {"defgh", 5}, {"", 0}, {"i", 1}};
    struct iovec in[] = {{a, sizeof a}, {b, 0}, {b, sizeof b}, {rest, sizeof rest}};
    struct iovec many[1025], negative = {a, (size_t)-1};
    int fd = make_open("f");

    CHECK(E(writev)(fd, out, 5) == 9);
    CHECK(fd_holds(fd, "abcdefghi"));
    CHECK(E(readv)(fd, in, 4) == 0);
    CHECK(E(lseek)(fd, 0, SEEK_SET) == 0);
    CHECK(E(readv)(fd, in, 4) == 9);
    CHECK(memcmp(a, "abc", 3) == 0 && memcmp(b, "defg", 4) == 0 && memcmp(rest, "hi", 2) == 0);
    CHECK(E(preadv)(fd, in, 3, 1) == 7);
    CHECK(memcmp(a, "bcd", 3) == 0 && memcmp(b, "efgh", 4) == 0);
    CHECK(E(pwritev)(fd, out, 3, 7) == 8);
    CHECK(fd_holds(fd, "abcdefgabcdefgh"));
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 9);
    CHECK(E(writev)(fd, out, 0) == 0);
    CHECK(E(readv)(fd, in, 0) == 0);
    CHECK_ERRNO(E(writev)(fd, out, minus_one), EINVAL);
    CHECK_ERRNO(E(readv)(fd, in, minus_one), EINVAL);
    CHECK_ERRNO(E(preadv)(fd, in, 1, -1), EINVAL);
    CHECK_ERRNO(E(pwritev)(fd, out, 1, -1), EINVAL);
    CHECK_ERRNO(E(readv)(fd, &negative, 1), EINVAL);
    for (size_t i = 0; i < 1025; i++)
        many[i] = (struct iovec){"x", 1};
    CHECK_ERRNO(E(writev)(fd, many, 1025), EINVAL);
    CHECK(E(ftruncate)(fd, 0) == 0);
    CHECK(E(pwritev)(fd, many, 1024, 0) == 1024);
    CHECK(stat_of_fd(fd).st_size == 1024);
    CHECK_ERRNO(E(writev)(fd, nothing, 1), EFAULT);
    CHECK(E(close)(fd) == 0);
    fd = E(open)("f", O_RDONLY);
    CHECK_ERRNO(E(writev)(fd, out, 1), EBADF);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(readv)(fd, in, 1), EBADF);
}

/* ---- seeking and sparse files ---- */

static void seeking_offsets(void)
{
    char byte;
    int fd = make_open("f");

    CHECK(E(write)(fd, "0123456789", 10) == 10);
    CHECK(E(lseek)(fd, -3, SEEK_END) == 7);
    CHECK(E(read)(fd, &byte, 1) == 1 && byte == '7');
    CHECK(E(lseek)(fd, -2, SEEK_CUR) == 6);
    CHECK_ERRNO(E(lseek)(fd, -7, SEEK_CUR), EINVAL);
    CHECK_ERRNO(E(lseek)(fd, -1, SEEK_SET), EINVAL);
    CHECK_ERRNO(E(lseek)(fd, -11, SEEK_END), EINVAL);
    CHECK_ERRNO(E(lseek)(fd, 0, 99), EINVAL);
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 6);
    CHECK(E(lseek)(fd, 100, SEEK_END) == 110);
    CHECK(E(read)(fd, &byte, 1) == 0);
    CHECK(stat_of_fd(fd).st_size == 10);
    CHECK(E(write)(fd, "z", 1) == 1);
    CHECK(stat_of_fd(fd).st_size == 111);
    CHECK(E(pread)(fd, &byte, 1, 50) == 1 && byte == 0);
    CHECK_ERRNO(E(lseek)(-1, 0, SEEK_SET), EBADF);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(lseek)(fd, 0, SEEK_SET), EBADF);
}

static void seeking_holes(void)
{
    static char zeros[MIB], bytes[MIB];
    off_t mib = (off_t)MIB, hole;
    int fd = make_open("sparse");

    CHECK_ERRNO(E(lseek)(fd, 0, SEEK_DATA), ENXIO);
    CHECK_ERRNO(E(lseek)(fd, 0, SEEK_HOLE), ENXIO);
    memset(bytes, 'd', sizeof bytes);
    CHECK(E(pwrite)(fd, bytes, 4096, 4 * mib) == 4096);
    CHECK(E(ftruncate)(fd, 8 * mib) == 0);
    CHECK(E(lseek)(fd, 0, SEEK_DATA) == 4 * mib);
    CHECK(E(lseek)(fd, 4 * mib + 7, SEEK_DATA) == 4 * mib + 7);
    CHECK(E(lseek)(fd, 0, SEEK_HOLE) == 0);
    CHECK(E(lseek)(fd, mib + 5, SEEK_HOLE) == mib + 5);
    hole = E(lseek)(fd, 4 * mib, SEEK_HOLE);
    CHECK(hole >= 4 * mib + 4096 && hole <= 4 * mib + 65536);
    CHECK_ERRNO(E(lseek)(fd, 5 * mib, SEEK_DATA), ENXIO);
    CHECK_ERRNO(E(lseek)(fd, 8 * mib, SEEK_DATA), ENXIO);
    CHECK_ERRNO(E(lseek)(fd, 8 * mib, SEEK_HOLE), ENXIO);
    CHECK_ERRNO(E(lseek)(fd, -1, SEEK_DATA), ENXIO);
    CHECK(E(pread)(fd, bytes, MIB, 2 * mib) == mib && memcmp(bytes, zeros, MIB) == 0);
    CHECK(stat_of_fd(fd).st_blocks * 512 < mib);
    CHECK(E(ftruncate)(fd, 4 * mib + 4096) == 0);
    CHECK(E(lseek)(fd, 4 * mib, SEEK_HOLE) == 4 * mib + 4096);
    CHECK(E(close)(fd) == 0);

    fd = E(open)("sparse", O_RDONLY);
    CHECK(E(lseek)(fd, 0, SEEK_DATA) == 4 * mib);
    CHECK(E(lseek)(fd, 4 * mib, SEEK_HOLE) == 4 * mib + 4096);
    CHECK(E(close)(fd) == 0);
}

static void seeking(void)
{
    seeking_offsets();
    seeking_holes();
}

/* ---- offsets beyond 4 GiB ---- */

static void big_offsets(void)
{
    char bytes[16];
    off_t end = INT64_MAX;
    int fd = make_open("big");

    CHECK(E(pwrite)(fd, "straddles", 9, 4 * GIB - 4) == 9);
    CHECK(E(pread)(fd, bytes, 16, 4 * GIB - 8) == 13);
    CHECK(memcmp(bytes, "\0\0\0\0straddles", 13) == 0);
    CHECK(E(pread)(fd, bytes, 9, 0) == 9 && all_zero(bytes, 9));
    CHECK(E(lseek)(fd, 5 * GIB, SEEK_SET) == 5 * GIB);
    CHECK(E(write)(fd, "five", 4) == 4);
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 5 * GIB + 4);
    CHECK(stat_of_fd(fd).st_size == 5 * GIB + 4);
    CHECK(stat_of_fd(fd).st_blocks * 512 < (off_t)MIB);
    CHECK(E(ftruncate)(fd, 1000 * GIB) == 0);
    CHECK(E(pread)(fd, bytes, 4, 5 * GIB) == 4 && memcmp(bytes, "five", 4) == 0);
    CHECK(E(close)(fd) == 0);

    fd = E(open)("big", O_RDWR);
    CHECK(E(pread)(fd, bytes, 9, 4 * GIB - 4) == 9 && memcmp(bytes, "straddles", 9) == 0);
    CHECK(E(lseek)(fd, 4 * GIB + (off_t)MIB, SEEK_DATA) == 5 * GIB);
    CHECK(E(ftruncate)(fd, end) == 0);
    CHECK(stat_of_fd(fd).st_size == end);
    CHECK(E(pread)(fd, bytes, 1, end - 1) == 1 && bytes[0] == 0);
    CHECK(E(lseek)(fd, end, SEEK_SET) == end);
    CHECK_ERRNO(E(read)(fd, bytes, 1), EINVAL);
    CHECK_ERRNO(E(write)(fd, "x", 1), EINVAL);
    CHECK_ERRNO(E(pwrite)(fd, "x", 1, end), EINVAL);
    CHECK_ERRNO(E(lseek)(fd, 1, SEEK_CUR), EINVAL);
    CHECK_ERRNO(E(lseek)(fd, 1, SEEK_END), EINVAL);
    CHECK(E(pwrite)(fd, "last", 4, end - 4) == 4);
    CHECK(E(pread)(fd, bytes, 4, end - 4) == 4 && memcmp(bytes, "last", 4) == 0);
    CHECK(E(ftruncate)(fd, 4 * GIB) == 0);
    CHECK(E(ftruncate)(fd, 6 * GIB) == 0);
    CHECK(E(pread)(fd, bytes, 9, 4 * GIB - 4) == 9 && memcmp(bytes, "stra\0\0\0\0\0", 9) == 0);
    CHECK(E(close)(fd) == 0);
}

/* ---- truncate and fallocate ---- */

static void truncating(void)
{
    char bytes[512];
    int fd = make_open("f");

    CHECK(E(write)(fd, "0123456789", 10) == 10);
    CHECK(E(ftruncate)(fd, 4) == 0 && fd_holds(fd, "0123"));
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 10);
    CHECK(E(truncate)("f", 8) == 0);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 0) == 8 && memcmp(bytes, "0123\0\0\0\0", 8) == 0);
    CHECK(E(ftruncate)(fd, 2) == 0);
    CHECK(E(pwrite)(fd, "x", 1, 300) == 1);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 0) == 301);
    CHECK(memcmp(bytes, "01", 2) == 0 && all_zero(bytes + 2, 298) && bytes[300] == 'x');
    CHECK_ERRNO(E(ftruncate)(fd, -1), EINVAL);
    CHECK_ERRNO(E(truncate)("f", -1), EINVAL);
    CHECK_ERRNO(E(truncate)("missing", 0), ENOENT);
    CHECK_ERRNO(E(truncate)(".", 0), EISDIR);
    CHECK_ERRNO(E(truncate)("f/", 0), ENOTDIR);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(ftruncate)(fd, 0), EBADF);
    fd = E(open)("f", O_RDONLY);
    CHECK_ERRNO(E(ftruncate)(fd, 0), EINVAL);
    CHECK(E(close)(fd) == 0);
    CHECK(E(truncate)("f", 1) == 0 && holds("f", "0"));
}

static void allocating(void)
{
    static char bytes[MIB];
    int fd = make_open("f"), reader;
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

    CHECK(E(fallocate)(fd, 0, 0, 100000) == 0);
    CHECK(stat_of_fd(fd).st_size == 100000);
    CHECK(stat_of_fd(fd).st_blocks * 512 >= 100000);
    CHECK(E(fallocate)(fd, FALLOC_FL_KEEP_SIZE, 0, 200000) == 0);
    CHECK(stat_of_fd(fd).st_size == 100000);
    CHECK(E(fallocate)(fd, 0, 10, 20) == 0 && stat_of_fd(fd).st_size == 100000);
    CHECK(E(pread)(fd, bytes, sizeof bytes, 0) == 100000 && all_zero(bytes, 100000));

    memset(bytes, 'x', sizeof bytes);
    CHECK(E(pwrite)(fd, bytes, MIB, 0) == (ssize_t)MIB);
    CHECK(E(fallocate)(fd, punch, 100, 300000) == 0);
    CHECK(E(pread)(fd, bytes, MIB, 0) == (ssize_t)MIB);
    CHECK(bytes[99] == 'x' && all_zero(bytes + 100, 300000) && bytes[300100] == 'x' && bytes[MIB - 1] == 'x');
    CHECK(stat_of_fd(fd).st_blocks * 512 < (off_t)MIB - 200000);
    CHECK(E(fallocate)(fd, punch, (off_t)MIB - 10, 1000) == 0);
    CHECK(stat_of_fd(fd).st_size == (off_t)MIB);
    CHECK(E(pread)(fd, bytes, 20, (off_t)MIB - 20) == 20 && memcmp(bytes, "xxxxxxxxxx\0\0\0\0\0\0\0\0\0\0", 20) == 0);
    CHECK_ERRNO(E(fallocate)(fd, FALLOC_FL_PUNCH_HOLE, 0, 10), EOPNOTSUPP);
    CHECK_ERRNO(E(fallocate)(fd, 0x4000, 0, 10), EOPNOTSUPP);
    CHECK_ERRNO(E(fallocate)(fd, 0, 0, 0), EINVAL);
    CHECK_ERRNO(E(fallocate)(fd, 0, 0, -1), EINVAL);
    CHECK_ERRNO(E(fallocate)(fd, 0, -1, 10), EINVAL);
    CHECK_ERRNO(E(fallocate)(fd, 0, INT64_MAX, 10), EFBIG);
    CHECK_ERRNO(E(fallocate)(fd, 0, 0, (off_t)1 << 60), ENOSPC);
    CHECK(stat_of_fd(fd).st_size == (off_t)MIB);
    reader = E(open)("f", O_RDONLY);
    CHECK_ERRNO(E(fallocate)(reader, 0, 0, 10), EBADF);
    CHECK(E(close)(reader) == 0 && E(close)(fd) == 0);
    CHECK_ERRNO(E(fallocate)(fd, 0, 0, 10), EBADF);
}

/* ---- flags of open ---- */

static void flags_append(void)
{
    int fd = E(open)("log", O_RDWR | O_CREAT | O_APPEND, 0644), other = E(open)("log", O_WRONLY | O_APPEND);

    CHECK(E(write)(fd, "one,", 4) == 4);
    CHECK(E(write)(other, "two,", 4) == 4);
    CHECK(E(lseek)(fd, 0, SEEK_SET) == 0);
    CHECK(E(write)(fd, "three", 5) == 5);
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 13);
    CHECK(fd_holds(fd, "one,two,three"));
    CHECK(E(pwrite)(fd, "!", 1, 0) == 1);
    CHECK(fd_holds(fd, "one,two,three!"));
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 13);
    CHECK((E(fcntl)(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_RDWR | O_APPEND));
    CHECK(E(fcntl)(fd, F_SETFL, 0) == 0);
    CHECK((E(fcntl)(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == O_RDWR);
    CHECK(E(pwrite)(fd, "O", 1, 0) == 1 && fd_holds(fd, "One,two,three!"));
    CHECK(E(fcntl)(fd, F_SETFL, O_APPEND | O_WRONLY | O_TRUNC) == 0);
    CHECK((E(fcntl)(fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_RDWR | O_APPEND));
    CHECK(E(pwrite)(fd, "?", 1, 0) == 1 && fd_holds(fd, "One,two,three!?"));
    CHECK((E(fcntl)(other, F_GETFL) & O_ACCMODE) == O_WRONLY);
    CHECK(E(close)(fd) == 0 && E(close)(other) == 0);
}

static void flags_kinds(void)
{
    int fd;

    make_file("f", "text");
    CHECK(E(symlink)("f", "link") == 0 && E(symlink)("nowhere", "dangling") == 0 && E(mkdir)("d", 0755) == 0);
    CHECK(E(symlink)("d", "dirlink") == 0);
    CHECK_ERRNO(E(open)("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(E(open)("link", O_RDONLY | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(E(open)("f", O_RDWR | O_CREAT | O_DIRECTORY, 0644), EINVAL);
    CHECK_ERRNO(E(open)("link", O_RDONLY | O_NOFOLLOW), ELOOP);
    CHECK_ERRNO(E(open)("dirlink", O_RDONLY | O_NOFOLLOW | O_DIRECTORY), ENOTDIR);
    CHECK_ERRNO(E(open)("link", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    CHECK_ERRNO(E(open)("dangling", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
    CHECK_ERRNO(E(open)("dangling", O_RDWR), ENOENT);
    fd = E(open)("d/../dirlink/.", O_RDONLY | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && E(close)(fd) == 0);
    fd = E(open)("dangling", O_RDWR | O_CREAT, 0644);
    CHECK(fd >= 0 && E(close)(fd) == 0 && exists("nowhere"));
    fd = E(open)("f", O_RDONLY | O_TRUNC);
    CHECK(fd >= 0 && E(close)(fd) == 0 && holds("f", ""));
}

static void flags_path(void)
{
    char target[8];
    struct stat status;
    int fd, dir;

    make_file("p", "text");
    fd = E(open)("p", O_PATH);
    CHECK(fd >= 0);
    CHECK(E(fstat)(fd, &status) == 0 && status.st_size == 4);
    CHECK_ERRNO(E(read)(fd, target, 1), EBADF);
    CHECK_ERRNO(E(write)(fd, "x", 1), EBADF);
    CHECK_ERRNO(E(lseek)(fd, 0, SEEK_SET), EBADF);
    CHECK_ERRNO(E(ftruncate)(fd, 0), EBADF);
    CHECK_ERRNO(E(fchmod)(fd, 0600), EBADF);
    CHECK_ERRNO(E(fchown)(fd, (uid_t)-1, (gid_t)-1), EBADF);
    CHECK_ERRNO(E(fsync)(fd), EBADF);
    CHECK(E(fcntl)(fd, F_GETFL) & O_PATH);
    CHECK_ERRNO(E(fcntl)(fd, F_SETFL, O_APPEND), EBADF);
    CHECK(E(fcntl)(fd, F_SETFD, FD_CLOEXEC) == 0);
    CHECK(E(close)(fd) == 0);
    CHECK(E(symlink)("p", "plink") == 0);
    fd = E(open)("plink", O_PATH | O_NOFOLLOW);
    CHECK(fd >= 0 && S_ISLNK(stat_of_fd(fd).st_mode));
    CHECK(E(readlinkat)(fd, "", target, sizeof target) == 1 && target[0] == 'p');
    CHECK(E(close)(fd) == 0);
    CHECK(E(mkdir)("pd", 0755) == 0);
    dir = E(open)("pd", O_PATH | O_DIRECTORY);
    CHECK(E(mkdirat)(dir, "in", 0755) == 0);
    CHECK(E(fchdir)(dir) == 0 && exists("in") && E(chdir)("..") == 0);
    CHECK(E(close)(dir) == 0);
}

static void flags_tmpfile(void)
{
    int fd;

    CHECK(E(mkdir)("t", 0755) == 0);
    fd = E(open)("t", O_RDWR | O_TMPFILE, 0640);
    CHECK(fd >= 0 && E(write)(fd, "temporary", 9) == 9);
    CHECK(stat_of_fd(fd).st_nlink == 0 && (stat_of_fd(fd).st_mode & 07777) == 0640);
    CHECK(E(rmdir)("t") == 0 && E(mkdir)("t", 0755) == 0);
    CHECK(E(linkat)(fd, "", E_AT_FDCWD, "t/named", AT_EMPTY_PATH) == 0);
    CHECK(stat_of_fd(fd).st_nlink == 1);
    CHECK_ERRNO(E(linkat)(fd, "", E_AT_FDCWD, "t/named", AT_EMPTY_PATH), EEXIST);
    CHECK(E(close)(fd) == 0 && holds("t/named", "temporary"));
    fd = E(open)("t", O_RDWR | O_TMPFILE | O_EXCL, 0640);
    CHECK(fd >= 0);
    CHECK_ERRNO(E(linkat)(fd, "", E_AT_FDCWD, "t/other", AT_EMPTY_PATH), ENOENT);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(open)("t", O_RDONLY | O_TMPFILE, 0640), EINVAL);
    CHECK_ERRNO(E(open)("t/named", O_RDWR | O_TMPFILE, 0640), ENOTDIR);
    CHECK_ERRNO(E(open)("t/missing", O_RDWR | O_TMPFILE, 0640), ENOENT);
}

static void flags(void)
{
    flags_append();
    flags_kinds();
    flags_path();
    flags_tmpfile();
}

/* ---- dup and fcntl ---- */

static void duplicates(void)
{
    char byte;
    int fd = make_open("f"), copy, second, third;

    CHECK(E(write)(fd, "0123456789", 10) == 10);
    copy = E(dup)(fd);
    CHECK(copy > fd);
    CHECK(E(lseek)(fd, 3, SEEK_SET) == 3 && E(read)(copy, &byte, 1) == 1 && byte == '3');
    CHECK(E(lseek)(fd, 0, SEEK_CUR) == 4);
    second = E(open)("f", O_RDONLY);
    CHECK(E(read)(second, &byte, 1) == 1 && byte == '0' && E(lseek)(fd, 0, SEEK_CUR) == 4);
    CHECK(E(fcntl)(copy, F_SETFL, O_APPEND) == 0 && (E(fcntl)(fd, F_GETFL) & O_APPEND));
    CHECK(E(fcntl)(fd, F_SETFL, 0) == 0);

    CHECK(E(dup2)(fd, fd) == fd);
    CHECK(E(dup2)(fd, second) == second);
    CHECK(E(lseek)(second, 0, SEEK_CUR) == 4);
    CHECK_ERRNO(E(dup2)(-1, second), EBADF);
    CHECK_ERRNO(E(dup2)(fd, -1), EBADF);
    CHECK_ERRNO(E(dup3)(fd, fd, 0), EINVAL);
    CHECK_ERRNO(E(dup3)(fd, second, O_APPEND), EINVAL);
    CHECK(E(dup3)(fd, second, O_CLOEXEC) == second);
    CHECK(E(fcntl)(second, F_GETFD) == FD_CLOEXEC && E(fcntl)(fd, F_GETFD) == 0);
    CHECK(E(fcntl)(second, F_SETFD, 0) == 0 && E(fcntl)(second, F_GETFD) == 0);

    third = E(fcntl)(fd, F_DUPFD, second + 10);
    CHECK(third == second + 10 && E(close)(third) == 0);
    third = E(fcntl)(fd, F_DUPFD_CLOEXEC, fd);
    CHECK(third == second + 1 && E(fcntl)(third, F_GETFD) == FD_CLOEXEC);
    CHECK(E(close)(third) == 0);
    CHECK(E(dup2)(fd, second + 3) == second + 3 && E(close)(second + 3) == 0);
    CHECK(E(close)(fd) == 0);
    CHECK(E(read)(copy, &byte, 1) == 1 && byte == '4');
    CHECK(E(open)("f", O_RDONLY) == fd);
    CHECK(E(close)(fd) == 0 && E(close)(copy) == 0 && E(close)(second) == 0);
    CHECK_ERRNO(E(dup)(fd), EBADF);
    CHECK_ERRNO(E(dup)(-1), EBADF);
}

static void control(void)
{
    int fd = E(open)("g", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

    CHECK(E(fcntl)(fd, F_GETFD) == FD_CLOEXEC);
    CHECK((E(fcntl)(fd, F_GETFL) & O_ACCMODE) == O_WRONLY);
    CHECK((E(fcntl)(fd, F_GETFL) & (O_CREAT | O_EXCL | O_TRUNC | O_CLOEXEC)) == 0);
    CHECK(E(fcntl)(fd, F_SETFL, O_NONBLOCK) == 0 && (E(fcntl)(fd, F_GETFL) & O_NONBLOCK));
    CHECK_ERRNO(E(fcntl)(fd, 9999), EINVAL);
    CHECK_ERRNO(E(fcntl)(fd, F_DUPFD, -1), EINVAL);
    CHECK_ERRNO(E(fcntl)(fd, F_DUPFD, INT_MAX), EINVAL);
    CHECK(E(close)(fd) == 0);
    CHECK_ERRNO(E(fcntl)(fd, F_GETFD), EBADF);
    CHECK_ERRNO(E(fcntl)(-1, F_GETFL), EBADF);
}

static void descriptors(void)
{
    duplicates();
    control();
}
