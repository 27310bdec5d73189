/*
 * Scenes of test_lockless_concurrency.c about descriptors and the switch of modes. Included by test_lockless_concurrency.c only.
 */

/* ---- a million opens ---- */

#define OPENS 1000000

struct open_scene {
    long each;
    atomic_uchar *owned; /* by number: whether somebody has it */
};

static void *open_and_close(struct worker *worker)
{
    struct open_scene *scene = worker->scene;
    char own[32];
    ino_t inodes[2];

    snprintf(own, sizeof own, "own%u", worker->id);
    make_file(own, own);
    inodes[0] = stat_of("shared").st_ino, inodes[1] = stat_of(own).st_ino;
    while (worker->operations < scene->each) {
        bool is_own = random_below(&worker->random, 2);
        int fd = ermfs_open(is_own ? own : "shared", O_RDWR | (random_below(&worker->random, 2) ? ERMFS_O_ANYFD : 0));
        if (!HOLD(fd >= FIRST_FD && fd < FIRST_FD + capacity()))
            break;
        HOLD(atomic_exchange_explicit(&scene->owned[fd - FIRST_FD], 1, memory_order_relaxed) == 0);
        if (worker->operations % 16 == 0) {
            struct stat status;
            HOLD(ermfs_fstat(fd, &status) == 0 && status.st_ino == inodes[is_own]);
        }
        atomic_store_explicit(&scene->owned[fd - FIRST_FD], 0, memory_order_relaxed);
        if (!HOLD(ermfs_close(fd) == 0))
            break;
        worker->operations++;
    }
    HOLD(ermfs_unlink(own) == 0);
    return NULL;
}

static void open_scene(void)
{
    struct open_scene scene = {.each = scaled(OPENS) / threads + 1};
    struct ermfs_stats start;

    scene.owned = calloc((size_t)capacity(), sizeof *scene.owned);
    make_file("shared", "shared");
    start = stats_of(ERMFS_AT_FDCWD);
    CHECK(RUN_SCENE("a million opens", &scene, open_and_close) >= scaled(OPENS));
    check_same_stats(ERMFS_AT_FDCWD, &start);
    CHECK(stat_of("shared").st_nlink == 1 && ermfs_unlink("shared") == 0);
    free(scene.owned);
}

/* ---- the whole table ---- */

struct fill_scene {
    atomic_long opened;
    pthread_barrier_t full;
};

/* All open until there is no number left: together exactly as many as there are. */
static void *fill_table(struct worker *worker)
{
    struct fill_scene *scene = worker->scene;
    int *fds = malloc(sizeof *fds * (size_t)capacity()), fd;
    long count = 0;

    do {
        fd = ermfs_open("f", O_RDONLY | (worker->id % 2 ? ERMFS_O_ANYFD : 0));
        if (fd >= 0)
            fds[count++] = fd;
    } while (fd >= 0);
    HOLD(errno == EMFILE);
    atomic_fetch_add(&scene->opened, count);
    pthread_barrier_wait(&scene->full);
    HOLD(atomic_load(&scene->opened) == capacity());
    HOLD(result(ermfs_open("f", O_RDONLY)) == -EMFILE);
    pthread_barrier_wait(&scene->full);
    for (long i = 0; i < count; i++)
        HOLD(ermfs_close(fds[i]) == 0);
    worker->operations = count + 1;
    free(fds);
    return NULL;
}

static void fill_scene(void)
{
    struct fill_scene scene = {0};

    make_file("f", "f");
    pthread_barrier_init(&scene.full, NULL, threads);
    RUN_SCENE("the whole table", &scene, fill_table);
    pthread_barrier_destroy(&scene.full);
    CHECK(stats_of(ERMFS_AT_FDCWD).open_descriptions == 0 && ermfs_unlink("f") == 0);
}

/* ---- numbers that are replaced under their users ---- */

#define STORM_FILES 5
#define STORM_NUMBERS 8

struct storm_scene {
    int sources[STORM_FILES];
    ino_t inodes[STORM_FILES];
    int first;
};

/* File k holds its own letter, k + 1 pages of it. */
static bool storm_content(const unsigned char *bytes, long size)
{
    if (size < PAGE || size % PAGE || !uniform(bytes, (size_t)size))
        return false;
    return bytes[0] == 'a' + size / PAGE - 1;
}

static void storm_change(struct worker *worker, struct storm_scene *scene, int fd, int source)
{
    long answer;

    switch (random_below(&worker->random, 4)) {
    case 0:
    case 1:
        /* EBUSY: another thread is just closing the number, and has lost the processor at it. */
        answer = result(ermfs_dup2(scene->sources[source], fd));
        HOLD(answer == fd || answer == -EBUSY);
        break;
    case 2:
        answer = result(ermfs_dup3(scene->sources[source], fd, O_CLOEXEC));
        HOLD(answer == fd || answer == -EBUSY);
        break;
    default:
        answer = result(ermfs_close(fd));
        HOLD(answer == 0 || answer == -EBADF);
    }
}

