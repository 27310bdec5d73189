/*
 * Families of test_lockless_correctness.c about what files hold, beside a byte model. Included by test_lockless_correctness.c only.
 */

#define MODEL_ROOM (6 * BLOCK)

/* The bytes of a file as they should be; zero at and past the size. */
struct model {
    const char *path;
    int fd;
    size_t size;
    unsigned char bytes[MODEL_ROOM];
    unsigned char input[MODEL_ROOM], output[MODEL_ROOM + 1];
    struct random random;
};

static void model_open(struct model *model, int flags)
{
    model->fd = ermfs_open(model->path, O_RDWR | flags, 0644);
    CHECK(model->fd >= 0);
}

static struct model *model_new(const char *path, uint64_t seed)
{
    struct model *model = calloc(1, sizeof *model);

    model->path = path;
    model->random = random_of(seed_of_run() + seed);
    model_open(model, O_CREAT | O_TRUNC);
    return model;
}

static void model_check(struct model *model)
{
    CHECK(stat_of_fd(model->fd).st_size == (off_t)model->size);
    CHECK(ermfs_pread(model->fd, model->output, MODEL_ROOM + 1, 0) == (ssize_t)model->size);
    CHECK(memcmp(model->output, model->bytes, model->size) == 0);
}

/* The last close packs the file. */
static void model_reopen(struct model *model)
{
    CHECK(ermfs_close(model->fd) == 0);
    model_open(model, 0);
    model_check(model);
}

static void model_free(struct model *model)
{
    model_reopen(model);
    CHECK(ermfs_close(model->fd) == 0 && ermfs_unlink(model->path) == 0);
    free(model);
}

/* Half of the time bytes that do not pack, never zero. */
static void model_input(struct model *model, size_t length)
{
    bool noise = random_below(&model->random, 2);
    unsigned char first = (unsigned char)random_next(&model->random);

    for (size_t i = 0; i < length; i++)
        model->input[i] = (unsigned char)(1 + (noise ? random_next(&model->random) : first + i / 9) % 255);
}

static void model_write(struct model *model, size_t at, size_t length)
{
    length = at + length > MODEL_ROOM ? MODEL_ROOM - at : length;
    model_input(model, length);
    CHECK(ermfs_pwrite(model->fd, model->input, length, (off_t)at) == (ssize_t)length);
    memcpy(model->bytes + at, model->input, length);
    if (length && at + length > model->size)
        model->size = at + length;
}

/* Through another descriptor, whose offset must not matter. */
static void model_append(struct model *model, size_t length)
{
    int fd = ermfs_open(model->path, O_WRONLY | O_APPEND);
    bool positioned = random_below(&model->random, 2);

    length = model->size + length > MODEL_ROOM ? MODEL_ROOM - model->size : length;
    model_input(model, length);
    if (positioned) {
        CHECK(ermfs_pwrite(fd, model->input, length, 3) == (ssize_t)length);
    } else {
        CHECK(ermfs_lseek(fd, 1, SEEK_SET) == 1 && ermfs_write(fd, model->input, length) == (ssize_t)length);
        CHECK(ermfs_lseek(fd, 0, SEEK_CUR) == (off_t)(length ? model->size + length : 1));
    }
    memcpy(model->bytes + model->size, model->input, length);
    model->size += length;
    CHECK(ermfs_close(fd) == 0);
}

static void model_truncate(struct model *model, size_t size)
{
    bool by_path = random_below(&model->random, 2);

    CHECK((by_path ? ermfs_truncate(model->path, (off_t)size) : ermfs_ftruncate(model->fd, (off_t)size)) == 0);
    if (size < model->size)
        memset(model->bytes + size, 0, model->size - size);
    model->size = size;
}

static void model_allocate(struct model *model, int mode, size_t at, size_t length)
{
    bool grows = !(mode & FALLOC_FL_KEEP_SIZE), zeroes = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);

    length = at + length > MODEL_ROOM ? MODEL_ROOM - at : length;
    if (length == 0)
        return;
    CHECK(ermfs_fallocate(model->fd, mode, (off_t)at, (off_t)length) == 0);
    if (zeroes)
        memset(model->bytes + at, 0, length);
    if (grows && at + length > model->size)
        model->size = at + length;
}

