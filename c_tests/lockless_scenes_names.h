/*
 * Scenes of test_lockless_concurrency.c about names. Included by test_lockless_concurrency.c only.
 */

/* ---- rename is one moment ---- */

/*
 * One mover renames between two names. It tells `begun` before each rename and `done` after it. An observer that finds `done`
 * at n and, after its look-ups, `begun` at most n + 1, has looked while at most one rename was under way: move n, from side
 * n % 2 to the other. Then: a name that has lost the file is the old one only if the new one has it from then on; a new name
 * that has it is the only one from then on.
 */
struct move_scene {
    const char *moved[2];    /* what is renamed, to and fro */
    const char *observed[2]; /* the same file, or one below it */
    bool exchange;
    ino_t inodes[2]; /* of the observed; the second for an exchange only */
    atomic_long begun, done, judged;
};

static void *move_to_and_fro(struct worker *worker)
{
    struct move_scene *scene = worker->scene;

    do {
        long move = worker->operations;
        const char *from = scene->moved[move % 2], *to = scene->moved[(move + 1) % 2];
        atomic_store(&scene->begun, move + 1);
        if (scene->exchange)
            HOLD(ermfs_renameat2(ERMFS_AT_FDCWD, from, ERMFS_AT_FDCWD, to, RENAME_EXCHANGE) == 0);
        else
            HOLD(ermfs_rename(from, to) == 0);
        atomic_store(&scene->done, move + 1);
        worker->operations++;
    } while (going_on());
    return NULL;
}

/* The inode that a name has, 0 for none; by stat or by open. */
static ino_t look_up(struct worker *worker, const char *path)
{
    struct stat status;

    if (random_below(&worker->random, 3) == 0) {
        int fd = ermfs_open(path, O_RDONLY | (worker->id % 2 ? ERMFS_O_ANYFD : 0));
        if (fd < 0)
            return HOLD(errno == ENOENT) ? 0 : 1;
        HOLD(ermfs_fstat(fd, &status) == 0 && ermfs_close(fd) == 0);
        return status.st_ino;
    }
    if (ermfs_stat(path, &status) != 0)
        return HOLD(errno == ENOENT) ? 0 : 1;
    return status.st_ino;
}

static void *observe_move(struct worker *worker)
{
    struct move_scene *scene = worker->scene;
    long judged = 0;

    do {
        long move = atomic_load(&scene->done);
        int old = (int)(move % 2), new = !old;
        bool new_first = random_below(&worker->random, 2);
        ino_t first = look_up(worker, scene->observed[new_first ? new : old]);
        ino_t second = look_up(worker, scene->observed[new_first ? old : new]);
        /* With more threads than processors the mover must get its turns. */
        if (++worker->operations % 32 == 0)
            sched_yield();
        if (atomic_load(&scene->begun) > move + 1)
            continue;
        judged++;
        if (scene->exchange) {
            /* Before the move the sides have the inodes of their parity, after it the other's. */
            HOLD(first == scene->inodes[0] || first == scene->inodes[1]);
            HOLD(second == scene->inodes[0] || second == scene->inodes[1]);
            if (first == scene->inodes[new_first ? 0 : 1])
                HOLD(second == scene->inodes[new_first ? 1 : 0]);
        } else if (new_first) {
            HOLD(first == 0 || (first == scene->inodes[0] && second == 0));
            HOLD(second == 0 || second == scene->inodes[0]);
        } else {
            HOLD(first == 0 ? second == scene->inodes[0] : first == scene->inodes[0]);
        }
    } while (going_on());
    atomic_fetch_add(&scene->judged, judged);
    return NULL;
}

static void *move_or_observe(struct worker *worker)
{
    return worker->id == 0 ? move_to_and_fro(worker) : observe_move(worker);
}

static void move_scene(const char *name, struct move_scene scene)
{
    for (int side = 0; side < 2; side++)
        if (side == 0 || scene.exchange)
            scene.inodes[side] = stat_of(scene.observed[side]).st_ino;
    RUN_SCENE(name, &scene, move_or_observe);
    printf("  %ld renames, %ld observations\n", atomic_load(&scene.done), atomic_load(&scene.judged));
    CHECK(ermfs_rename(scene.moved[scene.exchange ? 0 : atomic_load(&scene.done) % 2], "moved") == 0);
}

