/*
 * Families of test_posix.c about names: unlinked files, links, symlinks, rename, reading directories, removed directories.
 * Included by test_posix.c only.
 */

/* ---- unlinked open files ---- */

static void unlinked(void)
{
    char bytes[8];
    int fd = make_open("f"), again;
    ino_t old = stat_of_fd(fd).st_ino;

    CHECK(E(write)(fd, "gone", 4) == 4);
    CHECK(E(unlink)("f") == 0 && !exists("f"));
    CHECK(stat_of_fd(fd).st_nlink == 0 && stat_of_fd(fd).st_size == 4);
    CHECK(fd_holds(fd, "gone") && E(write)(fd, "!", 1) == 1 && fd_holds(fd, "gone!"));
    again = make_open("f");
    CHECK(stat_of_fd(again).st_ino != old);
    CHECK(E(read)(again, bytes, 8) == 0 && E(close)(again) == 0);
    CHECK(fd_holds(fd, "gone!"));
    CHECK(E(ftruncate)(fd, 1000000) == 0 && stat_of_fd(fd).st_size == 1000000);
    CHECK(E(fchmod)(fd, 0600) == 0 && (stat_of_fd(fd).st_mode & 0777) == 0600);
    CHECK_ERRNO(E(linkat)(fd, "", E_AT_FDCWD, "back", AT_EMPTY_PATH), ENOENT);
    CHECK(E(close)(fd) == 0);

    fd = make_open("over");
    make_file("new", "new");
    CHECK(E(write)(fd, "old", 3) == 3 && E(rename)("new", "over") == 0);
    CHECK(fd_holds(fd, "old") && holds("over", "new") && stat_of_fd(fd).st_nlink == 0);
    CHECK(E(close)(fd) == 0);
}

/* ---- links ---- */

static void links(void)
{
    int fd, dir;

    make_file("a", "shared");
    CHECK(E(link)("a", "b") == 0);
    CHECK(stat_of("a").st_nlink == 2 && stat_of("a").st_ino == stat_of("b").st_ino);
    fd = E(open)("b", O_WRONLY);
    CHECK(E(pwrite)(fd, "S", 1, 0) == 1 && E(close)(fd) == 0 && holds("a", "Shared"));
    CHECK(E(unlink)("a") == 0 && holds("b", "Shared") && stat_of("b").st_nlink == 1);
    CHECK_ERRNO(E(link)("missing", "c"), ENOENT);
    CHECK_ERRNO(E(link)("b", "b"), EEXIST);
    CHECK_ERRNO(E(link)("b", "missing/c"), ENOENT);
    CHECK_ERRNO(E(link)("b", "b/c"), ENOTDIR);
    CHECK_ERRNO(E(link)("b/", "c"), ENOTDIR);
    CHECK_ERRNO(E(link)("b", "c/"), ENOENT);
    CHECK(E(mkdir)("d", 0755) == 0);
    CHECK_ERRNO(E(link)("d", "e"), EPERM);
    CHECK_ERRNO(E(link)("b", "d"), EEXIST);
    CHECK_ERRNO(E(link)("b", "d/."), EEXIST);
    CHECK(stat_of("d").st_nlink == 2);
    CHECK(E(mkdir)("d/e", 0755) == 0 && stat_of("d").st_nlink == 3);
    CHECK(E(rmdir)("d/e") == 0 && stat_of("d").st_nlink == 2);

    CHECK(E(symlink)("b", "s") == 0 && E(link)("s", "t") == 0);
    CHECK(S_ISLNK(stat_of("t").st_mode) && stat_of("s").st_nlink == 2);
    CHECK(E(linkat)(E_AT_FDCWD, "s", E_AT_FDCWD, "u", AT_SYMLINK_FOLLOW) == 0 && S_ISREG(stat_of("u").st_mode));
    CHECK_ERRNO(E(linkat)(E_AT_FDCWD, "b", E_AT_FDCWD, "v", 0x4), EINVAL);
    dir = E(open)("d", O_RDONLY);
    CHECK(E(linkat)(E_AT_FDCWD, "b", dir, "inside", 0) == 0 && holds("d/inside", "Shared"));
    CHECK_ERRNO(E(linkat)(dir, "", E_AT_FDCWD, "dd", AT_EMPTY_PATH), EPERM);
    CHECK(E(close)(dir) == 0);
}

/* ---- symlinks ---- */

