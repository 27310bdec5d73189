/*
 * ERMFS at work: a directory tree and some programs are taken into memory, weighed, read back and compared byte for byte,
 * mapped, handed to gunzip and executed.
 *
 *   demo [--small] [DIR]        DIR is /usr/include unless given; --small stops after 8 MB of it
 *
 * Nothing is written to a disk. The closing line and exit code 0 say that every byte was the original's.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ermfs.h"

#define CHUNK ((size_t)1 << 20)
#define SMALL_BYTES 8000000
#define BUDGET ((uint64_t)4 << 30)

enum { TREE, PROGRAMS, GROUPS };

struct entry {
    char *source; /* its name outside */
    char *name;   /* its name in ERMFS */
    struct stat status;
    int group;
};

struct weight {
    uint64_t files, bytes, at_rest;
    double write_seconds, read_seconds;
};

static struct entry *entries;
static size_t entry_count, entry_room;
static struct weight weights[GROUPS + 1];
static uint64_t all_bytes, skipped;
static int problems;
static bool progress_shown;
static char *ours, *theirs;

/* ---- saying ---- */

__attribute__((format(printf, 1, 2))) static void problem(const char *format, ...)
{
    va_list arguments;
    int error = errno;

    problems++;
    fputs(progress_shown ? "\r\033[Kdemo: " : "demo: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
    errno = 0;
}

static void progress(const char *what, uint64_t done)
{
    static int last = -1;
    int percent = all_bytes ? (int)(done * 100 / all_bytes) : 100;

    if (!isatty(STDERR_FILENO) || percent == last)
        return;
    last = percent;
    progress_shown = true;
    fprintf(stderr, "\r%-10s %3d %%", what, percent);
}

static void progress_end(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

/* A number with its thousands apart; good for four calls in one printf. */
static const char *grouped(uint64_t number)
{
    static char texts[4][32];
    static unsigned turn;
    char *text = texts[turn++ % 4], digits[32], *out = text;
    int length = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);

    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = 0;
    return text;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- what to take ---- */

static char *joined(const char *head, const char *tail)
{
    char *path = NULL;

    if (asprintf(&path, "%s%s%s", head, *tail ? "/" : "", tail) < 0)
        abort();
    return path;
}

static void add(char *source, char *name, const struct stat *status, int group)
{
    if (entry_count == entry_room) {
        entry_room = entry_room ? entry_room * 2 : 1024;
        entries = realloc(entries, entry_room * sizeof *entries);
        if (!entries)
            abort();
    }
    entries[entry_count++] = (struct entry){source, name, *status, group};
    if (S_ISREG(status->st_mode))
        all_bytes += (uint64_t)status->st_size;
}

/* Parents come before their children. What is neither file, directory nor symlink, or may not be read, is counted. */
static void collect(const char *source, const char *name, bool small)
{
    struct dirent *found;
    DIR *dir = opendir(source);

    if (!dir) {
        skipped++;
        return;
    }
    while ((found = readdir(dir)) != NULL && !(small && all_bytes >= SMALL_BYTES)) {
        char *path, *inside;
        struct stat status;
        if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0)
            continue;
        path = joined(source, found->d_name), inside = joined(name, found->d_name);
        if (lstat(path, &status) == 0 && (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)
                                             || (S_ISREG(status.st_mode) && access(path, R_OK) == 0))) {
            add(path, inside, &status, TREE);
            if (S_ISDIR(status.st_mode))
                collect(path, inside, small);
        } else {
            skipped++;
            free(path), free(inside);
        }
    }
    closedir(dir);
}

static void collect_programs(void)
{
    static const char *const names[] = {"ls", "bash", "git", "gcc", "perl", "python3"};
    static const char *const places[] = {"/bin", "/usr/bin", "/usr/local/bin"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
            char magic[4] = "", *path = joined(places[k], names[i]);
            struct stat status;
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            bool program = fd >= 0 && fstat(fd, &status) == 0 && read(fd, magic, 4) == 4 && memcmp(magic, "\177ELF", 4) == 0;
            if (fd >= 0)
                close(fd);
            if (program) {
                add(path, joined("/programs", names[i]), &status, PROGRAMS);
                break;
            }
            free(path);
        }
    errno = 0;
}

