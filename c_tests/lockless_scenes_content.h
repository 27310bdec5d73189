/*
 * Scenes of test_lockless_concurrency.c about the content of files. Included by test_lockless_concurrency.c only.
 */

/* ---- records ---- */

#define RECORD_MAGIC 0x45524d46u
#define RECORD_ROOM 8192
#define RECORDS_MOST 60000

/* A header, then `length` bytes that follow from it. */
struct record {
    uint32_t magic, writer, sequence, length;
    uint64_t check;
};

static uint64_t record_check(const struct record *record)
{
    return (record->writer * 0x9e3779b97f4a7c15u) ^ (record->sequence * 0xbf58476d1ce4e5b9u) ^ ((uint64_t)record->length << 40);
}

static unsigned char record_byte(const struct record *record, size_t i)
{
    return (unsigned char)(1 + (record->writer * 31 + record->sequence * 7 + i) % 255);
}

static size_t record_make(unsigned char *bytes, unsigned writer, unsigned sequence, uint32_t length)
{
    struct record record = {RECORD_MAGIC, writer, sequence, length, 0};

    record.check = record_check(&record);
    memcpy(bytes, &record, sizeof record);
    for (size_t i = 0; i < length; i++)
        bytes[sizeof record + i] = record_byte(&record, i);
    return sizeof record + length;
}

static uint32_t record_length(struct random *random)
{
    return random_below(random, 50) ? random_below(random, 200) : random_below(random, RECORD_ROOM - 100);
}

/* The size of the whole record that the bytes start with; 0 when they are too few, -1 when they are none. */
static ssize_t record_parse(const unsigned char *bytes, size_t size, struct record *record)
{
    if (size < sizeof *record)
        return 0;
    memcpy(record, bytes, sizeof *record);
    if (record->magic != RECORD_MAGIC || record->check != record_check(record) || record->length > RECORD_ROOM)
        return -1;
    if (size < sizeof *record + record->length)
        return 0;
    for (size_t i = 0; i < record->length; i++)
        if (bytes[sizeof *record + i] != record_byte(record, i))
            return -1;
    return (ssize_t)(sizeof *record + record->length);
}

/* ---- appending ---- */

struct append_scene {
    const char *path;
    int shared;
    atomic_long appended[MOST_THREADS];
};

static void *append_records(struct worker *worker)
{
    struct append_scene *scene = worker->scene;
    bool shared = worker->id % 4 == 3;
    int fd = shared ? scene->shared : ermfs_open(scene->path, O_WRONLY | O_APPEND | (worker->id % 2 ? ERMFS_O_ANYFD : 0));
    unsigned char bytes[RECORD_ROOM + sizeof(struct record)];
    unsigned sequence = 0;

    do {
        size_t size = record_make(bytes, worker->id, sequence++, record_length(&worker->random));
        struct iovec parts[] = {{bytes, 10}, {bytes + 10, size - 10}};
        long answer;
        switch (random_below(&worker->random, 3)) {
        case 0: answer = result(ermfs_write(fd, bytes, size)); break;
        case 1: answer = result(ermfs_pwrite(fd, bytes, size, 5)); break;
        default: answer = result(ermfs_writev(fd, parts, 2)); break;
        }
        HOLD(answer == (long)size);
        worker->operations++;
    } while (going_on() && sequence < RECORDS_MOST);
    atomic_store_explicit(&scene->appended[worker->id], sequence, memory_order_relaxed);
    if (!shared)
        HOLD(ermfs_close(fd) == 0);
    return NULL;
}

/* Whole records only, but for one that two blocks share, or that the buffer ends in. */
static size_t check_records(const unsigned char *bytes, size_t size, size_t room, off_t at, unsigned *next)
{
    size_t done = 0;
    struct record record;
    ssize_t length;

    while (done < size && (length = record_parse(bytes + done, size - done, &record)) > 0) {
        if (next) {
            HOLD(record.writer < MOST_THREADS && record.sequence == next[record.writer]);
            next[record.writer]++;
        }
        done += (size_t)length;
    }
    if (done < size) {
        off_t first = at + (off_t)done, end = at + (off_t)size;
        HOLD(length == 0 && (size == room || end % BLOCK == 0 || first / BLOCK != end / BLOCK));
    }
    return done;
}