static void symlink_basics(void)
{
    char target[64], long_target[LONG_PATH + 1];

    make_file("f", "text");
    CHECK(E(mkdir)("d", 0755) == 0);
    CHECK(E(symlink)("f", "s") == 0);
    memset(target, '#', sizeof target);
    CHECK(E(readlink)("s", target, sizeof target) == 1 && target[0] == 'f' && target[1] == '#');
    CHECK(S_ISLNK(stat_of("s").st_mode) && stat_of("s").st_size == 1 && (stat_of("s").st_mode & 07777) == 0777);
    CHECK(holds("s", "text"));
    CHECK(E(symlink)("../d/../f", "d/relative") == 0 && holds("d/relative", "text"));
    CHECK(E(readlink)("d/relative", target, 5) == 5 && memcmp(target, "../d/", 5) == 0);
    CHECK(E(symlink)("/symlinks/f", "absolute") == 0 && holds("absolute", "text"));
    CHECK_ERRNO(E(readlink)("f", target, sizeof target), EINVAL);
    CHECK_ERRNO(E(readlink)("d", target, sizeof target), EINVAL);
    CHECK_ERRNO(E(readlink)("s", target, 0), EINVAL);
    CHECK_ERRNO(E(readlink)("missing", target, sizeof target), ENOENT);
    CHECK_ERRNO(E(symlink)("x", "s"), EEXIST);
    CHECK_ERRNO(E(symlink)("x", "f/y"), ENOTDIR);
    CHECK_ERRNO(E(symlink)("x", "new/"), ENOENT);
    CHECK_ERRNO(E(symlink)("", "empty"), ENOENT);
    memset(long_target, 'a', sizeof long_target);
    long_target[LONG_PATH] = 0;
    CHECK_ERRNO(E(symlink)(long_target, "toolong"), ENAMETOOLONG);
    long_target[LONG_PATH - 1] = 0;
    CHECK(E(symlink)(long_target, "long") == 0 && stat_of("long").st_size == LONG_PATH - 1);
    CHECK_ERRNO(E(open)("long", O_RDONLY), ENAMETOOLONG);
    CHECK(E(unlink)("s") == 0 && exists("f"));
}

static void symlink_directories(void)
{
    struct stat status;

    CHECK(E(mkdir)("real", 0755) == 0 && E(symlink)("real", "alias") == 0);
    make_file("alias/x", "through");
    CHECK(holds("real/x", "through"));
    CHECK(E(lstat)("alias/", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK(E(lstat)("alias/.", &status) == 0 && S_ISDIR(status.st_mode));
    CHECK_ERRNO(E(rmdir)("alias"), ENOTDIR);
    CHECK_ERRNO(E(rmdir)("alias/"), ENOTDIR);
    CHECK_ERRNO(E(unlink)("alias/"), ENOTDIR);
    CHECK_ERRNO(E(mkdir)("alias", 0755), EEXIST);
    CHECK_ERRNO(E(rename)("alias/", "other"), ENOTDIR);
    CHECK(E(symlink)("fresh", "hanging") == 0);
    CHECK_ERRNO(E(mkdir)("hanging", 0755), EEXIST);
    CHECK_ERRNO(E(mkdir)("hanging/", 0755), EEXIST);
    CHECK_ERRNO(E(stat)("hanging", &status), ENOENT);
    CHECK(E(fstatat)(E_AT_FDCWD, "hanging", &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode));
    CHECK(E(stat)("alias/../real", &status) == 0);
    CHECK(E(unlink)("alias") == 0 && exists("real/x"));
}

static void symlink_loops(void)
{
    char name[16], previous[16] = "end";

    CHECK(E(symlink)("loop", "loop") == 0 && E(symlink)("ping", "pong") == 0 && E(symlink)("pong", "ping") == 0);
    CHECK_ERRNO(E(open)("loop", O_RDONLY), ELOOP);
    CHECK_ERRNO(E(open)("loop", O_RDWR | O_CREAT, 0644), ELOOP);
    CHECK_ERRNO(E(open)("ping", O_RDONLY), ELOOP);
    CHECK_ERRNO(E(open)("ping/x", O_RDONLY), ELOOP);
    CHECK_ERRNO(E(truncate)("loop", 0), ELOOP);
    CHECK_ERRNO(E(chdir)("loop"), ELOOP);
    make_file("end", "end");
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof name, "chain%d", i);
        CHECK(E(symlink)(previous, name) == 0);
        memcpy(previous, name, sizeof name);
    }
    CHECK(holds("chain40", "end"));
    CHECK_ERRNO(E(open)("chain41", O_RDONLY), ELOOP);
    CHECK(S_ISLNK(stat_of("chain41").st_mode));
}

