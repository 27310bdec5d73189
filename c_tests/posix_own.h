/*
 * The part of test_posix.c that only ERMFS has: filesystems with budgets, its descriptor numbers, the range operations that
 * tmpfs lacks, what happens to content at close, statistics, streams, views and the two modes. Included by test_posix.c only.
 */

#define BLOCK 65536

/* ---- test data ---- */

enum kind { TEXT, RANDOM, ZERO, SPARSE, KINDS };

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void fill(char *bytes, size_t size, enum kind kind)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = kind == RANDOM ? (char)random_next() : kind == TEXT ? "the quick brown fox, "[(i + i / 997) % 21] : 0;
    if (kind == SPARSE)
        for (size_t i = 0; i < size; i += 100003)
            bytes[i] = 'd';
}

static int mount_with(uint64_t max_bytes, uint64_t max_file_bytes, uint32_t compress)
{
    struct ermfs_config config = {
        .struct_size = sizeof config, .max_bytes = max_bytes, .max_file_bytes = max_file_bytes, .compress = compress};
    int root = ermfs_fsmount(&config);

    CHECK(root >= 0);
    return root;
}

static struct ermfs_stats stats_of(int dirfd)
{
    struct ermfs_stats stats = {0};

    CHECK(ermfs_get_stats(dirfd, &stats, sizeof stats) == 0);
    return stats;
}

static struct ermfs_file_info info_of(int root, const char *path)
{
    struct ermfs_file_info info = {0};
    int fd = ermfs_openat(root, path, O_RDONLY);

    CHECK(ermfs_fget_info(fd, &info, sizeof info) == 0);
    CHECK(ermfs_close(fd) == 0);
    return info;
}