/* ---- taking it in ---- */

static void take_symlink(const struct entry *entry)
{
    char target[PATH_MAX];
    ssize_t length = readlink(entry->source, target, sizeof target - 1);

    if (length < 0) {
        problem("readlink %s", entry->source);
        return;
    }
    target[length] = 0;
    if (ermfs_symlink(target, entry->name))
        problem("symlink %s", entry->name);
}

/* Only the calls into ERMFS are timed. */
static void take_file(const struct entry *entry, struct weight *weight, uint64_t *done)
{
    int from = open(entry->source, O_RDONLY | O_CLOEXEC), to;
    ssize_t length;
    double start;

    start = now();
    to = ermfs_open(entry->name, O_WRONLY | O_CREAT | O_EXCL, entry->status.st_mode & 0777);
    weight->write_seconds += now() - start;
    if (from < 0 || to < 0)
        problem("%s", from < 0 ? entry->source : entry->name);
    while (from >= 0 && to >= 0 && (length = read(from, theirs, CHUNK)) > 0) {
        start = now();
        if (ermfs_write(to, theirs, (size_t)length) != length) {
            problem("write %s", entry->name);
            break;
        }
        weight->write_seconds += now() - start;
        *done += (uint64_t)length;
        weight->bytes += (uint64_t)length;
        progress("taking in", *done);
    }
    start = now();
    if (to >= 0 && ermfs_close(to))
        problem("close %s", entry->name);
    weight->write_seconds += now() - start;
    weight->files++;
    if (from >= 0)
        close(from);
}

static void take_all(void)
{
    uint64_t done = 0;

    for (size_t i = 0; i < entry_count; i++) {
        const struct entry *entry = &entries[i];
        if (S_ISDIR(entry->status.st_mode)) {
            if (ermfs_mkdir(entry->name, 0755))
                problem("mkdir %s", entry->name);
        } else if (S_ISLNK(entry->status.st_mode)) {
            take_symlink(entry);
        } else {
            take_file(entry, &weights[entry->group], &done);
        }
    }
    progress_end();
}

/* ---- reading it back ---- */

static void compare_symlink(const struct entry *entry)
{
    char mine[PATH_MAX], original[PATH_MAX];
    ssize_t length = ermfs_readlink(entry->name, mine, sizeof mine);

    if (length < 0 || readlink(entry->source, original, sizeof original) != length || memcmp(mine, original, (size_t)length))
        problem("symlink %s differs", entry->name);
}

static void compare_file(const struct entry *entry, struct weight *weight, uint64_t *done)
{
    struct ermfs_file_info info = {0};
    double start = now();
    int mine = ermfs_open(entry->name, O_RDONLY), original;
    ssize_t length, wanted;

    weight->read_seconds += now() - start;
    original = open(entry->source, O_RDONLY | O_CLOEXEC);
    if (mine < 0 || original < 0 || ermfs_fget_info(mine, &info, sizeof info))
        problem("%s", entry->name);
    weight->at_rest += info.stored_bytes;
    do {
        start = now();
        length = mine < 0 ? -1 : ermfs_read(mine, ours, CHUNK);
        weight->read_seconds += now() - start;
        wanted = original < 0 ? -1 : read(original, theirs, CHUNK);
        if (length != wanted || length < 0 || memcmp(ours, theirs, (size_t)length)) {
            errno = length < 0 || wanted < 0 ? errno : 0;
            problem("%s differs from %s", entry->name, entry->source);
            break;
        }
        *done += (uint64_t)length;
        progress("comparing", *done);
    } while (length > 0);
    start = now();
    if (mine >= 0 && ermfs_close(mine))
        problem("close %s", entry->name);
    weight->read_seconds += now() - start;
    if (original >= 0)
        close(original);
}