static void symlinks(void)
{
    symlink_basics();
    symlink_directories();
    symlink_loops();
}

/* ---- rename ---- */

static void rename_files(void)
{
    int fd;
    ino_t inode;

    make_file("a", "A");
    make_file("b", "B");
    inode = stat_of("a").st_ino;
    CHECK(E(rename)("a", "c") == 0 && !exists("a") && stat_of("c").st_ino == inode);
    CHECK(E(rename)("c", "b") == 0 && !exists("c") && holds("b", "A"));
    CHECK(E(rename)("b", "b") == 0 && holds("b", "A"));
    CHECK(E(link)("b", "twin") == 0 && E(rename)("b", "twin") == 0);
    CHECK(exists("b") && exists("twin") && stat_of("b").st_nlink == 2);
    fd = E(open)("b", O_RDWR);
    CHECK(E(rename)("b", "moved") == 0 && fd_holds(fd, "A") && E(pwrite)(fd, "M", 1, 0) == 1);
    CHECK(holds("moved", "M") && E(close)(fd) == 0);
    CHECK_ERRNO(E(rename)("missing", "x"), ENOENT);
    CHECK_ERRNO(E(rename)("moved", "missing/x"), ENOENT);
    CHECK_ERRNO(E(rename)("moved", "twin/x"), ENOTDIR);
    CHECK_ERRNO(E(rename)("moved/", "x"), ENOTDIR);
    CHECK_ERRNO(E(rename)("moved", "x/"), ENOTDIR);
    CHECK_ERRNO(E(rename)("", "x"), ENOENT);
    CHECK_ERRNO(E(rename)("moved", ""), ENOENT);
    CHECK(E(symlink)("moved", "s") == 0 && E(rename)("s", "t") == 0 && S_ISLNK(stat_of("t").st_mode));
    make_file("plain", "P");
    CHECK(E(rename)("plain", "t") == 0 && S_ISREG(stat_of("t").st_mode) && holds("moved", "M"));
}

static void rename_directories(void)
{
    int dir, fd;
    char cwd[64];
    nlink_t links;

    CHECK(E(mkdir)("d", 0755) == 0 && E(mkdir)("d/sub", 0755) == 0 && E(mkdir)("e", 0755) == 0 && E(mkdir)("full", 0755) == 0);
    make_file("d/sub/f", "deep");
    make_file("full/f", "x");
    make_file("file", "x");
    links = stat_of("d").st_nlink;
    dir = E(open)("d/sub", O_RDONLY | O_DIRECTORY);
    CHECK(E(rename)("d/sub", "e/moved") == 0 && holds("e/moved/f", "deep"));
    CHECK(stat_of("e/moved/..").st_ino == stat_of("e").st_ino);
    CHECK(stat_of("d").st_nlink == links - 1 && stat_of("e").st_nlink == 3);
    fd = E(openat)(dir, "../moved/f", O_RDONLY);
    CHECK(fd >= 0 && fd_holds(fd, "deep") && E(close)(fd) == 0 && E(close)(dir) == 0);
    CHECK(E(chdir)("e/moved") == 0 && E(rename)("../../e", "../../g") == 0);
    CHECK(E(getcwd)(cwd, sizeof cwd) == cwd && strcmp(cwd, "/renames/g/moved") == 0);
    CHECK(E(chdir)("../..") == 0);

    CHECK(E(rename)("g", "d") == 0 && holds("d/moved/f", "deep"));
    CHECK_ERRNO(E(rename)("d", "full"), ENOTEMPTY);
    CHECK_ERRNO(E(rename)("d", "file"), ENOTDIR);
    CHECK_ERRNO(E(rename)("file", "d"), EISDIR);
    CHECK_ERRNO(E(rename)("d", "d/inside"), EINVAL);
    CHECK_ERRNO(E(rename)("d", "d/moved/inside"), EINVAL);
    CHECK_ERRNO(E(rename)("d", "d/moved"), EINVAL);
    CHECK_ERRNO(E(rename)("d/moved", "d"), ENOTEMPTY);
    CHECK_ERRNO(E(rename)("d/moved/f", "d"), ENOTEMPTY);
    CHECK(E(rename)("d/", "h/") == 0 && E(rename)("h", "d/") == 0 && holds("d/moved/f", "deep"));
}

