/*
 * Families of test_lockless_correctness.c about the descriptor table. Included by test_lockless_correctness.c only.
 */

#define DESCRIPTOR_FILES 8

/* ---- a model of the table ---- */

struct descriptor {
    bool open, close_on_exec;
    int file;
};

struct table {
    struct descriptor *numbers;
    int size;
    ino_t inodes[DESCRIPTOR_FILES];
};

static int lowest_free(const struct table *table, int from)
{
    while (from < table->size && table->numbers[from].open)
        from++;
    return from;
}

static void file_name(char *name, int file)
{
    sprintf(name, "f%d", file);
}

static struct table table_new(void)
{
    struct table table = {.size = capacity()};

    table.numbers = calloc((size_t)table.size, sizeof *table.numbers);
    for (int i = 0; i < DESCRIPTOR_FILES; i++) {
        char name[16];
        file_name(name, i);
        make_file(name, name);
        table.inodes[i] = stat_of(name).st_ino;
    }
    return table;
}

static void table_open(struct table *table, struct random *random)
{
    int file = (int)random_below(random, DESCRIPTOR_FILES), wanted = lowest_free(table, 0);
    bool close_on_exec = random_below(random, 2);
    char name[16];

    file_name(name, file);
    if (wanted == table->size) {
        CHECK_ERRNO(ermfs_open(name, O_RDONLY), EMFILE);
        return;
    }
    CHECK(ermfs_open(name, O_RDONLY | (close_on_exec ? O_CLOEXEC : 0)) == FIRST_FD + wanted);
    table->numbers[wanted] = (struct descriptor){true, close_on_exec, file};
}

static void table_close(struct table *table, int number)
{
    if (table->numbers[number].open)
        CHECK(ermfs_close(FIRST_FD + number) == 0);
    else
        CHECK_ERRNO(ermfs_close(FIRST_FD + number), EBADF);
    table->numbers[number].open = false;
}

/* dup, F_DUPFD and F_DUPFD_CLOEXEC, of any number. */
static void table_dup(struct table *table, struct random *random, int number, int reach)
{
    int kind = (int)random_below(random, 3), least = kind ? (int)random_below(random, (uint32_t)reach) : 0;
    int wanted = lowest_free(table, least), fd = FIRST_FD + number, got, error;

    errno = 0;
    got = kind == 0 ? ermfs_dup(fd) : ermfs_fcntl(fd, kind == 1 ? F_DUPFD : F_DUPFD_CLOEXEC, FIRST_FD + least);
    error = errno;
    if (!table->numbers[number].open) {
        CHECK(got == -1 && error == EBADF);
        return;
    }
    if (wanted == table->size) {
        CHECK(got == -1 && error == EMFILE);
        return;
    }
    CHECK(got == FIRST_FD + wanted);
    table->numbers[wanted] = (struct descriptor){true, kind == 2, table->numbers[number].file};
}

static void table_dup2(struct table *table, struct random *random, int from, int to)
{
    bool close_on_exec = random_below(random, 2), third = close_on_exec || random_below(random, 2);
    struct descriptor source = table->numbers[from];
    int old = FIRST_FD + from, new = FIRST_FD + to, got, error;

    errno = 0;
    got = third ? ermfs_dup3(old, new, close_on_exec ? O_CLOEXEC : 0) : ermfs_dup2(old, new);
    error = errno;
    if (third && from == to) {
        CHECK(got == -1 && error == EINVAL);
    } else if (!source.open) {
        CHECK(got == -1 && error == EBADF);
    } else {
        CHECK(got == new);
        if (from != to)
            table->numbers[to] = (struct descriptor){true, close_on_exec, source.file};
    }
}

static void table_flag(struct table *table, struct random *random, int number)
{
    bool on = random_below(random, 2);
    int fd = FIRST_FD + number;

    if (!table->numbers[number].open) {
        CHECK_ERRNO(ermfs_fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0), EBADF);
        return;
    }
    CHECK(ermfs_fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) == 0);
    table->numbers[number].close_on_exec = on;
}

static void table_check(const struct table *table, int number)
{
    const struct descriptor *slot = &table->numbers[number];
    int fd = FIRST_FD + number;

    if (slot->open) {
        CHECK(stat_of_fd(fd).st_ino == table->inodes[slot->file]);
        CHECK(ermfs_fcntl(fd, F_GETFD) == (slot->close_on_exec ? FD_CLOEXEC : 0));
    } else {
        struct stat status;
        CHECK_ERRNO(ermfs_fstat(fd, &status), EBADF);
        CHECK_ERRNO(ermfs_fcntl(fd, F_GETFD), EBADF);
    }
}