static void storm_use(struct worker *worker, struct storm_scene *scene, unsigned char *bytes, int fd)
{
    struct stat status;
    long answer;
    int file = 0;

    switch (random_below(&worker->random, 3)) {
    case 0:
        answer = result(ermfs_pread(fd, bytes, (STORM_FILES + 1) * PAGE, 0));
        HOLD(answer == -EBADF || storm_content(bytes, answer));
        break;
    case 1:
        answer = result(ermfs_fstat(fd, &status));
        if (answer != 0) {
            HOLD(answer == -EBADF);
            break;
        }
        while (file < STORM_FILES && scene->inodes[file] != status.st_ino)
            file++;
        HOLD(file < STORM_FILES && status.st_size == (file + 1) * PAGE && status.st_nlink == 1);
        break;
    default:
        answer = result(ermfs_dup(fd));
        if (answer < 0) {
            HOLD(answer == -EBADF);
            break;
        }
        /* The copy is nobody else's, so it names one file for good. */
        HOLD(ermfs_fstat((int)answer, &status) == 0);
        HOLD(ermfs_pread((int)answer, bytes, (STORM_FILES + 1) * PAGE, 0) == status.st_size);
        HOLD(storm_content(bytes, status.st_size));
        HOLD(ermfs_close((int)answer) == 0);
    }
}

static void *storm(struct worker *worker)
{
    struct storm_scene *scene = worker->scene;
    unsigned char *bytes = malloc((STORM_FILES + 1) * PAGE);

    do {
        int fd = scene->first + (int)random_below(&worker->random, STORM_NUMBERS);
        if (worker->id % 2 == 0)
            storm_change(worker, scene, fd, (int)random_below(&worker->random, STORM_FILES));
        storm_use(worker, scene, bytes, fd);
        worker->operations++;
    } while (going_on());
    free(bytes);
    return NULL;
}

/* Numbers that dup does not reach, so that a copy stays its maker's. */
static void storm_scene(void)
{
    struct storm_scene scene = {.first = FIRST_FD + capacity() / 2 - STORM_NUMBERS / 2};
    char name[] = "storm0";
    unsigned char *bytes = malloc(STORM_FILES * PAGE);

    for (int i = 0; i < STORM_FILES; i++) {
        name[5] = (char)('0' + i);
        scene.sources[i] = make_open(name);
        memset(bytes, 'a' + i, STORM_FILES * PAGE);
        CHECK(ermfs_write(scene.sources[i], bytes, (size_t)(i + 1) * PAGE) == (i + 1) * PAGE);
        scene.inodes[i] = stat_of(name).st_ino;
    }
    RUN_SCENE("replaced numbers", &scene, storm);
    for (int i = 0; i < STORM_NUMBERS; i++)
        ermfs_close(scene.first + i);
    for (int i = 0; i < STORM_FILES; i++) {
        name[5] = (char)('0' + i);
        CHECK(ermfs_close(scene.sources[i]) == 0 && ermfs_unlink(name) == 0);
    }
    CHECK(stats_of(ERMFS_AT_FDCWD).open_descriptions == 0);
    free(bytes);
}

/* ---- closed under their users ---- */

struct close_scene {
    atomic_int numbers[4];
};