static void rename_dots(void)
{
    CHECK(E(mkdir)("p", 0755) == 0 && E(mkdir)("p/q", 0755) == 0);
    CHECK_ERRNO(E(rename)("p/.", "r"), EBUSY);
    CHECK_ERRNO(E(rename)("p/..", "r"), EBUSY);
    CHECK_ERRNO(E(rename)("p", "p/q/."), EBUSY);
    CHECK_ERRNO(E(rename)("p", "p/q/.."), EBUSY);
    CHECK_ERRNO(E(rename)("/", "r"), EBUSY);
    CHECK_ERRNO(E(rename)("p", "/"), EBUSY);
    CHECK_ERRNO(E(rmdir)("."), EINVAL);
    CHECK_ERRNO(E(rmdir)("p/."), EINVAL);
    CHECK_ERRNO(E(rmdir)("p/q/.."), ENOTEMPTY);
    CHECK_ERRNO(E(rmdir)(".."), ENOTEMPTY);
    CHECK_ERRNO(E(rmdir)("/"), EBUSY);
    CHECK_ERRNO(E(rmdir)("p"), ENOTEMPTY);
    CHECK_ERRNO(E(unlink)("."), EISDIR);
    CHECK_ERRNO(E(unlink)("p/.."), EISDIR);
    CHECK_ERRNO(E(unlink)("/"), EISDIR);
    CHECK_ERRNO(E(mkdir)("/", 0755), EEXIST);
    CHECK_ERRNO(E(mkdir)(".", 0755), EEXIST);
    CHECK_ERRNO(E(mkdir)("p/..", 0755), EEXIST);
    CHECK_ERRNO(E(symlink)("x", "p/."), EEXIST);
}

static void rename_flags(void)
{
    int here = E_AT_FDCWD, dir;

    make_file("x", "X");
    make_file("y", "Y");
    CHECK(E(mkdir)("k", 0755) == 0 && E(mkdir)("k/l", 0755) == 0);
    make_file("k/l/in", "in");
    CHECK_ERRNO(E(renameat2)(here, "x", here, "y", RENAME_NOREPLACE), EEXIST);
    CHECK_ERRNO(E(renameat2)(here, "x", here, "x", RENAME_NOREPLACE), EEXIST);
    CHECK_ERRNO(E(renameat2)(here, "missing", here, "y", RENAME_NOREPLACE), ENOENT);
    CHECK(E(renameat2)(here, "x", here, "z", RENAME_NOREPLACE) == 0 && holds("z", "X"));
    CHECK(E(renameat2)(here, "z", here, "x", 0) == 0);
    CHECK(E(renameat2)(here, "x", here, "y", RENAME_EXCHANGE) == 0 && holds("x", "Y") && holds("y", "X"));
    CHECK(E(renameat2)(here, "x", here, "x", RENAME_EXCHANGE) == 0 && holds("x", "Y"));
    CHECK(E(renameat2)(here, "x", here, "k/l", RENAME_EXCHANGE) == 0);
    CHECK(holds("x/in", "in") && holds("k/l", "Y"));
    CHECK(stat_of("x/..").st_ino == stat_of(".").st_ino && stat_of("k").st_nlink == 2);
    CHECK(E(renameat2)(here, "x", here, "k/l", RENAME_EXCHANGE) == 0 && holds("k/l/in", "in") && stat_of("k").st_nlink == 3);
    CHECK_ERRNO(E(renameat2)(here, "x", here, "missing", RENAME_EXCHANGE), ENOENT);
    CHECK_ERRNO(E(renameat2)(here, "missing", here, "x", RENAME_EXCHANGE), ENOENT);
    CHECK_ERRNO(E(renameat2)(here, "k", here, "k/l", RENAME_EXCHANGE), EINVAL);
    CHECK_ERRNO(E(renameat2)(here, "k/l", here, "k", RENAME_EXCHANGE), EINVAL);
    CHECK_ERRNO(E(renameat2)(here, "x", here, "y", RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
    CHECK_ERRNO(E(renameat2)(here, "x", here, "y", 0x100), EINVAL);
    dir = E(open)("k", O_RDONLY);
    CHECK(E(renameat)(here, "x", dir, "taken") == 0 && holds("k/taken", "Y"));
    CHECK(E(renameat)(dir, "taken", here, "x") == 0 && holds("x", "Y"));
    CHECK_ERRNO(E(renameat)(here, "x", -1, "y"), EBADF);
    CHECK(E(close)(dir) == 0);
}

static void renames(void)
{
    rename_files();
    rename_directories();
    rename_dots();
    rename_flags();
}

/* ---- reading directories ---- */

#define ENTRIES 300

/* How often each "eN" came, from here to the end of the stream; -1 when something unknown came. */
static int count_entries(e_dir *dir, unsigned char seen[ENTRIES])
{
    struct dirent *entry;
    int total = 0;

    while ((entry = E(readdir)(dir)) != NULL) {
        int number = -1;
        if (dot_name(entry->d_name))
            continue;
        if (sscanf(entry->d_name, "e%d", &number) != 1 || number < 0 || number >= ENTRIES)
            return -1;
        seen[number]++;
        total++;
    }
    return total;
}

static void reading_all(void)
{
    unsigned char seen[ENTRIES] = {0};
    char name[272];
    int dots = 0, once = 0;
    struct dirent *entry;
    e_dir *dir;

    CHECK(E(mkdir)("many", 0755) == 0);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "many/e%d", i);
        make_file(name, "");
    }
    dir = E(opendir)("many");
    CHECK(dir != NULL && E(dirfd)(dir) >= 0);
    while ((entry = E(readdir)(dir)) != NULL) {
        bool dot = dot_name(entry->d_name);
        snprintf(name, sizeof name, "many/%s", entry->d_name);
        if (entry->d_type != (dot ? DT_DIR : DT_REG) || (!dot && entry->d_ino != stat_of(name).st_ino))
            CHECK(!"type and inode of an entry");
        dots += dot;
    }
    CHECK(dots == 2);
    CHECK(E(readdir)(dir) == NULL && errno == 0);
    E(rewinddir)(dir);
    CHECK(count_entries(dir, seen) == ENTRIES);
    for (int i = 0; i < ENTRIES; i++)
        once += seen[i] == 1;
    CHECK(once == ENTRIES);
    CHECK(E(closedir)(dir) == 0);
}