static void compare_all(void)
{
    uint64_t done = 0;

    for (size_t i = 0; i < entry_count; i++) {
        const struct entry *entry = &entries[i];
        struct stat status;
        if (S_ISLNK(entry->status.st_mode))
            compare_symlink(entry);
        else if (S_ISREG(entry->status.st_mode))
            compare_file(entry, &weights[entry->group], &done);
        else if (ermfs_stat(entry->name, &status) || !S_ISDIR(status.st_mode))
            problem("directory %s", entry->name);
    }
    progress_end();
}

/* ---- the table ---- */

static void print_row(const char *label, const struct weight *weight)
{
    char ratio[16] = "-";

    if (weight->at_rest)
        snprintf(ratio, sizeof ratio, "%.2f", (double)weight->bytes / (double)weight->at_rest);
    printf("%-16s %8s %15s %15s %7s", label, grouped(weight->files), grouped(weight->bytes), grouped(weight->at_rest), ratio);
    printf(" %10.0f MB/s %7.0f MB/s\n", (double)weight->bytes / 1e6 / (weight->write_seconds > 0 ? weight->write_seconds : 1),
           (double)weight->bytes / 1e6 / (weight->read_seconds > 0 ? weight->read_seconds : 1));
}

static void print_table(const char *directory)
{
    bool colour = isatty(STDOUT_FILENO);
    size_t length = strlen(directory);
    struct weight *total = &weights[GROUPS];
    struct ermfs_stats stats = {0};

    for (int i = 0; i < GROUPS; i++) {
        total->files += weights[i].files, total->bytes += weights[i].bytes, total->at_rest += weights[i].at_rest;
        total->write_seconds += weights[i].write_seconds, total->read_seconds += weights[i].read_seconds;
    }
    printf("%s%-16s %8s %15s %15s %7s %15s %12s%s\n", colour ? "\033[1m" : "", "", "files", "bytes", "bytes at rest", "ratio",
           "write + close", "read back", colour ? "\033[0m" : "");
    print_row(length > 16 ? directory + length - 16 : directory, &weights[TREE]);
    print_row("programs", &weights[PROGRAMS]);
    print_row("total", total);
    if (ermfs_get_stats(ERMFS_AT_FDCWD, &stats, sizeof stats) == 0)
        printf("\n%-10s %s bytes in all, names and tables included\n", "memory", grouped(stats.bytes_in_use));
    if (skipped)
        printf("%-10s %s special or unreadable entries\n", "skipped", grouped(skipped));
    if (!problems)
        printf("%-10s every byte of %s files against the originals\n", "verified", grouped(total->files));
}

/* ---- kernel descriptors ---- */

static const struct entry *largest(void)
{
    const struct entry *best = NULL;

    for (size_t i = 0; i < entry_count; i++)
        if (S_ISREG(entries[i].status.st_mode) && entries[i].group == TREE
            && (!best || entries[i].status.st_size > best->status.st_size))
            best = &entries[i];
    return best;
}

static void show_map(const struct entry *entry)
{
    size_t size = (size_t)entry->status.st_size, at = 0;
    int fd = ermfs_export_memfd(entry->name, ERMFS_EXPORT_SEALED), original = open(entry->source, O_RDONLY | O_CLOEXEC);
    char *map = size ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    ssize_t length;

    if (map == MAP_FAILED || original < 0) {
        if (size)
            problem("map %s", entry->name);
    } else {
        while ((length = read(original, theirs, CHUNK)) > 0 && (size_t)length <= size - at && !memcmp(map + at, theirs, (size_t)length))
            at += (size_t)length;
        munmap(map, size);
        errno = 0;
        if (at != size)
            problem("the map of %s differs", entry->name);
        else
            printf("%-10s %s, %s bytes, shared and read-only\n", "mapped", entry->source, grouped(size));
    }
    close(fd);
    close(original);
}