static void table_clear(struct table *table)
{
    for (int i = 0; i < table->size; i++)
        if (table->numbers[i].open)
            table_close(table, i);
    free(table->numbers);
}

/* Random calls over numbers close together, then over the whole table. */
static void descriptor_model(void)
{
    struct table table = table_new();
    struct random random = random_of(seed_of_run() + 1);
    int reaches[] = {100, 5000, table.size};

    for (int round = 0; round < 3; round++) {
        int reach = reaches[round] < table.size ? reaches[round] : table.size;
        for (long i = scaled(6000); i > 0; i--) {
            int number = (int)random_below(&random, (uint32_t)reach), other = (int)random_below(&random, (uint32_t)reach);
            switch (random_below(&random, 6)) {
            case 0: table_open(&table, &random); break;
            case 1: table_close(&table, number); break;
            case 2: table_dup(&table, &random, number, reach); break;
            case 3: table_dup2(&table, &random, number, other); break;
            case 4: table_flag(&table, &random, number); break;
            default: table_dup2(&table, &random, lowest_free(&table, 0) ? 0 : number, other); break;
            }
            table_check(&table, number);
            table_check(&table, other);
        }
    }
    for (int i = 0; i < table.size; i++)
        table_check(&table, i);
    table_clear(&table);
}

/* ---- the end of the table ---- */

static void expect_full(int open_fd)
{
    CHECK_ERRNO(ermfs_open("f", O_RDONLY), EMFILE);
    CHECK_ERRNO(ermfs_open("f", O_RDONLY | ERMFS_O_ANYFD), EMFILE);
    CHECK_ERRNO(ermfs_open("new", O_RDWR | O_CREAT, 0644), EMFILE);
    CHECK(absent("new"));
    CHECK_ERRNO(ermfs_dup(open_fd), EMFILE);
    CHECK_ERRNO(ermfs_fcntl(open_fd, F_DUPFD, FIRST_FD), EMFILE);
    CHECK_ERRNO(ermfs_fsmount(NULL), EMFILE);
    CHECK_NULL_ERRNO(ermfs_opendir("."), EMFILE);
    CHECK_NULL_ERRNO(ermfs_fopen("f", "r"), EMFILE);
}

static void close_in_disorder(const int *fds, int count)
{
    /* Odd steps visit every number once when the count is a power of two; others are closed in order. */
    bool power = (count & (count - 1)) == 0;

    for (int i = 0; i < count; i++)
        CHECK(ermfs_close(fds[power ? (int)((unsigned)i * 40503u % (unsigned)count) : i]) == 0);
    for (int i = 0; i < count; i += count / 64 + 1)
        CHECK_ERRNO(ermfs_close(fds[i]), EBADF);
}

static void descriptor_exhaustion(void)
{
    int count = capacity(), some[] = {1, 64, count / 3, count / 2, count - 1}, last = FIRST_FD + count - 1;
    int *fds = malloc(sizeof *fds * (size_t)count);

    make_file("f", "text");
    for (int i = 0; i < count; i++)
        if ((fds[i] = ermfs_open("f", O_RDONLY)) != FIRST_FD + i && !CHECK(fds[i] == FIRST_FD + i))
            break;
    expect_full(fds[0]);
    expect_full(fds[0]);
    CHECK(ermfs_dup2(fds[0], last) == last);
    CHECK_ERRNO(ermfs_dup2(fds[0], last + 1), EBADF);
    CHECK_ERRNO(ermfs_fcntl(fds[0], F_DUPFD, last + 1), EINVAL);
    for (int any = 0; any < 2; any++)
        for (int i = 0; i < 5; i++) {
            CHECK(ermfs_close(FIRST_FD + some[i]) == 0);
            CHECK_ERRNO(ermfs_close(FIRST_FD + some[i]), EBADF);
            CHECK(ermfs_open("f", O_RDONLY | (any ? ERMFS_O_ANYFD : 0)) == FIRST_FD + some[i]);
            expect_full(fds[2]);
        }
    for (int i = 4; i >= 0; i--)
        CHECK(ermfs_close(FIRST_FD + some[i]) == 0);
    CHECK(ermfs_fcntl(fds[2], F_DUPFD, FIRST_FD + 65) == FIRST_FD + some[2]);
    CHECK(ermfs_dup2(fds[2], last) == last);
    CHECK_ERRNO(ermfs_fcntl(fds[2], F_DUPFD, FIRST_FD + some[3] + 1), EMFILE);
    for (int i = 0; i < 4; i++)
        if (i != 2)
            CHECK(ermfs_open("f", O_RDONLY) == FIRST_FD + some[i]);
    expect_full(fds[2]);
    close_in_disorder(fds, count);
    CHECK(ermfs_open("f", O_RDONLY) == FIRST_FD && ermfs_close(FIRST_FD) == 0);
    free(fds);
}

