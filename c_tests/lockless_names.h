/*
 * Families of test_lockless_correctness.c about directories' tables and rename. Included by test_lockless_correctness.c only.
 */

/* ---- tables that grow and shrink ---- */

static bool *name_seen;

/* Counts an entry "n<number>" as seen; twice is an error. */
static void see_number(void *context, const struct dirent *entry)
{
    long number = atol(entry->d_name + 1), count = *(const long *)context;

    if (CHECK(entry->d_name[0] == 'n' && number >= 0 && number < count && !name_seen[number]))
        name_seen[number] = true;
}

/* The directory's entries are exactly n<i> for those i below `count` that `there` is true for. */
static void check_numbers(const char *path, long count, bool (*there)(long, unsigned), unsigned round)
{
    long expected = 0;

    name_seen = calloc((size_t)count, sizeof *name_seen);
    for (long i = 0; i < count; i++)
        expected += there(i, round);
    CHECK(each_entry(path, see_number, &count) == expected);
    for (long i = 0; i < count; i++)
        if (name_seen[i] != there(i, round))
            CHECK(name_seen[i] == there(i, round));
    free(name_seen);
}

static bool every_one(long number, unsigned round)
{
    (void)number, (void)round;
    return true;
}

static bool every_tenth(long number, unsigned round)
{
    return number % 10 == (long)round % 10;
}

static bool not_every_tenth(long number, unsigned round)
{
    return !every_tenth(number, round);
}

static void growth(void)
{
    long count = scaled(100000);
    ino_t *inodes = calloc((size_t)count, sizeof *inodes);
    char name[32];

    CHECK(ermfs_mkdir("big", 0755) == 0);
    for (long i = 0; i < count; i++) {
        sprintf(name, "big/n%ld", i);
        if (!CHECK(ermfs_mknod(name, S_IFREG | 0644, 0) == 0))
            return;
        inodes[i] = stat_of(name).st_ino;
    }
    check_numbers("big", count, every_one, 0);
    for (long i = count - 1; i >= 0; i--) {
        sprintf(name, "big/n%ld", i);
        CHECK(stat_of(name).st_ino == inodes[i]);
        CHECK_ERRNO(ermfs_mkdir(name, 0755), EEXIST);
    }
    CHECK_ERRNO(ermfs_rmdir("big"), ENOTEMPTY);
    for (long i = 0; i < count; i++)
        if (!every_tenth(i, 0)) {
            sprintf(name, "big/n%ld", i);
            CHECK(ermfs_unlink(name) == 0);
        }
    check_numbers("big", count, every_tenth, 0);
    for (long i = 0; i < count; i++) {
        sprintf(name, "big/n%ld", i);
        if (every_tenth(i, 0))
            CHECK(stat_of(name).st_ino == inodes[i] && ermfs_unlink(name) == 0);
        CHECK(absent(name));
    }
    CHECK(entries_of("big") == 0 && ermfs_rmdir("big") == 0);
    free(inodes);
}

