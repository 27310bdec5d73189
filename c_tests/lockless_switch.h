/*
 * Families of test_lockless_correctness.c about ermfs_set_lockless_mode. Included by test_lockless_correctness.c only.
 */

/* ---- what a tree is, in one number ---- */

static uint64_t mix(uint64_t sum, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
    return sum;
}

static uint64_t mix_status(uint64_t sum, const struct stat *status)
{
    uint64_t parts[] = {status->st_ino, status->st_mode, status->st_nlink, status->st_uid, status->st_gid};

    sum = mix(sum, parts, sizeof parts);
    sum = mix(mix(sum, &status->st_mtim, sizeof status->st_mtim), &status->st_ctim, sizeof status->st_ctim);
    if (S_ISREG(status->st_mode))
        sum = mix(mix(sum, &status->st_atim, sizeof status->st_atim), &status->st_size, sizeof status->st_size);
    return sum;
}

static uint64_t mix_attributes(uint64_t sum, const char *path)
{
    char names[1024], value[1024];
    ssize_t length = ermfs_llistxattr(path, names, sizeof names);
    uint64_t all = 0;

    CHECK(length >= 0);
    for (ssize_t at = 0; at < length; at += (ssize_t)strlen(names + at) + 1) {
        ssize_t size = ermfs_lgetxattr(path, names + at, value, sizeof value);
        CHECK(size >= 0);
        all += mix(mix(1, names + at, strlen(names + at)), value, size > 0 ? (size_t)size : 0);
    }
    return mix(sum, &all, sizeof all);
}

static uint64_t mix_content(uint64_t sum, const char *path)
{
    static char bytes[BLOCK];
    int fd = ermfs_open(path, O_RDONLY | O_NOATIME);
    ssize_t length;

    CHECK(fd >= 0);
    while ((length = ermfs_read(fd, bytes, sizeof bytes)) > 0)
        sum = mix(sum, bytes, (size_t)length);
    CHECK(length == 0 && ermfs_close(fd) == 0);
    return sum;
}

/* The same for the same names, content and metadata, in whatever order they are listed. */
static uint64_t tree_sum(const char *path)
{
    struct stat status = stat_of(path);
    uint64_t sum = mix_attributes(mix_status(14695981039346656037u, &status), path);
    char next[512];

    if (S_ISREG(status.st_mode))
        return mix_content(sum, path);
    if (S_ISLNK(status.st_mode)) {
        ssize_t length = ermfs_readlink(path, next, sizeof next);
        CHECK(length >= 0);
        return mix(sum, next, length > 0 ? (size_t)length : 0);
    }
    if (S_ISDIR(status.st_mode)) {
        ermfs_dir *dir = ermfs_opendir(path);
        struct dirent *entry;
        uint64_t all = 0;
        while ((entry = ermfs_readdir(dir)) != NULL)
            if (!dot_name(entry->d_name)) {
                CHECK((size_t)snprintf(next, sizeof next, "%s/%s", path, entry->d_name) < sizeof next);
                all += mix(tree_sum(next), entry->d_name, strlen(entry->d_name));
            }
        CHECK(ermfs_closedir(dir) == 0);
        sum = mix(sum, &all, sizeof all);
    }
    return sum;
}

/* ---- a tree with something of everything ---- */

static void plant_file(const char *path, size_t size, unsigned seed)
{
    struct random random = random_of(seed);
    char *bytes = malloc(size + 1);
    int fd = make_open(path);

    for (size_t i = 0; i < size; i++)
        bytes[i] = seed % 2 ? (char)random_next(&random) : (char)('a' + (i / 50 + seed) % 26);
    CHECK(ermfs_write(fd, bytes, size) == (ssize_t)size && ermfs_close(fd) == 0);
    free(bytes);
}