/* Follows the file from its start to its end, again and again. */
static void *follow_records(struct worker *worker)
{
    struct append_scene *scene = worker->scene;
    unsigned char *bytes = malloc(BLOCK);
    int fd = ermfs_open(scene->path, O_RDONLY);

    do {
        unsigned next[MOST_THREADS] = {0};
        off_t at = 0;
        ssize_t size;
        while (going_on() && (size = ermfs_pread(fd, bytes, BLOCK, at)) > 0) {
            size_t done = check_records(bytes, (size_t)size, BLOCK, at, next);
            if (done == 0)
                break;
            at += (off_t)done;
            worker->operations++;
        }
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

static void append_scene(void)
{
    struct append_scene scene = {.path = "log"};
    unsigned next[MOST_THREADS] = {0};
    unsigned char *bytes;
    struct stat status;
    size_t done;

    CHECK(ermfs_close(make_open("log")) == 0);
    scene.shared = ermfs_open("log", O_RDWR | O_APPEND);
    RUN_SCENE("append", &scene, append_records, append_records, follow_records, append_records);
    status = stat_of("log");
    bytes = malloc((size_t)status.st_size + 1);
    CHECK(ermfs_close(scene.shared) == 0);
    scene.shared = ermfs_open("log", O_RDONLY);
    CHECK(ermfs_pread(scene.shared, bytes, (size_t)status.st_size + 1, 0) == status.st_size);
    done = check_records(bytes, (size_t)status.st_size, (size_t)status.st_size + 1, 0, next);
    CHECK(done == (size_t)status.st_size);
    for (unsigned i = 0; i < threads; i++)
        CHECK(next[i] == (unsigned)atomic_load(&scene.appended[i]));
    CHECK(ermfs_close(scene.shared) == 0 && ermfs_unlink("log") == 0);
    free(bytes);
}

/* ---- appending against truncation ---- */

static void *append_for_cutter(struct worker *worker)
{
    int fd = ermfs_open("cut", O_WRONLY | O_APPEND);
    unsigned char bytes[RECORD_ROOM + sizeof(struct record)];

    do {
        size_t size = record_make(bytes, worker->id, (unsigned)worker->operations, random_below(&worker->random, 300));
        HOLD(result(ermfs_write(fd, bytes, size)) == (long)size);
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    return NULL;
}

/* To nothing, so that what is there is always whole records from the start. */
static void *cut_to_nothing(struct worker *worker)
{
    int fd = ermfs_open("cut", O_RDWR);

    do {
        struct stat status;
        HOLD(ermfs_fstat(fd, &status) == 0);
        if (status.st_size < (off_t)random_below(&worker->random, 3 * BLOCK)) {
            sched_yield();
        } else {
            switch (random_below(&worker->random, 3)) {
            case 0: HOLD(ermfs_ftruncate(fd, 0) == 0); break;
            case 1: HOLD(ermfs_truncate("cut", 0) == 0); break;
            default: HOLD(ermfs_close(ermfs_open("cut", O_WRONLY | O_TRUNC)) == 0); break;
            }
        }
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    return NULL;
}

static void *read_what_is_cut(struct worker *worker)
{
    unsigned char *bytes = malloc(BLOCK);
    int fd = ermfs_open("cut", O_RDONLY);

    do {
        size_t room = random_below(&worker->random, 2) ? PAGE : BLOCK;
        ssize_t size = ermfs_pread(fd, bytes, room, 0);
        if (HOLD(size >= 0))
            check_records(bytes, (size_t)size, room, 0, NULL);
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

static void truncate_scene(void)
{
    CHECK(ermfs_close(make_open("cut")) == 0);
    RUN_SCENE("append and truncate", NULL, append_for_cutter, read_what_is_cut, cut_to_nothing, read_what_is_cut);
    CHECK(ermfs_unlink("cut") == 0);
}

/* ---- writes within one block ---- */

#define PLACES 6

/* Where each write and read is, all within one block of its own. */
static const struct place {
    off_t at;
    size_t length;
} places[PLACES] = {{0, 16}, {BLOCK + 100, PAGE}, {2 * BLOCK + PAGE, PAGE}, {3 * BLOCK + PAGE - 5, 3 * PAGE}, {4 * BLOCK, BLOCK},
    {6 * BLOCK - 1000, 1000}};

static bool uniform(const unsigned char *bytes, size_t length)
{
    return memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* One byte, repeated; closing it packs the file when no other has it open for writing. */
static void *write_places(struct worker *worker)
{
    unsigned char *bytes = malloc(BLOCK);
    int fd = ermfs_open("blocks", O_RDWR);

    do {
        const struct place *place = &places[random_below(&worker->random, PLACES)];
        size_t half = place->length / 2;
        memset(bytes, (int)(1 + random_below(&worker->random, 255)), place->length);
        if (random_below(&worker->random, 2)) {
            HOLD(ermfs_pwrite(fd, bytes, place->length, place->at) == (ssize_t)place->length);
        } else {
            struct iovec parts[] = {{bytes, half}, {bytes + half, place->length - half}};
            HOLD(ermfs_pwritev(fd, parts, 2, place->at) == (ssize_t)place->length);
        }
        if (random_below(&worker->random, 8) == 0) {
            HOLD(ermfs_close(fd) == 0);
            if (random_below(&worker->random, 2))
                sched_yield();
            fd = ermfs_open("blocks", O_RDWR | ERMFS_O_ANYFD);
        }
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

static void *read_places(struct worker *worker)
{
    unsigned char *bytes = malloc(BLOCK);
    int fd = ermfs_open("blocks", O_RDONLY);

    do {
        const struct place *place = &places[random_below(&worker->random, PLACES)];
        HOLD(ermfs_pread(fd, bytes, place->length, place->at) == (ssize_t)place->length);
        HOLD(uniform(bytes, place->length));
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

static void block_scene(void)
{
    int fd = make_open("blocks");

    CHECK(ermfs_ftruncate(fd, 6 * BLOCK) == 0 && ermfs_close(fd) == 0);
    RUN_SCENE("writes within a block", NULL, write_places, read_places, read_places, write_places);
    CHECK(ermfs_unlink("blocks") == 0);
}

/* ---- last close against writers ---- */

#define CELL 1000

/* Each thread has a cell in each of some blocks; what it wrote there is there whenever it looks, packed or not. */
static void *write_cells(struct worker *worker)
{
    unsigned char bytes[CELL], copy[CELL], last[4] = {0};

    do {
        unsigned block = random_below(&worker->random, 4);
        off_t at = (off_t)block * BLOCK + worker->id * CELL;
        int fd = ermfs_open("cells", O_RDWR | (worker->id % 2 ? ERMFS_O_ANYFD : 0));
        HOLD(fd >= 0 && ermfs_pread(fd, copy, CELL, at) == CELL && uniform(copy, CELL) && copy[0] == last[block]);
        last[block] = (unsigned char)random_next(&worker->random);
        memset(bytes, last[block], CELL);
        HOLD(ermfs_pwrite(fd, bytes, CELL, at) == CELL);
        if (random_below(&worker->random, 2))
            HOLD(ermfs_pread(fd, copy, CELL, at) == CELL && memcmp(copy, bytes, CELL) == 0);
        HOLD(ermfs_close(fd) == 0);
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void last_close_scene(void)
{
    int fd = make_open("cells");

    CHECK(ermfs_ftruncate(fd, 4 * BLOCK) == 0 && ermfs_close(fd) == 0);
    RUN_SCENE("last close and writers", NULL, write_cells);
    CHECK(ermfs_unlink("cells") == 0);
}

/* ---- one offset ---- */

struct offset_scene {
    int reading, writing;
    atomic_long taken;
};

/* Reads and writes through descriptions that all share: each record is read once and written once. */
static void *share_offset(struct worker *worker)
{
    struct offset_scene *scene = worker->scene;
    uint64_t record[8];

    do {
        long answer = result(ermfs_read(scene->reading, record, sizeof record));
        if (answer == 0)
            break;
        HOLD(answer == sizeof record && record[0] == record[7]);
        atomic_fetch_add_explicit(&scene->taken, 1, memory_order_relaxed);
        HOLD(result(ermfs_write(scene->writing, record, sizeof record)) == sizeof record);
        worker->operations++;
    } while (going_on());
    worker->operations++;
    return NULL;
}

static void offset_scene(void)
{
    long count = scaled(100000), taken;
    struct offset_scene scene = {.reading = make_open("from"), .writing = make_open("to")};
    uint64_t record[8];
    bool *seen = calloc((size_t)count, sizeof *seen);

    for (long i = 0; i < count; i++) {
        for (int k = 0; k < 8; k++)
            record[k] = (uint64_t)i;
        CHECK(ermfs_write(scene.reading, record, sizeof record) == sizeof record);
    }
    CHECK(ermfs_lseek(scene.reading, 0, SEEK_SET) == 0);
    RUN_SCENE("one offset", &scene, share_offset);
    taken = atomic_load(&scene.taken);
    CHECK(ermfs_lseek(scene.reading, 0, SEEK_CUR) == taken * (off_t)sizeof record);
    CHECK(ermfs_lseek(scene.writing, 0, SEEK_SET) == 0 && stat_of("to").st_size == taken * (off_t)sizeof record);
    for (long i = 0; i < taken; i++) {
        CHECK(ermfs_read(scene.writing, record, sizeof record) == sizeof record);
        if (CHECK(record[0] < (uint64_t)taken && record[0] == record[7] && !seen[record[0]]))
            seen[record[0]] = true;
    }
    CHECK(ermfs_close(scene.reading) == 0 && ermfs_close(scene.writing) == 0);
    CHECK(ermfs_unlink("from") == 0 && ermfs_unlink("to") == 0);
    free(seen);
}

/* ---- blocks that move ---- */

/* Takes the first block away and puts the next number at the end. */
static void *shift_blocks(struct worker *worker)
{
    unsigned char *bytes = malloc(BLOCK);
    int fd = ermfs_open("shift", O_RDWR);

    do {
        memset(bytes, (int)((worker->operations + 4) & 0xff), BLOCK);
        HOLD(ermfs_fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, BLOCK) == 0);
        HOLD(ermfs_pwrite(fd, bytes, BLOCK, 3 * BLOCK) == BLOCK);
        if (worker->operations % 16 == 0)
            sched_yield();
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

/* Blocks that follow one another in one read have numbers that do. */
static void *read_shifted(struct worker *worker)
{
    unsigned char *bytes = malloc(2 * BLOCK);
    int fd = ermfs_open("shift", O_RDONLY);

    do {
        off_t at = (off_t)random_below(&worker->random, 2) * BLOCK;
        HOLD(ermfs_pread(fd, bytes, 2 * BLOCK, at) == 2 * BLOCK);
        HOLD(uniform(bytes, BLOCK) && uniform(bytes + BLOCK, BLOCK));
        HOLD(bytes[BLOCK] == (unsigned char)(bytes[0] + 1));
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_close(fd) == 0);
    free(bytes);
    return NULL;
}

static void *shift_or_read(struct worker *worker)
{
    return worker->id == 0 ? shift_blocks(worker) : read_shifted(worker);
}

static void shift_scene(void)
{
    unsigned char *bytes = malloc(BLOCK);
    int fd = make_open("shift");

    for (int i = 0; i < 4; i++) {
        memset(bytes, i, BLOCK);
        CHECK(ermfs_write(fd, bytes, BLOCK) == BLOCK);
    }
    CHECK(ermfs_close(fd) == 0);
    RUN_SCENE("blocks that move", NULL, shift_or_read);
    CHECK(ermfs_unlink("shift") == 0);
    free(bytes);
}