/* Tombstones without growth: what stays is found, what went is not, whatever was inserted and removed beside it. */
static void churn(void)
{
    long count = 300;
    char name[32], other[32];

    CHECK(ermfs_mkdir("churn", 0755) == 0);
    for (long i = 0; i < count; i++) {
        sprintf(name, "churn/n%ld", i);
        make_file(name, name);
    }
    for (unsigned round = 0; round < (unsigned)scaled(100); round++) {
        for (long i = 0; i < count; i++)
            if (every_tenth(i, round)) {
                sprintf(name, "churn/n%ld", i);
                CHECK(ermfs_unlink(name) == 0 && absent(name));
                CHECK_ERRNO(ermfs_unlink(name), ENOENT);
            }
        check_numbers("churn", count, not_every_tenth, round);
        for (long i = count - 1; i >= 0; i--)
            if (every_tenth(i, round)) {
                sprintf(name, "churn/n%ld", i);
                sprintf(other, "churn/m%ld", i);
                make_file(other, name);
                CHECK(ermfs_rename(other, name) == 0 && absent(other));
            }
        check_numbers("churn", count, every_one, round);
    }
    for (long i = 0; i < count; i++) {
        sprintf(name, "churn/n%ld", i);
        CHECK(holds(name, name));
    }
    /* One name over and over. */
    for (long i = scaled(100000); i > 0; i--) {
        CHECK(ermfs_mknod("churn/one", S_IFREG | 0644, 0) == 0 && ermfs_unlink("churn/one") == 0);
        if (i % 1000 == 0)
            CHECK(absent("churn/one") && entries_of("churn") == count);
    }
    empty_directory(ermfs_open("churn", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("churn") == 0);
}

/* Names that differ only at one end, or only in length, and bytes of every value. */
static void alike_names(void)
{
    char name[300];
    int count = 0;

    CHECK(ermfs_mkdir("alike", 0755) == 0 && ermfs_chdir("alike") == 0);
    memset(name, 'x', sizeof name);
    for (int length = 1; length <= 255; length++, count++) {
        name[length] = 0;
        CHECK(ermfs_mknod(name, S_IFREG | 0644, 0) == 0);
        name[length] = 'x';
    }
    name[256] = 0;
    CHECK_ERRNO(ermfs_mknod(name, S_IFREG | 0644, 0), ENAMETOOLONG);
    name[255] = 0;
    for (int end = 0; end < 255; end += 254)
        for (int byte = 1; byte < 256; byte++)
            if (byte != '/' && byte != 'x') {
                name[end] = (char)byte;
                CHECK(absent(name) && ermfs_mkdir(name, 0755) == 0 && S_ISDIR(stat_of(name).st_mode));
                name[end] = 'x';
                count++;
            }
    CHECK(S_ISREG(stat_of(name).st_mode) && entries_of(".") == count);
    CHECK(ermfs_chdir("..") == 0);
    empty_directory(ermfs_open("alike", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("alike") == 0);
}

/* A stream that removes what it is given, while names come and go beside it. */
static void reading_while_changing(void)
{
    ermfs_dir *dir;
    struct dirent *entry;
    char name[32];
    long seen = 0, place = 0;

    CHECK(ermfs_mkdir("read", 0755) == 0);
    for (int i = 0; i < 2000; i++) {
        sprintf(name, "read/n%d", i);
        CHECK(ermfs_mknod(name, S_IFREG | 0644, 0) == 0);
    }
    dir = ermfs_opendir("read");
    while ((entry = ermfs_readdir(dir)) != NULL) {
        if (dot_name(entry->d_name))
            continue;
        if (entry->d_name[0] == 'n') {
            CHECK(ermfs_unlinkat(ermfs_dirfd(dir), entry->d_name, 0) == 0);
            if (++seen % 2) {
                sprintf(name, "read/m%ld", seen);
                CHECK(ermfs_mknod(name, S_IFREG | 0644, 0) == 0 && ermfs_rename(name, "read/last") == 0);
            }
        }
        if (seen == 1000)
            place = ermfs_telldir(dir);
    }
    CHECK(seen == 2000 && entries_of("read") == 1);
    make_file("read/late", "");
    ermfs_seekdir(dir, place);
    for (seen = 0; (entry = ermfs_readdir(dir)) != NULL; seen++)
        CHECK(strcmp(entry->d_name, "last") == 0 || strcmp(entry->d_name, "late") == 0);
    CHECK(seen == 2 && ermfs_closedir(dir) == 0);
    CHECK(ermfs_unlink("read/last") == 0 && ermfs_unlink("read/late") == 0 && ermfs_rmdir("read") == 0);
}

/* ---- removed directories ---- */

static void removed_directory(void)
{
    struct stat status;
    ermfs_dir *stream;
    int fd;

    CHECK(ermfs_mkdir("gone", 0755) == 0);
    make_file("kept", "kept");
    make_file("gone/child", "");
    CHECK_ERRNO(ermfs_rmdir("gone"), ENOTEMPTY);
    CHECK(ermfs_rename("gone/child", "child") == 0);
    fd = ermfs_open("gone", O_RDONLY | O_DIRECTORY);
    stream = ermfs_opendir("gone");
    CHECK(ermfs_rmdir("gone") == 0 && absent("gone") && stat_of_fd(fd).st_nlink == 0);
    CHECK_ERRNO(ermfs_openat(fd, "new", O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK_ERRNO(ermfs_mkdirat(fd, "new", 0755), ENOENT);
    CHECK_ERRNO(ermfs_mknodat(fd, "new", S_IFREG | 0644, 0), ENOENT);
    CHECK_ERRNO(ermfs_symlinkat("kept", fd, "new"), ENOENT);
    CHECK_ERRNO(ermfs_linkat(ERMFS_AT_FDCWD, "kept", fd, "new", 0), ENOENT);
    CHECK_ERRNO(ermfs_renameat(ERMFS_AT_FDCWD, "kept", fd, "new"), ENOENT);
    CHECK_ERRNO(ermfs_fstatat(fd, "new", &status, 0), ENOENT);
    CHECK(ermfs_fstatat(fd, "..", &status, 0) == 0 && status.st_ino == stat_of(".").st_ino);
    CHECK(ermfs_readdir(stream) == NULL && ermfs_closedir(stream) == 0);
    /* The name is another directory's by now, which the old one does not see. */
    CHECK(ermfs_mkdir("gone", 0755) == 0);
    make_file("gone/child", "");
    CHECK_ERRNO(ermfs_fstatat(fd, "child", &status, 0), ENOENT);
    CHECK(ermfs_close(fd) == 0 && ermfs_unlink("gone/child") == 0 && ermfs_rmdir("gone") == 0);
    CHECK(holds("kept", "kept") && ermfs_unlink("kept") == 0 && ermfs_unlink("child") == 0);
}

/* ---- a model of rename, link and unlink over two directories ---- */

enum { SLOTS = 20, NODES = 64 };

enum node_kind { NONE, REGULAR, DIRECTORY, SYMLINK };

struct node {
    enum node_kind kind;
    ino_t inode;
    int links;
    bool filled;
};

struct names {
    struct node nodes[NODES];
    int slots[SLOTS]; /* a node, or -1; the first half in "a", the others in "b" */
};

static const char *slot_path(int slot)
{
    static char paths[4][16];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof paths[0], "%c/n%d", slot < SLOTS / 2 ? 'a' : 'b', slot % (SLOTS / 2));
    return path;
}

static int slot_error(const struct names *names, int from, int to, unsigned flags)
{
    const struct node *old, *new;

    if (names->slots[from] < 0)
        return ENOENT;
    if (names->slots[to] < 0)
        return flags & RENAME_EXCHANGE ? ENOENT : 0;
    if (flags & RENAME_NOREPLACE)
        return EEXIST;
    old = &names->nodes[names->slots[from]], new = &names->nodes[names->slots[to]];
    if ((flags & RENAME_EXCHANGE) || old == new)
        return 0;
    if (old->kind == DIRECTORY && new->kind != DIRECTORY)
        return ENOTDIR;
    if (old->kind != DIRECTORY && new->kind == DIRECTORY)
        return EISDIR;
    return new->kind == DIRECTORY && new->filled ? ENOTEMPTY : 0;
}

static void slot_clear(struct names *names, int slot)
{
    struct node *node = &names->nodes[names->slots[slot]];

    names->slots[slot] = -1;
    if (--node->links == 0)
        node->kind = NONE;
}

static void try_rename(struct names *names, int from, int to, unsigned flags)
{
    int expected = slot_error(names, from, to, flags), node;

    if (expected) {
        CHECK_ERRNO(ermfs_renameat2(ERMFS_AT_FDCWD, slot_path(from), ERMFS_AT_FDCWD, slot_path(to), flags), expected);
        return;
    }
    CHECK(ermfs_renameat2(ERMFS_AT_FDCWD, slot_path(from), ERMFS_AT_FDCWD, slot_path(to), flags) == 0);
    node = names->slots[from];
    if (flags & RENAME_EXCHANGE) {
        names->slots[from] = names->slots[to];
        names->slots[to] = node;
    } else if (node != names->slots[to]) {
        if (names->slots[to] >= 0)
            slot_clear(names, to);
        names->slots[to] = node;
        names->slots[from] = -1;
    }
}

static void try_make(struct names *names, int slot, enum node_kind kind)
{
    const char *path = slot_path(slot);
    int got, error, node = 0;

    errno = 0;
    if (kind == REGULAR)
        got = ermfs_mknod(path, S_IFREG | 0644, 0);
    else
        got = kind == DIRECTORY ? ermfs_mkdir(path, 0755) : ermfs_symlink("x", path);
    error = errno;
    if (names->slots[slot] >= 0) {
        CHECK(got == -1 && error == EEXIST);
        return;
    }
    CHECK(got == 0);
    while (names->nodes[node].kind != NONE)
        node++;
    names->nodes[node] = (struct node){kind, stat_of(path).st_ino, 1, false};
    names->slots[slot] = node;
}

static void try_remove(struct names *names, int slot, bool rmdir)
{
    const struct node *node = names->slots[slot] < 0 ? NULL : &names->nodes[names->slots[slot]];
    int expected = rmdir ? ENOTDIR : 0, got, error;

    if (!node)
        expected = ENOENT;
    else if (node->kind == DIRECTORY)
        expected = !rmdir ? EISDIR : node->filled ? ENOTEMPTY : 0;
    errno = 0;
    got = rmdir ? ermfs_rmdir(slot_path(slot)) : ermfs_unlink(slot_path(slot));
    error = errno;
    if (expected) {
        CHECK(got == -1 && error == expected);
    } else {
        CHECK(got == 0);
        slot_clear(names, slot);
    }
}

static void try_link(struct names *names, int from, int to)
{
    struct node *node = names->slots[from] < 0 ? NULL : &names->nodes[names->slots[from]];
    int expected = !node ? ENOENT : names->slots[to] >= 0 ? EEXIST : node->kind == DIRECTORY ? EPERM : 0;

    if (expected) {
        CHECK_ERRNO(ermfs_link(slot_path(from), slot_path(to)), expected);
        return;
    }
    CHECK(ermfs_link(slot_path(from), slot_path(to)) == 0);
    node->links++;
    names->slots[to] = names->slots[from];
}

/* Puts a file into a directory, or takes it away. */
static void try_fill(struct names *names, int slot)
{
    struct node *node = names->slots[slot] < 0 ? NULL : &names->nodes[names->slots[slot]];
    char path[32];

    if (!node || node->kind != DIRECTORY)
        return;
    snprintf(path, sizeof path, "%s/x", slot_path(slot));
    CHECK((node->filled ? ermfs_unlink(path) : ermfs_mknod(path, S_IFREG | 0644, 0)) == 0);
    node->filled = !node->filled;
}

struct listing {
    const struct names *names;
    int first;
    unsigned seen;
};

static void see_slot(void *context, const struct dirent *entry)
{
    struct listing *listing = context;
    int slot = listing->first + atoi(entry->d_name + 1), node = listing->names->slots[slot];

    CHECK(entry->d_name[0] == 'n' && node >= 0 && listing->names->nodes[node].inode == entry->d_ino);
    CHECK(!(listing->seen & 1u << slot));
    listing->seen |= 1u << slot;
}

static void check_names(const struct names *names)
{
    for (int half = 0; half < 2; half++) {
        struct listing listing = {names, half * (SLOTS / 2), 0};
        int expected = 0;
        for (int slot = listing.first; slot < listing.first + SLOTS / 2; slot++)
            expected += names->slots[slot] >= 0;
        CHECK(each_entry(half ? "b" : "a", see_slot, &listing) == expected);
    }
    for (int slot = 0; slot < SLOTS; slot++) {
        if (names->slots[slot] < 0) {
            CHECK(absent(slot_path(slot)));
        } else {
            const struct node *node = &names->nodes[names->slots[slot]];
            struct stat status = stat_of(slot_path(slot));
            CHECK(status.st_ino == node->inode);
            CHECK(node->kind == DIRECTORY ? S_ISDIR(status.st_mode) && status.st_nlink == 2
                                          : !S_ISDIR(status.st_mode) && (int)status.st_nlink == node->links);
        }
    }
}

static void rename_model(void)
{
    struct random random = random_of(seed_of_run() + 2);
    struct names names = {0};

    for (int slot = 0; slot < SLOTS; slot++)
        names.slots[slot] = -1;
    CHECK(ermfs_mkdir("a", 0755) == 0 && ermfs_mkdir("b", 0755) == 0);
    for (long i = scaled(6000); i > 0; i--) {
        int from = (int)random_below(&random, SLOTS), to = (int)random_below(&random, SLOTS);
        switch (random_below(&random, 10)) {
        case 0: try_make(&names, from, REGULAR); break;
        case 1: try_make(&names, from, DIRECTORY); break;
        case 2: try_make(&names, from, SYMLINK); break;
        case 3: try_remove(&names, from, random_below(&random, 2)); break;
        case 4: try_link(&names, from, to); break;
        case 5: try_fill(&names, from); break;
        case 6: try_rename(&names, from, to, RENAME_EXCHANGE); break;
        case 7: try_rename(&names, from, to, RENAME_NOREPLACE); break;
        default: try_rename(&names, from, to, 0); break;
        }
        check_names(&names);
    }
    empty_directory(ermfs_open("a", O_RDONLY | O_DIRECTORY));
    empty_directory(ermfs_open("b", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("a") == 0 && ermfs_rmdir("b") == 0);
}

/* ---- directories on the move ---- */

static void moving_directories(void)
{
    char path[64];

    CHECK(ermfs_mkdir("p", 0755) == 0 && ermfs_mkdir("q", 0755) == 0 && ermfs_mkdir("p/d", 0755) == 0);
    CHECK(ermfs_mkdir("p/d/e", 0755) == 0);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "p/d/e/f%d", i);
        make_file(path, path);
    }
    CHECK_ERRNO(ermfs_rename("p", "p/d"), EINVAL);
    CHECK_ERRNO(ermfs_rename("p", "p/d/e/p"), EINVAL);
    CHECK_ERRNO(ermfs_renameat2(ERMFS_AT_FDCWD, "p", ERMFS_AT_FDCWD, "p/d/e", RENAME_EXCHANGE), EINVAL);
    CHECK_ERRNO(ermfs_rename("p/d/e", "p"), ENOTEMPTY);
    for (int i = 0; i < 100; i++) {
        const char *from = i % 2 ? "q/moved" : "p/d", *to = i % 2 ? "p/d" : "q/moved";
        CHECK(stat_of("p").st_nlink == (i % 2 ? 2 : 3) && stat_of("q").st_nlink == (i % 2 ? 3 : 2));
        CHECK(ermfs_rename(from, to) == 0 && absent(from));
        snprintf(path, sizeof path, "%s/e/f%d", to, i);
        CHECK(stat_of(path).st_size > 0);
        snprintf(path, sizeof path, "%s/e/../../..", to);
        CHECK(stat_of(path).st_ino == stat_of(".").st_ino);
        snprintf(path, sizeof path, "%s/e", to);
        CHECK(entries_of(path) == 100);
    }
    CHECK(ermfs_renameat2(ERMFS_AT_FDCWD, "p/d/e", ERMFS_AT_FDCWD, "q", RENAME_EXCHANGE) == 0);
    CHECK(entries_of("q") == 100 && entries_of("p/d/e") == 0 && holds("q/f7", "p/d/e/f7"));
    CHECK(ermfs_rename("q", "p/d/e") == 0 && entries_of("p/d/e") == 100 && absent("q"));
    empty_directory(ermfs_open("p", O_RDONLY | O_DIRECTORY));
    CHECK(ermfs_rmdir("p") == 0);
}