static void plant(int crowd)
{
    static const size_t sizes[] = {0, 1, 63, PAGE - 1, PAGE, PAGE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 300000};
    const struct timespec times[] = {{-5, 999999999}, {4000000000, 1}};
    char path[64];
    int fd;

    CHECK(ermfs_mkdir("tree", 0750) == 0 && ermfs_mkdir("tree/d", 01777) == 0 && ermfs_mkdir("tree/d/empty", 0700) == 0);
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        snprintf(path, sizeof path, "tree/d/f%u", i);
        plant_file(path, sizes[i], i);
        CHECK(ermfs_chmod(path, 0600 + i) == 0);
    }
    CHECK(ermfs_mkdir("tree/crowd", 0755) == 0);
    for (int i = 0; i < crowd; i++) {
        snprintf(path, sizeof path, "tree/crowd/n%d", i);
        CHECK(ermfs_mknod(path, S_IFREG | 0644, 0) == 0);
    }
    fd = make_open("tree/sparse");
    CHECK(ermfs_pwrite(fd, "end", 3, 10 * BLOCK) == 3 && ermfs_close(fd) == 0);
    CHECK(ermfs_link("tree/d/f9", "tree/link") == 0 && ermfs_link("tree/d/f9", "tree/d/empty/link") == 0);
    CHECK(ermfs_symlink("d/f3", "tree/symlink") == 0 && ermfs_symlink("nowhere", "tree/dangling") == 0);
    CHECK(ermfs_mknod("tree/fifo", S_IFIFO | 0622, 0) == 0);
    CHECK(ermfs_setxattr("tree/d", "user.colour", "green", 5, 0) == 0 && ermfs_setxattr("tree/d/f4", "user.a", "", 0, 0) == 0);
    CHECK(ermfs_setxattr("tree/d/f4", "user.b", "text", 4, 0) == 0);
    CHECK(ermfs_utimensat(ERMFS_AT_FDCWD, "tree/d/f5", times, 0) == 0 && ermfs_utimensat(ERMFS_AT_FDCWD, "tree/d", times, 0) == 0);
}