static void reading_cookies(void)
{
    static char names[ENTRIES + 2][32];
    long cookies[ENTRIES + 2];
    int total = 0, same = 0;
    struct dirent *entry;
    e_dir *dir = E(opendir)("many");

    for (;;) {
        long cookie = E(telldir)(dir);
        if ((entry = E(readdir)(dir)) == NULL || total == ENTRIES + 2)
            break;
        cookies[total] = cookie;
        snprintf(names[total++], sizeof names[0], "%.31s", entry->d_name);
    }
    CHECK(total == ENTRIES + 2);
    for (int i = total - 1; i >= 0; i--) {
        E(seekdir)(dir, cookies[i]);
        entry = E(readdir)(dir);
        same += entry && strcmp(entry->d_name, names[i]) == 0;
    }
    CHECK(same == ENTRIES + 2);
    CHECK(E(closedir)(dir) == 0);
}

/* Entries nobody touches come exactly once, whatever comes and goes between. */
static void reading_under_change(void)
{
    unsigned char seen[ENTRIES] = {0};
    char name[32];
    int first = 0, once = 0, number;
    struct dirent *entry;
    e_dir *dir = E(opendir)("many");
    long cookie;

    while (first < 100 && (entry = E(readdir)(dir)) != NULL)
        if (sscanf(entry->d_name, "e%d", &number) == 1) {
            seen[number] = 1;
            first++;
        }
    cookie = E(telldir)(dir);
    for (int i = 0; i < ENTRIES; i++) {
        snprintf(name, sizeof name, "many/e%d", i);
        if (seen[i]) {
            CHECK(E(unlink)(name) == 0);
            make_file(name, "made again");
            CHECK(E(unlink)(name) == 0);
        }
        seen[i] += 100 * seen[i];
    }
    E(seekdir)(dir, cookie);
    CHECK(count_entries(dir, seen) == ENTRIES - 100);
    for (int i = 0; i < ENTRIES; i++)
        once += seen[i] == 1;
    CHECK(once == ENTRIES - 100);
    make_file("many/e0", "new");
    memset(seen, 0, sizeof seen);
    E(rewinddir)(dir);
    number = count_entries(dir, seen);
    CHECK((number == ENTRIES - 100 || number == ENTRIES - 99) && seen[0] == 1);
    CHECK(E(closedir)(dir) == 0);
}