/* Writes in calls of `step` bytes; holes stay holes. */
static bool store(int root, const char *path, const char *bytes, size_t size, size_t step)
{
    int fd = ermfs_openat(root, path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    bool ok = fd >= 0 && ermfs_ftruncate(fd, (off_t)size) == 0;

    for (size_t at = 0; ok && at < size; at += step) {
        size_t length = size - at < step ? size - at : step;
        if (!all_zero(bytes + at, length))
            ok = ermfs_pwrite(fd, bytes + at, length, (off_t)at) == (ssize_t)length;
    }
    return ermfs_close(fd) == 0 && ok;
}

static bool same_content(int root, const char *path, const char *bytes, size_t size)
{
    char *copy = malloc(size + 1);
    int fd = ermfs_openat(root, path, O_RDONLY);
    bool same = copy && fd >= 0 && ermfs_read(fd, copy, size + 1) == (ssize_t)size && memcmp(copy, bytes, size) == 0;

    for (int i = 0; same && size && i < 8; i++) {
        size_t at = random_next() % size, length = random_next() % 9000, left = size - at < length ? size - at : length;
        same = ermfs_pread(fd, copy, length, (off_t)at) == (ssize_t)left && memcmp(copy, bytes + at, left) == 0;
    }
    ermfs_close(fd);
    free(copy);
    return same;
}

/* ---- filesystems ---- */

static void own_filesystems(void)
{
    int one = mount_with(8 * MIB, 0, 0), two = ermfs_fsmount(NULL), fd, other;
    struct stat a, b;
    struct statvfs about;

    CHECK(one >= 0 && two >= 0);
    CHECK(ermfs_fstat(one, &a) == 0 && ermfs_fstat(two, &b) == 0 && S_ISDIR(a.st_mode) && a.st_dev != b.st_dev);
    fd = ermfs_openat(one, "f", O_RDWR | O_CREAT, 0644);
    CHECK(ermfs_write(fd, "one", 3) == 3 && ermfs_mkdirat(one, "d", 0755) == 0);
    CHECK_ERRNO(ermfs_renameat(one, "f", two, "f"), EXDEV);
    CHECK_ERRNO(ermfs_renameat2(one, "f", two, "f", RENAME_NOREPLACE), EXDEV);
    CHECK_ERRNO(ermfs_renameat(one, "d", two, "d"), EXDEV);
    CHECK_ERRNO(ermfs_linkat(one, "f", two, "f", 0), EXDEV);
    CHECK_ERRNO(ermfs_linkat(fd, "", two, "f", AT_EMPTY_PATH), EXDEV);
    CHECK_ERRNO(ermfs_renameat(one, "f", ERMFS_AT_FDCWD, "f"), EXDEV);
    CHECK_ERRNO(ermfs_fstatat(two, "f", &a, 0), ENOENT);
    CHECK_ERRNO(ermfs_stat("/f", &a), ENOENT);
    CHECK_ERRNO(ermfs_fstatat(-1, "/f", &a, 0), EBADF);
    CHECK(ermfs_fstatat(one, "/f", &a, 0) == 0 && ermfs_fstatat(one, "../../f", &b, 0) == 0 && a.st_ino == b.st_ino);
    CHECK(ermfs_symlinkat("/f", one, "absolute") == 0 && same_content(one, "absolute", "one", 3));

    CHECK(ermfs_fstatvfs(one, &about) == 0 && about.f_namemax == 255);
    CHECK(about.f_blocks * about.f_frsize <= 8 * MIB && about.f_blocks * about.f_frsize > 7 * MIB);
    CHECK(ermfs_fstatvfs(two, &about) == 0 && about.f_blocks * about.f_frsize == (uint64_t)GIB);

    /* It lives as long as any descriptor of it. */
    CHECK(ermfs_close(one) == 0 && fd_holds(fd, "one"));
    CHECK(stats_of(two).files == 0);
    other = ermfs_openat(two, "f", O_WRONLY | O_CREAT, 0644);
    CHECK(ermfs_close(two) == 0 && ermfs_write(other, "two", 3) == 3);
    CHECK(ermfs_close(other) == 0 && ermfs_close(fd) == 0);
    CHECK_ERRNO(ermfs_openat(two, "f", O_RDONLY), EBADF);
}

static bool refused(struct ermfs_config config)
{
    int root = ermfs_fsmount(&config), error = errno;

    return root < 0 ? error == EINVAL : ermfs_close(root) != 0;
}

static void own_configuration(void)
{
    struct ermfs_config good = {.struct_size = sizeof good, .level = 12}, config;
    int root = ermfs_fsmount(&good);

    CHECK(root >= 0 && ermfs_close(root) == 0);
    config = good, config.struct_size = 0;
    CHECK(refused(config));
    config = good, config.reserved = 1;
    CHECK(refused(config));
    config = good, config.compress = 77;
    CHECK(refused(config));
    config = good, config.mode = 77;
    CHECK(refused(config));
    config = good, config.level = 13;
    CHECK(refused(config));
    config = good, config.soft_limit_percent = 101;
    CHECK(refused(config));
    CHECK_ERRNO(ermfs_configure_default(&good), EBUSY);
    CHECK(ermfs_version() != NULL && ermfs_version()[0] >= '0' && ermfs_version()[0] <= '9');
}

/* ---- descriptor numbers ---- */

static void own_numbers(void)
{
    int fds[200], any, base = 1048576, wrong = 0;
    char byte;
    e_dir *dir;

    for (int i = 0; i < 200; i++) {
        fds[i] = ermfs_open("numbers", O_RDWR | O_CREAT, 0644);
        wrong += fds[i] != base + i;
    }
    CHECK(wrong == 0);
    CHECK(ermfs_close(base + 150) == 0 && ermfs_close(base + 3) == 0 && ermfs_close(base + 64) == 0);
    CHECK(ermfs_open("numbers", O_RDONLY) == base + 3);
    CHECK(ermfs_dup(base) == base + 64);
    dir = ermfs_opendir("/");
    CHECK(dir && ermfs_dirfd(dir) == base + 150 && ermfs_closedir(dir) == 0);
    any = ermfs_open("numbers", O_RDONLY | ERMFS_O_ANYFD);
    CHECK(any >= base && (any < base + 200 ? any == base + 150 : true) && ermfs_read(any, &byte, 1) == 0);
    CHECK((ermfs_fcntl(any, F_GETFL) & ERMFS_O_ANYFD) == 0);
    CHECK(ermfs_close(any) == 0);
    for (int i = 0; i < 200; i++)
        if (i != 150)
            CHECK(ermfs_close(fds[i]) == 0);
    fds[0] = ermfs_open("numbers", O_RDWR | O_CREAT | ERMFS_O_ANYFD, 0644);
    CHECK(fds[0] >= base);
    CHECK_ERRNO(ermfs_dup2(fds[0], 5), EBADF);
    CHECK_ERRNO(ermfs_read(0, &byte, 1), EBADF);
    CHECK_ERRNO(ermfs_close(1), EBADF);
    CHECK_ERRNO(read(fds[0], &byte, 1), EBADF);
    any = ermfs_fcntl(fds[0], F_DUPFD, 0);
    CHECK(any == (fds[0] == base ? base + 1 : base));
    CHECK(ermfs_close(any) == 0 && ermfs_close(fds[0]) == 0);
    CHECK(stats_of(ERMFS_AT_FDCWD).open_descriptions == 0);
}

/* ---- range operations against a byte model ---- */

#define MODEL_MAX (3 * MIB)

struct model {
    char *bytes;
    size_t size;
};

static void model_grow(struct model *model, size_t size)
{
    if (size > model->size) {
        memset(model->bytes + model->size, 0, size - model->size);
        model->size = size;
    }
}

static int model_fallocate(struct model *model, int mode, size_t at, size_t length)
{
    size_t end = at + length;
    char *bytes = model->bytes;

    if (mode == FALLOC_FL_COLLAPSE_RANGE) {
        if (at % BLOCK || length % BLOCK || end >= model->size)
            return EINVAL;
        memmove(bytes + at, bytes + end, model->size - end);
        model->size -= length;
    } else if (mode == FALLOC_FL_INSERT_RANGE) {
        if (at % BLOCK || length % BLOCK || at >= model->size)
            return EINVAL;
        memmove(bytes + end, bytes + at, model->size - at);
        memset(bytes + at, 0, length);
        model->size += length;
    } else {
        if (!(mode & FALLOC_FL_KEEP_SIZE))
            model_grow(model, end);
        end = end < model->size ? end : model->size;
        if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) && at < end)
            memset(bytes + at, 0, end - at);
    }
    return 0;
}