static void uproot(void)
{
    empty_directory(ermfs_open("tree", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("tree") == 0);
}

/* ---- switching ---- */

/* Whether it can be switched there and back. */
static bool both_modes(void)
{
    bool started = ermfs_is_lockless();

    return CHECK(ermfs_set_lockless_mode(!started) == 0) && CHECK(ermfs_is_lockless() == !started)
        && CHECK(ermfs_set_lockless_mode(started) == 0);
}

static void refused(void)
{
    bool started = ermfs_is_lockless();

    CHECK_ERRNO(ermfs_set_lockless_mode(!started), EBUSY);
    CHECK(ermfs_is_lockless() == started && ermfs_set_lockless_mode(started) == 0);
}

static void switch_refused(void)
{
    int fd = make_open("f"), copy = ermfs_dup(fd), root;
    ermfs_dir *dir;
    FILE *stream;

    refused();
    CHECK(ermfs_close(fd) == 0);
    refused();
    CHECK(ermfs_write(copy, "kept", 4) == 4 && ermfs_unlink("f") == 0);
    refused();
    CHECK(fd_holds(copy, "kept", 4) && ermfs_close(copy) == 0);
    fd = ermfs_open(".", O_RDWR | O_TMPFILE | ERMFS_O_ANYFD, 0600);
    refused();
    CHECK(ermfs_close(fd) == 0);
    fd = ermfs_open(".", O_PATH);
    refused();
    CHECK(ermfs_close(fd) == 0);
    dir = ermfs_opendir(".");
    refused();
    CHECK(ermfs_readdir(dir) != NULL && ermfs_closedir(dir) == 0);
    stream = ermfs_fopen("s", "w");
    CHECK(stream && fputs("text", stream) >= 0);
    refused();
    CHECK(fclose(stream) == 0 && holds("s", "text") && ermfs_unlink("s") == 0);
    root = ermfs_fsmount(NULL);
    refused();
    CHECK(ermfs_close(root) == 0);
}

static void switch_once(void)
{
    bool started = ermfs_is_lockless();
    struct ermfs_stats before, after;
    struct iovec piece;
    int count = 1, fd;
    char cwd[256], now[256];
    uint64_t sum;
    ermfs_view *view;

    if (!both_modes())
        return;
    plant(2000);
    fd = ermfs_open("tree/d/f2", O_RDONLY);
    view = ermfs_view_open(fd, 0, 63, &piece, &count);
    CHECK(view && ermfs_close(fd) == 0);
    CHECK(ermfs_getcwd(cwd, sizeof cwd) != NULL && strlen(cwd) < sizeof cwd - 20);
    sum = tree_sum("tree");
    before = stats_of(ERMFS_AT_FDCWD);
    for (int round = 0; round < 4; round++) {
        CHECK(ermfs_set_lockless_mode(round % 2 ? started : !started) == 0);
        CHECK(ermfs_is_lockless() == (round % 2 ? started : !started));
        CHECK(ermfs_getcwd(now, sizeof now) != NULL && strcmp(now, cwd) == 0);
        CHECK(tree_sum("tree") == sum);
        after = stats_of(ERMFS_AT_FDCWD);
        CHECK(after.files == before.files && after.directories == before.directories && after.open_descriptions == 0);
        CHECK(after.logical_bytes == before.logical_bytes && after.errors == before.errors);
    }
    CHECK(piece.iov_len == 63 && memcmp(piece.iov_base, "cccccccc", 8) == 0);
    ermfs_view_close(view);
    uproot();
}

/* The working directory stays, in a filesystem that only it holds and in a directory that is gone too. */
static void switch_elsewhere(void)
{
    bool started = ermfs_is_lockless();
    char here[256], path[256];
    int root;

    if (!both_modes())
        return;
    CHECK(ermfs_getcwd(here, sizeof here) != NULL);
    CHECK(ermfs_mkdir("gone", 0755) == 0 && ermfs_chdir("gone") == 0 && ermfs_rmdir("../gone") == 0);
    CHECK(ermfs_set_lockless_mode(!started) == 0 && stat_of(".").st_nlink == 0);
    CHECK_ERRNO(ermfs_mkdir("new", 0755), ENOENT);
    CHECK_NULL_ERRNO(ermfs_getcwd(path, sizeof path), ENOENT);
    CHECK(stat_of("..").st_ino == stat_of(here).st_ino);
    root = ermfs_fsmount(NULL);
    CHECK(ermfs_fchdir(root) == 0 && ermfs_close(root) == 0);
    plant(100);
    for (int round = 0; round < 10; round++) {
        uint64_t sum = tree_sum("tree");
        CHECK(ermfs_set_lockless_mode(round % 2 == 0 ? started : !started) == 0 && tree_sum("tree") == sum);
        snprintf(path, sizeof path, "tree/crowd/n%d", round);
        CHECK(ermfs_unlink(path) == 0 && entries_of("tree/crowd") == 99 - round);
    }
    CHECK(ermfs_set_lockless_mode(started) == 0);
    uproot();
    CHECK(ermfs_chdir(here) == 0);
}

/* Thousands of times, with names and content changed between. */
static void switch_often(void)
{
    bool started = ermfs_is_lockless();
    long rounds = scaled(3000);
    char path[64], other[64], text[64];
    uint64_t sum;

    if (!both_modes())
        return;
    plant(200);
    sum = tree_sum("tree");
    CHECK(ermfs_mkdir("work", 0755) == 0);
    for (long i = 0; i < rounds; i++) {
        snprintf(path, sizeof path, "work/n%ld", i);
        snprintf(other, sizeof other, "work/m%ld", i);
        snprintf(text, sizeof text, "written in round %ld", i);
        make_file(path, text);
        CHECK(ermfs_set_lockless_mode(i % 2 ? started : !started) == 0);
        CHECK(holds(path, text) && ermfs_rename(path, other) == 0 && absent(path) && holds(other, text));
        if (i >= 50) {
            snprintf(path, sizeof path, "work/m%ld", i - 50);
            snprintf(text, sizeof text, "written in round %ld", i - 50);
            CHECK(holds(path, text) && ermfs_unlink(path) == 0 && absent(path) && entries_of("work") == 50);
        }
        if (i % 100 == 0)
            CHECK(tree_sum("tree") == sum);
    }
    CHECK(ermfs_set_lockless_mode(started) == 0 && tree_sum("tree") == sum);
    uproot();
    empty_directory(ermfs_open("work", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("work") == 0);
}