static void rename_scenes(void)
{
    CHECK(ermfs_mkdir("r1", 0755) == 0 && ermfs_mkdir("r2", 0755) == 0);
    make_file("r1/a", "file");
    move_scene("rename in a directory", (struct move_scene){{"r1/a", "r1/b"}, {"r1/a", "r1/b"}, false, {0}, 0, 0, 0});
    CHECK(ermfs_rename("moved", "r1/a") == 0);
    move_scene("rename across directories", (struct move_scene){{"r1/a", "r2/a"}, {"r1/a", "r2/a"}, false, {0}, 0, 0, 0});
    CHECK(ermfs_unlink("moved") == 0 && ermfs_mkdir("r1/d", 0755) == 0);
    make_file("r1/d/x", "below");
    move_scene("rename of a directory", (struct move_scene){{"r1/d", "r2/e"}, {"r1/d/x", "r2/e/x"}, false, {0}, 0, 0, 0});
    CHECK(ermfs_unlink("moved/x") == 0 && ermfs_rmdir("moved") == 0);
    make_file("r1/a", "one");
    make_file("r2/a", "two");
    move_scene("exchange", (struct move_scene){{"r1/a", "r2/a"}, {"r1/a", "r2/a"}, true, {0}, 0, 0, 0});
    CHECK(ermfs_unlink("moved") == 0 && ermfs_unlink("r2/a") == 0);
    CHECK(ermfs_rmdir("r1") == 0 && ermfs_rmdir("r2") == 0);
}

/* ---- rename over an existing name ---- */