static bool range_step(struct model *model, int fd)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE};
    static char piece[100000];
    size_t at = random_next() % (model->size + 70000), length = 1 + random_next() % sizeof piece;
    unsigned what = random_next() % 10;
    int wanted;

    if (at + length > MODEL_MAX)
        at = 0;
    if (what >= 8) {
        fill(piece, length, what == 8 ? TEXT : RANDOM);
        model_grow(model, at + length);
        memcpy(model->bytes + at, piece, length);
        return ermfs_pwrite(fd, piece, length, (off_t)at) == (ssize_t)length;
    }
    if (what == 7) {
        size_t size = model->size - model->size % 7 * (model->size / 14);
        model->size = size;
        return ermfs_ftruncate(fd, (off_t)size) == 0;
    }
    if (what >= 5 && random_next() % 8) {
        at -= at % BLOCK;
        length = BLOCK * (1 + random_next() % 2);
    }
    if (modes[what] == FALLOC_FL_INSERT_RANGE && model->size + length > MODEL_MAX)
        return true;
    wanted = model_fallocate(model, modes[what], at, length);
    errno = 0;
    return ermfs_fallocate(fd, modes[what], (off_t)at, (off_t)length) == (wanted ? -1 : 0) && errno == wanted;
}

static void own_ranges(void)
{
    struct model model = {malloc(MODEL_MAX + 3 * BLOCK), 0};
    int root, fd;

    for (uint32_t compress = 0; compress < 3; compress++) {
        root = mount_with(64 * MIB, 0, compress);
        model.size = 0;
        fd = ermfs_openat(root, "f", O_RDWR | O_CREAT, 0644);
        for (int step = 0; step < 600; step++) {
            if (!CHECK(range_step(&model, fd)))
                break;
            if (step % 10 == 0 && !CHECK(same_content(root, "f", model.bytes, model.size)))
                break;
            if (step % 15 == 0) {
                CHECK(ermfs_close(fd) == 0);
                fd = ermfs_openat(root, "f", O_RDWR);
            }
        }
        CHECK(ermfs_close(fd) == 0);
        CHECK(same_content(root, "f", model.bytes, model.size));
        CHECK(ermfs_close(root) == 0);
    }
    free(model.bytes);
}

static void own_range_errors(void)
{
    int fd = make_open("r");

    CHECK(ermfs_ftruncate(fd, 4 * BLOCK) == 0);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4 * BLOCK), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_INSERT_RANGE, 4 * BLOCK, BLOCK), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_INSERT_RANGE, 4096, BLOCK), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, INT64_MAX - BLOCK + 1), EFBIG);
    CHECK(ermfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK) == -1);
    CHECK(ermfs_fallocate(fd, FALLOC_FL_INSERT_RANGE | FALLOC_FL_KEEP_SIZE, 0, BLOCK) == -1);
    CHECK(stat_of_fd(fd).st_size == 4 * BLOCK && stat_of_fd(fd).st_blksize == BLOCK);
    CHECK(ermfs_close(fd) == 0);
}

/* ---- budgets ---- */

/* Fills a filesystem through one file; returns the file, still open, and how much went in. */
static int fill_up(int root, const char *path, const char *bytes, size_t size, size_t step, size_t *written)
{
    int fd = ermfs_openat(root, path, O_RDWR | O_CREAT, 0644), error = 0;

    *written = 0;
    while (error == 0 && *written < size) {
        size_t length = size - *written < step ? size - *written : step;
        ssize_t done = ermfs_write(fd, bytes + *written, length);
        if (done < 0) {
            error = errno;
            break;
        }
        CHECK(done > 0);
        *written += (size_t)done;
    }
    CHECK(error == ENOSPC);
    CHECK((size_t)stat_of_fd(fd).st_size == *written);
    return fd;
}

/* Whether no file is left, and no content; the background thread may be at one that has just lost its name. */
static bool comes_to_nothing(int root)
{
    for (int wait = 0; wait < 10000; wait++) {
        struct ermfs_stats stats = stats_of(root);

        if (stats.raw_bytes == 0 && stats.packed_bytes == 0 && stats.files == 0)
            return true;
        usleep(1000);
    }
    return false;
}