/* ---- any number ---- */

static void any_descriptor(void)
{
    int count = capacity(), ordinary = 0;
    int *fds = malloc(sizeof *fds * (size_t)count);
    bool *seen = calloc((size_t)count, sizeof *seen);

    make_file("f", "text");
    for (int i = 0; i < count; i++) {
        bool any = i % 7 != 0;
        int fd = ermfs_open("f", O_RDONLY | O_CLOEXEC | (any ? ERMFS_O_ANYFD : 0));
        if (!CHECK(fd >= FIRST_FD && fd < FIRST_FD + count && !seen[fd - FIRST_FD]))
            break;
        if (!any) {
            while (seen[ordinary])
                ordinary++;
            CHECK(fd == FIRST_FD + ordinary);
        }
        seen[fd - FIRST_FD] = true;
        fds[i] = fd;
    }
    expect_full(fds[0]);
    CHECK(ermfs_fcntl(fds[1], F_GETFD) == FD_CLOEXEC && fd_holds(fds[count - 1], "text", 4));
    CHECK((ermfs_fcntl(fds[1], F_GETFL) & (O_ACCMODE | O_APPEND | O_CREAT)) == O_RDONLY);
    close_in_disorder(fds, count);
    for (int i = 0; i < 1000; i++) {
        int fd = ermfs_open("f", O_RDONLY | ERMFS_O_ANYFD), other = ermfs_open("f", O_RDONLY);
        CHECK(fd != other && other == (fd == FIRST_FD ? FIRST_FD + 1 : FIRST_FD));
        CHECK(ermfs_close(fd) == 0 && ermfs_close(other) == 0);
    }
    free(seen);
    free(fds);
}

/* ---- descriptions ---- */

static void shared_descriptions(void)
{
    int fd = make_open("d"), copy = ermfs_dup(fd), own = ermfs_open("d", O_RDWR), high = FIRST_FD + capacity() - 1;
    char bytes[8];

    CHECK(ermfs_write(fd, "abcdef", 6) == 6 && ermfs_lseek(copy, 0, SEEK_CUR) == 6 && ermfs_lseek(own, 0, SEEK_CUR) == 0);
    CHECK(ermfs_lseek(copy, 2, SEEK_SET) == 2 && ermfs_read(fd, bytes, 2) == 2 && memcmp(bytes, "cd", 2) == 0);
    CHECK(ermfs_fcntl(copy, F_SETFL, O_APPEND) == 0 && (ermfs_fcntl(fd, F_GETFL) & O_APPEND));
    CHECK(!(ermfs_fcntl(own, F_GETFL) & O_APPEND));
    CHECK(ermfs_close(fd) == 0);
    CHECK_ERRNO(ermfs_read(fd, bytes, 1), EBADF);
    CHECK(ermfs_read(copy, bytes, 2) == 2 && memcmp(bytes, "ef", 2) == 0);
    CHECK(ermfs_unlink("d") == 0 && stat_of_fd(copy).st_nlink == 0);
    CHECK(ermfs_dup2(copy, high) == high && ermfs_close(copy) == 0);
    CHECK(ermfs_write(high, "gh", 2) == 2 && fd_holds(own, "abcdefgh", 8));
    /* The number's old description ends: its lock goes. */
    CHECK(ermfs_flock(high, LOCK_EX) == 0);
    CHECK_ERRNO(ermfs_flock(own, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    CHECK(ermfs_dup2(own, high) == high && ermfs_flock(own, LOCK_EX | LOCK_NB) == 0);
    CHECK(ermfs_close(own) == 0 && fd_holds(high, "abcdefgh", 8) && ermfs_close(high) == 0);
    for (int i = 0; i < 4; i++) {
        int wrong[] = {FIRST_FD - 1, FIRST_FD + capacity(), -1, INT32_MAX};
        CHECK_ERRNO(ermfs_close(wrong[i]), EBADF);
        CHECK_ERRNO(ermfs_pread(wrong[i], bytes, 1, 0), EBADF);
    }
}