static int exit_code(pid_t child)
{
    int status = 0;

    return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void show_gunzip(const struct entry *entry)
{
    int fd = ermfs_export_gzip(entry->name, 0), code;
    struct stat status;
    pid_t child;

    if (fd < 0 || fstat(fd, &status)) {
        problem("gzip of %s", entry->name);
        return;
    }
    child = fork();
    if (child == 0) {
        dup2(fd, STDIN_FILENO);
        execlp("gunzip", "gunzip", "-t", (char *)NULL);
        _exit(127);
    }
    code = exit_code(child);
    close(fd);
    errno = 0;
    if (code == 0)
        printf("%-10s accepts its .gz, %s bytes, from a descriptor\n", "gunzip -t", grouped((uint64_t)status.st_size));
    else if (code == 127)
        printf("%-10s is not installed\n", "gunzip");
    else
        problem("gunzip -t refused %s", entry->name);
}

/* ls is executed from its memfd; what it prints comes back through a pipe. */
static void show_execution(const char *directory)
{
    static char *const environment[] = {"LC_ALL=C", NULL};
    char *const arguments[] = {"ls", "-x", "-w", "72", (char *)directory, NULL};
    int fd = ermfs_export_memfd("/programs/ls", 0), ends[2], code;
    size_t size = 0, shown = 0;
    ssize_t length;
    pid_t child;

    if (fd < 0 || pipe2(ends, O_CLOEXEC)) {
        problem("export of ls");
        return;
    }
    child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        fexecve(fd, arguments, environment);
        _exit(126);
    }
    close(ends[1]);
    while ((length = read(ends[0], ours + size, CHUNK - size)) > 0)
        size += (size_t)length;
    close(ends[0]), close(fd);
    code = exit_code(child);
    errno = 0;
    if (code != 0 || size == 0) {
        problem("ls from memory ended with %d", code);
        return;
    }
    printf("%-10s ls %s, from memory:\n\n", "executed", directory);
    for (int line = 0; line < 4 && shown < size; line++) {
        char *end = memchr(ours + shown, '\n', size - shown);
        size_t stop = end ? (size_t)(end - ours) + 1 : size;
        printf("\t%.*s", (int)(stop - shown), ours + shown);
        shown = stop;
    }
    printf(shown < size ? "\t...\n\n" : "\n");
}

static void release_all(void)
{
    for (size_t i = 0; i < entry_count; i++)
        free(entries[i].source), free(entries[i].name);
    free(entries), free(ours), free(theirs);
}

int main(int argc, char **argv)
{
    const struct ermfs_config config = {.struct_size = sizeof config, .max_bytes = BUDGET};
    const char *directory = "/usr/include";
    const struct entry *big;
    struct stat status;
    bool small = argc > 1 && strcmp(argv[1], "--small") == 0;

    if (argc - small > 2 || (argc - small == 2 && argv[1 + small][0] == '-')) {
        fprintf(stderr, "usage: demo [--small] [DIR]\n");
        return 1;
    }
    if (argc - small == 2)
        directory = argv[1 + small];
    ours = malloc(CHUNK), theirs = malloc(CHUNK);
    if (!ours || !theirs || stat(directory, &status) || !S_ISDIR(status.st_mode)) {
        fprintf(stderr, "demo: %s is not a directory\n", directory);
        return 1;
    }
    if (ermfs_configure_default(&config) || ermfs_mkdir("/tree", 0755) || ermfs_mkdir("/programs", 0755)) {
        problem("the filesystem");
        return 1;
    }
    printf("ERMFS %s\n\n", ermfs_version());
    collect(directory, "/tree", small);
    collect_programs();
    take_all();
    compare_all();
    print_table(directory);
    if ((big = largest()) != NULL) {
        show_map(big);
        show_gunzip(big);
    }
    show_execution(directory);
    release_all();
    if (problems)
        printf("demo: %d problems\n", problems);
    else
        printf("demo: all bytes verified\n");
    return problems ? 1 : 0;
}