static void full_filesystem(uint32_t compress, size_t step)
{
    size_t size = 8 * MIB, written;
    char *bytes = malloc(size);
    int root = mount_with(4 * MIB, 0, compress), neighbour = mount_with(4 * MIB, 0, compress), fd;
    struct ermfs_stats stats;

    fill(bytes, size, RANDOM);
    CHECK(ermfs_mkdirat(root, "d", 0755) == 0 && store(root, "d/small", "small", 5, 5));
    fd = fill_up(root, "d/big", bytes, size, step, &written);
    CHECK(written > 2 * MIB && written < 4 * MIB);
    stats = stats_of(root);
    CHECK(stats.bytes_in_use <= stats.max_bytes && stats.peak_bytes <= stats.max_bytes && stats.max_bytes == 4 * MIB);
    CHECK(stats.hard_limit_hits >= 1 && stats.soft_limit_hits >= 1);
    CHECK(same_content(root, "d/big", bytes, written) && same_content(root, "d/small", "small", 5));
    CHECK(ermfs_pwrite(fd, "overwritten", 11, 100000) == 11);
    memcpy(bytes + 100000, "overwritten", 11);
    CHECK(ermfs_close(fd) == 0);
    CHECK(same_content(root, "d/big", bytes, written));
    CHECK(store(neighbour, "f", bytes, 2 * MIB, MIB) && same_content(neighbour, "f", bytes, 2 * MIB));

    fd = ermfs_openat(root, "d/big", O_RDWR);
    CHECK(fd >= 0 && ermfs_ftruncate(fd, (off_t)MIB + 1) == 0);
    CHECK(ermfs_close(fd) == 0 && same_content(root, "d/big", bytes, MIB + 1));
    CHECK(store(root, "again", bytes, MIB, MIB) && same_content(root, "again", bytes, MIB));
    CHECK(ermfs_unlinkat(root, "again", 0) == 0);
    fd = fill_up(root, "d/big2", bytes, size, step, &written);
    CHECK(ermfs_unlinkat(root, "d/big2", 0) == 0 && ermfs_unlinkat(root, "d/big", 0) == 0);
    CHECK(ermfs_unlinkat(root, "d/small", 0) == 0 && ermfs_unlinkat(root, "d", AT_REMOVEDIR) == 0);
    CHECK(ermfs_close(fd) == 0);
    CHECK(comes_to_nothing(root));
    CHECK(ermfs_mkdirat(root, "fresh", 0755) == 0 && store(root, "fresh/f", bytes, 2 * MIB, MIB));
    CHECK(ermfs_close(root) == 0 && ermfs_close(neighbour) == 0);
    free(bytes);
}

static void own_budgets(void)
{
    char *bytes = malloc(2 * MIB), name[16];
    int root, fd;

    for (uint32_t compress = 0; compress < 3; compress++) {
        full_filesystem(compress, 10000);
        full_filesystem(compress, 8 * MIB);
    }

    /* Names take room as well. */
    root = mount_with(MIB, 0, 0);
    for (int i = 0; i < 100000; i++) {
        snprintf(name, sizeof name, "n%d", i);
        fd = ermfs_openat(root, name, O_WRONLY | O_CREAT, 0644);
        if (fd < 0) {
            int error = errno;
            CHECK(error == ENOSPC && i > 500);
            break;
        }
        ermfs_close(fd);
    }
    CHECK(fd < 0);
    CHECK(ermfs_unlinkat(root, "n0", 0) == 0 && ermfs_unlinkat(root, "n1", 0) == 0 && ermfs_close(root) == 0);

    /* What compresses at close makes room for more than the budget. */
    root = mount_with(4 * MIB, 0, 0);
    fill(bytes, MIB, TEXT);
    for (int i = 0; i < 16; i++) {
        snprintf(name, sizeof name, "t%d", i);
        CHECK(store(root, name, bytes, MIB, BLOCK));
    }
    CHECK(stats_of(root).logical_bytes == 16 * MIB && same_content(root, "t15", bytes, MIB) && same_content(root, "t0", bytes, MIB));
    CHECK(ermfs_close(root) == 0);

    /* The largest file. */
    root = mount_with(16 * MIB, MIB, 0);
    fill(bytes, 2 * MIB, RANDOM);
    fd = ermfs_openat(root, "f", O_RDWR | O_CREAT, 0644);
    CHECK(ermfs_write(fd, bytes, 2 * MIB) == (ssize_t)MIB);
    CHECK_ERRNO(ermfs_write(fd, bytes, 10), EFBIG);
    CHECK(ermfs_pwrite(fd, bytes, 10, 0) == 10);
    CHECK(ermfs_close(fd) == 0);
    fd = ermfs_openat(root, "sparse", O_RDWR | O_CREAT, 0644);
    CHECK(ermfs_pwrite(fd, "far", 3, 100 * GIB) == 3 && ermfs_ftruncate(fd, 200 * GIB) == 0);
    CHECK(ermfs_close(fd) == 0 && ermfs_close(root) == 0);
    free(bytes);
}