/* Everyone uses the descriptors that everyone replaces; a description ends once, when its last user is done. */
static void *close_under_users(struct worker *worker)
{
    struct close_scene *scene = worker->scene;
    unsigned char bytes[2 * PAGE];

    do {
        atomic_int *number = &scene->numbers[random_below(&worker->random, 4)];
        int fd = atomic_load_explicit(number, memory_order_relaxed);
        long answer;
        switch (random_below(&worker->random, 4)) {
        case 0:
            answer = result(ermfs_close(fd));
            HOLD(answer == 0 || answer == -EBADF);
            if (answer == 0) {
                int new = ermfs_open("pool", O_RDWR | O_APPEND | (worker->id % 2 ? ERMFS_O_ANYFD : 0));
                if (HOLD(new >= 0))
                    atomic_store_explicit(number, new, memory_order_relaxed);
            }
            break;
        case 1:
            answer = result(ermfs_write(fd, "xxxxxxxx", 8));
            HOLD(answer == 8 || answer == -EBADF);
            break;
        case 2:
            answer = result(ermfs_flock(fd, LOCK_SH | LOCK_NB));
            HOLD(answer == 0 || answer == -EBADF);
            break;
        default:
            answer = result(ermfs_pread(fd, bytes, sizeof bytes, 0));
            HOLD(answer == -EBADF || (answer > 8 && bytes[0] == 'x' && uniform(bytes, (size_t)answer)));
        }
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void close_scene(void)
{
    struct close_scene scene;

    make_file("pool", "xxxxxxxxxxxxxxxx");
    for (int i = 0; i < 4; i++)
        atomic_init(&scene.numbers[i], ermfs_open("pool", O_RDWR | O_APPEND));
    RUN_SCENE("closed under their users", &scene, close_under_users);
    for (int fd = FIRST_FD; fd < FIRST_FD + capacity(); fd++)
        ermfs_close(fd);
    CHECK(stats_of(ERMFS_AT_FDCWD).open_descriptions == 0);
    CHECK(stat_of("pool").st_size % 8 == 0);
    /* Its locks went with the descriptions. */
    atomic_store(&scene.numbers[0], ermfs_open("pool", O_RDONLY));
    CHECK(ermfs_flock(atomic_load(&scene.numbers[0]), LOCK_EX | LOCK_NB) == 0);
    CHECK(ermfs_close(atomic_load(&scene.numbers[0])) == 0 && ermfs_unlink("pool") == 0);
}

/* ---- switching under load ---- */

#define SWITCHES 1500

struct switch_scene {
    atomic_long switched, refused;
};

/* Until it has switched often enough, whatever the others do; then the scene is over. */
static void *switch_modes(struct worker *worker)
{
    struct switch_scene *scene = worker->scene;
    long wanted = scaled(SWITCHES);

    while (going_on() && atomic_load(&scene->switched) < wanted) {
        bool mode = ermfs_is_lockless();
        long answer = result(ermfs_set_lockless_mode(!mode));
        HOLD(answer == 0 || answer == -EBUSY);
        HOLD(ermfs_is_lockless() == (answer == 0 ? !mode : mode));
        atomic_fetch_add(answer == 0 ? &scene->switched : &scene->refused, 1);
        worker->operations++;
        /* The others work on for a while, in the new mode or the old one. */
        nanosleep(&(struct timespec){0, random_below(&worker->random, 300000)}, NULL);
    }
    atomic_store(&scene_over, true);
    return NULL;
}

/* Some calls that keep a descriptor, some that do not, then a pause: what was written and named stays so in either mode. */
static void *work_in_bursts(struct worker *worker)
{
    char name[32], other[32], listed[32];
    unsigned char bytes[3 * PAGE], copy[3 * PAGE + 1];
    struct stat status;
    size_t size = 0;
    bool moved = false;

    snprintf(name, sizeof name, "burst%u/file", worker->id);
    snprintf(other, sizeof other, "burst%u/moved", worker->id);
    snprintf(listed, sizeof listed, "burst%u", worker->id);
    HOLD(ermfs_mkdir(listed, 0755) == 0 && ermfs_mknod(name, S_IFREG | 0640, 0) == 0);
    do {
        const char *here = moved ? other : name, *there = moved ? name : other;
        int fd = ermfs_open(here, O_RDWR);
        if (!HOLD(fd >= 0))
            break;
        HOLD(ermfs_pread(fd, copy, sizeof copy, 0) == (ssize_t)size && memcmp(copy, bytes, size) == 0);
        size = 1 + random_below(&worker->random, sizeof bytes);
        memset(bytes, (int)random_below(&worker->random, 256), size);
        HOLD(ermfs_ftruncate(fd, 0) == 0 && ermfs_write(fd, bytes, size) == (ssize_t)size && ermfs_close(fd) == 0);
        for (int i = 0; i < 10; i++) {
            HOLD(ermfs_rename(here, there) == 0 && result(ermfs_stat(here, &status)) == -ENOENT);
            HOLD(ermfs_stat(there, &status) == 0 && status.st_size == (off_t)size && (status.st_mode & 0777) == 0640);
            HOLD(ermfs_rename(there, here) == 0 && ermfs_access(here, F_OK) == 0);
        }
        HOLD(ermfs_rename(here, there) == 0 && entries_of(listed) == 1);
        moved = !moved;
        worker->operations++;
        nanosleep(&(struct timespec){0, random_below(&worker->random, 100000)}, NULL);
    } while (going_on());
    HOLD(ermfs_unlink(moved ? other : name) == 0 && ermfs_rmdir(listed) == 0);
    return NULL;
}

static void *switch_or_work(struct worker *worker)
{
    return worker->id == 0 ? switch_modes(worker) : work_in_bursts(worker);
}

static void switch_scene(void)
{
    struct switch_scene scene = {0};
    bool started = ermfs_is_lockless();
    long usual = scene_milliseconds;

    if (!CHECK(ermfs_set_lockless_mode(!started) == 0))
        return;
    scene_milliseconds = 20 * usual;
    RUN_SCENE("switching under load", &scene, switch_or_work);
    scene_milliseconds = usual;
    printf("  switched %ld times, refused %ld times\n", atomic_load(&scene.switched), atomic_load(&scene.refused));
    CHECK(atomic_load(&scene.switched) > 0);
    CHECK(ermfs_set_lockless_mode(started) == 0);
}