static void reading_types(void)
{
    struct dirent *entry;
    int fd, right = 0;
    e_dir *dir;

    CHECK(E(mkdir)("kinds", 0755) == 0 && E(mkdir)("kinds/d", 0755) == 0 && E(symlink)("x", "kinds/l") == 0);
    make_file("kinds/f", "");
    fd = E(open)("kinds", O_RDONLY | O_DIRECTORY);
    dir = E(fdopendir)(fd);
    CHECK(dir != NULL && E(dirfd)(dir) == fd);
    while ((entry = E(readdir)(dir)) != NULL) {
        unsigned char wanted = entry->d_name[0] == 'f' ? DT_REG : entry->d_name[0] == 'l' ? DT_LNK : DT_DIR;
        right += entry->d_type == wanted;
    }
    CHECK(right == 5);
    CHECK(E(closedir)(dir) == 0);
    CHECK_ERRNO(E(close)(fd), EBADF);
    CHECK_NULL_ERRNO(E(opendir)("missing"), ENOENT);
    CHECK_NULL_ERRNO(E(opendir)("kinds/f"), ENOTDIR);
    CHECK_NULL_ERRNO(E(fdopendir)(-1), EBADF);
    fd = E(open)("kinds/f", O_RDONLY);
    CHECK_NULL_ERRNO(E(fdopendir)(fd), ENOTDIR);
    CHECK(E(close)(fd) == 0);
}

static void reading_directories(void)
{
    reading_all();
    reading_cookies();
    reading_under_change();
    reading_types();
}

/* ---- removed but open directories ---- */

static void removed_directories(void)
{
    char cwd[64];
    int dir, parent;
    e_dir *stream;
    struct stat status;

    CHECK(E(mkdir)("p", 0755) == 0 && E(mkdir)("p/gone", 0755) == 0);
    dir = E(open)("p/gone", O_RDONLY | O_DIRECTORY);
    CHECK(E(chdir)("p/gone") == 0 && E(rmdir)("../gone") == 0);
    CHECK(stat_of_fd(dir).st_nlink == 0);
    CHECK_NULL_ERRNO(E(getcwd)(cwd, sizeof cwd), ENOENT);
    CHECK_ERRNO(E(open)("f", O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK_ERRNO(E(openat)(dir, "f", O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK_ERRNO(E(mkdirat)(dir, "d", 0755), ENOENT);
    CHECK_ERRNO(E(symlinkat)("x", dir, "s"), ENOENT);
    CHECK_ERRNO(E(fstatat)(dir, "f", &status, 0), ENOENT);
    CHECK(E(fstatat)(dir, ".", &status, 0) == 0);
    parent = E(openat)(dir, "..", O_RDONLY | O_DIRECTORY);
    CHECK(parent >= 0 && stat_of_fd(parent).st_ino == stat_of("/removed_directories/p").st_ino);
    make_file("/removed_directories/p/f", "x");
    CHECK_ERRNO(E(linkat)(parent, "f", dir, "f", 0), ENOENT);
    CHECK_ERRNO(E(renameat)(parent, "f", dir, "f"), ENOENT);
    stream = E(fdopendir)(dir);
    CHECK(stream != NULL && E(readdir)(stream) == NULL);
    CHECK(E(closedir)(stream) == 0);
    CHECK(E(mkdirat)(parent, "gone", 0755) == 0);
    CHECK_NULL_ERRNO(E(getcwd)(cwd, sizeof cwd), ENOENT);
    CHECK(E(chdir)("..") == 0 && E(getcwd)(cwd, sizeof cwd) == cwd && strcmp(cwd, "/removed_directories/p") == 0);
    CHECK(E(close)(parent) == 0);

    dir = E(open)("gone", O_RDONLY | O_DIRECTORY);
    CHECK(E(mkdir)("new", 0755) == 0 && E(rename)("new", "gone") == 0);
    CHECK(stat_of_fd(dir).st_nlink == 0);
    CHECK_ERRNO(E(openat)(dir, "f", O_RDWR | O_CREAT, 0644), ENOENT);
    CHECK(E(close)(dir) == 0);
}