/* ---- content at rest ---- */

static bool at_rest(int root, const char *bytes, size_t size, size_t step)
{
    char byte = '!', *changed = malloc(size + 1);
    bool ok = changed && store(root, "f", bytes, size, step) && same_content(root, "f", bytes, size);
    int fd;

    if (ok && size) {
        memcpy(changed, bytes, size);
        changed[size / 2] = byte;
        fd = ermfs_openat(root, "f", O_WRONLY);
        ok = ermfs_pwrite(fd, &byte, 1, (off_t)(size / 2)) == 1 && ermfs_close(fd) == 0;
        ok = ok && same_content(root, "f", changed, size);
        changed[size] = '+';
        fd = ermfs_openat(root, "f", O_WRONLY | O_APPEND);
        ok = ok && ermfs_write(fd, "+", 1) == 1 && ermfs_close(fd) == 0 && same_content(root, "f", changed, size + 1);
    }
    free(changed);
    return ok;
}

static void own_content(void)
{
    static const size_t sizes[] = {0, 1, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 65537, 1048583};
    char *bytes = malloc(2 * MIB);

    for (uint32_t compress = 0; compress < 3; compress++) {
        int root = mount_with(64 * MIB, 0, compress);
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                fill(bytes, sizes[i], kind);
                if (!CHECK(at_rest(root, bytes, sizes[i], 2 * MIB)) || !CHECK(at_rest(root, bytes, sizes[i], 3001)))
                    fprintf(stderr, "  compress %u, kind %d, size %zu\n", compress, kind, sizes[i]);
            }
        CHECK(ermfs_unlinkat(root, "f", 0) == 0);
        /* The background packer may have the file in its hands for a moment. */
        for (int i = 0; i < 500 && stats_of(root).raw_bytes + stats_of(root).packed_bytes; i++)
            usleep(10000);
        CHECK(stats_of(root).raw_bytes + stats_of(root).packed_bytes == 0 && ermfs_close(root) == 0);
    }
    free(bytes);
}

/* What a closed file weighs, in each policy. */
static void own_weight(void)
{
    char *bytes = malloc(MIB);
    struct ermfs_file_info info;
    struct stat open_state, closed_state;
    int root = mount_with(64 * MIB, 0, ERMFS_COMPRESS_ON_CLOSE), fd;

    fill(bytes, MIB, TEXT);
    fd = ermfs_openat(root, "text", O_RDWR | O_CREAT, 0644);
    CHECK(ermfs_write(fd, bytes, MIB) == (ssize_t)MIB && ermfs_fstat(fd, &open_state) == 0);
    CHECK((size_t)open_state.st_blocks * 512 >= MIB && ermfs_fget_info(fd, &info, sizeof info) == 0);
    CHECK(info.form == ERMFS_FORM_RAW && info.blocks == 16 && info.blocks_raw == 16 && info.stored_bytes >= MIB);
    CHECK(ermfs_close(fd) == 0 && ermfs_fstatat(root, "text", &closed_state, 0) == 0);
    CHECK((size_t)closed_state.st_blocks * 512 < MIB / 4 && closed_state.st_size == (off_t)MIB);
    info = info_of(root, "text");
    CHECK(info.form == ERMFS_FORM_PACKED && info.blocks == 16 && info.blocks_packed == 16 && info.size == MIB);
    CHECK(info.stored_bytes > 0 && info.stored_bytes < MIB / 4);
    CHECK((info.stored_bytes + 511) / 512 == (uint64_t)closed_state.st_blocks);

    fill(bytes, MIB, RANDOM);
    CHECK(store(root, "random", bytes, MIB, MIB));
    info = info_of(root, "random");
    CHECK(info.form == ERMFS_FORM_RAW && info.blocks_raw == 16 && info.stored_bytes >= MIB && info.stored_bytes < MIB + MIB / 16);
    fill(bytes, MIB / 2, TEXT);
    CHECK(store(root, "mixed", bytes, MIB, MIB));
    info = info_of(root, "mixed");
    CHECK(info.form == ERMFS_FORM_MIXED && info.blocks_raw == 8 && info.blocks_packed == 8 && info.blocks_hole == 0);
    fd = ermfs_openat(root, "zero", O_RDWR | O_CREAT, 0644);
    fill(bytes, MIB, ZERO);
    CHECK(ermfs_write(fd, bytes, MIB) == (ssize_t)MIB && ermfs_close(fd) == 0);
    info = info_of(root, "zero");
    CHECK(info.size == MIB && info.blocks_hole == 16 && info.blocks_raw == 0 && info.blocks_packed == 0 && info.stored_bytes == 0);
    CHECK(store(root, "empty", "", 0, 1));
    info = info_of(root, "empty");
    CHECK(info.form == ERMFS_FORM_EMPTY && info.blocks == 0 && info.stored_bytes == 0 && info.size == 0);
    CHECK(ermfs_close(root) == 0);

    root = mount_with(64 * MIB, 0, ERMFS_COMPRESS_NEVER);
    fill(bytes, MIB, TEXT);
    CHECK(store(root, "never", bytes, MIB, MIB) && info_of(root, "never").form == ERMFS_FORM_RAW);
    CHECK(stats_of(root).blocks_packed == 0 && ermfs_close(root) == 0);

    root = mount_with(64 * MIB, 0, ERMFS_COMPRESS_BACKGROUND);
    CHECK(store(root, "later", bytes, MIB, MIB));
    for (int i = 0; i < 1000 && info_of(root, "later").form != ERMFS_FORM_PACKED; i++)
        usleep(10000);
    CHECK(info_of(root, "later").form == ERMFS_FORM_PACKED && same_content(root, "later", bytes, MIB));
    CHECK(ermfs_close(root) == 0);
    free(bytes);
}