/* Takes away or puts in one block; both ask for a range within the file. */
static void model_shift(struct model *model, bool insert)
{
    size_t blocks = model->size / BLOCK, at;

    if (blocks == 0 || (insert && model->size + BLOCK > MODEL_ROOM))
        return;
    at = random_below(&model->random, (uint32_t)blocks) * (size_t)BLOCK;
    if (insert) {
        CHECK(ermfs_fallocate(model->fd, FALLOC_FL_INSERT_RANGE, (off_t)at, BLOCK) == 0);
        memmove(model->bytes + at + BLOCK, model->bytes + at, model->size - at);
        memset(model->bytes + at, 0, BLOCK);
        model->size += BLOCK;
    } else if (at + BLOCK < model->size) {
        CHECK(ermfs_fallocate(model->fd, FALLOC_FL_COLLAPSE_RANGE, (off_t)at, BLOCK) == 0);
        memmove(model->bytes + at, model->bytes + at + BLOCK, model->size - at - BLOCK);
        memset(model->bytes + model->size - BLOCK, 0, BLOCK);
        model->size -= BLOCK;
    }
}

/* Part of the file read alone. */
static void model_read(struct model *model, size_t at, size_t length)
{
    size_t there = at < model->size ? model->size - at : 0;

    there = there < length ? there : length;
    CHECK(ermfs_pread(model->fd, model->output, length, (off_t)at) == (ssize_t)there);
    CHECK(memcmp(model->output, model->bytes + at, there) == 0);
}

/* A number near a boundary, or anywhere. */
static size_t near_boundary(struct random *random, size_t limit)
{
    size_t unit = random_below(random, 2) ? PAGE : BLOCK, result;

    if (random_below(random, 4) == 0)
        return random_below(random, (uint32_t)limit + 1);
    result = random_below(random, (uint32_t)(limit / unit) + 1) * unit + random_below(random, 5);
    result = result < 2 ? 0 : result - 2;
    return result < limit ? result : limit;
}

static void content_model(void)
{
    const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    struct model *model = model_new("model", 3);

    for (long i = scaled(2500); i > 0; i--) {
        struct random *random = &model->random;
        size_t at = near_boundary(random, MODEL_ROOM);
        size_t length = near_boundary(random, random_below(random, 2) ? PAGE + 1 : 2 * BLOCK);
        switch (random_below(random, 10)) {
        case 0:
        case 1:
        case 2: model_write(model, at, length); break;
        case 3:
        case 4: model_append(model, length); break;
        case 5: model_truncate(model, at); break;
        case 6: model_allocate(model, modes[random_below(random, 5)], at, length); break;
        case 7: model_shift(model, random_below(random, 2)); break;
        case 8: model_read(model, at, length); break;
        default: model_reopen(model); break;
        }
        model_check(model);
    }
    model_free(model);
}

/* ---- every way past a boundary ---- */

/* From one size near the boundary: write at, append to, cut to and grow to places near it. */
static void boundary_round(struct model *model, size_t start, size_t at, size_t length)
{
    model_truncate(model, 0);
    model_write(model, 0, start);
    model_append(model, length);
    model_check(model);
    model_truncate(model, start);
    model_write(model, at, length);
    model_check(model);
    model_truncate(model, at);
    model_truncate(model, at + length + 1);
    model_append(model, 1);
    model_check(model);
    model_write(model, start, 1);
    model_truncate(model, start);
    model_append(model, length);
    model_append(model, 1);
    model_check(model);
}

static void content_boundaries(void)
{
    static const size_t boundaries[] = {PAGE, BLOCK, BLOCK + PAGE, 2 * BLOCK};
    static const size_t lengths[] = {1, 2, PAGE - 1, PAGE, PAGE + 1};
    struct model *model = model_new("boundary", 4);

    for (size_t b = 0; b < sizeof boundaries / sizeof *boundaries; b++)
        for (int start = -1; start <= 1; start++)
            for (int at = -1; at <= 1; at++)
                for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
                    boundary_round(model, boundaries[b] + (size_t)start, boundaries[b] + (size_t)at, lengths[l]);
    for (int start = -1; start <= 1; start++)
        for (int length = -1; length <= 1; length++)
            boundary_round(model, BLOCK + (size_t)start, BLOCK, BLOCK + (size_t)length);
    model_free(model);
}

/* Bytes that were cut off never come back, however small the steps and whoever cuts. */
static void content_cut_and_append(void)
{
    struct model *model = model_new("cut", 5);

    for (long i = scaled(3000); i > 0; i--) {
        size_t cut = random_below(&model->random, 200);
        model_append(model, random_below(&model->random, 300));
        model_truncate(model, model->size > cut ? model->size - cut : 0);
        if (random_below(&model->random, 4) == 0 && model->size + 100 < MODEL_ROOM)
            model_truncate(model, model->size + random_below(&model->random, 100));
        if (model->size > MODEL_ROOM - 1000)
            model_truncate(model, BLOCK + 10);
        model_read(model, model->size > 1000 ? model->size - 1000 : 0, 2000);
    }
    model_free(model);
}