/* Everyone puts a new file in place of one name, which therefore is always there, whole. */
static void *replace_and_read(struct worker *worker)
{
    unsigned char bytes[RECORD_ROOM + sizeof(struct record)];
    char own[32];

    snprintf(own, sizeof own, "new%u", worker->id);
    do {
        struct record record;
        ssize_t size;
        int fd;
        if (worker->id % 2 == 0) {
            uint32_t extent = random_below(&worker->random, RECORD_ROOM);
            size_t length = record_make(bytes, worker->id, (unsigned)worker->operations, extent);
            fd = ermfs_open(own, O_WRONLY | O_CREAT | O_EXCL, 0644);
            HOLD(fd >= 0 && ermfs_write(fd, bytes, length) == (ssize_t)length && ermfs_close(fd) == 0);
            HOLD(ermfs_rename(own, "config") == 0);
        }
        fd = ermfs_open("config", O_RDONLY);
        if (HOLD(fd >= 0)) {
            size = ermfs_read(fd, bytes, sizeof bytes);
            HOLD(size > 0 && record_parse(bytes, (size_t)size, &record) == size);
            HOLD(ermfs_close(fd) == 0);
        }
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void replace_scene(void)
{
    unsigned char bytes[256];
    int fd = make_open("config");
    size_t size = record_make(bytes, 0, 0, 100);

    CHECK(ermfs_write(fd, bytes, size) == (ssize_t)size && ermfs_close(fd) == 0);
    RUN_SCENE("rename over a name", NULL, replace_and_read);
    CHECK(stat_of("config").st_nlink == 1 && ermfs_unlink("config") == 0);
}

/* ---- one of many ---- */

#define CONTESTED 12

struct contest_scene {
    atomic_long made[CONTESTED], removed[CONTESTED];
};

static void contested_name(char *name, unsigned number)
{
    sprintf(name, "contest/n%u", number);
}

/* One way of several to make a name that must not be there; each removes what it took along when it loses. */
static bool make_contested(struct worker *worker, const char *name)
{
    char own[32];
    long answer;

    snprintf(own, sizeof own, "contest/own%u", worker->id);
    switch (random_below(&worker->random, 5)) {
    case 0:
        answer = result(ermfs_open(name, O_RDWR | O_CREAT | O_EXCL, 0644));
        if (answer >= 0)
            HOLD(ermfs_close((int)answer) == 0);
        break;
    case 1: answer = result(ermfs_mkdir(name, 0755)); break;
    case 2: answer = result(ermfs_symlink("nowhere", name)); break;
    case 3: answer = result(ermfs_link("base", name)); break;
    default:
        HOLD(ermfs_mknod(own, S_IFREG | 0644, 0) == 0);
        answer = result(ermfs_renameat2(ERMFS_AT_FDCWD, own, ERMFS_AT_FDCWD, name, RENAME_NOREPLACE));
        if (answer < 0)
            HOLD(ermfs_unlink(own) == 0);
    }
    HOLD(answer >= 0 || answer == -EEXIST);
    return answer >= 0;
}

static bool remove_contested(const char *name)
{
    long answer = result(ermfs_unlink(name));

    if (answer == -EISDIR)
        answer = result(ermfs_rmdir(name));
    HOLD(answer == 0 || answer == -ENOENT || answer == -ENOTDIR || answer == -EISDIR);
    return answer == 0;
}

static void *contend(struct worker *worker)
{
    struct contest_scene *scene = worker->scene;
    long made[CONTESTED] = {0}, removed[CONTESTED] = {0};
    char name[32];

    do {
        unsigned number = random_below(&worker->random, CONTESTED);
        contested_name(name, number);
        if (random_below(&worker->random, 2))
            made[number] += make_contested(worker, name);
        else
            removed[number] += remove_contested(name);
        worker->operations++;
    } while (going_on());
    for (int i = 0; i < CONTESTED; i++) {
        atomic_fetch_add(&scene->made[i], made[i]);
        atomic_fetch_add(&scene->removed[i], removed[i]);
    }
    return NULL;
}

/* Each name was made exactly once more than removed, or as often. */
static void contest_scene(void)
{
    struct contest_scene scene = {0};
    char name[32];
    long left = 0;

    CHECK(ermfs_mkdir("contest", 0755) == 0);
    make_file("base", "linked");
    RUN_SCENE("one of many", &scene, contend);
    for (unsigned i = 0; i < CONTESTED; i++) {
        bool there;
        contested_name(name, i);
        there = !absent(name);
        CHECK(atomic_load(&scene.made[i]) - atomic_load(&scene.removed[i]) == there);
        left += there;
    }
    CHECK(entries_of("contest") == left);
    empty_directory(ermfs_open("contest", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("contest") == 0 && stat_of("base").st_nlink == 1 && ermfs_unlink("base") == 0);
}

/* ---- create against rmdir ---- */

static void *make_and_remove_directory(struct worker *worker)
{
    do {
        long answer = result(ermfs_mkdir("fickle", 0755));
        HOLD(answer == 0 || answer == -EEXIST);
        if (random_below(&worker->random, 4) == 0)
            sched_yield();
        answer = result(ermfs_rmdir("fickle"));
        HOLD(answer == 0 || answer == -ENOTEMPTY || answer == -ENOENT);
        worker->operations++;
    } while (going_on());
    return NULL;
}

/* What was made in a directory is there until who made it removes it: its directory cannot go before. */
static void *create_in_fickle(struct worker *worker)
{
    char name[32], inside[64], own[32];

    snprintf(name, sizeof name, "x%u", worker->id);
    snprintf(inside, sizeof inside, "fickle/%s", name);
    snprintf(own, sizeof own, "own%u", worker->id);
    HOLD(ermfs_mknod(own, S_IFREG | 0644, 0) == 0);
    do {
        int dir = ermfs_open("fickle", O_RDONLY | O_DIRECTORY), kind = (int)random_below(&worker->random, 4);
        struct stat status;
        long answer;
        HOLD(dir >= 0 || errno == ENOENT);
        if (kind == 0)
            answer = result(ermfs_mknod(inside, S_IFREG | 0644, 0));
        else if (kind == 1)
            answer = result(ermfs_rename(own, inside));
        else
            answer = dir < 0 ? -ENOENT : result(kind == 2 ? ermfs_mkdirat(dir, name, 0755) : ermfs_symlinkat("x", dir, name));
        HOLD(answer == 0 || answer == -ENOENT);
        if (answer == 0) {
            HOLD(ermfs_lstat(inside, &status) == 0 && status.st_nlink >= 1);
            HOLD((kind == 1 ? ermfs_rename(inside, own) : kind == 2 ? ermfs_rmdir(inside) : ermfs_unlink(inside)) == 0);
        }
        if (dir >= 0) {
            HOLD(ermfs_fstatat(dir, name, &status, 0) == -1 && errno == ENOENT);
            HOLD(ermfs_close(dir) == 0);
        }
        worker->operations++;
    } while (going_on());
    HOLD(ermfs_unlink(own) == 0);
    return NULL;
}

static void fickle_scene(void)
{
    RUN_SCENE("create against rmdir", NULL, make_and_remove_directory, create_in_fickle, create_in_fickle);
    if (!absent("fickle"))
        CHECK(ermfs_rmdir("fickle") == 0);
}

/* ---- reading a directory that changes ---- */

#define STEADY 150

static void *change_beside(struct worker *worker)
{
    char name[32], other[32];

    do {
        long number = (long)random_below(&worker->random, 500);
        snprintf(name, sizeof name, "steady/t%u-%ld", worker->id, number);
        snprintf(other, sizeof other, "steady/u%u-%ld", worker->id, number);
        HOLD(ermfs_mknod(name, S_IFREG | 0644, 0) == 0);
        if (random_below(&worker->random, 2))
            HOLD(ermfs_rename(name, other) == 0 && ermfs_unlink(other) == 0);
        else
            HOLD(ermfs_unlink(name) == 0);
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void *list_steady(struct worker *worker)
{
    do {
        ermfs_dir *dir = ermfs_opendir("steady");
        bool seen[STEADY] = {false};
        struct dirent *entry;
        char name[32];
        struct stat status;
        int count = 0;
        if (!HOLD(dir != NULL))
            break;
        while ((entry = ermfs_readdir(dir)) != NULL)
            if (entry->d_name[0] == 's') {
                int number = atoi(entry->d_name + 1);
                HOLD(number >= 0 && number < STEADY && !seen[number]);
                seen[number] = true;
                count++;
            }
        HOLD(count == STEADY && ermfs_closedir(dir) == 0);
        for (int i = 0; i < 50; i++) {
            snprintf(name, sizeof name, "steady/s%u", random_below(&worker->random, STEADY));
            HOLD(ermfs_stat(name, &status) == 0 && status.st_nlink == 1);
            name[7] = 'q';
            HOLD(ermfs_stat(name, &status) == -1 && errno == ENOENT);
        }
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void listing_scene(void)
{
    char name[32];

    CHECK(ermfs_mkdir("steady", 0755) == 0);
    for (int i = 0; i < STEADY; i++) {
        snprintf(name, sizeof name, "steady/s%d", i);
        CHECK(ermfs_mknod(name, S_IFREG | 0644, 0) == 0);
    }
    RUN_SCENE("listing beside changes", NULL, change_beside, list_steady);
    CHECK(entries_of("steady") == STEADY);
    empty_directory(ermfs_open("steady", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("steady") == 0);
}

/* ---- a crowded directory ---- */

/* Each thread has names of its own there, and knows which of them exist; most at one time, few at another. */
#define OWN_NAMES 4000

struct crowd_scene {
    long names; /* a thread */
    atomic_long left;
};

static void *churn_crowd(struct worker *worker)
{
    struct crowd_scene *scene = worker->scene;
    ino_t *inodes = calloc((size_t)scene->names, sizeof *inodes);
    char name[48], other[48];
    long left = 0;

    do {
        bool filling = worker->operations / (2 * scene->names) % 2 == 0;
        unsigned number = random_below(&worker->random, (uint32_t)scene->names);
        unsigned second = random_below(&worker->random, (uint32_t)scene->names);
        struct stat status;
        snprintf(name, sizeof name, "crowd/a-name-of-%u-%u", worker->id, number);
        snprintf(other, sizeof other, "crowd/a-name-of-%u-%u", worker->id, second);
        if (inodes[number]) {
            HOLD(ermfs_stat(name, &status) == 0 && status.st_ino == inodes[number]);
            if (random_below(&worker->random, 4) == 0 && number != second) {
                HOLD(ermfs_rename(name, other) == 0);
                inodes[second] = inodes[number], inodes[number] = 0;
            } else if (!filling || random_below(&worker->random, 10) == 0) {
                HOLD(ermfs_unlink(name) == 0);
                inodes[number] = 0;
            } else {
                HOLD(result(ermfs_mkdir(name, 0755)) == -EEXIST);
            }
        } else {
            HOLD(result(ermfs_stat(name, &status)) == -ENOENT && result(ermfs_unlink(name)) == -ENOENT);
            if (filling || random_below(&worker->random, 10) == 0) {
                HOLD(ermfs_mknod(name, S_IFREG | 0644, 0) == 0 && ermfs_stat(name, &status) == 0);
                inodes[number] = status.st_ino;
            }
        }
        worker->operations++;
    } while (going_on());
    for (long i = 0; i < scene->names; i++)
        left += inodes[i] != 0;
    atomic_fetch_add(&scene->left, left);
    free(inodes);
    return NULL;
}

static void crowd_scene(void)
{
    struct crowd_scene scene = {.names = scaled(OWN_NAMES)};

    CHECK(ermfs_mkdir("crowd", 0755) == 0);
    RUN_SCENE("a crowded directory", &scene, churn_crowd);
    CHECK(entries_of("crowd") == atomic_load(&scene.left));
    empty_directory(ermfs_open("crowd", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("crowd") == 0);
}

/* ---- the last name and the last descriptor ---- */

/* A file that was opened is whole until it is closed, whoever removes or replaces its name meanwhile. */
static void *open_what_goes(struct worker *worker)
{
    unsigned char bytes[1024];
    char name[32];

    do {
        unsigned number = random_below(&worker->random, 4);
        struct record record;
        int fd;
        snprintf(name, sizeof name, "brief%u", number);
        if (random_below(&worker->random, 2)) {
            size_t size = record_make(bytes, worker->id, (unsigned)worker->operations, random_below(&worker->random, 900));
            long answer;
            fd = ermfs_open(".", O_RDWR | O_TMPFILE, 0644);
            HOLD(fd >= 0 && ermfs_write(fd, bytes, size) == (ssize_t)size);
            answer = result(ermfs_linkat(fd, "", ERMFS_AT_FDCWD, name, AT_EMPTY_PATH));
            HOLD(answer == 0 || answer == -EEXIST);
        } else {
            fd = ermfs_open(name, O_RDONLY);
            HOLD(fd >= 0 || errno == ENOENT);
        }
        if (random_below(&worker->random, 3) == 0) {
            long answer = result(ermfs_unlink(name));
            HOLD(answer == 0 || answer == -ENOENT);
        }
        if (fd >= 0) {
            ssize_t size = ermfs_pread(fd, bytes, sizeof bytes, 0);
            struct stat status;
            HOLD(size > 0 && record_parse(bytes, (size_t)size, &record) == size);
            HOLD(ermfs_fstat(fd, &status) == 0 && status.st_size == size && status.st_nlink <= 1);
            HOLD(ermfs_close(fd) == 0);
        }
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void brief_scene(void)
{
    char name[32];

    RUN_SCENE("last name, last descriptor", NULL, open_what_goes);
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "brief%d", i);
        if (!absent(name))
            CHECK(stat_of(name).st_nlink == 1 && ermfs_unlink(name) == 0);
    }
}

/* ---- links ---- */

/* Every thread gives one file more names and takes them away; what it counts is what there is. */
static void *link_and_unlink(struct worker *worker)
{
    char name[32];

    do {
        struct stat status;
        snprintf(name, sizeof name, "links/l%u-%ld", worker->id, worker->operations % 5);
        HOLD(ermfs_link("many", name) == 0);
        HOLD(ermfs_stat("many", &status) == 0 && status.st_nlink >= 2 && status.st_nlink <= threads + 1);
        HOLD(ermfs_unlink(name) == 0);
        worker->operations++;
    } while (going_on());
    return NULL;
}

static void link_scene(void)
{
    make_file("many", "names");
    CHECK(ermfs_mkdir("links", 0755) == 0);
    RUN_SCENE("links", NULL, link_and_unlink);
    CHECK(stat_of("many").st_nlink == 1 && entries_of("links") == 0);
    CHECK(ermfs_unlink("many") == 0 && ermfs_rmdir("links") == 0);
}