/* ---- statistics ---- */

static bool adds_up(const struct ermfs_stats *s)
{
    return s->bytes_in_use == s->raw_bytes + s->packed_bytes + s->cached_bytes + s->exported_bytes + s->metadata_bytes
        && s->bytes_in_use <= s->peak_bytes && s->peak_bytes <= s->max_bytes;
}

static void own_statistics(void)
{
    char *bytes = malloc(MIB);
    struct ermfs_stats before, after, part;
    struct ermfs_file_info info;
    int root = mount_with(64 * MIB, 0, 0), fd, copy;

    before = stats_of(root);
    CHECK(adds_up(&before) && before.files == 0 && before.logical_bytes == 0 && before.max_bytes == 64 * MIB);
    CHECK(before.open_descriptions == 1);
    fd = ermfs_openat(root, "f", O_RDWR | O_CREAT, 0644);
    copy = ermfs_dup(fd);
    fill(bytes, MIB, TEXT);
    CHECK(ermfs_write(fd, bytes, MIB) == (ssize_t)MIB && ermfs_mkdirat(root, "d", 0755) == 0);
    CHECK(ermfs_symlinkat("f", root, "s") == 0 && ermfs_linkat(root, "f", root, "g", 0) == 0);
    after = stats_of(root);
    /* The file, which has two names, and the symbolic link. */
    CHECK(adds_up(&after) && after.files == 2 && after.directories == before.directories + 1);
    CHECK(after.open_descriptions == 2 && after.logical_bytes == MIB && after.raw_bytes >= MIB && after.packed_bytes == 0);
    CHECK(ermfs_close(fd) == 0 && ermfs_close(copy) == 0);
    after = stats_of(root);
    CHECK(adds_up(&after) && after.open_descriptions == 1 && after.raw_bytes == 0 && after.packed_bytes > 0);
    CHECK(after.packed_bytes < MIB / 4 && after.blocks_packed == 16 && after.logical_bytes == MIB && after.peak_bytes >= MIB);
    CHECK(info_of(root, "f").stored_bytes <= after.packed_bytes);
    CHECK(same_content(root, "f", bytes, MIB));
    after = stats_of(root);
    CHECK(adds_up(&after) && after.blocks_inflated >= 16);
    fill(bytes, MIB, RANDOM);
    CHECK(store(root, "random", bytes, MIB, MIB));
    after = stats_of(root);
    CHECK(adds_up(&after) && after.blocks_stored == 16 && after.files == 3);
    fd = ermfs_openat(root, "hole", O_RDWR | O_CREAT, 0644);
    CHECK(ermfs_ftruncate(fd, 10 * GIB) == 0 && ermfs_close(fd) == 0 && stats_of(root).logical_bytes == 2 * MIB);
    CHECK(ermfs_unlinkat(root, "f", 0) == 0 && ermfs_unlinkat(root, "g", 0) == 0 && ermfs_unlinkat(root, "random", 0) == 0);
    CHECK(ermfs_unlinkat(root, "hole", 0) == 0 && ermfs_unlinkat(root, "s", 0) == 0 && ermfs_unlinkat(root, "d", AT_REMOVEDIR) == 0);
    after = stats_of(root);
    CHECK(adds_up(&after) && after.files == 0 && after.directories == before.directories && after.logical_bytes == 0);
    CHECK(after.raw_bytes == 0 && after.packed_bytes == 0 && after.cached_bytes == 0 && after.exported_bytes == 0);
    CHECK(after.metadata_bytes < before.metadata_bytes + 65536);

    memset(&part, 0xee, sizeof part);
    CHECK(ermfs_get_stats(root, &part, 2 * sizeof(uint64_t)) == 0);
    CHECK(part.directories == after.directories && part.open_descriptions == 0xeeeeeeeeeeeeeeee);
    CHECK_ERRNO(ermfs_get_stats(root, nothing, sizeof part), EFAULT);
    CHECK_ERRNO(ermfs_get_stats(-1, &part, sizeof part), EBADF);
    CHECK_ERRNO(ermfs_fget_info(-1, &info, sizeof info), EBADF);
    CHECK_ERRNO(ermfs_fget_info(root, nothing, sizeof info), EFAULT);
    CHECK(ermfs_close(root) == 0);
    free(bytes);
}