/* ---- holes ---- */

static void content_holes(void)
{
    off_t far = (off_t)1 << 40;
    int fd = make_open("holes");
    struct model *model;
    char bytes[PAGE];

    CHECK(ermfs_pwrite(fd, "x", 1, far) == 1 && stat_of_fd(fd).st_size == far + 1);
    CHECK(ermfs_lseek(fd, 0, SEEK_DATA) <= far && ermfs_lseek(fd, 0, SEEK_DATA) > far - BLOCK);
    CHECK(ermfs_lseek(fd, 0, SEEK_HOLE) == 0 && ermfs_lseek(fd, far, SEEK_HOLE) == far + 1);
    CHECK(ermfs_pread(fd, bytes, PAGE, far - PAGE + 1) == PAGE && bytes[PAGE - 1] == 'x');
    for (int i = 0; i < PAGE - 1; i++)
        CHECK(bytes[i] == 0);
    CHECK(stat_of_fd(fd).st_blocks <= 2 * BLOCK / 512);
    CHECK(ermfs_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, far + 1) == 0);
    CHECK_ERRNO(ermfs_lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK(stat_of_fd(fd).st_blocks == 0 && ermfs_close(fd) == 0 && ermfs_unlink("holes") == 0);

    model = model_new("sparse", 6);
    for (size_t at = 1; at < MODEL_ROOM; at += BLOCK + PAGE + 1)
        model_write(model, at, 10);
    model_reopen(model);
    for (size_t at = 5; at < MODEL_ROOM; at += BLOCK + PAGE + 1)
        model_allocate(model, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, PAGE);
    model_check(model);
    for (int i = 0; i < 4; i++) {
        int wrong[] = {FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_KEEP_SIZE,
            FALLOC_FL_INSERT_RANGE | FALLOC_FL_ZERO_RANGE, 0x100};
        CHECK(ermfs_fallocate(model->fd, wrong[i], 0, BLOCK) == -1 && (errno == EOPNOTSUPP || errno == EINVAL));
    }
    CHECK_ERRNO(ermfs_fallocate(model->fd, FALLOC_FL_COLLAPSE_RANGE, 1, BLOCK), EINVAL);
    CHECK_ERRNO(ermfs_fallocate(model->fd, FALLOC_FL_INSERT_RANGE, MODEL_ROOM, BLOCK), EINVAL);
    model_check(model);
    model_free(model);
}

/* ---- pictures of a file ---- */

/* What a view, a copy and a sealed export show stays while the file changes under them. */
static void content_pictures(void)
{
    struct model *model = model_new("picture", 7);
    unsigned char *before = malloc(MODEL_ROOM);
    struct iovec pieces[256];
    int count = 256, copy = make_open("copy"), memfd;
    off_t from = 0, to = 0;
    size_t size, at = 0;
    ermfs_view *view;

    model_write(model, 0, 3 * BLOCK + 100);
    size = model->size;
    memcpy(before, model->bytes, size);
    view = ermfs_view_open(model->fd, 0, size, pieces, &count);
    CHECK(view && ermfs_copy_file_range(model->fd, &from, copy, &to, size, 0) == (ssize_t)size);
    memfd = ermfs_fexport_memfd(model->fd, ERMFS_EXPORT_SEALED);
    for (int i = 0; i < 50; i++) {
        model_write(model, near_boundary(&model->random, size), 100);
        model_append(model, 10);
        model_truncate(model, i % 10 == 9 ? BLOCK + 1 : model->size);
    }
    model_check(model);
    for (int i = 0; i < count; at += pieces[i++].iov_len)
        CHECK(at + pieces[i].iov_len <= size && memcmp(pieces[i].iov_base, before + at, pieces[i].iov_len) == 0);
    CHECK(at == size && fd_holds(copy, (char *)before, size));
    CHECK(pread(memfd, model->output, MODEL_ROOM, 0) == (ssize_t)size && memcmp(model->output, before, size) == 0);
    ermfs_view_close(view);
    CHECK(close(memfd) == 0 && ermfs_close(copy) == 0 && ermfs_unlink("copy") == 0);
    free(before);
    model_free(model);
}