/* ---- streams ---- */

static void own_streams(void)
{
    char line[64];
    FILE *file = ermfs_fopen("stream", "w");

    CHECK(file && fprintf(file, "line %d\nline %d\n", 1, 2) == 14 && fclose(file) == 0);
    CHECK(holds("stream", "line 1\nline 2\n"));
    file = ermfs_fopen("stream", "a");
    CHECK(file && fputs("line 3\n", file) >= 0 && fclose(file) == 0);
    file = ermfs_fopen("stream", "r");
    CHECK(file && fgets(line, sizeof line, file) && strcmp(line, "line 1\n") == 0 && ftell(file) == 7);
    CHECK(fseek(file, -7, SEEK_END) == 0 && fgets(line, sizeof line, file) && strcmp(line, "line 3\n") == 0);
    CHECK(fgets(line, sizeof line, file) == NULL && feof(file));
    CHECK(fseeko(file, 7, SEEK_SET) == 0 && fread(line, 1, 6, file) == 6 && memcmp(line, "line 2", 6) == 0);
    CHECK((fputs("x", file) < 0 || fflush(file) < 0) && fclose(file) == 0);
    file = ermfs_fopen("stream", "r+");
    CHECK(file && fseek(file, 5, SEEK_SET) == 0 && fputc('9', file) == '9' && fseek(file, 0, SEEK_SET) == 0);
    CHECK(fgets(line, sizeof line, file) && strcmp(line, "line 9\n") == 0 && fclose(file) == 0);
    file = ermfs_fopen("stream", "a+");
    CHECK(file && fgets(line, sizeof line, file) && strcmp(line, "line 9\n") == 0);
    CHECK(fseek(file, 0, SEEK_SET) == 0 && fputs("end", file) >= 0 && fclose(file) == 0);
    CHECK(holds("stream", "line 9\nline 2\nline 3\nend"));
    file = ermfs_fopen("stream", "w+");
    CHECK(file && holds("stream", "") && fputs("new", file) >= 0 && fflush(file) == 0 && holds("stream", "new"));
    rewind(file);
    CHECK(fgetc(file) == 'n' && fclose(file) == 0);
    file = ermfs_fopen("stream", "rbe");
    CHECK(file && fclose(file) == 0);
    CHECK_NULL_ERRNO(ermfs_fopen("stream", "wx"), EEXIST);
    CHECK_NULL_ERRNO(ermfs_fopen("missing", "r"), ENOENT);
    CHECK_NULL_ERRNO(ermfs_fopen("stream", "q"), EINVAL);
    CHECK_NULL_ERRNO(ermfs_fopen(".", "w"), EISDIR);
    CHECK_NULL_ERRNO(ermfs_fopen(nothing, "r"), EFAULT);
    CHECK(stats_of(ERMFS_AT_FDCWD).open_descriptions == 0);
}

/* ---- views ---- */

static bool pieces_hold(const struct iovec *pieces, int count, const char *bytes, size_t size)
{
    size_t at = 0;

    for (int i = 0; i < count; i++) {
        if (at + pieces[i].iov_len > size || memcmp(pieces[i].iov_base, bytes + at, pieces[i].iov_len))
            return false;
        at += pieces[i].iov_len;
    }
    return at == size;
}

static void view_of(enum kind kind, bool closed)
{
    size_t size = 300000, at = 1000, length = 250000;
    char *bytes = malloc(size), *other = malloc(size);
    struct iovec pieces[128], one[1];
    int count = 128, single = 1, root = mount_with(64 * MIB, 0, 0), fd;
    ermfs_view *view, *small;

    fill(bytes, size, kind);
    memset(other, '~', size);
    CHECK(store(root, "f", bytes, size, closed ? size : 12345));
    fd = ermfs_openat(root, "f", O_RDWR);
    if (!closed)
        CHECK(ermfs_pwrite(fd, bytes, size, 0) == (ssize_t)size);
    view = ermfs_view_open(fd, (off_t)at, length, pieces, &count);
    CHECK(view && count > 0 && count <= 128 && pieces_hold(pieces, count, bytes + at, length));
    small = ermfs_view_open(fd, 0, size, one, &single);
    CHECK(small && single == 1 && one[0].iov_len > 0 && pieces_hold(one, 1, bytes, one[0].iov_len));
    CHECK(ermfs_pwrite(fd, other, size, 0) == (ssize_t)size && same_content(root, "f", other, size));
    CHECK(pieces_hold(pieces, count, bytes + at, length) && pieces_hold(one, 1, bytes, one[0].iov_len));
    ermfs_view_close(small);
    CHECK(ermfs_ftruncate(fd, 0) == 0 && ermfs_unlinkat(root, "f", 0) == 0);
    CHECK(ermfs_close(fd) == 0 && ermfs_close(root) == 0);
    root = mount_with(64 * MIB, 0, 0);
    CHECK(store(root, "g", other, size, size));
    CHECK(pieces_hold(pieces, count, bytes + at, length));
    ermfs_view_close(view);
    CHECK(ermfs_close(root) == 0);
    free(bytes);
    free(other);
}

static void own_views(void)
{
    struct iovec pieces[4];
    int count = 4, fd = make_open("v"), writer, dir;
    ermfs_view *view;

    for (int kind = 0; kind < KINDS; kind++) {
        view_of(kind, true);
        view_of(kind, false);
    }
    CHECK(ermfs_write(fd, "content", 7) == 7);
    view = ermfs_view_open(fd, 2, 100, pieces, &count);
    CHECK(view && pieces_hold(pieces, count, "ntent", 5));
    CHECK(ermfs_write(fd, " grows", 6) == 6 && ermfs_pwrite(fd, "CONTENT", 7, 0) == 7);
    CHECK(pieces_hold(pieces, count, "ntent", 5));
    ermfs_view_close(view);
    count = 4;
    view = ermfs_view_open(fd, 100, 100, pieces, &count);
    CHECK(view && pieces_hold(pieces, count, "", 0));
    ermfs_view_close(view);
    ermfs_view_close(NULL);
    count = 4;
    CHECK_NULL_ERRNO(ermfs_view_open(-1, 0, 1, pieces, &count), EBADF);
    CHECK_NULL_ERRNO(ermfs_view_open(fd, -1, 1, pieces, &count), EINVAL);
    CHECK_NULL_ERRNO(ermfs_view_open(fd, 0, 1, nothing, &count), EFAULT);
    CHECK_NULL_ERRNO(ermfs_view_open(fd, 0, 1, pieces, nothing), EFAULT);
    writer = ermfs_open("v", O_WRONLY);
    CHECK_NULL_ERRNO(ermfs_view_open(writer, 0, 1, pieces, &count), EBADF);
    dir = ermfs_open(".", O_RDONLY);
    CHECK_NULL_ERRNO(ermfs_view_open(dir, 0, 1, pieces, &count), EISDIR);
    CHECK_NULL_ERRNO(ermfs_opendir(nothing), EFAULT);
    CHECK(ermfs_close(dir) == 0 && ermfs_close(writer) == 0 && ermfs_close(fd) == 0);
}

/* ---- modes ---- */

static void own_modes(void)
{
    bool started = ermfs_is_lockless();
    int fd;
    e_dir *dir;

    make_file("kept", "through the switch");
    fd = ermfs_open("kept", O_RDONLY);
    CHECK_ERRNO(ermfs_set_lockless_mode(!started), EBUSY);
    CHECK(ermfs_is_lockless() == started && ermfs_close(fd) == 0);
    dir = ermfs_opendir(".");
    CHECK_ERRNO(ermfs_set_lockless_mode(!started), EBUSY);
    CHECK(ermfs_closedir(dir) == 0);
    CHECK(ermfs_set_lockless_mode(!started) == 0 && ermfs_is_lockless() == !started);
    make_file("made", "in the other mode");
    CHECK(holds("kept", "through the switch") && holds("made", "in the other mode"));
    CHECK(ermfs_set_lockless_mode(!started) == 0);
    CHECK(ermfs_set_lockless_mode(started) == 0 && ermfs_is_lockless() == started);
    CHECK(holds("kept", "through the switch") && holds("made", "in the other mode"));
}

static void run_own_families(void)
{
    run_family("own_numbers", own_numbers);
    run_family("own_filesystems", own_filesystems);
    run_family("own_configuration", own_configuration);
    run_family("own_ranges", own_ranges);
    run_family("own_range_errors", own_range_errors);
    run_family("own_budgets", own_budgets);
    run_family("own_attributes", own_attributes);
    run_family("own_locks", own_locks);
    run_family("own_content", own_content);
    run_family("own_weight", own_weight);
    run_family("own_statistics", own_statistics);
    run_family("own_streams", own_streams);
    run_family("own_views", own_views);
    run_family("own_modes", own_modes);
    CHECK(stats_of(ERMFS_AT_FDCWD).files == 0 && stats_of(ERMFS_AT_FDCWD).open_descriptions == 0);
}
